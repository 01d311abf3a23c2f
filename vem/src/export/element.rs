//! The fields that a template can have, by version and family: number, length, and what goes there.

use proto::flow::{Field, Version};

/// What kind of packet a flow has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Anything else: no addresses but the MAC addresses.
    Link,
    /// The sum of flows that found no room in the cache.
    Overflow,
}

impl Family {
    /// Every family, in the order of the ids.
    pub const ALL: [Family; 4] = [Family::Ipv4, Family::Ipv6, Family::Link, Family::Overflow];

    /// It has addresses and protocols of IP.
    pub fn is_ip(self) -> bool {
        matches!(self, Family::Ipv4 | Family::Ipv6)
    }
}

/// What a field says of a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[expect(missing_docs, reason = "the table in `element` says it by the registered number")]
pub enum Value {
    Octets,
    Packets,
    LinkOctets,
    Flows,
    First,
    Last,
    Duration,
    SourceAddress,
    DestinationAddress,
    Input,
    Output,
    SourcePort,
    Icmp,
    DestinationPort,
    SourceMac,
    DestinationMac,
    Dot1qVlan,
    Vlan,
    Ethertype,
    Protocol,
    Tos,
    TcpFlags,
    IpVersion,
    Direction,
    EndReason,
    ForwardingStatus,
    IcmpType,
    IcmpCode,
    VlanPriority,
    CustomerVlan,
    DroppedOctets,
    DroppedPackets,
    AbsoluteFirst,
    AbsoluteLast,
    ObservationPoint,
    TtlMinimum,
    TtlMaximum,
    LengthMinimum,
    LengthMaximum,
    FlowLabel,
    OutputVlan,
    BiflowDirection,
    Sampler,
    Padding,
}

/// The fields of the built-in record, where they apply.
pub const FULL: [Value; 26] = [
    Value::Octets,
    Value::Packets,
    Value::LinkOctets,
    Value::Flows,
    Value::First,
    Value::Last,
    Value::Duration,
    Value::SourceAddress,
    Value::DestinationAddress,
    Value::Input,
    Value::Output,
    Value::SourcePort,
    Value::Icmp,
    Value::DestinationPort,
    Value::SourceMac,
    Value::DestinationMac,
    Value::Dot1qVlan,
    Value::Vlan,
    Value::Ethertype,
    Value::Protocol,
    Value::Tos,
    Value::TcpFlags,
    Value::IpVersion,
    Value::Direction,
    Value::EndReason,
    Value::ForwardingStatus,
];

/// Bit of an id that a private enterprise has given (RFC 7011 section 3.2).
pub const ENTERPRISE: u16 = 0x8000;
/// The enterprise number of reverse information elements (RFC 5103 section 6.1).
pub const REVERSE: u32 = 29_305;

/// A field of a template.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Element {
    /// Information element, or version 9 field type; with [`ENTERPRISE`] the reverse one of that number.
    pub id: u16,
    /// Octets.
    pub length: u16,
    /// What goes there.
    pub value: Value,
}

impl Element {
    /// It is about the packets of the other direction.
    pub fn is_reverse(self) -> bool {
        self.id & ENTERPRISE != 0
    }

    /// The same of this direction.
    pub fn forward(self) -> Self {
        Element { id: self.id & !ENTERPRISE, ..self }
    }
}

/// The field for `value` in records of a version and family; `None` when it does not exist there.
pub fn element(value: Value, version: Version, family: Family) -> Option<Element> {
    let ipfix = version == Version::Ipfix;
    let ip = family.is_ip();
    let link = family != Family::Overflow;
    let (id, length) = match value {
        Value::Octets => (1, 8),
        Value::Packets => (2, 8),
        Value::LinkOctets if ipfix => (352, 8),
        Value::Flows => (3, 8),
        Value::First => {
            if ipfix {
                (152, 8)
            } else {
                (22, 4)
            }
        }
        Value::Last => {
            if ipfix {
                (153, 8)
            } else {
                (21, 4)
            }
        }
        Value::Duration if ipfix => (161, 4),
        Value::SourceAddress if family == Family::Ipv4 => (8, 4),
        Value::SourceAddress if family == Family::Ipv6 => (27, 16),
        Value::DestinationAddress if family == Family::Ipv4 => (12, 4),
        Value::DestinationAddress if family == Family::Ipv6 => (28, 16),
        Value::Input => (10, 4),
        Value::Output => (14, 4),
        Value::SourcePort if ip => (7, 2),
        Value::Icmp if ipfix && family == Family::Ipv6 => (139, 2),
        Value::Icmp if ip => (32, 2),
        Value::DestinationPort if ip => (11, 2),
        Value::SourceMac if link => (56, 6),
        Value::DestinationMac if link => (80, 6),
        Value::Dot1qVlan if ipfix && link => (243, 2),
        Value::Vlan if link => (58, 2),
        Value::Ethertype => (256, 2),
        Value::Protocol if ip => (4, 1),
        Value::Tos if ip => (5, 1),
        Value::TcpFlags if ip => (6, 1),
        Value::IpVersion if ip => (60, 1),
        Value::Direction => (61, 1),
        Value::EndReason => (136, 1),
        Value::ForwardingStatus => (89, 1),
        Value::IcmpType | Value::IcmpCode if ip => (icmp(value, family), 1),
        Value::VlanPriority if link => (244, 1),
        Value::CustomerVlan if link => (245, 2),
        Value::DroppedOctets => (132, 8),
        Value::DroppedPackets => (133, 8),
        Value::AbsoluteFirst => (152, 8),
        Value::AbsoluteLast => (153, 8),
        Value::ObservationPoint => (138, 8),
        Value::TtlMinimum if ip => (52, 1),
        Value::TtlMaximum if ip => (53, 1),
        Value::LengthMinimum if ip => (25, 2),
        Value::LengthMaximum if ip => (26, 2),
        Value::FlowLabel if family == Family::Ipv6 => (31, if ipfix { 4 } else { 3 }),
        Value::OutputVlan if link => (59, 2),
        Value::BiflowDirection if ipfix => (239, 1),
        // The length that is registered: nfacctd reads no other.
        Value::Sampler if ipfix => (302, 8),
        Value::Sampler => (48, 2),
        _ => return None,
    };
    Some(Element { id, length, value })
}

