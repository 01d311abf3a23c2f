//! The headers of a copy that is received.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proto::addr::VlanId;

use super::{
    Direction, FRAME_MIN, GRE_II, GRE_III, GRE_KEY, GRE_SEQUENCE, KEY, PLATFORM_N1KV, PLATFORM_SECONDS, PROTOCOL_GRE,
    SESSION_MAX, SUB_HEADER, VERSION_II, VERSION_III,
};
use crate::wire::ipv4::Ipv4;
use crate::wire::{u16_at, u32_at};

/// Why a packet is not taken for ERSPAN, in the order in which it is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Refused {
    /// The outer header is no IPv4 header, or says more than there is.
    #[error("outer IPv4 header is cut short or contradicts itself")]
    Ipv4,
    /// A fragment of an outer packet.
    #[error("outer packet is a fragment")]
    Fragment,
    /// Another protocol than GRE.
    #[error("outer packet is not GRE")]
    NotGre,
    /// A header ends before it is complete.
    #[error("GRE or ERSPAN header is cut short")]
    Short,
    /// A flag that ERSPAN does not have, another version of GRE, or type III without a sequence number.
    #[error("GRE flags are not those of ERSPAN")]
    GreFlags,
    /// GRE that carries something else.
    #[error("GRE protocol is not ERSPAN")]
    GreProtocol,
    /// The header's version is not that of its GRE protocol.
    #[error("version of the ERSPAN header is unknown")]
    Version,
    /// VLAN 4095.
    #[error("VLAN 4095 is reserved")]
    Vlan,
    /// What follows is no Ethernet frame: an ISL frame, or a packet without a link header.
    #[error("payload is not an Ethernet frame")]
    Payload,
    /// Shorter than an Ethernet header.
    #[error("mirrored frame is shorter than an Ethernet header")]
    Runt,
}

impl Refused {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Refused::Ipv4 => "ipv4-header",
            Refused::Fragment => "fragment",
            Refused::NotGre => "not-gre",
            Refused::Short => "header-short",
            Refused::GreFlags => "gre-flags",
            Refused::GreProtocol => "gre-protocol",
            Refused::Version => "erspan-version",
            Refused::Vlan => "vlan-reserved",
            Refused::Payload => "not-ethernet",
            Refused::Runt => "frame-short",
        }
    }

    /// All of them.
    pub const ALL: [Refused; 10] = [
        Refused::Ipv4,
        Refused::Fragment,
        Refused::NotGre,
        Refused::Short,
        Refused::GreFlags,
        Refused::GreProtocol,
        Refused::Version,
        Refused::Vlan,
        Refused::Payload,
        Refused::Runt,
    ];
}

/// The type of a header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TypeSeen {
    /// GRE alone.
    One,
    /// Version 1.
    Two,
    /// Version 2.
    Three,
}

/// What a header says of the tag of its frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TagSeen {
    /// Nothing (types I and III), or that there was none (type II).
    Unsaid,
    /// It was taken out.
    Removed,
    /// It is in the frame.
    Kept,
}

/// Flags of what comes from another module.
const KEYED: u16 = GRE_KEY | GRE_SEQUENCE;

/// A copy as it was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received<'a> {
    /// Source of the outer packet.
    pub source: IpAddr,
    /// Destination of the outer packet.
    pub destination: IpAddr,
    /// Type of the header.
    pub kind: TypeSeen,
    /// ERSPAN id, 0 to [`SESSION_MAX`]; type I has none, which is 0.
    pub session: u16,
    /// GRE key, which copies from another module have.
    pub key: Option<u32>,
    /// Number of the packet among those of its session; type I has none.
    pub sequence: Option<u32>,
    /// Tag control information of the header: the frame had this tag and does not have it any more, or it belongs to this
    /// VLAN. `None` when the header has no VLAN, or the frame has its tag.
    pub tci: Option<u16>,
    /// VLAN of the header, whatever became of the tag.
    pub vlan: Option<VlanId>,
    /// What became of the tag.
    pub tag: TagSeen,
    /// The copy ends before the frame did.
    pub truncated: bool,
    /// Which way it went, which type III says.
    pub direction: Option<Direction>,
    /// Number of the port: the index of type II, or from a sub-header that is known.
    pub port: Option<u32>,
    /// Time of type III in its unit; where a sub-header has the seconds, the time since 1970.
    pub time: Option<Duration>,
    /// The mirrored frame.
    pub frame: &'a [u8],
}

