//! The file of the log: lines are appended, and it is turned over when it is full.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An open file.
pub(super) struct Disk {
    path: PathBuf,
    file: File,
    pub(super) octets: u64,
}

impl Disk {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let octets = file.metadata()?.len();
        Ok(Disk { path: path.to_owned(), file, octets })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line; a file of `most` octets is turned over before, and the one before it is kept.
    pub(super) fn write(&mut self, line: &str, most: u64) -> std::io::Result<()> {
        if self.octets >= most {
            std::fs::rename(&self.path, before(&self.path))?;
            *self = Disk::open(&self.path)?;
        }
        let line = format!("{line}\n");
        self.file.write_all(line.as_bytes())?;
        self.octets += line.len() as u64;
        Ok(())
    }

    /// Empties it, and forgets the one before.
    pub(super) fn clear(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.octets = 0;
        match std::fs::remove_file(before(&self.path)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// Where a file goes that is turned over.
fn before(path: &Path) -> PathBuf {
    let mut old = path.to_owned().into_os_string();
    old.push(".1");
    old.into()
}
