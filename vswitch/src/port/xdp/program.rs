//! The XDP program: hands every frame of a device to the AF_XDP socket of the queue that it came in by.
//!
//! ```text
//! r2 = context->rx_queue_index
//! return bpf_redirect_map(sockets, r2, XDP_DROP)
//! ```
//!
//! A frame on a queue without socket is dropped: the host must not see it. The program is ours, six instructions, and goes
//! to the kernel as numbers; no compiler and no library. It is attached by a link, which is a descriptor: the kernel takes
//! the program off the device when the last of our handles is closed, and so also when the process is killed.

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
/// `enum bpf_attach_type`
const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE`: by the network stack.
const FLAGS_GENERIC: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`: by the driver.
const FLAGS_NATIVE: u32 = 1 << 2;
const XDP_DROP: i32 = 1;
/// `struct xdp_md`
const RX_QUEUE_INDEX: i16 = 16;
const REDIRECT_MAP: i32 = 51;

/// An instruction: code, registers (destination low, source high), offset, immediate.
type Instruction = (u8, u8, i16, i32);

/// The program for the map with descriptor `map`.
fn instructions(map: RawFd) -> [Instruction; 6] {
    [
        // r2 = *(u32 *)(r1 + RX_QUEUE_INDEX)
        (0x61, 0x12, RX_QUEUE_INDEX, 0),
        // r1 = map; two words, the source register says that this is a descriptor
        (0x18, 0x11, 0, map),
        (0, 0, 0, 0),
        // r3 = XDP_DROP
        (0xb7, 0x03, 0, XDP_DROP),
        (0x85, 0, 0, REDIRECT_MAP),
        // return r0
        (0x95, 0, 0, 0),
    ]
}

fn encode((code, registers, offset, immediate): Instruction) -> u64 {
    let ([o0, o1], [i0, i1, i2, i3]) = (offset.to_ne_bytes(), immediate.to_ne_bytes());
    u64::from_ne_bytes([code, registers, o0, o1, i0, i1, i2, i3])
}

/// The first members of `union bpf_attr` for each command; the kernel takes what is behind as zero.
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapUpdate {
    map: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// bpf(2). `T` is one of the structs above, whose pointers lead to what the command says.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads `size_of::<T>()` octets of a struct that was built for this command; the pointers in it lead
    // to values that the caller borrows for longer than the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    libc::c_int::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)
}

fn bpf_new<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: a new descriptor (close-on-exec, as all of bpf(2)) that nobody else owns.
    bpf(command, attributes).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The sockets of a device's queues, as the program finds them.
pub struct Sockets {
    map: OwnedFd,
}

impl Sockets {
    /// Room for the sockets of `queues` queues.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(queues: u32) -> io::Result<Sockets> {
        let attributes = MapCreate { map_type: MAP_TYPE_XSKMAP, key_size: 4, value_size: 4, max_entries: queues };
        Ok(Sockets { map: bpf_new(MAP_CREATE, &attributes)? })
    }

    /// Frames of `queue` go to `socket` from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set(&self, queue: u32, socket: RawFd) -> io::Result<()> {
        let attributes = MapUpdate {
            map: self.map.as_raw_fd() as u32,
            key: (&raw const queue) as u64,
            value: (&raw const socket) as u64,
            ..MapUpdate::default()
        };
        bpf(MAP_UPDATE_ELEM, &attributes).map(drop)
    }

    /// Attaches the program to the device, and takes it off again when the link is dropped.
    ///
    /// # Errors
    /// The driver does not do it (`native`), another program is there (`EBUSY`), or the kernel refuses.
    pub fn attach(&self, device: u32, native: bool) -> io::Result<Link> {
        let program = instructions(self.map.as_raw_fd()).map(encode);
        let mut prog_name = [0; 16];
        prog_name.iter_mut().zip(b"vem").for_each(|(place, octet)| *place = *octet);
        let license = c"Apache-2.0";
        let attributes = ProgLoad {
            prog_type: PROG_TYPE_XDP,
            insn_cnt: (size_of_val(&program) / size_of::<u64>()) as u32,
            insns: program.as_ptr() as u64,
            license: license.as_ptr() as u64,
            prog_name,
            expected_attach_type: ATTACH_XDP,
            ..ProgLoad::default()
        };
        let program = bpf_new(PROG_LOAD, &attributes)?;
        let attributes = LinkCreate {
            prog: program.as_raw_fd() as u32,
            target_ifindex: device,
            attach_type: ATTACH_XDP,
            flags: if native { FLAGS_NATIVE } else { FLAGS_GENERIC },
        };
        Ok(Link { _link: bpf_new(LINK_CREATE, &attributes)? })
    }
}

/// The program on a device.
pub struct Link {
    _link: OwnedFd,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_written_as_the_kernel_reads_it() {
        let octets: Vec<u8> = instructions(0x0102).map(encode).iter().flat_map(|word| word.to_ne_bytes()).collect();
        let expected = [
            [0x61, 0x12, 16, 0, 0, 0, 0, 0],
            [0x18, 0x11, 0, 0, 2, 1, 0, 0],
            [0; 8],
            [0xb7, 3, 0, 0, 1, 0, 0, 0],
            [0x85, 0, 0, 0, 51, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(octets, expected.concat());
        // include/uapi/linux/bpf.h
        assert_eq!((size_of::<MapUpdate>(), size_of::<ProgLoad>(), size_of::<LinkCreate>()), (32, 72, 16));
    }
}
