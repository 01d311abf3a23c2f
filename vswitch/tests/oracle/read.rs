//! What the plain evaluator knows of a frame, read octet by octet, and why it is refused.

use proto::addr::MacAddr;
use vswitch::frame::vnet::VnetHdr;
use vswitch::verdict::DropReason::{self, *};

/// Of the frame, whatever becomes of it.
pub struct Frame<'a> {
    pub octets: &'a [u8],
    pub dst: MacAddr,
    pub src: MacAddr,
    /// Offset and TCI of each tag.
    pub tags: Vec<(usize, u16)>,
    pub ethertype: u16,
    pub ip: Option<Ip>,
    pub segments: u64,
    pub ip_octets: u64,
    pub l2_octets: u64,
    pub packet_max: u64,
    pub vnet: VnetHdr,
}

#[derive(Clone, Copy)]
pub struct Ip {
    pub v4: bool,
    pub src: u32,
    pub dst: u32,
    pub protocol: u8,
    pub dscp: u8,
    pub later_fragment: bool,
    pub ports: Option<(u16, u16)>,
}

pub fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

pub fn mac_at(b: &[u8], at: usize) -> MacAddr {
    MacAddr(b[at..at + 6].try_into().unwrap())
}

/// Reads a frame, or says why it is a lie.
pub fn read<'a>(b: &'a [u8], vnet: &VnetHdr) -> Result<Frame<'a>, DropReason> {
    if b.len() < 14 {
        return Err(if b.is_empty() { Oversize } else { Runt });
    }
    let (dst, src) = (mac_at(b, 0), mac_at(b, 6));
    if !src.is_station() {
        return Err(SourceMacInvalid);
    }
    let mut tags = Vec::new();
    let mut at = 12;
    while matches!(u16_at(b, at), 0x8100 | 0x88a8) {
        if b.len() < at + 4 {
            return Err(Runt);
        }
        if tags.len() == 2 {
            return Err(VlanDepth);
        }
        if u16_at(b, at + 2) & 0xfff == 0xfff {
            return Err(VlanReserved);
        }
        tags.push((at, u16_at(b, at + 2)));
        at += 4;
        if b.len() < at + 2 {
            return Err(Runt);
        }
    }
    let mut ethertype = u16_at(b, at);
    let mut l3 = at + 2;
    let mut plain = true;
    if ethertype < 0x600 {
        ethertype = 0;
        if b.len() >= l3 + 8 && b[l3..l3 + 6] == [0xaa, 0xaa, 3, 0, 0, 0] && u16_at(b, l3 + 6) >= 0x600 {
            ethertype = u16_at(b, l3 + 6);
            l3 += 8;
            plain = false;
        }
    }
    let mut frame = Frame {
        octets: b,
        dst,
        src,
        tags,
        ethertype,
        ip: None,
        segments: 1,
        ip_octets: b.len() as u64,
        l2_octets: b.len() as u64,
        packet_max: 0,
        vnet: VnetHdr::PLAIN,
    };
    let p = &b[l3..];
    let mut l4 = None;
    match ethertype {
        0x0800 => {
            if p.len() < 20 || p[0] >> 4 != 4 || p[0] & 15 < 5 || usize::from(u16_at(p, 2)) < usize::from(p[0] & 15) * 4
            {
                return Err(Ipv4Header);
            }
            let (header, total) = (usize::from(p[0] & 15) * 4, usize::from(u16_at(p, 2)));
            if total > p.len() {
                return Err(Ipv4Length);
            }
            let fragment = u16_at(p, 6);
            let ports = transport(p[9], true, fragment & 0x1fff, fragment & 0x2000 != 0, &p[header..total])?;
            let address = |at: usize| u32::from_be_bytes(p[at..at + 4].try_into().unwrap());
            frame.ip = Some(Ip {
                v4: true,
                src: address(12),
                dst: address(16),
                protocol: p[9],
                dscp: p[1] >> 2,
                later_fragment: fragment & 0x1fff != 0,
                ports,
            });
            frame.packet_max = total as u64;
            frame.ip_octets = total as u64;
            if fragment & 0x3fff == 0 && plain {
                l4 = Some((p[9], header, total));
            }
        }
        0x86dd => {
            let (protocol, header, total, offset, more, extensions_plain) = ipv6(p)?;
            let ports = transport(protocol, false, offset, more, &p[header..total])?;
            let later_fragment = offset != 0;
            frame.ip = Some(Ip { v4: false, src: 0, dst: 0, protocol, dscp: 0, later_fragment, ports });
            frame.packet_max = total as u64;
            frame.ip_octets = total as u64;
            if extensions_plain && plain {
                l4 = Some((protocol, header, total));
            }
        }
        0x0806 if p.len() < 28 || p[..6] != [0, 1, 8, 0, 6, 4] => return Err(ArpMalformed),
        _ => {}
    }
    offload(&mut frame, vnet, l3, l4)?;
    Ok(frame)
}

