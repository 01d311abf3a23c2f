//! `show port-profile`: what profiles say, what comes of it, and who uses them.

use serde_json::Value;

use crate::cli::render::{Output, Table, leaves, merged, object, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::compile::interface_of;
use crate::config::model::{Model, Profile};
use crate::config::profile::kind_word;
use crate::config::running::setting_lines;
use crate::module::registry::Inventory;

const WORDS: &[(&str, &str)] = &[
    ("port-profile", "Port profiles"),
    ("name", "Name of the profile"),
    ("brief", "One line for each"),
    ("usage", "Who uses them"),
    ("expand-interface", "What each interface gets"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let show = |syntax, help, run| Command { modes: &[Mode::Exec], syntax, help, words: WORDS, no: None, run };
    vec![
        show("show port-profile [name <name:word80>]", "Port profiles", profiles),
        show("show port-profile brief", "Port profiles, one line for each", brief),
        show("show port-profile usage [name <name:word80>]", "Interfaces of port profiles", usage),
        show("show port-profile expand-interface [name <name:word80>]", "What each interface gets", expand),
    ]
}

/// The profile that was asked for, or all.
fn chosen<'m>(model: &'m Model, args: &Args) -> Result<Vec<(&'m String, &'m Profile)>, Error> {
    let Some(name) = args.text("name") else { return Ok(model.profiles.iter().collect()) };
    let found = model.profiles.get_key_value(name);
    found.map(|found| vec![found]).ok_or_else(|| Error::Refused(format!("Port-profile '{name}' does not exist")))
}

fn state(profile: &Profile) -> &'static str {
    if profile.enabled { "enabled" } else { "disabled" }
}

fn profiles(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let model = session.handle.model();
    let mut text = String::new();
    let mut rows: Vec<Value> = Vec::new();
    for (name, profile) in chosen(&model, args)? {
        let own = setting_lines(&profile.own);
        let evaluated = setting_lines(&model.inherited_settings(name));
        let interfaces: Vec<String> = model.interfaces_of(name).map(|interface| interface.to_string()).collect();
        let description = profile.description.as_deref().unwrap_or("");
        let inherit = profile.inherit.as_deref().unwrap_or("");
        let heads = [
            ("type", kind_word(profile.kind)),
            ("description", description),
            ("status", state(profile)),
            ("inherit", inherit),
        ];
        if !text.is_empty() {
            text.push('\n');
        }
        text += &format!("port-profile {name}\n");
        for (word, value) in heads {
            text += format!(" {word}: {value}").trim_end();
            text.push('\n');
        }
        let lists = [
            ("config attributes", &own),
            ("evaluated config attributes", &evaluated),
            ("assigned interfaces", &interfaces),
        ];
        for (word, lines) in lists {
            text += &format!(" {word}:\n");
            lines.iter().for_each(|line| text += &format!("  {line}\n"));
        }
        let list = |lines: &[String]| Value::Array(lines.iter().cloned().map(Value::String).collect());
        let lists = object([
            ("config_attrs", list(&own)),
            ("eval_config_attrs", list(&evaluated)),
            ("assigned_intfs", list(&interfaces)),
        ]);
        rows.push(merged([leaves([("profile_name", name.as_str())]), leaves(heads), lists]));
    }
    Ok(Output::with_json(text, table("port_profile", rows)))
}

fn brief(session: &mut Session, _: &Args) -> Result<Output, Error> {
    let model = session.handle.model();
    let mut rows = Table::new("port_profile")
        .left("Port Profile", "profile_name", 26)
        .left("Type", "type", 9)
        .left("State", "status", 8)
        .right("Conf Items", "conf_items", 10)
        .right("Eval Items", "eval_items", 10)
        .right("Assigned Intfs", "assigned_intfs", 14)
        .right("Child Profs", "child_profs", 11);
    for (name, profile) in &model.profiles {
        rows.row([
            name.clone(),
            kind_word(profile.kind).to_owned(),
            state(profile).to_owned(),
            setting_lines(&profile.own).len().to_string(),
            setting_lines(&model.inherited_settings(name)).len().to_string(),
            model.interfaces_of(name).count().to_string(),
            model.children_of(name).count().to_string(),
        ]);
    }
    Ok(rows.output())
}

fn usage(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let (model, inventory) = (session.handle.model(), session.handle.inventory());
    let mut rows = Table::new("port_profile_usage")
        .left("Port Profile", "profile_name", 26)
        .left("Port", "interface", 10)
        .left("Adapter", "adapter", 16)
        .left("Owner", "owner", 16)
        .left("Module", "module", 6);
    for (name, _) in chosen(&model, args)? {
        for interface in model.interfaces_of(name) {
            let [adapter, owner, module] = holder(&inventory, interface);
            rows.row([name.clone(), interface.short(), adapter, owner, module]);
        }
    }
    Ok(rows.output())
}

/// The card behind an interface, its VM (the host for an uplink), and the module; dashes when it is not attached.
fn holder(inventory: &Inventory, interface: proto::name::IfName) -> [String; 3] {
    let ports =
        inventory.modules.iter().flat_map(|(slot, module)| module.ports.iter().map(move |port| (slot, module, port)));
    let mut found = ports.filter(|(slot, _, port)| interface_of(inventory, **slot, port) == Some(interface));
    let Some((slot, module, port)) = found.next() else { return ["--", "--", "--"].map(str::to_owned) };
    let owner = if interface.is_ethernet() { &module.host } else { &port.vm };
    let owner = if owner.is_empty() { "--" } else { owner };
    [port.nic.to_string(), owner.to_owned(), slot.to_string()]
}

fn expand(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let model = session.handle.model();
    let mut text = String::new();
    let mut rows: Vec<Value> = Vec::new();
    for (name, _) in chosen(&model, args)? {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &format!("port-profile {name}\n");
        for interface in model.interfaces_of(name) {
            let Some(found) = model.interfaces.get(&interface) else { continue };
            let lines = setting_lines(&found.own.over(&model.inherited_settings(name)));
            text += &format!(" {interface}\n");
            lines.iter().for_each(|line| text += &format!("  {line}\n"));
            let lines = Value::Array(lines.into_iter().map(Value::String).collect());
            let names = leaves([("profile_name", name.clone()), ("interface", interface.to_string())]);
            rows.push(merged([names, object([("config_attrs", lines)])]));
        }
    }
    Ok(Output::with_json(text, table("port_profile_expand", rows)))
}
