//! Inheritance: from profiles and overrides to evaluated settings.
//!
//! A setting is taken from the interface, else from its profile, else from the profile's parent and so on, else from the
//! defaults: access mode in VLAN 1, all VLANs allowed and native VLAN 1 for a trunk, shut, MTU 1500. `switchport
//! protected` holds when anyone in the chain says it. Total over every model: a chain ends at an unknown parent, and
//! after as many steps as there are profiles, so that a cycle (which the commands refuse) can't hang it.

use proto::addr::VlanId;
use proto::config::{Capability, PortSettings, ProfileType};
use proto::vlan::{PortMode, VlanSet};

use super::model::{Interface, Model, Profile, Settings};

/// Largest IP packet of a port, octets, unless configured.
pub const MTU: u16 = 1500;

/// The word of `capability`.
pub fn capability_word(capability: Capability) -> &'static str {
    match capability {
        Capability::IdsSensor => "ids-sensor",
        Capability::MonitorIn => "monitor-in",
    }
}

/// Why a profile can't inherit from another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such profile.
    #[error("Port-profile '{0}' does not exist")]
    Unknown(String),
    /// One is for VM ports, the other for uplinks.
    #[error("Port-profile '{parent}' is of type {kind}")]
    Type {
        /// The profile that was to be inherited.
        parent: String,
        /// Its type.
        kind: &'static str,
    },
    /// The parent inherits from the child, or is the child.
    #[error("Port-profile '{child}' can not inherit from '{parent}': the inheritance would be circular")]
    Cycle {
        /// The profile that was to inherit.
        child: String,
        /// The profile that was to be inherited.
        parent: String,
    },
}

/// The type as the command line writes it.
pub fn kind_word(kind: ProfileType) -> &'static str {
    match kind {
        ProfileType::Vethernet => "vethernet",
        ProfileType::Ethernet => "ethernet",
    }
}

impl Settings {
    /// These settings, and those of `parent` where nothing is said here.
    pub fn over(&self, parent: &Settings) -> Settings {
        let name = |own: &Option<String>, parent: &Option<String>| own.as_ref().or(parent.as_ref()).cloned();
        // A sampler comes with its monitor.
        let sampler_of = |is_own: bool, own: &Option<String>, parent: &Option<String>| {
            if is_own { own.clone() } else { parent.clone() }
        };
        Settings {
            admin_up: self.admin_up.or(parent.admin_up),
            trunk: self.trunk.or(parent.trunk),
            access_vlan: self.access_vlan.or(parent.access_vlan),
            native_vlan: self.native_vlan.or(parent.native_vlan),
            allowed_vlans: self.allowed_vlans.as_ref().or(parent.allowed_vlans.as_ref()).cloned(),
            protected: self.protected || parent.protected,
            no_cdp: self.no_cdp || parent.no_cdp,
            ip_acl_in: name(&self.ip_acl_in, &parent.ip_acl_in),
            ip_acl_out: name(&self.ip_acl_out, &parent.ip_acl_out),
            mac_acl_in: name(&self.mac_acl_in, &parent.mac_acl_in),
            mac_acl_out: name(&self.mac_acl_out, &parent.mac_acl_out),
            flow_in: name(&self.flow_in, &parent.flow_in),
            flow_out: name(&self.flow_out, &parent.flow_out),
            sampler_in: sampler_of(self.flow_in.is_some(), &self.sampler_in, &parent.sampler_in),
            sampler_out: sampler_of(self.flow_out.is_some(), &self.sampler_out, &parent.sampler_out),
            mtu: self.mtu.or(parent.mtu),
            capability: self.capability.or(parent.capability),
        }
    }

    /// The settings with the defaults in the gaps.
    pub fn evaluated(self, description: &str) -> PortSettings {
        let mode = if self.trunk == Some(true) {
            PortMode::Trunk {
                native: self.native_vlan.unwrap_or(VlanId::DEFAULT),
                allowed: self.allowed_vlans.unwrap_or_else(VlanSet::all),
            }
        } else {
            PortMode::Access(self.access_vlan.unwrap_or(VlanId::DEFAULT))
        };
        PortSettings {
            admin_up: self.admin_up.unwrap_or(false),
            description: description.to_owned(),
            mode,
            protected: self.protected,
            ip_acl_in: self.ip_acl_in,
            ip_acl_out: self.ip_acl_out,
            mac_acl_in: self.mac_acl_in,
            mac_acl_out: self.mac_acl_out,
            flow_in: self.flow_in,
            flow_out: self.flow_out,
            sampler_in: self.sampler_in,
            sampler_out: self.sampler_out,
            mtu: self.mtu.unwrap_or(MTU),
            capability: self.capability,
        }
    }
}

