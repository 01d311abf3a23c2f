//! flow-store: what the flow monitors of this host reported, in files that nfdump reads.
//!
//! A directory has a file for each five minutes, `nfcapd.YYYYMMDDhhmm` (UTC) as nfcapd names them, and one beside it
//! has, if that is asked for, files of lines for Elastic ([`ecs`]). The newest file has the name `nfcapd.current` until its time is over. Old files go by
//! age and size. Records are written as they come, in blocks of up to a second, so a process that dies loses that much.
//!
//! Every record that the meter makes is stored once, whichever monitors see it. Where monitors count different packets of a
//! flow, what the one counts where it enters is stored. Figures of sampled flows are multiplied, as nfcapd does it, and flagged.
//!
//! Threads: the export thread writes; who asks reads finished and current files by itself ([`query`]). Limits: as configured, and a
//! disk that takes nothing costs the records, counted.

pub mod ecs;
pub mod nfcapd;
pub mod query;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::net::Ipv6Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use proto::flow::Store as Config;
use vswitch::flow::key::shape;
use vswitch::flow::record::Record;

use super::clock::Moment;
use super::flow::Flow;
use nfcapd::{Row, Sums};

/// A file's time, seconds.
const ROTATION_S: u64 = 300;
/// Name of the file that is written.
pub const CURRENT: &str = "nfcapd.current";
/// Rows of a block.
const BLOCK_ROWS: usize = 4096;
/// A block is written after this time at the latest, milliseconds.
const BLOCK_MS: u64 = 1000;
/// Time between attempts after the disk has failed, milliseconds.
const RETRY_MS: u64 = 10_000;

/// What happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that are stored.
    pub stored: u64,
    /// Records that the disk did not take.
    pub lost: u64,
    /// Octets of all files.
    pub octets: u64,
    /// Files.
    pub files: u64,
    /// Why the disk takes nothing.
    pub error: Option<String>,
}

/// See [the module](self).
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    host: String,
    config: Config,
    rows: Vec<Row>,
    since_ms: u64,
    open: Option<Open>,
    retry_ms: u64,
    counts: Counts,
}

#[derive(Debug)]
struct Open {
    file: File,
    lines: Option<File>,
    /// Its five minutes.
    slot: u64,
    octets: u64,
    blocks: u32,
    sums: Sums,
}

impl Store {
    /// A store in `dir` of the host's name.
    pub fn new(dir: PathBuf, host: String, config: Config) -> Self {
        let (rows, counts) = (Vec::new(), Counts::default());
        Store { dir, host, config, rows, since_ms: 0, open: None, retry_ms: 0, counts }
    }

    /// Looks at what is there.
    pub fn begin(&mut self, at: Moment) {
        self.expire(at);
    }

    /// Takes another configuration.
    pub fn configure(&mut self, config: Config) {
        if config.ecs != self.config.ecs {
            self.finish();
        }
        self.config = config;
    }

    /// What happened.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes a record.
    pub fn push(&mut self, flow: &Flow<'_>, at: Moment) {
        if self.rows.is_empty() {
            self.since_ms = at.now.ms();
        }
        self.rows.push(row(flow, at));
        if self.rows.len() >= BLOCK_ROWS {
            self.write(at);
        }
    }

    /// Writes what has waited long enough; ends the file when its time is over.
    pub fn tick(&mut self, at: Moment) {
        if !self.rows.is_empty() && at.now.ms().saturating_sub(self.since_ms) >= BLOCK_MS {
            self.write(at);
        }
        let slot = at.wall_ms() / 1000 / ROTATION_S;
        if self.open.as_ref().is_some_and(|open| open.slot != slot) {
            self.finish();
            self.expire(at);
        }
    }

    /// Writes what waits, and ends the file.
    pub fn end(&mut self, at: Moment) {
        self.write(at);
        self.finish();
    }

    fn write(&mut self, at: Moment) {
        if self.rows.is_empty() {
            return;
        }
        let rows = std::mem::take(&mut self.rows);
        let outcome = match at.now.ms() < self.retry_ms {
            true => None,
            false => Some(self.try_write(&rows, at)),
        };
        match outcome {
            Some(Ok(())) => {
                self.counts.stored += rows.len() as u64;
                self.counts.error = None;
            }
            Some(Err(error)) => {
                if self.counts.error.is_none() {
                    tracing::error!("flow-store {}: {error}", self.dir.display());
                }
                self.counts.error = Some(error.to_string());
                self.counts.lost += rows.len() as u64;
                self.retry_ms = at.now.ms() + RETRY_MS;
                self.open = None;
                self.expire(at);
            }
            None => self.counts.lost += rows.len() as u64,
        }
    }

