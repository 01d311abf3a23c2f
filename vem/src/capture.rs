//! Captures of ports, for the supervisor: begun, read and ended by its questions.
//!
//! The dataplane's taps are in [`vswitch::observe::capture`]; here are the captures that run, and the wall clock. At most
//! [`CAPTURES_MAX`] at a time, one of a port, each with [`RING`] octets of frames that wait to be read; one that nobody reads
//! for [`SILENCE_S`] seconds ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::capture::{CAPTURES_MAX, Captured, Frame, Insn, READ_MAX, SILENCE_S, Wanted};
use vswitch::control::Control;
use vswitch::observe::bpf::{self, Program};
use vswitch::observe::capture::{self, Capture, Sighting};
use vswitch::port::PortId;

use crate::header;

/// Octets of the rings of a capture.
const RING: usize = 4 << 20;

/// Why there is no capture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are enough.
    #[error("this host runs {CAPTURES_MAX} captures already")]
    Full,
    /// The filter can't be run.
    #[error(transparent)]
    Filter(#[from] bpf::Error),
    /// The port, or the dataplane.
    #[error("{0}")]
    Control(#[from] vswitch::control::Error),
    /// There is none of that number any more.
    #[error("the capture has ended")]
    Unknown,
}

struct Running {
    capture: Capture,
    read: Instant,
}

/// The captures that run.
pub struct Captures {
    running: BTreeMap<u64, Running>,
    last: u64,
    /// When the workers' clock began.
    epoch: Instant,
}

impl Captures {
    /// None yet; the workers' clock began at `epoch`.
    pub fn new(epoch: Instant) -> Captures {
        Captures { running: BTreeMap::new(), last: 0, epoch }
    }

    /// Begins a capture of a port.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn begin(&mut self, control: &Control, port: PortId, wanted: &Wanted, now: Instant) -> Result<Captured, Error> {
        self.expire(control, now);
        if self.running.len() >= CAPTURES_MAX {
            return Err(Error::Full);
        }
        let insn = |i: &Insn| bpf::Insn { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
        let insns: Vec<bpf::Insn> = wanted.filter.iter().map(insn).collect();
        let filter = if insns.is_empty() { None } else { Some(Program::new(&insns)?) };
        let snap = usize::try_from(wanted.snap).unwrap_or(usize::MAX);
        let capture = control.capture(port, capture::Wanted { filter, snap, ring: RING })?;
        self.last += 1;
        self.running.insert(self.last, Running { capture, read: now });
        Ok(Captured { id: self.last, frames: Vec::new(), seen: 0, lost: 0, ended: None })
    }

    /// What was seen since.
    ///
    /// # Errors
    /// The capture has ended.
    pub fn read(&mut self, id: u64, now: Instant) -> Result<Captured, Error> {
        let begin_ns = {
            let since = now.saturating_duration_since(self.epoch);
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(wall.saturating_sub(since).as_nanos()).unwrap_or(u64::MAX)
        };
        let running = self.running.get_mut(&id).ok_or(Error::Unknown)?;
        running.read = now;
        let frame = |seen: Sighting| Frame {
            at_ns: begin_ns.saturating_add(seen.at.ns()),
            received: seen.received,
            length: seen.length,
            headers: header::describe(seen.octets.get(..96).unwrap_or(&seen.octets)),
            octets: seen.octets,
        };
        let frames: Vec<Frame> = running.capture.take(READ_MAX).into_iter().map(frame).collect();
        let (seen, lost) = running.capture.counts();
        let ended = running.capture.is_over().then(|| "the port has lost its device".to_owned());
        Ok(Captured { id, frames, seen, lost, ended })
    }

    /// Ends a capture; one that has ended is no error.
    ///
    /// # Errors
    /// The dataplane does not answer.
    pub fn end(&mut self, control: &Control, id: u64) -> Result<(), Error> {
        match self.running.remove(&id) {
            Some(running) => Ok(control.end_capture(running.capture.port)?),
            None => Ok(()),
        }
    }

    /// Ends those that nobody reads any more.
    pub fn expire(&mut self, control: &Control, now: Instant) {
        let silent = |running: &Running| now.saturating_duration_since(running.read) >= Duration::from_secs(SILENCE_S);
        let over: Vec<u64> = self.running.iter().filter(|(_, running)| silent(running)).map(|(id, _)| *id).collect();
        for id in over {
            tracing::info!(id, "a capture that nobody reads has ended");
            if let Err(error) = self.end(control, id) {
                tracing::warn!(id, %error, "capture");
            }
        }
    }
}
