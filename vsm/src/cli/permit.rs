//! Whether somebody may do what he has typed. Every command of every session passes here, whichever way it came in.
//!
//! Roles say it ([`crate::config::role`]). What comes in by a file, a checkpoint or a configuration session is held to the
//! same rules, line by line: nobody may bring in what he may not type.

use proto::addr::VlanId;
use proto::config::ProfileType;
use proto::name::IfName;
use proto::vlan::VlanSet;

use super::cmd;
use super::parse::Parsed;
use super::session::{Session, Subject};
use super::tree::{Command, Error, Mode, Value};
use crate::aaa::login;
use crate::config::model::Model;
use crate::config::role::{NETWORK_ADMIN, NETWORK_OPERATOR, SERVER_ADMIN, What, Wish};
use crate::config::startup::Line;
use crate::module::registry::Inventory;
use crate::supervisor::Handle;

/// Commands that change nothing but where the session is.
const MOVES: &[&str] = &["terminal", "exit", "end", "enable"];
/// The command that enters configuration mode.
const CONFIGURE: &str = "configure [terminal]";

impl Session {
    /// What the session may do now: a user's roles can change, or the user go. Then it is `None`. Whoever reaches the
    /// console may do everything.
    pub fn roles(&self) -> Option<Vec<String>> {
        if let Some(granted) = &self.granted {
            return Some(granted.clone());
        }
        match self.user() {
            None => Some(vec![NETWORK_ADMIN.to_owned()]),
            Some(user) => self.handle.model().users.get(user).map(|user| user.roles.iter().cloned().collect()),
        }
    }

    /// It may do everything, and see secrets.
    pub fn is_admin(&self) -> bool {
        self.roles().is_some_and(|roles| roles.iter().any(|role| role == NETWORK_ADMIN))
    }

    /// Who has no right to a command does not carry it out, and a user who is gone has none.
    pub(super) fn permit(&mut self, parsed: &Parsed<'static>, around: usize) -> Result<(), Error> {
        let Some(roles) = self.roles() else {
            self.close();
            return Err(Error::Denied);
        };
        if roles.iter().any(|role| role == NETWORK_ADMIN) {
            return Ok(());
        }
        let model = self.handle.model();
        let wish = self.wish(parsed, around);
        let may = |role: &String| match role.as_str() {
            NETWORK_OPERATOR => wish.looks,
            SERVER_ADMIN => wish.looks || self.attaches(&model, parsed, around),
            role => model.roles.get(role).is_some_and(|role| role.permits(&wish)),
        };
        if roles.iter().any(may) { Ok(()) } else { Err(Error::Denied) }
    }

    /// Asks servers, when the configuration says so. At the console nobody is asked, so that the switch can be reached when
    /// its servers can't; nor is anybody who only leaves.
    pub(super) fn authorize(&self, parsed: &Parsed<'static>) -> Result<(), Error> {
        let model = self.handle.model();
        let methods = if parsed.mode == Mode::Exec { &model.aaa.commands } else { &model.aaa.config_commands };
        let (Some(user), Some(methods)) = (self.user(), methods) else { return Ok(()) };
        if methods.groups.is_empty() || ["exit", "end"].contains(&parsed.command.syntax) {
            return Ok(());
        }
        match login::may(&self.handle, &methods.groups, user, &self.seat(), &parsed.args.line()) {
            Some(true) => Ok(()),
            Some(false) => Err(Error::Denied),
            // The roles have permitted it.
            None if methods.local => Ok(()),
            None => Err(Error::Refused("No server has answered whether the command is authorised".to_owned())),
        }
    }

    /// Somebody with these roles might type the command, as far as it can be said of the command alone.
    pub fn might(&self, command: &Command) -> bool {
        let model = self.handle.model();
        let roles = self.roles().unwrap_or_default();
        let (looks, feature) = (command.only_looks(), cmd::feature_of(command));
        roles.iter().any(|role| match role.as_str() {
            NETWORK_ADMIN => true,
            NETWORK_OPERATOR => looks,
            SERVER_ADMIN => looks || ATTACHING.contains(&command.syntax),
            role => model.roles.get(role).is_some_and(|role| {
                let by_command = role.rules.values().any(|rule| matches!(rule.what, What::Command(_)) && rule.permits);
                let wish = Wish { feature, looks, moves: moves(command), ..Wish::default() };
                by_command || role.permits(&wish)
            }),
        })
    }

