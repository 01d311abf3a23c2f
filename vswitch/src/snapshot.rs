//! What the control plane publishes: a validated, compiled, immutable picture of the configuration.
//!
//! [`Snapshot::build`] refuses a configuration that is not right in itself, so a worker never finds a dangling number.
//!
//! **Generations.** A cached verdict is good as long as the generations of the two ports that it depends on are those it
//! was made under. [`Snapshot::succeed`] takes the snapshot that is running and gives each port its old generation when
//! nothing that a judge reads of that port has changed - its settings, its compiled lists, its monitor sessions, and of the
//! VLANs that it carries whether they are active, watched, and have several uplinks - and a new one otherwise. It compares
//! the things themselves, not hashes. Session destinations and timers are
//! never cached, and flood lists only within one snapshot: [`Snapshot::sequence`].
//!
//! **Access lists** are taken over from the running snapshot while they say the same ([`crate::table::acl::list`]), so that
//! a change elsewhere neither compiles nor compares them port by port.

mod sessions;

use std::sync::Arc;
use std::time::Duration;

use proto::addr::VlanId;
use proto::flow::{SAMPLERS_MAX, Sampling};
use proto::vlan::{PortMode, VlanSet};

use crate::account::select::{self, Selection, Skipped};
use crate::config::{Config, Error, MonitorConfig, PortConfig, RULES_MAX, SESSIONS_MAX, SessionConfig, StaticMac};
use crate::flow::key::FlowKey;
use crate::flow::record::{MONITORS_MAX, MonitorSet};
use crate::observe::bpf::Program;
use crate::observe::mirror::filter::Own;
use crate::port::{PORTS_MAX, PortId};
use crate::table::acl::list::{AclPair, List, Lists};
use crate::verdict::DropReason;

pub use sessions::{Seen, Session};

/// A set of monitor sessions, bit `i` for the `i`-th of the snapshot.
pub type SessionSet = u64;

/// Everything that the judges read of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortPolicy {
    /// Its settings.
    pub config: PortConfig,
    /// Changes when anything here, or that this depends on, does.
    pub generation: u32,
    /// Takes copies and nothing else.
    pub mirror_destination: bool,
    /// The port of an intrusion detector, whether a session copies to it or not.
    pub sensor: bool,
    /// What comes is metered and mirrored, and no more; nothing leaves here.
    pub monitor_in: bool,
    /// Lists on the way in.
    pub acl_in: AclPair,
    /// Lists on the way out.
    pub acl_out: AclPair,
    /// Monitors of flows that enter here.
    pub monitors_in: MonitorSet,
    /// Monitors of flows that leave here.
    pub monitors_out: MonitorSet,
    /// Those of flows that enter here that count some packets only.
    pub picks_in: MonitorSet,
    /// Those of flows that leave here that count some packets only.
    pub picks_out: MonitorSet,
    /// Sessions that copy what is received here.
    pub rx_sessions: SessionSet,
    /// Sessions that copy what is sent here.
    pub tx_sessions: SessionSet,
}

impl PortPolicy {
    /// Frames are switched from here and to here.
    pub fn switches(&self) -> bool {
        self.config.up && !self.mirror_destination && !self.monitor_in
    }

    /// The port may carry `vlan`.
    pub fn carries(&self, vlan: VlanId) -> bool {
        match &self.config.mode {
            PortMode::Access(access) => *access == vlan,
            PortMode::Trunk { allowed, .. } => allowed.contains(vlan),
        }
    }
}

/// Everything that the judges read of a VLAN.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct VlanPolicy {
    members: Vec<PortId>,
    uplinks: usize,
    flood_uplink: Option<PortId>,
    rx_sessions: SessionSet,
    tx_sessions: SessionSet,
}

/// What the usual frame asks of the port that it leaves by, in eight octets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Out {
    /// As [`PortPolicy::generation`]; 0 for a port that is not configured.
    pub generation: u32,
    /// Largest IP packet, octets.
    pub mtu: u16,
    /// A frame without tags leaves as it came, whatever its VLAN.
    pub untagged: bool,
}

