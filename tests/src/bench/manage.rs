//! Two hundred administrators at once, on a switch of 2,000 port profiles and 10,000 VM cards, and frames meanwhile.
//!
//! The administrators are OpenSSH's clients in the supervisor's namespace, each with a terminal. What they wait for is
//! measured first, without frames: supervisor and clients have both cores then, and the clients take most of them. With
//! frames the VEM has its core for itself, and everything else is on the other. The frames are a steady load of which
//! nothing may be lost; their generator comes before everything else on its core, as if it had a machine of its own.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::cpu;
use super::ground::Ground;
use super::receiver;
use super::report::{Report, Wanted};
use super::rounds;
use super::sender::{Sender, Traffic};
use super::vem::Vem;
use crate::command::Run;
use crate::error::{Error, Result, Tried};
use crate::lab::config::{SSH_USER, ssh_address};
use crate::lab::plan::Plan;

const VSM: &str = "vsm";
const PROFILES: u32 = 2_000;
const CARDS: u32 = 10_000;
const SESSIONS: usize = 200;
/// Logins that are under way at a time.
const AT_ONCE: usize = 20;
/// An answer that takes longer has not come.
const PATIENCE: Duration = Duration::from_secs(60);
/// The end of a session that nobody has ended.
const LIFE: Duration = Duration::from_secs(900);
const PROMPT: &str = "\nswitch# ";
const CONFIG: &str = "show running-config\n";
/// Offered to the switch all the time, frames per second.
const LOAD: f64 = 100_000.0;

const ONE: &str = "one of 200";
const ALL: &str = "all 200 at once";
const CONFIGURATION: &str = "`show running-config`, slowest";
const HELP: &str = "`?`, slowest";
const SIZE: &str = "size of the running configuration";
const QUIET: &str = "frames, administrators silent";
const BUSY: &str = "frames, all 200 at once";
const DELIVERED: &str = "delivered of 100,000 frames/s";
const PER_FRAME: &str = "processor time of the VEM per frame";

/// Runs the part.
pub fn run(ground: &mut Ground, rounds: u32, time: Duration) -> Result<Report> {
    let mut report = Report::new("manage");
    let vem = Vem::start(ground, 2)?;
    let key = prepare(ground, &vem)?;
    eprintln!("bench: {SESSIONS} administrators log in");
    let mut administrators = open(&vem.lab.plan, &key)?;
    report.rounds = rounds::run(
        ground,
        rounds,
        &[()],
        |()| "administrators",
        |ground, ()| round(ground, &mut report, &vem, &mut administrators, time),
    )?;
    targets(&mut report);
    Ok(report)
}

fn targets(report: &mut Report) {
    for subject in [ONE, ALL] {
        let shown = report.median(subject, CONFIGURATION);
        report.target(7, &format!("`show running-config`, {subject}"), Wanted::AtMost(2.0), "s", shown);
        let helped = report.median(subject, HELP);
        report.target(7, &format!("`?`, {subject}"), Wanted::AtMost(50.0), "ms", helped);
    }
    let kept = report.ratio(BUSY, QUIET, DELIVERED);
    report.target(7, "frames delivered meanwhile, against silence", Wanted::AtLeast(0.999), "", kept);
    report.remark(
        "manage: all 200 at once is 200 sessions that type the same in the same instant, and 250 MB that their clients \
         decrypt on the same machine. While there are frames, clients, supervisor and generator share one core.",
    );
}

