//! Files as nfcapd 1.7 writes them (layout 2), so that `nfdump -r` reads them.
//!
//! ```text
//! header   0 0xA50C  2 version 2  4 nfdump version  8 created, s (8)  16 compression 0  17 encryption 0  18 blocks of the appendix (2)
//!         20 0 (4)  24 place of the appendix (8)  32 block size (4)  36 blocks (4)
//! block    0 records (4)  4 octets of them (4)  8 type 3 (2)  10 flags 0 (2)
//! record   0 type (2)  2 length (2)  4 elements (2)  6 engine (2)  8 exporter (2)  10 flags  11 version of the export; elements
//! element  0 type (2)  2 length (2), values
//! ```
//!
//! Everything is in the byte order of the machine that writes, which the magic number shows; here, little-endian. The appendix has the
//! name of the source and the sums that `nfdump -I` shows. A file whose writer died has none, and a header that counts the blocks that were whole.

use std::net::Ipv6Addr;

/// Octets of the header.
pub const HEADER: usize = 40;
const BLOCK: usize = 12;
/// Of a record's flags.
const SAMPLED: u8 = 2;
const MAGIC: u16 = 0xA50C;
const LAYOUT: u16 = 2;
/// 1.7.1, whose layout this is.
const NFDUMP: u32 = 0x0107_0100;
const DATA: u16 = 3;
const RECORD: u16 = 11;
const IDENT: u16 = 0x8001;
const STATISTICS: u16 = 0x8002;
const GENERIC: u16 = 1;
const IPV4: u16 = 2;
const IPV6: u16 = 3;
const MISC: u16 = 4;
const VLAN: u16 = 6;
const MACS: u16 = 15;
/// Largest record that is read.
const RECORD_MAX: usize = 1024;
/// Largest block that is read; nfdump's own are up to 5 MiB.
const BLOCK_MAX: usize = 16 << 20;

/// A flow, as a file has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row {
    /// First packet, milliseconds since 1970.
    pub first_ms: u64,
    /// Last packet.
    pub last_ms: u64,
    /// When it was stored.
    pub received_ms: u64,
    /// Packets.
    pub packets: u64,
    /// Octets: of IP, or of frames that have none.
    pub octets: u64,
    /// Source port.
    pub src_port: u16,
    /// Destination port; for ICMP type × 256 + code.
    pub dst_port: u16,
    /// IP protocol; 0 for other frames.
    pub protocol: u8,
    /// OR of the TCP flags.
    pub tcp_flags: u8,
    /// forwardingStatus (RFC 7270, 4.12).
    pub status: u8,
    /// Type of service.
    pub tos: u8,
    /// Addresses, IPv4 ones mapped; `None` for frames without IP.
    pub addresses: Option<(Ipv6Addr, Ipv6Addr)>,
    /// Index of the interface that it came by.
    pub input: u32,
    /// Index of the interface that it left by.
    pub output: u32,
    /// flowDirection: 1 where it was seen when it left.
    pub direction: u8,
    /// flowEndReason.
    pub end: u8,
    /// VLAN.
    pub vlan: u16,
    /// Source MAC address.
    pub src_mac: [u8; 6],
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// Packets and octets are estimates, by those that a sampler picked.
    pub sampled: bool,
}

/// Sums of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// Flows, octets and packets, in all and of TCP, UDP, ICMP and others.
    pub kinds: [[u64; 5]; 3],
    /// First packet, milliseconds since 1970.
    pub first_ms: u64,
    /// Last packet.
    pub last_ms: u64,
}

impl Sums {
    /// Adds a flow.
    pub fn add(&mut self, row: &Row) {
        let kind = match row.protocol {
            6 => 1,
            17 => 2,
            1 | 58 => 3,
            _ => 4,
        };
        for (sums, value) in self.kinds.iter_mut().zip([1, row.octets, row.packets]) {
            for (at, sum) in sums.iter_mut().enumerate() {
                if at == 0 || at == kind {
                    *sum = sum.saturating_add(value);
                }
            }
        }
        self.first_ms = if self.first_ms == 0 { row.first_ms } else { self.first_ms.min(row.first_ms) };
        self.last_ms = self.last_ms.max(row.last_ms);
    }
}

/// The header of a file.
pub fn header(created_s: u64, blocks: u32, appendix: Option<u64>) -> [u8; HEADER] {
    let mut octets = Vec::with_capacity(HEADER);
    octets.extend(MAGIC.to_le_bytes());
    octets.extend(LAYOUT.to_le_bytes());
    octets.extend(NFDUMP.to_le_bytes());
    octets.extend(created_s.to_le_bytes());
    octets.extend([0, 0]);
    octets.extend(u16::from(appendix.is_some()).to_le_bytes());
    octets.extend([0; 4]);
    octets.extend(appendix.unwrap_or_default().to_le_bytes());
    octets.extend([0; 4]);
    octets.extend(blocks.to_le_bytes());
    let mut header = [0; HEADER];
    header.copy_from_slice(&octets);
    header
}