impl<'a> Received<'a> {
    /// Reads an outer packet from the first octet of its IPv4 header, as a raw socket gives it.
    ///
    /// # Errors
    /// It is not ERSPAN, or contradicts itself.
    pub fn read(packet: &'a [u8]) -> Result<Received<'a>, Refused> {
        let ip = Ipv4::read(packet).map_err(|_| Refused::Ipv4)?;
        if ip.more || ip.offset != 0 {
            return Err(Refused::Fragment);
        }
        if ip.protocol != PROTOCOL_GRE {
            return Err(Refused::NotGre);
        }
        let gre = packet.get(ip.header..ip.total).ok_or(Refused::Ipv4)?;
        let (source, destination) = (Ipv4Addr::from(ip.src), Ipv4Addr::from(ip.dst));
        Self::read_gre(source.into(), destination.into(), gre)
    }

    /// Reads what is behind the IP header of a packet from `source` to `destination`, as a raw socket gives it of IPv6.
    ///
    /// # Errors
    /// It is not ERSPAN, or contradicts itself.
    pub fn read_gre(source: IpAddr, destination: IpAddr, gre: &'a [u8]) -> Result<Received<'a>, Refused> {
        let (Some(flags), Some(protocol)) = (u16_at(gre, 0), u16_at(gre, 2)) else { return Err(Refused::Short) };
        let blank = Received {
            source,
            destination,
            kind: TypeSeen::One,
            session: 0,
            key: None,
            sequence: None,
            tci: None,
            vlan: None,
            tag: TagSeen::Unsaid,
            truncated: false,
            direction: None,
            port: None,
            time: None,
            frame: &[],
        };
        // No checksum or routing, a key from another module alone, and version 0 (RFC 2784 clause 2.3).
        let read = match (protocol, flags) {
            (GRE_II, 0) => blank.framed(gre, 4)?,
            (GRE_II, GRE_SEQUENCE) => blank.type_two(gre)?,
            (GRE_II, KEYED) => {
                let key = Some(u32_at(gre, 4).ok_or(Refused::Short)?);
                Received { key, ..blank }.type_two(gre.get(KEY..).ok_or(Refused::Short)?)?
            }
            (GRE_III, GRE_SEQUENCE) => blank.type_three(gre)?,
            (GRE_II | GRE_III, _) => return Err(Refused::GreFlags),
            _ => return Err(Refused::GreProtocol),
        };
        Ok(read)
    }

    fn framed(mut self, gre: &'a [u8], at: usize) -> Result<Self, Refused> {
        self.frame = gre.get(at..).ok_or(Refused::Short)?;
        if self.frame.len() < FRAME_MIN { Err(Refused::Runt) } else { Ok(self) }
    }

    /// Sequence number and the first word, which both types have; the two bits between class of service and T.
    fn begin(&mut self, gre: &[u8], kind: TypeSeen, version: u8) -> Result<u16, Refused> {
        let (Some(sequence), Some(high), Some(low)) = (u32_at(gre, 4), u16_at(gre, 8), u16_at(gre, 10)) else {
            return Err(Refused::Short);
        };
        if high >> 12 != u16::from(version) {
            return Err(Refused::Version);
        }
        let vlan = high & 0x0fff;
        if vlan == 0x0fff {
            return Err(Refused::Vlan);
        }
        self.kind = kind;
        self.sequence = Some(sequence);
        self.session = low & SESSION_MAX;
        self.truncated = low & 0x0400 != 0;
        self.tci = (vlan != 0).then_some(low & 0xe000 | vlan);
        self.vlan = VlanId::new(vlan);
        Ok(low >> 11 & 3)
    }

    fn type_two(mut self, gre: &'a [u8]) -> Result<Self, Refused> {
        match self.begin(gre, TypeSeen::Two, VERSION_II)? {
            1 => return Err(Refused::Payload),
            // The tag is in the frame; the header only repeats it.
            3 => (self.tci, self.tag) = (None, TagSeen::Kept),
            2 => self.tag = TagSeen::Removed,
            _ => {}
        }
        self.port = Some(u32_at(gre, 12).ok_or(Refused::Short)? & 0xf_ffff);
        self.framed(gre, 16)
    }

    fn type_three(mut self, gre: &'a [u8]) -> Result<Self, Refused> {
        self.begin(gre, TypeSeen::Three, VERSION_III)?;
        let (Some(time), Some(flags)) = (u32_at(gre, 12), u16_at(gre, 18)) else { return Err(Refused::Short) };
        if flags >> 10 & 31 != 0 {
            return Err(Refused::Payload);
        }
        self.direction = Some(if flags & 8 == 0 { Direction::Ingress } else { Direction::Egress });
        let granularity = flags >> 1 & 3;
        self.time = match granularity {
            0 => Some(Duration::from_micros(u64::from(time) * 100)),
            1 => Some(Duration::from_nanos(u64::from(time) * 100)),
            2 => Some(Duration::from_nanos(time.into())),
            _ => None,
        };
        if flags & 1 == 0 {
            return self.framed(gre, 20);
        }
        let (Some(first), Some(second)) = (u32_at(gre, 20), u32_at(gre, 24)) else { return Err(Refused::Short) };
        match (first >> 26) as u8 {
            PLATFORM_N1KV => self.port = Some(second),
            PLATFORM_SECONDS => {
                self.port = Some(first & 0x3fff);
                if granularity == 2 {
                    self.time = Some(Duration::new(second.into(), 0) + Duration::from_nanos(time.into()));
                }
            }
            _ => {}
        }
        self.framed(gre, 20 + SUB_HEADER)
    }
}
