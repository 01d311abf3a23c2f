//! Arguments: from typed pieces to values.
//!
//! Most arguments are one piece. An interface may be written with a blank before its number (`veth 12`), and a list of
//! interfaces or VLANs with blanks round its commas and dashes, so reading takes the pieces from a place onwards and says
//! how many it used.

use std::net::Ipv4Addr;

use proto::addr::{self, VlanId};
use proto::name::IfName;
use proto::vlan::VlanSet;

use super::graph::Kind;
use super::service;
use super::tree::Value;

/// A word of the typed line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece<'a> {
    /// The word.
    pub text: &'a str,
    /// Where it begins, in characters.
    pub column: usize,
    /// Where it begins, in octets.
    pub offset: usize,
}

/// Most interfaces that one list may name.
pub const INTERFACES_MAX: usize = 4096;

/// What reading an argument came to.
#[derive(Clone, PartialEq, Debug)]
#[allow(clippy::large_enum_variant, reason = "lives as long as a line is parsed")]
pub enum Reading {
    /// The pieces are something else.
    No,
    /// A value, and how many pieces it took.
    Value(Value, usize),
    /// The argument's type was meant, and it is wrong: the text of the error, without `at '^' marker`.
    Wrong(String),
    /// The line ends behind the word of an interface name, here in full.
    NeedsNumber(&'static str),
}

/// Why a piece is no number or address.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Miss {
    /// It is something else.
    No,
    /// It is a wrong one.
    Wrong(String),
}

impl From<Miss> for Reading {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::No => Reading::No,
            Miss::Wrong(what) => Reading::Wrong(what),
        }
    }
}

/// The blank-separated pieces of a line.
pub fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut start: Option<(usize, usize)> = None;
    for (column, (offset, c)) in line.char_indices().chain([(line.len(), ' ')]).enumerate() {
        match (start, c.is_whitespace()) {
            (None, false) => start = Some((column, offset)),
            (Some((column, from)), true) => {
                found.push(Piece { text: &line[from..offset], column, offset: from });
                start = None;
            }
            _ => {}
        }
    }
    found
}

/// Reads an argument from the first of `rest`; `line` is the whole typed line.
pub fn read(kind: Kind, line: &str, rest: &[Piece<'_>]) -> Reading {
    let Some(first) = rest.first() else { return Reading::No };
    let text = first.text;
    match kind {
        Kind::Word => word(text, 64),
        Kind::Word80 => word(text, 80),
        Kind::Secret => secret(text),
        Kind::Quoted => quoted(line, rest),
        // With a dot, as `version 9` of a flow exporter is something else.
        Kind::Release if text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('.') => word(text, 64),
        Kind::Release => Reading::No,
        Kind::Line => {
            let text = line.get(first.offset..).unwrap_or_default().trim_end();
            Reading::Value(Value::Text(text.to_owned()), rest.len())
        }
        Kind::Number(low, high) => number(text, low, high).map_or_else(Reading::from, |n| one(Value::Number(n))),
        Kind::Vlan => match number(text, 1, 4094).map(VlanId::try_from) {
            Ok(Ok(vlan)) => one(Value::Vlan(vlan)),
            Ok(Err(_)) => Reading::No,
            Err(miss) => miss.into(),
        },
        Kind::Vlans => vlans(rest),
        Kind::Interface => interface(rest),
        Kind::Interfaces => interfaces(rest),
        Kind::Ip => ip(text).map_or_else(Reading::from, |ip| one(Value::Ip(ip))),
        // Without a colon it is a number or a word, never an address.
        Kind::Ip6 if text.contains(':') => text.parse().map_or(Reading::No, |ip| one(Value::Ip6(ip))),
        Kind::Ip6 => Reading::No,
        Kind::Prefix => prefix(text),
        Kind::Prefix6 => prefix6(text),
        Kind::Mac => mac(text),
        Kind::Hex16 => match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
            Some(digits) if digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u32::from_str_radix(digits, 16).map_or(Reading::No, |n| one(Value::Number(n)))
            }
            Some(_) => Reading::Wrong("Invalid number, range is (0x0:0xffff)".into()),
            None => Reading::No,
        },
        Kind::Port => match service::number(text) {
            Some(port) => one(Value::Number(port.into())),
            None if is_digits(text) => number(text, 0, 65_535).map_or_else(Reading::from, |n| one(Value::Number(n))),
            // A name may be shortened like any keyword.
            None => match service::beginning(text).as_slice() {
                [] => Reading::No,
                [port] => one(Value::Number((*port).into())),
                _ => Reading::Wrong("Ambiguous command".into()),
            },
        },
    }
}