/// The configuration, compiled.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    version: u64,
    /// Active VLANs.
    pub vlans: VlanSet,
    /// A learned address is forgotten after this silence; zero never.
    pub mac_aging: Duration,
    /// Static addresses.
    pub static_macs: Vec<StaticMac>,
    /// Timers of the flow monitors.
    pub monitors: Vec<MonitorConfig>,
    /// What the flow monitors count; every frame, behind the end.
    selections: Vec<Selection>,
    /// Most flows of each in the cache, all workers together; 0 for as many as fit.
    pub quotas: Vec<usize>,
    /// Those that do not count every flow.
    selective: MonitorSet,
    /// Those that look at each packet.
    programmed: MonitorSet,
    /// How packets are sampled somewhere, in rising order.
    samplings: Vec<Sampling>,
    /// Monitor sessions.
    pub sessions: Vec<Session>,
    ports: Vec<PortPolicy>,
    /// Index in `ports` + 1, by port number.
    port_index: Vec<u16>,
    vlan_policies: Vec<VlanPolicy>,
    /// Index in `vlan_policies` + 1, by VLAN.
    vlan_index: Vec<u16>,
    protected: Vec<u64>,
    lists: Lists,
    /// Numbers of the rules of all lists, one bit each.
    rules: Vec<u64>,
    /// Sessions that look for some frames only.
    choosy: SessionSet,
    /// Sessions that copy one of so many frames.
    sampled: SessionSet,
    /// Sessions whose copies are cut short.
    cut: SessionSet,
    /// Sessions that copy what is dropped, by the number of the reason.
    drop_sessions: Vec<SessionSet>,
    /// What others call the ports, by port number.
    numbers: Vec<u32>,
    last_generation: u32,
    /// Of `ports`, by port number.
    outs: Vec<Out>,
}

impl Snapshot {
    /// Validates and compiles `config`.
    pub fn build(config: &Config) -> Result<Snapshot, Error> {
        Self::build_after(config, &Snapshot::default())
    }

    /// As [`Snapshot::build`], with the compiled lists that `previous` has and that say the same.
    pub fn build_after(config: &Config, previous: &Snapshot) -> Result<Snapshot, Error> {
        let lists = Lists::compile(&config.acls, &previous.lists)?;
        limit("flow monitors", config.monitors.len(), MONITORS_MAX)?;
        limit("selections of flow monitors", config.selecting.len(), config.monitors.len())?;
        limit("monitor sessions", config.sessions.len(), SESSIONS_MAX)?;
        limit("ports", config.ports.len(), PORTS_MAX)?;
        let mut snapshot = Snapshot {
            version: config.version,
            vlans: config.vlans.clone(),
            mac_aging: config.mac_aging,
            static_macs: config.static_macs.clone(),
            monitors: config.monitors.clone(),
            quotas: config.selecting.iter().map(|selecting| selecting.entries).collect(),
            port_index: vec![0; PORTS_MAX],
            vlan_index: vec![0; 4096],
            protected: config.protected_macs.iter().map(|mac| mac.to_u64()).collect(),
            numbers: vec![0; PORTS_MAX],
            drop_sessions: vec![0; DropReason::COUNT],
            last_generation: 1,
            ..Snapshot::default()
        };
        for (port, number) in &config.port_numbers {
            snapshot.numbers.get_mut(port.index()).into_iter().for_each(|place| *place = *number);
        }
        snapshot.protected.sort_unstable();
        snapshot.protected.dedup();
        for (index, selecting) in config.selecting.iter().enumerate() {
            let selection = Selection::compile(index, selecting, &lists)?;
            snapshot.selective |= MonitorSet::from(selection.is_selective()) << index;
            snapshot.programmed |= MonitorSet::from(selection.looks_at_packets()) << index;
            snapshot.selections.push(selection);
        }
        for port in &config.ports {
            snapshot.add_port(port, config, &lists)?;
        }
        limit("samplers", snapshot.samplings.len(), SAMPLERS_MAX)?;
        let own = Own::new(config);
        for (i, session) in config.sessions.iter().enumerate() {
            snapshot.add_session(i, session, &lists, &own)?;
        }
        snapshot.check_static_macs()?;
        snapshot.add_vlans(config);
        snapshot.lists = lists;
        snapshot.list_rules(config);
        snapshot.list_outs();
        Ok(snapshot)
    }

