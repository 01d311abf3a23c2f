//! What waits for the receiver: the newest frames in memory, all of them in the spool.
//!
//! A datagram that comes gets a number, becomes a frame, and is written to the spool before it can be sent. The newest
//! frames are in memory as well, so that a receiver that keeps up costs no reading.
//!
//! Where the disk takes nothing, the memory is what there is. Once a second the disk is tried again, with what it has missed.
//! When the memory is full, the oldest segment of the spool goes, for that makes room on the disk; when there is none, the oldest
//! frame in memory.
//!
//! Numbers that went are a [`Gap`], found when somebody asks for them. No number is used twice: where the end of the spool
//! is not known (after a restart of the host, or damage), numbering goes on 2^32 higher, and how many datagrams a gap lost
//! is its length modulo 2^32.
//!
//! Limits: memory and spool as configured; while frames are only in memory, the death of the process loses them.

use std::collections::VecDeque;
use std::io;

use super::spool::{Dropped, Found, Spool};
use super::wire::{self, Data, Gap, Reason, StreamId};

/// What numbering leaves out when the end of the spool is not known.
const JUMP: u64 = 1 << 32;
/// Time between attempts to write to a disk that failed, milliseconds.
const DISK_RETRY_MS: u64 = 1000;
/// Frames that are written in one go after the disk has failed.
const CATCH_UP: usize = 256;
/// Reasons of gaps that are remembered.
const REASONS_MAX: usize = 64;

/// How often the disk is asked to have what was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fsync {
    /// Never: the system does in its own time.
    Never,
    /// Once a second, while something waits.
    #[default]
    Second,
    /// With every batch.
    Always,
}

/// Sizes and habits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Octets of frames in memory.
    pub memory: usize,
    /// See [`Fsync`].
    pub fsync: Fsync,
}

/// Two clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Milliseconds since any moment; never set.
    pub ms: u64,
    /// Nanoseconds since 1970.
    pub unix_ns: u64,
}

/// What happened to frames since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Datagrams that came.
    pub received: u64,
    /// Their octets.
    pub octets: u64,
    /// Lost because the spool was full.
    pub lost_size: u64,
    /// Lost by age.
    pub lost_age: u64,
    /// Lost in memory, without a disk.
    pub lost_memory: u64,
    /// Lost by damage of the spool.
    pub lost_damage: u64,
    /// Writes to the disk that failed.
    pub disk_errors: u64,
}

/// A thing for the receiver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A frame, by number.
    Frame(u64, Vec<u8>),
    /// Numbers that will not come.
    Gap(Gap),
}

/// See [the module](self).
pub struct Queue {
    stream: StreamId,
    options: Options,
    spool: Option<Spool>,
    /// The newest frames, numbers without holes.
    tail: VecDeque<(u64, Vec<u8>)>,
    tail_octets: usize,
    next: u64,
    acked: u64,
    /// Highest number that has been given out: what is up to here may still be delivered though it is dropped.
    given: u64,
    /// Highest number in the spool.
    spooled: u64,
    disk_error: Option<String>,
    retry_ms: u64,
    sync_ms: u64,
    reasons: VecDeque<(u64, Reason)>,
    counts: Counts,
}

impl Queue {
    /// A queue over a spool. `kept` are the next number and the highest acknowledged one, where something outlived the process
    /// and remembers them; else numbering goes on far enough above the spool's.
    pub fn new(spool: Spool, found: Found, kept: Option<(u64, u64)>, options: Options) -> Self {
        let acked = kept.map_or(0, |(_, acked)| acked);
        let after = found.last.max(acked) + 1;
        let next = match kept {
            Some((next, _)) if !found.torn => next.max(after),
            None if found.last == 0 && !found.torn => 1,
            _ => after.max(kept.map_or(0, |(next, _)| next)) + JUMP,
        };
        let mut queue = Queue {
            stream: spool.stream(),
            options,
            spool: Some(spool),
            tail: VecDeque::new(),
            tail_octets: 0,
            next,
            acked,
            given: acked,
            spooled: found.last,
            disk_error: None,
            retry_ms: 0,
            sync_ms: 0,
            reasons: VecDeque::new(),
            counts: Counts::default(),
        };
        if next > after {
            queue.remember(next - 1, Reason::Restart);
        }
        queue.trim();
        queue
    }

