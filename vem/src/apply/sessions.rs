//! Monitor sessions: from names to ports, and whether they run here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proto::capture::Insn;
use proto::config::{Erspan, ErspanHeader, Filter, HostConfig, Once, Receive, Relay, Session, SourceKind};
use proto::name::IfName;
use vswitch::config::{DropSet, Error, Known, OnceConfig, ReceiveConfig, RemoteConfig, SESSION_ID_MAX, SessionConfig};
use vswitch::observe::bpf::{self, Program};
use vswitch::observe::erspan::{Encapsulation, Form, Stamp};
use vswitch::port::PortId;
use vswitch::verdict::DropReason;

use super::{PortPlan, SessionPlan};

/// What the sessions of a host come to.
pub fn plan(host: &HostConfig, ports: &[PortPlan]) -> Result<(Vec<SessionPlan>, Vec<SessionConfig>), Error> {
    let mut plans: Vec<SessionPlan> = Vec::with_capacity(host.sessions.len());
    let mut configs: Vec<SessionConfig> = Vec::new();
    for session in &host.sessions {
        if !(1..=SESSION_ID_MAX).contains(&session.id) {
            let (count, max) = (session.id.into(), SESSION_ID_MAX.into());
            return Err(Error::Limit { what: "number of a monitor session", count, max });
        }
        if plans.iter().any(|p| p.id == session.id) {
            return Err(Error::Twice(format!("monitor session {}", session.id)));
        }
        let (config, down) = match filtered(host, session, resolve(session, ports)) {
            Ok(config) => {
                let down = down(session, &config);
                (config, down)
            }
            Err(why) => (resolve(session, ports), Some(why)),
        };
        let sends = down.is_none() && config.destinations.is_empty();
        let relayed = session.relay.iter().filter(|_| sends).flat_map(|relay| &relay.to);
        let relayed = relayed.filter(|peer| peer.address.is_some()).map(|peer| peer.module).collect();
        let at = session.receive.as_ref().and_then(at);
        // A session that only watches here has nothing to do, one that only has its destination here keeps that port
        // to itself all the same.
        if !config.destinations.is_empty() || !config.remotes.is_empty() {
            // What is wrong with a filter must not copy what it was to keep out.
            let stopped =
                SessionConfig { id: config.id, destinations: config.destinations.clone(), ..SessionConfig::default() };
            configs.push(if down.is_none() { config } else { stopped });
        }
        plans.push(SessionPlan { id: session.id, down, relayed, at });
    }
    Ok((plans, configs))
}

/// Why the session does not run here.
fn down(session: &Session, config: &SessionConfig) -> Option<String> {
    let has_destination = !session.destinations.is_empty() || session.destination_profiles.is_some();
    let watches = config.drops != 0
        || !(config.rx_ports.is_empty()
            && config.tx_ports.is_empty()
            && config.rx_vlans.is_empty()
            && config.tx_vlans.is_empty());
    let nowhere = config.destinations.is_empty() && config.remotes.is_empty();
    let unreached = || session.relay.iter().flat_map(|relay| &relay.to).find(|peer| peer.address.is_none());
    let why = match () {
        () if !has_destination && session.erspan.is_none() && session.erspan6.is_none() => "No destination configured",
        () if session.sources.is_empty() && session.receive.is_none() => "No sources configured",
        () if config.receive.is_some() && !config.destinations.is_empty() => return None,
        () if watches && !nowhere => return None,
        () if watches && let Some(peer) = unreached() => {
            return Some(format!("Module {} has no IPv4 address", peer.module));
        }
        () => "No operational src/dst",
    };
    Some(why.to_owned())
}

/// With its filters.
fn filtered(host: &HostConfig, session: &Session, config: SessionConfig) -> Result<SessionConfig, String> {
    let mut drops: DropSet = 0;
    for source in &session.sources {
        match &source.what {
            // What a tap brings was not dropped on its way.
            SourceKind::Drops(None) => {
                let all = DropReason::ALL.iter().filter(|reason| **reason != DropReason::MonitorInput);
                drops = all.fold(drops, |set, reason| set | bit(*reason));
            }
            SourceKind::Drops(Some(name)) => {
                let reason = DropReason::ALL.iter().find(|reason| reason.name() == name);
                drops |= bit(*reason.ok_or_else(|| format!("Drop reason '{name}' is not known"))?);
            }
            _ => {}
        }
    }
    let acl = |name: &String| host.acls.iter().position(|acl| acl.name == *name);
    Ok(SessionConfig {
        drops,
        filter_vlans: session.filter_vlans.clone(),
        filter_acl: session.filter_acl.as_ref().and_then(acl),
        filter_bpf: session.filter_bpf.as_ref().map(checked).transpose()?,
        sampling: session.sampling,
        once: session.once.clone().map(|Once { own, before, after }| OnceConfig { own, before, after }),
        truncate: session.truncate,
        remotes: remotes(session, &config),
        receive: received(session, &config),
        ..config
    })
}

/// Where copies go beyond this host: where the session says, and to the modules with its destinations if none is here.
fn remotes(session: &Session, config: &SessionConfig) -> Vec<RemoteConfig> {
    let relays = session.relay.iter().filter(|_| config.destinations.is_empty()).flat_map(|relay| {
        let address = |peer: &proto::config::Peer| Some(to_module(relay, session.id, peer.address?));
        relay.to.iter().filter_map(address)
    });
    let six = session.erspan6.iter().map(|six| {
        let ends = [six.origin, six.destination].map(|address| Ipv6Addr::from(address).into());
        remote_to(&six.sent, ends)
    });
    session.erspan.iter().map(remote).chain(six).chain(relays).collect()
}