/// icmpTypeIPv4, icmpCodeIPv4, icmpTypeIPv6, icmpCodeIPv6.
fn icmp(value: Value, family: Family) -> u16 {
    176 + u16::from(value == Value::IcmpCode) + if family == Family::Ipv6 { 2 } else { 0 }
}

/// What is told of the other direction of a conversation, where the record tells it of this one.
const REVERSED: [Value; 17] = [
    Value::Octets,
    Value::Packets,
    Value::LinkOctets,
    Value::Flows,
    Value::First,
    Value::Last,
    Value::Duration,
    Value::TcpFlags,
    Value::DroppedOctets,
    Value::DroppedPackets,
    Value::AbsoluteFirst,
    Value::AbsoluteLast,
    Value::TtlMinimum,
    Value::TtlMaximum,
    Value::LengthMinimum,
    Value::LengthMaximum,
    Value::FlowLabel,
];

/// `elements` for a conversation: the initiator's direction as ever, the other one's counters behind.
pub fn with_reverse(mut elements: Vec<Element>) -> Vec<Element> {
    let reverse = elements.iter().filter(|element| REVERSED.contains(&element.value));
    let reverse: Vec<Element> = reverse.map(|element| Element { id: element.id | ENTERPRISE, ..*element }).collect();
    if !reverse.is_empty() {
        elements.extend(reverse);
        elements.extend(element(Value::BiflowDirection, Version::Ipfix, Family::Ipv4));
    }
    elements
}

/// `elements` for a monitor of which packets are sampled somewhere.
pub fn with_sampler(mut elements: Vec<Element>, version: Version) -> Vec<Element> {
    if !elements.is_empty() {
        elements.extend(element(Value::Sampler, version, Family::Ipv4));
    }
    elements
}

/// What `field` of a user's record asks for.
pub fn value_of(field: Field) -> Value {
    match field {
        Field::Protocol => Value::Protocol,
        Field::Tos => Value::Tos,
        Field::SourceAddress => Value::SourceAddress,
        Field::DestinationAddress => Value::DestinationAddress,
        Field::SourcePort => Value::SourcePort,
        Field::DestinationPort => Value::DestinationPort,
        Field::Vlan | Field::CollectVlan => Value::Vlan,
        Field::SourceMac | Field::CollectSourceMac => Value::SourceMac,
        Field::DestinationMac | Field::CollectDestinationMac => Value::DestinationMac,
        Field::Ethertype => Value::Ethertype,
        Field::InputInterface | Field::CollectInputInterface => Value::Input,
        Field::OutputInterface | Field::MatchOutputInterface => Value::Output,
        Field::Bytes => Value::Octets,
        Field::Packets => Value::Packets,
        Field::First => Value::First,
        Field::Last => Value::Last,
        Field::TcpFlags => Value::TcpFlags,
        Field::EndReason => Value::EndReason,
        Field::ForwardingStatus | Field::MatchForwardingStatus => Value::ForwardingStatus,
        Field::IpVersion => Value::IpVersion,
        Field::Direction | Field::CollectDirection => Value::Direction,
        Field::IcmpType => Value::IcmpType,
        Field::IcmpCode => Value::IcmpCode,
        Field::VlanPriority => Value::VlanPriority,
        Field::CustomerVlan => Value::CustomerVlan,
        Field::Flows => Value::Flows,
        Field::LinkOctets => Value::LinkOctets,
        Field::DroppedBytes => Value::DroppedOctets,
        Field::DroppedPackets => Value::DroppedPackets,
        Field::AbsoluteFirst => Value::AbsoluteFirst,
        Field::AbsoluteLast => Value::AbsoluteLast,
        Field::Duration => Value::Duration,
        Field::ObservationPoint => Value::ObservationPoint,
        Field::TtlMinimum => Value::TtlMinimum,
        Field::TtlMaximum => Value::TtlMaximum,
        Field::LengthMinimum => Value::LengthMinimum,
        Field::LengthMaximum => Value::LengthMaximum,
        Field::FlowLabel => Value::FlowLabel,
        Field::OutputVlan => Value::OutputVlan,
    }
}
