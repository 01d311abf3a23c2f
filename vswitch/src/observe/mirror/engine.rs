//! The mirror: takes frames out of the workers' rings and makes each session's copies of them.
//!
//! [`Mirror::turn`] does a bounded part of what there is and never blocks but in its destinations' `tx`, which don't block
//! either; it is all there is to drive the mirror in tests and benches. [`Mirror::run`] is the thread.
//!
//! **Which configuration.** A frame is copied as the snapshot says that it was switched by (`known`).
//!
//! Order: of one worker as written; of several by the number of their batches. A batch is written before its frames leave.
//! So when the mirror has seen a batch, whatever made the sender send it is in the rings already: it looks at all of them
//! again before it takes one.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use arrayvec::ArrayVec;
use proto::vlan::PortMode;

use super::super::capture::Tap;
use super::CopyLoss;
use super::copy::{Frame, Room, tagged};
use super::inlet::Inlet;
use super::known::Known;
use super::outs::{Gathering, Outs};
use super::received::Gate;
use super::remote::{Far, Remote};
use super::ring::{Reader, Run, Seen};
use crate::account::counters::{Counters, SessionCells};
use crate::config::SESSION_ID_MAX;
use crate::control::Shared;
use crate::egress::vlan::Rewrite;
use crate::frame::FRAME_MAX;
use crate::frame::vnet::VnetHdr;
use crate::observe::bpf::Program;
use crate::observe::erspan::{HEADERS_MAX, Sighting};
use crate::port::{Port, PortId};
use crate::snapshot::{PortPolicy, Session, Snapshot};

/// Frames that a turn takes out of the rings.
const FRAMES_PER_TURN: usize = 256;

/// What the mirror is asked.
pub(crate) enum Ask {
    /// Say when nothing is left that was switched by a snapshot before this one.
    Adopt { snapshot: Arc<Snapshot>, reply: SyncSender<()> },
    /// Take a device to send copies to; the one before comes back.
    Attach { id: PortId, port: Box<dyn Port>, reply: SyncSender<Option<Box<dyn Port>>> },
    /// Give it back.
    Detach { id: PortId, reply: SyncSender<Option<Box<dyn Port>>> },
    /// Take what sends to other hosts.
    Remote { socket: Box<dyn Remote>, reply: SyncSender<()> },
    /// Take what brings copies of other hosts, or give it back; the one before comes back.
    Inlet { inlet: Option<Box<dyn Inlet>>, reply: SyncSender<Option<Box<dyn Inlet>>> },
    /// Have a tap look on at what is sent to a port; the one before comes back.
    Tap { id: PortId, tap: Box<Tap>, reply: SyncSender<Option<Box<Tap>>> },
    /// Give it back.
    Untap { id: PortId, reply: SyncSender<Option<Box<Tap>>> },
}

/// The mirror; see the module.
pub struct Mirror {
    asked: Receiver<Ask>,
    readers: Vec<Reader>,
    /// Who waits until each ring was read that far.
    adopting: Vec<(SyncSender<()>, Vec<u64>)>,
    copier: Copier,
    gate: Gate,
}

/// What makes copies.
struct Copier {
    shared: Arc<Shared>,
    known: Known,
    work: Work,
}

/// What it makes them with.
struct Work {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    outs: Outs,
    far: Far,
    room: Room,
    /// By the number of a session: of its next copy to other hosts, and how many copies it had lost in the workers by then.
    sequences: Vec<(u32, u64)>,
    /// By the number of a session: frames that its program has singled out since one was copied.
    passed: Vec<u32>,
    /// When the workers' clock was zero, since 1970.
    epoch: Duration,
}

