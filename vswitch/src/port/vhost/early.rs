//! Rings that are enabled before features are taken.
//!
//! QEMU enables the rings of a network card as soon as it is connected (`SET_VRING_ENABLE`), long before the guest's driver
//! has chosen features. The specification lets it, since the protocol's own features are negotiated by then; the vhost crate
//! wants `SET_FEATURES` first and ends the connection. So this one message is taken here until features are there.

use std::os::fd::OwnedFd;

use rustix::net::{RecvFlags, SendFlags, recv, send};
use vhost::vhost_user::VhostUserBackendReqHandlerMut;

use super::device::Device;

/// Number of the message (vhost-user, "Front-end message types").
const SET_VRING_ENABLE: u32 = 18;
/// Flags of a header: version 1; this is an answer; an answer is wanted.
const VERSION: u32 = 0x1;
const REPLY: u32 = 0x4;
const NEED_REPLY: u32 = 0x8;
/// Octets of its body: number of the ring, and 0 or 1.
const BODY: u32 = 8;
/// Octets of header and body.
const WHOLE: usize = 20;

/// Takes the next message, which is there whole, if it is one of these. `false`: it is another, and still there.
///
/// # Errors
/// It names no ring of the device, or its answer can't be sent; the connection ends.
pub(super) fn take(socket: &OwnedFd, device: &mut Device) -> Result<bool, &'static str> {
    if device.has_protocol_features() {
        return Ok(false);
    }
    let mut message = [0u8; WHOLE];
    let peeked = recv(socket, &mut message[..], RecvFlags::PEEK | RecvFlags::DONTWAIT).map_or(0, |(_, seen)| seen);
    let words = message.as_chunks::<4>().0;
    let word = |at: usize| words.get(at).map_or(0, |word| u32::from_le_bytes(*word));
    if peeked < WHOLE || word(0) != SET_VRING_ENABLE || word(2) != BODY {
        return Ok(false);
    }
    let (flags, ring, enable) = (word(1), word(3), word(4));
    recv(socket, &mut message[..], RecvFlags::DONTWAIT).map_err(|_| "a message that is gone")?;
    let outcome = match enable {
        0 | 1 => device.set_vring_enable(ring, enable == 1).map_err(|_| "a queue that does not exist"),
        _ => Err("a ring that is neither enabled nor not"),
    };
    if flags & NEED_REPLY != 0 {
        let failed = u64::from(outcome.is_err());
        let header = [SET_VRING_ENABLE, VERSION | REPLY, BODY].map(u32::to_le_bytes);
        let answer = [header.as_flattened(), &failed.to_le_bytes()].concat();
        send(socket, &answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).map_err(|_| "an answer that is not taken")?;
    }
    outcome.map(|()| true)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use super::super::features::PROTOCOL_FEATURES;
    use super::super::shared::Shared;
    use super::*;

    fn message(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn rig() -> (UnixStream, OwnedFd, Device) {
        let (front, back) = UnixStream::pair().unwrap();
        front.set_nonblocking(true).unwrap();
        (front, back.into(), Device::new(Arc::new(Shared::new(1))))
    }

    #[test]
    fn a_ring_is_enabled_before_features_are_there() {
        let (mut front, back, mut device) = rig();
        front.write_all(&message(&[18, VERSION, 8, 1, 1])).unwrap();
        assert_eq!(take(&back, &mut device), Ok(true));
        assert_eq!(take(&back, &mut device), Ok(false), "nothing is left");
        assert!(front.read(&mut [0; 20]).is_err(), "no answer was wanted");
        front.write_all(&message(&[18, VERSION | NEED_REPLY, 8, 0, 0])).unwrap();
        assert_eq!(take(&back, &mut device), Ok(true));
        let mut answer = [0; 20];
        front.read_exact(&mut answer).unwrap();
        assert_eq!(answer.to_vec(), message(&[18, VERSION | REPLY, 8, 0, 0]));
    }

    #[test]
    fn other_messages_and_later_ones_stay() {
        let (mut front, back, mut device) = rig();
        front.write_all(&message(&[1, VERSION, 0])).unwrap();
        assert_eq!(take(&back, &mut device), Ok(false));
        let (mut front, back, mut device) = rig();
        device.set_features(PROTOCOL_FEATURES).unwrap();
        front.write_all(&message(&[18, VERSION, 8, 0, 1])).unwrap();
        assert_eq!(take(&back, &mut device), Ok(false));
        assert_eq!(recv(&back, &mut [0; 32][..], RecvFlags::DONTWAIT).unwrap().1, WHOLE);
    }

    #[test]
    fn a_wrong_one_ends_the_connection() {
        for (ring, enable) in [(2, 1), (u32::MAX, 0), (0, 2)] {
            let (mut front, back, mut device) = rig();
            front.write_all(&message(&[18, VERSION | NEED_REPLY, 8, ring, enable])).unwrap();
            assert!(take(&back, &mut device).is_err());
            let mut answer = [0; 20];
            front.read_exact(&mut answer).unwrap();
            assert_eq!(answer.to_vec(), message(&[18, VERSION | REPLY, 8, 1, 0]));
        }
    }
}
