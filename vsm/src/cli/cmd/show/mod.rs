//! The `show` commands, a file per feature.

pub mod configuration;
pub mod port_profile;
pub mod terminal;

use crate::cli::tree::Command;

/// All `show` commands of this folder.
pub fn commands() -> Vec<Command> {
    [configuration::commands(), port_profile::commands(), terminal::commands()].into_iter().flatten().collect()
}
