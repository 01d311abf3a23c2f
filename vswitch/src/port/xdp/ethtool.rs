//! Settings of a device by the ethtool ioctl: what AF_XDP needs to know and to switch off.
//!
//! The ioctl and not netlink, because these few questions are older than it and every driver answers them. A device that has
//! no such setting answers `EOPNOTSUPP`, which counts as off.

use std::io;
use std::mem::zeroed;
use std::os::fd::AsRawFd;

use crate::socket::open;

const GET_GRO: u32 = 0x2b;
const SET_GRO: u32 = 0x2c;
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const GET_CHANNELS: u32 = 0x3c;
/// `ETH_FLAG_RXVLAN`
const RX_VLAN: u32 = 1 << 8;
/// `ETH_FLAG_LRO`
const LRO: u32 = 1 << 15;

/// What a driver does to received frames that the XDP program could not see through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Receiving {
    /// Joins frames to super-frames, in software.
    pub gro: bool,
    /// Joins frames to super-frames, in hardware.
    pub lro: bool,
    /// Takes the VLAN tag out.
    pub vlan: bool,
}

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_channels`
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// Reads the settings of a device of the calling thread's namespace.
///
/// # Errors
/// There is no such device, or the system refuses.
pub fn receiving(device: &str) -> io::Result<Receiving> {
    let flags = get(device, GET_FLAGS)?;
    Ok(Receiving { gro: get(device, GET_GRO)? != 0, lro: flags & LRO != 0, vlan: flags & RX_VLAN != 0 })
}

/// Changes the settings of a device.
///
/// # Errors
/// There is no such device, or the driver refuses.
pub fn set_receiving(device: &str, wanted: Receiving) -> io::Result<()> {
    let now = receiving(device)?;
    if now.gro != wanted.gro {
        set(device, SET_GRO, u32::from(wanted.gro))?;
    }
    if (now.lro, now.vlan) != (wanted.lro, wanted.vlan) {
        let flags = get(device, GET_FLAGS)? & !(LRO | RX_VLAN);
        set(device, SET_FLAGS, flags | if wanted.lro { LRO } else { 0 } | if wanted.vlan { RX_VLAN } else { 0 })?;
    }
    Ok(())
}

/// How many queues a device has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queues {
    /// To receive by.
    pub rx: u32,
    /// To send by.
    pub tx: u32,
}

/// How many queues the device has; one each when it doesn't say.
///
/// # Errors
/// There is no such device, or the system refuses.
pub fn queues(device: &str) -> io::Result<Queues> {
    let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
    match ioctl(device, &mut channels) {
        Ok(()) => {
            let both = channels.combined;
            Ok(Queues { rx: channels.rx.saturating_add(both).max(1), tx: channels.tx.saturating_add(both).max(1) })
        }
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Queues { rx: 1, tx: 1 }),
        Err(error) => Err(error),
    }
}

fn get(device: &str, command: u32) -> io::Result<u32> {
    let mut value = Value { command, data: 0 };
    match ioctl(device, &mut value) {
        Ok(()) => Ok(value.data),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(0),
        Err(error) => Err(error),
    }
}

fn set(device: &str, command: u32, data: u32) -> io::Result<()> {
    ioctl(device, &mut Value { command, data })
}

/// SIOCETHTOOL with one of the structs above, which begin with their command.
fn ioctl<T>(device: &str, value: &mut T) -> io::Result<()> {
    let mut request = request(device)?;
    request.ifr_ifru.ifru_data = (&raw mut *value).cast();
    call(libc::SIOCETHTOOL, &mut request)
}

/// Largest packet of a device.
///
/// # Errors
/// There is no such device, or the system refuses.
pub fn mtu(device: &str) -> io::Result<usize> {
    let mut request = request(device)?;
    call(libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: this request answers with the MTU.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

fn request(device: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero is a value of this struct of integers and a union of such.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if device.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    request.ifr_name.iter_mut().zip(device.bytes()).for_each(|(place, octet)| *place = octet as libc::c_char);
    Ok(request)
}

fn call(number: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = open(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: the descriptor is open; the request outlives the call, as does what its pointer, if it has one, leads to:
    // one of the structs above, of the size that its command stands for.
    match unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw mut *request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_an_mtu_and_what_is_not_there_has_none() {
        assert!(mtu("lo").unwrap() > 1000);
        assert!(receiving("lo").is_ok());
        assert_eq!(queues("lo").unwrap(), Queues { rx: 1, tx: 1 });
        for device in ["xdp-no-such", "a-name-that-is-much-too-long"] {
            assert_eq!(mtu(device).unwrap_err().raw_os_error(), Some(libc::ENODEV));
            assert!(
                receiving(device).is_err()
                    && queues(device).is_err()
                    && set_receiving(device, Receiving::default()).is_err()
            );
        }
    }
}
