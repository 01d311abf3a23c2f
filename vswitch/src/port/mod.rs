//! Ports: what moves frames between the switch and a device.
//!
//! | body       | device                                                            | offloads          |
//! |------------|-------------------------------------------------------------------|-------------------|
//! | `tap`      | a tap that we open, plain (tun-tap) or with vnet header (tun-rs)   | none / all        |
//! | `netdev`   | an existing tap, veth or NIC, by AF_PACKET with PACKET_VNET_HDR    | all               |
//! | `vhost`    | a guest's rings, by vhost-user                                    | what it asks for  |
//! | `xdp`      | an existing NIC or veth, by AF_XDP                                 | none              |
//! | `memory`   | two queues in memory                                              | as asked for      |
//! | `fault`    | another port, behind loss, corruption, truncation and reordering  | those of the other |
//! | `pcap`     | capture files                                                     | none              |
//!
//! Contract. A port belongs to one worker, other workers have handles of their own ([`Port::handles`]), and none of them ever
//! blocks: `rx` takes what is there, `tx` what there is room for. Both are called with whole batches, so that a body may use
//! one system call for many frames. A device that goes away makes
//! `rx` return [`Error::Gone`] for ever; the worker then stops polling it and says so. A frame that the device cuts short is
//! delivered with its length set to 0, which the road drops and counts as `oversize`: it is never forwarded in part.

pub mod arena;
pub mod datagram;
pub mod fault;
pub mod memory;
pub mod netdev;
pub mod pcap;
pub mod tap;
pub mod vhost;
pub mod xdp;

use std::os::fd::BorrowedFd;

use crate::frame::vnet::{GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VnetHdr};
use crate::frame::{Buffer, TxFrame};

/// Most ports of a VEM.
pub const PORTS_MAX: usize = 1024;

/// The dataplane's number of a port, below [`PORTS_MAX`]; the agent gives it out and may reuse it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(pub u16);

impl PortId {
    /// As an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a port takes on `tx` beyond plain, complete frames up to its MTU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloads {
    /// Frames whose transport checksum is not complete.
    pub csum: bool,
    /// TCP over IPv4 super-frames.
    pub tso4: bool,
    /// TCP over IPv6 super-frames.
    pub tso6: bool,
    /// UDP super-frames.
    pub uso: bool,
}

impl Offloads {
    /// Nothing: every frame complete and within the MTU.
    pub const NONE: Offloads = Offloads { csum: false, tso4: false, tso6: false, uso: false };
    /// Everything.
    pub const ALL: Offloads = Offloads { csum: true, tso4: true, tso6: true, uso: true };

    /// A port with these offloads takes a frame that is described so.
    pub fn cover(&self, vnet: &VnetHdr) -> bool {
        let segmented = match vnet.gso_type & !GSO_ECN {
            GSO_NONE => true,
            GSO_TCPV4 => self.tso4,
            GSO_TCPV6 => self.tso6,
            GSO_UDP_L4 => self.uso,
            _ => false,
        };
        segmented && (self.csum || !vnet.needs_csum())
    }
}

/// Why a port can't be opened or no longer works.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device does not exist, or exists and is not of the right kind.
    #[error("{device}: {what}")]
    Device {
        /// Its name.
        device: String,
        /// What is wrong with it.
        what: String,
    },
    /// A system call failed while the port was opened.
    #[error("{device}: {call}: {source}")]
    System {
        /// Name of the device.
        device: String,
        /// The call.
        call: &'static str,
        /// Its error.
        source: std::io::Error,
    },
    /// The device went away or was closed.
    #[error("the device is gone")]
    Gone,
    /// A capture file can't be read or written.
    #[error("capture file: {0}")]
    Capture(String),
}

/// What became of the frames given to [`Port::tx`]. They are taken from the front; the sum is at most their number, and
/// frames beyond the sum were not tried because the device was full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// The device took them.
    pub accepted: usize,
    /// The device refused them, one by one.
    pub refused: usize,
    /// Bit `i`: frame `i` was refused (of the first 64).
    pub refused_set: u64,
}

impl Sent {
    /// How many frames were dealt with; the index of the next one.
    pub fn total(&self) -> usize {
        self.accepted + self.refused
    }

    /// The next frame was refused.
    pub fn refuse(&mut self) {
        if let Some(bit) = u32::try_from(self.total()).ok().and_then(|shift| 1u64.checked_shl(shift)) {
            self.refused_set |= bit;
        }
        self.refused += 1;
    }
}

/// Octets that end a batch of a port whose frames may be super-frames: a batch of many would be out of the second-level cache
/// before it is written, and all others would wait for it.
pub(crate) const BATCH_OCTETS: usize = 128 << 10;

/// A port; see the module's contract.
pub trait Port: Send {
    /// Fills buffers from the front with frames that have arrived, and returns how many it filled.
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, Error>;

    /// Sends frames, at most [`crate::frame::BATCH`], in order.
    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent;

    /// What `tx` takes.
    fn offloads(&self) -> Offloads;

    /// Frames that the device lost before `rx` could take them, since the port was opened.
    fn missed(&mut self) -> u64 {
        0
    }

    /// Becomes readable when `rx` would return frames; `None` for a port that must be polled. The same descriptor for the
    /// whole life of the port.
    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// `rx` makes no system call when nothing has arrived: the worker asks it every turn while it is awake, and calls
    /// [`Port::arm`] before it sleeps. Else it asks only when [`Port::readiness`] says so.
    fn polls(&self) -> bool {
        false
    }

    /// The worker is about to sleep: from now on arrivals make [`Port::readiness`] readable, until the next `rx`. `true`
    /// when something has arrived already.
    fn arm(&mut self) -> bool {
        false
    }

    /// The handle has a queue to receive from. One that has none is never asked for frames, and says so for ever.
    fn receives(&self) -> bool {
        true
    }

    /// A further handle that only sends, for the mirror. It may be asked for at any time, and again after the one before was
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Device`] from a port that can't be sent to from elsewhere; [`Error::System`] when the system has none to give.
    fn sender(&mut self) -> Result<Box<dyn Port>, Error> {
        let what = "can't be the destination of a monitor session".to_owned();
        Err(Error::Device { device: "port".to_owned(), what })
    }

    /// Handles for `count` further workers. Each sends to the same device and receives from queues of its own, if the
    /// device has any left for it; a handle without a queue receives nothing, for ever, and says so by [`Port::receives`].
    ///
    /// # Errors
    /// [`Error::Device`] from a port that only one worker can use.
    fn handles(&mut self, count: usize) -> Result<Vec<Box<dyn Port>>, Error> {
        match count {
            0 => Ok(Vec::new()),
            _ => {
                let what = "can be used by one worker only".to_owned();
                Err(Error::Device { device: "port".to_owned(), what })
            }
        }
    }
}
