//! Desired state to dataplane configuration: names to numbers, profiles to ports.
//!
//! ```text
//!   HostConfig (last good, from the supervisor) ─┐
//!   ports that are attached ─────────────────────┼─▶ Plan { config for the dataplane, names and states for people }
//!   numbers of the plan before ──────────────────┘
//! ```
//!
//! * A port that the supervisor has numbered gets the settings of its binding. One that it has not gets those of its
//!   profile, which is how a port can be attached while the supervisor is away. So does one whose profile was chosen anew
//!   since ([`Attached::fresh`]): an old binding must not undo a choice that the supervisor has not heard of.
//! * What refers to an interface of another host is left out here. A monitor session copies to its destinations on this host,
//!   and if it has none here, to the modules that have. A static address on another host leads to the uplink when there is one; with several it is left to learning.
//! * An access list, flow monitor or sampler that does not exist has no effect, as on NX-OS; one of the wrong kind is an error.
//! * A monitor session counts under its id, monitors and rules keep their places ([`crate::numbers`]): counters stay with
//!   what they count.
//!
//! Pure. Whether a plan is right is decided by [`vswitch::snapshot::Snapshot::build`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use hashbrown::HashMap;
use proto::addr::NicId;
use proto::config::{Capability, HostConfig, PortBinding, PortSettings, ProfileType};
use proto::flow::{Destination, Sampler, Sampling};
use proto::name::IfName;
use proto::report::PortState;
use vswitch::config::{Config, Error, Filter, MonitorConfig, PortConfig, Selecting, StaticMac};
use vswitch::port::PortId;

use crate::numbers::{MonitorNumbers, RuleNumbers};

/// A port as the plan sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The dataplane's number.
    pub id: PortId,
    /// The VM's card, or the uplink.
    pub nic: NicId,
    /// VM port or uplink.
    pub kind: ProfileType,
    /// Profile that the server administrator chose.
    pub profile: String,
    /// The profile was chosen after the supervisor made its configuration.
    pub fresh: bool,
    /// Its device is there.
    pub open: bool,
    /// Its number in flow export.
    pub if_index: u16,
    /// Largest packet of the device, when that bounds what the port may send.
    pub device_mtu: Option<u16>,
}

/// Numbers that outlive a plan.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Of access-list rules.
    pub rules: RuleNumbers,
    /// Of flow monitors.
    pub monitors: MonitorNumbers,
}

/// What a port is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortPlan {
    /// The dataplane's number.
    pub id: PortId,
    /// Its interface, once the supervisor has given it one.
    pub name: Option<IfName>,
    /// Profile in force.
    pub profile: String,
    /// Everything that it does.
    pub settings: PortSettings,
    /// Largest packet: that of the settings, or of the device if that is smaller.
    pub mtu: u16,
    /// Forwards, as far as the configuration goes; else why not.
    pub state: PortState,
}

/// A monitor session of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionPlan {
    /// Session number, from 1.
    pub id: u16,
    /// Why it does not run here.
    pub down: Option<String>,
    /// Modules that its copies go to.
    pub relayed: Vec<u8>,
    /// Address of this host that copies are sent to.
    pub at: Option<IpAddr>,
}

/// A plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For the dataplane.
    pub config: Config,
    /// Numbers of rules and monitors.
    pub numbers: Numbers,
    /// Rule numbers whose counters start at zero.
    pub fresh_rules: Vec<u32>,
    /// The ports, in the order in which they were given.
    pub ports: Vec<PortPlan>,
    /// The monitor sessions.
    pub sessions: Vec<SessionPlan>,
}

impl Plan {
    /// The plan of a port.
    pub fn port(&self, id: PortId) -> Option<&PortPlan> {
        self.ports.iter().find(|p| p.id == id)
    }

    /// The interface of a port.
    pub fn name(&self, id: PortId) -> Option<IfName> {
        self.port(id).and_then(|p| p.name)
    }

    /// The port of an interface.
    pub fn by_name(&self, name: IfName) -> Option<PortId> {
        self.ports.iter().find(|p| p.name == Some(name)).map(|p| p.id)
    }
}

