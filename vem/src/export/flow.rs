//! A flow as a monitor saw it: the meter's record, with interface numbers and direction.

use proto::addr::VlanId;
use vswitch::flow::key::shape;
use vswitch::flow::record::{Outcome, Record};
use vswitch::verdict::DropReason;

use super::clock::{Base, Moment};
use super::element::{Element, Family, Value};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// forwardingStatus (IE 89, RFC 7270 section 4.12): consumed, without a reason.
const CONSUMED: u8 = 0b1100_0000;
/// forwardingStatus (IE 89, RFC 7270 section 4.12): forwarded, without a reason.
const FORWARDED: u8 = 64;

/// A record to be written.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// The meter's record.
    pub record: &'a Record,
    /// Index of the interface that it entered by; 0 when that is not known any more.
    pub input: u16,
    /// Index of the interface that it left by; 0 when it was dropped or left by several.
    pub output: u16,
    /// The monitor looks at the frames where they leave.
    pub egress: bool,
    /// What else is known of a record that stands for several flows.
    pub sum: Option<&'a Sum>,
    /// The other direction of the conversation.
    pub reverse: Option<&'a Reverse>,
}

/// What the record of several flows can't say of their fates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum {
    /// forwardingStatus; 0, unknown, when the flows had several.
    pub status: u8,
    /// Packets that were dropped.
    pub dropped_packets: u64,
    /// Octets in these.
    pub dropped_octets: u64,
    /// Bits that were left of the source address and of the destination address; 0 when all were.
    pub prefixes: [u8; 2],
}

/// The other direction of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reverse {
    /// Its packets, and its addresses the other way round.
    pub record: Record,
    /// See [`Flow::sum`].
    pub sum: Sum,
}

/// The clock for the times of a record.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// For wall clock times.
    pub at: Moment,
    /// For uptime.
    pub base: Base,
}

/// What a flow is estimated to be by those of its packets that were counted.
#[derive(Clone, Copy, Debug)]
pub struct Scaled {
    record: Record,
    sum: Option<Sum>,
}

impl Scaled {
    /// It, in place of `flow`, of which it was made.
    pub fn flow<'a>(&'a self, flow: &Flow<'a>) -> Flow<'a> {
        Flow { record: &self.record, sum: self.sum.as_ref(), ..*flow }
    }
}