impl Model {
    /// The profile and those it inherits from, nearest first.
    pub fn lineage<'a>(&'a self, profile: &'a str) -> Vec<(&'a str, &'a Profile)> {
        let mut line = Vec::new();
        let mut next = Some(profile);
        while let Some((name, profile)) = next.and_then(|name| Some((name, self.profiles.get(name)?))) {
            if line.len() == self.profiles.len() {
                break;
            }
            line.push((name, profile));
            next = profile.inherit.as_deref();
        }
        line
    }

    /// What the profile says, inherited settings included, gaps left open; nothing for an unknown profile.
    pub fn inherited_settings(&self, profile: &str) -> Settings {
        self.lineage(profile).iter().fold(Settings::default(), |settings, (_, parent)| settings.over(&parent.own))
    }

    /// What a port of the profile gets.
    pub fn profile_settings(&self, profile: &str) -> PortSettings {
        self.inherited_settings(profile).evaluated("")
    }

    /// What the port gets.
    pub fn interface_settings(&self, interface: &Interface) -> PortSettings {
        let profile = interface.inherit.as_deref().map(|name| self.inherited_settings(name)).unwrap_or_default();
        interface.own.over(&profile).evaluated(interface.description.as_deref().unwrap_or(""))
    }

    /// A port of that kind works with the profile: it exists, is enabled and of the right type.
    pub fn is_usable(&self, profile: &str, kind: ProfileType) -> bool {
        self.profiles.get(profile).is_some_and(|p| p.enabled && p.kind == kind)
    }

    /// `child` (which need not exist yet, but has the type) may inherit from `parent`.
    pub fn check_inherit(&self, child: &str, kind: ProfileType, parent: &str) -> Result<(), Error> {
        let found = self.profiles.get(parent).ok_or_else(|| Error::Unknown(parent.to_owned()))?;
        if found.kind != kind {
            return Err(Error::Type { parent: parent.to_owned(), kind: kind_word(found.kind) });
        }
        if self.lineage(parent).iter().any(|(name, _)| *name == child) {
            return Err(Error::Cycle { child: child.to_owned(), parent: parent.to_owned() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family() -> Model {
        let mut model = Model::default();
        let mut add = |name: &str, parent: Option<&str>, own: Settings| {
            let inherit = parent.map(str::to_owned);
            model.profiles.insert(name.into(), Profile { inherit, enabled: true, own, ..Profile::default() });
        };
        let vlan = |n| VlanId::new(n);
        add(
            "grand",
            None,
            Settings { admin_up: Some(true), access_vlan: vlan(10), mtu: Some(9000), ..Settings::default() },
        );
        add("parent", Some("grand"), Settings { access_vlan: vlan(20), protected: true, ..Settings::default() });
        add("child", Some("parent"), Settings { ip_acl_in: Some("a".into()), ..Settings::default() });
        model
    }

    #[test]
    fn the_nearest_word_counts() {
        let model = family();
        let child = model.profile_settings("child");
        assert!(child.admin_up && child.protected);
        assert_eq!((child.mode, child.mtu), (PortMode::Access(VlanId::new(20).unwrap()), 9000));
        assert_eq!(child.ip_acl_in.as_deref(), Some("a"));
        let own = Settings { admin_up: Some(false), mtu: Some(1400), ..Settings::default() };
        let port = Interface { inherit: Some("child".into()), own, description: Some("x".into()), asked: None };
        let port = model.interface_settings(&port);
        assert_eq!((port.admin_up, port.mtu, port.description.as_str()), (false, 1400, "x"));
        assert_eq!(port.ip_acl_in.as_deref(), Some("a"));
        assert!(!model.profile_settings("nobody").admin_up);
    }

    #[test]
    fn a_sampler_comes_with_its_monitor() {
        let said = |monitor: &str, sampler: Option<&str>| Settings {
            flow_in: Some(monitor.into()),
            sampler_in: sampler.map(str::to_owned),
            ..Settings::default()
        };
        let of = |own: Settings, parent: Settings| own.over(&parent).sampler_in;
        assert_eq!(of(said("m", None), said("m", Some("s"))), None);
        assert_eq!(of(Settings::default(), said("m", Some("s"))).as_deref(), Some("s"));
        assert_eq!(of(said("m", Some("t")), said("n", Some("s"))).as_deref(), Some("t"));
    }

    #[test]
    fn inheritance_is_checked() {
        let mut model = family();
        let kind = ProfileType::Vethernet;
        assert_eq!(model.check_inherit("new", kind, "child"), Ok(()));
        assert!(matches!(model.check_inherit("grand", kind, "child"), Err(Error::Cycle { .. })));
        assert!(matches!(model.check_inherit("grand", kind, "grand"), Err(Error::Cycle { .. })));
        assert!(matches!(model.check_inherit("grand", ProfileType::Ethernet, "child"), Err(Error::Type { .. })));
        assert!(matches!(model.check_inherit("grand", kind, "none"), Err(Error::Unknown(_))));
        // A cycle can't be made by commands; evaluation ends all the same.
        model.profiles.get_mut("grand").unwrap().inherit = Some("child".into());
        assert_eq!(model.profile_settings("child").mtu, 9000);
    }

    #[test]
    fn usable_means_known_enabled_and_fitting() {
        let mut model = family();
        assert!(model.is_usable("child", ProfileType::Vethernet));
        assert!(!model.is_usable("child", ProfileType::Ethernet));
        assert!(!model.is_usable("nobody", ProfileType::Vethernet));
        model.profiles.get_mut("child").unwrap().enabled = false;
        assert!(!model.is_usable("child", ProfileType::Vethernet));
    }
}