/// Makes a plan. Without `host` every port waits for its first configuration.
///
/// # Errors
/// A limit is passed, or a name is given twice.
pub fn plan(version: u64, host: Option<&HostConfig>, attached: &[Attached], before: &Numbers) -> Result<Plan, Error> {
    let empty = HostConfig::default();
    let ports: Vec<PortPlan> = match host {
        Some(host) => {
            let bindings: HashMap<&NicId, &PortBinding> = host.ports.iter().rev().map(|b| (&b.nic, b)).collect();
            attached.iter().map(|port| plan_port(host, port, bindings.get(&port.nic).copied())).collect()
        }
        None => attached.iter().map(wait_for_config).collect(),
    };
    let host = host.unwrap_or(&empty);
    let (rules, acls, fresh_rules) = before.rules.assign(&host.acls)?;
    let monitors = before.monitors.assign(host)?;
    let (sessions, session_configs) = sessions::plan(host, &ports)?;
    let acl = |name: &Option<String>| {
        let name = name.as_ref()?;
        host.acls.iter().position(|acl| acl.name == *name)
    };
    let port_configs = attached.iter().zip(&ports).map(|(port, plan)| {
        let set = &plan.settings;
        PortConfig {
            id: port.id,
            uplink: port.kind == ProfileType::Ethernet,
            up: port.open && plan.state == PortState::Up,
            mode: set.mode.clone(),
            protected: set.protected,
            mtu: plan.mtu,
            ip_acl_in: acl(&set.ip_acl_in),
            ip_acl_out: acl(&set.ip_acl_out),
            mac_acl_in: acl(&set.mac_acl_in),
            mac_acl_out: acl(&set.mac_acl_out),
            flow_in: set.flow_in.as_ref().and_then(|name| monitors.index(name)),
            flow_out: set.flow_out.as_ref().and_then(|name| monitors.index(name)),
            sampling: [sampling(host, &set.sampler_in), sampling(host, &set.sampler_out)],
        }
    });
    let config = Config {
        version,
        vlans: host.vlans.clone(),
        mac_aging: Duration::from_secs(host.mac_aging_s.into()),
        static_macs: static_macs(host, attached, &ports),
        acls,
        monitors: monitors.iter().map(|name| monitor_config(host, name)).collect(),
        selecting: monitors.iter().map(|name| selecting(host, name)).collect::<Result<_, _>>()?,
        sessions: session_configs,
        ports: port_configs.collect(),
        port_numbers: attached.iter().map(|port| (port.id, port.if_index.into())).collect(),
        sensors: made_for(&ports, Capability::IdsSensor),
        monitor_ins: made_for(&ports, Capability::MonitorIn),
        protected_macs: host.protected_macs.clone(),
        hosts: host.hosts.iter().flatten().copied().map(Ipv4Addr::from).collect(),
        collectors: collectors(host),
        address: host.address.map(Ipv4Addr::from),
    };
    Ok(Plan { config, numbers: Numbers { rules, monitors }, fresh_rules, ports, sessions })
}

fn made_for(ports: &[PortPlan], capability: Capability) -> Vec<PortId> {
    ports.iter().filter(|port| port.settings.capability == Some(capability)).map(|port| port.id).collect()
}

/// Where flow export goes by IPv4, by whatever transport: of IPv6 it is not known which address it comes from.
fn collectors(host: &HostConfig) -> Vec<SocketAddrV4> {
    let all = host.exporters.iter().flat_map(|exporter| &exporter.destinations);
    let four = |destination: &Destination| match destination.address() {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    };
    all.filter_map(four).collect()
}

fn wait_for_config(port: &Attached) -> PortPlan {
    PortPlan {
        id: port.id,
        name: None,
        profile: port.profile.clone(),
        mtu: smaller_mtu(&PortSettings::default(), port),
        settings: PortSettings::default(),
        state: PortState::Down("no configuration yet".to_owned()),
    }
}

