//! How an existing device is driven: by packet sockets (AF_PACKET) or by AF_XDP.
//!
//! A packet socket takes every device and carries super-frames and unfinished checksums; AF_XDP carries small frames with
//! less work and cannot carry either. So AF_XDP is sound only where the device delivers each frame as it was on the wire:
//!
//! | device                    | `--driver xdp`                      | `auto`                                    |
//! |---------------------------|-------------------------------------|-------------------------------------------|
//! | network card, as uplink   | zero-copy, else native, else generic | AF_XDP if zero-copy works, else AF_PACKET |
//! | network card, as VM port  | the same                            | AF_PACKET                                 |
//! | veth                      | native: the kernel then stops the far end's super-frames | AF_PACKET            |
//! | tap, and everything else  | refused                             | AF_PACKET                                 |
//!
//! `auto` takes no copies: where the kernel copies anyhow, what is lost with super-frames is more than what is gained.
//!
//! What the device does to received frames (joining them, taking VLAN tags out) is switched off while AF_XDP drives it,
//! kept off should somebody switch it on, and put back on release. A device whose number of queues was changed is opened
//! again: frames of a queue without socket are lost. What it was like is stored with the attachment, so that
//! it is put back also after the agent was killed. The XDP program itself goes with the process.

use vswitch::port::Port;
use vswitch::port::netdev::Netdev;
use vswitch::port::xdp::{Mode, Xdp, ethtool};

use super::netlink::Link;
use super::{Error, system, unfit};
use crate::attach::{Attachment, Receiving};
use crate::request::Driver;

/// A device as it is driven.
pub struct Driven {
    /// For the dataplane.
    pub port: Box<dyn Port>,
    /// `packet`, or `xdp-` and the mode.
    pub name: String,
    /// What the device did to received frames before it was switched off.
    pub before: Option<Receiving>,
}

/// Opens an existing device as its attachment wants it, or as is best.
///
/// # Errors
/// The device can't be opened in that way. What was changed is changed back.
pub fn open(attachment: &Attachment, link: &Link) -> Result<Driven, Error> {
    let device = attachment.device.as_str();
    let modes: &[Mode] = match (attachment.driver.unwrap_or_default(), link.kind.as_deref()) {
        (Driver::Xdp, None) => &[Mode::ZeroCopy, Mode::Native, Mode::Generic],
        (Driver::Xdp, Some("veth")) => &[Mode::Native],
        (Driver::Xdp, Some(kind)) => {
            return Err(unfit(device, format!("is a {kind}: AF_XDP is for network cards and veths")));
        }
        (Driver::Auto, None) if attachment.card > 0 => &[Mode::ZeroCopy],
        (Driver::Auto | Driver::Packet, _) => return packet(device),
    };
    match (open_xdp(attachment, link, modes), attachment.driver) {
        (Ok(driven), _) => Ok(driven),
        (Err(error), Some(Driver::Xdp)) => Err(error),
        (Err(error), _) => {
            tracing::info!(device, %error, "not by AF_XDP");
            packet(device)
        }
    }
}

/// Lets the device do to received frames what it did before.
///
/// # Errors
/// The driver refuses.
pub fn undo(attachment: &Attachment) -> Result<(), Error> {
    match attachment.before.and_then(|before| before.receiving) {
        Some(before) => ethtool::set_receiving(&attachment.device, before.into())
            .map_err(system(&attachment.device, "put offloads back")),
        None => Ok(()),
    }
}

/// Switches off again what somebody may have switched on while AF_XDP drives the device.
///
/// # Errors
/// The driver refuses, or does not do as it was told.
pub fn keep(attachment: &Attachment) -> Result<(), Error> {
    let device = attachment.device.as_str();
    let off = ethtool::Receiving::default();
    let now = ethtool::receiving(device).map_err(system(device, "read offloads"))?;
    if now == off {
        return Ok(());
    }
    ethtool::set_receiving(device, off).map_err(system(device, "switch offloads off"))?;
    match ethtool::receiving(device).map_err(system(device, "read offloads"))? {
        now if now == off => Ok(()),
        now => Err(unfit(device, format!("does not stop changing received frames ({now:?})"))),
    }
}

/// How many queues the device has.
///
/// # Errors
/// The device is gone, or the system refuses.
pub fn queues(attachment: &Attachment) -> Result<ethtool::Queues, Error> {
    ethtool::queues(&attachment.device).map_err(system(&attachment.device, "read queues"))
}

fn packet(device: &str) -> Result<Driven, Error> {
    Ok(Driven { port: Box::new(Netdev::open(device)?), name: "packet".to_owned(), before: None })
}

fn open_xdp(attachment: &Attachment, link: &Link, modes: &[Mode]) -> Result<Driven, Error> {
    let device = attachment.device.as_str();
    let now = ethtool::receiving(device).map_err(system(device, "read offloads"))?;
    let before = attachment.before.and_then(|before| before.receiving).unwrap_or(now.into());
    let opened = keep(attachment).and_then(|()| Ok(Xdp::open(device, modes)?));
    match opened {
        Ok(port) => {
            if link.kind.is_some() {
                tracing::warn!(
                    device,
                    "tags of VLAN interfaces at the far end are lost unless it has 'ethtool -K DEVICE txvlan off'"
                );
            }
            let name = format!("xdp-{}", port.mode().name());
            Ok(Driven { port: Box::new(port), name, before: Some(before) })
        }
        Err(error) => {
            if let Err(error) = ethtool::set_receiving(device, before.into()) {
                tracing::warn!(device, %error, "offloads not put back");
            }
            Err(error)
        }
    }
}
