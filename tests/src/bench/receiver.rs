//! What becomes of small frames at their end: a real receiver, or a socket that nobody reads.
//!
//! The receiver reads 64 datagrams with one system call, as fast as the machine lets it, and runs wherever the machine
//! puts it: it is part of what a switch has to share cores with.
#![allow(unsafe_code)]

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::sender::UDP_PORT;
use crate::error::{Result, Tried};
use crate::lab::plan::Vm;
use crate::netns;

const BATCH: usize = 64;
const DATAGRAM_MAX: usize = 2048;

fn bind(vm: &Vm) -> Result<UdpSocket> {
    netns::within(&vm.netns, || UdpSocket::bind((vm.ip, UDP_PORT)).tried(format!("receiver of {}", vm.name)))
}

/// A socket that nobody reads: when its queue is full the kernel drops at once, which costs it as little as it can.
pub fn sink(vm: &Vm) -> Result<UdpSocket> {
    bind(vm)
}

/// A thread that reads what arrives.
pub struct Receiver {
    count: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Listens in the VM.
    pub fn start(vm: &Vm) -> Result<Receiver> {
        let socket = bind(vm)?;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 4 << 20).tried("receive buffer")?;
        socket.set_read_timeout(Some(Duration::from_millis(100))).tried("read timeout")?;
        let (count, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, end) = (count.clone(), over.clone());
        let thread = std::thread::Builder::new()
            .name("receiver".to_owned())
            .spawn(move || {
                let mut buffers = vec![[0u8; DATAGRAM_MAX]; BATCH];
                while !end.load(Ordering::Relaxed) {
                    counted.fetch_add(read(&socket, &mut buffers), Ordering::Relaxed);
                }
            })
            .tried("receiver")?;
        Ok(Receiver { count, over, thread: Some(thread) })
    }

    /// Datagrams until now.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, also when it panicked.
            let _ = thread.join();
        }
    }
}

/// Datagrams of one system call; none after the socket's time limit.
fn read(socket: &UdpSocket, buffers: &mut [[u8; DATAGRAM_MAX]]) -> u64 {
    let mut parts: Vec<libc::iovec> =
        buffers.iter_mut().map(|b| libc::iovec { iov_base: b.as_mut_ptr().cast(), iov_len: b.len() }).collect();
    let mut messages: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: an all-zero mmsghdr is a valid value: no address, no control data.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    // SAFETY: each message points to an iovec of `parts`, and that to a buffer of the length it says; all outlive the
    // call, and nothing else touches them meanwhile.
    let got = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            messages.len() as libc::c_uint,
            libc::MSG_WAITFORONE,
            std::ptr::null_mut(),
        )
    };
    u64::try_from(got).unwrap_or(0)
}
