//! Commands of one request: a session of the command line, with what both dialects ask of it.
//!
//! The session begins where configuration commands are understood, as those of NX-API come without `configure terminal`;
//! commands of EXEC mode are understood everywhere. Commands of a request share it. When a configuration command has
//! failed, the lines behind it are not carried out: they might be meant for a mode that was not entered.

use std::time::SystemTime;

use serde_json::Value;

use crate::cli::logins::{Service, Visitor};
use crate::cli::render::Output;
use crate::cli::session::{Kind, Session};
use crate::cli::tree::{Error, Mode};
use crate::supervisor::Handle;

/// Most commands of a request.
pub const COMMANDS_MAX: usize = 4096;
/// Octets of text that the commands of a request may print before no more are carried out.
pub const PRINTED_MAX: usize = 16 << 20;
/// Characters of a command.
const COMMAND_MAX: usize = crate::cli::line::LINE_MAX;

/// In what form output is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// As the JSON of the command.
    Structured,
    /// The same, in which everything that may be several is a list.
    Lists,
    /// As the command line prints it.
    Text,
}

/// What a request may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Commands of every kind.
    All,
    /// None that configures.
    Shows,
    /// None that shows.
    Configures,
}

/// How it goes on after a configuration command that has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// Not at all.
    Stop,
    /// As if nothing had happened.
    Continue,
}

impl After {
    /// As requests name it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "stop-on-error" => Some(After::Stop),
            "continue-on-error" => Some(After::Continue),
            _ => None,
        }
    }
}

/// What came of a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// It had this to show.
    Shown(Value),
    /// It did something, and printed this.
    Done(String),
}

/// Why a command was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// As the command line says it.
    #[error("{0}")]
    Refused(String),
    /// The role has no such right.
    #[error("{0}")]
    Denied(String),
    /// It has no JSON.
    #[error("Structured output unsupported")]
    Unstructured,
    /// A command that configures, where only showing is asked for.
    #[error("Show mode does not allow configuration")]
    NoConfiguration,
    /// The other way round.
    #[error("Configuration mode does not allow show")]
    NoShow,
    /// It is no line of text.
    #[error("A command is one line of up to {COMMAND_MAX} characters")]
    NoLine,
    /// One before it has failed.
    #[error("Not carried out, as a command before it has failed")]
    Skipped,
    /// So much was printed that no more is.
    #[error("Not carried out, as the answer has grown too large")]
    TooMuch,
}

/// The commands of one request.
pub struct Engine {
    session: Session,
    login: u64,
    printed: usize,
    after: After,
    stopped: bool,
}

impl Engine {
    /// For a visitor who has been let in.
    pub fn new(handle: Handle, visitor: Visitor) -> Self {
        let user = visitor.user.clone();
        let login = handle.logins().begin_at(Service::Nxapi, visitor, SystemTime::now());
        let session = Session::of(handle, login, user);
        Engine { session, login, printed: 0, after: After::Stop, stopped: false }
    }

    /// What happens after a failure; unless said, nothing more.
    pub fn set_after(&mut self, after: After) {
        self.after = after;
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// Why not.
    pub fn run(&mut self, command: &str, form: Form, scope: Scope) -> Result<Outcome, Failure> {
        let command = command.trim();
        if self.stopped || self.session.is_closed() {
            return Err(Failure::Skipped);
        }
        if self.printed > PRINTED_MAX {
            return Err(Failure::TooMuch);
        }
        if command.chars().count() > COMMAND_MAX || command.chars().any(|c| c.is_control() && c != '\t') {
            return Err(Failure::NoLine);
        }
        if self.session.mode() == Mode::Exec {
            self.session.configure();
        }
        let kind = self.session.kind(command);
        match (scope, kind) {
            (Scope::Shows, Some(Kind::Configures)) => return self.end(Failure::NoConfiguration, kind),
            (Scope::Configures, Some(Kind::Shows)) => return self.end(Failure::NoShow, kind),
            _ => {}
        }
        match self.session.run_output(command, 0) {
            Ok(output) => {
                self.printed = self.printed.saturating_add(output.text.len());
                shown(output, form, kind)
            }
            Err((text, error)) => {
                let text = text.trim_end().to_owned();
                let why = if error == Error::Denied { Failure::Denied(text) } else { Failure::Refused(text) };
                self.end(why, kind)
            }
        }
    }

    fn end(&mut self, why: Failure, kind: Option<Kind>) -> Result<Outcome, Failure> {
        // What is no command at all may have been meant to configure.
        self.stopped |= self.after == After::Stop && kind != Some(Kind::Shows);
        Err(why)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.session.handle.logins().end(self.login);
    }
}

fn shown(output: Output, form: Form, kind: Option<Kind>) -> Result<Outcome, Failure> {
    match (form, output.json) {
        (Form::Text, _) => Ok(Outcome::Shown(Value::String(output.text))),
        (Form::Structured, Some(json)) => Ok(Outcome::Shown(json)),
        (Form::Lists, Some(json)) => Ok(Outcome::Shown(Value::Array(vec![lists(json)]))),
        (_, None) if kind == Some(Kind::Shows) && !output.text.is_empty() => Err(Failure::Unstructured),
        (_, None) => Ok(Outcome::Done(output.text)),
    }
}

/// Tables and rows as lists, also of one.
fn lists(value: Value) -> Value {
    let listed = |key: &str, value: Value| match lists(value) {
        list @ Value::Array(_) => list,
        one if key.starts_with("TABLE_") || key.starts_with("ROW_") => Value::Array(vec![one]),
        other => other,
    };
    match value {
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(key, value)| (key.clone(), listed(&key, value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(lists).collect()),
        leaf => leaf,
    }
}
