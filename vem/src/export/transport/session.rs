//! IPFIX in a stream (RFC 7011 section 10.4): what a connection is given, without the connection.
//!
//! The encoder makes messages for datagrams, which repeat templates and know nothing of connections. A connection is a transport session
//! of its own (section 8.4): templates come once and first, then the options, and the sequence counts the
//! session's records from 0. So each message is taken apart: its templates and the newest options are kept for connections to come, the
//! sets of data wait, and messages are put together anew. The export time stays that of the encoder.
//!
//! That TCP has taken a message does not mean that the collector has: messages are kept until the peer's TCP has acknowledged their octets, and those
//! that it has not are sent again in the next session, at least once.
//!
//! Bounds: 4 MiB of messages, waiting or unacknowledged; beyond, the oldest goes, is counted, and the sequence of an open session
//! shows it (section 10.3.2).

use std::collections::VecDeque;

use super::super::message::Weight;

/// Octets of messages that are kept.
pub const KEPT_MAX: usize = 4 << 20;
const HEADER: usize = 16;
const SET_HEADER: usize = 4;
const TEMPLATES: u16 = 2;
const OPTIONS_TEMPLATES: u16 = 3;
const VARIABLE: u16 = 65_535;
/// Sets of options that are kept for the next session.
const OPTIONS_MAX: usize = 64;

/// A message without its templates.
#[derive(Clone, Debug)]
struct Piece {
    time: [u8; 4],
    domain: [u8; 4],
    sets: Vec<u8>,
    /// Data records, as the sequence counts them.
    records: u32,
    weight: Weight,
}

#[derive(Debug)]
struct Template {
    /// Template, or options template.
    set: u16,
    id: u16,
    octets: Vec<u8>,
    lengths: Vec<u16>,
    sent: bool,
}

/// What became of messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Written to a connection for the first time: messages, their contents, octets.
    pub sent: (u64, Weight, u64),
    /// Given up.
    pub lost: (u64, Weight, u64),
}

/// See [the module](self).
#[derive(Debug, Default)]
pub struct Session {
    open: bool,
    templates: Vec<Template>,
    /// Newest sets of options data, with their records, and the header's time and domain.
    options: Vec<(Vec<u8>, u32)>,
    options_time: [u8; 4],
    domain: [u8; 4],
    waiting: VecDeque<Piece>,
    waiting_octets: usize,
    /// With the place in the stream behind each.
    unacked: VecDeque<(u64, Piece)>,
    unacked_octets: usize,
    /// Of `waiting`, the first so many have been sent before.
    again: usize,
    sequence: u32,
    /// Octets of the session.
    written: u64,
    replayed: u64,
}

impl Session {
    /// Takes a message of the encoder. What is given up for it is in the answer.
    pub fn offer(&mut self, message: &[u8], weight: Weight) -> Progress {
        let mut progress = Progress::default();
        let Some((header, body)) = message.split_first_chunk::<HEADER>() else { return progress };
        let [_, _, _, _, t0, t1, t2, t3, _, _, _, _, domain @ ..] = *header;
        let mut piece = Piece { time: [t0, t1, t2, t3], domain, sets: Vec::new(), records: 0, weight };
        self.domain = domain;
        for (id, set) in sets(body) {
            match id {
                TEMPLATES | OPTIONS_TEMPLATES => self.learn(id, set),
                _ => {
                    let records = self.count(id, set);
                    if self.is_options(id) {
                        self.keep_options(set, records, piece.time);
                    }
                    piece.records += records;
                    piece.sets.extend_from_slice(set);
                }
            }
        }
        if !piece.sets.is_empty() {
            self.waiting_octets += piece.sets.len();
            self.waiting.push_back(piece);
        }
        while self.waiting_octets + self.unacked_octets > KEPT_MAX {
            self.give_up_oldest(&mut progress);
        }
        progress
    }

    fn give_up_oldest(&mut self, progress: &mut Progress) {
        if let Some((_, piece)) = self.unacked.pop_front() {
            // It was sent; only the right to send it again is given up.
            self.unacked_octets -= piece.sets.len();
        } else if let Some(piece) = self.waiting.pop_front() {
            self.waiting_octets -= piece.sets.len();
            if self.again > 0 {
                self.again -= 1;
            } else {
                let (messages, weight, octets) = &mut progress.lost;
                (*messages, *octets) = (*messages + 1, *octets + (HEADER + piece.sets.len()) as u64);
                weight.add(piece.weight);
            }
            if self.open {
                self.sequence = self.sequence.wrapping_add(piece.records);
            }
        }
    }

    /// A connection is there: a session begins.
    pub fn begin(&mut self) {
        (self.open, self.sequence, self.written) = (true, 0, 0);
        self.templates.iter_mut().for_each(|template| template.sent = false);
        self.replayed += self.unacked.len() as u64;
        self.again += self.unacked.len();
        while let Some((_, piece)) = self.unacked.pop_back() {
            self.unacked_octets -= piece.sets.len();
            self.waiting_octets += piece.sets.len();
            self.waiting.push_front(piece);
        }
        if !self.options.is_empty() {
            let options = std::mem::take(&mut self.options);
            let records = options.iter().map(|(_, records)| records).sum();
            let sets: Vec<u8> = options.iter().flat_map(|(set, _)| set).copied().collect();
            if sets.len() <= usize::from(u16::MAX) - HEADER {
                self.waiting_octets += sets.len();
                let (time, domain) = (self.options_time, self.domain);
                self.waiting.push_front(Piece { time, domain, sets, records, weight: Weight::default() });
                self.again += 1;
            }
            self.options = options;
        }
    }

    /// The connection is gone.
    pub fn end(&mut self) {
        self.open = false;
    }

