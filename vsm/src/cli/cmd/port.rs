//! Settings of a port, for profiles and for interfaces alike: one list, three modes.
//!
//! `no` (or `default`) takes back what was said here, so that an interface gets what its profile says, and a profile what
//! its parent says. `shutdown` is the exception: `no shutdown` says "up", `default shutdown` takes it back.

use proto::config::Capability;
use proto::vlan::VlanSet;

use super::target::{self, PORT, edit_settings, edit_settings_checked, text, wanted};
use super::vlan::warn_missing;
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::config::model::{Model, Settings};

const WORDS: &[(&str, &str)] = &[
    ("switchport", "How the port switches"),
    ("mode", "Access or trunk"),
    ("access", "Untagged frames of one VLAN"),
    ("trunk", "Tagged frames of several VLANs"),
    ("vlan", "VLAN"),
    ("native", "VLAN of untagged frames"),
    ("allowed", "VLANs that may pass"),
    ("ids", "VLANs, such as 1-5,10"),
    ("add", "Add to the VLANs that may pass"),
    ("remove", "Remove from the VLANs that may pass"),
    ("except", "All VLANs but these"),
    ("all", "All VLANs"),
    ("none", "No VLAN"),
    ("protected", "No traffic to other protected ports of the VLAN, on whichever host"),
    ("cdp", "Cisco Discovery Protocol, which is not spoken"),
    ("enable", "Speak it on the port"),
    ("ip", "IPv4"),
    ("mac", "Everything but IPv4"),
    ("port", "Access list of the port"),
    ("access-group", "Access list of the port"),
    ("name", "Name"),
    ("in", "From the VM or the wire into the switch"),
    ("out", "From the switch to the VM or the wire"),
    ("flow", "Flow export"),
    ("monitor", "Flow monitor"),
    ("sampler", "Count one of so many packets only"),
    ("input", "Frames that enter the switch here"),
    ("output", "Frames that leave the switch here"),
    ("mtu", "Largest IP packet"),
    ("octets", "Octets"),
    ("capability", "What the port is made for"),
    ("ids-sensor", "It gets copies and nothing else, and what it sends is dropped"),
    ("monitor-in", "What comes from a tap or a SPAN port is metered and mirrored, and not forwarded"),
    ("shutdown", "Stop the port"),
    ("description", "Free text"),
    ("text", "Up to 254 characters, 80 for a profile"),
    ("inherit", "Take settings from a profile"),
    ("port-profile", "Port profile"),
];

/// One of those that the mode is about says `no cdp enable`.
fn says_no_cdp(session: &Session) -> Result<bool, Error> {
    let model = session.handle.model();
    if session.mode() == Mode::PortProfile {
        return Ok(model.profiles.get(&target::name(session)?).is_some_and(|profile| profile.own.no_cdp));
    }
    let says = |name| model.interfaces.get(name).is_some_and(|interface| interface.own.no_cdp);
    Ok(target::interfaces(session)?.iter().any(says))
}

