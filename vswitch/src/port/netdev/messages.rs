//! Whole batches from and to a packet socket with one system call: `recvmmsg` and `sendmmsg`.
//!
//! The arrays that these work on are taken once and filled anew for each call. Threads: one owner.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::frame::vnet::VnetHdr;
use crate::frame::{BATCH, Buffer, TxFrame};
use crate::port::BATCH_OCTETS;

/// Octets of the virtio header that PACKET_VNET_HDR uses: without `num_buffers`.
const HEADER_LEN: usize = 10;

/// Control octets of a received frame: one `tpacket_auxdata` behind its header, in words for alignment.
const CONTROL_WORDS: usize = 8;

/// What `recvmmsg` and `sendmmsg` work on.
pub struct Messages {
    headers: [[u8; HEADER_LEN]; BATCH],
    controls: [[u64; CONTROL_WORDS]; BATCH],
    parts: [[libc::iovec; 3]; BATCH],
    messages: [libc::mmsghdr; BATCH],
    /// Octets of a frame of the last batch that was received, on average.
    usual: usize,
}

// SAFETY: the pointers inside are written anew before each system call and not followed after it.
unsafe impl Send for Messages {}

impl Messages {
    /// Arrays for a batch.
    pub fn new() -> Box<Messages> {
        // SAFETY: all-zero is a value of these structs of integers and raw pointers.
        Box::new(unsafe { zeroed() })
    }

    /// `recvmmsg` into the buffers, from the front, and how many were filled: [`BATCH_OCTETS`] if they are like those before.
    ///
    /// # Errors
    /// Of the system call; nothing was received.
    pub fn receive(&mut self, fd: &OwnedFd, buffers: &mut [Buffer]) -> io::Result<usize> {
        let most = (BATCH_OCTETS / self.usual.max(1)).clamp(1, BATCH);
        let wanted = buffers.len().min(most);
        let buffers = buffers.get_mut(..wanted).unwrap_or_default();
        let places = self.messages.iter_mut().zip(&mut self.parts).zip(&mut self.headers).zip(&mut self.controls);
        for ((((message, parts), header), control), buffer) in places.zip(buffers.iter_mut()) {
            let room = buffer.room();
            let [first, second, _] = parts;
            *first = libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: header.len() };
            *second = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            message.msg_hdr.msg_iov = parts.as_mut_ptr();
            message.msg_hdr.msg_iovlen = 2;
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = size_of_val(control) as _;
            message.msg_hdr.msg_flags = 0;
        }
        let (list, none) = (self.messages.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: the first `wanted` messages were just filled with pointers into `self` and the buffers, all borrowed
        // for this call, and lengths to match.
        let got = unsafe { libc::recvmmsg(fd.as_raw_fd(), list, wanted as _, libc::MSG_DONTWAIT as _, none) };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        let places = self.messages.iter().zip(&self.headers).zip(&self.controls);
        let mut octets = 0;
        for (((message, header), control), buffer) in places.zip(buffers).take(got) {
            let cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let len = usize::try_from(message.msg_len).unwrap_or(0).saturating_sub(HEADER_LEN);
            octets += len;
            let mut whole = [0; HEADER_LEN + 2];
            if let Some(place) = whole.first_chunk_mut() {
                *place = *header;
            }
            buffer.vnet = VnetHdr::read(&whole);
            buffer.set_len(if cut { 0 } else { len });
            if let Some(tag) = stripped_tag(control, message.msg_hdr.msg_controllen as _) {
                buffer.insert_tag(tag);
            }
        }
        self.usual = octets.checked_div(got).unwrap_or(0);
        Ok(got)
    }

    /// `sendmmsg` from the frames, and how many the kernel took.
    ///
    /// # Errors
    /// Of the first frame; none was sent.
    pub fn send(&mut self, fd: &OwnedFd, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        let wanted = frames.len().min(BATCH);
        let places = self.messages.iter_mut().zip(&mut self.parts).zip(&mut self.headers);
        for (((message, parts), header), frame) in places.zip(frames) {
            let whole = frame.vnet.write();
            if let Some(short) = whole.first_chunk() {
                *header = *short;
            }
            let part =
                |octets: &[u8]| libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
            *parts = [part(header), part(frame.head), part(frame.rest)];
            message.msg_hdr.msg_iov = parts.as_mut_ptr();
            message.msg_hdr.msg_iovlen = 3;
            message.msg_hdr.msg_control = std::ptr::null_mut();
            message.msg_hdr.msg_controllen = 0;
            message.msg_hdr.msg_flags = 0;
        }
        let list = self.messages.as_mut_ptr();
        // SAFETY: the first `wanted` messages were just filled with pointers into `self` and the frames, all borrowed for
        // this call, and lengths to match; sending writes through none of them but `msg_len`.
        let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), list, wanted as _, libc::MSG_DONTWAIT as _) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// The VLAN tag that the kernel took out of a frame: `control` holds one `cmsghdr` with a `tpacket_auxdata`.
fn stripped_tag(control: &[u64; CONTROL_WORDS], len: usize) -> Option<[u8; 4]> {
    const AUXDATA: usize = size_of::<libc::tpacket_auxdata>();
    // SAFETY: CMSG_LEN computes from its argument alone.
    let (whole, begin) = unsafe { (libc::CMSG_LEN(AUXDATA as _) as usize, libc::CMSG_LEN(0) as usize) };
    if len < whole || size_of_val(control) < whole {
        return None;
    }
    let base: *const u8 = control.as_ptr().cast();
    // SAFETY: `control` is aligned for and longer than a `cmsghdr` and, `begin` octets on, a `tpacket_auxdata`, both
    // structs of integers, read without regard to alignment.
    let (header, auxdata) = unsafe {
        let auxdata: libc::tpacket_auxdata = base.add(begin).cast::<libc::tpacket_auxdata>().read_unaligned();
        (base.cast::<libc::cmsghdr>().read_unaligned(), auxdata)
    };
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA)
        || auxdata.tp_status & libc::TP_STATUS_VLAN_VALID == 0
    {
        return None;
    }
    let told = auxdata.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let [p0, p1] = if told { auxdata.tp_vlan_tpid } else { 0x8100 }.to_be_bytes();
    let [t0, t1] = auxdata.tp_vlan_tci.to_be_bytes();
    Some([p0, p1, t0, t1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_octets_that_are_no_tag_give_none() {
        assert_eq!(stripped_tag(&[0; CONTROL_WORDS], 0), None);
        assert_eq!(stripped_tag(&[0; CONTROL_WORDS], 64), None);
        assert_eq!(stripped_tag(&[u64::MAX; CONTROL_WORDS], 64), None);
    }
}
