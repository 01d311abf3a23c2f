//! A frame on its way to become copies: its tag, and what is left to do of segments, checksums and length.

use std::time::Duration;

use proto::addr::VlanId;

use super::CopyLoss;
use super::ring::{Head, NO_PORT, Run, Seen};
use crate::account::counters::SessionCells;
use crate::config::RemoteConfig;
use crate::egress::vlan::Rewrite;
use crate::frame::vnet::VnetHdr;
use crate::observe::erspan::{Direction, Form, Sighting, Tag};
use crate::offload::{complete_checksum, segment};
use crate::port::PortId;
use crate::snapshot::Snapshot;
use crate::wire::ethernet::{ADDRESSES, TPID_C, TPID_S};
use crate::wire::u16_at;

/// Memory to finish frames in.
pub(super) struct Room {
    pub whole: Vec<u8>,
    pub scratch: Vec<u8>,
}

/// A frame that was seen.
pub(super) struct Frame<'a> {
    pub head: &'a Head,
    pub octets: &'a [u8],
    pub length: usize,
    pub vnet: VnetHdr,
}

impl<'a> Frame<'a> {
    /// A frame of a run.
    #[inline]
    pub fn of(run: &Run<'a>, seen: &Seen<'a>) -> Self {
        Frame { head: run.head, octets: seen.octets, length: seen.length, vnet: run.head.vnet() }
    }

    /// What makes both directions of a conversation look the same: the tag of its VLAN comes off. A frame whose VLAN nobody
    /// has found stays as it was seen.
    pub fn bare(&self) -> Rewrite {
        match self.head.vlan() {
            Some(_) => outer_tag(self.octets).map_or(Rewrite::Keep, |_| Rewrite::Pop),
            None => self.head.seen(),
        }
    }

    /// What is done to its tag for a remote destination, and what the header says of it.
    pub fn told(&self, remote: &RemoteConfig, snapshot: &Snapshot, epoch: Duration) -> (Rewrite, Sighting) {
        let (vlan, tci) = (self.head.vlan(), outer_tag(self.octets));
        let vid = |tci: u16| vlan.map_or(tci, |vlan| tci & 0xf000 | vlan.get());
        let (rewrite, tag) = match (remote.keep_tag, tci) {
            _ if matches!(remote.encapsulation.form, Form::Relay(_)) => {
                // As a trunk gets it; a port in access mode gets it without that tag, where its VLAN is known.
                (vlan.map_or(Rewrite::Keep, |vlan| tagged(vlan, self.octets)), Tag::Whole(vlan, vlan.is_none()))
            }
            (true, _) if vlan.is_some() => (vlan.map_or(Rewrite::Keep, |vlan| tagged(vlan, self.octets)), Tag::Kept),
            (true, Some(_)) => (Rewrite::Keep, Tag::Kept),
            (false, Some(tci)) => (Rewrite::Pop, Tag::Removed(vid(tci))),
            (_, None) => (Rewrite::Keep, Tag::None(vlan)),
        };
        let (direction, port) = match self.head.out_port {
            NO_PORT => (Direction::Ingress, self.head.in_port),
            out => (Direction::Egress, out),
        };
        let time = epoch + Duration::from_nanos(self.head.at_ns);
        (rewrite, Sighting { tag, port: snapshot.number(PortId(port)), direction, truncated: false, time })
    }
}

impl Room {
    /// Shows `take` the copies of a frame, with `rewrite` done to its tag and of at most `most` octets, in parts, and whether
    /// they were cut short. What can't be made is lost.
    pub fn copies(
        &mut self,
        frame: &Frame<'_>,
        rewrite: Rewrite,
        most: usize,
        cells: &SessionCells,
        take: &mut dyn FnMut([&[u8]; 2], bool),
    ) {
        let front = rewrite.head(frame.octets);
        let view = front.with(frame.octets, frame.vnet.shifted(rewrite.growth()));
        if frame.vnet.asks_nothing() {
            let truncated = frame.length.saturating_add_signed(rewrite.growth().into()) > most;
            cells.truncated.add(truncated.into());
            let rest = view.rest.get(..most.saturating_sub(view.head.len())).unwrap_or(view.rest);
            return take([view.head, rest], truncated);
        }
        self.whole.clear();
        self.whole.extend_from_slice(view.head);
        self.whole.extend_from_slice(view.rest);
        let mut cut = |frame: &[u8]| {
            cells.truncated.add((frame.len() > most).into());
            take([&[], frame.get(..most).unwrap_or(frame)], frame.len() > most);
        };
        if self.finish(&view.vnet, &mut cut).is_err() {
            cells.lose(CopyLoss::OffloadInvalid, frame.head.segments.into());
        }
    }

    /// Completes or cuts the frame in `whole`, and shows what comes of it to `take`.
    fn finish(&mut self, vnet: &VnetHdr, take: &mut dyn FnMut(&[u8])) -> Result<(), crate::verdict::DropReason> {
        match vnet.is_gso() {
            true => segment(&self.whole, vnet, &mut self.scratch, take).map(drop),
            false => complete_checksum(&mut self.whole, vnet).map(|()| take(&self.whole)),
        }
    }
}

/// The tag control information of a frame's outer tag.
pub(super) fn outer_tag(frame: &[u8]) -> Option<u16> {
    match u16_at(frame, ADDRESSES) {
        Some(TPID_C | TPID_S) => u16_at(frame, ADDRESSES + 2),
        _ => None,
    }
}

/// What gives a frame the tag of its VLAN.
pub(super) fn tagged(vlan: VlanId, frame: &[u8]) -> Rewrite {
    match outer_tag(frame) {
        Some(tci) if tci & 0xfff == vlan.get() => Rewrite::Keep,
        Some(tci) => Rewrite::Replace(tci & 0xf000 | vlan.get()),
        None => Rewrite::Push(vlan.get()),
    }
}
