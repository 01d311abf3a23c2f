//! The switch by SSH, with OpenSSH's client from outside of the lab.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use super::Report;
use crate::command::Run;
use crate::error::{Error, Result, Tried, expect};
use crate::lab::Lab;
use crate::lab::config::SSH_USER;

/// Commands, their exit status, and who is let in.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let lab = &*lab;
    let password = fs::read_to_string(lab.plan.admin_password_file()).tried("the administrator's password")?;
    let password = password.trim();
    let dir = lab.plan.folder("vsm").join("ssh-client");
    fs::create_dir_all(&dir).tried(format!("{}", dir.display()))?;
    report.check("ssh runs a command and leaves with its status", || {
        let shown = ssh(lab, SSH_USER, password, "show module vem mapping")?;
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let hosts = lab.plan.hosts.iter().all(|host| text.contains(&host.uuid));
        expect(shown.status.success() && hosts, || format!("{}: {text}", shown.status))?;
        let refused = ssh(lab, SSH_USER, password, "show frob")?;
        expect(refused.status.code() == Some(1), || format!("a wrong command: {}", refused.status))
    });
    report.check("ssh changes the configuration, and the console sees it", || {
        let changed = ssh(lab, SSH_USER, password, "conf t ; vlan 77 ; name by-ssh")?;
        let seen = lab.console().show("show vlan id 77");
        lab.console().configure(&["no vlan 77"])?;
        expect(changed.status.success() && seen?.contains("by-ssh"), || format!("{}", changed.status))
    });
    report.check("a new operator may look only, and a wrong password lets nobody in", || {
        let console = lab.console();
        console.configure(&["username watcher password Look-but-don't role network-operator"])?;
        let look = ssh(lab, "watcher", "Look-but-don't", "show version");
        let touch = ssh(lab, "watcher", "Look-but-don't", "configure terminal");
        let wrong = ssh(lab, "watcher", password, "show version");
        console.configure(&["no username watcher"])?;
        let (look, touch, wrong) = (look?, touch?, wrong?);
        expect(look.status.success(), || format!("looking: {}", look.status))?;
        let said = String::from_utf8_lossy(&touch.stdout);
        expect(said.contains("% Permission denied for the role"), || format!("touching: {said}"))?;
        expect(wrong.status.code() == Some(255), || format!("a wrong password: {}", wrong.status))
    });
    fs::remove_dir_all(&dir).tried(format!("{}", dir.display()))
}

/// `ssh USER@SWITCH COMMANDS`, whatever comes of it.
fn ssh(lab: &Lab, user: &str, password: &str, commands: &str) -> Result<Output> {
    let told = fs::read_to_string(lab.plan.address_file("ssh")).tried("the address of the switch's SSH")?;
    let unread = || Error::Unreadable { what: "the address of the switch's SSH".to_owned(), reason: told.clone() };
    let (address, port) = told.trim().rsplit_once(':').ok_or_else(unread)?;
    let dir = lab.plan.folder("vsm").join("ssh-client");
    let (secret, askpass) = (dir.join("secret"), dir.join("askpass"));
    let private = |path: &std::path::Path, text: String| {
        fs::write(path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
    };
    private(&secret, format!("{password}\n")).tried(format!("{}", secret.display()))?;
    private(&askpass, format!("#!/bin/sh\nexec cat '{}'\n", secret.display()))
        .tried(format!("{}", askpass.display()))?;
    Run::new("env SSH_ASKPASS_REQUIRE=force")
        .arg(format!("SSH_ASKPASS={}", askpass.display()))
        .args("ssh -F /dev/null -o StrictHostKeyChecking=accept-new -o PubkeyAuthentication=no -o IdentityAgent=none")
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", dir.join("known").display()))
        .args("-o NumberOfPasswordPrompts=1 -p")
        .arg(port)
        .arg(format!("{user}@{address}"))
        .arg(commands)
        .output()
}
