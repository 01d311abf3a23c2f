//! A folder of files that the administrator names: checkpoints, and what is copied to `bootflash:`.
//!
//! A name is a name, never a path: [`check_name`] stands before every access, so nothing outside of the folder can be
//! reached. Files are written by [`crate::store`], one at a time, whole or not at all. A supervisor without a disk keeps
//! them in memory.
//!
//! Limits: the number of files is given by who makes the folder; a name has up to [`NAME_MAX`] characters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::store;

/// Most characters of a name.
pub const NAME_MAX: usize = 80;

/// Why a file can't be had. The text is what the administrator sees.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be the name of a file.
    #[error("'{0}' is no name: up to {NAME_MAX} letters, digits, '.', '-' and '_', and no '.' in front")]
    Name(String),
    /// There is one of the name.
    #[error("'{0}' exists already")]
    Exists(String),
    /// There are as many as there may be.
    #[error("There are {0} already")]
    Full(usize),
    /// A text was expected.
    #[error("'{0}' is no text")]
    Text(String),
    /// The disk.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A file of a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its length.
    pub octets: u64,
    /// When it was written.
    pub written: SystemTime,
}

/// A folder. Any thread may use it.
pub struct Folder {
    /// `None`: it is in memory.
    path: Option<PathBuf>,
    files_max: usize,
    /// What is in memory; held as well while something is written to disk, as two writers of a file would share its
    /// temporary one.
    inner: Mutex<BTreeMap<String, (Vec<u8>, SystemTime)>>,
}

impl Folder {
    /// The folder at `path`, made if need be; what a crash left half written goes.
    ///
    /// # Errors
    /// It can't be made or read.
    pub fn open(path: &Path, files_max: usize) -> Result<Self, store::Error> {
        store::make_directory(path)?;
        store::sweep(path, "")?;
        Ok(Folder { path: Some(path.to_owned()), files_max, inner: Mutex::default() })
    }

