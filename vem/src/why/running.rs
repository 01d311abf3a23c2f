//! The watch that runs, for the supervisor: begun, read and ended by its questions.
//!
//! One at a time on a host: frames that are told of take the slower way. It ends when it has told of as many as were asked
//! for, at its time, when nobody reads it for [`SILENCE_S`] seconds, and when somebody ends all. Its reason is kept for who
//! reads it next.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::capture::Insn;
use proto::passage::{FRAMES_MAX, SILENCE_S, Told, WatchRow, Watched};
use vswitch::control::Control;
use vswitch::observe::bpf::{self, Program};
use vswitch::observe::passage::{WatchWanted, Watching};
use vswitch::port::PortId;
use vswitch::snapshot::Snapshot;

use super::Teller;
use crate::apply::Plan;

/// Longest watch.
const LONGEST_S: u32 = 3600;

/// Why there is no watch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is one.
    #[error("packets are being debugged already: {0}")]
    Busy(String),
    /// The filter can't be run.
    #[error(transparent)]
    Filter(#[from] bpf::Error),
    /// The dataplane.
    #[error("{0}")]
    Control(#[from] vswitch::control::Error),
    /// There is none of that number any more.
    #[error("the debugging has ended")]
    Unknown,
}

struct One {
    id: u64,
    what: String,
    watching: Watching,
    until: Instant,
    read: Instant,
    ended: Option<String>,
}

/// What runs.
pub struct Running {
    one: Option<One>,
    last: u64,
    /// When the workers' clock began.
    epoch: Instant,
}

impl Running {
    /// Nothing yet; the workers' clock began at `epoch`.
    pub fn new(epoch: Instant) -> Running {
        Running { one: None, last: 0, epoch }
    }

    /// Begins to tell of frames from `port`, or from all.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn begin(
        &mut self,
        control: &Control,
        port: Option<PortId>,
        wanted: &Watched,
        now: Instant,
    ) -> Result<Told, Error> {
        self.expire(control, now);
        if let Some(one) = self.one.as_ref().filter(|one| one.ended.is_none()) {
            return Err(Error::Busy(one.what.clone()));
        }
        let insn = |i: &Insn| bpf::Insn { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
        let insns: Vec<bpf::Insn> = wanted.filter.iter().map(insn).collect();
        let filter = if insns.is_empty() { None } else { Some(Program::new(&insns)?) };
        let count = wanted.count.clamp(1, FRAMES_MAX);
        let watching = control.watch(WatchWanted { port, filter, count })?;
        self.last += 1;
        let until = now + Duration::from_secs(wanted.seconds.clamp(1, LONGEST_S).into());
        let what = wanted.what.chars().filter(|c| !c.is_control()).take(300).collect();
        self.one = Some(One { id: self.last, what, watching, until, read: now, ended: None });
        Ok(Told { id: self.last, passages: Vec::new(), matched: 0, untold: 0, ended: None })
    }

    /// What was told since, in the words of `plan`.
    ///
    /// # Errors
    /// There is no such watch any more.
    pub fn read(
        &mut self,
        control: &Control,
        (plan, snapshot): (&Plan, &Snapshot),
        id: u64,
        now: Instant,
    ) -> Result<Told, Error> {
        self.expire(control, now);
        let begin_ns = {
            let since = now.saturating_duration_since(self.epoch);
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(wall.saturating_sub(since).as_nanos()).unwrap_or(u64::MAX)
        };
        let one = self.one.as_mut().filter(|one| one.id == id).ok_or(Error::Unknown)?;
        one.read = now;
        // Asked first: what is told of after that is read the next time.
        let over = one.watching.is_over();
        let teller = Teller::new(plan, snapshot);
        let told = one.watching.take();
        let passages = told.iter().map(|p| teller.real(p, begin_ns.saturating_add(p.at.ns()))).collect::<Vec<_>>();
        let (matched, untold) = one.watching.counts();
        let all_told = over && passages.is_empty();
        let ended = one.ended.clone().or(all_told.then(|| "as many as were asked for".to_owned()));
        Ok(Told { id, passages, matched, untold, ended })
    }

    /// Ends a watch, or whichever runs, because of `why`; one that has ended is no error.
    ///
    /// # Errors
    /// The dataplane does not answer.
    pub fn end(&mut self, control: &Control, id: Option<u64>, why: &str) -> Result<(), Error> {
        match self.one.as_mut().filter(|one| id.is_none_or(|id| one.id == id) && one.ended.is_none()) {
            Some(one) => {
                one.ended = Some(why.to_owned());
                Ok(control.end_watch()?)
            }
            None => Ok(()),
        }
    }

    /// What runs, as rows.
    pub fn rows(&mut self, control: &Control, now: Instant) -> Vec<WatchRow> {
        self.expire(control, now);
        let row = |one: &One| WatchRow {
            what: one.what.clone(),
            matched: one.watching.counts().0,
            seconds_left: one.until.saturating_duration_since(now).as_secs(),
        };
        self.one.as_ref().filter(|one| one.ended.is_none()).map(row).into_iter().collect()
    }

    /// Ends it at its time, and when nobody reads it any more.
    pub fn expire(&mut self, control: &Control, now: Instant) {
        let Some(one) = &self.one else { return };
        let silent = now.saturating_duration_since(one.read) >= Duration::from_secs(SILENCE_S);
        if one.ended.is_none() && (silent || now >= one.until) {
            let why = if silent { "nobody has read it" } else { "its time is over" };
            if let Err(error) = self.end(control, None, why) {
                tracing::warn!(%error, "debug packet");
            }
        }
        if silent {
            self.one = None;
        }
    }
}
