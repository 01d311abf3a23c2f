//! A session: a mode, what it is about, and the supervisor.

use std::net::Ipv4Addr;

use proto::name::IfName;
use proto::vlan::VlanSet;

use super::render::Output;
use super::tree::{Error, Mode};
use crate::supervisor::{Change, Handle};

/// What a configuration sub-mode is about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Subject {
    /// The mode needs none.
    #[default]
    None,
    /// The VLANs of `vlan LIST`.
    Vlans(VlanSet),
    /// The name of a profile, access list, record, exporter or monitor.
    Name(String),
    /// The interfaces of `interface …`.
    Interfaces(Vec<IfName>),
    /// The number of a monitor session or module.
    Number(u32),
    /// An address.
    Address(Ipv4Addr),
}

/// A session. Commands of one session run one after the other.
pub struct Session {
    /// The supervisor.
    pub handle: Handle,
    mode: Mode,
    subject: Subject,
}

impl Session {
    /// A new session in EXEC mode.
    pub fn new(handle: Handle) -> Self {
        Session { handle, mode: Mode::Exec, subject: Subject::None }
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What the mode is about.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Enters a mode.
    pub fn enter(&mut self, mode: Mode, subject: Subject) {
        self.mode = mode;
        self.subject = subject;
    }

    /// Makes a change of the configuration; its warnings are what is printed.
    pub fn edit(&mut self, change: Change) -> Result<Output, Error> {
        let warnings = self.handle.edit(change)?;
        Ok(Output::text(warnings.iter().map(|w| format!("Warning: {w}\n")).collect::<String>()))
    }
}
