//! Module slots bound to host UUIDs, and Vethernet numbers bound to NIC identities.

use std::collections::BTreeMap;

use proto::addr::NicId;
use proto::msg::{ConfigHash, HostUuid};
use proto::report::PortReport;

/// What is known of the hosts, as of now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inventory {
    /// By slot, 3-66; present and absent ones.
    pub modules: BTreeMap<u8, Module>,
    /// Vethernet number of every card that was ever attached.
    pub vethernets: BTreeMap<NicId, u32>,
}

/// A VEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// Identity of the host.
    pub uuid: HostUuid,
    /// Name of the host.
    pub host: String,
    /// Version of its software.
    pub software: String,
    /// Address it connects from, while it is connected.
    pub address: Option<std::net::SocketAddr>,
    /// Ports that it has attached; the last known ones while it is absent.
    pub ports: Vec<PortReport>,
    /// Version and hash of what it says it runs.
    pub applied: (u64, ConfigHash),
    /// Version and hash of what it is meant to run.
    pub intended: (u64, ConfigHash),
    /// When it connected last.
    pub connected_at: Option<std::time::SystemTime>,
    /// Session counters, for `show module vem counters`.
    pub counters: LinkCounters,
}

/// Messages of a module's sessions since the supervisor started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkCounters {
    /// Messages received that are not heartbeats.
    pub messages_in: u64,
    /// Messages sent that are not heartbeats.
    pub messages_out: u64,
    /// Heartbeats received.
    pub heartbeats_in: u64,
    /// Heartbeats sent.
    pub heartbeats_out: u64,
    /// Times that it connected.
    pub insertions: u64,
    /// Times that it was lost.
    pub removals: u64,
    /// Sessions that ended by an error in sending.
    pub tx_errors: u64,
}