impl Flow<'_> {
    /// As all its packets are estimated to be; of the other direction nothing is.
    pub fn scaled(&self) -> Scaled {
        let of = |counted| self.record.sampling.scale(counted);
        let scaled = |sum: &Sum| Sum {
            dropped_packets: of(sum.dropped_packets),
            dropped_octets: of(sum.dropped_octets),
            ..*sum
        };
        Scaled { record: self.record.scaled(), sum: self.sum.map(scaled) }
    }

    /// What kind of packets it has.
    pub fn family(&self) -> Family {
        match () {
            () if self.record.key.is(shape::OVERFLOW) => Family::Overflow,
            () if self.record.key.is(shape::IPV4) => Family::Ipv4,
            () if self.record.key.is(shape::IPV6) => Family::Ipv6,
            () => Family::Link,
        }
    }

    /// The VLAN that the switch put it in, whether it came with a tag or not, so that both directions of a conversation
    /// show the same one; if it was dropped before that was known, the VLAN of its tag.
    pub fn vlan(&self) -> u16 {
        self.record.vlan.map_or(self.record.key.outer_vid, VlanId::get)
    }

    /// The VLAN that its packets leave in, with a tag or without: that which the switch put them in. 0 when they do not leave, or
    /// not all of a record that stands for several flows.
    fn output_vlan(&self) -> u16 {
        if self.status() == FORWARDED { self.vlan() } else { 0 }
    }

    /// ICMP type x 256 + code, 0 for other protocols.
    fn icmp(&self) -> u16 {
        let key = &self.record.key;
        if key.is(shape::PORTS) && matches!(key.protocol, ICMP | ICMPV6) { key.dst_port } else { 0 }
    }

    /// forwardingStatus.
    pub fn status(&self) -> u8 {
        self.sum.map_or_else(|| forwarding_status(self.record.outcome), |sum| sum.status)
    }

    /// Packets that were dropped, and octets in these.
    pub fn dropped(&self) -> (u64, u64) {
        match (self.sum, self.record.outcome) {
            (Some(sum), _) => (sum.dropped_packets, sum.dropped_octets),
            (None, Outcome::Dropped(DropReason::MonitorInput)) => (0, 0),
            (None, Outcome::Dropped(_)) => (self.record.packets, self.record.octets),
            (None, Outcome::Forwarded(_) | Outcome::Flooded) => (0, 0),
        }
    }

    /// An IPv4 address of the key: the last four octets of the mapped one.
    pub fn ipv4(address: [u8; 16]) -> [u8; 4] {
        (u128::from_be_bytes(address) as u32).to_be_bytes()
    }

    /// Appends the value of `element`, in as many octets as it says.
    pub fn write(&self, element: Element, times: Times, out: &mut Vec<u8>) {
        if element.is_reverse() {
            return self.write_reverse(element, times, out);
        }
        let record = self.record;
        let key = &record.key;
        let number = match element.value {
            Value::SourceAddress => return address(key.src, element, out),
            Value::DestinationAddress => return address(key.dst, element, out),
            Value::SourceMac => return out.extend(key.src_mac),
            Value::DestinationMac => return out.extend(key.dst_mac),
            Value::Octets => record.octets,
            Value::Packets => record.packets,
            Value::Flows => record.flows,
            Value::LinkOctets => record.l2_octets,
            Value::First if element.length == 4 => times.base.uptime(record.first).into(),
            Value::Last if element.length == 4 => times.base.uptime(record.last).into(),
            Value::First => times.at.wall_of(record.first),
            Value::Last => times.at.wall_of(record.last),
            Value::Duration => record.last.ms().saturating_sub(record.first.ms()),
            Value::Input => self.input.into(),
            Value::Output => self.output.into(),
            Value::SourcePort => key.src_port.into(),
            Value::DestinationPort => key.dst_port.into(),
            Value::Icmp => self.icmp().into(),
            Value::Vlan | Value::Dot1qVlan => self.vlan().into(),
            Value::Ethertype => key.ethertype.into(),
            Value::Protocol => key.protocol.into(),
            Value::Tos => key.tos.into(),
            Value::TcpFlags => record.tcp_flags.into(),
            Value::IpVersion => {
                if key.is(shape::IPV6) {
                    6
                } else {
                    4
                }
            }
            Value::Direction => self.egress.into(),
            Value::EndReason => record.end as u64,
            Value::ForwardingStatus => self.status().into(),
            Value::IcmpType => (self.icmp() >> 8).into(),
            Value::IcmpCode => (self.icmp() & 0xff).into(),
            Value::VlanPriority => key.pcp.into(),
            Value::CustomerVlan => key.inner_vid.into(),
            Value::DroppedPackets => self.dropped().0,
            Value::DroppedOctets => self.dropped().1,
            Value::AbsoluteFirst => times.at.wall_of(record.first),
            Value::AbsoluteLast => times.at.wall_of(record.last),
            Value::ObservationPoint => if self.egress { self.output } else { self.input }.into(),
            Value::TtlMinimum => record.detail.ttl_least.into(),
            Value::TtlMaximum => record.detail.ttl_most.into(),
            Value::LengthMinimum => record.detail.shortest.into(),
            Value::LengthMaximum => record.detail.longest.into(),
            Value::FlowLabel => record.detail.label.into(),
            Value::OutputVlan => self.output_vlan().into(),
            // The source of the record is the initiator.
            Value::BiflowDirection => 1,
            Value::Sampler if element.length == 2 => record.sampling.rate().unwrap_or_default().number().into(),
            Value::Sampler => record.sampling.number().into(),
            Value::Padding => 0,
        };
        number_in(number, element.length, out);
    }

    /// Appends the value of the other direction, or zeros when it had no packets.
    fn write_reverse(&self, element: Element, times: Times, out: &mut Vec<u8>) {
        let Some(Reverse { record, sum }) = self.reverse else {
            return out.extend(std::iter::repeat_n(0, element.length.into()));
        };
        let other = Flow { record, sum: Some(sum), reverse: None, ..*self };
        other.write(element.forward(), times, out);
    }
}

