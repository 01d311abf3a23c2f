//! Where the records are: a file that is appended to, and the files before it; or memory.
//!
//! A record is written in one call, so that a process which dies leaves whole records and at most a piece of the last.
//! It is in the kernel's hands before the prompt comes back; the disk has it when a later record is written a second
//! later, or the file is turned over. What a full disk took of a record is cut off again.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::store;

/// Octets of a file before it is turned over.
pub const FILE_MAX: u64 = 1 << 20;
/// Files that are kept beside the one that is written.
pub const OLD_FILES: usize = 3;
/// Lines that are kept in memory without a disk.
const MEMORY_MAX: usize = 4096;
/// Time between two synchronisations.
const SYNC: Duration = Duration::from_secs(1);

/// Where the lines are.
pub enum Files {
    /// In memory.
    Memory(VecDeque<String>),
    /// On disk.
    Disk(Disk),
}

/// The files.
pub struct Disk {
    path: PathBuf,
    file: Option<File>,
    octets: u64,
    synced: Instant,
}

/// What was found at the end of the newest file.
#[derive(Default)]
pub struct Found {
    /// The last whole line that `is_good`.
    pub last: Option<String>,
    /// What stood behind the last line end.
    pub torn: Option<String>,
}

impl Disk {
    /// Opens the files; a piece behind the last whole line is cut off and given back.
    ///
    /// # Errors
    /// They can't be read or written.
    pub fn open(path: &Path, is_good: fn(&str) -> bool) -> Result<(Self, Found), store::Error> {
        let mut found = Found::default();
        let mut disk = Disk { path: path.to_owned(), file: None, octets: 0, synced: Instant::now() };
        let own = store::read(path)?;
        if let Some(octets) = &own {
            let whole = octets.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
            disk.octets = whole as u64;
            let file = disk.handle().map_err(store::Error::at(path))?;
            if whole < octets.len() {
                file.set_len(whole as u64).map_err(store::Error::at(path))?;
                found.torn = Some(String::from_utf8_lossy(&octets[whole..]).into_owned());
            }
        }
        let all = disk.lines()?;
        found.last = all.iter().flatten().rev().find(|line| is_good(line)).cloned();
        Ok((disk, found))
    }

    fn old(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn handle(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        let before = self.octets;
        let now = Instant::now();
        let is_due = now.duration_since(self.synced) >= SYNC;
        let file = self.handle()?;
        // Left by a write that failed, whose rest could not be cut off then.
        if file.metadata()?.len() > before {
            file.set_len(before)?;
        }
        let line = format!("{line}\n");
        let written = store::fault::point().and_then(|()| file.write_all(line.as_bytes()));
        if written.is_err() {
            let _ = file.set_len(before);
            return written;
        }
        if is_due {
            file.sync_data()?;
        }
        self.octets = before + line.len() as u64;
        if is_due {
            self.synced = now;
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            file.sync_all()?;
        }
        for number in (0..OLD_FILES).rev() {
            let from = if number == 0 { self.path.clone() } else { self.old(number) };
            match std::fs::rename(from, self.old(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.octets = 0;
        Ok(())
    }

    fn remove(&mut self) -> Result<(), store::Error> {
        for number in (1..=OLD_FILES).rev() {
            store::remove(&self.old(number))?;
        }
        self.file = None;
        self.octets = 0;
        store::remove(&self.path).map(drop)
    }

    /// The lines of every file, the oldest file first.
    fn lines(&self) -> Result<Vec<Vec<String>>, store::Error> {
        let paths = (1..=OLD_FILES).rev().map(|number| self.old(number)).chain([self.path.clone()]);
        let read = paths.filter_map(|path| store::read(&path).transpose());
        read.map(|octets| Ok(String::from_utf8_lossy(&octets?).lines().map(str::to_owned).collect())).collect()
    }
}

impl Files {
    /// Appends a line.
    ///
    /// # Errors
    /// Nothing was appended.
    pub fn append(&mut self, line: &str) -> io::Result<()> {
        match self {
            Files::Memory(lines) => {
                // What begins the file stays, as the chain is checked from there.
                if lines.len() >= MEMORY_MAX {
                    lines.clear();
                }
                lines.push_back(line.to_owned());
                Ok(())
            }
            Files::Disk(disk) => disk.append(line),
        }
    }

    /// The next line begins a file.
    pub fn is_at_begin(&self) -> bool {
        match self {
            Files::Memory(lines) => lines.is_empty() || lines.len() >= MEMORY_MAX,
            Files::Disk(disk) => disk.octets == 0,
        }
    }

    /// Turns the file over when it is full.
    ///
    /// # Errors
    /// It can't be renamed.
    pub fn turn_when_full(&mut self) -> io::Result<()> {
        match self {
            Files::Disk(disk) if disk.octets >= FILE_MAX => disk.turn(),
            _ => Ok(()),
        }
    }

    /// Removes everything.
    ///
    /// # Errors
    /// A file can't be removed.
    pub fn clear(&mut self) -> Result<(), store::Error> {
        match self {
            Files::Memory(lines) => lines.clear(),
            Files::Disk(disk) => disk.remove()?,
        }
        Ok(())
    }

    /// The lines of every file, the oldest file first.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn lines(&self) -> Result<Vec<Vec<String>>, store::Error> {
        match self {
            Files::Memory(lines) => Ok(vec![lines.iter().cloned().collect()]),
            Files::Disk(disk) => disk.lines(),
        }
    }
}
