//! Flow export in the running configuration: records, exporters and monitors.
//!
//! As in the rest of the model, what was not said is `None`; [`super::compile`] has the defaults.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use proto::config::Filter;
use proto::flow::{Aggregation, Field, Sampling, Transport, Version};

/// Most collectors of an exporter.
pub const DESTINATIONS_MAX: usize = 4;
/// Most exporters of a flow monitor.
pub const MONITOR_EXPORTERS_MAX: usize = 4;
/// Most `aggregate` lines of a flow monitor.
pub const AGGREGATIONS_MAX: usize = 32;
/// UDP port of a collector, unless configured.
pub const COLLECTOR_PORT: u16 = 9995;

/// Most prefixes that are inside.
pub const INTERNAL_PREFIXES_MAX: usize = 256;

/// Addresses that begin alike, of either family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    /// The beginning, zero behind it; IPv4 mapped to IPv6.
    bits: u128,
    /// Its length in bits, of the mapped address.
    length: u8,
}

impl Prefix {
    /// The first `length` bits of `addr`; of all of them, when there are fewer.
    pub fn new(addr: IpAddr, length: u8) -> Prefix {
        let (bits, length) = match addr {
            IpAddr::V4(addr) => (addr.to_ipv6_mapped().to_bits(), 96 + length.min(32)),
            IpAddr::V6(addr) => (addr.to_bits(), length.min(128)),
        };
        Prefix { bits: bits & mask(length), length }
    }

    /// `addr`, mapped if it is IPv4, is one of them.
    pub fn contains(self, addr: u128) -> bool {
        addr & mask(self.length) == self.bits
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Ipv6Addr::from_bits(self.bits).to_ipv4_mapped() {
            Some(addr) if self.length >= 96 => write!(f, "{addr}/{}", self.length - 96),
            _ => write!(f, "{}/{}", Ipv6Addr::from_bits(self.bits), self.length),
        }
    }
}

impl FromStr for Prefix {
    type Err = ();

    fn from_str(text: &str) -> Result<Prefix, ()> {
        let (addr, length) = text.split_once('/').ok_or(())?;
        let (addr, length) = (addr.parse::<IpAddr>().map_err(drop)?, length.parse::<u8>().map_err(drop)?);
        match length <= if addr.is_ipv4() { 32 } else { 128 } {
            true => Ok(Prefix::new(addr, length)),
            false => Err(()),
        }
    }
}

/// Names of the built-in record with all that is known of a flow, which a monitor may give, as they are typed and printed.
pub const NETFLOW_ORIGINAL: &str = "netflow-original";
/// As [`NETFLOW_ORIGINAL`]. The blanks keep it apart from every name of a user's record.
pub const ORIGINAL_INPUT: &str = "netflow ipv4 original-input";

/// Records that are summed up as their fields say.
const SUMMED: [(&str, &[Field]); 5] = [
    ("netflow ipv4 original-output", ORIGINAL_OUTPUT),
    ("netflow ipv6 original-input", ORIGINAL_INPUT_FIELDS),
    ("netflow ipv6 original-output", ORIGINAL_OUTPUT),
    ("netflow protocol-port", PROTOCOL_PORT),
    ("netflow layer2-switched input", LAYER2_INPUT),
];

const ORIGINAL_INPUT_FIELDS: &[Field] = &[
    Field::SourceAddress,
    Field::DestinationAddress,
    Field::Protocol,
    Field::Tos,
    Field::SourcePort,
    Field::DestinationPort,
    Field::InputInterface,
    Field::OutputInterface,
    Field::TcpFlags,
    Field::Bytes,
    Field::Packets,
    Field::First,
    Field::Last,
];

const ORIGINAL_OUTPUT: &[Field] = &[
    Field::SourceAddress,
    Field::DestinationAddress,
    Field::Protocol,
    Field::Tos,
    Field::SourcePort,
    Field::DestinationPort,
    Field::MatchOutputInterface,
    Field::CollectInputInterface,
    Field::TcpFlags,
    Field::Bytes,
    Field::Packets,
    Field::First,
    Field::Last,
];

const PROTOCOL_PORT: &[Field] = &[
    Field::IpVersion,
    Field::Protocol,
    Field::SourcePort,
    Field::DestinationPort,
    Field::Flows,
    Field::Bytes,
    Field::Packets,
    Field::First,
    Field::Last,
];

