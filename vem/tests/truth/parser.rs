//! The third decoder: the crate `netflow_parser`.

use netflow_parser::variable_versions::field_value::FieldValue;
use netflow_parser::variable_versions::ipfix::{self, lookup::IPFixField};
use netflow_parser::variable_versions::v9;
use netflow_parser::{NetflowPacket, NetflowParser};

use super::{Detail, Family, Sums, add};

const OCTETS: u16 = 1;
const PACKETS: u16 = 2;
const PROTOCOL: u16 = 4;
const IPV4: u16 = 8;
const IPV6: u16 = 27;
const LENGTHS: [u16; 2] = [25, 26];
const LABEL: u16 = 31;
const TTL: [u16; 2] = [52, 53];

/// What it reads.
type Read = (Sums, Vec<Detail>);

/// The sums of its flow records, and those of IP that have what is read of each packet.
pub fn read(datagrams: &[Vec<u8>]) -> Read {
    let mut parser = NetflowParser::default();
    let mut sums = Read::default();
    for datagram in datagrams {
        let result = parser.parse_bytes(datagram);
        assert!(result.error.is_none(), "{:?}", result.error);
        result.packets.iter().for_each(|packet| packet_sums(packet, &mut sums));
    }
    sums
}

fn packet_sums(packet: &NetflowPacket, sums: &mut Read) {
    match packet {
        NetflowPacket::V5(v5) => v5.flowsets.iter().for_each(|record| {
            let counts = (1, record.d_pkts.into(), record.d_octets.into());
            add(&mut sums.0, (Family::Ipv4, record.protocol_number), counts);
        }),
        NetflowPacket::V7(v7) => v7.flowsets.iter().for_each(|record| {
            let counts = (1, record.d_pkts.into(), record.d_octets.into());
            add(&mut sums.0, (Family::Ipv4, record.protocol_number), counts);
        }),
        NetflowPacket::V9(v9) => v9.flowsets.iter().for_each(|set| match &set.body {
            v9::FlowSetBody::Data(data) => data.fields.iter().for_each(|record| {
                let of = |id| record.iter().find(|(field, _)| u16::from(*field) == id).map(|(_, value)| value);
                flow(of, sums);
            }),
            v9::FlowSetBody::NoTemplate(_) | v9::FlowSetBody::Empty => panic!("unread set {set:?}"),
            _ => {}
        }),
        NetflowPacket::IPFix(ipfix) => ipfix.flowsets.iter().for_each(|set| match &set.body {
            ipfix::FlowSetBody::Data(data) => data.fields.iter().for_each(|record| {
                let of = |id| {
                    let wanted = IPFixField::new(id, None);
                    record.iter().find(|(field, _)| *field == wanted).map(|(_, value)| value)
                };
                flow(of, sums);
            }),
            ipfix::FlowSetBody::NoTemplate(_) | ipfix::FlowSetBody::Empty => panic!("unread set {set:?}"),
            _ => {}
        }),
        other => panic!("{other:?}"),
    }
}

fn flow<'a>(of: impl Fn(u16) -> Option<&'a FieldValue>, sums: &mut Read) {
    let number = |id| of(id).and_then(FieldValue::as_u64).unwrap_or_else(|| panic!("no field {id}"));
    let family = match () {
        () if of(IPV4).is_some() => Family::Ipv4,
        () if of(IPV6).is_some() => Family::Ipv6,
        () => Family::Link,
    };
    let protocol = of(PROTOCOL).map_or(0, |value| match value {
        FieldValue::ProtocolType(protocol) => u8::from(*protocol),
        other => other.as_u64().unwrap() as u8,
    });
    let (key, packets, octets) = ((family, protocol), number(PACKETS), number(OCTETS));
    add(&mut sums.0, key, (1, packets, octets));
    if of(TTL[0]).is_some() {
        let label = if family == Family::Ipv6 { number(LABEL) as u32 } else { 0 };
        let (ttl, lengths) = (TTL.map(|id| number(id) as u8), LENGTHS.map(|id| number(id) as u16));
        sums.1.push(Detail { key, packets, octets, ttl, lengths, label });
    }
}
