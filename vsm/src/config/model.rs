//! The running configuration as data: what the administrator wrote, with inheritance unresolved and defaults left open.
//!
//! Everything that can be left out is an `Option` or an empty collection, so that "not said" and "said to be the default"
//! stay two things: the running configuration prints what was said, [`crate::config::profile`] fills in the rest.
//!
//! Invariants, kept by the commands and by [`Model::bind_vethernet`]:
//! * VLAN 1 exists and is active, the two quarantine profiles exist unchanged;
//! * the profile that an interface or a profile inherits from is never of the other type (it may be unknown, for an
//!   interface only), and inheritance has no cycle;
//! * a monitor's record and exporters exist, and so does the monitor of an `ip flow monitor` line;
//! * all maps are ordered, so that two equal models print the same text.
//!
//! No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use proto::acl::{IpRule, MacRule};
use proto::addr::{MacAddr, VlanId};
use proto::config::{Capability, ProfileType};
use proto::msg::HostUuid;
use proto::name::IfName;
use proto::report::PortReport;
use proto::vlan::VlanSet;

pub use super::flow::{
    COLLECTOR_PORT, DESTINATIONS_MAX, FlowExporter, FlowMonitor, FlowRecord, FlowSampler, INTERNAL_PREFIXES_MAX,
    MONITOR_EXPORTERS_MAX, Prefix, RECORD_ITEMS, RecordItem,
};

pub use super::aaa::Aaa;
use super::line::Lines;
pub use super::logging::Logging;
pub use super::monitor::{HeaderType, MonitorSession, SessionSource, SessionType};
pub use super::role::Role;
pub use super::user::User;

/// The profile that unused VM ports go to; it is always there.
pub const QUARANTINE_VETH: &str = "Unused_Or_Quarantine_Veth";
/// The profile that unused uplinks go to; it is always there.
pub const QUARANTINE_UPLINK: &str = "Unused_Or_Quarantine_Uplink";
/// Seconds after which a silent address is forgotten, unless configured.
pub const MAC_AGING_S: u32 = 300;
/// Most entries of an access list, remarks included.
pub const ACL_ENTRIES_MAX: usize = 4096;
/// Most access lists.
pub const ACLS_MAX: usize = 4096;
/// Most port profiles.
pub const PROFILES_MAX: usize = 4096;
/// Most interfaces that commands may create.
pub const INTERFACES_MAX: usize = 16_384;
/// Most flow monitors, and most records and exporters.
pub const MONITORS_MAX: usize = 32;

/// The running configuration, as the administrator wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Model {
    /// Name of the switch.
    pub hostname: String,
    /// Roles beside those that are there by themselves.
    pub roles: BTreeMap<String, Role>,
    /// Local users.
    pub users: BTreeMap<String, User>,
    /// `line console` and `line vty`
    pub lines: Lines,
    /// What is logged, and where it goes.
    pub logging: Logging,
    /// Servers that say who may come in.
    pub aaa: Aaa,
    /// `domain id`, 1-4095; `None` leaves it to the start-up file of the supervisor.
    pub domain_id: Option<u16>,
    /// Hosts whose module number is fixed by `vem N` / `host id UUID`.
    pub vems: BTreeMap<u8, HostUuid>,
    /// VLANs that exist.
    pub vlans: BTreeMap<VlanId, Vlan>,
    /// Access lists of both kinds; they share one name space.
    pub acls: BTreeMap<String, AccessList>,
    /// `flow record NAME`
    pub records: BTreeMap<String, FlowRecord>,
    /// `flow exporter NAME`
    pub exporters: BTreeMap<String, FlowExporter>,
    /// `flow monitor NAME`
    pub monitors: BTreeMap<String, FlowMonitor>,
    /// `sampler NAME`
    pub samplers: BTreeMap<String, FlowSampler>,
    /// `flow internal-prefix PREFIX`; when there are none, the VMs are inside.
    pub internal_prefixes: BTreeSet<Prefix>,
    /// `flow as-file`: file of `bootflash:` with the autonomous systems of addresses.
    pub as_file: Option<String>,
    /// `flow-store`
    pub flow_store: Option<super::flow::FlowStore>,
    /// Port profiles.
    pub profiles: BTreeMap<String, Profile>,
    /// Interfaces that were attached once or configured.
    pub interfaces: BTreeMap<IfName, Interface>,
    /// Static addresses; `None` drops.
    pub static_macs: BTreeMap<(VlanId, MacAddr), Option<IfName>>,
    /// `mac address-table aging-time`, seconds; 0 never.
    pub mac_aging_s: u32,
    /// Monitor sessions by number, 1-256.
    pub sessions: BTreeMap<u16, MonitorSession>,
}

