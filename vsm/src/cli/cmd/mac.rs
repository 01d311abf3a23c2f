//! Static MAC addresses and ageing.

use proto::name::IfName;
use proto::vlan::VlanSet;

use super::target::wanted;
use super::vlan::warn_missing;
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::model::MAC_AGING_S;

/// Most static addresses.
const STATIC_MACS_MAX: usize = 1024;

const WORDS: &[(&str, &str)] = &[
    ("mac", "MAC address"),
    ("address-table", "MAC address table"),
    ("static", "An address that is not learned"),
    ("aging-time", "Time after which a silent address is forgotten"),
    ("seconds", "Seconds; 0 never"),
    ("vlan", "VLAN of the address"),
    ("drop", "Drop frames from and to the address"),
    ("interface", "Port of the address"),
    ("port", "Interface"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        Command {
            modes: &[Mode::Config],
            syntax: "mac address-table static <mac:mac> vlan <vlan:vlan> { drop | interface <port:if> }",
            help: "Fix an address to a port, or drop it",
            words: WORDS,
            no: Some("mac address-table static <mac:mac> vlan <vlan:vlan> [ drop | interface <port:if> ]"),
            run: fix,
        },
        Command {
            modes: &[Mode::Config],
            syntax: "mac address-table aging-time <seconds:num:0-1000000>",
            help: "Time after which a silent address is forgotten",
            words: WORDS,
            no: Some("mac address-table aging-time [<seconds:num:0-1000000>]"),
            run: |session, args| {
                let seconds = if args.negated { MAC_AGING_S } else { wanted(args.number("seconds"))? };
                session.edit(Box::new(move |model| {
                    model.mac_aging_s = seconds;
                    Ok(Vec::new())
                }))
            },
        },
    ]
}

fn fix(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let (mac, vlan) = (wanted(args.mac("mac"))?, wanted(args.vlan("vlan"))?);
    let port = args.interface("port");
    let negated = args.negated;
    if !negated && !mac.is_station() {
        return Err(Error::Refused(format!("{mac} is not the address of a station")));
    }
    if port == Some(IfName::Mgmt0) {
        return Err(Error::Refused("mgmt0 does not switch frames".to_owned()));
    }
    session.edit(Box::new(move |model| {
        if negated {
            let found = model.static_macs.remove(&(vlan, mac));
            return found.map(|_| Vec::new()).ok_or_else(|| format!("There is no static address {mac} in VLAN {vlan}"));
        }
        model.static_macs.insert((vlan, mac), port);
        if model.static_macs.len() > STATIC_MACS_MAX {
            return Err(format!("There are {STATIC_MACS_MAX} static addresses already"));
        }
        Ok(warn_missing(model, &VlanSet::from_iter([vlan])))
    }))
}