impl Mirror {
    pub(crate) fn new(shared: Arc<Shared>, readers: Vec<Reader>, asked: Receiver<Ask>) -> Self {
        let counters = Arc::clone(&shared.mirror.counters);
        let room = Room { whole: Vec::with_capacity(FRAME_MAX + 8), scratch: Vec::with_capacity(FRAME_MAX + 8) };
        let ids = usize::from(SESSION_ID_MAX) + 1;
        let work = Work {
            shared: Arc::clone(&shared),
            counters,
            outs: Outs::new(),
            far: Far::new(),
            room,
            sequences: vec![(0, 0); ids],
            passed: vec![0; ids],
            epoch: Duration::ZERO,
        };
        let copier = Copier { known: Known::new(Arc::clone(&shared)), shared, work };
        Mirror { asked, readers, adopting: Vec::new(), copier, gate: Gate::new() }
    }

    /// One turn: questions, then frames, then copies of other hosts. Returns how many it took.
    pub fn turn(&mut self) -> usize {
        self.copier.adopt();
        while let Ok(ask) = self.asked.try_recv() {
            self.answer(ask);
        }
        let mut done = 0;
        let counters = Arc::clone(&self.copier.work.counters);
        while done < FRAMES_PER_TURN
            && let Some((serial, ring)) = self.next()
            && let Some(reader) = self.readers.get_mut(ring)
        {
            let copier = &mut self.copier;
            done += reader.drain(serial, FRAMES_PER_TURN - done, &mut |run| copier.copy(&counters, run));
        }
        let Copier { known, work, shared } = &mut self.copier;
        done += self.gate.turn(&known.now, &mut work.outs, &counters, &shared.mirror.turned);
        self.copier.work.outs.flush_all(&counters);
        if self.copier.work.outs.has_changed() {
            self.copier.tell_stalled();
        }
        self.copier.work.far.flush(&counters);
        self.adopted();
        done
    }

    /// Takes a device to send copies to, as [`crate::control::Control`] does; for whoever drives the mirror in their own
    /// thread. The device before comes back.
    pub fn attach(&mut self, id: PortId, port: Box<dyn Port>) -> Option<Box<dyn Port>> {
        self.copier.work.outs.attach(id, port)
    }

    /// Gives the device of a destination back.
    pub fn detach(&mut self, id: PortId) -> Option<Box<dyn Port>> {
        self.copier.work.outs.detach(id)
    }

    /// Sends to other hosts by `socket`.
    pub fn set_remote(&mut self, socket: Box<dyn Remote>) {
        self.copier.work.far.socket = Some(socket);
    }

    /// Takes copies of other hosts by `inlet`, or none any more. What was there comes back.
    pub fn set_inlet(&mut self, inlet: Option<Box<dyn Inlet>>) -> Option<Box<dyn Inlet>> {
        self.gate.set(inlet)
    }

    /// What becomes readable when another host has sent something.
    pub(super) fn readable(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.gate.inlet.as_ref().map_or([None; 2], |inlet| inlet.readable())
    }

    /// The workers' clock was zero at `epoch` since 1970: what the headers of ERSPAN say of time.
    pub fn set_epoch(&mut self, epoch: Duration) {
        self.copier.work.epoch = epoch;
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.copier.shared
    }

    /// Nothing waits in a ring.
    pub(super) fn is_idle(&mut self) -> bool {
        self.readers.iter_mut().all(|reader| reader.peek().is_none())
    }

    fn answer(&mut self, ask: Ask) {
        // A reply that nobody waits for any more is no error.
        match ask {
            Ask::Adopt { snapshot, reply } => {
                self.copier.adopt();
                self.copier.known.keep(snapshot);
                self.adopting.push((reply, self.readers.iter().map(Reader::written).collect()));
            }
            Ask::Attach { id, port, reply } => {
                let _ = reply.send(self.attach(id, port));
            }
            Ask::Detach { id, reply } => {
                let _ = reply.send(self.detach(id));
            }
            Ask::Remote { socket, reply } => {
                self.set_remote(socket);
                let _ = reply.send(());
            }
            Ask::Inlet { inlet, reply } => {
                let _ = reply.send(self.set_inlet(inlet));
            }
            Ask::Tap { id, tap, reply } => {
                let before = self.copier.work.outs.untap(id);
                self.copier.work.outs.tap(id, tap);
                let _ = reply.send(before);
            }
            Ask::Untap { id, reply } => {
                let _ = reply.send(self.copier.work.outs.untap(id));
            }
        }
    }