/// A VLAN.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Vlan {
    /// Name, when one was given; see [`Vlan::name`].
    pub own_name: Option<String>,
    /// `state suspend`
    pub suspended: bool,
    /// `shutdown`
    pub shutdown: bool,
}

impl Vlan {
    /// The name, or the one that NX-OS makes up: `default` for VLAN 1, else `VLAN0010`.
    pub fn name(&self, id: VlanId) -> String {
        match &self.own_name {
            Some(name) => name.clone(),
            None if id == VlanId::DEFAULT => "default".to_owned(),
            None => format!("VLAN{:04}", id.get()),
        }
    }

    /// Frames are switched in it.
    pub fn is_active(&self) -> bool {
        !self.suspended && !self.shutdown
    }
}

/// A port profile.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Profile {
    /// VM ports or uplinks; never changes.
    pub kind: ProfileType,
    /// What the profile is for; ports don't inherit it.
    pub description: Option<String>,
    /// The parent.
    pub inherit: Option<String>,
    /// `state enabled`
    pub enabled: bool,
    /// What was said here.
    pub own: Settings,
}

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// Free text.
    pub description: Option<String>,
    /// The profile; `None` when the port asked for one of the wrong type, or for none.
    pub inherit: Option<String>,
    /// The profile that the server administrator chose when the port was attached last; `None` when it is `inherit`. By
    /// it a new choice is told from a repeated report, and a choice of the network administrator outlives the latter.
    pub asked: Option<String>,
    /// What was said here; it goes before the profile.
    pub own: Settings,
}

impl Interface {
    /// Remembers what the server administrator chose.
    pub fn ask(&mut self, profile: Option<String>) {
        self.asked = profile.filter(|asked| !asked.is_empty() && self.inherit.as_ref() != Some(asked));
    }
}

/// What a profile or an interface says of its ports. `None` (and `false` for `protected` and `no_cdp`) is "not said here".
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// `no shutdown` is `true`.
    pub admin_up: Option<bool>,
    /// `switchport mode trunk` is `true`.
    pub trunk: Option<bool>,
    /// `switchport access vlan`
    pub access_vlan: Option<VlanId>,
    /// `switchport trunk native vlan`
    pub native_vlan: Option<VlanId>,
    /// `switchport trunk allowed vlan`; the empty set is `none`.
    pub allowed_vlans: Option<VlanSet>,
    /// `switchport protected`
    pub protected: bool,
    /// `no cdp enable`
    pub no_cdp: bool,
    /// `ip port access-group NAME in`
    pub ip_acl_in: Option<String>,
    /// `ip port access-group NAME out`
    pub ip_acl_out: Option<String>,
    /// `mac port access-group NAME in`
    pub mac_acl_in: Option<String>,
    /// `mac port access-group NAME out`
    pub mac_acl_out: Option<String>,
    /// `ip flow monitor NAME input`
    pub flow_in: Option<String>,
    /// `ip flow monitor NAME output`
    pub flow_out: Option<String>,
    /// `ip flow monitor NAME input sampler NAME`; belongs to `flow_in`.
    pub sampler_in: Option<String>,
    /// `ip flow monitor NAME output sampler NAME`; belongs to `flow_out`.
    pub sampler_out: Option<String>,
    /// Largest IP packet, octets.
    pub mtu: Option<u16>,
    /// `capability ids-sensor`, `capability monitor-in`
    pub capability: Option<Capability>,
}

impl Settings {
    /// Names of the access lists, IP then MAC.
    pub fn acls(&self) -> ([Option<&String>; 2], [Option<&String>; 2]) {
        ([self.ip_acl_in.as_ref(), self.ip_acl_out.as_ref()], [self.mac_acl_in.as_ref(), self.mac_acl_out.as_ref()])
    }

    /// Names of the flow monitors.
    pub fn flow_monitors(&self) -> [Option<&String>; 2] {
        [self.flow_in.as_ref(), self.flow_out.as_ref()]
    }

    /// Names of their samplers.
    pub fn samplers(&self) -> [Option<&String>; 2] {
        [self.sampler_in.as_ref(), self.sampler_out.as_ref()]
    }
}