const LAYER2_INPUT: &[Field] = &[
    Field::SourceMac,
    Field::DestinationMac,
    Field::Vlan,
    Field::Ethertype,
    Field::InputInterface,
    Field::LinkOctets,
    Field::Bytes,
    Field::Packets,
    Field::First,
    Field::Last,
];

/// The name stands for a built-in record.
pub fn is_predefined(record: &str) -> bool {
    record == NETFLOW_ORIGINAL || record == ORIGINAL_INPUT || predefined_fields(record).is_some()
}

/// The name stands for the built-in record with all fields, in which every flow has a record of its own.
pub fn is_full(record: &str) -> bool {
    record == NETFLOW_ORIGINAL || record == ORIGINAL_INPUT
}

/// What a built-in record that is summed up asks for.
pub fn predefined_fields(record: &str) -> Option<&'static [Field]> {
    SUMMED.iter().find(|(name, _)| *name == record).map(|(_, fields)| *fields)
}

/// Names of all built-in records.
pub fn predefined() -> impl Iterator<Item = &'static str> {
    [NETFLOW_ORIGINAL, ORIGINAL_INPUT].into_iter().chain(SUMMED.iter().map(|(name, _)| *name))
}

/// `flow record NAME`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowRecord {
    /// Free text.
    pub description: Option<String>,
    /// Lines in the order in which they were typed, without repeats.
    pub items: Vec<RecordItem>,
}

/// A `match` or `collect` line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordItem {
    /// The line in full.
    pub line: &'static str,
    /// What it asks for.
    pub field: Field,
}

/// Every line that a record may have, those of [`full_items`] first.
pub const RECORD_ITEMS: [RecordItem; 52] = [
    RecordItem { line: "match ip protocol", field: Field::Protocol },
    RecordItem { line: "match ip tos", field: Field::Tos },
    RecordItem { line: "match ipv4 source address", field: Field::SourceAddress },
    RecordItem { line: "match ipv4 destination address", field: Field::DestinationAddress },
    RecordItem { line: "match ipv6 source address", field: Field::SourceAddress },
    RecordItem { line: "match ipv6 destination address", field: Field::DestinationAddress },
    RecordItem { line: "match transport source-port", field: Field::SourcePort },
    RecordItem { line: "match transport destination-port", field: Field::DestinationPort },
    RecordItem { line: "match datalink vlan", field: Field::Vlan },
    RecordItem { line: "match datalink mac source-address", field: Field::SourceMac },
    RecordItem { line: "match datalink mac destination-address", field: Field::DestinationMac },
    RecordItem { line: "match datalink ethertype", field: Field::Ethertype },
    RecordItem { line: "match interface input", field: Field::InputInterface },
    RecordItem { line: "collect interface output", field: Field::OutputInterface },
    RecordItem { line: "collect counter bytes", field: Field::Bytes },
    RecordItem { line: "collect counter packets", field: Field::Packets },
    RecordItem { line: "collect timestamp sys-uptime first", field: Field::First },
    RecordItem { line: "collect timestamp sys-uptime last", field: Field::Last },
    RecordItem { line: "collect transport tcp flags", field: Field::TcpFlags },
    RecordItem { line: "collect flow end-reason", field: Field::EndReason },
    RecordItem { line: "collect forwarding-status", field: Field::ForwardingStatus },
    RecordItem { line: "match ip version", field: Field::IpVersion },
    RecordItem { line: "match flow direction", field: Field::Direction },
    RecordItem { line: "collect flow duration", field: Field::Duration },
    RecordItem { line: "collect counter bytes layer2", field: Field::LinkOctets },
    RecordItem { line: "match transport icmp type", field: Field::IcmpType },
    RecordItem { line: "match transport icmp code", field: Field::IcmpCode },
    RecordItem { line: "match datalink dot1q priority", field: Field::VlanPriority },
    RecordItem { line: "match datalink dot1q customer vlan", field: Field::CustomerVlan },
    RecordItem { line: "match interface output", field: Field::MatchOutputInterface },
    RecordItem { line: "match forwarding-status", field: Field::MatchForwardingStatus },
    RecordItem { line: "collect interface input", field: Field::CollectInputInterface },
    RecordItem { line: "collect datalink mac source-address", field: Field::CollectSourceMac },
    RecordItem { line: "collect datalink mac destination-address", field: Field::CollectDestinationMac },
    RecordItem { line: "collect datalink vlan", field: Field::CollectVlan },
    RecordItem { line: "collect flow direction", field: Field::CollectDirection },
    RecordItem { line: "collect counter flows", field: Field::Flows },
    RecordItem { line: "collect counter bytes dropped", field: Field::DroppedBytes },
    RecordItem { line: "collect counter packets dropped", field: Field::DroppedPackets },
    RecordItem { line: "collect timestamp absolute first", field: Field::AbsoluteFirst },
    RecordItem { line: "collect timestamp absolute last", field: Field::AbsoluteLast },
    RecordItem { line: "collect observation point", field: Field::ObservationPoint },
    RecordItem { line: "collect ipv4 ttl minimum", field: Field::TtlMinimum },
    RecordItem { line: "collect ipv4 ttl maximum", field: Field::TtlMaximum },
    RecordItem { line: "collect ipv4 total-length minimum", field: Field::LengthMinimum },
    RecordItem { line: "collect ipv4 total-length maximum", field: Field::LengthMaximum },
    RecordItem { line: "collect ipv6 hop-limit minimum", field: Field::TtlMinimum },
    RecordItem { line: "collect ipv6 hop-limit maximum", field: Field::TtlMaximum },
    RecordItem { line: "collect ipv6 length total minimum", field: Field::LengthMinimum },
    RecordItem { line: "collect ipv6 length total maximum", field: Field::LengthMaximum },
    RecordItem { line: "collect ipv6 flow-label", field: Field::FlowLabel },
    RecordItem { line: "collect datalink vlan output", field: Field::OutputVlan },
];