    /// Tells those who waited for what has been read by now.
    fn adopted(&mut self) {
        if self.adopting.is_empty() {
            return;
        }
        let readers = &self.readers;
        self.adopting.retain(|(reply, written)| {
            let waits = readers.iter().zip(written).any(|(reader, written)| reader.read() < *written);
            if !waits {
                let _ = reply.send(());
            }
            waits
        });
        if self.adopting.is_empty() {
            self.copier.known.forget();
        }
    }

    /// The ring whose turn it is, and the batch that is there.
    fn next(&mut self) -> Option<(u64, usize)> {
        let first = |readers: &mut [Reader]| {
            let waiting = readers.iter_mut().enumerate().filter_map(|(ring, reader)| Some((reader.peek()?, ring)));
            waiting.min()
        };
        let mut found = first(&mut self.readers)?;
        // An earlier batch may have come to a ring that was looked at before this one was found: look again.
        while self.readers.len() > 1
            && let Some(again) = first(&mut self.readers).filter(|again| *again < found)
        {
            found = again;
        }
        Some(found)
    }
}

impl Copier {
    /// Takes over a snapshot that was published.
    fn adopt(&mut self) {
        if self.known.adopt() {
            self.tell_stalled();
        }
    }

    /// Tells the workers which sessions have no destination that takes anything. Of one with a program they don't know which
    /// frames are its own.
    fn tell_stalled(&self) {
        let (outs, snapshot) = (&self.work.outs, &self.known.now);
        let takes = |id: &PortId| !outs.is_stalled(*id) || snapshot.port(*id).is_none_or(|to| !to.config.up);
        let is_stalled = |session: &Session| {
            let near = session.remotes.is_empty() && !session.destinations.is_empty();
            near && session.bpf.is_none() && !session.destinations.iter().any(takes)
        };
        let of = |id: u16| snapshot.sessions.iter().any(|session| session.id == id && is_stalled(session));
        self.shared.mirror.stalled.tell(of);
    }

    /// Makes the copies of a run.
    fn copy(&mut self, counters: &Counters, run: &Run<'_>) {
        let head = run.head;
        if head.sequence != self.known.now.sequence() {
            self.adopt();
        }
        let Some(snapshot) = self.known.of(head.sequence) else { return self.lose(counters, run) };
        self.work.outs.now = head.at_ns;
        let mut rest = head.sessions;
        while rest != 0 {
            let session = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            if let Some(session) = snapshot.sessions.get(session)
                && let Some(cells) = counters.session(session.id)
            {
                self.work.copy(counters, snapshot, session, run, cells);
            }
        }
    }

    /// Counts the copies of a run as lost that waited for so long that nobody knows its snapshot: under the sessions that
    /// have the places now which it was for.
    #[cold]
    fn lose(&self, counters: &Counters, run: &Run<'_>) {
        let wants = |index: &usize| run.head.sessions >> index & 1 == 1;
        let segments = run.frames.len() as u64 * u64::from(run.head.segments);
        let sessions = self.known.now.sessions.iter().enumerate().filter(|(index, _)| wants(index));
        for (_, session) in sessions {
            if let Some(cells) = counters.session(session.id) {
                cells.matched.add(segments);
                cells.lose(CopyLoss::MirrorBusy, segments * session.copies() as u64);
            }
        }
    }
}