    fn wish(&self, parsed: &Parsed<'static>, around: usize) -> Wish {
        let command = parsed.command;
        let mut interfaces: Vec<IfName> = Vec::new();
        let mut vlans = VlanSet::default();
        for (_, value) in &parsed.args.values {
            match value {
                Value::Interfaces(names) => interfaces.extend(names),
                Value::Vlan(id) => vlans.insert(*id),
                Value::Vlans(set) => vlans = vlans.union(set),
                _ => {}
            }
        }
        vlans = vlans.union(&self.brought(parsed));
        if parsed.mode != Mode::Exec {
            match self.subject_at(around) {
                Subject::Interfaces(names) => interfaces.extend(names),
                Subject::Vlans(set) => vlans = vlans.union(set),
                _ => {}
            }
        }
        Wish {
            line: parsed.args.line(),
            whole: self.full_line(parsed, around),
            feature: cmd::feature_of(command),
            looks: command.only_looks(),
            moves: moves(command),
            interfaces,
            vlans,
        }
    }

    /// VLANs that a command gives to a port without naming them.
    fn brought(&self, parsed: &Parsed<'static>) -> VlanSet {
        let (syntax, args) = (parsed.command.syntax, &parsed.args);
        let default = || VlanSet::from_iter([VlanId::DEFAULT]);
        match () {
            () if syntax.starts_with("switchport trunk allowed vlan") => {
                let is_open = args.negated || matches!(args.text("how"), Some("all" | "except"));
                if is_open { VlanSet::all() } else { VlanSet::default() }
            }
            () if syntax.starts_with("switchport mode") && args.text("mode") == Some("trunk") => VlanSet::all(),
            () if args.negated && syntax.starts_with("switchport") => default(),
            () if syntax == INHERIT && args.negated => default(),
            () if syntax == INHERIT => {
                let profile = args.text("name").unwrap_or_default();
                let own = self.handle.model().inherited_settings(profile);
                let carried = own.allowed_vlans.unwrap_or_else(VlanSet::all);
                let access = own.access_vlan.unwrap_or(VlanId::DEFAULT);
                if own.trunk == Some(true) { carried } else { VlanSet::from_iter([access]) }
            }
            () => VlanSet::default(),
        }
    }

    /// What a server administrator may do besides looking: give cards that are there a profile that is published.
    fn attaches(&self, model: &Model, parsed: &Parsed<'static>, around: usize) -> bool {
        let are_cards = |names: &[IfName]| {
            let is_card = |name: &IfName| matches!(name, IfName::Vethernet(_)) && model.interfaces.contains_key(name);
            !names.is_empty() && names.iter().all(is_card)
        };
        match parsed.command.syntax {
            CONFIGURE => true,
            _ if parsed.args.negated => false,
            INTERFACE => are_cards(parsed.args.interfaces("names")),
            INHERIT => {
                let profile = parsed.args.text("name").and_then(|name| model.profiles.get(name));
                let is_published = profile.is_some_and(|p| p.enabled && p.kind == ProfileType::Vethernet);
                is_published && matches!(self.subject_at(around), Subject::Interfaces(names) if are_cards(names))
            }
            _ => false,
        }
    }

    /// Whoever is no administrator brings in by a file or a configuration session only what he may type.
    ///
    /// # Errors
    /// Names the first line that he may not.
    pub fn may_type(&self, lines: &[Line]) -> Result<(), Error> {
        if self.is_admin() {
            return Ok(());
        }
        let inventory = Inventory::clone(&self.handle.inventory());
        let mut typing = Session::new(Handle::shadow(Model::clone(&self.handle.model()), inventory));
        typing.granted = Some(self.roles().unwrap_or_default());
        typing.enter(Mode::Config, Subject::None);
        for line in lines.iter().filter(|line| !line.text.is_empty() && !line.text.starts_with('!')) {
            while line.depth.is_some_and(|depth| typing.depth() > depth) {
                typing.leave();
            }
            // Lines with other errors are told of by whoever carries them out.
            typing.run_line(&line.text);
            if typing.was_denied() {
                let line = crate::config::user::without_secrets(line.text.trim());
                return Err(Error::Refused(format!("'{line}': permission denied for the role")));
            }
            if typing.mode() == Mode::Exec {
                typing.enter(Mode::Config, Subject::None);
            }
        }
        Ok(())
    }
}

const INTERFACE: &str = "interface <names:ifs>";
const INHERIT: &str = "inherit port-profile <name:word80>";
const ATTACHING: &[&str] = &[CONFIGURE, INTERFACE, INHERIT];

fn moves(command: &Command) -> bool {
    let first = command.syntax.split(' ').next().unwrap_or_default();
    matches!(command.modes, [Mode::Exec | Mode::Vem]) && (MOVES.contains(&first) || command.syntax == CONFIGURE)
}
