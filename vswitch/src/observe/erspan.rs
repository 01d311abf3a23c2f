//! ERSPAN: mirrored frames in GRE over IPv4 or IPv6, written and read; octets in, octets out.
//!
//! ```text
//!   Ethernet │ IPv4 20 or IPv6 40 │ GRE 4 or 8 │ ERSPAN 0, 8 or 12 │ sub-header 0 or 8 │ the mirrored frame, without FCS
//!            └──────────────── written by `Encapsulation::write`, read by `Received::read` ───────────────────
//! ```
//!
//! | type | GRE flags, protocol | ERSPAN header | sent |
//! |---|---|---|---|
//! | I | 0x0000, 0x88be | none | no |
//! | II | 0x1000 (sequence), 0x88be | 8 octets, version 1 | by default: what Suricata reads |
//! | II, between modules | 0x3000 (key, sequence), 0x88be | 8 octets, version 1 | by a relayed session |
//! | III | 0x1000 (sequence), 0x22eb | 12 octets, version 2; 20 with a sub-header | when asked for |
//!
//! * **The VLAN** of a copy stands in the header: that of the tag, which is then taken out of the frame, or that of the
//!   access port. Readers that put the header's VLAN in front of the frame would else see the tag twice. With `keep-tag`
//!   the frame keeps its tag and the header has none.
//! * **Time** of type III is that of the wall clock, in the unit that the header names: 32 bits of 100 us come round after
//!   five days, of 100 ns after seven minutes. With IEEE 1588 the header has the nanoseconds, a sub-header the seconds.
//! * **What is read** comes from the network, and nothing in it is believed: [`Refused`] says which rule was broken. Bits
//!   that are reserved are not looked at, as the draft demands.
//!
//! Formats: draft-foschiano-erspan-03; RFC 2784 and 2890 (GRE). The sub-header of the Nexus 1000V (platform 1) holds the
//! domain of the switch and the port. Pure functions, for any thread; they neither allocate nor read a clock.

mod decode;
mod encode;

pub use decode::{Received, Refused, TagSeen, TypeSeen};
pub use encode::{Encapsulation, Sighting, Tag};

/// Most octets in front of a frame: IPv6, GRE with sequence, type III with a sub-header.
pub const HEADERS_MAX: usize = IPV6 + 8 + 12 + SUB_HEADER;
/// Largest session id, a field of ten bits.
pub const SESSION_MAX: u16 = 1023;
/// Protocol number of GRE in IPv4.
pub const PROTOCOL_GRE: u8 = 47;

const IPV4: usize = 20;
const IPV6: usize = 40;
const SUB_HEADER: usize = 8;
/// Octets of the shortest frame: an Ethernet header.
const FRAME_MIN: usize = 14;
/// GRE protocol of types I and II.
const GRE_II: u16 = 0x88be;
/// GRE protocol of type III.
const GRE_III: u16 = 0x22eb;
/// GRE flag: a sequence number follows (RFC 2890 clause 2).
const GRE_SEQUENCE: u16 = 0x1000;
/// GRE flag: a key follows (RFC 2890 clause 2).
const GRE_KEY: u16 = 0x2000;
const KEY: usize = 4;
const VERSION_II: u8 = 1;
const VERSION_III: u8 = 2;
const PLATFORM_N1KV: u8 = 1;
const PLATFORM_SECONDS: u8 = 3;

/// Which header a session sends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Form {
    /// Type II, with the port's number as index.
    #[default]
    Two,
    /// Type III.
    Three(Stamp),
    /// Type II with this GRE key, from module to module.
    Relay(u32),
}

/// What a type III header says of time, and in which sub-header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stamp {
    /// Units of 100 us, no sub-header.
    Micros100,
    /// Units of 100 ns, no sub-header.
    Nanos100,
    /// IEEE 1588: nanoseconds, with the seconds and the port in the sub-header of platform 3.
    Ieee1588,
    /// Units of 100 us, with the sub-header of the Nexus 1000V: this domain of the switch (12 bits) and the port.
    Nexus1000v(u16),
}

impl Form {
    /// Octets between the first behind the IP header and the frame's.
    pub fn behind_ip(self) -> usize {
        let behind_gre = match self {
            Form::Two => 8,
            Form::Relay(_) => KEY + 8,
            Form::Three(Stamp::Micros100 | Stamp::Nanos100) => 12,
            Form::Three(Stamp::Ieee1588 | Stamp::Nexus1000v(_)) => 12 + SUB_HEADER,
        };
        8 + behind_gre
    }
}

/// Where a frame was seen, relative to the switch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Direction {
    /// It came in.
    #[default]
    Ingress,
    /// It went out.
    Egress,
}

#[cfg(test)]
mod tests;