fn plan_port(host: &HostConfig, port: &Attached, binding: Option<&PortBinding>) -> PortPlan {
    let name = binding.map(|b| b.name);
    let bound = binding.filter(|b| !port.fresh || b.profile == port.profile);
    let wanted = bound.map_or(port.profile.as_str(), |b| b.profile.as_str());
    let profile = host.profiles.iter().find(|p| p.name == wanted);
    let settings = bound.map(|b| &b.settings).or(profile.map(|p| &p.settings)).cloned().unwrap_or_default();
    let down = match (bound, profile) {
        (_, None) => Some(format!("profile '{wanted}' does not exist")),
        (_, Some(p)) if p.kind != port.kind => {
            let of = if p.kind == ProfileType::Ethernet { "ethernet" } else { "vethernet" };
            Some(format!("profile '{wanted}' is of type {of}"))
        }
        (_, Some(p)) if !p.enabled => Some(format!("profile '{wanted}' is disabled")),
        (Some(b), _) if !b.profile_usable => Some(format!("profile '{wanted}' can't be used")),
        _ if !settings.admin_up => Some("Administratively down".to_owned()),
        _ => None,
    };
    let state = down.map_or(PortState::Up, PortState::Down);
    let mtu = smaller_mtu(&settings, port);
    PortPlan { id: port.id, name, profile: wanted.to_owned(), settings, mtu, state }
}

fn smaller_mtu(settings: &PortSettings, port: &Attached) -> u16 {
    port.device_mtu.map_or(settings.mtu, |mtu| mtu.min(settings.mtu))
}

fn monitor_config(host: &HostConfig, name: Option<&str>) -> MonitorConfig {
    let monitor = host.monitors.iter().find(|m| Some(m.name.as_str()) == name);
    // An empty place has no port, so its timers are never used.
    let (active, inactive) = monitor.map_or((1800, 15), |m| (m.active_s, m.inactive_s));
    MonitorConfig { active: Duration::from_secs(active.into()), inactive: Duration::from_secs(inactive.into()) }
}

/// The record of the monitor asks for what has to be read of each packet.
fn is_detailed(host: &HostConfig, name: Option<&str>) -> bool {
    let monitor = host.monitors.iter().find(|monitor| Some(monitor.name.as_str()) == name);
    let record =
        monitor.and_then(|monitor| host.records.iter().find(|record| Some(&record.name) == monitor.record.as_ref()));
    record.is_some_and(|record| record.fields.iter().any(|field| field.is_of_packets()))
}

fn selecting(host: &HostConfig, name: Option<&str>) -> Result<Selecting, Error> {
    let meter = host.meters.iter().flatten().find(|meter| Some(meter.monitor.as_str()) == name);
    let detailed = is_detailed(host, name);
    let Some(meter) = meter else { return Ok(Selecting { detailed, ..Selecting::default() }) };
    let list = meter.filter.as_ref().and_then(|filter| host.acls.iter().position(|acl| acl.name == *filter));
    let program = meter.filter_bpf.as_ref().map(sessions::program).transpose();
    Ok(Selecting {
        filter: list.map(Filter::Acl),
        program: program.map_err(|why| Error::Program(meter.monitor.clone(), why))?,
        detailed,
        elsewhere: meter.elsewhere.clone(),
        entries: meter.entries.unwrap_or(0) as usize,
    })
}

/// What a sampler does; one that does not exist leaves nothing out.
pub fn sampling(host: &HostConfig, name: &Option<String>) -> Sampling {
    let mut known = host.samplers.iter().flatten();
    known.find(|sampler| Some(&sampler.name) == name.as_ref()).map(Sampler::sampling).unwrap_or_default()
}

fn static_macs(host: &HostConfig, attached: &[Attached], ports: &[PortPlan]) -> Vec<StaticMac> {
    let mut uplinks = attached.iter().filter(|p| p.kind == ProfileType::Ethernet).map(|p| p.id);
    let uplink = match (uplinks.next(), uplinks.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    };
    let resolve = |entry: &proto::config::StaticMac| {
        let port = match entry.port {
            None => None,
            Some(name) => Some(ports.iter().find(|p| p.name == Some(name)).map(|p| p.id).or(uplink)?),
        };
        Some(StaticMac { vlan: entry.vlan, mac: entry.mac, port })
    };
    host.static_macs.iter().filter_map(resolve).collect()
}

mod sessions;
#[cfg(test)]
mod tests;