    /// A queue in memory only.
    pub fn in_memory(stream: StreamId, options: Options) -> Self {
        Queue {
            stream,
            options,
            spool: None,
            tail: VecDeque::new(),
            tail_octets: 0,
            next: 1,
            acked: 0,
            given: 0,
            spooled: 0,
            disk_error: None,
            retry_ms: 0,
            sync_ms: 0,
            reasons: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// The stream.
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The number that the next datagram gets.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The highest number that is acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// What happened.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        counts.lost_damage += self.spool.as_ref().map_or(0, |spool| spool.damaged().1);
        counts
    }

    /// Why the disk takes nothing, while that is so.
    pub fn disk_error(&self) -> Option<&str> {
        self.disk_error.as_deref()
    }

    /// The spool.
    pub fn spool(&self) -> Option<&Spool> {
        self.spool.as_ref()
    }

    /// Octets of frames in memory.
    pub fn memory(&self) -> usize {
        self.tail_octets
    }

    /// Takes datagrams, in order, which get the numbers from [`Queue::next`].
    pub fn push<'a>(&mut self, datagrams: impl Iterator<Item = (std::net::SocketAddr, &'a [u8])>, now: Now) {
        for (source, octets) in datagrams {
            let data = Data { number: self.next, received_ns: now.unix_ns, source, octets: octets.to_vec() };
            let frame = wire::encode_data(&self.stream, &data);
            self.counts.received += 1;
            self.counts.octets += octets.len() as u64;
            self.tail_octets += frame.len();
            self.tail.push_back((self.next, frame));
            self.next += 1;
        }
        self.write(now);
        self.bound_memory(now);
        while self.spool.as_ref().is_some_and(Spool::is_over_size) {
            self.drop_oldest(Reason::Size);
        }
    }

    /// Time has passed: what is too old goes, the disk is tried again or asked to have what was written.
    pub fn tick(&mut self, now: Now) {
        while self.spool.as_ref().is_some_and(|spool| spool.is_over_age(now.ms)) {
            self.drop_oldest(Reason::Age);
        }
        self.write(now);
        if self.options.fsync == Fsync::Second && now.ms >= self.sync_ms && self.acked < self.spooled {
            self.sync_ms = now.ms + 1000;
            self.sync(now);
        }
    }

    /// The process ends: the disk is to have what was written.
    pub fn finish(&mut self, now: Now) {
        self.retry_ms = now.ms;
        self.write(now);
        self.sync(now);
    }

    fn sync(&mut self, now: Now) {
        if let Some(Err(error)) = self.spool.as_mut().map(Spool::sync) {
            self.disk_failed(&error, now);
        }
    }

    /// Writes to the spool what it has not.
    fn write(&mut self, now: Now) {
        if self.disk_error.is_some() && now.ms < self.retry_ms {
            return;
        }
        let Some(spool) = &mut self.spool else { return };
        let mut wrote = false;
        loop {
            let from = self.spooled.max(self.acked) + 1;
            let start = self.tail.front().map_or(0, |(front, _)| from.saturating_sub(*front) as usize);
            let frames: Vec<(u64, &[u8])> =
                self.tail.iter().skip(start).take(CATCH_UP).map(|(number, frame)| (*number, &frame[..])).collect();
            let Some((last, _)) = frames.last() else { break };
            let last = *last;
            match spool.append(&frames, now.ms) {
                Ok(()) => (self.spooled, wrote) = (last, true),
                Err(error) => return self.disk_failed(&error, now),
            }
        }
        if wrote && self.disk_error.take().is_some() {
            tracing::info!("the spool is written again");
        }
        if wrote && self.options.fsync == Fsync::Always {
            self.sync(now);
        }
    }

    fn disk_failed(&mut self, error: &io::Error, now: Now) {
        self.counts.disk_errors += 1;
        if self.disk_error.is_none() {
            tracing::error!("the spool can't be written, frames stay in memory: {error}");
        }
        self.disk_error = Some(error.to_string());
        self.retry_ms = now.ms + DISK_RETRY_MS;
    }

    /// Forgets frames that are safe elsewhere, and if the memory is still too full, makes room.
    fn bound_memory(&mut self, now: Now) {
        let mut tried = false;
        while self.tail_octets > self.options.memory && self.tail.len() > 1 {
            let Some((number, _)) = self.tail.front() else { return };
            let number = *number;
            if number <= self.spooled || number <= self.acked {
                self.pop_tail();
            } else if !tried && self.spool.as_ref().is_some_and(|spool| spool.frames() > 0) {
                self.drop_oldest(Reason::Size);
                self.retry_ms = now.ms;
                self.write(now);
                // Where room does not help (a disk that is read-only), one segment a turn is enough of a sacrifice.
                tried = self.disk_error.is_some();
            } else {
                self.counts.lost_memory += u64::from(number > self.given);
                self.remember(number, Reason::Memory);
                self.pop_tail();
            }
        }
    }

    fn pop_tail(&mut self) {
        if let Some((_, frame)) = self.tail.pop_front() {
            self.tail_octets -= frame.len();
        }
    }

    fn drop_oldest(&mut self, reason: Reason) {
        let safe = self.acked.max(self.given);
        let Some(Dropped { last, frames }) = self.spool.as_mut().and_then(|spool| spool.drop_oldest(safe)) else {
            return;
        };
        // Frames that are in memory too are lost only there.
        let kept = self.tail.front().map_or(0, |(front, _)| (last + 1).saturating_sub((*front).max(safe + 1)));
        let lost = frames.saturating_sub(kept);
        match reason {
            Reason::Age => self.counts.lost_age += lost,
            _ => self.counts.lost_size += lost,
        }
        if lost > 0 {
            self.remember(last, reason);
            tracing::warn!("{lost} datagrams that waited are given up {}", reason.words());
        }
    }

    /// Numbers up to `last` went for a reason.
    fn remember(&mut self, last: u64, reason: Reason) {
        match self.reasons.back_mut() {
            Some((until, known)) if *known == reason => *until = last,
            _ => self.reasons.push_back((last, reason)),
        }
        if self.reasons.len() > REASONS_MAX {
            self.reasons.pop_front();
        }
    }

    fn gap(&self, first: u64, last: u64) -> Item {
        let why = self.reasons.iter().find(|(until, _)| *until >= first);
        let reason = why.map_or(Reason::Unknown, |(_, reason)| *reason);
        Item::Gap(Gap { first, last, lost: (last - first + 1) % JUMP, reason })
    }

    /// What comes after number `after`.
    pub fn after(&mut self, after: u64) -> Option<Item> {
        let from = after + 1;
        if from >= self.next {
            return None;
        }
        let front = self.tail.front().map_or(self.next, |(front, _)| *front);
        let item = if from >= front {
            let (number, frame) = self.tail.get((from - front) as usize)?;
            Item::Frame(*number, frame.clone())
        } else {
            let found = self.spool.as_mut().map(|spool| spool.read(from, front)).transpose();
            let found = found.unwrap_or_else(|error| {
                tracing::error!("the spool can't be read: {error}");
                self.counts.disk_errors += 1;
                None
            });
            match found.flatten() {
                Some((number, frame)) if number == from => Item::Frame(number, frame),
                Some((number, _)) => self.gap(from, number - 1),
                None => self.gap(from, front - 1),
            }
        };
        self.given = self.given.max(match &item {
            Item::Frame(number, _) => *number,
            Item::Gap(gap) => gap.last,
        });
        Some(item)
    }

    /// The receiver has everything up to `number`.
    pub fn ack(&mut self, number: u64) {
        if number >= self.next {
            // It has more than there was: our numbers were forgotten, and begin anew above its own.
            tracing::error!(number, next = self.next, "the receiver knows numbers that are not known here");
            self.next = number + 1;
            self.tail.clear();
            self.tail_octets = 0;
        }
        self.acked = self.acked.max(number);
        self.given = self.given.max(number);
        self.trim();
    }

    fn trim(&mut self) {
        if let Some(spool) = &mut self.spool {
            spool.trim(self.acked);
        }
        // What is acknowledged and in memory goes when there is need.
        while self.tail.front().is_some_and(|(number, _)| *number <= self.acked) {
            self.pop_tail();
        }
        while self.reasons.front().is_some_and(|(until, _)| *until <= self.acked) {
            self.reasons.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