/// An access list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessList {
    /// `statistics per-entry`
    pub statistics: bool,
    /// Rules and remarks.
    pub entries: Entries,
}

/// The entries of a list by sequence number, 1-4294967295.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entries {
    /// `ip access-list`
    Ip(BTreeMap<u32, Entry<IpRule>>),
    /// `mac access-list`
    Mac(BTreeMap<u32, Entry<MacRule>>),
}

impl Entries {
    /// The list is an IP list.
    pub fn is_ip(&self) -> bool {
        matches!(self, Entries::Ip(_))
    }

    /// Rules and remarks.
    pub fn len(&self) -> usize {
        match self {
            Entries::Ip(entries) => entries.len(),
            Entries::Mac(entries) => entries.len(),
        }
    }

    /// There are neither rules nor remarks.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A line of an access list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry<Rule> {
    /// It decides.
    Rule(Rule),
    /// It explains.
    Remark(String),
}

/// A switch out of the box: VLAN 1 and the two quarantine profiles.
impl Default for Model {
    fn default() -> Self {
        let quarantine = |kind| Profile {
            kind,
            description: Some("Port profile for ports that have no other. Do not use.".to_owned()),
            enabled: true,
            own: Settings { admin_up: Some(false), ..Settings::default() },
            ..Profile::default()
        };
        Model {
            hostname: "switch".to_owned(),
            roles: BTreeMap::new(),
            users: BTreeMap::new(),
            lines: Lines::default(),
            logging: Logging::default(),
            aaa: Aaa::default(),
            domain_id: None,
            vems: BTreeMap::new(),
            vlans: BTreeMap::from([(VlanId::DEFAULT, Vlan::default())]),
            acls: BTreeMap::new(),
            records: BTreeMap::new(),
            exporters: BTreeMap::new(),
            monitors: BTreeMap::new(),
            samplers: BTreeMap::new(),
            internal_prefixes: BTreeSet::new(),
            as_file: None,
            flow_store: None,
            profiles: BTreeMap::from([
                (QUARANTINE_UPLINK.to_owned(), quarantine(ProfileType::Ethernet)),
                (QUARANTINE_VETH.to_owned(), quarantine(ProfileType::Vethernet)),
            ]),
            interfaces: BTreeMap::new(),
            static_macs: BTreeMap::new(),
            mac_aging_s: MAC_AGING_S,
            sessions: BTreeMap::new(),
        }
    }
}

impl Model {
    /// A VEM has attached the card that Vethernet `n` belongs to: the interface exists, and inherits the profile that the
    /// server administrator chose, if that is a new choice. A repeated report changes nothing, so that a profile which
    /// the network administrator chose since then stays; so do the interface's own settings.
    pub fn bind_vethernet(&mut self, n: u32, port: &PortReport) {
        self.bind(IfName::Vethernet(n), port);
    }

    /// As [`Model::bind_vethernet`], for card `card` (1-32) of module `slot`.
    pub fn bind_ethernet(&mut self, slot: u8, card: u8, port: &PortReport) {
        self.bind(IfName::Ethernet { slot, port: card }, port);
    }

    fn bind(&mut self, name: IfName, port: &PortReport) {
        let inherit = self.inheritable(&port.profile, kind_of(name));
        let interface = self.interfaces.entry(name).or_default();
        if interface.asked.as_ref().or(interface.inherit.as_ref()) != Some(&port.profile) {
            interface.inherit = inherit;
            interface.ask(Some(port.profile.clone()));
        }
    }

    /// The profile as the parent of an interface: itself, unless it is known to be of the other type.
    pub fn inheritable(&self, profile: &str, kind: ProfileType) -> Option<String> {
        let unfit = profile.is_empty() || self.profiles.get(profile).is_some_and(|p| p.kind != kind);
        (!unfit).then(|| profile.to_owned())
    }

    /// The interface as it is configured, or as attaching `port` would create it.
    pub fn interface_for(&self, name: IfName, port: &PortReport) -> Interface {
        self.interfaces.get(&name).cloned().unwrap_or_else(|| Interface {
            inherit: self.inheritable(&port.profile, kind_of(name)),
            ..Interface::default()
        })
    }

