//! `vem attach`, `detach` and `ports`: the server administrator's side of a port.

use std::time::Duration;

use serde_json::Value;

use crate::command::Run;
use crate::error::{Error, Result};
use crate::lab::plan::{Host, Plan};

/// The agent of a host.
#[derive(Clone, Debug)]
pub struct Agent {
    binary: String,
    socket: String,
    netns: String,
}

/// A port to attach.
#[derive(Clone, Debug, Default)]
pub struct Attachment<'a> {
    /// Port profile.
    pub profile: &'a str,
    /// Device on the host.
    pub device: &'a str,
    /// `tap`, `netdev` or `vhost-user`.
    pub kind: &'a str,
    /// Namespace that gets the device.
    pub netns: Option<&'a str>,
    /// Name of the VM.
    pub vm: Option<&'a str>,
    /// The VM's address.
    pub mac: Option<&'a str>,
    /// Card number of an uplink.
    pub uplink: Option<u8>,
    /// Socket of a vhost-user port.
    pub path: Option<&'a str>,
    /// `server` or `client`.
    pub role: Option<&'a str>,
}

impl Agent {
    /// The agent of `host`.
    pub fn of(plan: &Plan, host: &Host) -> Agent {
        Agent {
            binary: plan.bin.join("vem").display().to_string(),
            socket: plan.vem_socket(host).display().to_string(),
            netns: host.netns.clone(),
        }
    }

    fn run(&self, word: &str) -> Run {
        Run::new("")
            .arg(&self.binary)
            .arg(word)
            .arg("--socket")
            .arg(&self.socket)
            .netns(&self.netns)
            .limit(Duration::from_secs(15))
    }

    /// Attaches a port; returns what the agent printed.
    pub fn attach(&self, port: &Attachment) -> Result<String> {
        let mut run =
            self.run("attach").args("--profile").arg(port.profile).args("--device").arg(port.device).args("--kind");
        run = run.arg(port.kind);
        let uplink = port.uplink.map(|n| n.to_string());
        let options = [
            ("--netns", port.netns),
            ("--vm", port.vm),
            ("--mac", port.mac),
            ("--uplink", uplink.as_deref()),
            ("--path", port.path),
            ("--role", port.role),
        ];
        for (option, value) in options {
            if let Some(value) = value {
                run = run.arg(option).arg(value);
            }
        }
        run.text()
    }

    /// `vem cmd WORDS`
    pub fn show(&self, words: &str) -> Result<String> {
        self.run("cmd").arg(words).text()
    }

    /// Detaches the port of a device.
    pub fn detach(&self, device: &str) -> Result<String> {
        self.run("detach").arg("--device").arg(device).text()
    }

    /// `vem ports --json`
    pub fn ports(&self) -> Result<Vec<Value>> {
        let text = self.run("ports").arg("--json").text()?;
        let unreadable = |reason: String| Error::Unreadable { what: "vem ports --json".to_owned(), reason };
        let value: Value = serde_json::from_str(&text).map_err(|e| unreadable(e.to_string()))?;
        let rows = value.as_array().or_else(|| value.get("ports")?.as_array());
        rows.cloned().ok_or_else(|| unreadable(format!("no list of ports in {text}")))
    }

    /// The row of a device.
    pub fn port(&self, device: &str) -> Result<Option<Value>> {
        Ok(self.ports()?.into_iter().find(|p| p.get("device").and_then(Value::as_str) == Some(device)))
    }

    /// The interface of a device, such as `Vethernet3`, once the VSM has given it one.
    pub fn interface(&self, device: &str) -> Result<Option<String>> {
        let row = self.port(device)?;
        Ok(row.and_then(|r| r.get("interface").and_then(Value::as_str).map(str::to_owned)))
    }
}
