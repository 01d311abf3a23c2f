//! Captures: the frames of one port, as the switch sees them there.
//!
//! A capture is begun, read again and again, and stopped. One that nobody reads for [`SILENCE_S`] seconds ends by itself, so
//! a supervisor that goes away leaves nothing behind.

use minicbor::{Decode, Encode};

use crate::name::IfName;

/// Seconds after which a capture that is not read ends.
pub const SILENCE_S: u64 = 10;
/// Most captures of a host at a time.
pub const CAPTURES_MAX: usize = 8;
/// Octets of frames that one answer holds, about.
pub const READ_MAX: usize = 512 << 10;

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Wanted {
    /// The port.
    #[n(0)]
    pub port: IfName,
    /// Which frames: a program of classic BPF; empty for all.
    #[n(1)]
    pub filter: Vec<Insn>,
    /// Octets that are kept of each.
    #[n(2)]
    pub snap: u32,
}

/// An instruction of classic BPF.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Insn {
    /// What it does.
    #[n(0)]
    pub code: u16,
    /// Instructions to skip when its condition holds.
    #[n(1)]
    pub jt: u8,
    /// Instructions to skip when it does not.
    #[n(2)]
    pub jf: u8,
    /// Its constant.
    #[n(3)]
    pub k: u32,
}

/// What was seen since the last reading.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Captured {
    /// The capture.
    #[n(0)]
    pub id: u64,
    /// Frames, oldest first.
    #[n(1)]
    pub frames: Vec<Frame>,
    /// Frames that matched since the begin.
    #[n(2)]
    pub seen: u64,
    /// Frames of these that found no room.
    #[n(3)]
    pub lost: u64,
    /// Why nothing more comes.
    #[n(4)]
    pub ended: Option<String>,
}

/// A frame that was seen.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Frame {
    /// Nanoseconds since 1970.
    #[n(0)]
    pub at_ns: u64,
    /// It came from the port; else it was sent there.
    #[n(1)]
    pub received: bool,
    /// Its length.
    #[n(2)]
    pub length: u32,
    /// As much of it as was wanted.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub octets: Vec<u8>,
    /// Its headers in one line.
    #[n(4)]
    pub headers: String,
}
