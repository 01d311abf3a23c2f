//! The console of a VSM, as a person at the keyboard has it: `vsm cli -c`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::Run;
use crate::error::{Error, Result};

/// A console; each run is a session of its own, which starts in EXEC mode.
#[derive(Clone, Debug)]
pub struct Console {
    binary: PathBuf,
    socket: PathBuf,
}

impl Console {
    /// The console behind a socket.
    pub fn new(binary: &Path, socket: &Path) -> Self {
        Console { binary: binary.to_owned(), socket: socket.to_owned() }
    }

    /// Types the commands one after the other and returns what was printed.
    ///
    /// # Errors
    /// A command failed; the error holds what was printed.
    pub fn run<S: AsRef<str>>(&self, commands: &[S]) -> Result<String> {
        let line = commands.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ; ");
        Run::new("")
            .arg(self.binary.display().to_string())
            .args("cli --socket")
            .arg(self.socket.display().to_string())
            .arg("-c")
            .arg(line)
            .limit(Duration::from_secs(20))
            .text()
    }

    /// Types one EXEC command.
    pub fn show(&self, command: &str) -> Result<String> {
        self.run(&[command])
    }

    /// Types one EXEC command with `| json`.
    pub fn json(&self, command: &str) -> Result<serde_json::Value> {
        let text = self.show(&format!("{command} | json"))?;
        serde_json::from_str(text.trim())
            .map_err(|e| Error::Unreadable { what: command.to_owned(), reason: format!("{e} in {text}") })
    }

    /// Types configuration commands.
    pub fn configure<S: AsRef<str>>(&self, commands: &[S]) -> Result<String> {
        let mut all = vec!["configure terminal"];
        all.extend(commands.iter().map(AsRef::as_ref));
        all.push("end");
        self.run(&all)
    }

    /// Types configuration commands that must be refused, and returns what was printed.
    pub fn refused<S: AsRef<str>>(&self, commands: &[S]) -> Result<String> {
        match self.configure(commands) {
            Err(Error::Command { output, .. }) => Ok(output),
            Err(other) => Err(other),
            Ok(_) => {
                let typed = commands.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ; ");
                Err(Error::Unmet(format!("`{typed}` was accepted")))
            }
        }
    }
}