fn block(records: u32, body: &[u8]) -> Vec<u8> {
    let mut octets = records.to_le_bytes().to_vec();
    octets.extend((body.len() as u32).to_le_bytes());
    octets.extend(DATA.to_le_bytes());
    octets.extend([0; 2]);
    octets.extend_from_slice(body);
    octets
}

/// A block of flows.
pub fn rows(rows: &[Row]) -> Vec<u8> {
    let mut body = Vec::with_capacity(rows.len() * 160);
    rows.iter().for_each(|row| body.extend(record(row)));
    block(rows.len() as u32, &body)
}

/// The appendix.
pub fn appendix(source: &str, sums: &Sums) -> Vec<u8> {
    let mut body = entry(IDENT, &[source.as_bytes(), &[0]].concat());
    let mut numbers = Vec::new();
    // The order of nfdump's stat_record: totals, then flows, octets and packets of each kind.
    let [flows, octets, packets] = sums.kinds;
    numbers.extend([flows[0], octets[0], packets[0]]);
    [flows, octets, packets].iter().for_each(|kinds| numbers.extend(kinds.iter().skip(1)));
    numbers.extend([sums.first_ms, sums.last_ms, 0]);
    body.extend(entry(STATISTICS, &numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>()));
    block(2, &body)
}

fn entry(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = kind.to_le_bytes().to_vec();
    octets.extend(((value.len() + 4) as u16).to_le_bytes());
    octets.extend_from_slice(value);
    octets
}

fn record(row: &Row) -> Vec<u8> {
    let mut elements = vec![entry(GENERIC, &generic(row))];
    if let Some((src, dst)) = row.addresses {
        elements.push(match (src.to_ipv4_mapped(), dst.to_ipv4_mapped()) {
            (Some(src), Some(dst)) => entry(IPV4, [src, dst].map(|ip| u32::from(ip).to_le_bytes()).as_flattened()),
            _ => {
                let halves = |ip: Ipv6Addr| [(u128::from(ip) >> 64) as u64, u128::from(ip) as u64];
                entry(
                    IPV6,
                    [halves(src), halves(dst)]
                        .as_flattened()
                        .iter()
                        .flat_map(|n| n.to_le_bytes())
                        .collect::<Vec<_>>()
                        .as_slice(),
                )
            }
        });
    }
    let mut misc = [row.input, row.output].map(u32::to_le_bytes).as_flattened().to_vec();
    misc.extend([0, 0, row.direction, row.tos, 0, row.end, 0, 0]);
    elements.push(entry(MISC, &misc));
    let vlan = u32::from(row.vlan).to_le_bytes();
    elements.push(entry(VLAN, [vlan, vlan].as_flattened()));
    let mac = |mac: [u8; 6]| mac.iter().fold(0_u64, |number, octet| number << 8 | u64::from(*octet)).to_le_bytes();
    elements.push(entry(MACS, [mac(row.src_mac), [0; 8], mac(row.dst_mac), [0; 8]].as_flattened()));
    let length = BLOCK + elements.iter().map(Vec::len).sum::<usize>();
    let mut octets = RECORD.to_le_bytes().to_vec();
    octets.extend((length as u16).to_le_bytes());
    octets.extend((elements.len() as u16).to_le_bytes());
    octets.extend([0, 0, 0, 0, if row.sampled { SAMPLED } else { 0 }, 10]);
    elements.iter().for_each(|element| octets.extend_from_slice(element));
    octets
}

fn generic(row: &Row) -> Vec<u8> {
    let numbers = [row.first_ms, row.last_ms, row.received_ms, row.packets, row.octets].map(u64::to_le_bytes);
    let mut octets = numbers.as_flattened().to_vec();
    octets.extend(row.src_port.to_le_bytes());
    octets.extend(row.dst_port.to_le_bytes());
    octets.extend([row.protocol, row.tcp_flags, row.status, row.tos]);
    octets
}

/// How many blocks a file says that it has; `None` if it is not one of these files.
pub fn blocks(header: &[u8; HEADER]) -> Option<u32> {
    let mut read = Read(header);
    let (magic, layout) = (read.u16()?, read.u16()?);
    let mut rest = Read(header.get(36..)?);
    (magic == MAGIC && layout == LAYOUT).then(|| rest.u32())?
}

/// Length of the body of a block.
pub fn block_length(header: &[u8; BLOCK]) -> Option<usize> {
    let mut read = Read(header);
    let (_, length) = (read.u32()?, read.u32()?);
    Some(length as usize).filter(|length| *length <= BLOCK_MAX)
}

