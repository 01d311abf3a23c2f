//! The host's stack kept silent on a `netdev`: it neither hears what the guest says nor says anything of its own.
//!
//! The guest's frames come out of the device on the host's side, where the host's stack would answer them: a guest could
//! talk to the host past every rule. Three things stop that, in this order, before the device is set up:
//!
//! 1. nftables, family `netdev`, table `vem`: everything is dropped on the device's ingress hook, which lies behind the
//!    packet socket that the port reads from; and on its egress hook everything that does not carry the mark of that
//!    socket. Chains are named after the port's interface index, which no other port ever has. One transaction each,
//!    and it may be repeated: a table left by a killed agent is no hindrance.
//! 2. IPv6 off on the device, so that no router solicitation or MLD report leaves.
//! 3. ARP off.
//!
//! A kernel without the egress hook (before 5.16) is used without it, and that is logged.
//! One agent per network namespace: the table is its own.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use vswitch::port::netdev::MARK;

use super::netlink::{Change, Link, Route};
use super::{Error, system};
use crate::attach::{Attachment, Before};

/// Silences the host on the device and says what it was like before; what an earlier agent has noted stays true.
///
/// # Errors
/// `nft` is not there or refuses, or the kernel refuses.
pub fn apply(attachment: &Attachment, link: &Link, route: &mut Route) -> Result<Before, Error> {
    let device = attachment.device.as_str();
    let index = attachment.if_index;
    let silence = |reason: String| Error::Silence { device: device.to_owned(), reason };
    match nft(&add_chains(index, device, true)) {
        Ok(()) => {}
        Err(reason) if reason.contains("not supported") => {
            nft(&add_chains(index, device, false)).map_err(silence)?;
            tracing::warn!(device, "this kernel has no egress hook: what the host itself sends there is not stopped");
        }
        Err(reason) => return Err(silence(reason)),
    }
    let ipv6 = set_ipv6(device, false).map_err(system(device, "disable IPv6"))?;
    route.change(link.index, &[Change::Arp(false)]).map_err(system(device, "disable ARP"))?;
    Ok(attachment.before.unwrap_or(Before { ipv6, arp: link.arp, receiving: None }))
}

/// Lets the host speak again. `link` is the device if it is still there.
///
/// # Errors
/// `nft` or the kernel refuses.
pub fn undo(attachment: &Attachment, link: Option<&Link>, route: &mut Route) -> Result<(), Error> {
    let device = attachment.device.as_str();
    delete_chains(&[attachment.if_index]).map_err(|reason| Error::Silence { device: device.to_owned(), reason })?;
    let (Some(link), Some(before)) = (link, attachment.before) else { return Ok(()) };
    if before.arp {
        route.change(link.index, &[Change::Arp(true)]).map_err(system(device, "enable ARP"))?;
    }
    if before.ipv6 {
        set_ipv6(device, true).map_err(system(device, "enable IPv6"))?;
    }
    Ok(())
}

/// Removes chains of ports that are no longer attached: those of an agent whose state was lost. `kept` holds the interface
/// indexes of the ports that are. Works on the namespace of the calling thread.
///
/// # Errors
/// `nft` is not there or refuses.
pub fn sweep(kept: &BTreeSet<u16>) -> Result<(), String> {
    let stale: Vec<u16> = chains()?.into_iter().filter(|index| !kept.contains(index)).collect();
    if stale.is_empty() { Ok(()) } else { delete_chains(&stale) }
}

fn add_chains(index: u16, device: &str, egress: bool) -> String {
    let mut script = format!(
        "add table netdev vem\n\
         add chain netdev vem in_{index} {{ type filter hook ingress device \"{device}\" priority -500; policy drop; }}\n"
    );
    if egress {
        script += &format!(
            "add chain netdev vem out_{index} {{ type filter hook egress device \"{device}\" priority 500; policy drop; }}\n\
             flush chain netdev vem out_{index}\n\
             add rule netdev vem out_{index} meta mark {MARK:#010x} accept\n"
        );
    }
    script
}

/// Adding before deleting makes it no error that a chain is not there.
fn delete_chains(indexes: &[u16]) -> Result<(), String> {
    let mut script = String::from("add table netdev vem\n");
    for index in indexes {
        for chain in [format!("in_{index}"), format!("out_{index}")] {
            script += &format!(
                "add chain netdev vem {chain}\nflush chain netdev vem {chain}\ndelete chain netdev vem {chain}\n"
            );
        }
    }
    nft(&script)
}

/// The interface indexes that chains exist for.
fn chains() -> Result<BTreeSet<u16>, String> {
    let output = Command::new("nft").args(["-j", "list", "chains", "netdev"]).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("nft: {e}"))?;
    if !output.status.success() {
        return Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("nft: {e}"))?;
    let entries = listed.get("nftables").and_then(|l| l.as_array()).cloned().unwrap_or_default();
    let index = |entry: &serde_json::Value| {
        let chain = entry.get("chain").filter(|c| c.get("table").and_then(|t| t.as_str()) == Some("vem"))?;
        let name = chain.get("name")?.as_str()?;
        name.strip_prefix("in_").or(name.strip_prefix("out_"))?.parse().ok()
    };
    Ok(entries.iter().filter_map(index).collect())
}

/// Gives `script` to `nft` as one transaction.
fn nft(script: &str) -> Result<(), String> {
    let run = || -> io::Result<std::process::Output> {
        let command = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut command = command?;
        if let Some(mut input) = command.stdin.take() {
            input.write_all(script.as_bytes())?;
        }
        command.wait_with_output()
    };
    let output = run().map_err(|e| format!("nft: {e} (is nftables installed?)"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("nft: {}", said.lines().next().unwrap_or("failed")))
}

/// Switches IPv6 on the device and says how it was. A host without IPv6 has nothing to switch.
fn set_ipv6(device: &str, on: bool) -> io::Result<bool> {
    let path: PathBuf = ["/proc/sys/net/ipv6/conf", device, "disable_ipv6"].iter().collect();
    let before = match fs::read_to_string(&path) {
        Ok(text) => text.trim() == "0",
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    if before != on {
        fs::write(&path, if on { "0" } else { "1" })?;
    }
    Ok(before)
}
