//! Ports without a kernel, for tests and benches.
//!
//! - [`pair`]: a port and the other end of its cable. Frames cross in slots that are handed to and fro, so that the port's
//!   side allocates nothing once every slot has grown to the frames in use. The port is gone when its other end is dropped
//!   and everything sent has been received. Both ends may live on different threads.
//!   For further workers there are handles that send only, each by a direction of its own.
//! - [`Generator`]: a port that receives a list of frames over and over.
//! - [`Synthesizer`]: a port that receives frames of as many flows as asked for, made as they are received.
//! - [`Sink`]: a port that counts what it is given.
//!
//! None of them wakes anybody: they are polled.

mod synthesizer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rtrb::{Consumer, Producer, RingBuffer};
pub use synthesizer::Synthesizer;

use super::{Error, Offloads, Port, Sent};
use crate::frame::vnet::VnetHdr;
use crate::frame::{Buffer, TxFrame};

/// Octets that a slot has from the start.
const SLOT_OCTETS: usize = 2048;

/// A frame on its way, or room for one.
struct Slot {
    octets: Vec<u8>,
    vnet: VnetHdr,
    /// When it was sent, where several send.
    serial: u64,
}

/// The sending end of one direction: full slots go, empty ones come back.
struct Outward {
    full: Producer<Slot>,
    empty: Consumer<Slot>,
}

/// The receiving end of one direction.
struct Inward {
    full: Consumer<Slot>,
    empty: Producer<Slot>,
}

/// One direction of a cable, for `capacity` frames in flight.
fn direction(capacity: usize) -> (Outward, Inward) {
    let (full_in, full_out) = RingBuffer::new(capacity);
    let (mut empty_in, empty_out) = RingBuffer::new(capacity);
    for _ in 0..capacity {
        let slot = Slot { octets: Vec::with_capacity(SLOT_OCTETS), vnet: VnetHdr::PLAIN, serial: 0 };
        // There is room for all of them: the ring was made for so many.
        let _ = empty_in.push(slot);
    }
    (Outward { full: full_in, empty: empty_out }, Inward { full: full_out, empty: empty_in })
}

impl Outward {
    /// Sends a frame made of two parts; false when every slot is in flight.
    fn send(&mut self, head: &[u8], rest: &[u8], vnet: VnetHdr, serial: u64) -> bool {
        let Ok(mut slot) = self.empty.pop() else { return false };
        slot.octets.clear();
        slot.octets.extend_from_slice(head);
        slot.octets.extend_from_slice(rest);
        (slot.vnet, slot.serial) = (vnet, serial);
        self.full.push(slot).is_ok()
    }
}

impl Inward {
    /// Shows the next frame to `take`.
    fn receive<T>(&mut self, take: impl FnOnce(&Slot) -> T) -> Option<T> {
        let slot = self.full.pop().ok()?;
        let taken = take(&slot);
        // There is room for it: it came out of this ring.
        let _ = self.empty.push(slot);
        Some(taken)
    }
}

/// The port; see [`pair`].
pub struct Memory {
    outward: Outward,
    /// `None`: a handle that sends only.
    inward: Option<Inward>,
    offloads: Offloads,
    capacity: usize,
    /// Others send as well.
    shared: bool,
    late: Arc<Late>,
}

/// Directions that were added for further workers and that the other end has not taken yet.
#[derive(Default)]
struct Late {
    waiting: AtomicU64,
    /// Of the next batch that somebody sends.
    serial: AtomicU64,
    inwards: Mutex<Vec<Inward>>,
}

/// The other end of the port's cable; see [`pair`].
pub struct MemoryEnd {
    outward: Outward,
    /// One of each worker that sends.
    inwards: Vec<Inward>,
    late: Arc<Late>,
}

