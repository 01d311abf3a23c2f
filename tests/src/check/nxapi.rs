//! The switch by NX-API, with curl from outside of the lab.

use std::fs;

use serde_json::{Value, json};

use super::Report;
use crate::command::Run;
use crate::error::{Error, Result, Tried, expect};
use crate::lab::Lab;
use crate::lab::config::SSH_USER;

/// Both dialects, one stack of modes, and who is let in.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let lab = &*lab;
    let password = fs::read_to_string(lab.plan.admin_password_file()).tried("the administrator's password")?;
    let password = password.trim();
    report.check("nxapi shows the modules as JSON, in both dialects", || {
        let (status, answer) = post(lab, SSH_USER, password, &rpc(&["show module vem mapping"]))?;
        let text = answer.to_string();
        let hosts = lab.plan.hosts.iter().all(|host| text.contains(&host.uuid));
        expect(status == 200 && hosts, || format!("{status}: {answer}"))?;
        let ins = json!({"ins_api": {"version": "1.0", "type": "cli_show", "chunk": "0", "sid": "1",
            "input": "show hostname", "output_format": "json"}});
        let (status, answer) = post(lab, SSH_USER, password, &ins)?;
        let body = &answer["ins_api"]["outputs"]["output"]["body"];
        expect(status == 200 && body["hostname"].is_string(), || format!("{status}: {answer}"))
    });
    report.check("nxapi changes the configuration, and the console sees it", || {
        let (status, answer) = post(lab, SSH_USER, password, &rpc(&["vlan 78", "name by-nxapi"]))?;
        let seen = lab.console().show("show vlan id 78");
        lab.console().configure(&["no vlan 78"])?;
        expect(status == 200 && seen?.contains("by-nxapi"), || format!("{status}: {answer}"))
    });
    report.check("nxapi lets an operator look only, and nobody in with a wrong password", || {
        let console = lab.console();
        console.configure(&["username watcher password Look-but-don't role network-operator"])?;
        let look = post(lab, "watcher", "Look-but-don't", &rpc(&["show version"]));
        let touch = post(lab, "watcher", "Look-but-don't", &rpc(&["vlan 78"]));
        let wrong = post(lab, "watcher", password, &rpc(&["show version"]));
        console.configure(&["no username watcher"])?;
        let (look, touch, wrong) = (look?, touch?, wrong?);
        expect(look.0 == 200, || format!("looking: {}", look.0))?;
        let said = touch.1.to_string();
        expect(said.contains("% Permission denied for the role"), || format!("touching: {said}"))?;
        expect(wrong.0 == 401, || format!("a wrong password: {}", wrong.0))
    });
    Ok(())
}

fn rpc(commands: &[&str]) -> Value {
    let one = |(id, cmd)| json!({"jsonrpc": "2.0", "method": "cli", "params": {"cmd": cmd, "version": 1}, "id": id});
    commands.iter().enumerate().map(one).collect()
}

/// HTTP's status and the answer; `null` when that is no JSON. The certificate is the one that the switch has made.
fn post(lab: &Lab, user: &str, password: &str, body: &Value) -> Result<(u16, Value)> {
    let told = fs::read_to_string(lab.plan.address_file("nxapi")).tried("the address of the switch's NX-API")?;
    let unread = |reason: String| Error::Unreadable { what: "the switch's NX-API".to_owned(), reason };
    let (_, port) = told.trim().rsplit_once(':').ok_or_else(|| unread(told.clone()))?;
    let text = Run::new("curl --silent --show-error --max-time 20 --cacert")
        .arg(lab.plan.vsm_state().join("nxapi.pem").display().to_string())
        .arg("--user")
        .arg(format!("{user}:{password}"))
        .arg("--resolve")
        .arg(format!("localhost:{port}:127.0.0.1"))
        .args("--header Content-Type:application/json-rpc --data")
        .arg(body.to_string())
        .arg("--write-out")
        .arg("\n%{http_code}")
        .arg(format!("https://localhost:{port}/ins"))
        .text()?;
    let (answer, status) = text.rsplit_once('\n').ok_or_else(|| unread(text.clone()))?;
    let status = status.trim().parse().map_err(|_| unread(text.clone()))?;
    Ok((status, serde_json::from_str(answer).unwrap_or_default()))
}