fn address(octets: [u8; 16], element: Element, out: &mut Vec<u8>) {
    if element.length == 4 {
        out.extend(Flow::ipv4(octets));
    } else {
        out.extend(octets);
    }
}

/// Appends `number` in `length` octets, at most eight; the largest number that they hold if it is larger.
fn number_in(number: u64, length: u16, out: &mut Vec<u8>) {
    let bits = 8 * u32::from(length.min(8));
    let largest = u64::MAX.checked_shr(64 - bits).unwrap_or(0);
    out.extend(number.min(largest).to_be_bytes().into_iter().skip(usize::from(8 - length.min(8))));
}

/// forwardingStatus: forwarded 01, dropped 10, consumed 11 in the upper two bits, the reason in the others.
pub fn forwarding_status(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Forwarded(_) | Outcome::Flooded => FORWARDED,
        Outcome::Dropped(reason) => match reason {
            DropReason::MonitorInput => CONSUMED,
            DropReason::AclDeny | DropReason::AclDenyOut => 129,
            // "ACL drop": policy, but no access list that a rule can be named of.
            DropReason::Isolated | DropReason::StaticDrop => 130,
            // Unroutable.
            DropReason::NoDestination => 131,
            // Fragmentation needed, and a switch does not fragment.
            DropReason::MtuExceeded => 133,
            // Bad total length.
            DropReason::Ipv4Length | DropReason::Ipv6Length => 135,
            // Bad header length.
            DropReason::Ipv4Header | DropReason::Ipv6Header | DropReason::L4Header => 136,
            // Bad output interface.
            DropReason::EgressDown
            | DropReason::SamePort
            | DropReason::SplitHorizon
            | DropReason::VlanNotAllowedOut => 142,
            // Hardware.
            DropReason::TxError => 143,
            _ => 128,
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use vswitch::flow::key::FlowKey;
    use vswitch::flow::record::EndReason;
    use vswitch::port::PortId;
    use vswitch::time::Instant;

    use super::*;

    /// A TCP flow of 10.0.0.1:1024 to 10.0.0.2:80 in VLAN 10, from port 1 to port 2, between 1.5 s and 2.25 s.
    pub fn tcp4() -> Record {
        let mapped = |last| Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets();
        Record {
            key: FlowKey {
                src: mapped(1),
                dst: mapped(2),
                dst_mac: [2, 0, 0, 0, 0, 2],
                src_mac: [2, 0, 0, 0, 0, 1],
                in_port: 1,
                ethertype: 0x0800,
                src_port: 1024,
                dst_port: 80,
                protocol: 6,
                tos: 0xb8,
                shape: shape::IPV4 | shape::PORTS,
                ..FlowKey::default()
            },
            vlan: VlanId::new(10),
            flows: 1,
            packets: 3,
            octets: 1500,
            l2_octets: 1542,
            first: Instant::from_ms(1500),
            last: Instant::from_ms(2250),
            tcp_flags: 0x1b,
            detail: Default::default(),
            outcome: Outcome::Forwarded(PortId(2)),
            end: EndReason::EndDetected,
            sampling: Default::default(),
            again: false,
            monitors_in: 1,
            monitors_out: 0,
        }
    }

    /// The same over IPv6, between documentation addresses.
    pub fn tcp6() -> Record {
        let mut record = tcp4();
        record.key.src = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
        record.key.dst = "2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
        record.key.ethertype = 0x86dd;
        record.key.shape = shape::IPV6 | shape::PORTS;
        record
    }

    /// An ARP request, flooded.
    pub fn arp() -> Record {
        let mut record = tcp4();
        record.key.dst_mac = [0xff; 6];
        record.key.ethertype = 0x0806;
        record.key.shape = shape::ARP;
        (record.key.src_port, record.key.dst_port, record.key.protocol, record.key.tos) = (0, 1, 0, 0);
        (record.packets, record.octets, record.l2_octets, record.tcp_flags) = (1, 60, 60, 0);
        record.outcome = Outcome::Flooded;
        record
    }

    /// 70,000 flows of one packet for which there was no room.
    pub fn overflow() -> Record {
        let mut record = tcp4();
        record.key =
            FlowKey { in_port: 1, ethertype: 0x0800, shape: shape::IPV4 | shape::OVERFLOW, ..FlowKey::default() };
        (record.vlan, record.tcp_flags, record.end) = (None, 0, EndReason::LackOfResources);
        (record.flows, record.packets, record.octets, record.l2_octets) = (70_000, 70_000, 4_200_000, 4_480_000);
        record
    }

    /// `record`, from interface 11 to interface 12, seen where it enters.
    pub fn flow(record: &Record) -> Flow<'_> {
        let output = if matches!(record.outcome, Outcome::Forwarded(_)) { 12 } else { 0 };
        Flow { record, input: 11, output, egress: false, sum: None, reverse: None }
    }

    #[test]
    fn numbers_fill_their_field_and_saturate() {
        let octets = |number, length| {
            let mut out = Vec::new();
            number_in(number, length, &mut out);
            out
        };
        assert_eq!(octets(0x0102, 4), [0, 0, 1, 2]);
        assert_eq!(octets(u64::MAX, 8), [255; 8]);
        assert_eq!(octets(256, 1), [255]);
        assert!(octets(7, 0).is_empty());
    }

    #[test]
    fn family_and_addresses_follow_the_shape() {
        assert_eq!(flow(&tcp4()).family(), Family::Ipv4);
        assert_eq!(flow(&tcp6()).family(), Family::Ipv6);
        assert_eq!(flow(&arp()).family(), Family::Link);
        assert_eq!(flow(&overflow()).family(), Family::Overflow);
        assert_eq!(IpAddr::from(Flow::ipv4(tcp4().key.src)), tcp4().key.src_ip().unwrap());
    }

    #[test]
    fn vlan_is_that_of_the_switch_or_else_of_the_tag() {
        let mut record = tcp4();
        record.key.outer_vid = 99;
        assert_eq!(flow(&record).vlan(), 10);
        record.vlan = None;
        assert_eq!(flow(&record).vlan(), 99);
    }

    #[test]
    fn vlan_on_the_way_out_is_that_of_what_leaves() {
        let mut record = tcp4();
        assert_eq!(flow(&record).output_vlan(), 10);
        record.outcome = Outcome::Flooded;
        assert_eq!(flow(&record).output_vlan(), 10);
        for reason in [DropReason::AclDenyOut, DropReason::MonitorInput] {
            record.outcome = Outcome::Dropped(reason);
            assert_eq!(flow(&record).output_vlan(), 0);
        }
    }

    #[test]
    fn icmp_only_of_icmp_with_a_whole_header() {
        let mut record = tcp4();
        assert_eq!(flow(&record).icmp(), 0);
        (record.key.protocol, record.key.dst_port) = (ICMP, 0x0800);
        assert_eq!(flow(&record).icmp(), 0x0800);
        record.key.shape = shape::IPV4;
        assert_eq!(flow(&record).icmp(), 0);
    }

    #[test]
    fn every_drop_has_a_dropped_status() {
        assert_eq!(forwarding_status(Outcome::Forwarded(PortId(1))), 64);
        assert_eq!(forwarding_status(Outcome::Flooded), 64);
        for reason in DropReason::ALL {
            // What a tap brings was no frame of ours to forward.
            let wanted = if *reason == DropReason::MonitorInput { 3 } else { 2 };
            assert_eq!(forwarding_status(Outcome::Dropped(*reason)) >> 6, wanted, "{}", reason.name());
        }
        assert_eq!(forwarding_status(Outcome::Dropped(DropReason::AclDeny)), 129);
        assert_eq!(forwarding_status(Outcome::Dropped(DropReason::MtuExceeded)), 133);
    }
}
