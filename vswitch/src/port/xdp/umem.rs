//! The memory that frames of an AF_XDP socket lie in, in slots of one size.
//!
//! The first slots are for receiving and go round between fill and receive ring; the others are for sending and are here
//! when they are not on their way. The kernel reads and writes this memory whenever it likes, so there is never a reference
//! into it: frames are copied in and out.
//!
//! Slots begin on multiples of their size. So that the headers of all frames don't fall into the same sets of the
//! first-level cache, frames to be sent begin at different cache lines of their slots.

use std::io;

use super::ring::Map;

/// Slots for receiving, of a queue.
pub const RECEIVE_SLOTS: u32 = 2048;
/// Slots for sending, of a queue.
pub const SEND_SLOTS: u32 = 1024;
/// Octets before a received frame that the kernel keeps to itself (`XDP_PACKET_HEADROOM`).
const KERNEL_ROOM: usize = 256;
/// Octets by which the begins of frames to be sent differ, and how many begins there are: together at most `KERNEL_ROOM`.
const STEP: usize = 64;
const BEGINS: usize = 4;

/// The memory of one queue.
pub struct Umem {
    map: Map,
    slot: usize,
    /// Addresses of the slots for sending that are not on their way.
    free: Vec<u64>,
}

impl Umem {
    /// Memory with slots for frames of `longest` octets.
    ///
    /// # Errors
    /// The frames are too long, or there is no memory.
    pub fn new(longest: usize) -> io::Result<Umem> {
        let slot = [2048, 4096].into_iter().find(|slot| longest <= capacity(*slot));
        let slot = slot.ok_or_else(|| io::Error::other(format!("frames of more than {} octets", capacity(4096))))?;
        let map = Map::anonymous(slot * (RECEIVE_SLOTS + SEND_SLOTS) as usize)?;
        let free = (RECEIVE_SLOTS..RECEIVE_SLOTS + SEND_SLOTS).map(|index| u64::from(index) * slot as u64).collect();
        Ok(Umem { map, slot, free })
    }

    /// For the kernel.
    pub fn registration(&self) -> libc::xdp_umem_reg {
        libc::xdp_umem_reg {
            addr: self.map.base().as_ptr() as u64,
            len: self.map.len() as u64,
            chunk_size: self.slot as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        }
    }

    /// Addresses of the slots for receiving.
    pub fn receive_slots(&self) -> impl Iterator<Item = u64> {
        let slot = self.slot as u64;
        (0..u64::from(RECEIVE_SLOTS)).map(move |index| index * slot)
    }

    /// The slot for receiving that `address` lies in.
    pub fn receive_slot(&self, address: u64) -> Option<u64> {
        let slot = self.slot as u64;
        Some(address - address % slot).filter(|begin| *begin < u64::from(RECEIVE_SLOTS) * slot)
    }

    /// Longest frame.
    pub fn longest(&self) -> usize {
        capacity(self.slot)
    }

    /// Copies `len` octets at `address` to the begin of `into`; `false` when they are not inside one slot, or too long.
    pub fn read(&self, address: u64, len: usize, into: &mut [u8]) -> bool {
        let begin = usize::try_from(address).unwrap_or(usize::MAX);
        let inside = begin % self.slot + len.min(self.slot) <= self.slot && begin < self.map.len();
        if !inside || len > self.slot || len > into.len() {
            return false;
        }
        // SAFETY: the octets are inside the mapping, as the slot is that they are in; `into` is at least as long and is
        // memory of ours that the kernel knows nothing of.
        unsafe { std::ptr::copy_nonoverlapping(self.map.base().as_ptr().add(begin), into.as_mut_ptr(), len) };
        true
    }

    /// Copies a frame into a free slot and returns where it is; `None` when no slot is free or the frame is too long.
    pub fn write(&mut self, head: &[u8], rest: &[u8]) -> Option<u64> {
        if head.len() + rest.len() > self.longest() {
            return None;
        }
        let slot = self.free.pop()?;
        let begin = slot as usize + slot as usize / self.slot % BEGINS * STEP;
        // SAFETY: a slot for sending that is not on its way; behind the begin, at most `KERNEL_ROOM` octets into the
        // slot, there is room for `longest` octets.
        unsafe {
            let place = self.map.base().as_ptr().add(begin);
            std::ptr::copy_nonoverlapping(head.as_ptr(), place, head.len());
            std::ptr::copy_nonoverlapping(rest.as_ptr(), place.add(head.len()), rest.len());
        }
        Some(begin as u64)
    }

    /// The frame at `address` has been sent, or is not to be. An address that is not that of a frame is not believed.
    pub fn free(&mut self, address: u64) {
        let slot = self.slot as u64;
        let begin = address - address % slot;
        let sending = u64::from(RECEIVE_SLOTS) * slot..self.map.len() as u64;
        if sending.contains(&begin) && self.free.len() < SEND_SLOTS as usize {
            self.free.push(begin);
        }
    }
}

/// Longest frame that a slot holds.
fn capacity(slot: usize) -> usize {
    slot - KERNEL_ROOM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_and_slots_run_out() {
        for longest in [1514, 3000] {
            let mut umem = Umem::new(longest).unwrap();
            let mut places = Vec::new();
            while let Some(place) = umem.write(&[places.len() as u8; 12], &vec![7; longest - 12]) {
                places.push(place);
            }
            assert_eq!((places.len(), umem.free.len()), (SEND_SLOTS as usize, 0));
            let mut frame = vec![0; longest];
            for (i, place) in places.iter().enumerate() {
                assert!(umem.read(*place, longest, &mut frame));
                assert_eq!((&frame[..12], &frame[12..]), (&[i as u8; 12][..], &vec![7; longest - 12][..]));
            }
            places.into_iter().for_each(|place| umem.free(place));
            assert_eq!(umem.free.len(), SEND_SLOTS as usize);
            assert!(umem.write(&[], &vec![0; umem.longest() + 1]).is_none());
            assert_eq!(umem.free.len(), SEND_SLOTS as usize);
        }
        assert!(Umem::new(4000).is_err());
    }

    #[test]
    fn places_that_cannot_be_are_not_read_or_freed() {
        let mut umem = Umem::new(1514).unwrap();
        let mut room = vec![0; 70_000];
        let end = umem.map.len() as u64;
        for (address, len) in [(end, 1), (u64::MAX, 1), (end - 1, 2), (2047, 2), (0, 2049), (256, usize::MAX)] {
            assert!(!umem.read(address, len, &mut room), "{address} {len}");
        }
        assert!(!umem.read(0, 100, &mut [0; 99]));
        assert!(umem.read(end - 1, 1, &mut room) && umem.read(0, 2048, &mut room));
        umem.write(&[], &[1]).unwrap();
        for address in [0, 2048, u64::from(RECEIVE_SLOTS) * 2048 - 1, end, u64::MAX] {
            umem.free(address);
        }
        assert_eq!(umem.free.len(), SEND_SLOTS as usize - 1);
        assert_eq!((umem.receive_slot(2300), umem.receive_slot(end - 1)), (Some(2048), None));
    }
}