    fn try_write(&mut self, rows: &[Row], at: Moment) -> io::Result<()> {
        let created_s = at.wall_ms() / 1000;
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let open = Open::create(&self.dir, self.config.ecs, created_s)?;
                self.open.insert(open)
            }
        };
        let block = nfcapd::rows(rows);
        open.file.write_all(&block)?;
        (open.octets, open.blocks) = (open.octets + block.len() as u64, open.blocks + 1);
        rows.iter().for_each(|row| open.sums.add(row));
        // The count of blocks comes after the block: who reads finds only whole ones.
        open.file.seek(SeekFrom::Start(0))?;
        open.file.write_all(&nfcapd::header(open.slot * ROTATION_S, open.blocks, None))?;
        open.file.seek(SeekFrom::End(0))?;
        if let Some(lines) = &mut open.lines {
            let mut text = String::new();
            for row in rows {
                text.push_str(&ecs::line(row, &self.host).to_string());
                text.push('\n');
            }
            lines.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    /// Ends the file that is written: the sums, and its name.
    fn finish(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let outcome = open.finish(&self.host).and_then(|()| {
            let stamp = stamp(open.slot * ROTATION_S);
            fs::rename(self.dir.join(CURRENT), free(&self.dir, &format!("nfcapd.{stamp}")))?;
            match open.lines {
                Some(_) => ecs::finish(&self.dir, &stamp),
                None => Ok(()),
            }
        });
        if let Err(error) = outcome {
            tracing::error!("flow-store {}: {error}", self.dir.display());
        }
    }

    /// Removes what is too old or too much, and counts the rest.
    fn expire(&mut self, at: Moment) {
        let (mut files, now_s) = (files(&self.dir), at.wall_ms() / 1000);
        let mut octets: u64 = files.iter().map(|file| file.octets).sum();
        let keep_s = u64::from(self.config.keep_h) * 3600;
        while let Some(oldest) = files.first() {
            let old = now_s.saturating_sub(oldest.modified_s) > keep_s;
            if !old && octets <= u64::from(self.config.size_mib) << 20 {
                break;
            }
            if let Err(error) = fs::remove_file(&oldest.path) {
                tracing::warn!("{}: {error}", oldest.path.display());
            }
            octets -= oldest.octets;
            files.remove(0);
        }
        (self.counts.octets, self.counts.files) = (octets, files.len() as u64);
    }
}

impl Open {
    fn create(dir: &Path, ecs: bool, created_s: u64) -> io::Result<Self> {
        let folder = ecs::folder(dir);
        for folder in std::iter::once(dir).chain(ecs.then_some(folder.as_path())) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        // What a process that died has left gets a name first.
        let left = dir.join(CURRENT);
        if let Ok(metadata) = fs::metadata(&left) {
            let modified = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let stamp = stamp(modified.as_secs() / ROTATION_S * ROTATION_S);
            fs::rename(&left, free(dir, &format!("nfcapd.{stamp}")))?;
            if ecs::folder(dir).join(ecs::CURRENT).exists() {
                ecs::finish(dir, &stamp)?;
            }
        }
        let create = |path: PathBuf| fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let slot = created_s / ROTATION_S;
        let mut file = create(dir.join(CURRENT))?;
        file.write_all(&nfcapd::header(slot * ROTATION_S, 0, None))?;
        let lines = if ecs { Some(create(folder.join(ecs::CURRENT))?) } else { None };
        Ok(Open { file, lines, slot, octets: nfcapd::HEADER as u64, blocks: 0, sums: Sums::default() })
    }

    fn finish(&mut self, source: &str) -> io::Result<()> {
        self.file.write_all(&nfcapd::appendix(source, &self.sums))?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&nfcapd::header(self.slot * ROTATION_S, self.blocks, Some(self.octets)))
    }
}

/// A finished file.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub octets: u64,
    /// When it was written last, seconds since 1970.
    pub modified_s: u64,
}

/// Finished files of a store, oldest first, those with lines among them.
pub fn files(dir: &Path) -> Vec<Stored> {
    let entries = [dir.to_owned(), ecs::folder(dir)].into_iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
    let stored = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let ours =
            (name.starts_with("nfcapd.") || name.starts_with("flows.")) && name != CURRENT && name != ecs::CURRENT;
        let metadata = entry.metadata().ok().filter(|_| ours)?;
        let modified_s = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
        Some(Stored { path: entry.path(), octets: metadata.len(), modified_s })
    };
    let mut files: Vec<Stored> = entries.filter_map(stored).collect();
    files.sort_by(|a, b| (a.modified_s, &a.path).cmp(&(b.modified_s, &b.path)));
    files
}

/// A name that no file has: after a restart there may be two of one time.
fn free(dir: &Path, name: &str) -> PathBuf {
    let first = dir.join(name);
    let others = (1..10_000).map(|n| dir.join(format!("{name}.{n}")));
    std::iter::once(first.clone()).chain(others).find(|path| !path.exists()).unwrap_or(first)
}

/// `YYYYMMDDhhmm` of seconds since 1970, UTC.
fn stamp(seconds: u64) -> String {
    let (date, time) = (ecs::date(seconds / 86_400), seconds % 86_400);
    format!("{:04}{:02}{:02}{:02}{:02}", date.0, date.1, date.2, time / 3600, time / 60 % 60)
}

fn row(flow: &Flow<'_>, at: Moment) -> Row {
    let record: &Record = &flow.record.scaled();
    let key = &record.key;
    let ip = (key.is(shape::IPV4) || key.is(shape::IPV6)) && !key.is(shape::OVERFLOW);
    Row {
        first_ms: at.wall_of(record.first),
        last_ms: at.wall_of(record.last),
        received_ms: at.wall_ms(),
        packets: record.packets,
        octets: record.octets,
        src_port: key.src_port,
        dst_port: key.dst_port,
        protocol: if ip { key.protocol } else { 0 },
        tcp_flags: record.tcp_flags,
        status: super::flow::forwarding_status(record.outcome),
        tos: key.tos,
        addresses: ip.then(|| (Ipv6Addr::from(key.src), Ipv6Addr::from(key.dst))),
        input: flow.input.into(),
        output: flow.output.into(),
        direction: flow.egress.into(),
        end: record.end as u8,
        vlan: flow.vlan(),
        src_mac: key.src_mac,
        dst_mac: key.dst_mac,
        sampled: flow.record.sampling.is_some(),
    }
}
