//! What an agent reports: the state of its ports, and the answers to the supervisor's questions.

use minicbor::{Decode, Encode};

use crate::acl::Action;
use crate::addr::{MacAddr, NicId, VlanId};
use crate::capture::Captured;
use crate::config::ProfileType;
use crate::msg::ConfigHash;
use crate::name::IfName;
use crate::passage::{Passage, Told, WatchRow};

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

/// A row of [`Answer::Ports`].
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

/// Frames of a port that were dropped for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DropCount {
    /// Short name of the reason, such as `acl-deny`.
    #[n(0)]
    pub reason: String,
    /// Frames.
    #[n(1)]
    pub frames: u64,
}

/// A row of [`Answer::Macs`].
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

/// A row of [`Answer::Flows`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct FlowRow {
    /// Where the flow enters.
    #[n(0)]
    pub input: Option<IfName>,
    /// Where it leaves; `None` when it is dropped or goes to several ports.
    #[n(1)]
    pub output: Option<IfName>,
    /// VLAN that it is switched in.
    #[n(2)]
    pub vlan: Option<VlanId>,
    /// Source address.
    #[n(3)]
    pub src_mac: MacAddr,
    /// Destination address.
    #[n(4)]
    pub dst_mac: MacAddr,
    /// EtherType behind the tags.
    #[n(5)]
    pub ethertype: u16,
    /// IPv4 as v4-mapped IPv6; 0 for other packets.
    #[n(6)]
    pub src: u128,
    /// See `src`.
    #[n(7)]
    pub dst: u128,
    /// IP protocol.
    #[n(8)]
    pub protocol: u8,
    /// Type of service octet.
    #[n(9)]
    pub tos: u8,
    /// TCP or UDP port.
    #[n(10)]
    pub src_port: u16,
    /// TCP or UDP port; for ICMP type x 256 + code.
    #[n(11)]
    pub dst_port: u16,
    /// OR of the TCP flags.
    #[n(12)]
    pub tcp_flags: u8,
    /// Packets since the flow was last reported; segments of super-frames each.
    #[n(13)]
    pub packets: u64,
    /// IP octets, or octets of the frame for other packets.
    #[n(14)]
    pub octets: u64,
    /// Milliseconds since the first packet.
    #[n(15)]
    pub first_ms_ago: u64,
    /// Milliseconds since the last packet.
    #[n(16)]
    pub last_ms_ago: u64,
    /// Why it is dropped.
    #[n(17)]
    pub dropped: Option<String>,
    /// Of so many packets one was counted; 0 when the figures are estimates of all. `None` when every one was counted.
    #[n(18)]
    pub sampled: Option<u16>,
}

/// A row of [`Answer::AclCounters`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct AclCountRow {
    /// List.
    #[n(0)]
    pub acl: String,
    /// Sequence number; `None` is the implicit deny at the end.
    #[n(1)]
    pub sequence: Option<u32>,
    /// Frames; segments of super-frames each.
    #[n(2)]
    pub matches: u64,
}

/// A row of [`Answer::Sessions`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct SessionRow {
    /// Session.
    #[n(0)]
    pub id: u16,
    /// Why it does not run here; `None` when it does.
    #[n(1)]
    pub down: Option<String>,
    /// Copies that reached a destination.
    #[n(2)]
    pub copied: u64,
    /// Copies lost because a destination was full or refused them.
    #[n(3)]
    pub dropped: u64,
    /// Super-frames that were cut into segments.
    #[n(4)]
    pub segmented: u64,
    /// Frames that the session took; a super-frame counts as its segments.
    #[n(5)]
    pub matched: Option<u64>,
    /// Copies that were cut short.
    #[n(6)]
    pub truncated: Option<u64>,
    /// What `dropped` consists of: why, and how many; no zeros.
    #[n(7)]
    pub losses: Option<Vec<(String, u64)>>,
    /// Copies of other hosts, where the session takes any.
    #[n(8)]
    pub received: Option<ReceivedCopies>,
    /// Packets of other hosts that no session of the module took: why, and how many; no zeros.
    #[n(9)]
    pub turned_away: Option<Vec<(String, u64)>>,
    /// Modules that copies go to.
    #[n(10)]
    pub relayed: Option<Vec<u8>>,
}

/// Copies of other hosts that a session took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct ReceivedCopies {
    /// How many.
    #[n(0)]
    pub copies: u64,
    /// Of these, that were cut short where they were made.
    #[n(1)]
    pub truncated: u64,
    /// Numbers of copies that never came.
    #[n(2)]
    pub missing: u64,
    /// Copies that came behind later ones.
    #[n(3)]
    pub late: u64,
    /// Copies of hosts that the session takes none of, which were dropped.
    #[n(4)]
    pub unwelcome: u64,
}