/// Octets of a block's header.
pub const BLOCK_HEADER: usize = BLOCK;

/// The flows of a block's body. What is damaged ends it.
pub fn read(body: &[u8]) -> impl Iterator<Item = Row> + '_ {
    let mut rest = Read(body);
    std::iter::from_fn(move || {
        loop {
            let (kind, length) = (rest.u16()?, usize::from(rest.u16()?));
            if !(4..=RECORD_MAX).contains(&length) {
                return None;
            }
            let value = rest.take(length - 4)?;
            if kind == RECORD
                && let Some(row) = row(value)
            {
                return Some(row);
            }
        }
    })
}

fn row(value: &[u8]) -> Option<Row> {
    let sampled = value.get(6)? & SAMPLED != 0;
    let mut row = Row { sampled, ..Row::default() };
    let mut rest = Read(value.get(8..)?);
    while let (Some(kind), Some(length)) = (rest.u16(), rest.u16()) {
        let mut value = Read(rest.take(usize::from(length).checked_sub(4)?)?);
        match kind {
            GENERIC => {
                (row.first_ms, row.last_ms, row.received_ms) = (value.u64()?, value.u64()?, value.u64()?);
                (row.packets, row.octets) = (value.u64()?, value.u64()?);
                (row.src_port, row.dst_port) = (value.u16()?, value.u16()?);
                [row.protocol, row.tcp_flags, row.status, row.tos] = *value.take(4)?.first_chunk()?;
            }
            IPV4 => {
                let mut address = || Some(std::net::Ipv4Addr::from(value.u32()?).to_ipv6_mapped());
                row.addresses = Some((address()?, address()?));
            }
            IPV6 => {
                let mut address = || Some(Ipv6Addr::from(u128::from(value.u64()?) << 64 | u128::from(value.u64()?)));
                row.addresses = Some((address()?, address()?));
            }
            MISC => {
                (row.input, row.output) = (value.u32()?, value.u32()?);
                let [_, _, direction, _, _, end] = *value.take(6)?.first_chunk()?;
                (row.direction, row.end) = (direction, end);
            }
            VLAN => row.vlan = value.u32()? as u16,
            MACS => {
                let mut mac = || {
                    let [_, _, mac @ ..] = value.u64()?.to_be_bytes();
                    value.u64()?;
                    Some(mac)
                };
                (row.src_mac, row.dst_mac) = (mac()?, mac()?);
            }
            _ => {}
        }
    }
    Some(row)
}

struct Read<'a>(&'a [u8]);

impl<'a> Read<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|octets| u16::from_le_bytes(*octets))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|octets| u32::from_le_bytes(*octets))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().map(|octets| u64::from_le_bytes(*octets))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows_of() -> impl Strategy<Value = Row> {
        let numbers = (any::<[u64; 5]>(), any::<[u16; 3]>(), any::<[u8; 6]>(), any::<[u32; 2]>());
        let address = prop_oneof![any::<u32>().prop_map(|a| std::net::Ipv4Addr::from(a).to_ipv6_mapped()),];
        let six = any::<u128>().prop_map(Ipv6Addr::from);
        let pair = prop_oneof![(address.clone(), address).boxed(), (six.clone(), six).boxed()];
        (numbers, proptest::option::of(pair), any::<[[u8; 6]; 2]>(), any::<bool>()).prop_map(
            |((long, short, small, ports), addresses, macs, sampled)| Row {
                first_ms: long[0],
                last_ms: long[1],
                received_ms: long[2],
                packets: long[3],
                octets: long[4],
                src_port: short[0],
                dst_port: short[1],
                vlan: short[2],
                protocol: small[0],
                tcp_flags: small[1],
                status: small[2],
                tos: small[3],
                direction: small[4],
                end: small[5],
                input: ports[0],
                output: ports[1],
                addresses,
                src_mac: macs[0],
                dst_mac: macs[1],
                sampled,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(written in proptest::collection::vec(rows_of(), 0..20)) {
            let octets = rows(&written);
            let length = block_length(octets.first_chunk().unwrap()).unwrap();
            prop_assert_eq!(length, octets.len() - BLOCK);
            prop_assert_eq!(read(&octets[BLOCK..]).collect::<Vec<_>>(), written);
        }

        #[test]
        fn nothing_panics(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&octets).count();
        }
    }

    #[test]
    fn the_header_says_what_it_is() {
        assert_eq!(blocks(&header(1, 7, None)), Some(7));
        assert_eq!(blocks(&[0; HEADER]), None);
        assert_eq!(header(0, 1, Some(220))[..4], [0x0c, 0xa5, 2, 0]);
    }
}
