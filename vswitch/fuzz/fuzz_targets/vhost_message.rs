//! Messages of a front end, with descriptors of any kind, to a port that a worker uses meanwhile.
//!
//! The input is a list of messages: request, flags, length, kind of descriptors, body. One port lives through all inputs, each
//! of which is a connection. What must hold: no panic, and the port takes the next connection.
#![no_main]

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vswitch::frame::vnet::VnetHdr;
use vswitch::frame::{Buffer, TxFrame};
use vswitch::port::Port;
use vswitch::port::vhost::{Role, Settings, Vhost};

struct Target {
    port: Vhost,
    path: PathBuf,
    buffers: Vec<Buffer>,
    memory: OwnedFd,
    event: OwnedFd,
    pipe: OwnedFd,
}

static TARGET: LazyLock<Mutex<Target>> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("vhost-fuzz-{}", std::process::id()));
    let settings = Settings { path: path.clone(), role: Role::Server, queue_pairs: 2, mode: None, owner: None };
    let port = Vhost::open(&settings).unwrap();
    let memory = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, 1 << 16).unwrap();
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    let (_, pipe) = std::io::pipe().unwrap();
    let buffers = (0..8).map(Buffer::new).collect();
    Mutex::new(Target { port, path, buffers, memory, event, pipe: pipe.into() })
});

fn send(socket: &UnixStream, octets: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(40))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(octets)], &mut control, SendFlags::NOSIGNAL).is_ok()
}

fuzz_target!(|input: &[u8]| {
    let mut target = TARGET.lock().unwrap();
    let Target { port, path, buffers, memory, event, pipe } = &mut *target;
    let socket = UnixStream::connect(&*path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = input;
    while let [request, flags, len, kind, more @ ..] = rest {
        let (body, after) = more.split_at(more.len().min(usize::from(*len)));
        rest = after;
        let fd = match kind >> 4 & 3 {
            0 | 1 => memory.as_fd(),
            2 => event.as_fd(),
            _ => pipe.as_fd(),
        };
        let fds = vec![fd; usize::from(kind & 15).min(12)];
        // Most lengths are true.
        let said = if flags & 0x80 == 0 { body.len() as u32 } else { u32::from(*len) * 16 };
        let head = [u32::from(*request), 1 | u32::from(flags & 0x0c), said].map(u32::to_le_bytes).concat();
        if !send(&socket, &[&head, body].concat(), &fds) {
            break;
        }
        port.rx(buffers).unwrap();
        port.tx(&[TxFrame { head: &[], rest: &[1; 60], vnet: VnetHdr::PLAIN, copy: false }]);
        port.arm();
    }
    let _ = socket.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    match (&socket).read_to_end(&mut answers) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection was not closed"),
    }
    port.rx(buffers).unwrap();
});