/// A row of [`Answer::Exporters`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct ExporterRow {
    /// Exporter.
    #[n(0)]
    pub name: String,
    /// Destination, as `192.0.2.1:9995`.
    #[n(1)]
    pub destination: String,
    /// Datagrams sent.
    #[n(2)]
    pub datagrams: u64,
    /// Flow records sent.
    #[n(3)]
    pub records: u64,
    /// Templates sent.
    #[n(4)]
    pub templates: u64,
    /// Octets of payload sent.
    #[n(5)]
    pub octets: u64,
    /// Datagrams that the host refused to send, and the records in them.
    #[n(6)]
    pub failed_datagrams: u64,
    /// See `failed_datagrams`.
    #[n(7)]
    pub failed_records: u64,
    /// Records that the format can't carry (IPv6 and non-IP in version 5).
    #[n(8)]
    pub not_exportable: u64,
    /// Text of the last failure.
    #[n(9)]
    pub last_error: Option<String>,
    /// Number that the next datagram has: of flows (versions 5 and 7), datagrams (9) or data records (IPFIX) before it.
    /// Version 1 has none.
    #[n(10)]
    pub sequence: Option<u32>,
    /// Times that the host refused a datagram, a socket, or told of one that a collector's host refused.
    #[n(11)]
    pub errors: Option<u64>,
}

impl ExporterRow {
    /// Its counts, in the order of the fields: datagrams, records, templates, octets, datagrams and records that failed,
    /// records that the format can't carry.
    pub fn counts(&self) -> [u64; 7] {
        [
            self.datagrams,
            self.records,
            self.templates,
            self.octets,
            self.failed_datagrams,
            self.failed_records,
            self.not_exportable,
        ]
    }
}

/// A store of flows. Counts are those since it was started.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct StoreRow {
    /// Where it is on the host.
    #[n(0)]
    pub directory: String,
    /// Finished files.
    #[n(1)]
    pub files: u64,
    /// Octets in them.
    #[n(2)]
    pub octets: u64,
    /// Flows that were stored.
    #[n(3)]
    pub stored: u64,
    /// Flows that the disk did not take.
    #[n(4)]
    pub lost: u64,
    /// Why it takes nothing now.
    #[n(5)]
    pub error: Option<String>,
}

/// Part of [`Answer::Exporters`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct CacheState {
    /// Flows in the cache.
    #[n(0)]
    pub active: u64,
    /// Most that it can hold.
    #[n(1)]
    pub capacity: u64,
    /// Flows added since start.
    #[n(2)]
    pub added: u64,
    /// Ended by the inactive timeout.
    #[n(3)]
    pub aged_inactive: u64,
    /// Reported by the active timeout.
    #[n(4)]
    pub aged_active: u64,
    /// Ended by TCP FIN or RST.
    #[n(5)]
    pub ended: u64,
    /// Reported because the configuration or the port changed.
    #[n(6)]
    pub forced: u64,
    /// Reported early to make room.
    #[n(7)]
    pub evicted: u64,
    /// Packets in no report, because nobody took reports for too long; a module of an older version does not say.
    #[n(8)]
    pub unmetered: Option<u64>,
    /// Flows that were reported in a sum of such flows, because there were too many; a module of an older version does
    /// not say.
    #[n(9)]
    pub summed: Option<u64>,
}

/// Packets, which are the segments of super-frames, and octets of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Amount {
    /// Packets.
    #[n(0)]
    pub packets: u64,
    /// Octets of the frames, without FCS.
    #[n(1)]
    pub octets: u64,
}

/// A row of [`Answer::Reconciled`]: what a port has received since the agent started, and in which class of the flow meter
/// it is. The classes leave nothing out and nothing is in two of them; only while frames come the sums may differ from
/// what was received, as they are not read at the same time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct ReconciledRow {
    /// The port.
    #[n(0)]
    pub port: Option<IfName>,
    /// By the counters of the port.
    #[n(1)]
    pub received: Amount,
    /// IPv4 and IPv6 in flows that were reported.
    #[n(2)]
    pub ip: Amount,
    /// Anything else in flows that were reported.
    #[n(3)]
    pub other: Amount,
    /// In watched flows that are in the cache, since their last report.
    #[n(4)]
    pub in_cache: Amount,
    /// In flows that no monitor looks at.
    #[n(5)]
    pub unwatched: Amount,
    /// In flows that the filter of the monitor does not want.
    #[n(6)]
    pub filtered: Amount,
    /// In flows that are counted on another host.
    #[n(7)]
    pub elsewhere: Amount,
    /// In no flow: frames that contradict themselves.
    #[n(8)]
    pub malformed: Amount,
    /// In flows whose reports nobody took.
    #[n(9)]
    pub unmetered: Amount,
    /// Packets that no sampler picked.
    #[n(10)]
    pub unsampled: Option<Amount>,
}

