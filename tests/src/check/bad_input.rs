//! Bad input gets a clear error and changes nothing.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use super::{Report, interface, six};
use crate::agent::{Agent, Attachment};
use crate::command::Run;
use crate::error::{Error, Result, Tried, expect};
use crate::lab::Lab;
use crate::lab::config::CONTROL_PORT;
use crate::lab::plan::{UPLINK_PROFILE, VSM_ADDRESS};
use crate::netns;
use crate::ping;

/// Wrong commands, wrong profiles, wrong files, wrong messages.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let lab = &*lab;
    let [vm1, vm2, ..] = six(lab)?;
    let console = lab.console();
    let running = || -> Result<String> {
        let text = lab.console().show("show running-config")?;
        // The time of the listing is the only line that may differ.
        Ok(text.lines().filter(|l| !l.starts_with("!Time")).collect::<Vec<_>>().join("\n"))
    };
    let before = running()?;
    report.check("wrong commands are refused with the caret", || {
        for line in ["vlan 5000", "switchport", "ip access-list", "monitor session 0", "no such command"] {
            let said = console.refused(&[line])?;
            expect(said.contains('%') && said.contains('^'), || format!("`{line}`: {said}"))?;
        }
        Ok(())
    });
    report.check("a profile of the wrong type is refused", || {
        let name = interface(lab, &vm1)?;
        let said = console.refused(&[format!("interface {name}"), format!("inherit port-profile {UPLINK_PROFILE}")])?;
        expect(said.contains("ERROR"), || said.clone())?;
        let said = console.refused(&["port-profile type ethernet vm"])?;
        expect(said.contains("ERROR"), || said.clone())
    });
    report.check("none of it changed the configuration", || {
        let after = running()?;
        expect(after == before, || format!("before:\n{before}\nafter:\n{after}"))
    });
    report.check("an unknown VLAN is warned of", || {
        let said = console.configure(&["port-profile type vethernet unknown-vlan", "switchport access vlan 3000"])?;
        let warned = said.to_lowercase().contains("warning") && said.contains("3000");
        console.configure(&["no port-profile unknown-vlan"])?;
        expect(warned, || format!("printed: {said}"))
    });
    report.check("vem attach refuses what can't be", || {
        let agent = Agent::of(&lab.plan, lab.plan.host(&vm1.host)?);
        let ports = agent.ports()?.len();
        let bad = [
            Attachment { profile: "vm", device: "no-such-device", kind: "netdev", ..Attachment::default() },
            Attachment { profile: "vm", device: "a-name-that-is-too-long", kind: "tap", ..Attachment::default() },
            Attachment {
                profile: "vm",
                device: "x0",
                kind: "tap",
                netns: Some("no-such-netns"),
                ..Attachment::default()
            },
            Attachment { profile: "vm", device: "x0", kind: "tap", mac: Some("nonsense"), ..Attachment::default() },
            Attachment { profile: "", device: "x0", kind: "tap", ..Attachment::default() },
        ];
        for port in &bad {
            expect(agent.attach(port).is_err(), || format!("accepted: {port:?}"))?;
        }
        expect(agent.ports()?.len() == ports, || "a refused port is listed".to_owned())
    });
    report.check("a configuration file with an error names line and reason", || {
        for (binary, text) in [
            ("vsm", "domain = 100\nlisten = \"127.0.0.1:1\"\nnonsense = 1\n"),
            ("vem", "[host]\ndomain = 100\nstate_dir = \"/nonexistent\"\nnonsense = 1\n"),
        ] {
            file_with_error(lab, binary, text)?;
        }
        Ok(())
    });
    report.check("a malformed message ends that connection only", || {
        let garbage = [b"\x16\x03\x01\xff\xff".repeat(400), vec![0; 4096], b"GET / HTTP/1.1\r\n\r\n".to_vec()];
        for message in garbage {
            netns::within(&lab.plan.collector_netns(), || malformed(&message))?;
        }
        let shown = lab.console().show("show module")?;
        let ok =
            shown.lines().filter(|l| l.contains("Virtual Ethernet Module") && l.trim_end().ends_with("ok")).count();
        expect(ok == lab.plan.hosts.len(), || format!("modules were lost:\n{shown}"))?;
        expect(ping::reaches(&vm1, &vm2, 2), || "forwarding stopped".to_owned())
    });
    Ok(())
}

/// Starts a binary with a wrong file; it must end, and say which line is wrong and why.
fn file_with_error(lab: &Lab, binary: &str, text: &str) -> Result<()> {
    let path = lab.plan.dir.join(format!("wrong-{binary}.toml"));
    std::fs::write(&path, text).tried("file")?;
    let file = path.display().to_string();
    let said =
        Run::new("").arg(lab.binary(binary)).args("run --config").arg(&file).limit(Duration::from_secs(5)).text();
    std::fs::remove_file(&path).tried("file")?;
    let Err(Error::Command { output, .. }) = said else {
        return Err(Error::Unmet(format!("{binary} started with it")));
    };
    let line = (1..).zip(text.lines()).find(|(_, l)| l.starts_with("nonsense")).map_or(0, |(n, _)| n);
    let named = output.contains(Path::new(&file).file_name().and_then(|n| n.to_str()).unwrap_or_default())
        && output.contains(&line.to_string())
        && output.contains("nonsense");
    expect(named, || format!("{binary} said only: {output}"))
}

/// Sends the octets to the port where the VSM awaits VEMs, and waits for the end of the connection.
fn malformed(message: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect((VSM_ADDRESS, CONTROL_PORT)).tried("control port")?;
    // The other end may close before all is written; that is the point.
    let _ = stream.write_all(message);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    stream.set_read_timeout(Some(Duration::from_secs(15))).tried("read timeout")?;
    match std::io::copy(&mut stream, &mut std::io::sink()) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error).tried("the VSM keeps the connection"),
    }
}
