//! Flow export: the words of records, exporters, monitors and samplers.

mod sampler;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use minicbor::{Decode, Encode};

use crate::addr::MacAddr;
use crate::config::Filter;
pub use sampler::{OUT_OF, SAMPLERS_MAX, Sampler, Sampling};

/// The format that an exporter speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum Version {
    /// NetFlow version 1: as version 5, without a sequence.
    #[n(1)]
    V1,
    /// NetFlow version 5: IPv4 only, fixed record.
    #[n(5)]
    V5,
    /// NetFlow version 7: as version 5, with the router that a switch short-cuts, which is always 0.0.0.0 here.
    #[n(7)]
    V7,
    /// NetFlow version 9 (RFC 3954).
    #[default]
    #[n(9)]
    V9,
    /// IPFIX (RFC 7011), version number 10.
    #[n(10)]
    Ipfix,
}

impl Version {
    /// Every version.
    pub const ALL: [Version; 5] = [Version::V1, Version::V5, Version::V7, Version::V9, Version::Ipfix];

    /// Its number, as datagrams begin with it.
    pub fn number(self) -> u16 {
        match self {
            Version::V1 => 1,
            Version::V5 => 5,
            Version::V7 => 7,
            Version::V9 => 9,
            Version::Ipfix => 10,
        }
    }

    /// It has templates, so that records may have any fields.
    pub fn has_templates(self) -> bool {
        matches!(self, Version::V9 | Version::Ipfix)
    }
}

/// A field that a record may ask for with `match` or `collect`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Field {
    /// `match ip protocol`
    #[n(0)]
    Protocol,
    /// `match ip tos`
    #[n(1)]
    Tos,
    /// `match ipv4 source address`, `match ipv6 source address`
    #[n(2)]
    SourceAddress,
    /// `match ipv4 destination address`, `match ipv6 destination address`
    #[n(3)]
    DestinationAddress,
    /// `match transport source-port`
    #[n(4)]
    SourcePort,
    /// `match transport destination-port`
    #[n(5)]
    DestinationPort,
    /// `match datalink vlan`
    #[n(6)]
    Vlan,
    /// `match datalink mac source-address`
    #[n(7)]
    SourceMac,
    /// `match datalink mac destination-address`
    #[n(8)]
    DestinationMac,
    /// `match datalink ethertype`
    #[n(9)]
    Ethertype,
    /// `match interface input`
    #[n(10)]
    InputInterface,
    /// `collect interface output`
    #[n(11)]
    OutputInterface,
    /// `collect counter bytes`
    #[n(12)]
    Bytes,
    /// `collect counter packets`
    #[n(13)]
    Packets,
    /// `collect timestamp sys-uptime first`
    #[n(14)]
    First,
    /// `collect timestamp sys-uptime last`
    #[n(15)]
    Last,
    /// `collect transport tcp flags`
    #[n(16)]
    TcpFlags,
    /// `collect flow end-reason`
    #[n(17)]
    EndReason,
    /// `collect forwarding-status`
    #[n(18)]
    ForwardingStatus,
    /// `match ip version`
    #[n(19)]
    IpVersion,
    /// `match flow direction`
    #[n(20)]
    Direction,
    /// `match transport icmp type`
    #[n(21)]
    IcmpType,
    /// `match transport icmp code`
    #[n(22)]
    IcmpCode,
    /// `match datalink dot1q priority`
    #[n(23)]
    VlanPriority,
    /// `match datalink dot1q customer vlan`
    #[n(24)]
    CustomerVlan,
    /// `match interface output`
    #[n(25)]
    MatchOutputInterface,
    /// `match forwarding-status`
    #[n(26)]
    MatchForwardingStatus,
    /// `collect interface input`
    #[n(27)]
    CollectInputInterface,
    /// `collect datalink mac source-address`
    #[n(28)]
    CollectSourceMac,
    /// `collect datalink mac destination-address`
    #[n(29)]
    CollectDestinationMac,
    /// `collect datalink vlan`
    #[n(30)]
    CollectVlan,
    /// `collect flow direction`
    #[n(31)]
    CollectDirection,
    /// `collect counter flows`
    #[n(32)]
    Flows,
    /// `collect counter bytes layer2`
    #[n(33)]
    LinkOctets,
    /// `collect counter bytes dropped`
    #[n(34)]
    DroppedBytes,
    /// `collect counter packets dropped`
    #[n(35)]
    DroppedPackets,
    /// `collect timestamp absolute first`
    #[n(36)]
    AbsoluteFirst,
    /// `collect timestamp absolute last`
    #[n(37)]
    AbsoluteLast,
    /// `collect flow duration`
    #[n(38)]
    Duration,
    /// `collect observation point`
    #[n(39)]
    ObservationPoint,
    /// `collect ipv4 ttl minimum`, `collect ipv6 hop-limit minimum`
    #[n(40)]
    TtlMinimum,
    /// `collect ipv4 ttl maximum`, `collect ipv6 hop-limit maximum`
    #[n(41)]
    TtlMaximum,
    /// `collect ipv4 total-length minimum`, `collect ipv6 length total minimum`
    #[n(42)]
    LengthMinimum,
    /// `collect ipv4 total-length maximum`, `collect ipv6 length total maximum`
    #[n(43)]
    LengthMaximum,
    /// `collect ipv6 flow-label`
    #[n(44)]
    FlowLabel,
    /// `collect datalink vlan output`
    #[n(45)]
    OutputVlan,
}