/// A port that takes `offloads`, with room for `capacity` frames each way, and the other end of its cable.
pub fn pair(capacity: usize, offloads: Offloads) -> (Memory, MemoryEnd) {
    let (port_out, end_in) = direction(capacity);
    let (end_out, port_in) = direction(capacity);
    let late = Arc::new(Late::default());
    let end = MemoryEnd { outward: end_out, inwards: vec![end_in], late: Arc::clone(&late) };
    (Memory { outward: port_out, inward: Some(port_in), offloads, capacity, shared: false, late }, end)
}

impl MemoryEnd {
    /// Sends a frame to the port; false when it has no room.
    pub fn send(&mut self, frame: &[u8], vnet: VnetHdr) -> bool {
        self.outward.send(&[], frame, vnet, 0)
    }

    /// The next frame that the port has sent.
    pub fn recv(&mut self) -> Option<(Vec<u8>, VnetHdr)> {
        self.recv_with(|frame, vnet| (frame.to_vec(), vnet))
    }

    /// The next frame that the port has sent, without a copy of it.
    pub fn recv_with<T>(&mut self, take: impl FnOnce(&[u8], VnetHdr) -> T) -> Option<T> {
        if self.late.waiting.load(Ordering::Acquire) > 0 {
            let mut late = self.late.inwards.lock().unwrap_or_else(PoisonError::into_inner);
            self.late.waiting.store(0, Ordering::Release);
            self.inwards.append(&mut late);
        }
        let serial = |inward: &Inward| inward.full.peek().map(|slot| slot.serial).ok();
        let first = |inwards: &[Inward]| {
            let waiting = inwards.iter().enumerate().filter_map(|(at, inward)| Some((serial(inward)?, at)));
            waiting.min()
        };
        // An earlier frame may have come to a ring that was looked at before this one was found: look again.
        let mut found = first(&self.inwards)?;
        while let Some(again) = first(&self.inwards).filter(|again| *again < found) {
            found = again;
        }
        let next = self.inwards.get_mut(found.1)?;
        next.receive(|slot| take(&slot.octets, slot.vnet))
    }
}

impl Port for Memory {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, Error> {
        let mut filled = 0;
        // Asked before the ring is emptied, so that what was sent last is not lost.
        let Some(inward) = &mut self.inward else { return Ok(0) };
        let abandoned = inward.full.is_abandoned();
        for buffer in buffers {
            if inward.receive(|slot| fill(buffer, &slot.octets, slot.vnet)).is_none() {
                break;
            }
            filled += 1;
        }
        if filled == 0 && abandoned { Err(Error::Gone) } else { Ok(filled) }
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        let mut sent = Sent::default();
        let serial = if self.shared { self.late.serial.fetch_add(1, Ordering::AcqRel) } else { 0 };
        for frame in frames {
            if !self.offloads.cover(&frame.vnet) {
                sent.refuse();
            } else if self.outward.send(frame.head, frame.rest, frame.vnet, serial) {
                sent.accepted += 1;
            } else {
                break;
            }
        }
        sent
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn receives(&self) -> bool {
        self.inward.is_some()
    }

    fn sender(&mut self) -> Result<Box<dyn Port>, Error> {
        let what = || Error::Device { device: "memory".to_owned(), what: "has no further handle".to_owned() };
        self.handles(1)?.pop().ok_or_else(what)
    }

    fn handles(&mut self, count: usize) -> Result<Vec<Box<dyn Port>>, Error> {
        let handle = |_| -> Box<dyn Port> {
            let (outward, end_in) = direction(self.capacity);
            self.late.inwards.lock().unwrap_or_else(PoisonError::into_inner).push(end_in);
            self.late.waiting.fetch_add(1, Ordering::Release);
            let late = Arc::clone(&self.late);
            let (offloads, capacity) = (self.offloads, self.capacity);
            Box::new(Memory { outward, inward: None, offloads, capacity, shared: true, late })
        };
        self.shared |= count > 0;
        Ok((0..count).map(handle).collect())
    }
}

/// Copies a frame into a buffer; one that is too long is cut, which the contract writes as length 0.
fn fill(buffer: &mut Buffer, frame: &[u8], vnet: VnetHdr) {
    if frame.len() > crate::frame::FRAME_MAX {
        buffer.fill(&[], vnet);
    } else {
        buffer.fill(frame, vnet);
    }
}

/// A port that receives a list of frames over and over, as fast as it is asked, and drops what it is given.
pub struct Generator {
    frames: Vec<(Vec<u8>, VnetHdr)>,
    next: usize,
}

impl Generator {
    /// A generator of these frames, in this order; it receives nothing if there are none.
    pub fn new(frames: Vec<(Vec<u8>, VnetHdr)>) -> Self {
        Generator { frames, next: 0 }
    }
}

impl Port for Generator {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, Error> {
        let mut filled = 0;
        for buffer in buffers {
            let Some((frame, vnet)) = self.frames.get(self.next) else { break };
            fill(buffer, frame, *vnet);
            filled += 1;
            self.next = if self.next + 1 < self.frames.len() { self.next + 1 } else { 0 };
        }
        Ok(filled)
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        Sent { accepted: frames.len(), ..Sent::default() }
    }

