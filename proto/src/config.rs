//! What one VEM is to do: the whole of it, evaluated, in one message.
//!
//! The supervisor resolves inheritance, defaults and overrides; an agent gets finished settings for every profile and
//! for every port it holds. It takes a [`HostConfig`] as a whole or not at all, and it is what it stores as its last
//! good configuration. Profiles travel even where no port uses them, so that a port of a known profile can be attached
//! while the supervisor is away.

use minicbor::{Decode, Encode};

use crate::acl::Acl;
use crate::addr::{MacAddr, NicId, VlanId};
use crate::capture::Insn;
use crate::flow::{Exporter, Meter, Monitor, Record, Sampler};
use crate::name::IfName;
use crate::vlan::{PortMode, VlanSet};

/// The configuration of one host.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct HostConfig {
    /// Module number, 3-66; also the observation domain of the export.
    #[n(0)]
    pub module: u8,
    /// Name of the switch.
    #[n(1)]
    pub switch_name: String,
    /// VLANs that exist and are active.
    #[n(2)]
    pub vlans: VlanSet,
    /// Seconds after which a silent dynamic MAC address is forgotten; 0 never.
    #[n(3)]
    pub mac_aging_s: u32,
    /// Static MAC addresses.
    #[n(4)]
    pub static_macs: Vec<StaticMac>,
    /// Access lists that a profile or a port refers to.
    #[n(5)]
    pub acls: Vec<Acl>,
    /// Flow records that a monitor refers to.
    #[n(6)]
    pub records: Vec<Record>,
    /// Flow exporters that a monitor refers to.
    #[n(7)]
    pub exporters: Vec<Exporter>,
    /// Flow monitors.
    #[n(8)]
    pub monitors: Vec<Monitor>,
    /// Monitor sessions (SPAN) that are not shut.
    #[n(9)]
    pub sessions: Vec<Session>,
    /// Every port profile, evaluated.
    #[n(10)]
    pub profiles: Vec<Profile>,
    /// Ports of this host that have a number, evaluated.
    #[n(11)]
    pub ports: Vec<PortBinding>,
    /// Addresses of the protected ports of other hosts, so that isolation holds over the whole switch.
    #[n(12)]
    pub protected_macs: Vec<MacAddr>,
    /// Where flows are kept, if they are.
    #[n(19)]
    pub store: Option<crate::flow::Store>,
    /// IPv4 addresses of the modules, when copies go from host to host: what goes between them is not copied.
    #[n(18)]
    pub hosts: Option<Vec<u32>>,
    /// That of this module, when `hosts` is there, or a session copies and flows are exported.
    #[n(20)]
    pub address: Option<u32>,
    /// What monitors count, of those that don't count everything.
    #[n(14)]
    pub meters: Option<Vec<Meter>>,
    /// Samplers that a profile or a port refers to.
    #[n(16)]
    pub samplers: Option<Vec<Sampler>>,
}

/// `mac address-table static MAC vlan V {drop | interface IF}`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct StaticMac {
    /// VLAN.
    #[n(0)]
    pub vlan: VlanId,
    /// Address.
    #[n(1)]
    pub mac: MacAddr,
    /// The port; `None` drops frames from and to the address. A port of another host is reached through the uplinks.
    #[n(2)]
    pub port: Option<IfName>,
}

/// What a profile is for; it can't change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum ProfileType {
    /// VM ports.
    #[default]
    #[n(0)]
    Vethernet,
    /// Uplinks.
    #[n(1)]
    Ethernet,
}

/// A port profile with its inheritance resolved.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Profile {
    /// 1-80 characters.
    #[n(0)]
    pub name: String,
    /// VM ports or uplinks.
    #[n(1)]
    pub kind: ProfileType,
    /// `state enabled`; a port of a disabled profile stays down.
    #[n(2)]
    pub enabled: bool,
    /// What a port of the profile gets.
    #[n(3)]
    pub settings: PortSettings,
}

/// A port of this host whose number the supervisor has fixed.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct PortBinding {
    /// The VM's card, or the uplink (`uplink/1`).
    #[n(0)]
    pub nic: NicId,
    /// Its interface.
    #[n(1)]
    pub name: IfName,
    /// Profile it inherits from.
    #[n(2)]
    pub profile: String,
    /// The profile exists, is enabled and fits the port. A port without one stays down.
    #[n(3)]
    pub profile_usable: bool,
    /// Profile and overrides of the interface, resolved.
    #[n(4)]
    pub settings: PortSettings,
}