/// The lines that say what the built-in record with all fields has.
pub fn full_items() -> &'static [RecordItem] {
    RECORD_ITEMS.split_at(25).0
}

/// Mebibytes that `flow-store` keeps unless it is said.
pub const STORE_MIB: u32 = 1024;
/// Hours.
pub const STORE_H: u32 = 168;

/// `flow-store`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowStore {
    /// `size`, mebibytes of each host.
    pub size_mib: Option<u32>,
    /// `keep`, hours.
    pub keep_h: Option<u32>,
    /// `ecs`
    pub ecs: bool,
}

impl FlowStore {
    /// What the hosts are told.
    pub fn compiled(&self) -> proto::flow::Store {
        proto::flow::Store {
            size_mib: self.size_mib.unwrap_or(STORE_MIB),
            keep_h: self.keep_h.unwrap_or(STORE_H),
            ecs: self.ecs,
        }
    }
}

/// A transport in words.
pub fn transport_word(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Relay => "relay",
    }
}

/// The port that collectors have by default (RFC 7011 section 10.1 for streams).
pub fn default_port(transport: Option<Transport>) -> u16 {
    match transport {
        None | Some(Transport::Udp) => COLLECTOR_PORT,
        Some(Transport::Tcp) => 4739,
        Some(Transport::Tls) => 4740,
        Some(Transport::Relay) => 4741,
    }
}

impl FlowExporter {
    /// The port of destinations that have no other.
    pub fn collector_port(&self) -> u16 {
        self.port.unwrap_or_else(|| default_port(self.transport))
    }

    /// The format: a stream is always IPFIX.
    pub fn format(&self) -> Version {
        match self.transport {
            Some(Transport::Tcp | Transport::Tls) => Version::Ipfix,
            _ => self.version.unwrap_or(Version::V9),
        }
    }
}

/// `flow exporter NAME`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowExporter {
    /// Free text.
    pub description: Option<String>,
    /// Collectors, in the order in which they were typed; the port when it differs from that of `transport`.
    pub destinations: Vec<(IpAddr, Option<u16>)>,
    /// `source mgmt 0` was said; datagrams come from the host's own address in any case.
    pub source_mgmt: bool,
    /// `transport`; UDP unless said.
    pub transport: Option<Transport>,
    /// The port that `transport` says.
    pub port: Option<u16>,
    /// `version`; 9 unless said.
    pub version: Option<Version>,
    /// `dscp`, 0-63
    pub dscp: Option<u8>,
    /// `template data timeout`, seconds
    pub template_timeout_s: Option<u32>,
    /// `option interface-table timeout`, seconds
    pub option_timeout_s: Option<u32>,
    /// `mtu`, octets of an IP packet
    pub mtu: Option<u16>,
    /// `sndbuf`, octets
    pub send_buffer: Option<u32>,
    /// `template data packets`
    pub template_packets: Option<u32>,
    /// `option sampler-table timeout`, seconds
    pub sampler_timeout_s: Option<u32>,
    /// `option exporter-stats timeout`, seconds
    pub statistics_timeout_s: Option<u32>,
    /// `load-balance`: each conversation goes to one of the collectors.
    pub load_balance: bool,
    /// `rate-limit`, datagrams a second
    pub rate_limit: Option<u32>,
}

