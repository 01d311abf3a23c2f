//! A set of ports, one bit each.

use crate::port::{PORTS_MAX, PortId};

const WORDS: usize = PORTS_MAX / 64;

/// A set of ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortSet([u64; WORDS]);

impl PortSet {
    /// Adds `port`; a number past [`PORTS_MAX`] is ignored.
    #[inline]
    pub fn insert(&mut self, port: PortId) {
        if let Some(word) = self.0.get_mut(port.index() / 64) {
            *word |= 1 << (port.index() % 64);
        }
    }

    /// Removes `port`.
    pub fn remove(&mut self, port: PortId) {
        if let Some(word) = self.0.get_mut(port.index() / 64) {
            *word &= !(1 << (port.index() % 64));
        }
    }

    /// The set holds `port`.
    pub fn contains(&self, port: PortId) -> bool {
        self.0.get(port.index() / 64).is_some_and(|word| word >> (port.index() % 64) & 1 == 1)
    }

    /// Takes out the lowest port.
    pub fn pop(&mut self) -> Option<PortId> {
        for (i, word) in self.0.iter_mut().enumerate() {
            if *word != 0 {
                let bit = word.trailing_zeros();
                *word &= *word - 1;
                return Some(PortId((i * 64) as u16 + bit as u16));
            }
        }
        None
    }

    /// The ports in rising order.
    pub fn iter(&self) -> impl Iterator<Item = PortId> {
        let mut rest = self.clone();
        std::iter::from_fn(move || rest.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_out_in_rising_order_once() {
        let mut set = PortSet::default();
        for port in [700, 3, 64, 3, 1023, 60_000] {
            set.insert(PortId(port));
        }
        set.remove(PortId(64));
        assert!(set.contains(PortId(3)) && !set.contains(PortId(64)) && !set.contains(PortId(60_000)));
        assert_eq!(set.iter().map(|p| p.0).collect::<Vec<_>>(), [3, 700, 1023]);
        assert_eq!(set.pop(), Some(PortId(3)));
    }
}
