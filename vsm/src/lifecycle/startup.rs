//! The saved configuration, and the last one that was good.
//!
//! A supervisor starts with the startup configuration. If somebody has edited the file and made an error, nothing of it
//! is used: line and reason are logged, and the supervisor starts with the last one that was good, which it keeps
//! beside. Without one it doesn't start, and modules keep what they run.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use crate::bootstrap::Bootstrap;
use crate::config::model::Model;
use crate::config::startup::{self, LineError};
use crate::store;

/// The saved configuration. Any thread may use it.
pub struct Startup {
    text: ArcSwapOption<String>,
    place: Option<Place>,
    /// Two writers of a file would share its temporary one.
    writing: Mutex<()>,
}

struct Place {
    file: PathBuf,
    good: PathBuf,
}

impl Place {
    fn of(boot: &Bootstrap) -> Self {
        let file = boot.startup_config();
        let good = file.with_extension("good");
        Place { file, good }
    }
}

impl Startup {
    /// Without a disk.
    pub fn in_memory() -> Self {
        Startup { text: ArcSwapOption::empty(), place: None, writing: Mutex::default() }
    }

    /// In the state directory; what a crash left half written goes.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn open(boot: &Bootstrap, text: Option<String>) -> Result<Self, store::Error> {
        store::sweep(&boot.state_dir, "startup-config")?;
        let place = Some(Place::of(boot));
        Ok(Startup { text: ArcSwapOption::from_pointee(text), place, writing: Mutex::default() })
    }

    /// The text, when there is one.
    pub fn text(&self) -> Option<Arc<String>> {
        self.text.load_full()
    }

    /// Saves a text that is known to be good; it is on disk when this returns.
    ///
    /// # Errors
    /// It can't be written; the old one stays.
    pub fn save(&self, text: &str) -> Result<(), store::Error> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = &self.place {
            store::write(&place.file, text.as_bytes(), 0o600)?;
        }
        self.text.store(Some(Arc::new(text.to_owned())));
        self.keep(text)
    }

    /// Keeps a text as the last good one.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep_good(&self, text: &str) -> Result<(), store::Error> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.keep(text)
    }

    fn keep(&self, text: &str) -> Result<(), store::Error> {
        match &self.place {
            Some(place) if store::read(&place.good)?.as_deref() != Some(text.as_bytes()) => {
                store::write(&place.good, text.as_bytes(), 0o600)
            }
            _ => Ok(()),
        }
    }

    /// Removes the saved configuration; the last good one goes first, as it must not outlive what it stands in for.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn erase(&self) -> Result<(), store::Error> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = &self.place {
            store::remove(&place.good)?;
            store::remove(&place.file)?;
        }
        self.text.store(None);
        Ok(())
    }
}

/// What a supervisor starts with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// The running configuration.
    pub model: Model,
    /// The startup configuration, good or not.
    pub text: Option<String>,
    /// What is wrong with it, when `model` is the last good one instead.
    pub refused: Option<String>,
}

/// Why there is nothing to start with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The startup configuration has errors, and there is no good one.
    #[error("the startup configuration has errors\n{0}")]
    Lines(String),
}

/// Reads the startup configuration.
///
/// # Errors
/// See [`Error`].
pub fn load(boot: &Bootstrap) -> Result<Start, Error> {
    let place = Place::of(boot);
    let Some(text) = store::read_text(&place.file)? else {
        return Ok(Start { model: Model::default(), text: None, refused: None });
    };
    let errors = match startup::load(&text) {
        Ok(model) => return Ok(Start { model, text: Some(text), refused: None }),
        Err(errors) => errors,
    };
    let named = |error: &LineError| format!("{}: {error}", place.file.display());
    match store::read_text(&place.good)?.map(|good| startup::load(&good)) {
        Some(Ok(model)) => Ok(Start { model, text: Some(text), refused: Some(startup::first_of(&errors)) }),
        _ => Err(Error::Lines(errors.iter().map(named).collect::<Vec<_>>().join("\n"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fault;

    fn boot() -> (tempfile::TempDir, Bootstrap) {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("domain = 1\nlisten = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n", dir.path().display());
        let boot = Bootstrap::parse(&text).unwrap();
        (dir, boot)
    }

    #[test]
    fn an_error_in_the_file_starts_the_last_good_one() {
        let (_dir, boot) = boot();
        assert_eq!(load(&boot).unwrap().text, None);
        std::fs::write(boot.startup_config(), "hostname a\nvlan 5000\nfrob\n").unwrap();
        let error = load(&boot).unwrap_err().to_string();
        assert!(error.contains("line 2, 'vlan 5000'") && error.contains("line 3, 'frob'"), "{error}");

        let startup = Startup::open(&boot, None).unwrap();
        startup.save("hostname good\n").unwrap();
        assert_eq!(load(&boot).unwrap().model.hostname, "good");
        std::fs::write(boot.startup_config(), "hostname a\nvlan 5000\nfrob\n").unwrap();
        let start = load(&boot).unwrap();
        assert_eq!(start.model.hostname, "good");
        assert!(start.text.unwrap().contains("frob"));
        let refused = start.refused.unwrap();
        assert_eq!(refused, "line 2, 'vlan 5000': Invalid number, range is (1:4094) at column 6. (and 1 more)");

        startup.erase().unwrap();
        assert_eq!(load(&boot).unwrap(), Start { model: Model::default(), text: None, refused: None });
        assert_eq!(startup.text(), None);
    }

    #[test]
    fn wherever_a_save_or_an_erase_dies_the_next_start_has_the_old_or_the_new_one() {
        let (_dir, boot) = boot();
        let [old, new] = ["old", "new"].map(|name| format!("hostname {name}\n{}", "! a comment\n".repeat(10_000)));
        for erase in [false, true] {
            let mut found = std::collections::BTreeSet::new();
            for points in 0.. {
                let startup = Startup::open(&boot, None).unwrap();
                startup.save(&old).unwrap();
                let dead = fault::dies(points, || match erase {
                    true => drop(startup.erase()),
                    false => drop(startup.save(&new)),
                });
                let start = load(&boot).unwrap();
                assert_eq!(start.refused, None);
                found.insert(start.model.hostname);
                if !dead {
                    break;
                }
            }
            let wanted = if erase { ["old", "switch"] } else { ["new", "old"] };
            assert!(found.iter().eq(&wanted), "{found:?}");
        }
    }
}
