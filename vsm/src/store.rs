//! Files of the supervisor, written whole or not at all.
//!
//! A file is written beside its place, synchronised, and renamed; then the directory is synchronised. A crash at any
//! moment leaves the old file or the new one. Temporary files of a crash are harmless and are overwritten.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
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
    std::fs::rename(&beside, path).map_err(Error::at(path))?;
    sync_directory(path)
}

/// Creates a file that must not exist. Of several processes that do it at once, one succeeds.
///
/// # Errors
/// It exists already, or can't be written.
pub fn create(path: &Path, octets: &[u8], mode: u32) -> Result<(), Error> {
    let beside = lay_beside(path, octets, mode)?;
    let linked = std::fs::hard_link(&beside, path).map_err(Error::at(path));
    let _ = std::fs::remove_file(&beside);
    linked?;
    sync_directory(path)
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
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let lay = || {
        // A left-over of another mode must not lend its permissions.
        match std::fs::remove_file(&beside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => (),
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&beside)?;
        file.write_all(octets)?;
        file.sync_all()
    };
    lay().map_err(Error::at(&beside))?;
    Ok(beside)
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|d| d.sync_all()).map_err(Error::at(directory))
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
    fn errors_name_the_file() {
        assert!(write(Path::new("/nonexistent/f"), b"", 0o600).unwrap_err().to_string().starts_with("/nonexistent/f"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, b"\xff", 0o600).unwrap();
        assert!(read_text(&path).is_err());
    }
}
