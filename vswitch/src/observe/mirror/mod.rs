//! Monitor sessions: which frames are copied, and the thread that makes copies of them.
//!
//! ```text
//!  worker ── octets of the frame, once ──▶ ring ─┐   mirror thread:
//!  worker ─────────────────────────────▶ ring ─┴─▶ filter, sample, tag, cut, complete, truncate ──▶ destination ports
//!    no room: the copy is lost                        whatever does not take a copy loses it          remote hosts
//! ```
//!
//! * A received frame is copied as it was received, also when a judge then drops it; a sent frame as it was sent. Each
//!   session gets one copy of a frame, the first sighting, which is the received one. The road keeps the set of sessions
//!   that have had theirs. Of a flood, a sent copy is as the first port that took the frame sent it.
//! * To a destination trunk every copy goes with the tag of its VLAN, to a destination in access mode without: so both
//!   directions of a conversation look the same to an intrusion detector that keys on VLANs, and to a filter of libpcap,
//!   which sees them without. What was dropped before its VLAN was known has the tags that it came with.
//! * Copies are complete: checksums that the guest left to its device are computed, super-frames are cut into segments.
//!   A checksum that is wrong stays wrong.
//! * Production pays for one copy of the octets into a ring of its worker ([`outlet`]), whatever the sessions do with it and
//!   however slow their destinations are. All else is the mirror's ([`engine`]), a thread of its own. A destination that is
//!   full loses copies, which are counted with the reason ([`CopyLoss`]).
//! * Destinations take no other traffic and what they receive is dropped, so no copy is ever copied.
//!
//! * Remote destinations get ERSPAN ([`super::erspan`]), numbered in the order of sending; what was lost before leaves a gap.
//!   Where this host's packets pass through the switch, its own copies are not copied again.
//!
//! * Copies of other hosts come in by a socket of the mirror's ([`inlet`]) and go to destinations only ([`received`]).
//!
//! Threads: each worker writes its ring, the mirror reads them all. Batches of several workers are numbered, before their
//! frames leave, so that the mirror puts an answer behind its question although two workers have seen them.

mod copy;
pub mod engine;
pub mod filter;
pub mod inlet;
mod known;
pub mod outlet;
mod outs;
pub mod received;
pub mod remote;
pub mod ring;
mod spout;
pub(crate) mod stalled;
mod thread;

pub use engine::Mirror;

/// Octets of a worker's ring, which stay in its cache.
pub(crate) const RING_OCTETS: usize = 2 << 20;
/// Octets of all further rings, for bursts, that are used while the first have no room.
pub(crate) const SPILL_OCTETS: usize = 64 << 20;
/// Octets of each, at most.
pub(crate) const SPILL_MAX: usize = 32 << 20;

macro_rules! losses {
    ($($variant:ident = $name:literal, $meaning:literal;)*) => {
        /// Why a copy did not reach its destination.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum CopyLoss {
            $(#[doc = $meaning] $variant,)*
        }

        impl CopyLoss {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [CopyLoss] = &[$(CopyLoss::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// As it is shown.
            pub fn name(self) -> &'static str {
                match self {
                    $(CopyLoss::$variant => $name,)*
                }
            }

            /// In a sentence.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(CopyLoss::$variant => $meaning,)*
                }
            }
        }
    };
}

losses! {
    MirrorBusy = "mirror-busy", "the mirror had no room for it: more is copied than it can deliver";
    DestinationDown = "destination-down", "the port of the destination is shut down or has no device";
    DestinationFull = "destination-full", "the queue of the destination is full";
    DestinationError = "destination-error", "the destination refused it";
    TooLong = "too-long", "with its ERSPAN headers it is longer than the way to the destination takes";
    NoRoute = "no-route", "this host has no route to the destination";
    OffloadInvalid = "offload-invalid", "the frame can't be cut or completed as its device asked";
}