    /// The settings of every profile and interface, with the words that name it: `port-profile web`, `Vethernet1`.
    pub fn all_settings(&self) -> impl Iterator<Item = (String, &Settings)> {
        let profiles = self.profiles.iter().map(|(name, p)| (format!("port-profile {name}"), &p.own));
        profiles.chain(self.interfaces.iter().map(|(name, i)| (name.to_string(), &i.own)))
    }

    /// The interfaces that inherit from the profile, in order.
    pub fn interfaces_of<'a>(&'a self, profile: &'a str) -> impl Iterator<Item = IfName> + 'a {
        self.interfaces.iter().filter(move |(_, i)| i.inherit.as_deref() == Some(profile)).map(|(name, _)| *name)
    }

    /// The profiles that inherit from the profile, in order.
    pub fn children_of<'a>(&'a self, profile: &'a str) -> impl Iterator<Item = &'a String> + 'a {
        self.profiles.iter().filter(move |(_, p)| p.inherit.as_deref() == Some(profile)).map(|(name, _)| name)
    }
}

/// The profile is always there and can't be changed.
pub fn is_builtin(profile: &str) -> bool {
    profile == QUARANTINE_VETH || profile == QUARANTINE_UPLINK
}

/// The type of profile that an interface can inherit.
pub fn kind_of(name: IfName) -> ProfileType {
    if name.is_ethernet() { ProfileType::Ethernet } else { ProfileType::Vethernet }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn report(nic: &str, kind: ProfileType, card: u8, profile: &str) -> PortReport {
        PortReport {
            nic: nic.parse().unwrap(),
            kind,
            card,
            profile: profile.into(),
            vm: String::new(),
            device: "tap0".into(),
            driver: "tap".into(),
            mac: None,
        }
    }

    #[test]
    fn out_of_the_box() {
        let model = Model::default();
        assert_eq!(model.vlans[&VlanId::DEFAULT].name(VlanId::DEFAULT), "default");
        assert_eq!(model.profiles[QUARANTINE_VETH].own.admin_up, Some(false));
        assert_eq!(model.profiles[QUARANTINE_UPLINK].kind, ProfileType::Ethernet);
    }

    #[test]
    fn attaching_keeps_overrides_and_never_takes_a_profile_of_the_other_type() {
        let mut model = Model::default();
        let veth = IfName::Vethernet(1);
        model.bind_vethernet(1, &report("vm/0", ProfileType::Vethernet, 0, "web"));
        model.interfaces.get_mut(&veth).unwrap().own.mtu = Some(9000);
        model.bind_vethernet(1, &report("vm/0", ProfileType::Vethernet, 0, "db"));
        assert_eq!(model.interfaces[&veth].inherit.as_deref(), Some("db"));
        assert_eq!(model.interfaces[&veth].own.mtu, Some(9000));
        model.bind_vethernet(1, &report("vm/0", ProfileType::Vethernet, 0, QUARANTINE_UPLINK));
        assert_eq!(model.interfaces[&veth].inherit, None);
        assert_eq!(model.interfaces[&veth].asked.as_deref(), Some(QUARANTINE_UPLINK));
        model.bind_ethernet(3, 1, &report("uplink/1", ProfileType::Ethernet, 1, QUARANTINE_UPLINK));
        let eth = IfName::Ethernet { slot: 3, port: 1 };
        assert_eq!(model.interfaces[&eth].inherit.as_deref(), Some(QUARANTINE_UPLINK));
        assert_eq!(model.interfaces_of(QUARANTINE_UPLINK).collect::<Vec<_>>(), [eth]);
    }

    #[test]
    fn a_repeated_report_does_not_undo_the_network_administrators_choice() {
        let mut model = Model::default();
        let web = report("vm/0", ProfileType::Vethernet, 0, "web");
        model.bind_vethernet(1, &web);
        let interface = model.interfaces.get_mut(&IfName::Vethernet(1)).unwrap();
        assert_eq!((interface.inherit.as_deref(), interface.asked.as_deref()), (Some("web"), None));
        interface.inherit = Some("quiet".into());
        interface.ask(Some("web".into()));
        let chosen = model.clone();
        model.bind_vethernet(1, &web);
        assert_eq!(model, chosen);
        model.bind_vethernet(1, &report("vm/0", ProfileType::Vethernet, 0, "db"));
        let interface = &model.interfaces[&IfName::Vethernet(1)];
        assert_eq!((interface.inherit.as_deref(), interface.asked.as_deref()), (Some("db"), None));
    }
}