/// Everything that a port does, evaluated.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct PortSettings {
    /// `no shutdown`
    #[n(0)]
    pub admin_up: bool,
    /// Free text.
    #[n(1)]
    pub description: String,
    /// Access or trunk.
    #[n(2)]
    pub mode: PortMode,
    /// `switchport protected`: no traffic to another protected port of the same VLAN, on whichever host that is.
    #[n(3)]
    pub protected: bool,
    /// Names of the access lists; one that is not in [`HostConfig::acls`] permits everything.
    #[n(4)]
    pub ip_acl_in: Option<String>,
    /// See `ip_acl_in`; `out` is towards the VM or the wire.
    #[n(5)]
    pub ip_acl_out: Option<String>,
    /// See `ip_acl_in`.
    #[n(6)]
    pub mac_acl_in: Option<String>,
    /// See `ip_acl_in`.
    #[n(7)]
    pub mac_acl_out: Option<String>,
    /// `ip flow monitor NAME input`
    #[n(8)]
    pub flow_in: Option<String>,
    /// `ip flow monitor NAME output`
    #[n(9)]
    pub flow_out: Option<String>,
    /// Largest IP packet, octets; larger frames are dropped on the way out.
    #[n(10)]
    pub mtu: u16,
    /// What the port is made for, beyond a VM.
    #[n(11)]
    pub capability: Option<Capability>,
    /// `ip flow monitor NAME input sampler NAME`; one that is not in [`HostConfig::samplers`] leaves nothing out.
    #[n(12)]
    pub sampler_in: Option<String>,
    /// See `sampler_in`.
    #[n(13)]
    pub sampler_out: Option<String>,
}

/// What a port is made for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Capability {
    /// An intrusion detector: it gets copies and nothing else, and what it sends is dropped.
    #[n(0)]
    IdsSensor,
    /// A tap or a SPAN port of another switch: what it brings is metered and mirrored, and not forwarded.
    #[n(1)]
    MonitorIn,
}

impl Default for PortSettings {
    fn default() -> Self {
        PortSettings {
            admin_up: false,
            description: String::new(),
            mode: PortMode::default(),
            protected: false,
            ip_acl_in: None,
            ip_acl_out: None,
            mac_acl_in: None,
            mac_acl_out: None,
            flow_in: None,
            flow_out: None,
            mtu: 1500,
            capability: None,
            sampler_in: None,
            sampler_out: None,
        }
    }
}

/// `monitor session N`
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Session {
    /// 1-[`SESSION_ID_MAX`].
    #[n(0)]
    pub id: u16,
    /// What is watched.
    #[n(1)]
    pub sources: Vec<SessionSource>,
    /// Interfaces that get the copies; those of other hosts are ignored here.
    #[n(2)]
    pub destinations: Vec<IfName>,
    /// Every port that inherits from one of these profiles gets the copies too.
    #[n(3)]
    pub destination_profiles: Option<Vec<String>>,
    /// Only frames in these VLANs are copied.
    #[n(4)]
    pub filter_vlans: Option<VlanSet>,
    /// Only frames that this list permits are copied; one that is not in [`HostConfig::acls`] permits everything.
    #[n(5)]
    pub filter_acl: Option<String>,
    /// Of every so many frames one is copied.
    #[n(6)]
    pub sampling: Option<u32>,
    /// Copies are cut to that many octets.
    #[n(7)]
    pub truncate: Option<u16>,
    /// Copies go through the network too.
    #[n(8)]
    pub erspan: Option<Erspan>,
    /// Only frames that this filter matches are copied.
    #[n(10)]
    pub filter_bpf: Option<Filter>,
    /// Copies of other hosts go to its destinations.
    #[n(11)]
    pub receive: Option<Receive>,
    /// It has destinations on other modules, or sources there for a destination here.
    #[n(12)]
    pub relay: Option<Relay>,
    /// Several modules copy for the same destination: which of them copies what. `None`: all that it sees.
    #[n(13)]
    pub once: Option<Once>,
    /// Copies go through the network too, over IPv6.
    #[n(14)]
    pub erspan6: Option<Erspan6>,
}

/// Which copies a session of type erspan-destination takes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Receive {
    /// ERSPAN id, 1-1023.
    #[n(0)]
    pub id: u16,
    /// IPv4 address of the host that they are sent to; `None`: any.
    #[n(1)]
    pub at: Option<u32>,
    /// IPv4 addresses that they come from; `None`: any.
    #[n(2)]
    pub from: Option<Vec<u32>>,
    /// As `at`, of IPv6.
    #[n(3)]
    pub at6: Option<u128>,
    /// IPv6 addresses that they come from, too.
    #[n(4)]
    pub from6: Option<Vec<u128>>,
}

