//! Network namespaces, and the little that the lab needs of `ip`.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::Run;
use crate::error::{Error, Result, Tried};

/// Why this machine, or this user, can have no lab: what the system said. `None` when it can.
pub fn unable() -> Option<String> {
    // Asked once: tests of one program run at the same time, and the answer does not change.
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    ANSWER.get_or_init(probe).clone()
}

fn probe() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let name = format!("probe-{}", std::process::id());
    let made = add(&name).and_then(|()| ip(&name, "tuntap add tap0 mode tap"));
    let removed = delete(&name);
    made.err().or(removed.err()).map(|e| format!("can't make namespaces and taps here: {e}"))
}

/// Makes a namespace with loopback up. IPv6 stays possible, but nothing is sent that nobody asked for: no router
/// solicitation, no link-local address of its own, no duplicate detection.
pub fn add(name: &str) -> Result<()> {
    Run::new("ip netns add").arg(name).text()?;
    ip(name, "link set lo up")?;
    within(name, || {
        let knobs = [("accept_ra", "0"), ("autoconf", "0"), ("addr_gen_mode", "1"), ("accept_dad", "0")];
        for (knob, value) in knobs.into_iter().chain([("router_solicitations", "0")]) {
            let path = format!("/proc/sys/net/ipv6/conf/default/{knob}");
            // A kernel without IPv6 has no such file, and then no such noise either.
            if Path::new(&path).exists() {
                std::fs::write(&path, value).tried(path)?;
            }
        }
        Ok(())
    })
}

/// The namespace exists.
pub fn exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

/// Numbers of the processes inside; none when there is no such namespace.
pub fn processes(name: &str) -> Vec<u32> {
    let listed = Run::new("ip netns pids").arg(name).text().unwrap_or_default();
    listed.lines().filter_map(|l| l.trim().parse().ok()).collect()
}

/// Removes the namespace; its devices go with it.
pub fn delete(name: &str) -> Result<()> {
    if exists(name) {
        Run::new("ip netns del").arg(name).text()?;
    }
    Ok(())
}

/// `ip -n NAME WORDS`
pub fn ip(name: &str, words: &str) -> Result<String> {
    Run::new("ip -n").arg(name).args(words).text()
}

/// Runs `work` in a thread of its own inside the namespace. Sockets that it opens stay there.
pub fn within<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    within_at(&Path::new("/run/netns").join(name), work)
}

/// As [`within`], for a namespace that has a file and maybe no name.
pub fn within_at<T: Send>(path: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let name = path.display();
    let file = File::open(path).tried(format!("namespace {name}"))?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .tried(format!("entering {name}"))?;
            work()
        });
        thread.join().map_err(|_| Error::State(format!("the work inside {name} panicked")))?
    })
}