fn round(
    ground: &Ground,
    report: &mut Report,
    vem: &Vem,
    administrators: &mut [Administrator],
    time: Duration,
) -> Result<()> {
    cores(vem, administrators, &[cpu::LOAD_CORE, cpu::SWITCH_CORE])?;
    let (delivered, per_frame) = frames(vem, time, || Ok(()))?.0;
    report.add(QUIET, DELIVERED, "", delivered);
    report.add(QUIET, PER_FRAME, "ns", per_frame);
    let mut slowest = [Duration::ZERO; 2];
    for administrator in administrators.iter_mut().step_by(SESSIONS / 10) {
        let (took, octets) = administrator.show(CONFIG)?;
        report.add(ONE, SIZE, "MB", octets as f64 / 1e6);
        slowest[0] = slowest[0].max(took);
        slowest[1] = slowest[1].max(administrator.help()?);
        ground.go_on()?;
    }
    report.add(ONE, CONFIGURATION, "s", slowest[0].as_secs_f64());
    report.add(ONE, HELP, "ms", slowest[1].as_secs_f64() * 1e3);
    let helped = at_once(administrators, Administrator::help)?;
    report.add(ALL, HELP, "ms", helped.as_secs_f64() * 1e3);
    let shown = at_once(administrators, |one| Ok(one.show(CONFIG)?.0))?;
    report.add(ALL, CONFIGURATION, "s", shown.as_secs_f64());
    ground.go_on()?;
    cores(vem, administrators, &[cpu::LOAD_CORE])?;
    let ((delivered, per_frame), shown) = frames(vem, time, || at_once(administrators, |one| Ok(one.show(CONFIG)?.0)))?;
    report.add(BUSY, CONFIGURATION, "s", shown.as_secs_f64());
    report.add(BUSY, DELIVERED, "", delivered);
    report.add(BUSY, PER_FRAME, "ns", per_frame);
    Ok(())
}

/// Supervisor and clients run on these cores.
fn cores(vem: &Vem, administrators: &[Administrator], cores: &[usize]) -> Result<()> {
    if let Some(supervisor) = vem.lab.process(VSM) {
        cpu::keep_to(supervisor.pid, cores)?;
    }
    administrators.iter().try_for_each(|one| cpu::keep_to(one.client.id(), cores))
}

/// The load from the first VM to the second, while `work` is done and for `time` at least: the part that was delivered,
/// and the VEM's processor time per frame, ns.
fn frames<T: Send>(vem: &Vem, time: Duration, work: impl FnOnce() -> Result<T> + Send) -> Result<((f64, f64), T)> {
    let (from, to) = (vem.vm(1)?, vem.vm(2)?);
    let _sink = receiver::sink(&to)?;
    let process = std::slice::from_ref(&vem.process);
    let before = (vem.count(&from.ifname)?, vem.count(&to.ifname)?, cpu::used(process)?);
    let traffic = Traffic { rate: Some(LOAD), ..Traffic::full(16) };
    let panicked = || Error::State("a generator panicked".to_owned());
    let (sent, done) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            cpu::first_here()?;
            Sender::open(&from, &to, traffic)?.run(time)
        });
        let done = work()?;
        Ok::<_, Error>((sending.join().map_err(|_| panicked())??, done))
    })?;
    thread::sleep(Duration::from_millis(200));
    let used = cpu::used(process)? - before.2;
    let arrived = vem.count(&to.ifname)?.since(before.1).sent;
    let taken = vem.count(&from.ifname)?.since(before.0).received;
    let per_frame = used.as_nanos() as f64 / taken.max(1) as f64;
    Ok(((arrived as f64 / sent.max(1) as f64, per_frame), done))
}

/// The slowest answer of all of them, who ask in the same instant.
fn at_once(
    administrators: &mut [Administrator],
    ask: impl Fn(&mut Administrator) -> Result<Duration> + Sync,
) -> Result<Duration> {
    let start = Barrier::new(administrators.len());
    let ask = |administrator: &mut Administrator| {
        start.wait();
        ask(administrator)
    };
    let panicked = || Error::State("an administrator panicked".to_owned());
    thread::scope(|scope| {
        let asked: Vec<_> = administrators.iter_mut().map(|one| scope.spawn(|| ask(one))).collect();
        asked
            .into_iter()
            .map(|one| one.join().map_err(|_| panicked())?)
            .try_fold(Duration::ZERO, |most, took| Ok(most.max(took?)))
    })
}

