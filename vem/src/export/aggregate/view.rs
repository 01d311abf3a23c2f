//! What is seen of a flow: the fields by which records are told apart, and the rules that make them alike.

use std::net::Ipv4Addr;
use std::ops::BitOr;

use proto::flow::{Aggregation, Field, Sampling};
use vswitch::flow::key::{FlowKey, shape};

use crate::export::flow::Flow;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// A set of fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields(u32);

impl Fields {
    /// None.
    pub const NONE: Fields = Fields(0);
    /// IPv4, IPv6 or other.
    pub const FAMILY: Fields = Fields(1);
    const SOURCE: Fields = Fields(1 << 1);
    const DESTINATION: Fields = Fields(1 << 2);
    const SOURCE_PORT: Fields = Fields(1 << 3);
    const DESTINATION_PORT: Fields = Fields(1 << 4);
    const PROTOCOL: Fields = Fields(1 << 5);
    const TOS: Fields = Fields(1 << 6);
    const VLAN: Fields = Fields(1 << 7);
    const SOURCE_MAC: Fields = Fields(1 << 8);
    const DESTINATION_MAC: Fields = Fields(1 << 9);
    const ETHERTYPE: Fields = Fields(1 << 10);
    const INPUT: Fields = Fields(1 << 11);
    const OUTPUT: Fields = Fields(1 << 12);
    const STATUS: Fields = Fields(1 << 13);
    const DIRECTION: Fields = Fields(1 << 14);
    const ICMP_TYPE: Fields = Fields(1 << 15);
    const ICMP_CODE: Fields = Fields(1 << 16);
    const PRIORITY: Fields = Fields(1 << 17);
    const CUSTOMER_VLAN: Fields = Fields(1 << 18);

    /// Those of the built-in record.
    pub const FULL: Fields = Fields((1 << 15) - 1);
    /// Those of the built-in record in which both directions of a conversation agree.
    pub const CONVERSATION: Fields = Fields(
        Fields::FAMILY.0
            | Fields::SOURCE.0
            | Fields::DESTINATION.0
            | Fields::SOURCE_PORT.0
            | Fields::DESTINATION_PORT.0
            | Fields::PROTOCOL.0
            | Fields::VLAN.0
            | Fields::ETHERTYPE.0,
    );

    /// Those that a record matches.
    pub fn matched(fields: &[Field]) -> Self {
        fields.iter().filter(|field| field.is_matched()).fold(Fields::NONE, |set, field| set | Fields::one(*field))
    }

    /// Those that it names at all.
    pub fn named(fields: &[Field]) -> Self {
        fields.iter().fold(Fields::NONE, |set, field| set | Fields::one(*field))
    }

    fn one(field: Field) -> Self {
        match field {
            Field::IpVersion => Fields::FAMILY,
            Field::SourceAddress => Fields::SOURCE,
            Field::DestinationAddress => Fields::DESTINATION,
            Field::SourcePort => Fields::SOURCE_PORT,
            Field::DestinationPort => Fields::DESTINATION_PORT,
            Field::Protocol => Fields::PROTOCOL,
            Field::Tos => Fields::TOS,
            Field::Vlan | Field::CollectVlan => Fields::VLAN,
            Field::SourceMac | Field::CollectSourceMac => Fields::SOURCE_MAC,
            Field::DestinationMac | Field::CollectDestinationMac => Fields::DESTINATION_MAC,
            Field::Ethertype => Fields::ETHERTYPE,
            Field::InputInterface | Field::CollectInputInterface => Fields::INPUT,
            Field::OutputInterface | Field::MatchOutputInterface => Fields::OUTPUT,
            // Only what is forwarded has one.
            Field::OutputVlan => Fields::VLAN | Fields::STATUS,
            Field::ForwardingStatus | Field::MatchForwardingStatus => Fields::STATUS,
            Field::Direction | Field::CollectDirection => Fields::DIRECTION,
            Field::IcmpType => Fields::ICMP_TYPE,
            Field::IcmpCode => Fields::ICMP_CODE,
            Field::VlanPriority => Fields::PRIORITY,
            Field::CustomerVlan => Fields::CUSTOMER_VLAN,
            // The interface at which the monitor looks.
            Field::ObservationPoint => Fields::INPUT | Fields::OUTPUT | Fields::DIRECTION,
            Field::Bytes
            | Field::Packets
            | Field::First
            | Field::Last
            | Field::TcpFlags
            | Field::EndReason
            | Field::Flows
            | Field::LinkOctets
            | Field::DroppedBytes
            | Field::DroppedPackets
            | Field::AbsoluteFirst
            | Field::AbsoluteLast
            | Field::Duration
            | Field::TtlMinimum
            | Field::TtlMaximum
            | Field::LengthMinimum
            | Field::LengthMaximum
            | Field::FlowLabel => Fields::NONE,
        }
    }