fn one(value: Value) -> Reading {
    Reading::Value(value, 1)
}

fn word(text: &str, length_max: usize) -> Reading {
    if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'|') {
        return Reading::No;
    }
    match text.len() <= length_max {
        true => one(Value::Text(text.to_owned())),
        false => Reading::Wrong(format!("Invalid word, its length is (1:{length_max})")),
    }
}

/// A word, or words in quotes of either kind, which may hold bars and the other kind of quote.
fn quoted(line: &str, rest: &[Piece<'_>]) -> Reading {
    let Some(first) = rest.first() else { return Reading::No };
    let Some(quote @ ('"' | '\'')) = first.text.chars().next() else { return word(first.text, 255) };
    let from = first.offset + 1;
    let Some(end) = line.get(from..).and_then(|inside| inside.find(quote)).map(|at| from + at) else {
        return Reading::Wrong("Invalid text, quote is not closed".into());
    };
    let used = rest.iter().take_while(|piece| piece.offset <= end).count();
    let ends = rest.get(used - 1).is_some_and(|last| last.offset + last.text.len() == end + 1);
    match line.get(from..end) {
        Some(inside) if ends => Reading::Value(Value::Text(inside.to_owned()), used),
        _ => Reading::Wrong("Invalid text, something is behind the quote".into()),
    }
}

/// A password or its hash: a bar is a character like others.
fn secret(text: &str) -> Reading {
    match text.len() {
        _ if !text.bytes().all(|b| b.is_ascii_graphic()) => Reading::No,
        0..=255 => one(Value::Text(text.to_owned())),
        _ => Reading::Wrong("Invalid word, its length is (1:255)".into()),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn number(text: &str, low: u32, high: u32) -> Result<u32, Miss> {
    if !is_digits(text) {
        return Err(Miss::No);
    }
    let fits = text.parse().ok().filter(|n| (low..=high).contains(n));
    fits.ok_or_else(|| Miss::Wrong(format!("Invalid number, range is ({low}:{high})")))
}

/// Dotted; octets with leading zeros are decimal, as in `192.168.001.010`.
fn ip(text: &str) -> Result<Ipv4Addr, Miss> {
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() != 4 || !parts.iter().all(|part| is_digits(part)) {
        return Err(Miss::No);
    }
    let octets: Option<Vec<u8>> = parts.iter().map(|part| part.parse().ok().filter(|_: &u8| part.len() <= 3)).collect();
    match octets.as_deref() {
        Some(&[a, b, c, d]) => Ok(Ipv4Addr::new(a, b, c, d)),
        _ => Err(Miss::Wrong("Invalid IP address".into())),
    }
}

fn prefix(text: &str) -> Reading {
    let Some((addr, len)) = text.split_once('/') else { return Reading::No };
    match (ip(addr), number(len, 0, 32)) {
        (Ok(addr), Ok(len)) => one(Value::Prefix(addr, len as u8)),
        (Err(Miss::No), _) => Reading::No,
        _ => Reading::Wrong("Invalid IP prefix".into()),
    }
}

fn prefix6(text: &str) -> Reading {
    let Some((addr, len)) = text.split_once('/').filter(|(addr, _)| addr.contains(':')) else { return Reading::No };
    match (addr.parse(), number(len, 0, 128)) {
        (Ok(addr), Ok(len)) => one(Value::Prefix6(addr, len as u8)),
        _ => Reading::Wrong("Invalid IPv6 prefix".into()),
    }
}

fn mac(text: &str) -> Reading {
    match text.parse() {
        Ok(mac) => one(Value::Mac(mac)),
        Err(_) => Reading::No,
    }
}

/// Puts the pieces of a list together for as long as a comma or dash joins them.
fn joined(rest: &[Piece<'_>], is_open: impl Fn(&str) -> bool) -> (String, usize) {
    let mut text = String::new();
    let mut used = 0;
    for piece in rest {
        let goes_on = used == 0 || piece.text.starts_with([',', '-']) || is_open(&text);
        if !goes_on {
            break;
        }
        text.push_str(piece.text);
        used += 1;
    }
    (text, used)
}

fn vlans(rest: &[Piece<'_>]) -> Reading {
    let (text, used) = joined(rest, |text| text.ends_with([',', '-']));
    if !text.starts_with(|c: char| c.is_ascii_digit()) || text.contains(|c: char| !"0123456789,-".contains(c)) {
        return Reading::No;
    }
    match text.parse::<VlanSet>() {
        Ok(set) => Reading::Value(Value::Vlans(set), used),
        Err(addr::Error::Vlan(_)) => Reading::Wrong("Invalid number, range is (1:4094)".into()),
        Err(_) => Reading::Wrong("Invalid VLAN list".into()),
    }
}

const INTERFACE_WORDS: [&str; 3] = ["ethernet", "mgmt", "vethernet"];

/// The word of an interface name that `text` abbreviates.
pub fn interface_word(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    INTERFACE_WORDS.into_iter().find(|word| !text.is_empty() && word.starts_with(&text))
}

fn interface(rest: &[Piece<'_>]) -> Reading {
    let Some(first) = rest.first() else { return Reading::No };
    if let Ok(name) = first.text.parse::<IfName>() {
        return Reading::Value(Value::Interfaces(vec![name]), 1);
    }
    match (interface_word(first.text), rest.get(1)) {
        (Some(word), None) => Reading::NeedsNumber(word),
        (Some(word), Some(second)) => match format!("{word}{}", second.text).parse() {
            Ok(name) => Reading::Value(Value::Interfaces(vec![name]), 2),
            Err(_) if second.text.starts_with(|c: char| c.is_ascii_digit()) => {
                Reading::Wrong("Invalid interface format".into())
            }
            Err(_) => Reading::No,
        },
        _ if first.text.starts_with(|c: char| c.is_ascii_alphabetic()) && is_numbered_interface(first.text) => {
            Reading::Wrong("Invalid interface format".into())
        }
        _ => Reading::No,
    }
}

/// `eth99/1`: the word of an interface name, and digits that are no interface.
fn is_numbered_interface(text: &str) -> bool {
    let split = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (word, number) = text.split_at(split);
    interface_word(word).is_some() && number.starts_with(|c: char| c.is_ascii_digit())
}

fn interfaces(rest: &[Piece<'_>]) -> Reading {
    let ends_in_word = |text: &str| {
        let tail = text.rsplit(',').next().unwrap_or_default();
        interface_word(tail).is_some()
    };
    let (text, used) = joined(rest, |text| text.ends_with([',', '-']) || ends_in_word(text));
    if !is_numbered_interface(&text) {
        return match interface_word(&text) {
            Some(word) if used == rest.len() => Reading::NeedsNumber(word),
            _ => Reading::No,
        };
    }
    if let Some(word) = text.rsplit(',').next().and_then(interface_word).filter(|_| used == rest.len()) {
        return Reading::NeedsNumber(word);
    }
    let mut names: Vec<IfName> = Vec::new();
    for item in text.split(',') {
        match range(item) {
            Some(more) if names.len() + more.len() <= INTERFACES_MAX => names.extend(more),
            Some(_) => return Reading::Wrong(format!("Invalid range, it holds more than {INTERFACES_MAX} interfaces")),
            None => return Reading::Wrong("Invalid interface format".into()),
        }
    }
    names.sort();
    names.dedup();
    Reading::Value(Value::Interfaces(names), used)
}

/// `veth1-4`, `eth3/1-2`, `eth3/1-eth3/2`, or one name; a range that is too long stops at one above the limit.
fn range(item: &str) -> Option<Vec<IfName>> {
    let Some((first, last)) = item.split_once('-') else { return Some(vec![item.parse().ok()?]) };
    let first: IfName = first.parse().ok()?;
    let last_number: Option<u32> = is_digits(last).then(|| last.parse().ok()).flatten();
    let last = last.parse::<IfName>().ok();
    let names: Vec<IfName> = match (first, last_number, last) {
        (IfName::Vethernet(a), Some(b), _) | (IfName::Vethernet(a), _, Some(IfName::Vethernet(b))) => {
            (b <= proto::name::VETHERNET_MAX).then_some(())?;
            (a..=b).take(INTERFACES_MAX + 1).map(IfName::Vethernet).collect()
        }
        (IfName::Ethernet { slot, port }, Some(b), _) => {
            let b = u8::try_from(b).ok().filter(|b| *b <= proto::name::ETHERNET_PORT_MAX)?;
            (port..=b).map(|port| IfName::Ethernet { slot, port }).collect()
        }
        (IfName::Ethernet { slot, port }, _, Some(IfName::Ethernet { slot: s, port: b })) if s == slot => {
            (port..=b).map(|port| IfName::Ethernet { slot, port }).collect()
        }
        _ => return None,
    };
    (!names.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(kind: Kind, line: &str) -> Reading {
        read(kind, line, &pieces(line))
    }

    fn names(line: &str) -> Option<(String, usize)> {
        match reading(Kind::Interfaces, line) {
            Reading::Value(Value::Interfaces(names), used) => {
                Some((names.iter().map(|n| n.short()).collect::<Vec<_>>().join(" "), used))
            }
            _ => None,
        }
    }

    #[test]
    fn pieces_have_character_columns() {
        let line = "  é\tab  c ";
        let columns: Vec<_> = pieces(line).iter().map(|p| (p.text, p.column, p.offset)).collect();
        assert_eq!(columns, [("é", 2, 2), ("ab", 4, 5), ("c", 8, 9)]);
        assert!(pieces(" \t ").is_empty());
    }

    #[test]
    fn interface_lists() {
        for (line, want) in [
            ("veth1-3,eth3/2", ("Eth3/2 Veth1 Veth2 Veth3", 1)),
            ("vethernet 1 - 2 , ethernet 3/1-2 rx", ("Eth3/1 Eth3/2 Veth1 Veth2", 7)),
            ("veth 7 rx", ("Veth7", 2)),
            ("e3/1-eth3/2", ("Eth3/1 Eth3/2", 1)),
            ("veth1,veth1", ("Veth1", 1)),
        ] {
            assert_eq!(names(line), Some((want.0.to_owned(), want.1)), "{line}");
        }
        for line in
            ["veth3-1", "veth1-99999999", "veth1-1048575", "eth3/1-33", "eth3/1-veth2", "veth1,", "veth0", "foo1"]
        {
            assert_eq!(names(line), None, "{line}");
        }
        assert_eq!(reading(Kind::Interfaces, "ve"), Reading::NeedsNumber("vethernet"));
        assert_eq!(reading(Kind::Interfaces, "veth 1, e"), Reading::NeedsNumber("ethernet"));
        assert_eq!(reading(Kind::Interface, "eth"), Reading::NeedsNumber("ethernet"));
        assert_eq!(reading(Kind::Interface, "eth3/1-2"), Reading::Wrong("Invalid interface format".into()));
    }

    #[test]
    fn numbers_and_addresses() {
        let ip = |line| reading(Kind::Ip, line);
        assert_eq!(ip("192.168.001.010"), one(Value::Ip(Ipv4Addr::new(192, 168, 1, 10))));
        assert_eq!((ip("1.2.3"), ip("1.2.3.a")), (Reading::No, Reading::No));
        assert_eq!(ip("1.2.3.256"), Reading::Wrong("Invalid IP address".into()));
        assert_eq!(reading(Kind::Prefix, "10.0.0.0/8"), one(Value::Prefix(Ipv4Addr::new(10, 0, 0, 0), 8)));
        assert_eq!(reading(Kind::Prefix, "10.0.0.0/33"), Reading::Wrong("Invalid IP prefix".into()));
        let v6 = Value::Prefix6("2001:db8::".parse().unwrap(), 32);
        assert_eq!(reading(Kind::Prefix6, "2001:db8::/32"), Reading::Value(v6, 1));
        assert_eq!(reading(Kind::Prefix6, "2001:db8::/129"), Reading::Wrong("Invalid IPv6 prefix".into()));
        assert_eq!(reading(Kind::Prefix6, "10.0.0.0/8"), Reading::No);
        assert_eq!(reading(Kind::Number(1, 9), "10"), Reading::Wrong("Invalid number, range is (1:9)".into()));
        assert_eq!(reading(Kind::Number(1, 9), "99999999999"), Reading::Wrong("Invalid number, range is (1:9)".into()));
        assert_eq!(reading(Kind::Ip6, "::1"), one(Value::Ip6(std::net::Ipv6Addr::LOCALHOST)));
        assert_eq!((reading(Kind::Ip6, "1"), reading(Kind::Ip6, "a:b")), (Reading::No, Reading::No));
        assert_eq!(reading(Kind::Hex16, "0x86dd"), one(Value::Number(0x86dd)));
        assert_eq!(reading(Kind::Port, "www"), one(Value::Number(80)));
        assert_eq!(reading(Kind::Port, "dom"), one(Value::Number(53)));
        assert_eq!(reading(Kind::Port, "ftp"), one(Value::Number(21)));
        assert_eq!(reading(Kind::Port, "t"), Reading::Wrong("Ambiguous command".into()));
        assert_eq!((reading(Kind::Port, "zz"), reading(Kind::Port, "é")), (Reading::No, Reading::No));
        assert_eq!(reading(Kind::Vlans, "1-5, 7 active").clone(), {
            Reading::Value(Value::Vlans("1-5,7".parse().unwrap()), 2)
        });
        assert_eq!(reading(Kind::Vlans, "5000"), Reading::Wrong("Invalid number, range is (1:4094)".into()));
    }
}
