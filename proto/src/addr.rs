//! Addresses and identifiers: MAC address, VLAN id, and the identity of a VM's network card.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

/// Why a word could not be read from text or from a number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a MAC address in any of the three usual spellings.
    #[error("'{0}' is not a MAC address")]
    Mac(String),
    /// Outside 1-4094.
    #[error("VLAN {0} is outside 1-4094")]
    Vlan(u32),
    /// Not a VLAN list such as `1-5,7`.
    #[error("'{0}' is not a VLAN list")]
    VlanList(String),
    /// Not an interface name.
    #[error("'{0}' is not an interface name")]
    Interface(String),
    /// Empty, too long, or with characters that a command line can't carry.
    #[error("'{0}' is not a NIC identity (1-128 printable characters without blanks)")]
    Nic(String),
}

/// An IEEE 802 MAC address, in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct MacAddr(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 6],
);

impl MacAddr {
    /// `ffff.ffff.ffff`
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// `0000.0000.0000`
    pub const ZERO: MacAddr = MacAddr([0; 6]);

    /// The address is a group address (I/G bit set, IEEE 802 clause 8.2); broadcast is one of them.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// All ones.
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// The address can be the source of a frame: neither group nor all-zero.
    pub fn is_station(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }

    /// The 48 bits as a number, first byte highest.
    pub fn to_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The low 48 bits of `v`.
    pub fn from_u64(v: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = v.to_be_bytes();
        MacAddr([a, b, c, d, e, f])
    }

    /// `02:00:00:aa:bb:cc`, as Linux writes it.
    pub fn colons(self) -> String {
        let [a, b, c, d, e, f] = self.0;
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// NX-OS form: `0200.00aa.bbcc`.
impl fmt::Display for MacAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}{b:02x}.{c:02x}{d:02x}.{e:02x}{f:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Reads `0200.00aa.bbcc`, `02:00:00:aa:bb:cc` and `02-00-00-aa-bb-cc`, in either case.
impl FromStr for MacAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Mac(text.to_owned());
        let (separator, group, groups) = match () {
            () if text.contains('.') => ('.', 4, 3),
            () if text.contains(':') => (':', 2, 6),
            () => ('-', 2, 6),
        };
        let mut digits = 0;
        let mut value = 0u64;
        for part in text.split(separator) {
            let hex = part.len() == group && part.bytes().all(|b| b.is_ascii_hexdigit());
            if !hex || digits == groups {
                return Err(bad());
            }
            value = value << (4 * group) | u64::from_str_radix(part, 16).map_err(|_| bad())?;
            digits += 1;
        }
        if digits == groups { Ok(MacAddr::from_u64(value)) } else { Err(bad()) }
    }
}

/// A VLAN identifier that can carry traffic: 1-4094 (IEEE 802.1Q table 9-2; 0 is the priority tag, 4095 is reserved).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// VLAN 1, which every switch starts with.
    pub const DEFAULT: VlanId = VlanId(1);

    /// `id` when it is in 1-4094.
    pub fn new(id: u16) -> Option<Self> {
        (1..=4094).contains(&id).then_some(VlanId(id))
    }

    /// The number, 1-4094.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u32> for VlanId {
    type Error = Error;

    fn try_from(id: u32) -> Result<Self, Error> {
        u16::try_from(id).ok().and_then(VlanId::new).ok_or(Error::Vlan(id))
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Debug for VlanId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl<C> Encode<C> for VlanId {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for VlanId {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        VlanId::new(d.u16()?).ok_or_else(|| minicbor::decode::Error::message("VLAN outside 1-4094"))
    }
}

/// The identity of a VM's network card, the same on whichever host the VM runs: `web1/0` is the first card of VM `web1`.
///
/// Vethernet numbers, and with them policy, are bound to this and move with the VM.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode)]
#[cbor(transparent)]
pub struct NicId(#[n(0)] String);

impl NicId {
    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NicId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let printable = text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() || text.len() > 128 || !printable {
            return Err(Error::Nic(text.to_owned()));
        }
        Ok(NicId(text.to_owned()))
    }
}

impl<'b, C> Decode<'b, C> for NicId {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?.parse().map_err(|_| minicbor::decode::Error::message("bad NIC identity"))
    }
}

impl fmt::Display for NicId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_reads_three_spellings_and_writes_nx_os() {
        for text in ["0200.00aa.BBcc", "02:00:00:aa:bb:cc", "02-00-00-AA-BB-CC"] {
            let mac: MacAddr = text.parse().unwrap();
            assert_eq!(mac.to_string(), "0200.00aa.bbcc");
            assert_eq!(MacAddr::from_u64(mac.to_u64()), mac);
        }
        for text in ["", "0200.00aa", "02:00:00:aa:bb", "02:00:00:aa:bb:cc:dd", "0200.00aa.bbcg", "+200.00aa.bbcc"] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn vlan_ids_outside_the_range_cannot_be_built() {
        assert!(VlanId::new(0).is_none() && VlanId::new(4095).is_none());
        assert_eq!(VlanId::try_from(70_000), Err(Error::Vlan(70_000)));
        assert!(minicbor::decode::<VlanId>(&minicbor::to_vec(4095u16).unwrap()).is_err());
    }
}