impl ReconciledRow {
    /// Every class, with its name.
    pub fn classes(&self) -> [(&'static str, Amount); 9] {
        [
            ("ip", self.ip),
            ("other", self.other),
            ("in_cache", self.in_cache),
            ("unwatched", self.unwatched),
            ("filtered", self.filtered),
            ("unsampled", self.unsampled.unwrap_or_default()),
            ("elsewhere", self.elsewhere),
            ("malformed", self.malformed),
            ("unmetered", self.unmetered),
        ]
    }
}

/// A row of [`Answer::Drops`]: counts.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DropRow {
    /// Port the frame came from, or could not leave by.
    #[n(0)]
    pub port: Option<IfName>,
    /// Short name of the reason, such as `acl-deny`.
    #[n(1)]
    pub reason: String,
    /// The reason in English.
    #[n(2)]
    pub text: String,
    /// Frames.
    #[n(3)]
    pub frames: u64,
    /// The rule that dropped them. The frames of a port and reason are the sum of all its rows.
    #[n(4)]
    pub rule: Option<RuleRef>,
}

/// A row of [`Answer::Drops`]: one of the last dropped frames.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DropSample {
    /// Milliseconds ago.
    #[n(0)]
    pub ms_ago: u64,
    /// Port the frame came from.
    #[n(1)]
    pub port: Option<IfName>,
    /// Short name of the reason.
    #[n(2)]
    pub reason: String,
    /// Rule that denied it.
    #[n(3)]
    pub rule: Option<RuleRef>,
    /// Length of the frame, octets.
    #[n(4)]
    pub length: u32,
    /// Headers in one line: `0200.0000.0001 > 0200.0000.0002 vlan 10 10.0.0.1:5 > 10.0.0.2:80 tcp S`.
    #[n(5)]
    pub headers: String,
}

/// The rule that decided.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct RuleRef {
    /// List.
    #[n(0)]
    pub acl: String,
    /// Sequence number; `None` is the implicit deny.
    #[n(1)]
    pub sequence: Option<u32>,
    /// What it did.
    #[n(2)]
    pub action: Action,
}

/// What an agent really runs, read back from its dataplane and its disk.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Applied {
    /// Version of the configuration that it was given.
    #[n(0)]
    pub version: u64,
    /// Hash of the configuration that it was given.
    #[n(1)]
    pub hash: ConfigHash,
    /// A [`crate::config::HostConfig`], encoded, as it runs; `None` without one, or when it is too large to be told.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub config: Option<Vec<u8>>,
    /// What is not as it should be beyond the configuration, in English.
    #[n(3)]
    pub faults: Vec<String>,
}

/// The answer to a [`crate::query::Query`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Answer {
    /// To `Ports`.
    #[n(0)]
    Ports(#[n(0)] Vec<PortRow>),
    /// To `Macs`.
    #[n(1)]
    Macs(#[n(0)] Vec<MacRow>),
    /// To `Flows`: rows, and how many fitted in all.
    #[n(2)]
    Flows(#[n(0)] Vec<FlowRow>, #[n(1)] u64),
    /// To `AclCounters`.
    #[n(3)]
    AclCounters(#[n(0)] Vec<AclCountRow>),
    /// To `Sessions`.
    #[n(4)]
    Sessions(#[n(0)] Vec<SessionRow>),
    /// To `Exporters`.
    #[n(5)]
    Exporters(#[n(0)] Vec<ExporterRow>, #[n(1)] CacheState),
    /// To `Drops`: counts, and the newest samples first.
    #[n(6)]
    Drops(#[n(0)] Vec<DropRow>, #[n(1)] Vec<DropSample>),
    /// To the `Clear...` questions.
    #[n(7)]
    Done,
    /// The agent can't answer; in English.
    #[n(8)]
    Failed(#[n(0)] String),
    /// To `Show`.
    #[n(9)]
    Text(#[n(0)] String),
    /// To `Applied`.
    #[n(10)]
    Applied(#[n(0)] Applied),
    /// To `CaptureBegin` and `CaptureRead`.
    #[n(11)]
    Captured(#[n(0)] Captured),
    /// To `Trace`.
    #[n(60)]
    Traced(#[n(0)] Passage),
    /// To `WatchBegin` and `WatchRead`.
    #[n(61)]
    Told(#[n(0)] Told),
    /// To `Watches`.
    #[n(62)]
    Watches(#[n(0)] Vec<WatchRow>),
    /// To `StoreState`; `None`: none is configured.
    #[n(41)]
    Store(#[n(0)] Option<StoreRow>),
    /// To `Reconcile`.
    #[n(15)]
    Reconciled(#[n(0)] Vec<ReconciledRow>),
}
