//! Which frames a session looks for, as far as their flow decides it.
//!
//! A VLAN list and an access list read nothing of a frame that is not in its flow key, and its stations, which another host may
//! copy, are there too. So the judges ask them once for each flow, and the flow entry remembers the sessions that want it: a
//! filter costs a frame nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use proto::addr::{MacAddr, VlanId};
use proto::vlan::VlanSet;

use crate::config::{Config, OnceConfig, SessionConfig};
use crate::flow::key::FlowKey;
use crate::observe::erspan::PROTOCOL_GRE;
use crate::table::acl::AclPair;
use crate::table::acl::list::Lists;
use crate::wire::transport::{TCP as PROTOCOL_TCP, UDP as PROTOCOL_UDP};

/// What a session looks for. Two are equal when they are the same lists in memory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    vlans: Option<VlanSet>,
    acl: AclPair,
    /// What no session looks for.
    own: Arc<Own>,
    /// What other hosts copy.
    once: Option<Arc<Once>>,
}

impl Filter {
    /// That of `session`, with its access list of `lists`.
    ///
    /// # Errors
    /// The list that it names is not there.
    pub(crate) fn new(session: &SessionConfig, lists: &Lists, own: &Arc<Own>) -> Result<Self, String> {
        let acl = match session.filter_acl {
            None => AclPair::default(),
            Some(i) => match lists.get(i).cloned() {
                Some(list) if list.is_ip() => AclPair::new(Some(list), None),
                Some(list) => AclPair::new(None, Some(list)),
                None => return Err(format!("access list {i}")),
            },
        };
        let once = session.once.as_ref().map(|once| Arc::new(Once::new(once)));
        Ok(Filter { vlans: session.filter_vlans.clone(), acl, own: Arc::clone(own), once })
    }

    /// It looks for every frame.
    pub fn takes_all(&self) -> bool {
        *self == Filter::default()
    }

    /// It looks for frames of flow `key` that are switched in `vlan`, and come so.
    pub fn takes(&self, vlan: Option<VlanId>, key: &FlowKey, fate: Fate) -> bool {
        if self.once.as_ref().is_some_and(|once| once.leaves_to_others(key, fate)) {
            return false;
        }
        let in_vlans = self.vlans.as_ref().is_none_or(|vlans| vlan.is_some_and(|vlan| vlans.contains(vlan)));
        in_vlans && (self.acl == AclPair::default() || self.acl.singles_out(key, vlan)) && !self.own.has(key)
    }

    /// Its list, to be replaced by one that says the same.
    pub(crate) fn lists_mut(&mut self) -> &mut AclPair {
        &mut self.acl
    }
}

/// How a frame came, and what becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fate {
    /// By an uplink.
    pub by_uplink: bool,
    /// It is dropped, so that no other host sees it.
    pub dropped: bool,
}

/// Stations that a session watches on their own hosts, as numbers in rising order.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Once {
    own: Vec<u64>,
    before: Vec<u64>,
    after: Vec<u64>,
}

impl Once {
    fn new(once: &OnceConfig) -> Self {
        let sorted = |macs: &[MacAddr]| {
            let mut numbers: Vec<u64> = macs.iter().map(|mac| mac.to_u64()).collect();
            numbers.sort_unstable();
            numbers
        };
        Once { own: sorted(&once.own), before: sorted(&once.before), after: sorted(&once.after) }
    }

    /// Another host copies it. What one of two hosts is to copy leaves its source in the order of the conversation, and
    /// arrives there in that order too: so one host copies both directions, the one that comes first.
    fn leaves_to_others(&self, key: &FlowKey, fate: Fate) -> bool {
        let has = |list: &[u64], mac| list.binary_search(&MacAddr(mac).to_u64()).is_ok();
        let (src, dst) = (key.src_mac, key.dst_mac);
        match fate.by_uplink {
            true => has(&self.before, src) || has(&self.after, src) && !has(&self.own, dst),
            false => has(&self.before, dst) && has(&self.own, src) && !fate.dropped,
        }
    }
}

/// What the switch itself says of the traffic, of which no session looks for any: mirroring a copy would beget more of them, and
/// flow export is no traffic of those who are watched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Own {
    /// From where to where they go, in rising order.
    ways: Vec<(IpAddr, IpAddr)>,
    /// Hosts that they go between, in rising order: through how many sessions a circle may lead, it leads over these.
    hosts: Vec<Ipv4Addr>,
    /// This host, and addresses and ports that it sends flow export to, in rising order.
    exporter: Option<IpAddr>,
    collectors: Vec<SocketAddrV4>,
}

impl Own {
    /// The packets that a host with this configuration sends, receives, or sees between other hosts of the switch.
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let sent = config.sessions.iter().flat_map(|session| &session.remotes);
        let own = config.address.map(IpAddr::from);
        let origin = |origin: IpAddr| own.filter(|_| origin.is_unspecified()).unwrap_or(origin);
        let sent = sent.map(|remote| (origin(remote.encapsulation.origin), remote.encapsulation.destination));
        let known = config.sessions.iter().filter_map(|session| session.receive.as_ref());
        let known = known.filter_map(|receive| Some((receive.at?, receive.from.as_ref()?)));
        let received = known.flat_map(|(at, from)| from.iter().map(move |from| (*from, at)));
        let ways = sorted(sent.chain(received));
        let hosts = sorted(config.hosts.iter().copied());
        // Without collectors it is all the same which host this is.
        let exporter = own.filter(|_| !config.collectors.is_empty());
        let collectors = exporter.iter().flat_map(|_| config.collectors.iter().copied());
        Arc::new(Own { ways, hosts, exporter, collectors: sorted(collectors) })
    }

    fn has(&self, key: &FlowKey) -> bool {
        if !matches!(key.protocol, PROTOCOL_GRE | PROTOCOL_UDP | PROTOCOL_TCP) {
            return false;
        }
        let (Some(from), Some(to)) = (key.src_ip(), key.dst_ip()) else { return false };
        match key.protocol {
            PROTOCOL_GRE => {
                let is_host = |address| matches!(address, IpAddr::V4(it) if self.hosts.binary_search(&it).is_ok());
                self.ways.binary_search(&(from, to)).is_ok() || (is_host(from) && is_host(to))
            }
            _ if self.exporter == Some(from) => self.is_collector(to, key.dst_port),
            // What a collector answers.
            PROTOCOL_TCP if self.exporter == Some(to) => self.is_collector(from, key.src_port),
            _ => false,
        }
    }

    fn is_collector(&self, address: IpAddr, port: u16) -> bool {
        matches!(address, IpAddr::V4(it) if self.collectors.binary_search(&SocketAddrV4::new(it, port)).is_ok())
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.collect::<BTreeSet<_>>().into_iter().collect()
}
