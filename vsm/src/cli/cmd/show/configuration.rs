//! `show running-config` and `show startup-config`.

use std::time::SystemTime;

use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::model::is_builtin;
use crate::config::running::{self, Part};

const WORDS: &[(&str, &str)] = &[
    ("running-config", "The configuration that runs"),
    ("startup-config", "The configuration of the next start"),
    ("all", "With the defaults"),
    ("names", "Interfaces, such as vethernet 1-4"),
    ("name", "Port profile"),
    ("aclmgr", "Access lists, and where they are applied"),
    ("vlan", "VLANs"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let show = |syntax, help, run| Command { modes: &[Mode::Exec], syntax, help, words: WORDS, no: None, run };
    vec![
        show(
            "show running-config [ all | interface <names:ifs> | port-profile [<name:word80>] | vlan | aclmgr ]",
            "The configuration that runs",
            running_config,
        ),
        show("show startup-config", "The configuration of the next start", startup_config),
    ]
}

fn running_config(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let model = session.handle.model();
    let names = args.interfaces("names");
    if let Some(name) = names.iter().find(|name| !model.interfaces.contains_key(name)) {
        return Err(Error::Refused(format!("{name} does not exist")));
    }
    let profile = args.text("name").map(str::to_owned);
    if let Some(name) = profile.as_ref().filter(|name| !model.profiles.contains_key(*name)) {
        return Err(Error::Refused(format!("Port-profile '{name}' does not exist")));
    }
    if let Some(name) = profile.as_ref().filter(|name| is_builtin(name)) {
        return Err(Error::Refused(format!("Port-profile '{name}' is built in; 'show port-profile name' shows it")));
    }
    let (part, what) = match () {
        () if args.has("all") => (Part::All, " all".to_owned()),
        () if !names.is_empty() => {
            let list: Vec<String> = names.iter().map(ToString::to_string).collect();
            (Part::Interfaces(names.to_vec()), format!(" interface {}", list.join(",")))
        }
        () if args.has("port-profile") => {
            let what = profile.iter().map(|name| format!(" {name}")).collect::<String>();
            (Part::Profiles(profile), format!(" port-profile{what}"))
        }
        () if args.has("vlan") => (Part::Vlans, " vlan".to_owned()),
        () if args.has("aclmgr") => (Part::AccessLists, " aclmgr".to_owned()),
        () => (Part::Whole, String::new()),
    };
    Ok(Output::text(running::text(&model, &part, &format!("show running-config{what}"), SystemTime::now())))
}

fn startup_config(session: &mut Session, _: &Args) -> Result<Output, Error> {
    let text =
        session.handle.startup().ok_or_else(|| Error::Refused("There is no startup configuration".to_owned()))?;
    Ok(Output::text(text.as_str()))
}
