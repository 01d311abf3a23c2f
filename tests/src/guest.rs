//! A real VM: QEMU with the distribution's own kernel and a busybox, on an ordinary tap.
//!
//! The image is made once and kept below `target/guest`: the kernel package is downloaded with `apt-get download` and
//! unpacked, never installed. The machine is emulated (TCG), so it needs no `/dev/kvm`; it boots in seconds. Its shell is
//! on the serial line, and [`Guest::run`] types there.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::Run;
use crate::error::{Error, Result, Tried};

/// Modules of the network card, in the order in which they can be loaded; what the kernel has built in is missing.
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/bin
for module in $(cat /modules/order); do insmod /modules/$module.ko; done
ip link set lo up
stty -echo
echo =READY=
while read -r line; do eval "$line"; done
"#;
const MARK: &str = "=END=";

/// Kernel and initial file system of a guest.
#[derive(Clone, Debug)]
pub struct Image {
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Image {
    /// The image kept in `folder`, which is made if need be.
    ///
    /// # Errors
    /// No package source, no network, or no busybox.
    pub fn ensure(folder: &Path) -> Result<Image> {
        fs::create_dir_all(folder).tried(format!("{}", folder.display()))?;
        let folder = folder.canonicalize().tried(format!("{}", folder.display()))?;
        let image = Image { kernel: folder.join("vmlinuz"), initrd: folder.join("initrd.gz") };
        if image.kernel.is_file() && image.initrd.is_file() {
            return Ok(image);
        }
        let work = folder.join("work");
        if work.exists() {
            fs::remove_dir_all(&work).tried(format!("{}", work.display()))?;
        }
        fs::create_dir_all(&work).tried(format!("{}", work.display()))?;
        let tree = unpack_kernel(&work)?;
        let boot = find(&tree.join("boot"), |name| name.starts_with("vmlinuz-"))
            .ok_or_else(|| Error::State("the kernel package holds no kernel".to_owned()))?;
        pack_initrd(&work, &tree, &work.join("initrd.gz"))?;
        // The kernel last: it says that the image is whole.
        fs::rename(work.join("initrd.gz"), &image.initrd).tried("initrd")?;
        fs::rename(boot, &image.kernel).tried("kernel")?;
        fs::remove_dir_all(&work).tried(format!("{}", work.display()))?;
        Ok(image)
    }
}

/// Downloads and unpacks the kernel that the distribution means for virtual machines.
fn unpack_kernel(work: &Path) -> Result<PathBuf> {
    let package = match kernel_package()? {
        Some(package) => package,
        None => {
            Run::new("apt-get update").limit(Duration::from_secs(120)).text()?;
            kernel_package()?.ok_or_else(|| Error::State("apt knows no kernel for virtual machines".to_owned()))?
        }
    };
    // apt drops its rights to download and warns where that user may not write; it downloads all the same.
    let folder = work.display().to_string();
    let fetch = format!("cd '{folder}' && apt-get download {package}");
    Run::new("sh -c").arg(fetch).limit(Duration::from_secs(180)).text()?;
    let archive = find(work, |name| name.ends_with(".deb"))
        .ok_or_else(|| Error::State(format!("apt-get downloaded no file of {package}")))?;
    let tree = work.join("tree");
    Run::new("dpkg-deb -x").arg(archive.display().to_string()).arg(tree.display().to_string()).text()?;
    Ok(tree)
}

fn kernel_package() -> Result<Option<String>> {
    for meta in ["linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64"] {
        let listed = Run::new("apt-cache depends").arg(meta).output()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names = listed.lines().filter_map(|l| l.trim().strip_prefix("Depends: "));
        if let Some(name) = names.map(str::trim).find(|n| n.starts_with("linux-image-")) {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

/// First file below `folder` whose name fits.
fn find(folder: &Path, fits: impl Fn(&str) -> bool + Copy) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
    entries.sort();
    let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let here = entries.iter().find(|p| !p.is_dir() && fits(&name(p))).cloned();
    here.or_else(|| entries.iter().filter(|p| p.is_dir() && !p.is_symlink()).find_map(|p| find(p, fits)))
}

fn pack_initrd(work: &Path, tree: &Path, initrd: &Path) -> Result<()> {
    let root = work.join("root");
    for folder in ["bin", "proc", "dev", "sys", "modules"] {
        fs::create_dir_all(root.join(folder)).tried(folder)?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).tried("busybox (package busybox-static)")?;
    let mut order = String::new();
    for module in MODULES {
        let stem = format!("{module}.ko");
        let Some(path) = find(tree, |name| name == stem || name == format!("{stem}.xz")) else { continue };
        let target = root.join("modules").join(&stem);
        if path.extension().is_some_and(|e| e == "xz") {
            Run::new("sh -c").arg(format!("xz -dc '{}' > '{}'", path.display(), target.display())).text()?;
        } else {
            fs::copy(&path, &target).tried(format!("{}", path.display()))?;
        }
        order.push_str(module);
        order.push('\n');
    }
    fs::write(root.join("modules/order"), order).tried("module list")?;
    fs::write(root.join("init"), INIT).tried("init")?;
    Run::new("chmod 755").arg(root.join("init").display().to_string()).text()?;
    let pack = "set -e; cd \"$0\"; find . | cpio --quiet -o -H newc | gzip -1 > \"$1\"";
    Run::new("sh -c").arg(pack).arg(root.display().to_string()).arg(initrd.display().to_string()).text().map(drop)
}

/// A guest that runs; it ends when this value goes.
pub struct Guest {
    qemu: Child,
    keyboard: ChildStdin,
    screen: Receiver<String>,
}

impl Guest {
    /// Boots a guest in a namespace, on a tap that exists there, and waits for its shell.
    pub fn boot(image: &Image, netns: &str, tap: &str, mac: &str) -> Result<Guest> {
        let mut qemu = Command::new("ip")
            .args(["netns", "exec", netns, "qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-m", "192"])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nodefaults"])
            .arg("-kernel")
            .arg(&image.kernel)
            .arg("-initrd")
            .arg(&image.initrd)
            .args(["-append", "console=ttyS0 quiet panic=1", "-netdev"])
            .arg(format!("tap,id=n0,ifname={tap},script=no,downscript=no,vhost=off"))
            .arg("-device")
            .arg(format!("virtio-net-pci,netdev=n0,romfile=,mac={mac}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
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
        let guest = Guest { qemu, keyboard, screen };
        guest.until(|line| line.contains("=READY="), Duration::from_secs(60), "the guest's shell")?;
        Ok(guest)
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
    }
}
