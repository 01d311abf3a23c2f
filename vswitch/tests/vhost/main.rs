//! The vhost-user port against guests of every kind.

mod guest;
mod life;
mod messages;
#[path = "../net/mod.rs"]
mod net;
mod oracle;
mod rings;
mod ways;

use std::path::PathBuf;
use std::sync::Arc;

use guest::until;
use tempfile::TempDir;
use vswitch::frame::vnet::VnetHdr;
use vswitch::frame::{BATCH, Buffer, TxFrame};
use vswitch::port::vhost::{Role, Settings, Vhost, VhostState};
use vswitch::port::{Port, Sent};

/// A port, with the directory that its socket is in.
struct Open {
    port: Vhost,
    state: Arc<VhostState>,
    path: PathBuf,
    _directory: TempDir,
    buffers: Vec<Buffer>,
}

fn settings(path: PathBuf, role: Role, queue_pairs: u16) -> Settings {
    Settings { path, role, queue_pairs, mode: None, owner: None }
}

impl Open {
    fn new(role: Role, queue_pairs: u16) -> Open {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let port = Vhost::open(&settings(path.clone(), role, queue_pairs)).unwrap();
        let buffers = (0..BATCH).map(Buffer::new).collect();
        Open { state: port.state(), port, path, _directory: directory, buffers }
    }

    fn server() -> Open {
        Open::new(Role::Server, 1)
    }

    /// What is there now.
    fn poll(&mut self) -> Vec<(Vec<u8>, VnetHdr)> {
        let filled = self.port.rx(&mut self.buffers).unwrap();
        self.buffers[..filled].iter().map(|buffer| (buffer.frame().to_vec(), buffer.vnet)).collect()
    }

    /// The next frames, at least one.
    fn frames(&mut self) -> Vec<Vec<u8>> {
        until("a frame from the guest", || {
            let frames: Vec<_> = self.poll().into_iter().map(|(frame, _)| frame).collect();
            (!frames.is_empty()).then_some(frames)
        })
    }

    fn send(&mut self, frame: &[u8], vnet: VnetHdr) -> Sent {
        self.port.tx(&[TxFrame { head: &[], rest: frame, vnet, copy: false }])
    }

    /// Waits until all of a guest's rings run.
    fn running(&self, pairs: u16) {
        until("running rings", || (self.state.queue_pairs() == pairs).then_some(()));
    }

    fn disconnected(&self) {
        until("the end of the connection", || (!self.state.connected()).then_some(()));
    }
}

/// A frame whose octets tell its number and length.
fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|at| (at as u32 ^ number) as u8).collect();
    frame[..4].copy_from_slice(&number.to_le_bytes());
    frame
}

/// Runs a test in a process of its own, for what it counts or what it does to itself. `name` is its path in this file. Returns in
/// the process where the test goes on.
fn alone(name: &str) -> bool {
    const CHILD: &str = "VHOST_TEST_ALONE";
    if std::env::var(CHILD).is_ok_and(|test| test == name) {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, name)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    false
}