fn ipv6(p: &[u8]) -> Result<(u8, usize, usize, u16, bool, bool), DropReason> {
    if p.len() < 40 || p[0] >> 4 != 6 {
        return Err(Ipv6Header);
    }
    let total = 40 + usize::from(u16_at(p, 4));
    if total > p.len() {
        return Err(Ipv6Length);
    }
    let (mut next, mut at, mut count, mut plain, mut offset, mut more) = (p[6], 40, 0, true, 0, false);
    while [0, 43, 44, 51, 60, 135, 139, 140].contains(&next) && offset == 0 {
        count += 1;
        let length = if at + 8 > total {
            usize::MAX
        } else {
            match next {
                44 => 8,
                51 => 8 + 4 * usize::from(p[at + 1]),
                _ => 8 + 8 * usize::from(p[at + 1]),
            }
        };
        if count > 8 || length > total - at.min(total) {
            return Err(Ipv6Extensions);
        }
        if next == 44 {
            offset = u16_at(p, at + 2) >> 3;
            more = p[at + 3] & 1 == 1;
        }
        plain &= [0, 43, 60].contains(&next);
        next = p[at];
        at += length;
    }
    Ok((next, at, total, offset, more, plain))
}

fn transport(protocol: u8, v4: bool, offset: u16, more: bool, s: &[u8]) -> Result<Option<(u16, u16)>, DropReason> {
    if offset > 0 {
        return if protocol == 6 && offset == 1 { Err(FragmentOverlap) } else { Ok(None) };
    }
    let short = if more { FragmentTiny } else { L4Header };
    match (protocol, v4) {
        (6, _) if s.len() < 20 => Err(short),
        (6, _) if s[12] >> 4 < 5 => Err(L4Header),
        (6, _) if usize::from(s[12] >> 4) * 4 > s.len() => Err(short),
        (17, _) if s.len() < 8 => Err(short),
        (17, _) if u16_at(s, 4) < 8 || (!more && usize::from(u16_at(s, 4)) > s.len()) => Err(L4Header),
        (6 | 17, _) => Ok(Some((u16_at(s, 0), u16_at(s, 2)))),
        (1, true) if s.len() < 8 => Err(short),
        (58, false) if s.len() < 4 => Err(short),
        (1, true) | (58, false) => Ok(Some((0, u16_at(s, 0)))),
        _ => Ok(None),
    }
}

fn offload(frame: &mut Frame<'_>, said: &VnetHdr, l3: usize, l4: Option<(u8, usize, usize)>) -> Result<(), DropReason> {
    let (needs, gso) = (said.flags & 1 != 0, said.gso_type != 0);
    if !needs && !gso {
        return Ok(());
    }
    let Some((protocol @ (6 | 17), l3_header, total)) = l4 else { return Err(OffloadInvalid) };
    let offset = if protocol == 6 { 16 } else { 6 };
    if !needs || usize::from(said.csum_start) != l3 + l3_header || said.csum_offset != offset {
        return Err(OffloadInvalid);
    }
    frame.vnet = VnetHdr { flags: 1, csum_start: said.csum_start, csum_offset: offset, ..VnetHdr::PLAIN };
    if !gso {
        return Ok(());
    }
    let v4 = frame.ip.unwrap().v4;
    let fits = match said.gso_type {
        1 | 0x81 => v4 && protocol == 6,
        4 | 0x84 => !v4 && protocol == 6,
        5 => protocol == 17,
        _ => false,
    };
    let l4_header = if protocol == 6 { usize::from(frame.octets[l3 + l3_header + 12] >> 4) * 4 } else { 8 };
    let payload = total - l3_header - l4_header;
    let size = usize::from(said.gso_size);
    // Datagrams may be short: their number is bounded below.
    let least = if protocol == 17 { 1 } else { 64 };
    if !fits || size < least || frame.octets.len() != l3 + total {
        return Err(OffloadInvalid);
    }
    let segments = payload.div_ceil(size).max(1);
    if protocol == 17 && segments > 128 {
        return Err(OffloadInvalid);
    }
    frame.segments = segments as u64;
    frame.ip_octets = (payload + segments * (l3_header + l4_header)) as u64;
    frame.l2_octets = (payload + segments * (l3 + l3_header + l4_header)) as u64;
    frame.packet_max = (l3_header + l4_header + payload.min(size)) as u64;
    frame.vnet.gso_type = said.gso_type;
    frame.vnet.gso_size = said.gso_size;
    frame.vnet.hdr_len = (l3 + l3_header + l4_header) as u16;
    Ok(())
}
