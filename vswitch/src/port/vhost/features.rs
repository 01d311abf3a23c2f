//! What is negotiated: virtio features (virtio 1.2, 5.1.3 and 6) and those of the vhost-user protocol.

use vhost::vhost_user::VhostUserProtocolFeatures;

use crate::port::Offloads;

/// The device completes checksums.
pub const CSUM: u64 = 1 << 0;
/// The guest takes frames whose checksum is not complete.
pub const GUEST_CSUM: u64 = 1 << 1;
/// The guest takes TCP super-frames over IPv4.
pub const GUEST_TSO4: u64 = 1 << 7;
/// The guest takes TCP super-frames over IPv6.
pub const GUEST_TSO6: u64 = 1 << 8;
/// The guest takes TCP super-frames with ECN.
pub const GUEST_ECN: u64 = 1 << 9;
/// The device takes TCP super-frames over IPv4.
pub const HOST_TSO4: u64 = 1 << 11;
/// The device takes TCP super-frames over IPv6.
pub const HOST_TSO6: u64 = 1 << 12;
/// The device takes TCP super-frames with ECN.
pub const HOST_ECN: u64 = 1 << 13;
/// A received frame may be in several chains.
pub const MRG_RXBUF: u64 = 1 << 15;
/// There is a control queue; the front end answers it.
pub const CTRL_VQ: u64 = 1 << 17;
/// Several queue pairs.
pub const MQ: u64 = 1 << 22;
/// The header needs no descriptor of its own (legacy).
pub const ANY_LAYOUT: u64 = 1 << 27;
/// Indirect tables of descriptors.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// Kicks and calls by index.
pub const EVENT_IDX: u64 = 1 << 29;
/// The vhost-user protocol has features of its own.
pub const PROTOCOL_FEATURES: u64 = 1 << 30;
/// Not legacy.
pub const VERSION_1: u64 = 1 << 32;
/// The guest takes UDP super-frames over IPv4.
pub const GUEST_USO4: u64 = 1 << 54;
/// The guest takes UDP super-frames over IPv6.
pub const GUEST_USO6: u64 = 1 << 55;
/// The device takes UDP super-frames.
pub const HOST_USO: u64 = 1 << 56;

/// Octets of the virtio header of a legacy guest without mergeable buffers.
pub const VNET_LEN_LEGACY: usize = 10;

/// What a port with `pairs` queue pairs offers to a guest.
pub fn offered(pairs: u16) -> u64 {
    let one = CSUM
        | GUEST_CSUM
        | GUEST_TSO4
        | GUEST_TSO6
        | GUEST_ECN
        | HOST_TSO4
        | HOST_TSO6
        | HOST_ECN
        | MRG_RXBUF
        | CTRL_VQ
        | ANY_LAYOUT
        | INDIRECT_DESC
        | EVENT_IDX
        | PROTOCOL_FEATURES
        | VERSION_1
        | GUEST_USO4
        | GUEST_USO6
        | HOST_USO;
    if pairs > 1 { one | MQ } else { one }
}

/// What we offer to its front end. The crate adds REPLY_ACK, which it answers itself; it has no messages for STATUS.
pub(super) fn offered_protocol() -> VhostUserProtocolFeatures {
    VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::RESET_DEVICE
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
}

/// What a guest with these features can be sent.
pub(super) fn offloads(features: u64) -> Offloads {
    let has = |wanted: u64| features & wanted == wanted;
    Offloads {
        csum: has(GUEST_CSUM),
        tso4: has(GUEST_CSUM | GUEST_TSO4),
        tso6: has(GUEST_CSUM | GUEST_TSO6),
        uso: has(GUEST_CSUM | GUEST_USO4 | GUEST_USO6),
    }
}