impl Work {
    /// The copies of one session.
    fn copy(
        &mut self,
        counters: &Counters,
        snapshot: &Snapshot,
        session: &Session,
        run: &Run<'_>,
        cells: &SessionCells,
    ) {
        let singled;
        let run = match &session.bpf {
            None => run,
            Some(program) => {
                singled = self.single_out(session, program, run);
                &singled
            }
        };
        if run.frames.is_empty() {
            return;
        }
        let frames = run.frames.len() as u64;
        cells.matched.add(frames * u64::from(run.head.segments));
        if run.head.vnet().is_gso() {
            cells.segmented.add(frames);
        }
        for id in &session.destinations {
            let to = snapshot.port(*id).filter(|to| to.config.up);
            match to.and_then(|to| Some((to, self.outs.gather(counters, *id, session.id)?))) {
                Some((to, mut out)) => send_near(&mut self.room, run, session, to, cells, &mut out),
                None => cells.lose(CopyLoss::DestinationDown, frames * u64::from(run.head.segments)),
            }
        }
        if !session.remotes.is_empty() {
            self.send_far(counters, run, session, snapshot, cells);
        }
    }

    /// The frames that the session's program matches, as often as it is the turn of such a frame to be copied.
    fn single_out<'a>(&mut self, session: &Session, program: &Program, run: &Run<'a>) -> Run<'a> {
        let mut singled = Run { head: run.head, frames: ArrayVec::new() };
        let Some(passed) = self.passed.get_mut(usize::from(session.id)) else { return singled };
        let matches = |seen: &&Seen<'_>| {
            let front = Frame::of(run, seen).bare().head(seen.octets);
            let view = front.with(seen.octets, VnetHdr::PLAIN);
            program.matches(view.head, view.rest)
        };
        for seen in run.frames.iter().filter(matches) {
            *passed += 1;
            if *passed >= session.sampling {
                *passed = 0;
                singled.frames.push(*seen);
            }
        }
        singled
    }

    /// Its copies for other hosts.
    fn send_far(
        &mut self,
        counters: &Counters,
        run: &Run<'_>,
        session: &Session,
        snapshot: &Snapshot,
        cells: &SessionCells,
    ) {
        let Some((sequence, lost)) = self.sequences.get_mut(usize::from(session.id)) else { return };
        // What never came here leaves a gap, so that whoever counts knows.
        let seats = self.shared.seats.iter().filter_map(|seat| seat.counters.session(session.id));
        let busy = seats.map(SessionCells::lost_in_ring).fold(0, u64::wrapping_add);
        *sequence = sequence.wrapping_add((busy.wrapping_sub(*lost) / session.copies() as u64) as u32);
        *lost = busy;
        for frame in run.frames.iter().map(|seen| Frame::of(run, seen)) {
            let begin = *sequence;
            for remote in &session.remotes {
                let (rewrite, sighting) = frame.told(remote, snapshot, self.epoch);
                let (far, to) = (&mut self.far, remote.encapsulation.destination);
                *sequence = begin;
                self.room.copies(&frame, rewrite, session.truncate, cells, &mut |[front, rest], truncated| {
                    let (mut headers, copy) = ([0; HEADERS_MAX], Sighting { truncated, ..sighting });
                    let octets = front.len() + rest.len();
                    let length = remote.encapsulation.write(&copy, *sequence, octets, &mut headers);
                    far.push(counters, session.id, to, [headers.get(..length).unwrap_or_default(), front, rest]);
                    *sequence = sequence.wrapping_add(1);
                });
            }
        }
    }
}

/// The copies of a run for the destination `to`.
fn send_near(
    room: &mut Room,
    run: &Run<'_>,
    session: &Session,
    to: &PortPolicy,
    cells: &SessionCells,
    out: &mut Gathering<'_>,
) {
    let vlan = run.head.vlan().filter(|_| matches!(to.config.mode, PortMode::Trunk { .. }));
    for frame in run.frames.iter().map(|seen| Frame::of(run, seen)) {
        let rewrite = vlan.map_or_else(|| frame.bare(), |vlan| tagged(vlan, frame.octets));
        if rewrite == Rewrite::Keep && frame.vnet.asks_nothing() && frame.length <= session.truncate {
            out.push([&[], frame.octets]);
        } else {
            room.copies(&frame, rewrite, session.truncate, cells, &mut |parts, _| out.push(parts));
        }
    }
}
