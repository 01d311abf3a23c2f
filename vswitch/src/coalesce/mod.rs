//! Joining frames on the way out: datagrams or segments of one flow in one batch become one super-frame.
//!
//! A tap takes a frame per system call, and the kernel behind it works per frame too; a super-frame (virtio 1.2, 5.1.6.2:
//! USO, TSO) costs both hardly more than one frame. So frames are joined when, and only when, cutting the super-frame again
//! gives the packets that were joined, octet for octet, in order. What Linux makes of a super-frame decides:
//! - all segments have the headers of the first, but for lengths, checksums, the TCP sequence number (continuous), the
//!   IPv4 identification (ascending by one) and FIN and PSH (on the last only);
//! - all but the last have the same size, and none is empty;
//! - all have a complete and right checksum. So one that is wrong, or missing (UDP, RFC 768), is not joined.
//!
//! The identification of a datagram that must not be fragmented means nothing (RFC 6864, 4.1) and may change. So does what
//! a packet never had: padding behind it.
//!
//! Three complications.
//! * **Order.** A joined frame leaves earlier than those before it in the batch. Frames of one flow (addresses, ports,
//!   protocol) never overtake each other: what can't be joined ends its flow's super-frame. What has no ports (a
//!   fragment, another protocol, a mirror copy) overtakes nothing and is not overtaken.
//! * **Cost for traffic that can't be joined.** One look at the first octets of a frame and one into a small table. Only if
//!   some flow has two frames are headers read and compared, and checksums are computed last.
//! * **Who listens.** Sockets get packets, however they came. A packet socket behind the tap sees the super-frame, as it
//!   does behind any card with receive offload; so messages to DHCP ports, which are read by such sockets, are not joined.
//!
//! Nothing waits for a partner: a batch is joined with itself alone. Pure; no allocation; the work for a batch is bounded
//! by its octets (checksums, each once) and a constant per frame. [`crate::offload::segment`] is the oracle in tests, and
//! the kernel in those of the taps.

mod join;
mod piece;

use arrayvec::ArrayVec;

pub use join::{HEADERS_MAX, Joined};
use piece::{Look, Piece};

use crate::frame::{BATCH, TxFrame};
use crate::port::Offloads;

/// Most segments of a super-frame of datagrams: what every Linux with USO takes (UDP_MAX_SEGMENTS was 64 before 6.9).
const DATAGRAMS_MAX: u32 = 64;

/// Most octets of an IP packet.
const PACKET_MAX: u32 = 65_535;

/// Slots for flows: many against a batch, so that flows rarely share one.
const SLOT_BITS: u32 = 9;
const SLOTS: usize = 1 << SLOT_BITS;

/// Nothing, in a slot.
const NONE: u8 = u8::MAX;

/// Which frames are joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// None: one write per frame.
    Off,
    /// Those of which a receiver gets the same packets.
    #[default]
    Exact,
    /// Also IPv4 datagrams without checksum, which get one, and with any identification, which become ascending.
    Lenient,
}

/// Frames that leave as one, or a single frame.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Bit `i`: frame `i` belongs to it, in this order.
    frames: u64,
    /// Payload octets so far.
    payload: u32,
    /// Segments so far.
    segments: u32,
    /// Number of the first frame, whose headers are those of the group.
    first: u8,
    /// Number of the last frame.
    last: u8,
    /// Another frame may follow.
    open: bool,
    /// The first frame's checksums are known to be right.
    checked: bool,
}

impl Group {
    /// Frame `at`; others may follow if it is `open`.
    fn start(at: usize, piece: &Piece, open: bool) -> Group {
        Group {
            frames: 1 << (at % BATCH),
            payload: piece.len.into(),
            segments: piece.segments.into(),
            first: at as u8,
            last: at as u8,
            open,
            checked: false,
        }
    }

    /// The only frame, when it is one.
    pub fn only(&self) -> Option<usize> {
        (self.first == self.last).then_some(self.first.into())
    }

    /// The numbers of its frames as a set: bit `i` is frame `i`.
    pub fn set(&self) -> u64 {
        self.frames
    }

    /// Its frames, in order.
    pub fn frames<'a>(&self, batch: &'a [TxFrame<'a>]) -> impl Iterator<Item = &'a TxFrame<'a>> {
        let mut rest = self.frames;
        std::iter::from_fn(move || {
            let at = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            batch.get(at as usize)
        })
    }
}

/// How a batch leaves.
pub struct Plan {
    groups: ArrayVec<Group, BATCH>,
    /// What is known of each frame; of one that can't be joined nothing.
    pieces: ArrayVec<Piece, BATCH>,
    joined: bool,
}