/// The configuration, and a key that opens it.
fn prepare(ground: &Ground, vem: &Vem) -> Result<PathBuf> {
    let mut text = String::from("vlan 100-1000\n");
    for n in 0..PROFILES {
        text.push_str(&format!("port-profile type vethernet web-{n:04}\n  description profile number {n}\n"));
        text.push_str(&format!("  switchport access vlan {}\n  no shutdown\n  state enabled\n", 100 + n % 900));
    }
    // Numbers that the lab's own cards have not.
    for n in 101..=CARDS {
        text.push_str(&format!("interface Vethernet{n}\n  description machine number {n}\n"));
        text.push_str(&format!("  inherit port-profile web-{:04}\n", n % PROFILES));
    }
    let plan: &Plan = &vem.lab.plan;
    let folder = plan.vsm_state().join("bootflash");
    fs::create_dir_all(&folder).tried(format!("{}", folder.display()))?;
    fs::write(folder.join("large"), text).tried("the configuration")?;
    let key = ground.dir().join("key");
    Run::new("ssh-keygen -q -t ed25519 -N").arg("").arg("-f").arg(key.display().to_string()).text()?;
    let public = fs::read_to_string(key.with_extension("pub")).tried("the public key")?;
    vem.lab.console().run(&["copy bootflash:large running-config"])?;
    vem.lab.console().configure(&[format!("username {SSH_USER} sshkey {}", public.trim())])?;
    Ok(key)
}

/// A person at a terminal.
struct Administrator {
    client: Child,
    keys: ChildStdin,
    screen: ChildStdout,
}

impl Drop for Administrator {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

fn open(plan: &Plan, key: &Path) -> Result<Vec<Administrator>> {
    let mut all: Vec<Administrator> = Vec::new();
    while all.len() < SESSIONS {
        let some = (0..AT_ONCE.min(SESSIONS - all.len())).map(|_| Administrator::open(plan, key));
        let mut some = some.collect::<Result<Vec<_>>>()?;
        for one in &mut some {
            one.read(PROMPT)?;
            one.show("terminal length 0\n")?;
        }
        all.append(&mut some);
    }
    Ok(all)
}

impl Administrator {
    fn open(plan: &Plan, key: &Path) -> Result<Administrator> {
        let address = ssh_address();
        let mut ssh = Run::new("ssh -tt -F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null")
            .args("-o LogLevel=ERROR -o IdentitiesOnly=yes -i")
            .arg(key.display().to_string())
            .args(&format!("-p {} {SSH_USER}@{}", address.port(), address.ip()))
            .limit(LIFE)
            .netns(&plan.vsm_netns())
            .command();
        let ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = ssh.spawn().tried("ssh")?;
        let missing = || Error::State("ssh without its pipes".to_owned());
        let keys = client.stdin.take().ok_or_else(missing)?;
        let screen = client.stdout.take().ok_or_else(missing)?;
        Ok(Administrator { client, keys, screen })
    }

    /// What appears until the screen ends with a text; its size.
    fn read(&mut self, until: &str) -> Result<usize> {
        let begun = Instant::now();
        let (mut octets, mut end) = (0, Vec::new());
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = self.screen.read(&mut buffer).tried("reading a terminal")?;
            let new = buffer.get(..count).unwrap_or_default();
            if new.is_empty() || begun.elapsed() > PATIENCE {
                return Err(Error::State(format!("a terminal ended: {}", String::from_utf8_lossy(&end))));
            }
            octets += new.len();
            end.extend_from_slice(new.get(new.len().saturating_sub(64)..).unwrap_or_default());
            let from = end.len().saturating_sub(64);
            end.drain(..from);
            if end.ends_with(until.as_bytes()) {
                return Ok(octets);
            }
        }
    }

    /// Types, and waits for the next prompt: the time that it took, and the octets that came.
    fn show(&mut self, typed: &str) -> Result<(Duration, usize)> {
        let begun = Instant::now();
        self.keys.write_all(typed.as_bytes()).tried("typing")?;
        let octets = self.read(PROMPT)?;
        Ok((begun.elapsed(), octets))
    }

    /// Asks what can follow `show`, and takes the word back; the time until the line stands there again.
    fn help(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.keys.write_all(b"show ?").tried("typing")?;
        self.read(&format!("{PROMPT}show "))?;
        let took = begun.elapsed();
        self.keys.write_all(b"\x15").tried("typing")?;
        Ok(took)
    }
}