/// `flow monitor NAME`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowMonitor {
    /// Free text.
    pub description: Option<String>,
    /// A user's record or a name of a built-in one ([`is_predefined`]); `None` is [`NETFLOW_ORIGINAL`].
    pub record: Option<String>,
    /// Exporters, in the order in which they were typed.
    pub exporters: Vec<String>,
    /// `timeout active`, seconds
    pub active_s: Option<u32>,
    /// `timeout inactive`, seconds
    pub inactive_s: Option<u32>,
    /// `aggregate` lines, in the order in which they are tried, without repeats.
    pub aggregation: Vec<Aggregation>,
    /// `biflow`
    pub biflow: bool,
    /// `cache entries`
    pub entries: Option<u32>,
    /// `match filter access-list NAME`
    pub filter: Option<String>,
    /// `match filter bpf "EXPRESSION"`
    pub filter_bpf: Option<Filter>,
    /// `scope once`
    pub once: bool,
}

/// `sampler NAME`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowSampler {
    /// Free text.
    pub description: Option<String>,
    /// `mode`; none is not in use.
    pub mode: Option<Sampling>,
}

/// `mode random 1 out-of 100`
pub fn mode_line(sampling: Sampling) -> String {
    let kind = if sampling.is_random() { "random" } else { "deterministic" };
    format!("mode {kind} {} out-of {}", sampling.count(), sampling.out_of())
}

/// `aggregate address 10.0.0.0/8 to 16`, `aggregate port 80-89 to 80`.
pub fn aggregation_line(rule: &Aggregation) -> String {
    match *rule {
        Aggregation::Address { net, length, to } => {
            format!("aggregate address {}/{length} to {to}", Ipv4Addr::from(net))
        }
        Aggregation::Port { first, last, to } if first == last => format!("aggregate port {first} to {to}"),
        Aggregation::Port { first, last, to } => format!("aggregate port {first}-{last} to {to}"),
    }
}

/// What fits `later` fits `earlier`, which stands before it: `later` is never used.
pub fn hides(earlier: &Aggregation, later: &Aggregation) -> bool {
    match (*earlier, *later) {
        (Aggregation::Address { net, length, .. }, Aggregation::Address { net: inner, length: longer, .. }) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            length <= longer && inner & mask == net & mask
        }
        (Aggregation::Port { first, last, .. }, Aggregation::Port { first: from, last: to, .. }) => {
            first <= from && to <= last
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_hides_those_that_fit_less() {
        let address = |net: [u8; 4], length| Aggregation::Address { net: u32::from_be_bytes(net), length, to: 8 };
        let port = |first, last| Aggregation::Port { first, last, to: 0 };
        assert!(hides(&address([0; 4], 0), &address([10, 1, 0, 0], 16)));
        assert!(hides(&address([10, 0, 0, 0], 8), &address([10, 0, 0, 0], 8)));
        assert!(!hides(&address([10, 0, 0, 0], 8), &address([11, 1, 0, 0], 16)));
        assert!(!hides(&address([10, 1, 0, 0], 16), &address([10, 0, 0, 0], 8)));
        assert!(hides(&port(80, 89), &port(80, 80)) && hides(&port(80, 89), &port(85, 89)));
        assert!(!hides(&port(80, 89), &port(85, 90)) && !hides(&port(80, 80), &address([0; 4], 0)));
    }

    #[test]
    fn prefixes_hold_what_begins_like_them() {
        let holds = |prefix: &str, addr: &str| {
            let addr = match addr.parse().unwrap() {
                IpAddr::V4(addr) => addr.to_ipv6_mapped(),
                IpAddr::V6(addr) => addr,
            };
            prefix.parse::<Prefix>().unwrap().contains(addr.to_bits())
        };
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("0.0.0.0/0", "192.0.2.1") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("2001:db8::/32", "2001:db8:1::") && !holds("2001:db8::/32", "2001:db9::"));
        assert!(holds("::/0", "10.0.0.1"));
        for text in ["10.1.0.0/16", "192.0.2.1/32", "0.0.0.0/0", "2001:db8::/32", "::/0"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
        assert_eq!("10.1.2.3/8".parse::<Prefix>().unwrap().to_string(), "10.0.0.0/8");
        assert!(["10.0.0.0/33", "10.0.0.0", "x/3", "::/129"].iter().all(|text| text.parse::<Prefix>().is_err()));
    }
}
