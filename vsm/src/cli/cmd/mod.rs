//! The commands: grammar and handlers, a file per feature; what a feature shows is in `show`.

pub mod session;
pub mod show;

use super::tree::Command;

/// All commands.
pub fn all() -> Vec<Command> {
    [session::commands(), show::commands()].into_iter().flatten().collect()
}
