//! A session: a mode, what it is about, and the supervisor.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use proto::name::IfName;
use proto::vlan::VlanSet;

use super::configured::Configured;
use super::graph::Tree;
use super::live::Live;
use super::parse::{Parsed, parse};
use super::pipe;
use super::piped::Outputs;
use super::render::Output;
use super::tree::{Error, Mode};
use crate::config::logging::{CONSOLE, MONITOR};
use crate::config::user::{ADMIN, without_secrets};
use crate::lifecycle::drafts::Claim;
use crate::supervisor::{Change, Handle};

/// What a configuration sub-mode is about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(clippy::large_enum_variant, reason = "a session has a handful")]
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

/// What a line is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It looks at something.
    Shows,
    /// It does something else that belongs to EXEC mode.
    Does,
    /// It changes the configuration, or where that is done.
    Configures,
}

/// What `terminal ...` sets, for this session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Lines of a page; 0 shows everything at once.
    pub length: usize,
    /// Columns.
    pub width: usize,
    /// Minutes without a keystroke after which the session is closed, 0 never; `None` as is configured for the line.
    pub timeout_min: Option<u32>,
    /// Log lines are shown.
    pub monitor: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { length: 0, width: 80, timeout_min: None, monitor: false }
    }
}

/// A configuration session that the lines are collected for.
struct Draft {
    claim: Claim,
    /// The configuration as it would be with its commands: they are checked against it.
    shadow: Handle,
}

/// A session. Commands of one session run one after the other.
pub struct Session {
    /// The supervisor.
    pub handle: Handle,
    tree: &'static Tree,
    /// The mode, and below it those around it; EXEC is at the bottom.
    stack: Vec<(Mode, Subject)>,
    /// The lines by which the modes above EXEC were entered.
    pub(super) way: Vec<String>,
    /// `configure session NAME`; it is left with the configuration mode.
    draft: Option<Draft>,
    settings: Settings,
    /// For `| diff`.
    pub(super) outputs: Outputs,
    /// Its number among the [`super::logins::Logins`], when somebody sits at it.
    login: Option<u64>,
    /// The user who has logged in; `None` at the console, where whoever comes may do everything.
    user: Option<String>,
    /// The roles that a server has given him; `None`: those of the local user.
    pub(super) granted: Option<Vec<String>>,
    configured: Configured,
    closed: bool,
    failed: bool,
    denied: bool,
    /// The last line was an audit that has found something.
    findings: bool,
    /// Where a command shows what it has while it runs.
    live: Option<Live>,
}

impl Session {
    /// A new session in EXEC mode.
    pub fn new(handle: Handle) -> Self {
        Session {
            configured: Configured::new(handle.clone(), None, None),
            handle,
            tree: Tree::shared(),
            stack: vec![(Mode::Exec, Subject::None)],
            way: Vec::new(),
            draft: None,
            settings: Settings::default(),
            outputs: Outputs::default(),
            login: None,
            user: None,
            granted: None,
            closed: false,
            failed: false,
            denied: false,
            findings: false,
            live: None,
        }
    }

    /// A new session of somebody: his number among the logins, and the user's name unless he is at the console.
    pub fn of(handle: Handle, login: u64, user: Option<String>) -> Self {
        let granted = handle.logins().get(login).and_then(|login| login.visitor.granted);
        let configured = Configured::new(handle.clone(), Some(login), user.clone());
        Session { login: Some(login), user, granted, configured, ..Session::new(handle) }
    }

    /// A session of the same person with the same rights, in EXEC mode. It is not told of by itself.
    pub fn sibling(&self) -> Session {
        Session { user: self.user.clone(), granted: self.granted.clone(), ..Session::new(self.handle.clone()) }
    }

    /// The user who has logged in; `None` at the console.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Who works here; whoever reaches the console is the administrator.
    pub fn who(&self) -> &str {
        self.user.as_deref().unwrap_or(ADMIN)
    }

    /// Its number among the logins.
    pub fn login(&self) -> Option<u64> {
        self.login
    }

    /// Severity up to which its terminal is shown the log; `None`: it is shown nothing.
    pub fn log_severity(&self) -> Option<u8> {
        let logging = &self.handle.model().logging;
        let unasked = logging.console.severity(CONSOLE).filter(|_| self.user.is_none());
        let asked = logging.monitor.severity(MONITOR).filter(|_| self.settings.monitor);
        unasked.max(asked)
    }

