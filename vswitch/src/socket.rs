//! Sockets of kinds and with options that no library of ours has names for: how they are opened and told.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A socket that never blocks and that no program inherits.
///
/// # Errors
/// For want of a privilege or a descriptor, or the system does not know the family.
pub fn open(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    match unsafe { libc::socket(family, kind, protocol) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a new descriptor that nobody else owns.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Two raw sockets that `open` makes: of IPv4, and of IPv6, where the system has that.
///
/// # Errors
/// Those of `open`.
pub fn of_both_families<T>(open: impl Fn(libc::c_int) -> io::Result<T>) -> io::Result<(T, Option<T>)> {
    let v6 = match open(libc::AF_INET6) {
        Ok(socket) => Some(socket),
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
        Err(error) => return Err(error),
    };
    Ok((open(libc::AF_INET)?, v6))
}

/// setsockopt.
///
/// # Errors
/// What the system says.
pub fn set<T>(fd: impl AsFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let (place, len) = ((&raw const *value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the descriptor is open; `place` points to `len` octets that outlive the call.
    match unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), level, option, place, len) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
