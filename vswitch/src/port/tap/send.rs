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
        if group.only().is_none() && whole(frames, plan, group, write).is_ok() {
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

fn whole(frames: &[TxFrame<'_>], plan: &Plan, group: &Group, write: Write<'_>) -> Result<(), Errno> {
    let front = plan.join(group, frames).ok_or(Errno::INVAL)?;
    let header = front.vnet.write();
    let mut parts: ArrayVec<IoSlice<'_>, PARTS_MAX> = ArrayVec::new();
    // There is room for all: a group has at most as many frames as a batch.
    parts.extend([IoSlice::new(&header), IoSlice::new(front.headers())]);
    parts.extend(plan.payloads(group, frames).map(IoSlice::new));
    write(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coalesce::Mode;
    use crate::frame::vnet::{NEEDS_CSUM, VnetHdr};
    use crate::offload::{fold, put16, sum};

    /// A datagram of the flow with source port `port`, its checksum left to the device.
    fn datagram(port: u8, payload: u8) -> Vec<u8> {
        let mut frame = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\x00".to_vec();
        frame.extend([0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let value = !fold(sum(&frame[14..]));
        put16(&mut frame, 24, value).unwrap();
        frame.extend([0, port, 0, 9, 0, 12, 0, 0]);
        let seed = fold(crate::offload::pseudo_sum(&frame[26..34], 17, 12));
        put16(&mut frame, 40, seed).unwrap();
        frame.extend([payload; 4]);
        frame
    }

    const PARTIAL: VnetHdr = VnetHdr { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 6, ..VnetHdr::PLAIN };

    /// What is said of datagrams of flows 1 and 2 and an odd frame, and what was written: `answers` are those of the
    /// device, by write.
    fn tried(flows: &[u8], answers: &[Result<(), Errno>]) -> (Sent, Vec<usize>) {
        let owned: Vec<Vec<u8>> = flows.iter().zip(0..).map(|(port, payload)| datagram(*port, payload)).collect();
        let mut frames: Vec<TxFrame<'_>> =
            owned.iter().map(|rest| TxFrame { head: &[], rest, vnet: PARTIAL, copy: false }).collect();
        for (frame, _) in frames.iter_mut().zip(flows).filter(|(_, port)| **port == 0) {
            // No port takes this.
            frame.vnet = VnetHdr { gso_type: 0x33, ..VnetHdr::PLAIN };
        }
        let plan = Plan::make(Mode::Exact, &Offloads::ALL, &frames);
        assert!(plan.joins());
        let (mut written, mut answers) = (Vec::new(), answers.iter());
        let sent = joined(&frames, &plan, &Offloads::ALL, &mut |parts| {
            let answer = answers.next().copied().unwrap_or(Ok(()));
            if answer.is_ok() {
                written.push(parts.iter().map(|part| part.len()).sum::<usize>() - 12);
            }
            answer
        });
        (sent, written)
    }

    const SINGLE: usize = 46;

    #[test]
    fn a_joined_frame_is_written_once_and_counts_as_its_frames() {
        let (sent, written) = tried(&[1, 2, 1, 2, 1], &[]);
        assert_eq!(sent, Sent { accepted: 5, refused: 0, refused_set: 0 });
        assert_eq!(written, [SINGLE + 8, SINGLE + 4]);
        let (sent, written) = tried(&[1; 64], &[]);
        assert_eq!(sent, Sent { accepted: 64, refused: 0, refused_set: 0 });
        assert_eq!(written, [SINGLE + 63 * 4]);
    }

    #[test]
    fn a_joined_frame_that_is_refused_goes_frame_by_frame() {
        let (sent, written) = tried(&[1, 1, 2, 1], &[Err(Errno::INVAL), Ok(()), Err(Errno::IO)]);
        assert_eq!(sent, Sent { accepted: 3, refused: 1, refused_set: 0b10 });
        assert_eq!(written, [SINGLE; 3]);
        // What no port takes is refused alone.
        let (sent, written) = tried(&[1, 0, 1, 1], &[]);
        assert_eq!(sent, Sent { accepted: 3, refused: 1, refused_set: 0b10 });
        assert_eq!(written, [SINGLE + 8]);
    }

    #[test]
    fn a_device_that_is_full_leaves_no_frame_uncounted() {
        let full = Err(Errno::AGAIN);
        let (sent, written) = tried(&[1, 1, 2, 2], &[full, full]);
        assert_eq!((sent, written.len()), (Sent::default(), 0));
        // The first flow left, the second was not tried any more: nothing behind it left.
        let (sent, _) = tried(&[1, 1, 2, 2], &[Ok(()), full, full]);
        assert_eq!(sent, Sent { accepted: 2, refused: 0, refused_set: 0 });
        // Frames of the second flow before the last of the first have to be called refused.
        let (sent, written) = tried(&[1, 2, 1, 2, 1, 2], &[Ok(()), full, full]);
        assert_eq!(sent, Sent { accepted: 3, refused: 2, refused_set: 0b1010 });
        assert_eq!(written, [SINGLE + 8]);
        // The joined one was too much for the room that there was.
        let (sent, written) = tried(&[1, 1, 1, 2], &[full, Ok(()), full]);
        assert_eq!(sent, Sent { accepted: 1, refused: 0, refused_set: 0 });
        assert_eq!(written, [SINGLE]);
        let flows: Vec<u8> = (0..64).map(|i| 1 + i % 2).collect();
        let (sent, _) = tried(&flows, &[full, full]);
        assert_eq!(sent, Sent::default());
        let (sent, _) = tried(&flows, &[Ok(()), full, full]);
        assert_eq!(sent, Sent { accepted: 32, refused: 31, refused_set: 0x2aaa_aaaa_aaaa_aaaa });
    }
}