    /// The commands.
    pub fn tree(&self) -> &'static Tree {
        self.tree
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        match self.place() {
            Mode::Config if self.draft.is_some() => Mode::ConfigSession,
            mode => mode,
        }
    }

    /// The mode on the stack: in a configuration session the same modes nest in the same way.
    fn place(&self) -> Mode {
        self.stack.last().map_or(Mode::Exec, |(mode, _)| *mode)
    }

    /// Sub-modes below `(config)`.
    pub fn depth(&self) -> usize {
        self.stack.len().saturating_sub(2)
    }

    /// How many modes there are above EXEC when those below `home` are left.
    fn around(&self, home: Mode) -> usize {
        self.stack.iter().rposition(|(mode, _)| *mode == home).unwrap_or(0)
    }

    /// The modes above EXEC.
    pub(super) fn modes(&self) -> usize {
        self.stack.len().saturating_sub(1)
    }

    /// What the mode is about that `around` modes are around, itself among them.
    pub(super) fn subject_at(&self, around: usize) -> &Subject {
        self.stack.get(around).map_or(&Subject::None, |(_, subject)| subject)
    }

    /// What the mode is about.
    pub fn subject(&self) -> &Subject {
        self.stack.last().map_or(&Subject::None, |(_, subject)| subject)
    }

    /// Enters a mode; one that is not around it is left.
    pub fn enter(&mut self, mode: Mode, subject: Subject) {
        let mut around: Vec<Mode> = mode.chain().skip(1).collect();
        around.reverse();
        let shared = self.stack.iter().zip(&around).take_while(|((at, _), mode)| at == *mode).count();
        self.stack.truncate(shared);
        self.stack.extend(around.into_iter().skip(shared).map(|mode| (mode, Subject::None)));
        self.stack.push((mode, subject));
    }

    /// Enters a mode on top of whatever the session is at; leaving it leads back there.
    pub fn step_in(&mut self, mode: Mode, subject: Subject) {
        self.stack.push((mode, subject));
    }

    /// Enters the configuration mode, as `configure terminal` does.
    pub fn configure(&mut self) {
        self.enter(Mode::Config, Subject::None);
        self.way = vec!["configure terminal".to_owned()];
    }

    /// One mode up; from EXEC mode the session is closed.
    pub fn leave(&mut self) {
        match self.stack.len() {
            0 | 1 => self.closed = true,
            2 if self.place() != Mode::Vem => self.end(),
            _ => drop(self.stack.pop()),
        }
    }

    /// To EXEC mode.
    pub fn end(&mut self) {
        self.stack.truncate(1);
        self.draft = None;
        self.configured.tell();
    }

    /// Ends the session.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// The session has ended.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The last line was refused.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The role had no right to the last line.
    pub fn was_denied(&self) -> bool {
        self.denied
    }

    /// Where a command shows what it has while it runs; `None`: everything is shown at the end.
    pub fn live(&self) -> Option<&Live> {
        self.live.as_ref()
    }

    /// As [`Session::live`], to show something.
    pub fn live_mut(&mut self) -> Option<&mut Live> {
        self.live.as_mut()
    }

    /// Gives the session a place to show things while commands run.
    pub fn set_live(&mut self, live: Option<Live>) {
        self.live = live;
    }

    /// An audit has found something: a program that runs it shall know by the exit status.
    pub fn note_findings(&mut self) {
        self.findings = true;
    }

    /// The last line was carried out, and what it looked for is there: for the exit status.
    pub fn went_well(&self) -> bool {
        !self.failed && !self.findings
    }

    /// What `terminal ...` has set.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Minutes without a keystroke after which the session is closed; 0 never.
    pub fn timeout_min(&self) -> u32 {
        let is_vty = self.user.is_some();
        self.settings.timeout_min.unwrap_or_else(|| self.handle.model().lines.timeout_min(is_vty))
    }

    /// Changes what `terminal ...` sets.
    pub fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
    }

    /// `switch(config-if)# `
    pub fn prompt(&self) -> String {
        let suffix = self.mode().suffix();
        if let (Mode::Vem, Subject::Number(slot)) = (self.mode(), self.subject()) {
            return format!("{}(vem-{slot})# ", self.hostname());
        }
        match self.draft.as_ref().and_then(|_| suffix.strip_prefix("(config-")).filter(|_| self.depth() > 0) {
            Some(inner) => format!("{}(config-s-{inner}# ", self.hostname()),
            None => format!("{}{suffix}# ", self.hostname()),
        }
    }

    /// The name of the switch.
    pub fn hostname(&self) -> String {
        let model = self.handle.model();
        if model.hostname.is_empty() { "switch".to_owned() } else { model.hostname.clone() }
    }

    /// Makes a change of the configuration; its warnings are what is printed.
    pub fn edit(&mut self, change: Change) -> Result<Output, Error> {
        let warnings = self.handle.edit(change)?;
        Ok(Output::text(warnings.iter().map(|w| format!("Warning: {w}\n")).collect::<String>()))
    }

    /// Runs a line and gives what it prints, lines ended by `\n`.
    pub fn run_line(&mut self, line: &str) -> String {
        self.run_line_behind(line, 0)
    }

    /// As [`Session::run_line`], for a line that was typed behind a prompt of `indent` columns.
    pub fn run_line_behind(&mut self, line: &str, indent: usize) -> String {
        self.run_output(line, indent).map_or_else(|(text, _)| text, |output| output.text)
    }

    /// Runs a line and gives its output, also in structured form where it has one.
    ///
    /// # Errors
    /// What is printed, and why.
    pub fn run_output(&mut self, line: &str, indent: usize) -> Result<Output, (String, Error)> {
        if let Some(login) = self.login {
            self.handle.logins().typed(login, SystemTime::now());
        }
        self.findings = false;
        let result = self.run(line);
        self.failed = result.is_err();
        self.denied = result.as_ref().is_err_and(|error| *error == Error::Denied);
        match result {
            Ok(mut output) => {
                if !output.text.is_empty() && !output.text.ends_with('\n') {
                    output.text.push('\n');
                }
                Ok(output)
            }
            Err(error @ Error::At { column, .. }) => Err((format!("{:1$}^\n{error}\n", "", column + indent), error)),
            Err(error) => Err((format!("{error}\n"), error)),
        }
    }

    /// What the line is for, if it is a command here.
    pub fn kind(&self, line: &str) -> Option<Kind> {
        let of = |line: &str| self.parse(line).ok().flatten().map(|parsed| parsed.command);
        let command = of(line).or_else(|| {
            let before = pipe::to_file(line).map_or(line, |(before, _)| before);
            of(pipe::split(before).map_or(before, |(command, _)| command))
        })?;
        Some(match command.syntax.split(' ').next() {
            Some("show") => Kind::Shows,
            _ if command.modes == [Mode::Exec] => Kind::Does,
            _ => Kind::Configures,
        })
    }

    fn run(&mut self, line: &str) -> Result<Output, Error> {
        // A configuration text may hold a bar or a `>`: only what does not parse with it has a filter or a file.
        let whole = self.parse(line);
        if let Some((before, file)) = pipe::to_file(line).filter(|_| whole.is_err()) {
            let name = self.may_write(file)?;
            // The file gets all of it, and the terminal nothing.
            let live = self.live.take();
            let text = self.run_filtered(before, self.parse(before));
            self.live = live;
            return self.write_to(&name, file.append, &text?.text, line).map(|()| Output::none());
        }
        self.run_filtered(line, whole)
    }

    fn run_filtered(&mut self, line: &str, whole: Result<Option<Parsed<'static>>, Error>) -> Result<Output, Error> {
        match pipe::split(line) {
            Some((command, filters)) if whole.is_err() => {
                let Some(parsed) = self.parse(command)? else { return Ok(Output::none()) };
                let column = command.chars().count() + 1;
                let filters = pipe::parse(filters, column)?;
                // Filters work on all of it, so nothing is shown before its end.
                let live = self.live.take();
                let output = self.carry_out(parsed, command);
                self.live = live;
                self.filter(output?, &filters, line)
            }
            _ => match whole? {
                Some(parsed) => self.carry_out(parsed, line),
                None => Ok(Output::none()),
            },
        }
    }

    /// The commands of a configuration session work in its sub-modes too.
    fn parse(&self, line: &str) -> Result<Option<Parsed<'static>>, Error> {
        let found = parse(self.tree, self.mode(), line);
        match self.draft.is_some() && found.is_err() {
            true => parse(self.tree, Mode::ConfigSession, line).or(found),
            false => found,
        }
    }

    /// Carries a command out if it is permitted, and records what has come of it.
    fn carry_out(&mut self, parsed: Parsed<'static>, line: &str) -> Result<Output, Error> {
        let around = self.around(parsed.home());
        let permitted = self.permit(&parsed, around).and_then(|()| self.authorize(&parsed));
        let result = permitted.and_then(|()| self.carry_out_here(&parsed, line));
        self.record(&parsed, around, result.as_ref().err());
        result
    }

    fn carry_out_here(&mut self, parsed: &Parsed<'static>, line: &str) -> Result<Output, Error> {
        let before = self.stack.clone();
        let home = parsed.home();
        if home != Mode::Exec {
            while self.place() != home && self.stack.len() > 1 {
                self.stack.pop();
            }
        }
        let is_configuration = !matches!(parsed.mode, Mode::Exec | Mode::ConfigSession | Mode::Vem);
        let result = match &self.draft {
            Some(draft) if is_configuration => {
                let (name, shadow) = (draft.claim.name().to_owned(), draft.shadow.clone());
                self.collect(parsed, line, &name, shadow)
            }
            _ => {
                let result = (parsed.command.run)(self, &parsed.args);
                if is_configuration && result.is_ok() {
                    self.configured.mark();
                }
                result
            }
        };
        if result.is_err() {
            self.stack = before;
        }
        // Whoever may only look is told no secrets, whatever shows a configuration or a part of it.
        match self.is_admin() {
            true => result,
            false => result.map(|output| output.map_text(without_secrets)),
        }
    }
}

mod drafting;
#[cfg(test)]
mod tests;
