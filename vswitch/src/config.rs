//! What the control plane asks of the dataplane, in the dataplane's own words: port numbers, not names.
//!
//! The agent makes a [`Config`] of its last good host configuration and of the ports that are attached, and builds a
//! [`crate::snapshot::Snapshot`] of it. Validation happens there: a snapshot that was built is right, and is published
//! with one pointer store, so a change is whole or absent (law 4).

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use proto::acl::Acl;
use proto::addr::{MacAddr, VlanId};
use proto::flow::Sampling;
use proto::vlan::{PortMode, VlanSet};

use crate::observe::bpf::{self, Program};
use crate::observe::erspan::Encapsulation;
use crate::port::PortId;
use crate::verdict::DropReason;

/// Most counted rules, over all access lists of a VEM.
pub const RULES_MAX: usize = 65_536;
/// Most monitor sessions that run at a time.
pub const SESSIONS_MAX: usize = 64;
/// The highest number of a monitor session.
pub const SESSION_ID_MAX: u16 = 256;

/// Everything that the road consults.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Rises with every change.
    pub version: u64,
    /// VLANs that exist and are active.
    pub vlans: VlanSet,
    /// A dynamic MAC address is forgotten after this silence; zero never.
    pub mac_aging: Duration,
    /// Static MAC addresses.
    pub static_macs: Vec<StaticMac>,
    /// Access lists that ports refer to by index.
    pub acls: Vec<AclConfig>,
    /// Flow monitors that ports refer to by index; at most [`crate::flow::record::MONITORS_MAX`].
    pub monitors: Vec<MonitorConfig>,
    /// What the monitors count, by index; those that are not named count everything.
    pub selecting: Vec<Selecting>,
    /// Monitor sessions; at most [`SESSIONS_MAX`].
    pub sessions: Vec<SessionConfig>,
    /// Ports that are attached.
    pub ports: Vec<PortConfig>,
    /// The numbers that ports have for others, as in flow export; 0 for a port that is not here.
    pub port_numbers: Vec<(PortId, u32)>,
    /// Ports of intrusion detectors: they take copies and nothing else, and what they send is dropped.
    pub sensors: Vec<PortId>,
    /// Ports that bring what a tap or a SPAN port of another switch copies: it is metered and mirrored, and not forwarded.
    pub monitor_ins: Vec<PortId>,
    /// Addresses of protected ports on other hosts.
    pub protected_macs: Vec<MacAddr>,
    /// Addresses of the hosts of the switch: GRE between two of them is not copied.
    pub hosts: Vec<Ipv4Addr>,
    /// Addresses and ports that this host sends flow export to: what goes there from its address is not copied.
    pub collectors: Vec<SocketAddrV4>,
    /// That of this host.
    pub address: Option<Ipv4Addr>,
}

/// A static MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StaticMac {
    /// VLAN.
    pub vlan: VlanId,
    /// Address.
    pub mac: MacAddr,
    /// Where it is; `None` drops frames from and to it.
    pub port: Option<PortId>,
}

/// An access list and the numbers of its rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AclConfig {
    /// The list.
    pub acl: Acl,
    /// A number below [`RULES_MAX`] for each rule, then one for the implicit deny. The agent keeps a rule's number over
    /// changes of the list: it is the index of the rule's counter, and how a drop names its rule.
    pub rule_ids: Vec<u32>,
}

/// The timers of a flow monitor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MonitorConfig {
    /// A flow that goes on is reported this often.
    pub active: Duration,
    /// A flow that is silent this long has ended.
    pub inactive: Duration,
}

/// What a flow monitor counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selecting {
    /// Frames that this wants; all without one.
    pub filter: Option<Filter>,
    /// Packets that this program matches; all without one. It is asked for every packet, and sees it without its outer tag; a
    /// super-frame is one.
    pub program: Option<Arc<Program>>,
    /// Of each packet time to live, length and flow label are read.
    pub detailed: bool,
    /// Sources of frames that are counted on another host and not again here, when they come by an uplink.
    pub elsewhere: Vec<MacAddr>,
    /// Most flows of it in the cache, all workers together; 0 for as many as fit.
    pub entries: usize,
}

/// Which frames a flow monitor counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Filter {
    /// Those that a list permits: index in [`Config::acls`].
    Acl(usize),
}

/// A destination of a monitor session on another host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoteConfig {
    /// What is put in front of a copy.
    pub encapsulation: Encapsulation,
    /// Copies have the tag of their VLAN, and the header has none. Else the header has the VLAN, and the copy no tag for it.
    pub keep_tag: bool,
}

/// Which copies of other hosts a monitor session takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiveConfig {
    /// How they are known.
    pub by: Known,
    /// Address of this host that they are sent to; `None` for any.
    pub at: Option<IpAddr>,
    /// Hosts that they come from; `None` for any.
    pub from: Option<Vec<IpAddr>>,
}

