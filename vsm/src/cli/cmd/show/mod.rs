//! The `show` commands, a file per feature.

pub mod terminal;

use crate::cli::tree::Command;

/// All `show` commands of this folder.
pub fn commands() -> Vec<Command> {
    [terminal::commands()].into_iter().flatten().collect()
}