impl Plan {
    /// Looks for what can be joined in a batch of at most [`BATCH`] frames to a device with `offloads`. A longer one, and
    /// one of a single frame, has nothing to be joined.
    pub fn make(mode: Mode, offloads: &Offloads, batch: &[TxFrame<'_>]) -> Plan {
        let mut plan = Plan { groups: ArrayVec::new(), pieces: ArrayVec::new(), joined: false };
        if mode == Mode::Off || !offloads.csum || !(2..=BATCH).contains(&batch.len()) {
            return plan;
        }
        let mut looks = [Look::OTHER; BATCH];
        if plan.glance(mode, batch, &mut looks) {
            plan.search(mode, offloads, batch, &looks);
        }
        plan
    }

    /// Looks at every frame once. `false` when no two that may be joined are of one flow.
    #[inline]
    fn glance(&self, mode: Mode, batch: &[TxFrame<'_>], looks: &mut [Look; BATCH]) -> bool {
        // The number of the last frame of a flow.
        let mut slots = [NONE; SLOTS];
        let mut promising = false;
        for (at, frame) in batch.iter().enumerate() {
            let look = Look::at(mode, frame);
            if look.is_piece()
                && let Some(slot) = slots.get_mut(look.slot(SLOT_BITS))
            {
                promising |= looks.get(usize::from(*slot)) == Some(&look);
                *slot = at as u8;
            }
            if let Some(place) = looks.get_mut(at) {
                *place = look;
            }
        }
        promising
    }

    /// Makes the groups.
    #[inline(never)]
    fn search(&mut self, mode: Mode, offloads: &Offloads, batch: &[TxFrame<'_>], looks: &[Look; BATCH]) {
        // The number of a flow's last group. Groups before `floor` are closed.
        let mut slots = [NONE; SLOTS];
        let mut floor = 0;
        for (at, (frame, look)) in batch.iter().zip(looks).enumerate() {
            // There is room for all: a frame makes one piece, and one group at most.
            let _ = self.pieces.try_push(Piece::default());
            let Some(piece) = self.pieces.get_mut(at) else { continue };
            let is_piece = look.is_piece() && piece.read(offloads, frame).is_some();
            let number = self.groups.len();
            if !look.is_known() {
                floor = number + 1;
            } else if let Some(slot) = slots.get_mut(look.slot(SLOT_BITS)) {
                let known = usize::from(*slot);
                if is_piece && known >= floor && self.take(mode, batch, known, at) {
                    self.joined = true;
                    continue;
                }
                // What can't be joined itself closes the group before it all the same.
                *slot = number as u8;
            }
            if let Some(piece) = self.pieces.get(at) {
                let open = is_piece && piece.may_go_on(piece.unit);
                let _ = self.groups.try_push(Group::start(at, piece, open));
            }
        }
    }

    /// Takes frame `at` into the group `number` as its last, if a receiver can't tell.
    #[inline]
    fn take(&mut self, mode: Mode, batch: &[TxFrame<'_>], number: usize, at: usize) -> bool {
        let Some(group) = self.groups.get_mut(number).filter(|group| group.open) else { return false };
        let leader = usize::from(group.first);
        let (Some(first), Some(piece)) = (self.pieces.get(leader), self.pieces.get(at)) else { return false };
        let payload = group.payload + u32::from(piece.len);
        let segments = group.segments + u32::from(piece.segments);
        let fits = match piece.segments {
            1 => piece.len <= first.unit,
            _ => piece.unit == first.unit,
        };
        let bounded = payload + first.header_octets() <= PACKET_MAX && (first.tcp || segments <= DATAGRAMS_MAX);
        // The numbers are those that cutting would give it.
        let named = piece.atomic
            || piece.id == first.id.wrapping_add(group.segments as u16)
            || (mode == Mode::Lenient && !piece.tcp);
        let goes_on = named && (!piece.tcp || piece.sequence == first.sequence.wrapping_add(group.payload));
        let (Some(first_frame), Some(frame)) = (batch.get(leader), batch.get(at)) else { return false };
        if !(fits && bounded && goes_on && first.same_places(piece) && first.same_headers(first_frame, frame)) {
            return false;
        }
        if !group.checked {
            group.checked = true;
            group.open = first.is_valid(mode, first_frame);
        }
        if !group.open || !piece.is_valid(mode, frame) {
            return false;
        }
        group.frames |= 1 << (at % BATCH);
        group.last = at as u8;
        (group.payload, group.segments) = (payload, segments);
        group.open = piece.may_go_on(first.unit);
        true
    }

    /// Some frames leave together. Else the batch leaves as it is.
    pub fn joins(&self) -> bool {
        self.joined
    }

    /// What leaves, in order; of a batch in which nothing [`Plan::joins`] perhaps nothing.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
}

#[cfg(test)]
mod tests;
