//! The tag that a frame leaves with.
//!
//! An access port sends without the outer tag. A trunk sends its native VLAN untagged and all others tagged. A frame with a
//! second tag keeps an outer one even in the native VLAN: without it the second would be taken for the VLAN, which is how
//! double-tagged frames hop VLANs. A tag that is already right stays, with its priority and its type.

use proto::addr::VlanId;
use proto::vlan::PortMode;

use crate::frame::TxFrame;
use crate::frame::vnet::VnetHdr;
use crate::parse::Parsed;
use crate::snapshot::PortPolicy;
use crate::wire::ethernet::{ADDRESSES, TAG, TPID_C};
use crate::wire::{array_at, u16_at};

/// What becomes of the outer tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rewrite {
    /// The frame leaves as it came.
    Keep,
    /// A tag is put in front.
    Push(u16),
    /// The outer tag is taken away.
    Pop,
    /// The outer tag becomes this one.
    Replace(u16),
}

/// The tag of a frame of `vlan` that leaves by `to`.
pub fn rewrite(to: &PortPolicy, vlan: VlanId, frame: &Parsed) -> Rewrite {
    let untagged = match &to.config.mode {
        PortMode::Access(_) => true,
        PortMode::Trunk { native, .. } => *native == vlan && frame.tags < 2,
    };
    match (untagged, frame.tags) {
        (true, 0) => Rewrite::Keep,
        (true, _) => Rewrite::Pop,
        (false, _) => tagged(vlan, frame),
    }
}

/// The frame with the tag of its VLAN.
pub fn tagged(vlan: VlanId, frame: &Parsed) -> Rewrite {
    match frame.tags {
        0 => Rewrite::Push(vlan.get()),
        _ if frame.key.outer_vid == vlan.get() => Rewrite::Keep,
        _ => Rewrite::Replace(frame.tci & 0xf000 | vlan.get()),
    }
}

/// The private front of an outgoing frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head {
    octets: [u8; ADDRESSES + TAG],
    len: u8,
    /// Octets of the received frame that it stands for.
    replaces: u8,
}

impl Rewrite {
    /// Octets that a frame gains or loses.
    pub fn growth(self) -> i16 {
        match self {
            Rewrite::Keep | Rewrite::Replace(_) => 0,
            Rewrite::Push(_) => TAG as i16,
            Rewrite::Pop => -(TAG as i16),
        }
    }

    /// The front that makes `frame`, as received, leave as asked.
    #[inline]
    pub fn head(self, frame: &[u8]) -> Head {
        match self {
            Rewrite::Keep => Head::NONE,
            _ => self.changed(frame),
        }
    }

    fn changed(self, frame: &[u8]) -> Head {
        let mut head = Head::default();
        let (replaces, tag) = match self {
            Rewrite::Keep => (0, None),
            Rewrite::Push(tci) => (ADDRESSES, Some((TPID_C, tci))),
            Rewrite::Pop => (ADDRESSES + TAG, None),
            // The type of the tag stays.
            Rewrite::Replace(tci) => (ADDRESSES + TAG, Some((u16_at(frame, ADDRESSES).unwrap_or(TPID_C), tci))),
        };
        let Some((addresses, place)) = head.octets.split_first_chunk_mut::<ADDRESSES>() else { return head };
        *addresses = array_at(frame, 0).unwrap_or_default();
        head.len = ADDRESSES as u8;
        head.replaces = replaces as u8;
        if let (Some((tpid, tci)), Some(place)) = (tag, place.first_chunk_mut::<TAG>()) {
            *place = (u32::from(tpid) << 16 | u32::from(tci)).to_be_bytes();
            head.len += TAG as u8;
        }
        head
    }
}

impl Head {
    /// That of a frame which leaves as it came.
    pub const NONE: Head = Head { octets: [0; ADDRESSES + TAG], len: 0, replaces: 0 };

    /// The outgoing frame: this front, and the rest of `frame` as received.
    #[inline]
    pub fn with<'a>(&'a self, frame: &'a [u8], vnet: VnetHdr) -> TxFrame<'a> {
        TxFrame {
            head: self.octets.get(..self.len.into()).unwrap_or_default(),
            rest: frame.get(self.replaces.into()..).unwrap_or_default(),
            vnet,
            copy: false,
        }
    }
}
