//! The spool: frames on the disk, until the receiver has them.
//!
//! A directory that only its owner may enter (0700) holds segments, named by their first number, and `stream`, the name of
//! the stream. A segment ends after five minutes or 64 MiB. Numbers in it ascend; where they leave some out, those were never there.
//! What the receiver has acknowledged goes with whole segments. If there is too much, or it is too old, the oldest segment goes.
//!
//! A write reaches the kernel before the frame is sent, so the death of the process loses nothing. That of the machine
//! can lose what no [`Spool::sync`] has covered.
//!
//! Complications:
//! * Age is counted while the relay runs, and by a clock that is not set: a wrong date throws nothing away.
//! * A process that was killed leaves half a record at the end. It is passed over, and a new segment is begun.
//!
//! Limits: as configured; a segment that is written counts. Threads: one owner.

mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::key::{self, Secret};
use super::wire::StreamId;
use segment::{Place, Reader, Writer};

/// Longest time that a segment is written, milliseconds.
const SEGMENT_MS: u64 = 300_000;
/// Largest segment, octets.
const SEGMENT_MAX: u64 = 64 << 20;
/// A segment that is written, all of whose frames are acknowledged, goes at this size, octets: an idle relay keeps none,
/// and one that keeps up does not make a file for every frame.
const SEGMENT_IDLE: u64 = 1 << 20;
/// Most segments; of a spool that is larger, segments grow.
const SEGMENTS_MAX: u64 = 16_384;

/// Why there is no spool.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory or a file can't be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may enter the directory.
    #[error("{}: others may enter it (mode {mode:04o}); it must be 0700", path.display())]
    Mode {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What is there was written with another key. It stays.
    #[error("{}: was written with another key", .0.display())]
    Key(PathBuf),
    /// The file that names the stream does not.
    #[error("{}: does not name a stream", .0.display())]
    Stream(PathBuf),
}

/// How much may be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Octets on the disk.
    pub octets: u64,
    /// Milliseconds.
    pub age_ms: u64,
}

/// Frames that went without being delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// Highest number that is gone.
    pub last: u64,
    /// How many went that were not acknowledged.
    pub frames: u64,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    first: u64,
    last: u64,
    frames: u64,
    octets: u64,
    since_ms: u64,
}

/// See [the module](self).
pub struct Spool {
    dir: PathBuf,
    stream: StreamId,
    secret: Secret,
    limits: Limits,
    /// Oldest first; while `writer` is there, the last is written.
    segments: VecDeque<Segment>,
    writer: Option<Writer>,
    reading: Option<Reading>,
    unsynced: bool,
    damaged_octets: u64,
    damaged_frames: u64,
}

struct Reading {
    /// First number of the segment.
    first: u64,
    reader: Reader,
    /// A record that was found and is not yet wanted.
    found: Option<Place>,
    /// Everything below was passed.
    at: u64,
}

/// What was in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Highest number; 0 when there is none.
    pub last: u64,
    /// The end of the newest segment can't be read: what was last there is not known.
    pub torn: bool,
}

