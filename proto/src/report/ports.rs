//! Ports of a host, what they have counted, and the addresses behind them.

use minicbor::{Decode, Encode};

use super::DropCount;
use crate::addr::{MacAddr, NicId, VlanId};
use crate::config::ProfileType;
use crate::name::IfName;

/// A port that the host has attached.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct PortReport {
    /// The VM's card, or the uplink.
    #[n(0)]
    pub nic: NicId,
    /// VM port or uplink.
    #[n(1)]
    pub kind: ProfileType,
    /// For an uplink the card number, 1-32; 0 for a VM port.
    #[n(2)]
    pub card: u8,
    /// Profile that the server administrator chose.
    #[n(3)]
    pub profile: String,
    /// Name of the VM, empty for an uplink.
    #[n(4)]
    pub vm: String,
    /// Device on the host, such as `tap0`.
    #[n(5)]
    pub device: String,
    /// How the device is reached: `tap`, `netdev`, `vhost-user`.
    #[n(6)]
    pub driver: String,
    /// The VM's address when the attachment gave it.
    #[n(7)]
    pub mac: Option<MacAddr>,
}

/// Whether a port forwards.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum PortState {
    /// It does.
    #[n(0)]
    Up,
    /// It does not; the text says why, in NX-OS's words where it has them.
    #[n(1)]
    Down(#[n(0)] String),
}

/// Frames of one direction of a port. Super-frames count as their segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Counters {
    /// To one station.
    #[n(0)]
    pub unicast: u64,
    /// To a group.
    #[n(1)]
    pub multicast: u64,
    /// To all.
    #[n(2)]
    pub broadcast: u64,
    /// Octets from the destination address to the end of the payload, without FCS.
    #[n(3)]
    pub octets: u64,
    /// Dropped frames: on `rx` those that the port brought in, on `tx` those that it could not send.
    #[n(4)]
    pub drops: u64,
}

impl Counters {
    /// All frames that were not dropped.
    pub fn frames(&self) -> u64 {
        self.unicast + self.multicast + self.broadcast
    }
}

/// A row of [`super::Answer::Ports`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct PortRow {
    /// What is attached.
    #[n(0)]
    pub port: PortReport,
    /// Its interface, once the supervisor has given it one.
    #[n(1)]
    pub name: Option<IfName>,
    /// Forwards or not.
    #[n(2)]
    pub state: PortState,
    /// `no shutdown`
    #[n(3)]
    pub admin_up: bool,
    /// Largest IP packet, octets.
    #[n(4)]
    pub mtu: u16,
    /// From the port into the switch.
    #[n(5)]
    pub rx: Counters,
    /// From the switch into the port.
    #[n(6)]
    pub tx: Counters,
    /// Seconds since the state changed.
    #[n(7)]
    pub since_s: u64,
    /// Index in the flow export.
    #[n(8)]
    pub if_index: u16,
    /// 30-second average, bits and frames per second.
    #[n(9)]
    pub rx_bps: u64,
    /// See `rx_bps`.
    #[n(10)]
    pub rx_pps: u64,
    /// See `rx_bps`.
    #[n(11)]
    pub tx_bps: u64,
    /// See `rx_bps`.
    #[n(12)]
    pub tx_pps: u64,
    /// Of the drops of `rx`, how many for which reason; a module of an older version does not say.
    #[n(13)]
    pub rx_reasons: Option<Vec<DropCount>>,
    /// See `rx_reasons`.
    #[n(14)]
    pub tx_reasons: Option<Vec<DropCount>>,
}

/// A row of [`super::Answer::Macs`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct MacRow {
    /// VLAN.
    #[n(0)]
    pub vlan: VlanId,
    /// Address.
    #[n(1)]
    pub mac: MacAddr,
    /// Configured, not learned.
    #[n(2)]
    pub is_static: bool,
    /// Seconds since it was last seen.
    #[n(3)]
    pub age_s: u32,
    /// Where it is; `None` drops.
    #[n(4)]
    pub port: Option<IfName>,
}
