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
//! * **Cost for traffic that can't be joined.** One look at the first octets of a frame and one into a small table.
//!   Headers are compared only when the table has a frame of that flow, and checksums are computed last.
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

/// Slots for flows; a power of two, and large against a batch, so that flows rarely share one.
const SLOTS: usize = 512;

/// No group, in a slot.
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
    /// The first frame; its headers are those of the group.
    first: Piece,
    /// Bit `i`: frame `i` belongs to it, in this order.
    frames: u64,
    /// Number of the first frame.
    first_at: u8,
    /// Number of the last frame.
    last_at: u8,
    /// Another frame may follow.
    open: bool,
    /// The first frame's checksums are known to be right.
    checked: bool,
    /// Segments so far.
    segments: u32,
    /// Payload octets so far.
    payload: u32,
}

impl Group {
    /// Frame `at` alone, and no other will follow.
    fn single(at: usize) -> Group {
        Group { open: false, ..Group::start(at, Piece::default()) }
    }

    /// Frame `at`; others may follow.
    fn start(at: usize, piece: Piece) -> Group {
        Group {
            first: piece,
            frames: 1 << (at % BATCH),
            first_at: at as u8,
            last_at: at as u8,
            open: piece.may_go_on(piece.unit),
            checked: false,
            segments: piece.segments.into(),
            payload: piece.len.into(),
        }
    }

    /// The only frame, when it is one.
    pub fn only(&self) -> Option<usize> {
        (self.first_at == self.last_at).then_some(self.first_at.into())
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

    /// Takes `frame`, number `at`, in as its last, if a receiver can't tell.
    #[inline]
    fn take(&mut self, mode: Mode, batch: &[TxFrame<'_>], at: usize, piece: &Piece) -> bool {
        let first = &self.first;
        let total = self.payload + u32::from(piece.len);
        let segments = self.segments + u32::from(piece.segments);
        let fits = match piece.segments {
            1 => piece.len <= first.unit,
            _ => piece.unit == first.unit,
        };
        let bounded = total + first.header_octets() <= PACKET_MAX && (first.tcp || segments <= DATAGRAMS_MAX);
        if !(self.open && fits && bounded && first.same_places(piece) && self.goes_on(mode, piece)) {
            return false;
        }
        let (Some(leader), Some(frame)) = (batch.get(usize::from(self.first_at)), batch.get(at)) else { return false };
        if !first.same_headers(leader, frame) {
            return false;
        }
        if !self.checked {
            self.checked = true;
            self.open = first.is_valid(mode, leader);
        }
        if !self.open || !piece.is_valid(mode, frame) {
            return false;
        }
        self.frames |= 1 << (at % BATCH);
        self.last_at = at as u8;
        (self.payload, self.segments) = (total, segments);
        self.open = piece.may_go_on(first.unit);
        true
    }

    /// The numbers of `piece` are those that cutting would give it.
    fn goes_on(&self, mode: Mode, piece: &Piece) -> bool {
        let named = piece.atomic
            || piece.id == self.first.id.wrapping_add(self.segments as u16)
            || (mode == Mode::Lenient && !piece.tcp);
        named && (!piece.tcp || piece.sequence == self.first.sequence.wrapping_add(self.payload))
    }
}

/// How a batch leaves.
pub struct Plan {
    groups: ArrayVec<Group, BATCH>,
    joined: bool,
}

impl Plan {
    /// Looks for what can be joined in a batch of at most [`BATCH`] frames to a device with `offloads`. A longer one, and
    /// one of a single frame, has nothing to be joined.
    pub fn make(mode: Mode, offloads: &Offloads, batch: &[TxFrame<'_>]) -> Plan {
        let mut plan = Plan { groups: ArrayVec::new(), joined: false };
        if mode == Mode::Off || !offloads.csum || !(2..=BATCH).contains(&batch.len()) {
            return plan;
        }
        let mut slots = [NONE; SLOTS];
        // Groups before this one are closed.
        let mut floor = 0;
        for (at, frame) in batch.iter().enumerate() {
            let group = match piece::look(mode, offloads, frame) {
                Look::Piece(piece, flow) => {
                    let Some(slot) = slots.get_mut(flow % SLOTS) else { continue };
                    let known = usize::from(*slot);
                    if known >= floor
                        && let Some(group) = plan.groups.get_mut(known)
                        && group.take(mode, batch, at, &piece)
                    {
                        plan.joined = true;
                        continue;
                    }
                    *slot = plan.groups.len() as u8;
                    Group::start(at, piece)
                }
                Look::Flow(flow) => {
                    if let Some(slot) = slots.get_mut(flow % SLOTS) {
                        *slot = NONE;
                    }
                    Group::single(at)
                }
                Look::Other => {
                    floor = plan.groups.len() + 1;
                    Group::single(at)
                }
            };
            // There is room: a frame makes one group at most.
            let _ = plan.groups.try_push(group);
        }
        plan
    }

    /// Some frames leave together. Else the batch leaves as it is.
    pub fn joins(&self) -> bool {
        self.joined
    }

    /// What leaves, in order.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
}

#[cfg(test)]
mod tests;
