//! The life of configurations: what is saved, kept, collected, tried out, and brought back.
//!
//! ```text
//!   startup-config  ── starts ──▶  running  ◀── rollback ──  checkpoints, bootflash:
//!   (last good one)                 │    ▲
//!                          session  │    │ commit ──▶ trial: confirmed, or the one before comes back
//!                          (a copy) └────┘
//! ```
//!
//! * `startup` is the saved configuration, and the last one that a supervisor has started with.
//! * `drafts` are configuration sessions: commands that are collected and not applied.
//! * `trial` is the commit that waits for its confirmation; meanwhile nobody else changes the configuration.
//! * `change` puts a whole configuration, or the lines of a text, in place of the running one. Everything goes through
//!   [`crate::supervisor::Handle::edit`], so it is whole or absent on every module like any other change.

mod change;
pub mod drafts;
pub mod startup;
pub mod trial;

use std::path::PathBuf;

use crate::bootstrap::Bootstrap;
use crate::config::checkpoint::CHECKPOINTS_MAX;
use crate::folder::Folder;
use crate::store;
use drafts::Drafts;
use startup::Startup;
use trial::Trial;

/// Most files of `bootflash:`.
pub const FILES_MAX: usize = 100;

/// Most golden configurations.
pub const GOLDEN_MAX: usize = 20;

/// What there is beside the running configuration.
pub struct Lifecycle {
    /// The configuration of the next start.
    pub startup: Startup,
    /// Checkpoints.
    pub checkpoints: Folder,
    /// Golden configurations, each written as a checkpoint is.
    pub golden: Folder,
    /// `bootflash:`
    pub files: Folder,
    /// Configuration sessions.
    pub drafts: Drafts,
    /// The commit that waits for its confirmation.
    pub trial: Trial,
}

impl Lifecycle {
    /// Without a disk.
    pub fn in_memory() -> Self {
        Lifecycle {
            startup: Startup::in_memory(),
            checkpoints: Folder::in_memory(CHECKPOINTS_MAX),
            golden: Folder::in_memory(GOLDEN_MAX),
            files: Folder::in_memory(FILES_MAX),
            drafts: Drafts::default(),
            trial: Trial::default(),
        }
    }

    /// In the state directory, which must be ours; `startup` is the text of the saved configuration.
    ///
    /// # Errors
    /// A folder can't be made or read.
    pub fn open(boot: &Bootstrap, startup: Option<String>) -> Result<Self, store::Error> {
        let folder = |name: &str| -> PathBuf { boot.state_dir.join(name) };
        Ok(Lifecycle {
            startup: Startup::open(boot, startup)?,
            checkpoints: Folder::open(&folder("checkpoints"), CHECKPOINTS_MAX)?,
            golden: Folder::open(&folder("golden"), GOLDEN_MAX)?,
            files: Folder::open(&folder("bootflash"), FILES_MAX)?,
            ..Lifecycle::in_memory()
        })
    }
}
