//! Flow caches, exporters, what is kept, and the reconciliation of all that with the counters of ports.

use minicbor::{Decode, Encode};

use crate::addr::{MacAddr, VlanId};
use crate::name::IfName;

/// A row of [`super::Answer::Flows`].
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
    /// Of so many packets some were counted; 0 when the figures are estimates of all. `None` when every one was counted.
    #[n(18)]
    pub sampled: Option<u16>,
    /// So many of those were counted; `None` is one.
    #[n(19)]
    pub sampled_count: Option<u16>,
}

/// A row of [`super::Answer::Exporters`].
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

/// Part of [`super::Answer::Exporters`].
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

/// A row of [`super::Answer::Reconciled`]: what a port has received since the agent started, and in which class of the flow meter
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
