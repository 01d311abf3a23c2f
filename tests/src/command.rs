//! Running the programs that the lab is made of: `ip`, `ping`, `tshark`, `vsm cli`, …
//!
//! Every run is bounded in time: `timeout` of coreutils stands in front, so a program that hangs is a failure with a
//! name and not a lab that hangs.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::error::{Error, Result, Tried};

/// A program with its arguments, a namespace and a time limit.
#[derive(Clone, Debug)]
pub struct Run {
    argv: Vec<String>,
    netns: Option<String>,
    limit: Duration,
}

impl Run {
    /// `words` is the program and its first arguments, separated by blanks.
    pub fn new(words: &str) -> Self {
        Run { argv: words.split_whitespace().map(str::to_owned).collect(), netns: None, limit: Duration::from_secs(30) }
    }

    /// One more argument, taken as it is.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// More arguments, separated by blanks.
    pub fn args(mut self, words: &str) -> Self {
        self.argv.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    /// Run inside the network namespace.
    pub fn netns(mut self, name: &str) -> Self {
        self.netns = Some(name.to_owned());
        self
    }

    /// Ends the program after that time, which makes it a failure.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The command line as a person would type it.
    pub fn line(&self) -> String {
        let quoted = self.argv.iter().map(|a| if a.contains([' ', ';', '|']) { format!("'{a}'") } else { a.clone() });
        let place = self.netns.as_ref().map(|n| format!("ip netns exec {n} ")).unwrap_or_default();
        place + &quoted.collect::<Vec<_>>().join(" ")
    }

    /// The prepared command, with nothing on its standard input.
    pub fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", &format!("{}", self.limit.as_secs_f64())]);
        if let Some(netns) = &self.netns {
            command.args(["ip", "netns", "exec", netns]);
        }
        command.args(&self.argv).stdin(Stdio::null());
        command
    }

    /// Runs it, whatever its exit status.
    pub fn output(&self) -> Result<Output> {
        self.command().output().tried(self.line())
    }

    /// Runs it and returns its standard output; any exit status but 0 is an error.
    pub fn text(&self) -> Result<String> {
        let output = self.output()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        let ended = match output.status.code() {
            Some(124 | 137) => format!("no end after {:.0} s ", self.limit.as_secs_f64()),
            _ => String::new(),
        };
        let said = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
        Err(Error::Command { command: self.line(), output: format!("{ended}{}", said.trim()) })
    }

    /// Runs it and says whether it ended well.
    pub fn succeeds(&self) -> bool {
        self.output().is_ok_and(|o| o.status.success())
    }
}

/// The program is installed: found on the path, or where the system keeps its own.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_failed() {
        let error = Run::new("ls").arg("/no such place").text().expect_err("there is no such place");
        assert!(error.to_string().starts_with("`ls '/no such place'` failed:"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let run = Run::new("sleep 20").limit(Duration::from_millis(200));
        assert!(run.text().expect_err("it hangs").to_string().contains("no end after"));
    }

    #[test]
    fn finds_programs() {
        assert!(installed("ls"));
        assert!(!installed("no-such-program"));
    }
}