fn port(syntax: &'static str, help: &'static str, no: &'static str, run: Run) -> Command {
    Command { modes: PORT, syntax, help, words: WORDS, no: Some(no), run }
}

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        port("description <text:line>", "Free text", "description [<text:line>]", description),
        port(
            "switchport mode <mode=access|trunk>",
            "Access or trunk",
            "switchport mode [<mode=access|trunk>]",
            |session, args| {
                let trunk = args.text("mode").filter(|_| !args.negated).map(|mode| mode == "trunk");
                edit_settings(session, move |own, _| own.trunk = trunk)
            },
        ),
        port(
            "switchport access vlan <vlan:vlan>",
            "VLAN of an access port",
            "switchport access vlan [<vlan:vlan>]",
            |session, args| one_vlan(session, args, |own| &mut own.access_vlan),
        ),
        port(
            "switchport trunk native vlan <vlan:vlan>",
            "VLAN of a trunk's untagged frames",
            "switchport trunk native vlan [<vlan:vlan>]",
            |session, args| one_vlan(session, args, |own| &mut own.native_vlan),
        ),
        port(
            "switchport trunk allowed vlan { <ids:vlans> | <how=add|remove|except> <ids:vlans> | <how=all|none> }",
            "VLANs that may pass a trunk",
            "switchport trunk allowed vlan [ <ids:vlans> | <how=all|none> ]",
            allowed,
        ),
        port("switchport protected", "Isolate the port", "switchport protected", |session, args| {
            let protected = !args.negated;
            edit_settings(session, move |own, _| own.protected = protected)
        }),
        // What is asked for is so anyway; saying it keeps programs content that compare what they said with what they read.
        port("cdp enable", "CDP is not spoken; 'no cdp enable' says so", "cdp enable", |session, args| {
            let no_cdp = args.negated && !args.has("default");
            // Taking 'no cdp enable' back is all that it can do.
            let warning = (!args.negated).then(|| "CDP is not spoken all the same".to_owned());
            if warning.is_some() && !says_no_cdp(session)? {
                return Err(Error::Refused("CDP is not spoken; only 'no cdp enable' is possible".to_owned()));
            }
            let warnings = warning.into_iter().collect();
            edit_settings_checked(session, move |_| Ok(warnings), move |own, _| own.no_cdp = no_cdp)
        }),
        port(
            "<kind=ip|mac> port access-group <name:word> <way=in|out>",
            "Filter the frames of the port",
            "<kind=ip|mac> port access-group [<name:word>] <way=in|out>",
            access_group,
        ),
        port(
            "ip flow monitor <name:word> <way=input|output> [sampler <sampler:word>]",
            "Meter the frames of the port",
            "ip flow monitor [<name:word>] <way=input|output> [sampler <sampler:word>]",
            flow_monitor,
        ),
        port(
            "ip flow monitor <name:word> sampler <sampler:word> <way=input|output>",
            "Meter some of the packets of the port",
            "ip flow monitor <name:word> sampler <sampler:word> <way=input|output>",
            flow_monitor,
        ),
        port("mtu <octets:num:576-9216>", "Largest IP packet", "mtu [<octets:num:576-9216>]", |session, args| {
            let mtu = args.number("octets").filter(|_| !args.negated).and_then(|mtu| u16::try_from(mtu).ok());
            edit_settings(session, move |own, _| own.mtu = mtu)
        }),
        port(
            "capability <capability=ids-sensor|monitor-in>",
            "Make it the port of an intrusion detector, or one that only meters and mirrors what it gets",
            "capability <capability=ids-sensor|monitor-in>",
            capability,
        ),
        port("shutdown", "Stop the port", "shutdown", |session, args| {
            let up = (!args.has("default")).then_some(args.negated);
            edit_settings(session, move |own, _| own.admin_up = up)
        }),
        port(
            "inherit port-profile <name:word80>",
            "Take settings from a profile",
            "inherit port-profile [<name:word80>]",
            inherit,
        ),
    ]
}

fn capability(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let capability = match args.text("capability") {
        Some("monitor-in") => Capability::MonitorIn,
        _ => Capability::IdsSensor,
    };
    let negated = args.negated;
    edit_settings(session, move |own, _| match negated {
        true => drop(own.capability.take_if(|has| *has == capability)),
        false => own.capability = Some(capability),
    })
}

fn description(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let is_profile = session.mode() == Mode::PortProfile;
    let length_max = if is_profile { 80 } else { 254 };
    let text = if args.negated { None } else { Some(target::short(args, "text", length_max)?) };
    if is_profile {
        return target::edit_profile(session, move |profile| {
            profile.description = text;
            Ok(())
        });
    }
    target::edit_interfaces(session, move |interface| interface.description = text.clone())
}

