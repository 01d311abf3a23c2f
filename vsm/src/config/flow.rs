//! Flow export in the running configuration: records, exporters and monitors.
//!
//! As in the rest of the model, what was not said is `None`; [`super::compile`] has the defaults.

use std::net::Ipv4Addr;

use proto::flow::{Field, Version};

/// Most collectors of an exporter.
pub const DESTINATIONS_MAX: usize = 4;
/// Most exporters of a flow monitor.
pub const MONITOR_EXPORTERS_MAX: usize = 2;
/// UDP port of a collector, unless configured.
pub const COLLECTOR_PORT: u16 = 9995;

/// Names of the built-in record with all fields that a monitor may give, as they are typed and printed.
pub const NETFLOW_ORIGINAL: &str = "netflow-original";
/// As [`NETFLOW_ORIGINAL`]. The blanks keep it apart from every name of a user's record.
pub const ORIGINAL_INPUT: &str = "netflow ipv4 original-input";

/// The name stands for the built-in record.
pub fn is_predefined(record: &str) -> bool {
    record == NETFLOW_ORIGINAL || record == ORIGINAL_INPUT
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

/// Every line that a record may have.
pub const RECORD_ITEMS: [RecordItem; 21] = [
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
];

/// `flow exporter NAME`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowExporter {
    /// Free text.
    pub description: Option<String>,
    /// Collectors, in the order in which they were typed; the port when it differs from `transport udp`.
    pub destinations: Vec<(Ipv4Addr, Option<u16>)>,
    /// `source mgmt 0` was said; datagrams come from the host's own address in any case.
    pub source_mgmt: bool,
    /// `transport udp`
    pub udp_port: Option<u16>,
    /// `version`; 9 unless said.
    pub version: Option<Version>,
    /// `dscp`, 0-63
    pub dscp: Option<u8>,
    /// `template data timeout`, seconds
    pub template_timeout_s: Option<u32>,
    /// `option interface-table timeout`, seconds
    pub option_timeout_s: Option<u32>,
}

/// `flow monitor NAME`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowMonitor {
    /// Free text.
    pub description: Option<String>,
    /// A user's record or a name of the built-in one ([`is_predefined`]), which is also what `None` means.
    pub record: Option<String>,
    /// Exporters, in the order in which they were typed.
    pub exporters: Vec<String>,
    /// `timeout active`, seconds
    pub active_s: Option<u32>,
    /// `timeout inactive`, seconds
    pub inactive_s: Option<u32>,
}
