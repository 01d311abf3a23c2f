//! Writing frames, one by one or joined. What a write means is the caller's; here is what it is given, and what is said
//! of each frame afterwards.
//!
//! A joined frame is written from where its parts are: the virtio header, headers of its own, and the payloads in their
//! buffers. One that the device refuses is written again frame by frame, so joining loses nothing.
//!
//! A device that is full while frames behind an unsent one have left already can't say so by [`Sent`] alone, whose frames
//! beyond the sum are those that were not tried. Then the unsent ones before the last that left count as refused.

use std::io::IoSlice;

use arrayvec::ArrayVec;
use rustix::io::Errno;

use crate::coalesce::{Group, Plan};
use crate::frame::{BATCH, TxFrame};
use crate::port::{Offloads, Sent};

/// Most parts of a write: virtio header, headers, payloads.
const PARTS_MAX: usize = BATCH + 2;

/// Writes one frame, whose first part is the virtio header.
pub(super) type Write<'a> = &'a mut dyn FnMut(&[IoSlice<'_>]) -> Result<(), Errno>;

/// Every frame as it is, until the device is full.
pub(super) fn each(frames: &[TxFrame<'_>], offloads: &Offloads, write: Write<'_>) -> Sent {
    let mut sent = Sent::default();
    for frame in frames {
        match one(frame, offloads, write) {
            Ok(()) => sent.accepted += 1,
            Err(Errno::AGAIN) => break,
            Err(_) => sent.refuse(),
        }
    }
    sent
}

/// At most [`BATCH`] frames as planned, until the device is full.
pub(super) fn joined(frames: &[TxFrame<'_>], plan: &Plan, offloads: &Offloads, write: Write<'_>) -> Sent {
    let (mut taken, mut refused) = (0u64, 0u64);
    'groups: for group in plan.groups() {
        if group.only().is_none() && whole(frames, group, write).is_ok() {
            taken |= group.set();
            continue;
        }
        // A single frame, or a joined one that the device did not take.
        let mut rest = group.set();
        while rest != 0 {
            let bit = rest & rest.wrapping_neg();
            rest ^= bit;
            let Some(frame) = frames.get(bit.trailing_zeros() as usize) else { break 'groups };
            match one(frame, offloads, write) {
                Ok(()) => taken |= bit,
                Err(Errno::AGAIN) => break 'groups,
                Err(_) => refused |= bit,
            }
        }
    }
    let end = 64 - (taken | refused).leading_zeros();
    let tried = 1u64.checked_shl(end).unwrap_or(0).wrapping_sub(1);
    let accepted = taken.count_ones() as usize;
    Sent { accepted, refused: end as usize - accepted, refused_set: tried & !taken }
}

fn one(frame: &TxFrame<'_>, offloads: &Offloads, write: Write<'_>) -> Result<(), Errno> {
    if !offloads.cover(&frame.vnet) {
        return Err(Errno::NOTSUP);
    }
    let header = frame.vnet.write();
    write(&[IoSlice::new(&header), IoSlice::new(frame.head), IoSlice::new(frame.rest)])
}

fn whole(frames: &[TxFrame<'_>], group: &Group, write: Write<'_>) -> Result<(), Errno> {
    let front = group.join(frames).ok_or(Errno::INVAL)?;
    let header = front.vnet.write();
    let mut parts: ArrayVec<IoSlice<'_>, PARTS_MAX> = ArrayVec::new();
    // There is room for all: a group has at most as many frames as a batch.
    parts.extend([IoSlice::new(&header), IoSlice::new(front.headers())]);
    parts.extend(group.payloads(frames).map(IoSlice::new));
    write(&parts)
}
