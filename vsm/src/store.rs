//! Files of the supervisor, written whole or not at all.
//!
//! A file is written beside its place, synchronised, and renamed; then the directory is synchronised. A crash at any
//! moment leaves the old file or the new one. Temporary files of a crash end in [`UNFINISHED`]; they are harmless, and are
//! overwritten or swept away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How the names of files end that are still being written.
pub const UNFINISHED: &str = ".new";
/// Octets that are written at a time.
const PIECE: usize = 64 << 10;

/// A file can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct Error {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Error {
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error { path, source }
    }

    /// The file's content is not what it should be.
    pub fn content(path: &Path, what: impl std::fmt::Display) -> Error {
        Error { path: path.to_owned(), source: io::Error::new(io::ErrorKind::InvalidData, what.to_string()) }
    }
}

/// Replaces a file; `mode` are its permissions, such as `0o600`.
///
/// # Errors
/// The old file is unchanged.
pub fn write(path: &Path, octets: &[u8], mode: u32) -> Result<(), Error> {
    let beside = lay_beside(path, octets, mode)?;
    fault::point().and_then(|()| std::fs::rename(&beside, path)).map_err(Error::at(path))?;
    sync_directory(path)
}

/// Creates a file that must not exist. Of several processes that do it at once, one succeeds.
///
/// # Errors
/// It exists already, or can't be written.
pub fn create(path: &Path, octets: &[u8], mode: u32) -> Result<(), Error> {
    let beside = lay_beside(path, octets, mode)?;
    let linked = fault::point().and_then(|()| std::fs::hard_link(&beside, path)).map_err(Error::at(path));
    let _ = fault::point().and_then(|()| std::fs::remove_file(&beside));
    linked?;
    sync_directory(path)
}

/// Removes a file; `false` when there was none.
///
/// # Errors
/// It is there and can't be removed.
pub fn remove(path: &Path) -> Result<bool, Error> {
    match fault::point().and_then(|()| std::fs::remove_file(path)) {
        Ok(()) => sync_directory(path).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::at(path)(e)),
    }
}

/// Removes what a crash left half written in a directory, of the files whose names begin so.
///
/// # Errors
/// The directory can't be read, or a file of it can't be removed.
pub fn sweep(directory: &Path, beginning: &str) -> Result<(), Error> {
    for entry in std::fs::read_dir(directory).map_err(Error::at(directory))? {
        let entry = entry.map_err(Error::at(directory))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(beginning) && name.ends_with(UNFINISHED) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Reads a file; `None` when there is none.
///
/// # Errors
/// It is there and can't be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match std::fs::read(path) {
        Ok(octets) => Ok(Some(octets)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::at(path)(e)),
    }
}

/// Reads a text file; `None` when there is none.
///
/// # Errors
/// It is there and can't be read, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<Option<String>, Error> {
    read(path)?.map(|octets| String::from_utf8(octets).map_err(|e| Error::content(path, e))).transpose()
}

/// Creates a directory that only its owner may enter, and its parents.
///
/// # Errors
/// It can't be created.
pub fn make_directory(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::at(path))
}

/// Takes the directory for this process alone, for as long as the result lives.
///
/// # Errors
/// Another supervisor has it.
pub fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(Error::at(&path))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
        rustix::io::Errno::WOULDBLOCK => Error::content(&path, "another supervisor runs on this directory"),
        e => Error::at(&path)(e.into()),
    })?;
    Ok(file)
}

/// Writes and synchronises a temporary file beside `path`, one per process.
fn lay_beside(path: &Path, octets: &[u8], mode: u32) -> Result<PathBuf, Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}{UNFINISHED}", std::process::id()));
    let beside = path.with_file_name(name);
    let lay = || {
        // A left-over of another mode must not lend its permissions.
        match fault::point().and_then(|()| std::fs::remove_file(&beside)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => (),
        }
        fault::point()?;
        let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&beside)?;
        for piece in octets.chunks(PIECE) {
            fault::point()?;
            file.write_all(piece)?;
        }
        fault::point()?;
        file.sync_all()
    };
    lay().map_err(Error::at(&beside))?;
    Ok(beside)
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fault::point().and_then(|()| File::open(directory)?.sync_all()).map_err(Error::at(directory))
}

/// Where a process may die: between any two system calls.
#[cfg(not(test))]
pub(crate) mod fault {
    /// Goes on.
    #[inline]
    pub fn point() -> std::io::Result<()> {
        Ok(())
    }
}

/// Where a process may die: between any two system calls. A test says after how many of them this thread does nothing
/// more to the disk.
#[cfg(test)]
pub(crate) mod fault {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Goes on, or is dead.
    pub fn point() -> std::io::Result<()> {
        match LEFT.get() {
            Some(0) => Err(std::io::Error::other("dead")),
            left => {
                LEFT.set(left.map(|n| n - 1));
                Ok(())
            }
        }
    }

    /// Runs `act`, which dies after `points`; `false` when it came to its end before.
    pub fn dies(points: u32, act: impl FnOnce()) -> bool {
        LEFT.set(Some(points));
        act();
        LEFT.replace(None) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(read_text(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_is_created_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        create(&path, b"one", 0o600).unwrap();
        let error = create(&path, b"two", 0o600).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"one"[..]));
    }

    #[test]
    fn a_directory_has_one_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).unwrap_err().to_string().contains("another supervisor"));
        drop(first);
        lock(dir.path()).unwrap();
    }

    #[test]
    fn a_file_is_old_or_new_wherever_its_writer_dies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let [old, new] = ["old ", "new "].map(|word| word.repeat(50_000).into_bytes());
        let mut found = std::collections::BTreeSet::new();
        let mut points = 0;
        loop {
            write(&path, &old, 0o600).unwrap();
            let dead = fault::dies(points, || drop(write(&path, &new, 0o600)));
            let now = read(&path).unwrap().unwrap();
            assert!(now == old || now == new, "after {points} system calls");
            found.insert(now == new);
            sweep(dir.path(), "f").unwrap();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
            if !dead {
                break;
            }
            points += 1;
        }
        assert!(points > 6 && found.len() == 2, "{points}");
    }

    #[test]
    fn a_new_file_is_whole_or_absent_wherever_its_writer_dies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let text = "text ".repeat(50_000).into_bytes();
        for points in 0.. {
            let dead = fault::dies(points, || drop(create(&path, &text, 0o600)));
            assert!(read(&path).unwrap().is_none_or(|now| now == text), "after {points} system calls");
            sweep(dir.path(), "f").unwrap();
            if remove(&path).unwrap() && !dead {
                break;
            }
        }
        assert!(!remove(&path).unwrap());
    }

    #[test]
    fn errors_name_the_file() {
        assert!(write(Path::new("/nonexistent/f"), b"", 0o600).unwrap_err().to_string().starts_with("/nonexistent/f"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, b"\xff", 0o600).unwrap();
        assert!(read_text(&path).is_err());
    }
}
