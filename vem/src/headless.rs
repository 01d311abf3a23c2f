//! The last good configuration and the attachments, on disk: what a host comes up with when no supervisor answers.
//!
//! | file          | holds                                                                        |
//! |---------------|------------------------------------------------------------------------------|
//! | `config`      | version, hash and octets of the last committed [`HostConfig`]                 |
//! | `attachments` | ports with their numbers ([`crate::attach::Attachments`])                     |
//! | `uuid`        | identity of this host, made once                                             |
//! | `lock`        | held by the running agent, so that two never share a directory               |
//!
//! A file is written whole: to a temporary name, flushed to the disk, renamed, and the directory flushed. It starts with a
//! magic word and the SHA-256 of the rest, so a torn or altered file is recognised; it is then reported and not used.
//!
//! All calls block on the disk; they are made by the control thread, never by the one that forwards.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use proto::config::HostConfig;
use proto::msg::{ConfigHash, HostUuid, MESSAGE_MAX};
use sha2::{Digest, Sha256};

use crate::attach::Attachments;

const MAGIC: &[u8; 8] = b"VEMSTAT1";

/// Why state can't be kept or is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is torn, altered, or of another version of the software.
    #[error("{}: {reason}; the file is ignored", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that is known.
        reason: &'static str,
    },
    /// Another agent works in the directory.
    #[error("{}: another agent uses this directory", .0.display())]
    Locked(PathBuf),
}

/// The last good configuration.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct LastGood {
    /// Version that the supervisor gave it.
    #[n(0)]
    pub version: u64,
    /// SHA-256 of `config`.
    #[n(1)]
    pub hash: ConfigHash,
    /// An encoded [`HostConfig`], as it came.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub config: Vec<u8>,
}

impl LastGood {
    /// Encodes a configuration under a version.
    pub fn of(version: u64, config: &HostConfig) -> LastGood {
        let mut octets = Vec::new();
        // Writing to a vector can't fail.
        let written = minicbor::encode(config, &mut octets);
        debug_assert!(written.is_ok());
        LastGood { version, hash: ConfigHash(Sha256::digest(&octets).into()), config: octets }
    }

    /// The configuration.
    ///
    /// # Errors
    /// The octets are not what the hash says, or not a configuration.
    pub fn decode(&self) -> Result<HostConfig, &'static str> {
        if Sha256::digest(&self.config).as_slice() != self.hash.0 {
            return Err("the hash of the configuration is wrong");
        }
        minicbor::decode(&self.config).map_err(|_| "the configuration can't be decoded")
    }
}

/// The state directory, held by this process.
pub struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens `dir`, makes it if it is not there, and locks it.
    ///
    /// # Errors
    /// The directory can't be made or used, or another agent holds it.
    pub fn open(dir: &Path) -> Result<Store, Error> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail(dir))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(fail(&path))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Store { dir: dir.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked(dir.to_owned())),
            Err(e) => Err(Error::File { path, source: e.into() }),
        }
    }

    /// The last good configuration, decoded; `None` when there has been none.
    ///
    /// # Errors
    /// The file is there and can't be used.
    pub fn load_config(&self) -> Result<Option<(LastGood, HostConfig)>, Error> {
        let Some(last) = self.load::<LastGood>("config")? else { return Ok(None) };
        let config = last.decode().map_err(|reason| Error::Damaged { path: self.dir.join("config"), reason })?;
        Ok(Some((last, config)))
    }

    /// Brings a configuration to the disk beside the last good one, so that making it the last good one needs no room any
    /// more: a full disk refuses a change while it can still be refused everywhere.
    ///
    /// # Errors
    /// The disk refuses; nothing has changed.
    pub fn stage_config(&self, next: &LastGood) -> Result<(), Error> {
        let octets = self.encode("config", next)?;
        stage(&self.dir, "config", &octets).map_err(|source| Error::File { path: self.dir.join("config"), source })
    }

    /// Makes the staged configuration the last good one.
    ///
    /// # Errors
    /// The disk refuses; the last good configuration is then as it was.
    pub fn keep_staged_config(&self) -> Result<(), Error> {
        put(&self.dir, "config").map_err(|source| Error::File { path: self.dir.join("config"), source })
    }

    /// Keeps the last good configuration.
    ///
    /// # Errors
    /// The disk refuses; the file is then as it was.
    pub fn save_config(&self, last: &LastGood) -> Result<(), Error> {
        self.stage_config(last)?;
        self.keep_staged_config()
    }

    /// The attachments; none when none were kept.
    ///
    /// # Errors
    /// The file is there and can't be used.
    pub fn load_attachments(&self) -> Result<Attachments, Error> {
        Ok(self.load::<Attachments>("attachments")?.unwrap_or_default())
    }

    /// Keeps the attachments.
    ///
    /// # Errors
    /// The disk refuses; the file is then as it was.
    pub fn save_attachments(&self, attachments: &Attachments) -> Result<(), Error> {
        self.save("attachments", attachments)
    }

    fn load<T>(&self, name: &str) -> Result<Option<T>, Error>
    where
        T: for<'b> Decode<'b, ()>,
    {
        let path = self.dir.join(name);
        let damaged = |reason| Error::Damaged { path: path.clone(), reason };
        let octets = match std::fs::read(&path) {
            Ok(octets) => octets,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::File { path, source }),
        };
        let rest = octets.strip_prefix(MAGIC.as_slice()).ok_or_else(|| damaged("it does not start as it should"))?;
        let (hash, body) = rest.split_at_checked(32).ok_or_else(|| damaged("it is cut short"))?;
        if Sha256::digest(body).as_slice() != hash {
            return Err(damaged("its checksum is wrong"));
        }
        minicbor::decode(body).map(Some).map_err(|_| damaged("it can't be decoded"))
    }

    fn save<T: Encode<()>>(&self, name: &str, value: &T) -> Result<(), Error> {
        let octets = self.encode(name, value)?;
        write_whole(&self.dir, name, &octets).map_err(|source| Error::File { path: self.dir.join(name), source })
    }

    /// The octets of a file: magic word, checksum, value.
    fn encode<T: Encode<()>>(&self, name: &str, value: &T) -> Result<Vec<u8>, Error> {
        let fail = |source| Error::File { path: self.dir.join(name), source };
        let mut body = Vec::new();
        minicbor::encode(value, &mut body).map_err(|_| fail(io::Error::other("can't be encoded")))?;
        if body.len() > 2 * MESSAGE_MAX {
            return Err(fail(io::Error::other("too large")));
        }
        let mut octets = MAGIC.to_vec();
        octets.extend_from_slice(&Sha256::digest(&body));
        octets.extend_from_slice(&body);
        Ok(octets)
    }
}

