//! Ethernet II, IEEE 802.3 with LLC/SNAP, and up to two VLAN tags (IEEE 802.1Q clause 9).
//!
//! A SNAP header with OUI 0 is seen through, so that a packet hidden behind one is judged as the packet that it is.

use proto::addr::MacAddr;

use super::{array_at, u16_at};
use crate::verdict::DropReason;

/// EtherType of a customer tag.
pub const TPID_C: u16 = 0x8100;
/// EtherType of a service tag.
pub const TPID_S: u16 = 0x88a8;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// Octets of both addresses.
pub const ADDRESSES: usize = 12;
/// Octets of a VLAN tag.
pub const TAG: usize = 4;

/// Below this the type field is a length (IEEE 802.3 clause 3.2.6).
const TYPE_MIN: u16 = 0x0600;
const VID: u16 = 0x0fff;
const VID_RESERVED: u16 = 0x0fff;

/// The link layer of a frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ethernet {
    /// Destination address.
    pub dst: [u8; 6],
    /// Source address, that of a station.
    pub src: [u8; 6],
    /// VLAN tags, 0-2.
    pub tags: u8,
    /// Tag control information of the outer tag.
    pub outer: u16,
    /// Tag control information of the inner tag.
    pub inner: u16,
    /// EtherType behind the tags; 0 for 802.3 without SNAP.
    pub ethertype: u16,
    /// Offset of what `ethertype` names.
    pub payload: usize,
    /// `ethertype` is that of a SNAP header.
    pub snap: bool,
}

impl Ethernet {
    /// Reads a frame from its first octet. A frame of length 0 is one that the device cut.
    #[inline(always)]
    pub fn read(frame: &[u8]) -> Result<Self, DropReason> {
        let (Some(dst), Some(src), Some(ethertype)) =
            (array_at(frame, 0), array_at(frame, 6), u16_at(frame, ADDRESSES))
        else {
            return Err(if frame.is_empty() { DropReason::Oversize } else { DropReason::Runt });
        };
        if !MacAddr(src).is_station() {
            return Err(DropReason::SourceMacInvalid);
        }
        let mut link =
            Ethernet { dst, src, tags: 0, outer: 0, inner: 0, ethertype, payload: ADDRESSES + 2, snap: false };
        while matches!(link.ethertype, TPID_C | TPID_S) {
            link = link.untag(frame)?;
        }
        Ok(if link.ethertype < TYPE_MIN { link.see_through_snap(frame) } else { link })
    }

    // By value, as `see_through_snap`: a link that nothing points to stays in registers.
    #[inline(always)]
    fn untag(mut self, frame: &[u8]) -> Result<Self, DropReason> {
        let tci = u16_at(frame, self.payload).ok_or(DropReason::Runt)?;
        match self.tags {
            0 => self.outer = tci,
            1 => self.inner = tci,
            _ => return Err(DropReason::VlanDepth),
        }
        if tci & VID == VID_RESERVED {
            return Err(DropReason::VlanReserved);
        }
        self.tags += 1;
        self.ethertype = u16_at(frame, self.payload + 2).ok_or(DropReason::Runt)?;
        self.payload += TAG;
        Ok(self)
    }

    #[inline(always)]
    fn see_through_snap(mut self, frame: &[u8]) -> Self {
        self.ethertype = 0;
        if let Some([0xaa, 0xaa, 3, 0, 0, 0, t0, t1]) = array_at::<8>(frame, self.payload) {
            let ethertype = u16::from_be_bytes([t0, t1]);
            if ethertype >= TYPE_MIN {
                self.ethertype = ethertype;
                self.payload += 8;
                self.snap = true;
            }
        }
        self
    }

    /// VLAN id of the outer tag, 0 without one.
    pub fn outer_vid(&self) -> u16 {
        self.outer & VID
    }

    /// VLAN id of the inner tag, 0 without one.
    pub fn inner_vid(&self) -> u16 {
        self.inner & VID
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(behind: &[u8]) -> Vec<u8> {
        let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        f.extend_from_slice(behind);
        f
    }

    #[test]
    fn tags_are_walked_and_a_third_is_too_many() {
        let two = frame(&[0x88, 0xa8, 0x20, 5, 0x81, 0, 0, 7, 8, 0]);
        let link = Ethernet::read(&two).unwrap();
        assert_eq!((link.tags, link.outer_vid(), link.inner_vid(), link.ethertype, link.payload), (2, 5, 7, IPV4, 22));
        let three = frame(&[0x81, 0, 0, 5, 0x81, 0, 0, 7, 0x81, 0, 0, 9, 8, 0]);
        assert_eq!(Ethernet::read(&three).unwrap_err(), DropReason::VlanDepth);
        for cut in 14..22 {
            assert_eq!(Ethernet::read(&two[..cut]).unwrap_err(), DropReason::Runt, "{cut}");
        }
        assert_eq!(Ethernet::read(&frame(&[0x81, 0, 0x0f, 0xff, 8, 0])).unwrap_err(), DropReason::VlanReserved);
    }

    #[test]
    fn a_cut_frame_a_runt_and_a_group_source_are_told_apart() {
        assert_eq!(Ethernet::read(&[]).unwrap_err(), DropReason::Oversize);
        assert_eq!(Ethernet::read(&[2; 13]).unwrap_err(), DropReason::Runt);
        assert_eq!(Ethernet::read(&[1; 14]).unwrap_err(), DropReason::SourceMacInvalid);
        assert_eq!(Ethernet::read(&[0; 14]).unwrap_err(), DropReason::SourceMacInvalid);
    }

    #[test]
    fn snap_does_not_hide_a_packet() {
        let snap = frame(&[0, 40, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0]);
        let link = Ethernet::read(&snap).unwrap();
        assert_eq!((link.ethertype, link.payload), (IPV4, 22));
        let llc = frame(&[0, 40, 0x42, 0x42, 3, 0, 0, 0, 8, 0]);
        assert_eq!(Ethernet::read(&llc).unwrap().ethertype, 0);
    }
}