    fn offloads(&self) -> Offloads {
        Offloads::ALL
    }
}

/// A port that receives nothing, and takes and counts everything.
pub struct Sink {
    offloads: Offloads,
    total: Arc<SinkTotal>,
}

/// What a [`Sink`] was given.
#[derive(Default, Debug)]
pub struct SinkTotal {
    frames: AtomicU64,
    octets: AtomicU64,
}

impl SinkTotal {
    /// Frames; a super-frame counts as one.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Octets of them.
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }
}

impl Sink {
    /// A sink that takes `offloads`, and its count.
    pub fn new(offloads: Offloads) -> (Self, Arc<SinkTotal>) {
        let total = Arc::new(SinkTotal::default());
        (Sink { offloads, total: Arc::clone(&total) }, total)
    }
}

impl Port for Sink {
    fn rx(&mut self, _: &mut [Buffer]) -> Result<usize, Error> {
        Ok(0)
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        let mut sent = Sent::default();
        let mut octets = 0;
        for frame in frames {
            if self.offloads.cover(&frame.vnet) {
                sent.accepted += 1;
                octets += frame.len() as u64;
            } else {
                sent.refuse();
            }
        }
        self.total.frames.fetch_add(sent.accepted as u64, Ordering::Relaxed);
        self.total.octets.fetch_add(octets, Ordering::Relaxed);
        sent
    }