    /// A folder that goes with the process.
    pub fn in_memory(files_max: usize) -> Self {
        Folder { path: None, files_max, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, BTreeMap<String, (Vec<u8>, SystemTime)>> {
        // Changed by one insert or remove at a time, so what a panicked thread left is sound.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its files, by name.
    ///
    /// # Errors
    /// The disk.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        self.entries(&self.inner())
    }

    fn entries(&self, inner: &BTreeMap<String, (Vec<u8>, SystemTime)>) -> Result<Vec<Entry>, Error> {
        let Some(path) = &self.path else {
            let entry = |(name, (octets, written)): (&String, &(Vec<u8>, SystemTime))| Entry {
                name: name.clone(),
                octets: octets.len() as u64,
                written: *written,
            };
            return Ok(inner.iter().map(entry).collect());
        };
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path).map_err(store::Error::at(path))? {
            let entry = entry.map_err(store::Error::at(path))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // What is removed meanwhile, and what is no file of ours, is not shown.
            let Some(about) = entry.metadata().ok().filter(|about| about.is_file() && check_name(&name).is_ok()) else {
                continue;
            };
            let written = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            entries.push(Entry { name, octets: about.len(), written });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The text of a file; `None` when there is none.
    ///
    /// # Errors
    /// The name, the disk, or it is no text.
    pub fn read(&self, name: &str) -> Result<Option<String>, Error> {
        let text = |octets| String::from_utf8(octets).map_err(|_| Error::Text(name.to_owned()));
        self.read_octets(name)?.map(text).transpose()
    }

    /// A file, whatever is in it; `None` when there is none.
    ///
    /// # Errors
    /// The name, or the disk.
    pub fn read_octets(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        check_name(name)?;
        match &self.path {
            None => Ok(self.inner().get(name).map(|(octets, _)| octets.clone())),
            Some(path) => {
                let path = path.join(name);
                // A link would lead out of the folder.
                let is_file = std::fs::symlink_metadata(&path).is_ok_and(|about| about.is_file());
                if is_file { Ok(store::read(&path)?) } else { Ok(None) }
            }
        }
    }

    /// Writes a file; one of the name is replaced.
    ///
    /// # Errors
    /// The name, the number of files, or the disk; nothing has changed then.
    pub fn write(&self, name: &str, text: &str, now: SystemTime) -> Result<(), Error> {
        self.put(name, text.as_bytes(), now, true)
    }

    /// As [`Folder::write`], for what may be no text.
    ///
    /// # Errors
    /// As [`Folder::write`].
    pub fn write_octets(&self, name: &str, octets: &[u8], now: SystemTime) -> Result<(), Error> {
        self.put(name, octets, now, true)
    }

    /// Writes a file that must not exist.
    ///
    /// # Errors
    /// As [`Folder::write`], or it exists.
    pub fn create(&self, name: &str, text: &str, now: SystemTime) -> Result<(), Error> {
        self.put(name, text.as_bytes(), now, false)
    }

    fn put(&self, name: &str, octets: &[u8], now: SystemTime, replace: bool) -> Result<(), Error> {
        check_name(name)?;
        let mut inner = self.inner();
        let entries = self.entries(&inner)?;
        match entries.iter().any(|entry| entry.name == name) {
            true if !replace => return Err(Error::Exists(name.to_owned())),
            false if entries.len() >= self.files_max => return Err(Error::Full(self.files_max)),
            _ => {}
        }
        match &self.path {
            Some(path) if replace => store::write(&path.join(name), octets, 0o600)?,
            Some(path) => store::create(&path.join(name), octets, 0o600)?,
            None => drop(inner.insert(name.to_owned(), (octets.to_owned(), now))),
        }
        Ok(())
    }

    /// Removes a file; `false` when there was none.
    ///
    /// # Errors
    /// The name, or the disk.
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        check_name(name)?;
        let mut inner = self.inner();
        match &self.path {
            Some(path) => Ok(store::remove(&path.join(name))?),
            None => Ok(inner.remove(name).is_some()),
        }
    }

    /// Octets that are free on its disk, and that the disk has; none in memory.
    pub fn room(&self) -> (u64, u64) {
        let disk = self.path.as_ref().and_then(|path| rustix::fs::statvfs(path).ok());
        disk.map_or((0, 0), |disk| {
            let octets = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            (octets(disk.f_bavail), octets(disk.f_blocks))
        })
    }
}

/// The name can be that of a file.
///
/// # Errors
/// It can't.
pub fn check_name(name: &str) -> Result<(), Error> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = (1..=NAME_MAX).contains(&name.len()) && name.chars().all(fits);
    match is_name && !name.starts_with('.') && !name.ends_with(store::UNFINISHED) {
        true => Ok(()),
        false => Err(Error::Name(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_behave_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for folder in [Folder::in_memory(2), Folder::open(&dir.path().join("files"), 2).unwrap()] {
            assert_eq!(folder.read("a").unwrap(), None);
            folder.create("b", "two", now).unwrap();
            folder.write("a", "one", now).unwrap();
            folder.write("a", "ONE", now).unwrap();
            assert!(matches!(folder.create("a", "x", now), Err(Error::Exists(_))));
            assert!(matches!(folder.write("c", "x", now), Err(Error::Full(2))));
            assert_eq!(folder.read("a").unwrap().as_deref(), Some("ONE"));
            folder.write_octets("b", &[0xff, 0, 1], now).unwrap();
            assert_eq!(folder.read_octets("b").unwrap().as_deref(), Some(&[0xff, 0, 1][..]));
            assert!(matches!(folder.read("b"), Err(Error::Text(_))));
            let list = folder.list().unwrap();
            assert_eq!(list.iter().map(|e| (e.name.as_str(), e.octets)).collect::<Vec<_>>(), [("a", 3), ("b", 3)]);
            assert!(folder.remove("b").unwrap() && !folder.remove("b").unwrap());
        }
    }

    #[test]
    fn nothing_outside_can_be_reached() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "key").unwrap();
        let folder = Folder::open(&dir.path().join("files"), 9).unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), dir.path().join("files/link")).unwrap();
        assert_eq!(folder.read("link").unwrap(), None);
        assert!(folder.list().unwrap().is_empty());
        let long = "x".repeat(NAME_MAX + 1);
        for name in ["../secret", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "a b", ".hidden", "a.1.new", "é", &long]
        {
            assert!(matches!(folder.read(name), Err(Error::Name(_))), "{name}");
            assert!(matches!(folder.write(name, "x", SystemTime::now()), Err(Error::Name(_))), "{name}");
            assert!(matches!(folder.remove(name), Err(Error::Name(_))), "{name}");
        }
    }
}
