//! Opening taps: names, devices and their queues, offloads, and what the kernel means when it refuses.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use libc::{TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6};

use super::Settings;
use crate::frame::vnet::VNET_LEN;
use crate::port::{Error, Offloads};

/// A tap as the kernel gives it.
pub(super) struct Device {
    /// The queue that receives.
    pub fd: OwnedFd,
    /// Further queues, which receive nothing before [`attach_queue`].
    pub spare: Vec<OwnedFd>,
    /// What it takes.
    pub offloads: Offloads,
}

/// Opens the tap `name` or makes it.
pub(super) fn open(name: &str, settings: &Settings) -> Result<Device, Error> {
    check_name(name)?;
    let many = settings.vnet && settings.queues > 1;
    // A persistent tap has one queue or many, and is taken as it is.
    let opened = match queues(name, settings, many) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => queues(name, settings, !many),
        opened => opened,
    };
    let mut files = opened.map_err(|source| explain(name, source))?.into_iter();
    let system = |call| move |source| Error::System { device: name.to_owned(), call, source };
    let fd = files.next().ok_or_else(|| system("TUNSETIFF")(io::ErrorKind::NotFound.into()))?;
    let spare: Vec<OwnedFd> = files.collect();
    let offloads = match settings.vnet {
        true => take_offloads(&fd, &system)?,
        false => {
            set_by_value(&fd, libc::TUNSETOFFLOAD, 0).map_err(system("TUNSETOFFLOAD"))?;
            Offloads::NONE
        }
    };
    set(&fd, libc::TUNSETSNDBUF, libc::c_int::MAX).map_err(system("TUNSETSNDBUF"))?;
    for file in spare.iter().chain([&fd]) {
        rustix::io::ioctl_fionbio(file, true).map_err(|e| system("FIONBIO")(e.into()))?;
    }
    Ok(Device { fd, spare, offloads })
}

fn take_offloads<E>(fd: &OwnedFd, system: &dyn Fn(&'static str) -> E) -> Result<Offloads, Error>
where
    E: FnOnce(io::Error) -> Error,
{
    set(fd, libc::TUNSETVNETHDRSZ, VNET_LEN as libc::c_int).map_err(system("TUNSETVNETHDRSZ"))?;
    set(fd, libc::TUNSETVNETLE, 1).map_err(system("TUNSETVNETLE"))?;
    let plain = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    let uso = set_by_value(fd, libc::TUNSETOFFLOAD, (plain | TUN_F_USO4 | TUN_F_USO6).into()).is_ok();
    if !uso {
        set_by_value(fd, libc::TUNSETOFFLOAD, plain.into()).map_err(system("TUNSETOFFLOAD"))?;
    }
    Ok(Offloads { uso, ..Offloads::ALL })
}

/// The files of all queues. Those behind the first are detached from the device, which would fill them unread.
fn queues(name: &str, settings: &Settings, many: bool) -> io::Result<Vec<OwnedFd>> {
    if !settings.vnet && !many {
        let tap = own(tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tap)?);
        // Else a program that we start would keep the tap.
        rustix::io::fcntl_setfd(&tap, rustix::io::FdFlags::CLOEXEC)?;
        return Ok(vec![tap]);
    }
    let builder = tun_rs::DeviceBuilder::new().name(name).layer(tun_rs::Layer::L2);
    let tap = builder.offload(settings.vnet).multi_queue(many).inherit_enable_state().build_sync()?;
    let mut spare = Vec::new();
    for _ in 1..if many && settings.vnet { settings.queues } else { 1 } {
        let queue = own(tap.try_clone()?);
        set_queue(&queue, libc::IFF_DETACH_QUEUE)?;
        spare.push(queue);
    }
    Ok([own(tap)].into_iter().chain(spare).collect())
}

fn own(device: impl IntoRawFd) -> OwnedFd {
    // SAFETY: `into_raw_fd` gives up the only owner of an open descriptor, and we become it.
    unsafe { OwnedFd::from_raw_fd(device.into_raw_fd()) }
}

/// From now on a spare queue receives its share.
pub(super) fn attach_queue(fd: &OwnedFd) -> io::Result<()> {
    set_queue(fd, libc::IFF_ATTACH_QUEUE)
}

fn set_queue(fd: &OwnedFd, flag: libc::c_int) -> io::Result<()> {
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flag as libc::c_short };
    let request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru };
    // SAFETY: the descriptor is open; TUNSETQUEUE reads one ifreq through the pointer, which outlives the call.
    match unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETQUEUE, &raw const request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether the device outlives its files.
pub(super) fn persist(fd: &OwnedFd, keep: bool) -> io::Result<()> {
    set_by_value(fd, libc::TUNSETPERSIST, keep.into())
}

/// A name that the kernel would take as it is: it makes up one for an empty name or one with `%d`.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let odd = |b: u8| b == b'/' || b == b'%' || b == b':' || !b.is_ascii_graphic();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name == "." || name == ".." || name.bytes().any(odd) {
        let what = "not a device name: 1 to 15 printable octets without blank, '/', ':' and '%'".to_owned();
        return Err(Error::Device { device: name.to_owned(), what });
    }
    Ok(())
}

/// An ioctl that reads an int.
fn set(fd: &OwnedFd, request: libc::Ioctl, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open; the requests given here read one int through the pointer, which outlives the call.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw const value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// An ioctl that takes a number.
fn set_by_value(fd: &OwnedFd, request: libc::Ioctl, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the descriptor is open; TUNSETOFFLOAD and TUNSETPERSIST, the requests given here, take their argument by
    // value and write no memory of ours.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request, value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// What the kernel meant when it refused the device.
fn explain(name: &str, source: io::Error) -> Error {
    let device = name.to_owned();
    let what = match source.raw_os_error() {
        Some(libc::EBUSY) => "tap is in use by another process",
        Some(libc::EPERM) => "not permitted: opening a tap needs CAP_NET_ADMIN",
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => "no /dev/net/tun: is the kernel module tun loaded?",
        Some(libc::EINVAL) => return Error::Device { what: misfit(name).to_owned(), device },
        _ => return Error::System { device, call: "TUNSETIFF", source },
    };
    Error::Device { device, what: what.to_owned() }
}

/// Why a device is no tap for us, as far as /sys tells, which may show another namespace than ours.
fn misfit(name: &str) -> &'static str {
    let device = format!("/sys/class/net/{name}");
    let flags = std::fs::read_to_string(format!("{device}/tun_flags"));
    let flags = flags.ok().and_then(|text| libc::c_int::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok());
    match flags {
        Some(flags) if flags & libc::IFF_TAP == 0 => "device is a tun (layer 3), not a tap",
        _ => "device exists and is not a tap",
    }
}