    fn has(self, any: Fields) -> bool {
        self.0 & any.0 != 0
    }
}

impl BitOr for Fields {
    type Output = Fields;

    fn bitor(self, other: Fields) -> Fields {
        Fields(self.0 | other.0)
    }
}

/// A flow without its counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// Addresses and the like. The port of the dataplane and the outer tag are 0: `input` and `vlan` stand for them.
    pub key: FlowKey,
    /// VLAN.
    pub vlan: u16,
    /// Interface that it enters by.
    pub input: u16,
    /// Interface that it leaves by.
    pub output: u16,
    /// forwardingStatus.
    pub status: u8,
    /// Seen where it leaves.
    pub egress: bool,
    /// Bits that a rule has left of the source and of the destination; 0 where there was none.
    pub prefixes: [u8; 2],
    /// Which packets were counted; records of different samplers are never one.
    pub sampling: Sampling,
}

impl std::hash::Hash for View {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let View { key, vlan, input, output, status, egress, prefixes, sampling } = self;
        (key.words(), vlan, input, output, status, egress, prefixes, sampling).hash(state);
    }
}

impl View {
    /// What is seen of a flow.
    pub fn of(flow: &Flow<'_>) -> Self {
        let key = FlowKey { in_port: 0, outer_vid: 0, reserved: [0; 4], ..flow.record.key };
        View {
            key,
            vlan: flow.vlan(),
            input: flow.input,
            output: flow.output,
            status: flow.status(),
            egress: flow.egress,
            prefixes: [0; 2],
            sampling: flow.record.sampling,
        }
    }

    /// After the rules: the first that fits, for an address and for a port.
    pub fn with(mut self, rules: &[Aggregation]) -> Self {
        if self.key.is(shape::IPV4) {
            for (address, prefix) in [&mut self.key.src, &mut self.key.dst].into_iter().zip(&mut self.prefixes) {
                if let Some((shorter, bits)) = shorten(Flow::ipv4(*address), rules) {
                    (*address, *prefix) = (shorter.to_ipv6_mapped().octets(), bits);
                }
            }
        }
        if self.key.is(shape::PORTS) && matches!(self.key.protocol, TCP | UDP) {
            self.key.src_port = replace(self.key.src_port, rules);
            self.key.dst_port = replace(self.key.dst_port, rules);
        }
        self
    }

    /// Without all that is not in `fields`.
    pub fn masked(&self, fields: Fields) -> Self {
        let View { key, .. } = self;
        let family = key.shape & (shape::IPV4 | shape::IPV6);
        let ip = family != 0;
        let ports = fields.has(Fields::SOURCE_PORT | Fields::DESTINATION_PORT | Fields::ICMP_TYPE | Fields::ICMP_CODE);
        let icmp = ip && key.is(shape::PORTS) && matches!(key.protocol, ICMP | ICMPV6);
        let (kind, code) = (key.dst_port & 0xff00, key.dst_port & 0x00ff);
        let icmp_port =
            if fields.has(Fields::ICMP_TYPE) { kind } else { 0 } | if fields.has(Fields::ICMP_CODE) { code } else { 0 };
        let says_icmp = icmp && fields.has(Fields::ICMP_TYPE | Fields::ICMP_CODE);
        View {
            key: FlowKey {
                src: if ip { kept(key.src, fields, Fields::SOURCE) } else { [0; 16] },
                dst: if ip { kept(key.dst, fields, Fields::DESTINATION) } else { [0; 16] },
                src_mac: kept(key.src_mac, fields, Fields::SOURCE_MAC),
                dst_mac: kept(key.dst_mac, fields, Fields::DESTINATION_MAC),
                inner_vid: kept(key.inner_vid, fields, Fields::CUSTOMER_VLAN),
                ethertype: kept(key.ethertype, fields, Fields::ETHERTYPE),
                src_port: if ip { kept(key.src_port, fields, Fields::SOURCE_PORT) } else { 0 },
                dst_port: match fields.has(Fields::DESTINATION_PORT) {
                    true if ip => key.dst_port,
                    false if icmp => icmp_port,
                    _ => 0,
                },
                // Without it, nobody knows what the type is the type of.
                protocol: if says_icmp { key.protocol } else { kept(key.protocol, fields, Fields::PROTOCOL) },
                tos: kept(key.tos, fields, Fields::TOS),
                shape: kept(family, fields, Fields::FAMILY) | if ports { key.shape & shape::PORTS } else { 0 },
                pcp: kept(key.pcp, fields, Fields::PRIORITY),
                ..FlowKey::default()
            },
            vlan: kept(self.vlan, fields, Fields::VLAN),
            input: kept(self.input, fields, Fields::INPUT),
            output: kept(self.output, fields, Fields::OUTPUT),
            status: kept(self.status, fields, Fields::STATUS),
            egress: kept(self.egress, fields, Fields::DIRECTION),
            prefixes: [
                kept(self.prefixes[0], fields, Fields::SOURCE),
                kept(self.prefixes[1], fields, Fields::DESTINATION),
            ],
            sampling: self.sampling,
        }
    }

