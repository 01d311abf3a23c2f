//! The form of `bindings.json`.

use std::collections::BTreeMap;

use proto::config::ProfileType;
use proto::report::PortReport;
use serde::{Deserialize, Serialize};

use super::Module;

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    /// No configuration has had this version or a higher one.
    pub(super) version: u64,
    /// By slot.
    pub(super) modules: BTreeMap<u8, SavedModule>,
    /// By NIC identity.
    pub(super) vethernets: BTreeMap<String, u32>,
}

/// A module. Its ports are kept because what others are to do depends on them while it is away: the addresses of its
/// protected ports stay protected over a restart of the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedModule {
    pub(super) uuid: String,
    pub(super) host: String,
    /// Where copies of monitor sessions are sent to, also before it is there again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<std::net::IpAddr>,
    #[serde(default)]
    pub(super) ports: Vec<SavedPort>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedPort {
    nic: String,
    /// Card number of an uplink; a VM port has none.
    uplink: Option<u8>,
    profile: String,
    vm: String,
    device: String,
    driver: String,
    mac: Option<String>,
}

impl SavedModule {
    pub(super) fn of(module: &Module) -> Self {
        let port = |port: &PortReport| SavedPort {
            nic: port.nic.to_string(),
            uplink: (port.kind == ProfileType::Ethernet).then_some(port.card),
            profile: port.profile.clone(),
            vm: port.vm.clone(),
            device: port.device.clone(),
            driver: port.driver.clone(),
            mac: port.mac.map(|mac| mac.to_string()),
        };
        SavedModule {
            uuid: module.uuid.to_string(),
            host: module.host.clone(),
            address: module.last_address,
            ports: module.ports.iter().map(port).collect(),
        }
    }
}

impl SavedPort {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn restore(self) -> Result<PortReport, String> {
        let mac = self.mac.as_deref().map(str::parse).transpose().map_err(|e| format!("{}: {e}", self.nic))?;
        Ok(PortReport {
            nic: self.nic.parse().map_err(|e| format!("{e}"))?,
            kind: if self.uplink.is_some() { ProfileType::Ethernet } else { ProfileType::Vethernet },
            card: self.uplink.unwrap_or(0),
            profile: self.profile,
            vm: self.vm,
            device: self.device,
            driver: self.driver,
            mac,
        })
    }
}