/// The address that copies are sent to.
fn at(receive: &Receive) -> Option<IpAddr> {
    let four = receive.at.map(|it| Ipv4Addr::from(it).into());
    four.or(receive.at6.map(|it| Ipv6Addr::from(it).into()))
}

/// Which copies of other hosts come to the destinations here.
fn received(session: &Session, config: &SessionConfig) -> Option<ReceiveConfig> {
    let addresses = |list: &[u32]| list.iter().map(|it| Ipv4Addr::from(*it).into()).collect::<Vec<IpAddr>>();
    let by_id = session.receive.as_ref().map(|receive| ReceiveConfig {
        by: Known::Id(receive.id),
        at: at(receive),
        from: match (&receive.from, &receive.from6) {
            (None, None) => None,
            (four, six) => {
                let six = six.iter().flatten().map(|it| Ipv6Addr::from(*it).into());
                Some(addresses(four.as_deref().unwrap_or_default()).into_iter().chain(six).collect())
            }
        },
    });
    // The address that others know this host by need not be one of its own.
    let by_key = session.relay.as_ref().filter(|relay| !relay.from.is_empty()).map(|relay| ReceiveConfig {
        by: Known::Key(relay.key),
        at: None,
        from: Some(addresses(&relay.from)),
    });
    by_id.or(by_key).filter(|_| !config.destinations.is_empty())
}

fn to_module(relay: &Relay, session: u16, address: u32) -> RemoteConfig {
    let encapsulation = Encapsulation {
        origin: Ipv4Addr::from(relay.origin.unwrap_or(0)).into(),
        destination: Ipv4Addr::from(address).into(),
        session,
        form: Form::Relay(relay.key),
        ttl: 64,
        dscp: 0,
        fragment: true,
    };
    RemoteConfig { encapsulation, keep_tag: false }
}

fn bit(reason: DropReason) -> DropSet {
    1 << (reason as u32)
}

fn checked(filter: &Filter) -> Result<Arc<Program>, String> {
    program(filter).map_err(|why| format!("Filter '{}' does not run: {why}", filter.text))
}

/// A filter as it runs.
pub(super) fn program(filter: &Filter) -> Result<Arc<Program>, bpf::Error> {
    let insn = |i: &Insn| bpf::Insn { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    let insns: Vec<bpf::Insn> = filter.program.iter().map(insn).collect();
    Program::new(&insns).map(Arc::new)
}

fn remote(erspan: &Erspan) -> RemoteConfig {
    // The kernel fills in the address that it would take itself.
    let ends = [erspan.origin.unwrap_or(0), erspan.destination].map(|address| Ipv4Addr::from(address).into());
    remote_to(erspan, ends)
}

fn remote_to(erspan: &Erspan, [origin, destination]: [IpAddr; 2]) -> RemoteConfig {
    let form = match erspan.header {
        ErspanHeader::Two => Form::Two,
        ErspanHeader::Micros100 => Form::Three(Stamp::Micros100),
        ErspanHeader::Nanos100 => Form::Three(Stamp::Nanos100),
        ErspanHeader::Ieee1588 => Form::Three(Stamp::Ieee1588),
        ErspanHeader::Nexus1000v(domain) => Form::Three(Stamp::Nexus1000v(domain)),
    };
    let encapsulation = Encapsulation {
        origin,
        destination,
        session: erspan.id,
        form,
        ttl: erspan.ttl,
        dscp: erspan.dscp,
        fragment: erspan.fragment == Some(true),
    };
    RemoteConfig { encapsulation, keep_tag: erspan.keep_tag }
}

fn resolve(session: &Session, ports: &[PortPlan]) -> SessionConfig {
    let mut config = SessionConfig { id: session.id, ..SessionConfig::default() };
    let by_name = |name: IfName| ports.iter().find(|p| p.name == Some(name)).map(|p| p.id);
    let with_profile = |name: &String| ports.iter().filter(|p| p.profile == *name).map(|p| p.id).collect::<Vec<_>>();
    let by_profile = session.destination_profiles.iter().flatten().flat_map(with_profile);
    for id in session.destinations.iter().filter_map(|name| by_name(*name)).chain(by_profile) {
        add(&mut config.destinations, id);
    }
    for source in &session.sources {
        let watched: Vec<PortId> = match &source.what {
            SourceKind::Interface(name) => by_name(*name).into_iter().collect(),
            SourceKind::Profile(name) => with_profile(name),
            SourceKind::Vlan(vlan) => {
                if source.rx {
                    config.rx_vlans.insert(*vlan);
                }
                if source.tx {
                    config.tx_vlans.insert(*vlan);
                }
                Vec::new()
            }
            SourceKind::Drops(_) => Vec::new(),
        };
        // A destination carries copies alone: there is nothing of its own to watch.
        for id in watched.into_iter().filter(|id| !config.destinations.contains(id)).collect::<Vec<_>>() {
            if source.rx {
                add(&mut config.rx_ports, id);
            }
            if source.tx {
                add(&mut config.tx_ports, id);
            }
        }
    }
    config
}

fn add(ports: &mut Vec<PortId>, id: PortId) {
    if !ports.contains(&id) {
        ports.push(id);
    }
}
