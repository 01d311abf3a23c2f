//! Chains of descriptors (virtio 1.2, 2.7.5), in the table of the ring or in an indirect one.
//!
//! A descriptor is copied once and judged in the copy. A chain has no more descriptors than the ring has entries, so a loop
//! ends. An indirect table may stand at the end of a chain, and in no other place.

use super::copy::{copy, fence};
use super::ring::{Bad, Ring};

/// `flags`: another descriptor follows.
pub const NEXT: u16 = 1;
/// `flags`: the device writes here.
pub const WRITE: u16 = 2;
/// `flags`: here is a table of descriptors.
pub const INDIRECT: u16 = 4;

/// A descriptor, in host order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Descriptor {
    /// Guest address.
    pub(super) address: u64,
    /// Octets.
    pub(super) len: u32,
    /// [`NEXT`], [`WRITE`], [`INDIRECT`].
    pub(super) flags: u16,
    /// The one that follows.
    pub(super) next: u16,
}

impl Descriptor {
    /// From its two words in host order.
    #[inline(always)]
    pub(super) fn from_words(low: u64, high: u64) -> Self {
        Descriptor { address: low, len: high as u32, flags: (high >> 32) as u16, next: (high >> 48) as u16 }
    }

    #[inline(always)]
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// The rest of a chain.
pub(super) struct Walk {
    /// A descriptor that is copied but not yet walked.
    ready: Option<Descriptor>,
    /// The index of the next one.
    index: Option<u16>,
    /// The indirect table that it is in: guest address and entries.
    table: Option<(u64, u16)>,
    /// How many more there may be.
    left: u16,
}

impl Walk {
    /// From the first descriptor, which is copied already.
    #[inline(always)]
    pub(super) fn new(ring: &Ring, first: Descriptor) -> Walk {
        Walk { ready: Some(first), index: None, table: None, left: ring.size() }
    }

    /// The next descriptor of the chain; never one of an indirect table itself.
    pub(super) fn next(&mut self, ring: &mut Ring) -> Result<Option<Descriptor>, Bad> {
        let mut descriptor = match self.read(ring)? {
            Some(descriptor) => descriptor,
            None => return Ok(None),
        };
        if descriptor.has(INDIRECT) {
            self.enter(ring, &descriptor)?;
            descriptor = self.read(ring)?.ok_or(Bad::Length)?;
            if descriptor.has(INDIRECT) {
                return Err(Bad::Indirect);
            }
        }
        self.left = self.left.checked_sub(1).ok_or(Bad::Long)?;
        if descriptor.has(NEXT) {
            self.index = Some(descriptor.next);
        }
        if descriptor.len == 0 {
            return Err(Bad::Length);
        }
        Ok(Some(descriptor))
    }

    /// The descriptor at the index, copied.
    fn read(&mut self, ring: &mut Ring) -> Result<Option<Descriptor>, Bad> {
        if let Some(descriptor) = self.ready.take() {
            return Ok(Some(descriptor));
        }
        let Some(index) = self.index.take() else { return Ok(None) };
        match self.table {
            None => ring.descriptor(index).map(Some).ok_or(Bad::Index),
            Some((address, count)) if index < count => {
                let address = address.checked_add(16 * u64::from(index)).ok_or(Bad::Address)?;
                ring.indirect_entry(address).map(Some)
            }
            Some(_) => Err(Bad::Index),
        }
    }

    /// Goes on in the table that `descriptor` describes.
    fn enter(&mut self, ring: &Ring, descriptor: &Descriptor) -> Result<(), Bad> {
        if !ring.indirect || self.table.is_some() || descriptor.has(NEXT) {
            return Err(Bad::Indirect);
        }
        let count = descriptor.len / 16;
        if !descriptor.len.is_multiple_of(16) || count == 0 || count > u32::from(ring.size()) {
            return Err(Bad::Length);
        }
        self.table = Some((descriptor.address, count as u16));
        self.index = Some(0);
        Ok(())
    }
}

impl Ring {
    /// The descriptor at a guest address, which may be anywhere, also across two regions.
    fn indirect_entry(&mut self, address: u64) -> Result<Descriptor, Bad> {
        let mut octets = [0u8; 16];
        let (mut address, mut at) = (address, 0);
        while at < octets.len() {
            let piece = self.memory.piece(address, octets.len() - at, &mut self.table).ok_or(Bad::Address)?;
            // SAFETY: the piece is guest memory of its length, which is at most what is left of `octets`.
            unsafe { copy(piece.at, octets.as_mut_ptr().add(at), piece.len) };
            at += piece.len;
            address = address.checked_add(piece.len as u64).ok_or(Bad::Address)?;
        }
        fence();
        let [a, b] = [octets.first_chunk::<8>(), octets.last_chunk::<8>()]
            .map(|word| word.map_or(0, |word| u64::from_le_bytes(*word)));
        Ok(Descriptor::from_words(a, b))
    }
}