impl Field {
    /// It has to be read of each packet.
    pub fn is_of_packets(self) -> bool {
        matches!(
            self,
            Field::TtlMinimum | Field::TtlMaximum | Field::LengthMinimum | Field::LengthMaximum | Field::FlowLabel
        )
    }

    /// A `match` line: flows that differ in it have different records.
    pub fn is_matched(self) -> bool {
        matches!(
            self,
            Field::Protocol
                | Field::Tos
                | Field::SourceAddress
                | Field::DestinationAddress
                | Field::SourcePort
                | Field::DestinationPort
                | Field::Vlan
                | Field::SourceMac
                | Field::DestinationMac
                | Field::Ethertype
                | Field::InputInterface
                | Field::IpVersion
                | Field::Direction
                | Field::IcmpType
                | Field::IcmpCode
                | Field::VlanPriority
                | Field::CustomerVlan
                | Field::MatchOutputInterface
                | Field::MatchForwardingStatus
        )
    }
}

/// `flow record NAME`: which fields a monitor exports, in the order in which they were asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Record {
    /// 1-63 characters.
    #[n(0)]
    pub name: String,
    /// Fields, without repeats.
    #[n(1)]
    pub fields: Vec<Field>,
}

/// Where an exporter sends to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Destination {
    /// IPv4 address of the collector; 0 when it has another.
    #[n(0)]
    pub addr: u32,
    /// Port.
    #[n(1)]
    pub port: u16,
    /// IPv6 address of the collector.
    #[n(2)]
    pub addr6: Option<u128>,
}

impl Destination {
    /// A collector.
    pub fn new(addr: IpAddr, port: u16) -> Self {
        match addr {
            IpAddr::V4(addr) => Destination { addr: addr.into(), port, addr6: None },
            IpAddr::V6(addr) => Destination { addr: 0, port, addr6: Some(addr.into()) },
        }
    }

    /// Address and port.
    pub fn address(self) -> SocketAddr {
        let four = || IpAddr::from(Ipv4Addr::from(self.addr));
        SocketAddr::new(self.addr6.map_or_else(four, |addr| Ipv6Addr::from(addr).into()), self.port)
    }
}

/// How an exporter's messages go to its destinations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Transport {
    /// Datagrams.
    #[n(0)]
    Udp,
    /// IPFIX over TCP (RFC 7011 section 10.4).
    #[n(1)]
    Tcp,
    /// IPFIX over TLS (RFC 7011 section 11).
    #[n(2)]
    Tls,
    /// flow-relay.
    #[n(3)]
    Relay,
}

