//! The keyed hash of tables that outsiders fill.
//!
//! Folded multiplication (the high half of a 128-bit product over the low half) of the words with secret ones. The secret
//! is drawn when a table is made, so collisions can't be computed beforehand; it is not a cryptographic hash.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::key::FlowKey;

/// The secret of a table.
#[derive(Clone)]
pub struct HashKey([u64; 9]);

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

impl HashKey {
    /// A new secret, from the system's randomness.
    pub fn random() -> Self {
        HashKey(std::array::from_fn(|i| {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_usize(i);
            hasher.finish() | 1
        }))
    }

    /// Of a flow key.
    #[inline]
    pub fn of(&self, key: &FlowKey) -> u64 {
        let [a, b, c, d, e, f, g, h] = key.words();
        let [k0, k1, k2, k3, k4, k5, k6, k7, k8] = self.0;
        let left = fold(a ^ k0, b ^ k1).wrapping_add(fold(c ^ k2, d ^ k3));
        let right = fold(e ^ k4, f ^ k5).wrapping_add(fold(g ^ k6, h ^ k7));
        fold(left ^ k8, right.rotate_left(32) ^ k0)
    }

    /// Of one word.
    #[inline]
    pub fn of_word(&self, word: u64) -> u64 {
        let [k0, k1, k2, ..] = self.0;
        fold(fold(word ^ k0, k1) ^ k2, k1 ^ k0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_of_the_key_matters_and_so_does_the_secret() {
        use zerocopy::{FromBytes, IntoBytes};
        let (one, other) = (HashKey::random(), HashKey::random());
        let zero = FlowKey::default();
        assert_ne!(one.of(&zero), other.of(&zero));
        let mut seen = vec![one.of(&zero)];
        for at in 0..64 {
            let mut key = zero;
            key.as_mut_bytes()[at] = 1;
            seen.push(one.of(&FlowKey::read_from_bytes(key.as_bytes()).unwrap()));
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 65);
    }

    #[test]
    fn buckets_fill_evenly() {
        let hash = HashKey::random();
        let mut buckets = [0u32; 256];
        for n in 0..25_600u32 {
            let key = FlowKey { src: crate::wire::mapped(n), ..FlowKey::default() };
            buckets[(hash.of(&key) & 255) as usize] += 1;
        }
        assert!(buckets.iter().all(|n| (50..160).contains(n)), "{buckets:?}");
    }
}