/// Writes a file so that after a crash it is either as before or as asked for.
fn write_whole(dir: &Path, name: &str, octets: &[u8]) -> io::Result<()> {
    stage(dir, name, octets)?;
    put(dir, name)
}

/// Writes a file under its temporary name and flushes it. What can't be written whole is removed: the room is needed.
fn stage(dir: &Path, name: &str, octets: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(octets)?;
        file.sync_all()
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

/// Gives a staged file its name.
fn put(dir: &Path, name: &str) -> io::Result<()> {
    std::fs::rename(dir.join(format!("{name}.new")), dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// The identity of this host: made and kept in `dir` at the first call. Enrolment and agent see the same one.
///
/// # Errors
/// The directory or the file can't be made or read, or the file does not hold a UUID.
pub fn host_uuid(dir: &Path) -> Result<HostUuid, Error> {
    let path = dir.join("uuid");
    let fail = |source| Error::File { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| fail(io::Error::other("does not hold a UUID"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
            let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(fail)?;
            let uuid = text.trim().parse().map_err(|_| fail(io::Error::other("the kernel gave no UUID")))?;
            write_whole(dir, "uuid", text.as_bytes()).map_err(fail)?;
            Ok(uuid)
        }
        Err(source) => Err(fail(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_config() -> HostConfig {
        HostConfig { module: 3, switch_name: "n1kv".into(), mac_aging_s: 300, ..HostConfig::default() }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(store.load_config().unwrap().is_none());
        assert!(store.load_attachments().unwrap().is_empty());
        let last = LastGood::of(42, &some_config());
        store.save_config(&last).unwrap();
        assert_eq!(store.load_config().unwrap().unwrap(), (last, some_config()));
        let newer = LastGood::of(43, &HostConfig { module: 4, ..some_config() });
        store.save_config(&newer).unwrap();
        assert_eq!(store.load_config().unwrap().unwrap().1.module, 4);
    }

    #[test]
    fn what_is_staged_counts_when_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save_config(&LastGood::of(42, &some_config())).unwrap();
        store.stage_config(&LastGood::of(43, &some_config())).unwrap();
        assert_eq!(store.load_config().unwrap().unwrap().0.version, 42);
        store.keep_staged_config().unwrap();
        assert_eq!(store.load_config().unwrap().unwrap().0.version, 43);
        assert!(store.keep_staged_config().is_err(), "nothing is staged any more");
    }

    #[test]
    fn a_torn_or_altered_file_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save_config(&LastGood::of(42, &some_config())).unwrap();
        let path = dir.path().join("config");
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(store.load_config(), Err(Error::Damaged { .. })), "{length}");
        }
        for at in 0..whole.len() {
            let mut altered = whole.clone();
            altered[at] ^= 0x40;
            std::fs::write(&path, &altered).unwrap();
            assert!(matches!(store.load_config(), Err(Error::Damaged { .. })), "{at}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(store.load_config().unwrap().is_some());
    }

    #[test]
    fn a_configuration_that_is_not_what_its_hash_says_is_refused() {
        let mut last = LastGood::of(1, &some_config());
        assert!(last.decode().is_ok());
        last.hash.0[0] ^= 1;
        assert!(last.decode().is_err());
    }

    #[test]
    fn a_crash_before_the_rename_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save_config(&LastGood::of(42, &some_config())).unwrap();
        std::fs::write(dir.path().join("config.new"), b"half").unwrap();
        assert_eq!(store.load_config().unwrap().unwrap().0.version, 42);
    }

    #[test]
    fn two_agents_do_not_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(dir.path()).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(Error::Locked(_))));
        drop(first);
        assert!(Store::open(dir.path()).is_ok());
    }

    #[test]
    fn the_identity_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("deeper");
        let first = host_uuid(&place).unwrap();
        assert_eq!(host_uuid(&place).unwrap(), first);
        std::fs::write(place.join("uuid"), "nonsense").unwrap();
        assert!(host_uuid(&place).is_err());
    }
}