/// `flow exporter NAME`
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
pub struct Exporter {
    /// 1-63 characters.
    #[n(0)]
    pub name: String,
    /// 1-4 collectors; each gets every datagram, unless they share the flows (`load_balance`).
    #[n(1)]
    pub destinations: Vec<Destination>,
    /// Format.
    #[n(2)]
    pub version: Version,
    /// Differentiated services code point of the datagrams, 0-63.
    #[n(3)]
    pub dscp: u8,
    /// Seconds between templates once the collector has had time to learn them.
    #[n(4)]
    pub template_timeout_s: u32,
    /// Seconds between options data.
    #[n(5)]
    pub option_timeout_s: u32,
    /// Payload of a datagram, octets.
    #[n(6)]
    pub payload_max: u16,
    /// `sndbuf`: octets of the send buffer of each socket.
    #[n(7)]
    pub send_buffer: Option<u32>,
    /// `template data packets`: a datagram with templates comes at least so often.
    #[n(8)]
    pub template_packets: Option<u32>,
    /// Seconds between the records of samplers; `None` is `option_timeout_s`.
    #[n(9)]
    pub sampler_timeout_s: Option<u32>,
    /// Seconds between the exporter's statistics; `None` is `option_timeout_s`.
    #[n(10)]
    pub statistics_timeout_s: Option<u32>,
    /// How they go; `None` is UDP.
    #[n(20)]
    pub transport: Option<Transport>,
    /// `load-balance`: each conversation goes to one of the collectors.
    #[n(21)]
    pub load_balance: Option<bool>,
    /// `rate-limit`: most datagrams a second.
    #[n(22)]
    pub rate_limit: Option<u32>,
}

/// `flow-store`: what the monitors report is kept on the host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Store {
    /// Mebibytes on the disk.
    #[n(0)]
    pub size_mib: u32,
    /// Hours.
    #[n(1)]
    pub keep_h: u32,
    /// Also as lines for Elastic.
    #[n(2)]
    pub ecs: bool,
}

/// `flow monitor NAME`
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
pub struct Monitor {
    /// 1-63 characters.
    #[n(0)]
    pub name: String,
    /// Name of a user's [`Record`]; `None` is the full built-in record.
    #[n(1)]
    pub record: Option<String>,
    /// Names of the exporters.
    #[n(2)]
    pub exporters: Vec<String>,
    /// A flow that goes on is reported this often, seconds.
    #[n(3)]
    pub active_s: u32,
    /// A flow that is silent this long has ended, seconds.
    #[n(4)]
    pub inactive_s: u32,
    /// `aggregate ...`, in the order in which they are tried.
    #[n(5)]
    pub aggregation: Option<Vec<Aggregation>>,
    /// `biflow`: both directions of a conversation in one record (RFC 5103), where the format can say so.
    #[n(6)]
    pub biflow: Option<bool>,
}

/// A rule that makes flows alike: the first that fits an address, and the first that fits a port, is used, for source and
/// destination alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub enum Aggregation {
    /// `aggregate address A.B.C.D/L to N`: of an IPv4 address in the prefix, the first N bits stay.
    #[n(0)]
    Address {
        /// Address of the prefix.
        #[n(0)]
        net: u32,
        /// Its length, 0-32.
        #[n(1)]
        length: u8,
        /// Bits that stay, 0-32.
        #[n(2)]
        to: u8,
    },
    /// `aggregate port A-B to N`: a TCP or UDP port from A to B becomes N.
    #[n(1)]
    Port {
        /// First port.
        #[n(0)]
        first: u16,
        /// Last port, not below the first.
        #[n(1)]
        last: u16,
        /// The port that they become.
        #[n(2)]
        to: u16,
    },
}

/// Octets that a flow between two IPv4 addresses takes in a host's store.
pub const KEPT_OCTETS: u64 = 144;
/// Octets of its line for Elastic, about.
pub const LINE_OCTETS: u64 = 774;

/// Of what a monitor sees, what it counts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
pub struct Meter {
    /// Name of the [`Monitor`].
    #[n(0)]
    pub monitor: String,
    /// Name of the access list that permits what is counted; one that is not in the configuration permits everything.
    #[n(1)]
    pub filter: Option<String>,
    /// `scope once`: source addresses of frames that the same monitor counts on their own hosts. They are not counted
    /// again when they come by an uplink.
    #[n(2)]
    pub elsewhere: Vec<MacAddr>,
    /// Most flows of the monitor in the cache of the host; `None` for as many as fit.
    #[n(3)]
    pub entries: Option<u32>,
    /// Only packets that this matches are counted.
    #[n(4)]
    pub filter_bpf: Option<Filter>,
}

/// Which way a monitor looks at a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Direction {
    /// Frames that enter the switch at the port.
    #[n(0)]
    Input,
    /// Frames that leave it there.
    #[n(1)]
    Output,
}