    fn sender(&mut self) -> Result<Box<dyn Port>, Error> {
        Ok(Box::new(Sink { offloads: self.offloads, total: Arc::clone(&self.total) }))
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FRAME_MAX;
    use crate::frame::vnet::{GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM};

    const CSUM: VnetHdr = VnetHdr { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..VnetHdr::PLAIN };

    fn buffers(count: usize) -> Vec<Buffer> {
        (0..count).map(Buffer::new).collect()
    }

    #[test]
    fn frames_cross_whole_and_in_order() {
        let (mut port, mut end) = pair(4, Offloads::ALL);
        let long = vec![7; FRAME_MAX];
        assert!(end.send(b"one", CSUM) && end.send(&long, VnetHdr::PLAIN));
        let mut taken = buffers(8);
        assert_eq!(port.rx(&mut taken).unwrap(), 2);
        assert_eq!((taken[0].frame(), taken[0].vnet), (&b"one"[..], CSUM));
        assert_eq!((taken[1].frame(), taken[1].vnet), (&long[..], VnetHdr::PLAIN));
        assert_eq!(port.rx(&mut taken).unwrap(), 0);
        let frames = [
            TxFrame { head: b"he", rest: b"ad", vnet: CSUM, copy: false },
            TxFrame { head: b"", rest: &long, vnet: CSUM, copy: false },
        ];
        assert_eq!(port.tx(&frames), Sent { accepted: 2, refused: 0, refused_set: 0 });
        assert_eq!(end.recv(), Some((b"head".to_vec(), CSUM)));
        assert_eq!(end.recv_with(|frame, _| frame.len()), Some(FRAME_MAX));
        assert_eq!(end.recv(), None);
    }

    #[test]
    fn a_full_cable_takes_no_more_until_the_other_end_has_taken() {
        let (mut port, mut end) = pair(2, Offloads::NONE);
        let frame = TxFrame { head: b"", rest: b"x", vnet: VnetHdr::PLAIN, copy: false };
        assert_eq!(port.tx(&[frame; 5]), Sent { accepted: 2, ..Sent::default() });
        assert_eq!(port.tx(&[frame; 5]), Sent::default());
        assert!(end.recv().is_some());
        assert_eq!(port.tx(&[frame; 5]).accepted, 1);
        assert!(end.send(b"a", VnetHdr::PLAIN) && end.send(b"b", VnetHdr::PLAIN) && !end.send(b"c", VnetHdr::PLAIN));
        let mut one = buffers(1);
        for expected in [b"a", b"b"] {
            assert_eq!(port.rx(&mut one).unwrap(), 1);
            assert_eq!(one[0].frame(), expected);
        }
        assert_eq!(port.rx(&mut one).unwrap(), 0);
    }

    #[test]
    fn what_the_port_has_no_offload_for_is_refused_and_the_rest_goes() {
        let gso = VnetHdr { gso_type: GSO_TCPV4, gso_size: 1448, ..CSUM };
        let uso = VnetHdr { gso_type: GSO_UDP_L4, ..gso };
        let frames = [VnetHdr::PLAIN, CSUM, gso, uso, VnetHdr::PLAIN].map(|vnet| TxFrame {
            head: b"",
            rest: b"x",
            vnet,
            copy: false,
        });
        for (offloads, set) in [
            (Offloads::NONE, 0b01110),
            (Offloads { csum: true, ..Offloads::NONE }, 0b01100),
            (Offloads { uso: false, ..Offloads::ALL }, 0b01000),
            (Offloads::ALL, 0),
        ] {
            let (mut port, _end) = pair(8, offloads);
            let refused = u64::count_ones(set) as usize;
            let expected = Sent { accepted: 5 - refused, refused, refused_set: set };
            assert_eq!(port.tx(&frames), expected, "{offloads:?}");
            let (mut sink, total) = Sink::new(offloads);
            assert_eq!(sink.tx(&frames), expected, "{offloads:?}");
            assert_eq!((total.frames(), total.octets()), (expected.accepted as u64, expected.accepted as u64));
        }
    }

    #[test]
    fn the_port_is_gone_with_its_other_end_but_not_before_it_was_emptied() {
        let (mut port, mut end) = pair(2, Offloads::NONE);
        let mut taken = buffers(1);
        assert!(end.send(b"last", VnetHdr::PLAIN));
        drop(end);
        assert_eq!(port.rx(&mut taken).unwrap(), 1);
        assert!(matches!(port.rx(&mut taken), Err(Error::Gone)));
        assert!(matches!(port.rx(&mut taken), Err(Error::Gone)));
    }

    #[test]
    fn an_oversize_frame_arrives_with_length_0() {
        let (mut port, mut end) = pair(1, Offloads::NONE);
        assert!(end.send(&vec![1; FRAME_MAX + 1], VnetHdr::PLAIN));
        let mut taken = buffers(1);
        assert_eq!(port.rx(&mut taken).unwrap(), 1);
        assert!(taken[0].frame().is_empty());
    }

    #[test]
    fn a_generator_repeats_its_list() {
        let mut generator = Generator::new(vec![(b"a".to_vec(), CSUM), (b"b".to_vec(), VnetHdr::PLAIN)]);
        let mut taken = buffers(5);
        assert_eq!(generator.rx(&mut taken).unwrap(), 5);
        let got: Vec<u8> = taken.iter().flat_map(|buffer| buffer.frame().to_vec()).collect();
        assert_eq!(got, b"ababa");
        assert_eq!(generator.rx(&mut taken[..1]).unwrap(), 1);
        assert_eq!(taken[0].frame(), b"b");
        assert_eq!(Generator::new(Vec::new()).rx(&mut taken).unwrap(), 0);
    }
}
