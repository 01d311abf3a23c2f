//! What the commands of a sub-mode are about, and how they change it.
//!
//! A sub-mode may outlive its subject: another session can delete the profile meanwhile. Then the command is refused.

use std::net::IpAddr;

use proto::name::IfName;

use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Error, Mode};
use crate::config::model::{
    AccessList, FlowExporter, FlowMonitor, FlowRecord, FlowSampler, Interface, Model, MonitorSession, Profile, Settings,
};
use crate::config::monitor::check_circles;

/// What a change of the model comes to: warnings, or why it is refused.
pub type Outcome = Result<Vec<String>, String>;

/// The modes of port settings.
pub const PORT: &[Mode] = &[Mode::PortProfile, Mode::Interface, Mode::InterfaceRange];

/// An argument that the syntax demands; its absence would be a fault of the syntax.
pub fn wanted<T>(value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| Error::Refused("Incomplete command".to_owned()))
}

/// The text of an argument that the syntax demands.
pub fn text(args: &Args, name: &str) -> Result<String, Error> {
    wanted(args.text(name)).map(str::to_owned)
}

/// A text of at most `length_max` characters, as descriptions are.
pub fn short(args: &Args, name: &str, length_max: usize) -> Result<String, Error> {
    let text = text(args, name)?;
    match text.chars().count() <= length_max {
        true => Ok(text),
        false => Err(Error::Refused(format!("The text is longer than {length_max} characters"))),
    }
}

/// The name that the sub-mode is about.
pub fn name(session: &Session) -> Result<String, Error> {
    match session.subject() {
        Subject::Name(name) => Ok(name.clone()),
        _ => Err(Error::Refused("The command belongs to a sub-mode".to_owned())),
    }
}

/// The number that the sub-mode is about.
pub fn number<N: TryFrom<u32>>(session: &Session) -> Result<N, Error> {
    match session.subject() {
        Subject::Number(n) => N::try_from(*n).map_err(|_| Error::Refused(format!("{n} is out of range"))),
        _ => Err(Error::Refused("The command belongs to a sub-mode".to_owned())),
    }
}

/// The interfaces that the sub-mode is about.
pub fn interfaces(session: &Session) -> Result<Vec<IfName>, Error> {
    match session.subject() {
        Subject::Interfaces(names) => Ok(names.clone()),
        _ => Err(Error::Refused("The command belongs to a sub-mode".to_owned())),
    }
}

fn gone(what: &str, name: impl std::fmt::Display) -> String {
    format!("{what} '{name}' does not exist any more")
}

/// Changes what `port-profile`, `interface` or `interface` with a range is about. `change` sees the settings of each
/// and, for `add` and `remove`, what it inherits.
pub fn edit_settings(
    session: &mut Session,
    change: impl Fn(&mut Settings, Settings) + Send + 'static,
) -> Result<Output, Error> {
    edit_settings_checked(session, |_| Ok(Vec::new()), change)
}

/// As [`edit_settings`], after a check of the model that may warn or refuse.
pub fn edit_settings_checked(
    session: &mut Session,
    check: impl FnOnce(&Model) -> Outcome + Send + 'static,
    change: impl Fn(&mut Settings, Settings) + Send + 'static,
) -> Result<Output, Error> {
    if session.mode() == Mode::PortProfile {
        let name = name(session)?;
        return session.edit(Box::new(move |model| {
            let warnings = check(model)?;
            let parent = model.profiles.get(&name).and_then(|p| p.inherit.as_deref());
            let inherited = parent.map(|parent| model.inherited_settings(parent)).unwrap_or_default();
            let profile = model.profiles.get_mut(&name).ok_or_else(|| gone("Port-profile", &name))?;
            change(&mut profile.own, inherited);
            Ok(warnings)
        }));
    }
    let names = interfaces(session)?;
    session.edit(Box::new(move |model| {
        let warnings = check(model)?;
        for name in names {
            let parent = model.interfaces.get(&name).and_then(|i| i.inherit.as_deref());
            let inherited = parent.map(|parent| model.inherited_settings(parent)).unwrap_or_default();
            let interface = model.interfaces.get_mut(&name).ok_or_else(|| gone("Interface", name))?;
            change(&mut interface.own, inherited);
        }
        Ok(warnings)
    }))
}

/// Changes each interface that the sub-mode is about.
pub fn edit_interfaces(
    session: &mut Session,
    change: impl Fn(&mut Interface) + Send + 'static,
) -> Result<Output, Error> {
    let names = interfaces(session)?;
    session.edit(Box::new(move |model| {
        for name in names {
            change(model.interfaces.get_mut(&name).ok_or_else(|| gone("Interface", name))?);
        }
        Ok(Vec::new())
    }))
}

macro_rules! edit_named {
    ($($(#[$doc:meta])* $function:ident: $map:ident of $kind:ty, $what:literal;)*) => {$(
        $(#[$doc])*
        pub fn $function(
            session: &mut Session,
            change: impl FnOnce(&mut $kind) -> Result<(), String> + Send + 'static,
        ) -> Result<Output, Error> {
            let name = name(session)?;
            session.edit(Box::new(move |model| {
                change(model.$map.get_mut(&name).ok_or_else(|| gone($what, &name))?)?;
                Ok(Vec::new())
            }))
        }
    )*};
}

edit_named! {
    /// Changes the profile that the sub-mode is about.
    edit_profile: profiles of Profile, "Port-profile";
    /// Changes the access list that the sub-mode is about.
    edit_acl: acls of AccessList, "Access list";
    /// Changes the flow record that the sub-mode is about.
    edit_record: records of FlowRecord, "Flow record";
    /// Changes the flow exporter that the sub-mode is about.
    edit_exporter: exporters of FlowExporter, "Flow exporter";
    /// Changes the flow monitor that the sub-mode is about.
    edit_monitor: monitors of FlowMonitor, "Flow monitor";
    /// Changes the sampler that the sub-mode is about.
    edit_sampler: samplers of FlowSampler, "Sampler";
}

/// Changes the monitor session that the sub-mode is about; `change` also sees the rest of the model.
pub fn edit_session(
    session: &mut Session,
    change: impl FnOnce(&mut MonitorSession, &Model) -> Outcome + Send + 'static,
) -> Result<Output, Error> {
    let id: u16 = number(session)?;
    session.edit(Box::new(move |model| {
        // A port that was attached may have closed a circle; that is no reason to refuse everything from then on.
        let was_open = check_circles(model).is_ok();
        let mut session = model.sessions.remove(&id).ok_or_else(|| gone("Monitor session", id))?;
        let warnings = change(&mut session, model)?;
        model.sessions.insert(id, session);
        if was_open {
            check_circles(model)?;
        }
        Ok(warnings)
    }))
}

/// There is room for another of the kind, unless it is there already.
pub fn make_room(present: bool, len: usize, len_max: usize, what: &str) -> Result<(), String> {
    match present || len < len_max {
        true => Ok(()),
        false => Err(format!("There are {len_max} {what} already")),
    }
}

/// `Veth1, Veth2, ...`: the first five of a list of names.
pub fn some(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.take(6).collect();
    if names.len() == 6 {
        names[5] = "...".to_owned();
    }
    names.join(", ")
}

/// No host that others can send to has that address; a link-local one would need an interface that nobody says.
pub fn is_no_host(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(ip) => ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
    };
    special || address.is_unspecified() || address.is_multicast()
}