fn one_vlan(
    session: &mut Session,
    args: &Args,
    field: fn(&mut Settings) -> &mut Option<proto::addr::VlanId>,
) -> Result<Output, Error> {
    let vlan = args.vlan("vlan").filter(|_| !args.negated);
    let named = VlanSet::from_iter(vlan);
    edit_settings_checked(session, move |model| Ok(warn_missing(model, &named)), move |own, _| *field(own) = vlan)
}

fn allowed(session: &mut Session, args: &Args) -> Result<Output, Error> {
    if args.negated {
        return edit_settings(session, |own, _| own.allowed_vlans = None);
    }
    let ids = args.vlans("ids").cloned().unwrap_or_default();
    let how = args.text("how").unwrap_or("").to_owned();
    let named = if matches!(how.as_str(), "" | "add") { ids.clone() } else { VlanSet::EMPTY };
    let change = move |own: &mut Settings, inherited: Settings| {
        let before = own.allowed_vlans.take().or(inherited.allowed_vlans).unwrap_or_else(VlanSet::all);
        own.allowed_vlans = Some(match how.as_str() {
            "add" => before.union(&ids),
            "remove" => before.difference(&ids),
            "except" => VlanSet::all().difference(&ids),
            "all" => VlanSet::all(),
            "none" => VlanSet::EMPTY,
            _ => ids.clone(),
        });
    };
    edit_settings_checked(session, move |model| Ok(warn_missing(model, &named)), change)
}

fn access_group(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let is_ip = args.text("kind") == Some("ip");
    let is_in = args.text("way") == Some("in");
    let name = if args.negated { None } else { Some(text(args, "name")?) };
    let wanted = name.clone();
    let check = move |model: &Model| {
        let Some(name) = wanted else { return Ok(Vec::new()) };
        match model.acls.get(&name) {
            None => Ok(vec![format!("Access list '{name}' does not exist; until it does, everything is permitted")]),
            Some(list) if list.entries.is_ip() != is_ip => {
                Err(format!("Access list '{name}' is {} access list", if is_ip { "a MAC" } else { "an IP" }))
            }
            Some(_) => Ok(Vec::new()),
        }
    };
    edit_settings_checked(session, check, move |own, _| {
        let field = match (is_ip, is_in) {
            (true, true) => &mut own.ip_acl_in,
            (true, false) => &mut own.ip_acl_out,
            (false, true) => &mut own.mac_acl_in,
            (false, false) => &mut own.mac_acl_out,
        };
        field.clone_from(&name);
    })
}

fn flow_monitor(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let is_input = args.text("way") == Some("input");
    let name = if args.negated { None } else { Some(text(args, "name")?) };
    let sampler = args.text("sampler").filter(|_| !args.negated).map(str::to_owned);
    let (wanted, sampled) = (name.clone(), sampler.clone());
    let check = move |model: &Model| {
        if let Some(name) = wanted.filter(|name| !model.monitors.contains_key(name)) {
            return Err(format!("Flow monitor '{name}' does not exist"));
        }
        match sampled.map(|name| (model.samplers.get(&name).map(|sampler| sampler.mode), name)) {
            Some((None, name)) => Err(format!("Sampler '{name}' does not exist")),
            Some((Some(None), name)) => Err(format!("Sampler '{name}' has no mode")),
            _ => Ok(Vec::new()),
        }
    };
    edit_settings_checked(session, check, move |own, _| {
        let (field, own_sampler) = match is_input {
            true => (&mut own.flow_in, &mut own.sampler_in),
            false => (&mut own.flow_out, &mut own.sampler_out),
        };
        field.clone_from(&name);
        own_sampler.clone_from(&sampler);
    })
}

fn inherit(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let parent = if args.negated { None } else { Some(wanted(args.text("name"))?.to_owned()) };
    if session.mode() == Mode::PortProfile {
        return super::profile::inherit(session, parent);
    }
    super::interface::inherit(session, parent)
}