impl Spool {
    /// Opens a directory, and makes it if it is not there.
    ///
    /// # Errors
    /// It can't be used, or was written with another key.
    pub fn open(dir: &Path, secret: Secret, limits: Limits, now_ms: u64) -> Result<(Self, Found), Error> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail(dir))?;
        let mode = fs::metadata(dir).map_err(fail(dir))?.mode();
        if mode & 0o077 != 0 {
            return Err(Error::Mode { path: dir.to_owned(), mode: mode & 0o7777 });
        }
        let stream = stream(&dir.join("stream"))?;
        let mut names: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(dir).map_err(fail(dir))? {
            let path = entry.map_err(fail(dir))?.path();
            if path.extension().is_some_and(|e| e == "segment") {
                names.push(path);
            }
        }
        names.sort();
        let mut spool = Spool {
            dir: dir.to_owned(),
            stream,
            secret,
            limits,
            segments: VecDeque::new(),
            writer: None,
            reading: None,
            unsynced: false,
            damaged_octets: 0,
            damaged_frames: 0,
        };
        let mut found = Found { last: 0, torn: false };
        for path in names {
            let (segment, torn) = spool.scan(&path, now_ms)?;
            found.torn = torn;
            if let Some(segment) = segment {
                found.last = found.last.max(segment.last);
                spool.segments.push_back(segment);
            }
        }
        Ok((spool, found))
    }

    /// Counts what a file holds, and says whether its end is damaged. An empty one is removed.
    fn scan(&mut self, path: &Path, now_ms: u64) -> Result<(Option<Segment>, bool), Error> {
        let fail = |source| Error::File { path: path.to_owned(), source };
        let octets = fs::metadata(path).map_err(fail)?.len();
        let Some((mut reader, header)) = Reader::open(path, &self.secret).map_err(fail)? else {
            self.damaged_octets += octets;
            fs::remove_file(path).map_err(fail)?;
            return Ok((None, octets > 0));
        };
        if !header.fits(&self.secret) {
            return Err(Error::Key(path.to_owned()));
        }
        let mut segment =
            Segment { path: path.to_owned(), first: header.first, last: 0, frames: 0, octets, since_ms: now_ms };
        let mut end_damaged = 0;
        while let Some(place) = reader.next_place(octets).map_err(fail)? {
            (segment.last, segment.frames) = (segment.last.max(place.number), segment.frames + 1);
            end_damaged = reader.passed_over;
        }
        self.damaged_octets += reader.passed_over;
        let torn = reader.passed_over > end_damaged;
        if segment.frames == 0 {
            fs::remove_file(path).map_err(fail)?;
            return Ok((None, torn));
        }
        Ok((Some(segment), torn))
    }

    /// Name of the stream.
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// Octets on the disk.
    pub fn octets(&self) -> u64 {
        self.segments.iter().map(|segment| segment.octets).sum()
    }

    /// Frames on the disk.
    pub fn frames(&self) -> u64 {
        self.segments.iter().map(|segment| segment.frames).sum()
    }

    /// Segments on the disk.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Octets that are no records, and frames that were sealed but can't be opened.
    pub fn damaged(&self) -> (u64, u64) {
        (self.damaged_octets, self.damaged_frames)
    }

    /// Appends frames, whose numbers are above all that are there. After an error nothing of them is there.
    ///
    /// # Errors
    /// The disk does not take them.
    pub fn append(&mut self, frames: &[(u64, &[u8])], now_ms: u64) -> io::Result<()> {
        let Some((first, _)) = frames.first() else { return Ok(()) };
        if self.segments.back().is_some_and(|segment| {
            segment.octets >= self.segment_max() || now_ms.saturating_sub(segment.since_ms) >= SEGMENT_MS
        }) {
            self.finish();
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let path = self.dir.join(format!("{first:020}.segment"));
                let writer = Writer::create(&path, &self.secret, self.stream, *first)?;
                let octets = writer.octets;
                self.segments.push_back(Segment { path, first: *first, last: 0, frames: 0, octets, since_ms: now_ms });
                self.writer.insert(writer)
            }
        };
        let written = writer.append(frames.iter().copied());
        let octets = writer.octets;
        if written.is_err() {
            self.writer = None;
            let is_empty = self.segments.back().is_some_and(|segment| segment.frames == 0);
            if is_empty && let Some(empty) = self.segments.pop_back() {
                let _ = fs::remove_file(empty.path);
            }
        }
        written?;
        if let Some(segment) = self.segments.back_mut() {
            segment.last = frames.last().map_or(segment.last, |(number, _)| *number);
            segment.frames += frames.len() as u64;
            segment.octets = octets;
        }
        self.unsynced = true;
        Ok(())
    }

    fn segment_max(&self) -> u64 {
        SEGMENT_MAX.min(self.limits.octets / 4).max(self.limits.octets / SEGMENTS_MAX)
    }

    fn finish(&mut self) {
        if let Some(writer) = self.writer.take()
            && self.unsynced
        {
            self.unsynced = writer.sync().is_err();
        }
    }

    /// Waits until the disk has what was appended.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.unsynced)
            && let Some(writer) = &self.writer
        {
            writer.sync()?;
            fs::File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }

    /// The first frame that can be read from `from` on, below `below`, and its number.
    ///
    /// # Errors
    /// The disk fails.
    pub fn read(&mut self, from: u64, below: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
        for index in 0..self.segments.len() {
            let Some(segment) = self.segments.get(index).filter(|s| s.last >= from && s.first < below) else {
                continue;
            };
            let (first, end) = (segment.first, segment.octets);
            let stays = self.reading.as_ref().is_some_and(|r| r.first == first && r.at <= from);
            if !stays {
                let Some((reader, _)) = Reader::open(&segment.path, &self.secret)? else { continue };
                self.reading = Some(Reading { first, reader, found: None, at: 0 });
            }
            while let Some(reading) = &mut self.reading {
                let place = match reading.found.take() {
                    Some(place) => Some(place),
                    None => reading.reader.next_place(end)?,
                };
                let Some(place) = place.filter(|place| place.number < below) else {
                    reading.found = place;
                    break;
                };
                reading.at = place.number + 1;
                if place.number < from {
                    continue;
                }
                match reading.reader.frame(place)? {
                    Some(frame) => return Ok(Some((place.number, frame))),
                    None => self.damaged_frames += 1,
                }
            }
        }
        Ok(None)
    }

    /// Removes segments all of whose frames are acknowledged.
    pub fn trim(&mut self, acked: u64) {
        while let Some(oldest) = self.segments.front().filter(|segment| segment.last <= acked) {
            if self.segments.len() == 1 && self.writer.is_some() && oldest.octets < SEGMENT_IDLE {
                return;
            }
            self.remove_oldest();
        }
    }

    /// Removes the oldest segment, if there is one; frames above `acked` are lost by it.
    pub fn drop_oldest(&mut self, acked: u64) -> Option<Dropped> {
        let segment = self.segments.front()?;
        // Numbers within a segment have no holes but where the relay has numbered anew.
        let frames =
            if acked < segment.first { segment.frames } else { segment.frames.min(segment.last.saturating_sub(acked)) };
        let dropped = Dropped { last: segment.last, frames };
        self.remove_oldest();
        Some(dropped)
    }

    fn remove_oldest(&mut self) {
        let Some(segment) = self.segments.pop_front() else { return };
        if self.segments.is_empty() {
            (self.writer, self.unsynced) = (None, false);
        }
        if self.reading.as_ref().is_some_and(|reading| reading.first == segment.first) {
            self.reading = None;
        }
        if let Err(error) = fs::remove_file(&segment.path) {
            tracing::warn!("{}: {error}", segment.path.display());
        }
    }

    /// Whether there is more than may be.
    pub fn is_over_size(&self) -> bool {
        self.segments.len() > 1 && self.octets() > self.limits.octets
    }

    /// Whether the oldest segment is too old.
    pub fn is_over_age(&self, now_ms: u64) -> bool {
        self.segments.front().is_some_and(|s| now_ms.saturating_sub(s.since_ms) > self.limits.age_ms.max(SEGMENT_MS))
    }
}

/// The stream that the file names; a new one if there is no file.
fn stream(path: &Path) -> Result<StreamId, Error> {
    let fail = |source| Error::File { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(octets) => octets.try_into().map_err(|_| Error::Stream(path.to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let stream: StreamId = key::random().map_err(|e| fail(io::Error::other(e)))?;
            let beside = path.with_extension("new");
            fs::write(&beside, stream).map_err(fail)?;
            fs::File::open(&beside).and_then(|file| file.sync_all()).map_err(fail)?;
            fs::rename(&beside, path).map_err(fail)?;
            Ok(stream)
        }
        Err(e) => Err(fail(e)),
    }
}
