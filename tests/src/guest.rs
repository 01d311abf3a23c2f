//! A real VM: QEMU with the distribution's own kernel and a busybox.
//!
//! The machine is emulated (TCG), so it needs no `/dev/kvm`; it boots in seconds. Its shell is on the serial line, and
//! [`Guest::run`] types there. Its network card is an ordinary tap, or vhost-user: then its memory is shared with the
//! switch, and [`Guest::scribble`] writes garbage into its rings as its own kernel could.

mod image;
mod rings;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

pub use image::Image;

use crate::error::{Error, Result, Tried};

const MARK: &str = "=END=";

/// The network card of a guest.
#[derive(Clone, Copy, Debug)]
pub enum Card<'a> {
    /// A tap that exists.
    Tap(&'a str),
    /// A vhost-user socket.
    VhostUser {
        /// Its path.
        socket: &'a Path,
        /// QEMU listens; else it connects, and tries again every second.
        listens: bool,
        /// Where QEMU's monitor is made, for [`Guest::scribble`].
        monitor: &'a Path,
    },
}

impl Card<'_> {
    /// Where QEMU writes what it has to say. With vhost-user that is a line for each message that fails while the switch is
    /// away, so it goes to a file beside the monitor.
    fn complaints(&self) -> Result<Stdio> {
        match self {
            Card::Tap(_) => Ok(Stdio::inherit()),
            Card::VhostUser { monitor, .. } => {
                let log = monitor.with_extension("log");
                File::create(&log).map(Stdio::from).tried(format!("{}", log.display()))
            }
        }
    }

    /// The arguments of QEMU.
    ///
    /// `vectors=0` and the older machine: QEMU 7.2 ends with a fault when a vhost-user card has MSI-X on q35.
    fn arguments(&self, mac: &str) -> Vec<String> {
        let words: Vec<String> = match self {
            Card::Tap(tap) => vec![
                "-netdev".to_owned(),
                format!("tap,id=n0,ifname={tap},script=no,downscript=no,vhost=off"),
                "-device".to_owned(),
                format!("virtio-net-pci,netdev=n0,romfile=,mac={mac}"),
            ],
            Card::VhostUser { socket, listens, monitor } => vec![
                "-object".to_owned(),
                format!("memory-backend-memfd,id=ram,size={MEGABYTES}M,share=on"),
                "-machine".to_owned(),
                "memory-backend=ram".to_owned(),
                "-chardev".to_owned(),
                format!(
                    "socket,id=c0,path={},{}",
                    socket.display(),
                    if *listens { "server=on,wait=off" } else { "reconnect=1" }
                ),
                "-netdev".to_owned(),
                "vhost-user,id=n0,chardev=c0".to_owned(),
                "-device".to_owned(),
                format!("virtio-net-pci,id={},netdev=n0,romfile=,vectors=0,mac={mac}", rings::CARD),
                "-qmp".to_owned(),
                format!("unix:{},server=on,wait=off", monitor.display()),
            ],
        };
        words
    }
}

/// Memory of a guest.
const MEGABYTES: u32 = 192;

/// A guest that runs; it ends when this value goes.
pub struct Guest {
    qemu: Child,
    keyboard: ChildStdin,
    screen: Receiver<String>,
    monitor: Option<PathBuf>,
}

impl Guest {
    /// Boots a guest in a namespace, and waits for its shell.
    pub fn boot(image: &Image, netns: &str, card: Card<'_>, mac: &str) -> Result<Guest> {
        let guest = Guest::start(image, netns, card, mac)?;
        guest.await_shell()?;
        Ok(guest)
    }

    /// Starts a guest in a namespace and does not wait for it.
    pub fn start(image: &Image, netns: &str, card: Card<'_>, mac: &str) -> Result<Guest> {
        let mut qemu = Command::new("ip")
            .args(["netns", "exec", netns, "qemu-system-x86_64", "-M", "pc", "-accel", "tcg"])
            .args(["-m", &MEGABYTES.to_string()])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nodefaults"])
            .arg("-kernel")
            .arg(&image.kernel)
            .arg("-initrd")
            .arg(&image.initrd)
            .args(["-append", "console=ttyS0 quiet panic=1"])
            .args(card.arguments(mac))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(card.complaints()?)
            .spawn()
            .tried("qemu-system-x86_64 (package qemu-system-x86)")?;
        let broken = || Error::State("QEMU has no serial line".to_owned());
        let keyboard = qemu.stdin.take().ok_or_else(broken)?;
        let output = qemu.stdout.take().ok_or_else(broken)?;
        let (send, screen) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(std::result::Result::ok) {
                if send.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        let monitor = match card {
            Card::VhostUser { monitor, .. } => Some(monitor.to_owned()),
            Card::Tap(_) => None,
        };
        Ok(Guest { qemu, keyboard, screen, monitor })
    }

    /// Waits for the shell of a guest that was started.
    pub fn await_shell(&self) -> Result<()> {
        self.until(|line| line.contains("=READY="), Duration::from_secs(60), "the guest's shell").map(drop)
    }

    /// Fills the rings of the card with garbage: descriptors, the entries that the guest offers, and their count.
    ///
    /// # Errors
    /// The card is no vhost-user card, or QEMU does not say where its rings are.
    pub fn scribble(&self) -> Result<()> {
        let none = || Error::State("the guest's card has no rings that can be reached".to_owned());
        rings::scribble(self.monitor.as_deref().ok_or_else(none)?, self.qemu.id())
    }

    /// Types a command; returns its exit status and what it printed.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<(i32, String)> {
        // The mark is put together by the shell, so that an echo of the typed line is never taken for it.
        writeln!(self.keyboard, "{{ {command}; }} 2>&1 </dev/null; s=$?; echo; echo \"=E\"ND=$s").tried("guest")?;
        let mut lines = self.until(|line| line.contains(MARK), limit, command)?;
        let last = lines.pop().unwrap_or_default();
        let status = last.rsplit(MARK).next().and_then(|t| t.trim().parse().ok());
        let unreadable = || Error::Unreadable { what: command.to_owned(), reason: last.clone() };
        Ok((status.ok_or_else(unreadable)?, lines.join("\n").trim().to_owned()))
    }

    fn until(&self, found: impl Fn(&str) -> bool, limit: Duration, what: &str) -> Result<Vec<String>> {
        let end = Instant::now() + limit;
        let mut lines: Vec<String> = Vec::new();
        loop {
            match self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let last = found(&line);
                    lines.push(line);
                    if last {
                        return Ok(lines);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let detail = format!(": {}", lines.join(" / "));
                    return Err(Error::Late { what: what.to_owned(), seconds: limit.as_secs(), detail });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::State(format!("QEMU ended: {}", lines.join(" / "))));
                }
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if let Some(monitor) = &self.monitor {
            // QEMU removes them only when it ends in order.
            let _ = std::fs::remove_file(monitor);
            let _ = std::fs::remove_file(monitor.with_extension("log"));
        }
    }
}
