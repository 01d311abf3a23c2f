//! VLANs of a port: sets of ids, and how a port treats tags.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::addr::{Error, VlanId};

/// A set of VLAN ids, kept as one bit per id, so that a membership test is one load.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet([u64; 64]);

impl VlanSet {
    /// No VLAN.
    pub const EMPTY: VlanSet = VlanSet([0; 64]);

    /// 1-4094.
    pub fn all() -> Self {
        let mut bits = [u64::MAX; 64];
        bits[0] &= !1;
        bits[63] &= !(1 << 63);
        VlanSet(bits)
    }

    /// The set holds `vlan`.
    pub fn contains(&self, vlan: VlanId) -> bool {
        let id = usize::from(vlan.get());
        self.0.get(id / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    /// Adds `vlan`.
    pub fn insert(&mut self, vlan: VlanId) {
        let id = usize::from(vlan.get());
        if let Some(word) = self.0.get_mut(id / 64) {
            *word |= 1 << (id % 64);
        }
    }

    /// Removes `vlan`.
    pub fn remove(&mut self, vlan: VlanId) {
        let id = usize::from(vlan.get());
        if let Some(word) = self.0.get_mut(id / 64) {
            *word &= !(1 << (id % 64));
        }
    }

    /// The ids in rising order.
    pub fn iter(&self) -> impl Iterator<Item = VlanId> + '_ {
        (1..=4094).filter_map(VlanId::new).filter(|v| self.contains(*v))
    }

    /// No id is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many ids the set holds.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The ids of either set.
    pub fn union(&self, other: &VlanSet) -> VlanSet {
        VlanSet(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// The ids of this set that `other` lacks.
    pub fn difference(&self, other: &VlanSet) -> VlanSet {
        VlanSet(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// The ranges `(first, last)` in rising order, the shortest way to write the set.
    pub fn ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for id in self.iter().map(VlanId::get) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == id => *last = id,
                _ => ranges.push((id, id)),
            }
        }
        ranges
    }
}

impl Default for VlanSet {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl FromIterator<VlanId> for VlanSet {
    fn from_iter<I: IntoIterator<Item = VlanId>>(ids: I) -> Self {
        let mut set = VlanSet::EMPTY;
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}

/// NX-OS form: `1-5,7`; the empty set is `none`.
impl fmt::Display for VlanSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return out.write_str("none");
        }
        for (i, (first, last)) in self.ranges().into_iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match last - first {
                0 => write!(out, "{comma}{first}")?,
                _ => write!(out, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for VlanSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Reads `1-5,7`, also with blanks after the commas; an empty or reversed range is an error.
impl FromStr for VlanSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::VlanList(text.to_owned());
        let id = |t: &str| -> Result<u16, Error> {
            let t = t.trim();
            let digits = !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
            let n: u32 = if digits { t.parse().map_err(|_| bad())? } else { return Err(bad()) };
            Ok(VlanId::try_from(n)?.get())
        };
        let mut set = VlanSet::EMPTY;
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((a, b)) => (id(a)?, id(b)?),
                None => (id(part)?, id(part)?),
            };
            if first > last {
                return Err(bad());
            }
            (first..=last).filter_map(VlanId::new).for_each(|v| set.insert(v));
        }
        Ok(set)
    }
}

/// Travels as an array of first, last, first, last.
impl<C> Encode<C> for VlanSet {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let ranges = self.ranges();
        e.array(2 * ranges.len() as u64)?;
        for (first, last) in ranges {
            e.u16(first)?.u16(last)?;
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for VlanSet {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bad = || minicbor::decode::Error::message("bad VLAN ranges");
        let ids = d.array_iter::<u16>()?.collect::<Result<Vec<u16>, _>>()?;
        let mut set = VlanSet::EMPTY;
        for pair in ids.chunks(2) {
            let &[first, last] = pair else { return Err(bad()) };
            if first > last || VlanId::new(first).is_none() || VlanId::new(last).is_none() {
                return Err(bad());
            }
            (first..=last).filter_map(VlanId::new).for_each(|v| set.insert(v));
        }
        Ok(set)
    }
}

/// How a port treats VLAN tags.
#[expect(
    clippy::large_enum_variant,
    reason = "one a port; a pointer per look at a trunk would cost more than the room"
)]
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum PortMode {
    /// Untagged (and priority-tagged) frames of one VLAN.
    #[n(0)]
    Access(#[n(0)] VlanId),
    /// Tagged frames of the allowed VLANs, untagged ones of the native VLAN.
    #[n(1)]
    Trunk {
        /// Untagged frames belong here.
        #[n(0)]
        native: VlanId,
        /// May pass, the native VLAN included when it is listed.
        #[n(1)]
        allowed: VlanSet,
    },
}

impl Default for PortMode {
    fn default() -> Self {
        PortMode::Access(VlanId::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_and_write() {
        for (text, canonical) in [("1-5,7", "1-5,7"), ("7, 1-3,4", "1-4,7"), ("4094", "4094"), ("1-4094", "1-4094")] {
            let set: VlanSet = text.parse().unwrap();
            assert_eq!(set.to_string(), canonical);
            assert_eq!(minicbor::decode::<VlanSet>(&minicbor::to_vec(&set).unwrap()).unwrap(), set);
        }
        assert_eq!(VlanSet::all().to_string(), "1-4094");
        for text in ["", "0", "4095", "5-1", "1-", "1,,2", "a", "+1"] {
            assert!(text.parse::<VlanSet>().is_err(), "{text}");
        }
    }
}