    /// The version of the configuration.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn add_port(&mut self, port: &PortConfig, config: &Config, lists: &Lists) -> Result<(), Error> {
        let name = || format!("port {}", port.id.0);
        let index = self.port_index.get_mut(port.id.index()).ok_or(Error::Limit {
            what: "port number",
            count: port.id.index(),
            max: PORTS_MAX - 1,
        })?;
        if *index != 0 {
            return Err(Error::Twice(name()));
        }
        let list = |wanted: Option<usize>, ip: bool| -> Result<Option<Arc<List>>, Error> {
            let Some(i) = wanted else { return Ok(None) };
            let Some(list) = lists.get(i) else {
                return Err(Error::Dangling(name(), format!("access list {i}")));
            };
            if list.is_ip() != ip {
                return Err(Error::AclKind(list.name().to_owned()));
            }
            Ok(Some(Arc::clone(list)))
        };
        let monitor = |wanted: Option<usize>| -> Result<MonitorSet, Error> {
            match wanted {
                None => Ok(0),
                Some(i) if i < config.monitors.len() => Ok(1 << i),
                Some(i) => Err(Error::Dangling(name(), format!("flow monitor {i}"))),
            }
        };
        let (monitors_in, monitors_out) = (monitor(port.flow_in)?, monitor(port.flow_out)?);
        let [picks_in, picks_out] = [(monitors_in, 0), (monitors_out, 1)].map(|(set, way)| {
            let sampled = port.sampling.get(way).is_some_and(|sampling| sampling.is_some());
            if sampled { set } else { set & self.programmed }
        });
        self.ports.push(PortPolicy {
            config: port.clone(),
            generation: 1,
            mirror_destination: config.sensors.contains(&port.id),
            sensor: config.sensors.contains(&port.id),
            monitor_in: config.monitor_ins.contains(&port.id),
            acl_in: AclPair::new(list(port.ip_acl_in, true)?, list(port.mac_acl_in, false)?),
            acl_out: AclPair::new(list(port.ip_acl_out, true)?, list(port.mac_acl_out, false)?),
            monitors_in,
            monitors_out,
            picks_in,
            picks_out,
            rx_sessions: 0,
            tx_sessions: 0,
        });
        *index = self.ports.len() as u16;
        self.samplings.extend(port.sampling.into_iter().filter(|sampling| sampling.is_some()));
        self.samplings.sort_unstable();
        self.samplings.dedup();
        Ok(())
    }

    fn check_static_macs(&self) -> Result<(), Error> {
        let mut seen: Vec<_> = self.static_macs.iter().map(|entry| (entry.vlan, entry.mac)).collect();
        seen.sort_unstable();
        if let Some(((vlan, mac), _)) = seen.iter().zip(seen.iter().skip(1)).find(|(a, b)| a == b) {
            return Err(Error::Twice(format!("static address {mac} vlan {vlan}")));
        }
        for entry in &self.static_macs {
            if let Some(port) = entry.port
                && self.port(port).is_none()
            {
                return Err(Error::Dangling(format!("static address {}", entry.mac), format!("port {}", port.0)));
            }
        }
        Ok(())
    }

    fn add_vlans(&mut self, config: &Config) {
        let mut ports: Vec<&PortPolicy> = self.ports.iter().filter(|port| port.switches()).collect();
        ports.sort_unstable_by_key(|port| port.config.id);
        let mut members: Vec<Vec<&PortPolicy>> = vec![Vec::new(); 4096];
        for port in ports {
            let mut join = |vlan: VlanId| {
                members.get_mut(usize::from(vlan.get())).into_iter().for_each(|members| members.push(port));
            };
            match &port.config.mode {
                PortMode::Access(vlan) => join(*vlan),
                PortMode::Trunk { allowed, .. } => allowed.iter().for_each(join),
            }
        }
        let policies = config.vlans.iter().filter_map(|vlan| {
            let members = members.get(usize::from(vlan.get()))?;
            Some((vlan, vlan_policy(vlan, members, config)))
        });
        for (i, (vlan, policy)) in (1..).zip(policies) {
            self.vlan_policies.push(policy);
            if let Some(index) = self.vlan_index.get_mut(usize::from(vlan.get())) {
                *index = i;
            }
        }
    }
    fn port_mut(&mut self, id: PortId) -> Option<&mut PortPolicy> {
        let index = usize::from(*self.port_index.get(id.index())?).checked_sub(1)?;
        self.ports.get_mut(index)
    }

    /// The policy of port `id`.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&PortPolicy> {
        let index = usize::from(*self.port_index.get(id.index())?).checked_sub(1)?;
        self.ports.get(index)
    }

    /// What the usual frame asks of port `id`.
    #[inline(always)]
    pub fn out(&self, id: PortId) -> Option<Out> {
        self.outs.get(id.index()).copied()
    }

    fn list_outs(&mut self) {
        self.outs = vec![Out::default(); PORTS_MAX];
        for port in &self.ports {
            if let Some(out) = self.outs.get_mut(port.config.id.index()) {
                let untagged = matches!(port.config.mode, PortMode::Access(_));
                *out = Out { generation: port.generation, mtu: port.config.mtu, untagged };
            }
        }
    }

    fn list_rules(&mut self, config: &Config) {
        self.rules = vec![0; RULES_MAX.div_ceil(64)];
        for id in config.acls.iter().flat_map(|acl| &acl.rule_ids) {
            if let Some(word) = self.rules.get_mut(*id as usize / 64) {
                *word |= 1 << (id % 64);
            }
        }
    }

    /// A rule of that number is in a list.
    pub fn has_rule(&self, id: u32) -> bool {
        self.rules.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    /// Differs from that of the snapshot before and from that of the one behind.
    #[inline]
    pub fn sequence(&self) -> u32 {
        self.last_generation
    }

    /// Every port.
    pub fn ports(&self) -> &[PortPolicy] {
        &self.ports
    }

    /// The generation of port `id`; 0 for one that is not configured.
    #[inline]
    pub fn generation(&self, id: PortId) -> u32 {
        self.port(id).map_or(0, |port| port.generation)
    }

    fn vlan(&self, vlan: VlanId) -> Option<&VlanPolicy> {
        let index = usize::from(*self.vlan_index.get(usize::from(vlan.get()))?).checked_sub(1)?;
        self.vlan_policies.get(index)
    }

    /// The access lists, in the order of the configuration.
    pub fn acls(&self) -> impl Iterator<Item = &proto::acl::Acl> {
        self.lists.iter().map(|list| list.acl())
    }

    /// Ports of `vlan` that are up and no destination of a monitor session, in rising order.
    pub fn members(&self, vlan: VlanId) -> &[PortId] {
        self.vlan(vlan).map_or(&[], |v| &v.members)
    }

    /// How many of the members are uplinks.
    pub fn uplinks(&self, vlan: VlanId) -> usize {
        self.vlan(vlan).map_or(0, |v| v.uplinks)
    }

    /// The uplink that floods from VMs leave by.
    pub fn flood_uplink(&self, vlan: VlanId) -> Option<PortId> {
        self.vlan(vlan).and_then(|v| v.flood_uplink)
    }

    /// Sessions that copy what is received in `vlan`.
    pub fn vlan_rx_sessions(&self, vlan: VlanId) -> SessionSet {
        self.vlan(vlan).map_or(0, |v| v.rx_sessions)
    }

    /// Sessions that copy what is sent in `vlan`.
    pub fn vlan_tx_sessions(&self, vlan: VlanId) -> SessionSet {
        self.vlan(vlan).map_or(0, |v| v.tx_sessions)
    }

    /// The address is that of a protected port on another host.
    pub fn is_protected(&self, mac: proto::addr::MacAddr) -> bool {
        self.protected.binary_search(&mac.to_u64()).is_ok()
    }

    /// The smallest active and inactive timeout of `monitors`, for one flow that several watch; `None` when none does.
    pub fn timeouts(&self, monitors: MonitorSet) -> Option<MonitorConfig> {
        let watching = self.monitors.iter().enumerate().filter(|(i, _)| monitors >> i & 1 == 1);
        watching
            .map(|(_, m)| *m)
            .reduce(|a, b| MonitorConfig { active: a.active.min(b.active), inactive: a.inactive.min(b.inactive) })
    }

    /// Of the monitors in `set`, those that count a frame with that key; if it is none, why.
    #[inline]
    pub fn watching(
        &self,
        set: MonitorSet,
        from: PortId,
        key: &FlowKey,
        vlan: Option<VlanId>,
    ) -> (MonitorSet, Skipped) {
        if set & self.selective == 0 {
            return (set, Skipped::No);
        }
        let by_uplink = self.port(from).is_some_and(|port| port.config.uplink);
        let (counts, why) = select::watching(&self.selections, set & self.selective, by_uplink, key, vlan);
        let counts = counts | set & !self.selective;
        (counts, if counts == 0 { why } else { Skipped::No })
    }

    /// What monitor `index` looks for in each packet, if it does.
    #[inline]
    pub fn program(&self, index: usize) -> Option<&Program> {
        self.selections.get(index).and_then(Selection::program)
    }

    /// Monitor `index` reads a [`Detail`](crate::flow::detail::Detail) of each packet.
    #[inline]
    pub fn is_detailed(&self, index: usize) -> bool {
        self.selections.get(index).is_some_and(Selection::is_detailed)
    }

    /// How packets are sampled at port `id`, way 0 where they enter and 1 where they leave.
    pub fn sampling(&self, id: PortId, way: usize) -> Sampling {
        self.port(id).and_then(|port| port.config.sampling.get(way).copied()).unwrap_or_default()
    }

    /// Packets are sampled so at some port, if they are sampled at all.
    pub fn samples(&self, sampling: Sampling) -> bool {
        !sampling.is_some() || self.samplings.binary_search(&sampling).is_ok()
    }

    /// The monitors whose selection is not that of `previous`.
    fn selected_anew(&self, previous: &Snapshot) -> MonitorSet {
        let at = |selections: &[Selection], index: usize| selections.get(index).cloned().unwrap_or_default();
        let differs = |index: &usize| at(&self.selections, *index) != at(&previous.selections, *index);
        (0..MONITORS_MAX).filter(differs).fold(0, |set, index| set | 1 << index)
    }

    /// Every port that `previous` had is there, and the same monitors look at it and count the same.
    pub fn watches_as(&self, previous: &Snapshot) -> bool {
        if self.selected_anew(previous) != 0 {
            return false;
        }
        let watchers = |port: &PortPolicy| {
            (port.monitors_in, port.monitors_out, port.picks_in, port.picks_out, port.config.sampling)
        };
        previous.ports.iter().all(|old| self.port(old.config.id).map(watchers) == Some(watchers(old)))
    }

    /// Makes this the successor of `previous`: ports that nothing has changed for keep their generation.
    pub fn succeed(&mut self, previous: &Snapshot) {
        let fresh = previous.last_generation.wrapping_add(1).max(1);
        self.last_generation = fresh;
        let pairs = self.ports.iter_mut().flat_map(|port| [&mut port.acl_in, &mut port.acl_out]);
        let filters = self.sessions.iter_mut().map(|session| session.filter.lists_mut());
        let pairs = pairs.chain(self.selections.iter_mut().filter_map(Selection::list_mut)).chain(filters);
        self.lists.adopt(&previous.lists, pairs);
        let refiltered = self.refiltered(previous);
        let changed: Vec<VlanId> =
            (1..=4094).filter_map(VlanId::new).filter(|vlan| self.vlan_differs(previous, *vlan, refiltered)).collect();
        let protected_differ = self.protected != previous.protected;
        let anew = self.selected_anew(previous);
        for port in &mut self.ports {
            port.generation = fresh;
            let Some(old) = previous.port(port.config.id) else { continue };
            let touched = changed.iter().any(|vlan| port.carries(*vlan));
            port.generation = old.generation;
            let counted_anew = (port.monitors_in | port.monitors_out) & anew != 0;
            let refiltered = (port.rx_sessions | port.tx_sessions) & refiltered != 0;
            if *port != *old || touched || counted_anew || refiltered || (port.config.uplink && protected_differ) {
                port.generation = fresh;
            }
        }
        self.list_outs();
    }

    /// Anything of `vlan` that a cached verdict rests on is not as in `previous`.
    fn vlan_differs(&self, previous: &Snapshot, vlan: VlanId, refiltered: SessionSet) -> bool {
        let rests_on = |s: &Snapshot| {
            let policy = s.vlan(vlan);
            policy.map(|v| (v.uplinks > 1, v.rx_sessions, v.tx_sessions))
        };
        let sessions = self.vlan(vlan).map_or(0, |v| v.rx_sessions | v.tx_sessions);
        sessions & refiltered != 0 || rests_on(self) != rests_on(previous)
    }
}

fn vlan_policy(vlan: VlanId, members: &[&PortPolicy], config: &Config) -> VlanPolicy {
    let sessions = |watched: &dyn Fn(&SessionConfig) -> &VlanSet| {
        let bits = config.sessions.iter().enumerate().filter(|(_, s)| watched(s).contains(vlan));
        bits.fold(0, |set: SessionSet, (i, _)| set | 1 << i)
    };
    VlanPolicy {
        uplinks: members.iter().filter(|port| port.config.uplink).count(),
        flood_uplink: members.iter().find(|port| port.config.uplink).map(|port| port.config.id),
        members: members.iter().map(|port| port.config.id).collect(),
        rx_sessions: sessions(&|s| &s.rx_vlans),
        tx_sessions: sessions(&|s| &s.tx_vlans),
    }
}

fn limit(what: &'static str, count: usize, max: usize) -> Result<(), Error> {
    if count > max { Err(Error::Limit { what, count, max }) } else { Ok(()) }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
