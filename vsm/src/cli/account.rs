//! What a session does, for accounting.
//!
//! A command that changes something is recorded once it is done or refused, with the way to its mode in front of it:
//! `configure terminal ; interface Vethernet1 ; shutdown (SUCCESS)`. Words are spelled in full, and secrets are never
//! written. What only looks is not recorded, unless the role has no right to it; nor is a line that is no command.

use super::logins::{Service, Visitor};
use super::parse::Parsed;
use super::session::Session;
use super::tree::{Error, Mode};
use crate::aaa::accounting::Event;
use crate::aaa::accounting::chain::Kind;
use crate::config::user::ADMIN;
use crate::supervisor::Handle;

/// The command that moves to configuration mode; by itself it changes nothing.
const CONFIGURE: &str = "configure [terminal]";

/// From where: `192.0.2.7@pts/3`, `192.0.2.7@nxapi`, `console/0`.
fn place(visitor: &Visitor, login: u64, service: Service) -> String {
    match visitor.from {
        Some(from) if service == Service::Nxapi => format!("{from}@nxapi"),
        Some(from) => format!("{from}@pts/{login}"),
        None => format!("console/{login}"),
    }
}

/// Records that a session of somebody begins or ends.
pub fn session_of(handle: &Handle, visitor: &Visitor, login: u64, kind: Kind) {
    let user = visitor.user.as_deref().unwrap_or(ADMIN);
    handle.account(&Event { kind, id: &place(visitor, login, Service::Ssh), user, outcome: "", text: "" });
}

impl Session {
    /// From where it is, for records.
    pub(crate) fn seat(&self) -> String {
        let login = self.login().and_then(|id| Some((self.handle.logins().get(id)?, id)));
        login.map_or_else(|| "console".to_owned(), |(login, id)| place(&login.visitor, id, login.service))
    }

    /// The line in full spelling, behind those by which its mode was entered.
    pub(super) fn full_line(&self, parsed: &Parsed<'static>, around: usize) -> String {
        let line = parsed.args.line();
        match parsed.mode {
            Mode::Exec => line,
            _ => self.way.iter().take(around).map(|way| format!("{way} ; ")).collect::<String>() + &line,
        }
    }

    /// Records a command, and remembers it when it has entered a mode. `around` is how many modes are around its own.
    pub(super) fn record(&mut self, parsed: &Parsed<'static>, around: usize, refused: Option<&Error>) {
        let outcome = match refused {
            None => "SUCCESS",
            Some(Error::Denied) => "DENIED",
            Some(_) => "FAILURE",
        };
        let moves = parsed.command.syntax == CONFIGURE && refused.is_none();
        let looks = parsed.command.only_looks() && refused != Some(&Error::Denied);
        if !looks && !moves {
            let text = self.full_line(parsed, around);
            let event = Event { kind: Kind::Update, id: &self.seat(), user: self.who(), outcome, text: &text };
            self.handle.account(&event);
        }
        if refused.is_none() {
            self.remember(parsed, around);
        }
    }

    fn remember(&mut self, parsed: &Parsed<'static>, around: usize) {
        let modes = self.modes();
        let enters = modes > around && (parsed.mode != Mode::Exec || modes > self.way.len());
        if enters {
            self.way.truncate(around);
            self.way.resize(modes.saturating_sub(1), "configure terminal".to_owned());
            let line = parsed.args.line();
            self.way.push(if parsed.command.syntax == CONFIGURE { "configure terminal".to_owned() } else { line });
        }
        self.way.truncate(modes);
        self.way.resize(modes, "configure terminal".to_owned());
    }
}