impl ReceiveConfig {
    /// It takes copies of that host.
    pub fn takes_of(&self, host: IpAddr) -> bool {
        self.from.as_ref().is_none_or(|from| from.contains(&host))
    }
}

/// How received copies are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// By their ERSPAN id. Type I, which has none, is taken of the hosts that are named.
    Id(u16),
    /// By their GRE key: they are of another module of this switch.
    Key(u32),
}

const _: () = assert!(DropReason::COUNT <= DropSet::BITS as usize);

/// Reasons of drops, bit `i` for the one with number `i`.
pub type DropSet = u64;

/// A monitor session with its sources resolved to ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionConfig {
    /// Its number, at most [`SESSION_ID_MAX`] and given once; what it counts is kept under it.
    pub id: u16,
    /// Ports whose received frames are copied.
    pub rx_ports: Vec<PortId>,
    /// Ports whose sent frames are copied.
    pub tx_ports: Vec<PortId>,
    /// VLANs in which received frames are copied.
    pub rx_vlans: VlanSet,
    /// VLANs in which sent frames are copied.
    pub tx_vlans: VlanSet,
    /// Frames that are dropped for one of these reasons are copied, as received, wherever they came from.
    pub drops: DropSet,
    /// Only frames that are switched in one of these VLANs are copied.
    pub filter_vlans: Option<VlanSet>,
    /// Only frames that this access list permits are copied: an index in [`Config::acls`]. An IP list permits no frame that
    /// is not IPv4, a MAC list none that is. Its rules count nothing here.
    pub filter_acl: Option<usize>,
    /// Only frames that this program matches are copied. It sees them without the tag of their VLAN.
    pub filter_bpf: Option<Arc<Program>>,
    /// Of every so many frames that it looks for one is copied; `None` and 1 are every one. Each worker counts by itself,
    /// and a super-frame is one.
    pub sampling: Option<u32>,
    /// Who is copied by which host, where several see the same conversation.
    pub once: Option<OnceConfig>,
    /// Copies are cut to that many octets, after super-frames were cut into segments. What their headers say stays.
    pub truncate: Option<u16>,
    /// Ports that get the copies.
    pub destinations: Vec<PortId>,
    /// Other hosts that get the copies.
    pub remotes: Vec<RemoteConfig>,
    /// What other hosts have copied goes to its destinations here, and nowhere else.
    pub receive: Option<ReceiveConfig>,
}

/// Stations whose frames a session copies both ways on their own hosts. A conversation of two of them is copied by the first
/// of their hosts, so that it stays in order; any other frame of theirs is copied where it comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OnceConfig {
    /// Those of this host.
    pub own: Vec<MacAddr>,
    /// Those of hosts before this one.
    pub before: Vec<MacAddr>,
    /// Those of hosts behind it.
    pub after: Vec<MacAddr>,
}

/// A port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    /// Its number.
    pub id: PortId,
    /// Leads to other hosts; no frame goes from uplink to uplink.
    pub uplink: bool,
    /// Forwards. A port that does not drops what it receives as `port-down`.
    pub up: bool,
    /// Access or trunk.
    pub mode: PortMode,
    /// No traffic to another protected port.
    pub protected: bool,
    /// Largest IP packet out of it, octets.
    pub mtu: u16,
    /// Index in [`Config::acls`], of an IP list.
    pub ip_acl_in: Option<usize>,
    /// Index in [`Config::acls`], of an IP list.
    pub ip_acl_out: Option<usize>,
    /// Index in [`Config::acls`], of a MAC list.
    pub mac_acl_in: Option<usize>,
    /// Index in [`Config::acls`], of a MAC list.
    pub mac_acl_out: Option<usize>,
    /// Index in [`Config::monitors`].
    pub flow_in: Option<usize>,
    /// Index in [`Config::monitors`].
    pub flow_out: Option<usize>,
    /// Which packets the two monitors count, of those that they would; at most [`proto::flow::SAMPLERS_MAX`] ways on all ports.
    pub sampling: [Sampling; 2],
}

/// Why a configuration can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Refers to a port, list, monitor or session that is not there.
    #[error("{0} refers to {1}, which does not exist")]
    Dangling(String, String),
    /// An IP list where a MAC list belongs, or the reverse.
    #[error("access list '{0}' is of the wrong kind")]
    AclKind(String),
    /// The filter of a flow monitor is no program that may run.
    #[error("flow monitor '{0}': the filter does not run: {1}")]
    Program(String, bpf::Error),
    /// Two of something that must be one.
    #[error("{0} is given twice")]
    Twice(String),
    /// Past a limit.
    #[error("{what}: {count} are more than {max}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many were asked for.
        count: usize,
        /// How many there can be.
        max: usize,
    },
}