    /// Whether something waits.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Messages that were sent again.
    pub fn replayed(&self) -> u64 {
        self.replayed
    }

    /// The next octets for the connection: templates that it has not seen, and a message.
    pub fn next(&mut self, progress: &mut Progress) -> Option<Vec<u8>> {
        let mut fresh = Vec::new();
        for template in self.templates.iter_mut().filter(|template| !template.sent) {
            template.sent = true;
            fresh.extend_from_slice(&template.octets);
        }
        let piece = self.waiting.pop_front();
        let time = piece.as_ref().map_or(self.options_time, |piece| piece.time);
        let mut octets = Vec::new();
        if !fresh.is_empty() {
            octets = self.message(time, self.domain, &fresh);
        }
        if let Some(piece) = piece {
            octets.extend(self.message(piece.time, piece.domain, &piece.sets));
            self.sequence = self.sequence.wrapping_add(piece.records);
            self.waiting_octets -= piece.sets.len();
            self.unacked_octets += piece.sets.len();
            match self.again {
                0 => {
                    let (messages, weight, total) = &mut progress.sent;
                    (*messages, *total) = (*messages + 1, *total + (HEADER + piece.sets.len()) as u64);
                    weight.add(piece.weight);
                }
                _ => self.again -= 1,
            }
            self.unacked.push_back((self.written + octets.len() as u64, piece));
        }
        self.written += octets.len() as u64;
        Some(octets).filter(|octets| !octets.is_empty())
    }

    fn message(&self, time: [u8; 4], domain: [u8; 4], sets: &[u8]) -> Vec<u8> {
        let mut octets = 10_u16.to_be_bytes().to_vec();
        octets.extend(u16::try_from(HEADER + sets.len()).unwrap_or(u16::MAX).to_be_bytes());
        octets.extend(time);
        octets.extend(self.sequence.to_be_bytes());
        octets.extend(domain);
        octets.extend_from_slice(sets);
        octets
    }

    /// The peer has acknowledged all but the last `outstanding` octets of the session.
    pub fn acknowledged(&mut self, outstanding: u64) {
        let until = self.written.saturating_sub(outstanding);
        while self.unacked.front().is_some_and(|(end, _)| *end <= until) {
            if let Some((_, piece)) = self.unacked.pop_front() {
                self.unacked_octets -= piece.sets.len();
            }
        }
    }

    /// Messages that the peer has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.unacked.len()
    }

    /// Remembers the templates of a set.
    fn learn(&mut self, set_id: u16, set: &[u8]) {
        let mut rest = set.get(SET_HEADER..).unwrap_or_default();
        while let Some((id, lengths, length)) = template(set_id, rest) {
            let octets = rest.get(..length).unwrap_or_default();
            let known = self.templates.iter().any(|t| t.id == id && t.octets.get(SET_HEADER..) == Some(octets));
            if !known {
                let length = ((SET_HEADER + octets.len()) as u16).to_be_bytes();
                let octets = [&set_id.to_be_bytes()[..], &length, octets].concat();
                self.templates.retain(|t| t.id != id);
                self.templates.push(Template { set: set_id, id, octets, lengths, sent: false });
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }

    fn is_options(&self, id: u16) -> bool {
        self.templates.iter().any(|template| template.id == id && template.set == OPTIONS_TEMPLATES)
    }

    fn keep_options(&mut self, set: &[u8], records: u32, time: [u8; 4]) {
        if self.options_time != time || self.options.len() >= OPTIONS_MAX {
            self.options.clear();
            self.options_time = time;
        }
        self.options.push((set.to_vec(), records));
    }

    /// Records of a set of data.
    fn count(&self, id: u16, set: &[u8]) -> u32 {
        let Some(template) = self.templates.iter().find(|template| template.id == id) else { return 0 };
        let mut rest = set.get(SET_HEADER..).unwrap_or_default();
        let mut records = 0;
        while let Some(length) = record(&template.lengths, rest).filter(|length| *length > 0) {
            records += 1;
            rest = rest.get(length..).unwrap_or_default();
        }
        records
    }
}

/// The sets of a message: id, and octets with the header.
fn sets(mut body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [i0, i1, l0, l1] = *body.first_chunk::<SET_HEADER>()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (set, rest) = body.split_at_checked(length).filter(|_| length >= SET_HEADER)?;
        body = rest;
        Some((u16::from_be_bytes([i0, i1]), set))
    })
}

/// A template at the begin of `octets`: id, lengths of the fields, its own length.
fn template(set: u16, octets: &[u8]) -> Option<(u16, Vec<u16>, usize)> {
    let word = |at: usize| octets.get(at..at + 2).and_then(|w| w.first_chunk()).map(|w| u16::from_be_bytes(*w));
    let (id, count) = (word(0)?, word(2)?);
    if id < 256 {
        return None;
    }
    let mut at = if set == OPTIONS_TEMPLATES { 6 } else { 4 };
    let mut lengths = Vec::new();
    for _ in 0..count {
        let element = word(at)?;
        lengths.push(word(at + 2)?);
        at += if element & 0x8000 == 0 { 4 } else { 8 };
    }
    Some((id, lengths, at)).filter(|_| at <= octets.len())
}

/// Length of the record at the begin of `octets` (section 7: a variable field's length is before it).
fn record(lengths: &[u16], octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    for length in lengths {
        at += match (*length, octets.get(at)) {
            (VARIABLE, Some(255)) => {
                let long = octets.get(at + 1..at + 3)?.first_chunk()?;
                3 + usize::from(u16::from_be_bytes(*long))
            }
            (VARIABLE, Some(short)) => 1 + usize::from(*short),
            (VARIABLE, None) => return None,
            (length, _) => usize::from(length),
        };
    }
    Some(at).filter(|at| *at <= octets.len())
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