    /// As the packets of the other direction look.
    pub fn reversed(&self) -> Self {
        let [source, destination] = self.prefixes;
        View {
            key: reversed(&self.key),
            input: self.output,
            output: self.input,
            prefixes: [destination, source],
            ..*self
        }
    }

    /// What differs in `other` is not shown.
    pub fn blend(&mut self, other: &View) {
        let (ours, theirs) = (&mut self.key, &other.key);
        agree(&mut ours.src, theirs.src);
        agree(&mut ours.dst, theirs.dst);
        agree(&mut ours.src_mac, theirs.src_mac);
        agree(&mut ours.dst_mac, theirs.dst_mac);
        agree(&mut ours.inner_vid, theirs.inner_vid);
        agree(&mut ours.ethertype, theirs.ethertype);
        agree(&mut ours.src_port, theirs.src_port);
        agree(&mut ours.dst_port, theirs.dst_port);
        agree(&mut ours.protocol, theirs.protocol);
        agree(&mut ours.tos, theirs.tos);
        agree(&mut ours.pcp, theirs.pcp);
        ours.shape &= theirs.shape;
        agree(&mut self.vlan, other.vlan);
        agree(&mut self.input, other.input);
        agree(&mut self.output, other.output);
        agree(&mut self.status, other.status);
        agree(&mut self.egress, other.egress);
        agree(&mut self.prefixes, other.prefixes);
    }
}

fn agree<T: PartialEq + Default>(ours: &mut T, theirs: T) {
    if *ours != theirs {
        *ours = T::default();
    }
}

fn kept<T: Default>(value: T, fields: Fields, wanted: Fields) -> T {
    if fields.has(wanted) { value } else { T::default() }
}

/// The first bits of an address, by the first rule whose prefix it is in, and how many those are.
fn shorten(address: [u8; 4], rules: &[Aggregation]) -> Option<(Ipv4Addr, u8)> {
    let address = u32::from_be_bytes(address);
    let mask = |length: u8| u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
    rules.iter().find_map(|rule| match *rule {
        Aggregation::Address { net, length, to } if (address ^ net) & mask(length) == 0 => {
            Some(((address & mask(to)).into(), to))
        }
        _ => None,
    })
}

/// The port that the first rule makes of `port`.
fn replace(port: u16, rules: &[Aggregation]) -> u16 {
    let made = rules.iter().find_map(|rule| match *rule {
        Aggregation::Port { first, last, to } if (first..=last).contains(&port) => Some(to),
        _ => None,
    });
    made.unwrap_or(port)
}

/// The key of the packets of the other direction.
pub fn reversed(key: &FlowKey) -> FlowKey {
    let is_icmp = key.is(shape::PORTS) && matches!(key.protocol, ICMP | ICMPV6);
    let (src_port, dst_port) =
        if is_icmp { (key.src_port, answer(key.protocol, key.dst_port)) } else { (key.dst_port, key.src_port) };
    let (src, dst, src_mac, dst_mac) = (key.dst, key.src, key.dst_mac, key.src_mac);
    FlowKey { src, dst, src_mac, dst_mac, src_port, dst_port, ..*key }
}

/// Type and code of the answer to an ICMP message; those that have none are their own.
fn answer(protocol: u8, kind_and_code: u16) -> u16 {
    let [kind, code] = kind_and_code.to_be_bytes();
    let other = match (protocol, kind) {
        // Echo, timestamp, information, address mask.
        (ICMP, 8) => 0,
        (ICMP, 0) => 8,
        (ICMP, 13 | 15 | 17) => kind + 1,
        (ICMP, 14 | 16 | 18) => kind - 1,
        // Echo, router discovery, neighbour discovery.
        (ICMPV6, 128 | 133 | 135) => kind + 1,
        (ICMPV6, 129 | 134 | 136) => kind - 1,
        _ => kind,
    };
    u16::from_be_bytes([other, code])
}
