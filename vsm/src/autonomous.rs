//! Autonomous systems by address, out of a file that the administrator has copied to `bootflash:`.
//!
//! A line has a prefix, a number and maybe a name, with blanks, tabs or commas in between, as the tables of public route
//! collectors and of address databases have them (`192.0.2.0/24,64500,"Example"`). Empty lines and those that begin with `#`
//! or `;` say nothing, nor does a first line of column titles. The longest prefix counts. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// An autonomous system.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct System {
    /// Its number.
    pub number: u32,
    /// Its name, or nothing.
    pub name: String,
}

/// Which prefix belongs to which system.
#[derive(Debug, Default)]
pub struct Table {
    /// By length, as of IPv6 (IPv4 as v4-mapped IPv6), the longest first.
    lengths: Vec<(u8, HashMap<u128, u32>)>,
    systems: Vec<System>,
    /// Lines that could not be read, and the number of the first.
    pub unread: Option<(usize, usize)>,
}

impl Table {
    /// Reads a file.
    pub fn read(text: &str) -> Table {
        let mut table = Table::default();
        let mut systems: HashMap<System, u32> = HashMap::new();
        let mut lengths: HashMap<u8, HashMap<u128, u32>> = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            match entry(line) {
                Some((bits, length, system)) => {
                    let next = u32::try_from(systems.len()).unwrap_or(u32::MAX);
                    let index = *systems.entry(system).or_insert(next);
                    lengths.entry(length).or_default().insert(masked(bits, length), index);
                }
                None if number == 1 => {}
                None => {
                    let (count, first) = table.unread.unwrap_or((0, number));
                    table.unread = Some((count + 1, first));
                }
            }
        }
        let mut systems: Vec<(System, u32)> = systems.into_iter().collect();
        systems.sort_unstable_by_key(|(_, index)| *index);
        table.systems = systems.into_iter().map(|(system, _)| system).collect();
        table.lengths = lengths.into_iter().collect();
        table.lengths.sort_unstable_by_key(|(length, _)| std::cmp::Reverse(*length));
        table
    }

    /// The system of an address (IPv4 as v4-mapped IPv6).
    pub fn find(&self, address: u128) -> Option<&System> {
        let found = self.lengths.iter().find_map(|(length, of)| of.get(&masked(address, *length)));
        found.and_then(|index| self.systems.get(usize::try_from(*index).ok()?))
    }
}

fn masked(bits: u128, length: u8) -> u128 {
    match length {
        0 => 0,
        length => bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(u128::MAX),
    }
}

/// Prefix, its length, and the system.
fn entry(line: &str) -> Option<(u128, u8, System)> {
    let is_between = |c: char| c == ',' || c.is_whitespace();
    let (prefix, rest) = line.split_once(is_between)?;
    let rest = rest.trim_start_matches(is_between);
    let (number, name) = rest.split_once(is_between).unwrap_or((rest, ""));
    let (address, length) = prefix.trim_matches('"').split_once('/')?;
    let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
    let (bits, length) = match address {
        IpAddr::V4(v4) if length <= 32 => (v4.to_ipv6_mapped().to_bits(), 96 + length),
        IpAddr::V6(v6) if length <= 128 => (Ipv6Addr::to_bits(v6), length),
        _ => return None,
    };
    let number = number.trim_matches('"').trim_start_matches("AS").parse().ok()?;
    let name = name.trim_matches(|c: char| is_between(c) || c == '"').to_owned();
    Some((bits, length, System { number, name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(table: &Table, address: &str) -> Option<(u32, String)> {
        let address: IpAddr = address.parse().unwrap();
        let bits = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        table.find(bits).map(|system| (system.number, system.name.clone()))
    }

    #[test]
    fn the_longest_prefix_counts_in_every_format() {
        let text = "network,autonomous_system_number,autonomous_system_organization\n\
                    192.0.2.0/24,64500,\"Example, Inc.\"\n192.0.2.128/25\t64501\n; nothing\n\n\
                    # nothing\n2001:db8::/32 AS64502 Documentation\n198.51.100.1/33 1\nwhat is this\n0.0.0.0/0 1 rest\n";
        let table = Table::read(text);
        assert_eq!(table.unread, Some((2, 8)));
        let system = |number, name: &str| Some((number, name.to_owned()));
        assert_eq!(of(&table, "192.0.2.1"), system(64500, "Example, Inc."));
        assert_eq!(of(&table, "192.0.2.200"), system(64501, ""));
        assert_eq!(of(&table, "2001:db8::1"), system(64502, "Documentation"));
        assert_eq!(of(&table, "203.0.113.1"), system(1, "rest"));
        assert_eq!(of(&table, "2001:db9::1"), None);
        assert_eq!(of(&Table::read(""), "192.0.2.1"), None);
    }
}
