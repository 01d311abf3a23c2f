//! The super-frame of a group: its headers, and what its device is told of it.

use super::{Group, Plan};
use crate::frame::TxFrame;
use crate::frame::vnet::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHdr};
use crate::offload::{checksum, fold, put16};
use crate::wire::array_at;

/// Most octets of all headers of a joined frame: Ethernet with a tag, IPv6, and TCP with options.
pub const HEADERS_MAX: usize = 14 + 4 + 40 + 60;

/// The front of a super-frame; behind it come the payloads of the group's frames.
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    octets: [u8; HEADERS_MAX],
    len: usize,
    /// What the device is told.
    pub vnet: VnetHdr,
}

impl Joined {
    /// The headers, from the destination MAC address on.
    pub fn headers(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }
}

impl Plan {
    /// The front of the super-frame that `group` of `batch` becomes.
    pub fn join(&self, group: &Group, batch: &[TxFrame<'_>]) -> Option<Joined> {
        let piece = self.pieces.get(usize::from(group.first))?;
        let (first, last) = (batch.get(usize::from(group.first))?, batch.get(usize::from(group.last))?);
        let shift = first.head.len();
        let (l3, l4) = (shift + usize::from(piece.l3), shift + usize::from(piece.l4));
        let len = shift + usize::from(piece.payload);
        let mut octets = [0; HEADERS_MAX];
        octets.get_mut(..shift)?.copy_from_slice(first.head);
        octets.get_mut(shift..len)?.copy_from_slice(first.rest.get(..usize::from(piece.payload))?);

        let total = u16::try_from(piece.header_octets() + group.payload).ok()?;
        let l4_length = total.checked_sub(piece.l4 - piece.l3)?;
        if piece.v6 {
            put16(&mut octets, l3 + 4, l4_length)?;
        } else {
            put16(&mut octets, l3 + 2, total)?;
            put16(&mut octets, l3 + 10, 0)?;
            let value = checksum(octets.get(l3..l4)?);
            put16(&mut octets, l3 + 10, value)?;
        }
        if piece.tcp {
            // FIN and PSH are the last's; else all have the same.
            let [flags] = array_at(last.rest, usize::from(piece.l4) + 13)?;
            *octets.get_mut(l4 + 13)? = flags;
        } else {
            put16(&mut octets, l4 + 4, l4_length)?;
        }
        let seed = fold(piece.pseudo_sum(first, l4_length)?);
        put16(&mut octets, l4 + piece.checksum_offset(), seed)?;
        let vnet = VnetHdr {
            flags: NEEDS_CSUM,
            gso_type: match (piece.tcp, piece.v6) {
                (true, false) => GSO_TCPV4,
                (true, true) => GSO_TCPV6,
                (false, _) => GSO_UDP_L4,
            },
            hdr_len: len as u16,
            gso_size: piece.unit,
            csum_start: l4 as u16,
            csum_offset: piece.checksum_offset() as u16,
        };
        Some(Joined { octets, len, vnet })
    }

    /// The payloads of the frames of `group`, in order.
    pub fn payloads<'a>(&self, group: &Group, batch: &'a [TxFrame<'a>]) -> impl Iterator<Item = &'a [u8]> {
        let piece = self.pieces.get(usize::from(group.first)).copied().unwrap_or_default();
        group.frames(batch).map(move |frame| piece.payload_of(frame).unwrap_or_default())
    }
}
