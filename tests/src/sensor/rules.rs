//! From an outer frame to the inner one, as each detector goes.

use super::Sensor;
use crate::frames;

/// Most VLAN layers that Suricata takes (`VLAN_MAX_LAYERS`).
const LAYERS_MAX: usize = 3;
const IPV4: u16 = 0x0800;
const GRE: u8 = 47;
const ERSPAN: u16 = 0x88be;
const ERSPAN_III: u16 = 0x22eb;
const SEQUENCE: u16 = 0x1000;
const ETHERNET: usize = 14;

/// An inner frame, as far as the detector has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inner<'a> {
    /// VLAN layers that the detector knows of, the outer one first.
    pub vlans: Vec<u16>,
    /// The whole frame.
    pub frame: &'a [u8],
    /// EtherType behind the tags.
    pub ethertype: u16,
    /// What is behind it.
    pub payload: &'a [u8],
    /// The header says that the copy was cut.
    pub truncated: bool,
}

type Outcome<'a> = Result<Inner<'a>, &'static str>;

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*octets.get(at..)?.first_chunk()?))
}

/// Follows a detector into an outer frame.
///
/// # Errors
/// It does not come to an inner frame; why.
pub fn decode(sensor: Sensor, outer: &[u8]) -> Outcome<'_> {
    let (_, ethertype, packet) = frames::untag(outer).ok_or("outer frame is cut short")?;
    if ethertype != IPV4 {
        return Err("outer packet is not IPv4");
    }
    let (Some(first), Some(total), Some(fragment)) = (packet.first(), u16_at(packet, 2), u16_at(packet, 6)) else {
        return Err("outer packet is cut short");
    };
    let (header, total) = (usize::from(first & 15) * 4, usize::from(total));
    if first >> 4 != 4 || header < 20 || total < header || total > packet.len() {
        return Err("outer packet is cut short");
    }
    if fragment & 0x3fff != 0 {
        return Err("outer packet is a fragment, and has to be reassembled first");
    }
    if packet[9] != GRE {
        return Err("outer packet is not GRE");
    }
    let gre = &packet[header..total];
    match sensor {
        Sensor::Suricata => suricata(gre),
        Sensor::Zeek => zeek(gre),
    }
}

/// `DecodeGRE` and `DecodeERSPAN`.
fn suricata(gre: &[u8]) -> Outcome<'_> {
    let (Some(flags), Some(protocol)) = (u16_at(gre, 0), u16_at(gre, 2)) else { return Err("GRE_PKT_TOO_SMALL") };
    if flags & 7 != 0 {
        return Err("GRE_WRONG_VERSION");
    }
    if flags & 0x0700 != 0 {
        return Err("GRE_VERSION0_RECUR");
    }
    if flags & 0x00f8 != 0 {
        return Err("GRE_VERSION0_FLAGS");
    }
    if flags & 0x4000 != 0 {
        return Err("GRE routing: no ERSPAN has it");
    }
    let optional = [0x8000, 0x2000, SEQUENCE].into_iter().filter(|flag| flags & flag != 0).count();
    let Some(body) = gre.get(4 + 4 * optional..) else { return Err("GRE_VERSION0_HDR_TOO_BIG") };
    if protocol != ERSPAN {
        return Err("GRE protocol is not one that Suricata decodes");
    }
    if flags & SEQUENCE == 0 {
        // Taken for type I: what follows is a frame.
        return ethernet(Sensor::Suricata, Vec::new(), body, false);
    }
    let (Some(first), Some(second)) = (u16_at(body, 0), u16_at(body, 2)) else { return Err("ERSPAN_HEADER_TOO_SMALL") };
    let Some(frame) = body.get(8..) else { return Err("ERSPAN_HEADER_TOO_SMALL") };
    if first >> 12 != 1 {
        return Err("ERSPAN_UNSUPPORTED_VERSION");
    }
    let vlan = first & 0x0fff;
    let vlans = if vlan > 0 { vec![vlan] } else { Vec::new() };
    ethernet(Sensor::Suricata, vlans, frame, second & 0x0400 != 0)
}

/// `GREAnalyzer::AnalyzePacket`. The header's VLAN is not looked at.
fn zeek(gre: &[u8]) -> Outcome<'_> {
    let (Some(flags), Some(protocol)) = (u16_at(gre, 0), u16_at(gre, 2)) else { return Err("truncated_GRE") };
    if flags & 7 > 1 {
        return Err("unknown_gre_version");
    }
    if flags & 7 == 1 {
        return Err("egre_protocol_type");
    }
    let optional = [0x8000, 0x2000, SEQUENCE, 0x0080].into_iter().filter(|flag| flags & flag != 0).count();
    let header = 4 + 4 * optional;
    let erspan = match protocol {
        ERSPAN if flags & SEQUENCE != 0 => 8,
        ERSPAN => 0,
        // The last bit of the header says that a sub-header follows.
        ERSPAN_III => 12 + 8 * usize::from(gre.get(header + 11).is_some_and(|flags| flags & 1 == 1)),
        _ => return Err("GRE protocol is not ERSPAN"),
    };
    if gre.len() <= header + erspan + ETHERNET {
        return Err("truncated_GRE");
    }
    if flags & 0x4000 != 0 {
        return Err("gre_routing");
    }
    if flags & 0x0078 != 0 {
        return Err("unknown_gre_flags");
    }
    let truncated = erspan > 0 && gre[header + 2] & 4 != 0;
    ethernet(Sensor::Zeek, Vec::new(), &gre[header + erspan..], truncated)
}

/// The inner frame and its tags.
pub fn ethernet(sensor: Sensor, mut vlans: Vec<u16>, frame: &[u8], truncated: bool) -> Outcome<'_> {
    if frame.len() < ETHERNET {
        return Err("inner frame is shorter than an Ethernet header");
    }
    let (tags, ethertype, payload) = frames::untag(frame).ok_or("inner frame is cut short in a tag")?;
    vlans.extend(tags);
    if sensor == Sensor::Suricata && vlans.len() > LAYERS_MAX {
        return Err("VLAN_HEADER_TOO_MANY_LAYERS");
    }
    Ok(Inner { vlans, frame, ethertype, payload, truncated })
}
