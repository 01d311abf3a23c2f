//! Interface names as NX-OS writes and reads them.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::addr::Error;

/// The name of an interface of the distributed switch.
///
/// `Vethernet12` is flat across the hosts and stays with the VM's card; `Ethernet3/2` is card 2 of module 3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub enum IfName {
    /// Card `port` (1-32) of module `slot` (3-66): an uplink.
    #[n(1)]
    Ethernet {
        /// Module number.
        #[n(0)]
        slot: u8,
        /// Card of that host, from 1.
        #[n(1)]
        port: u8,
    },
    /// A VM's card, 1-1048575.
    #[n(0)]
    Vethernet(#[n(0)] u32),
    /// The supervisor's own management interface.
    #[n(2)]
    Mgmt0,
}

/// Highest Vethernet number.
pub const VETHERNET_MAX: u32 = 1_048_575;
/// Highest card number of a module.
pub const ETHERNET_PORT_MAX: u8 = 32;

impl IfName {
    /// The name that tables use: `Veth12`, `Eth3/2`, `mgmt0`.
    pub fn short(self) -> String {
        match self {
            IfName::Vethernet(n) => format!("Veth{n}"),
            IfName::Ethernet { slot, port } => format!("Eth{slot}/{port}"),
            IfName::Mgmt0 => "mgmt0".to_owned(),
        }
    }

    /// The interface is an uplink.
    pub fn is_ethernet(self) -> bool {
        matches!(self, IfName::Ethernet { .. })
    }
}

/// The name that blocks and the running configuration use: `Vethernet12`, `Ethernet3/2`, `mgmt0`.
impl fmt::Display for IfName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IfName::Vethernet(n) => write!(out, "Vethernet{n}"),
            IfName::Ethernet { slot, port } => write!(out, "Ethernet{slot}/{port}"),
            IfName::Mgmt0 => out.write_str("mgmt0"),
        }
    }
}

/// Reads every unique abbreviation, in any case, with or without a blank before the number: `veth 12`, `e3/2`, `mgmt 0`.
impl FromStr for IfName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Interface(text.to_owned());
        let split = text.find(|c: char| c.is_ascii_digit()).ok_or_else(bad)?;
        let (word, number) = text.split_at(split);
        let word = word.trim_end().to_ascii_lowercase();
        let number = number.trim();
        let stands_for = |full: &str| !word.is_empty() && full.starts_with(&word);
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if stands_for("vethernet") {
            let n = if digits(number) { number.parse().map_err(|_| bad())? } else { return Err(bad()) };
            return (1..=VETHERNET_MAX).contains(&n).then_some(IfName::Vethernet(n)).ok_or_else(bad);
        }
        if stands_for("ethernet") {
            let (slot, port) = number.split_once('/').ok_or_else(bad)?;
            if !digits(slot) || !digits(port) {
                return Err(bad());
            }
            let (slot, port): (u8, u8) = (slot.parse().map_err(|_| bad())?, port.parse().map_err(|_| bad())?);
            let known = (3..=66).contains(&slot) && (1..=ETHERNET_PORT_MAX).contains(&port);
            return known.then_some(IfName::Ethernet { slot, port }).ok_or_else(bad);
        }
        if stands_for("mgmt") && number == "0" {
            return Ok(IfName::Mgmt0);
        }
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abbreviations() {
        let veth = IfName::Vethernet(12);
        let eth = IfName::Ethernet { slot: 3, port: 2 };
        for text in ["Vethernet12", "veth12", "v12", "VETH 12", "vethernet 12"] {
            assert_eq!(text.parse(), Ok(veth), "{text}");
        }
        for text in ["Ethernet3/2", "eth3/2", "e 3/2"] {
            assert_eq!(text.parse(), Ok(eth), "{text}");
        }
        assert_eq!("mgmt 0".parse(), Ok(IfName::Mgmt0));
        for text in ["", "12", "veth", "veth0", "veth-1", "eth3", "eth2/1", "eth3/33", "foo1", "veth99999999", "mgmt1"]
        {
            assert!(text.parse::<IfName>().is_err(), "{text}");
        }
        assert_eq!((veth.to_string(), eth.short()), ("Vethernet12".into(), "Eth3/2".into()));
    }
}