/// How copies of a session go from module to module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Relay {
    /// The GRE key that they have.
    #[n(0)]
    pub key: u32,
    /// Address of this module.
    #[n(1)]
    pub origin: Option<u32>,
    /// Modules with destinations; a module without one of its own sends to all of them.
    #[n(2)]
    pub to: Vec<Peer>,
    /// Addresses of modules that may send here.
    #[n(3)]
    pub from: Vec<u32>,
}

/// Another module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Peer {
    /// Module number.
    #[n(0)]
    pub module: u8,
    /// Its IPv4 address, as far as it has one.
    #[n(1)]
    pub address: Option<u32>,
}

/// Stations whose frames a session copies both ways on their own modules. A conversation of two of them is copied by the
/// module with the lower number, any other frame of theirs where it comes from.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
pub struct Once {
    /// Those of this module, in rising order, as all of these.
    #[n(0)]
    pub own: Vec<MacAddr>,
    /// Those of modules with a lower number.
    #[n(1)]
    pub before: Vec<MacAddr>,
    /// Those of modules with a higher number.
    #[n(2)]
    pub after: Vec<MacAddr>,
}

/// A filter, as it was written and as it runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Filter {
    /// As libpcap reads it.
    #[n(0)]
    pub text: String,
    /// Classic BPF.
    #[n(1)]
    pub program: Vec<Insn>,
}

/// How a session's copies are sent.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Erspan {
    /// ERSPAN id, 1-1023.
    #[n(0)]
    pub id: u16,
    /// IPv4 address that they go to.
    #[n(1)]
    pub destination: u32,
    /// IPv4 address that they come from; `None`: the one that the host would take.
    #[n(2)]
    pub origin: Option<u32>,
    /// Type and time.
    #[n(3)]
    pub header: ErspanHeader,
    /// Time to live.
    #[n(4)]
    pub ttl: u8,
    /// Differentiated services code point.
    #[n(5)]
    pub dscp: u8,
    /// Tags stay in the frame.
    #[n(6)]
    pub keep_tag: bool,
    /// Packets that are too long for the way may be cut on it; `None` is no.
    #[n(7)]
    pub fragment: Option<bool>,
}

/// How a session's copies are sent over IPv6.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Erspan6 {
    /// All but the addresses, which are others.
    #[n(0)]
    pub sent: Erspan,
    /// IPv6 address that they go to.
    #[n(1)]
    pub destination: u128,
    /// IPv6 address that they come from.
    #[n(2)]
    pub origin: u128,
}

/// The header of ERSPAN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
pub enum ErspanHeader {
    /// Type II.
    #[default]
    #[n(0)]
    Two,
    /// Type III, units of 100 us.
    #[n(1)]
    Micros100,
    /// Type III, units of 100 ns.
    #[n(2)]
    Nanos100,
    /// Type III, IEEE 1588.
    #[n(3)]
    Ieee1588,
    /// Type III in the form of the Nexus 1000V, with the domain of the switch.
    #[n(4)]
    Nexus1000v(#[n(0)] u16),
}

/// Largest ERSPAN id, a field of ten bits.
pub const ERSPAN_ID_MAX: u16 = 1023;

/// The highest number of a monitor session.
pub const SESSION_ID_MAX: u16 = 256;
/// Most monitor sessions that run at a time.
pub const SESSIONS_MAX: usize = 64;

/// A source of a monitor session.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SessionSource {
    /// Interface, VLAN or profile.
    #[n(0)]
    pub what: SourceKind,
    /// Frames that enter the switch there.
    #[n(1)]
    pub rx: bool,
    /// Frames that leave it there.
    #[n(2)]
    pub tx: bool,
}

/// What a monitor session may watch.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum SourceKind {
    /// One interface.
    #[n(0)]
    Interface(#[n(0)] IfName),
    /// Every port in a VLAN.
    #[n(1)]
    Vlan(#[n(0)] VlanId),
    /// Every port that inherits from the profile.
    #[n(2)]
    Profile(#[n(0)] String),
    /// Frames that are dropped, wherever they came from: for that reason, or for any.
    #[n(3)]
    Drops(#[n(0)] Option<String>),
}
