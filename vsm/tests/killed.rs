//! Whenever the supervisor is killed, the next one finds the old configuration or the new one, never another.
//!
//! The shipped binary is run, given commands by its own client, and killed (SIGKILL) at a random moment of a save, a
//! checkpoint, a copy and a commit; the chain of the accounting log is whole then. What it has left is read by the next one. That every moment between two system calls
//! is sound, and not only those that are hit here, is shown in `store.rs` and `lifecycle/startup.rs`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Times that the supervisor is killed, unless the environment's `KILLS` says otherwise.
const ROUNDS: u64 = 30;
/// VLANs of a configuration; each has a name that says which of the two it is.
const VLANS: u16 = 100;

struct Vsm(Child);

impl Drop for Vsm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn config(folder: &Path) -> PathBuf {
    let path = folder.join("vsm.toml");
    let text = format!(
        "domain = 7\nlisten = \"127.0.0.1:0\"\nstate_dir = \"{0}/state\"\ncli_socket = \"{0}/cli\"\n",
        folder.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn start(folder: &Path) -> Vsm {
    let mut vsm = Command::new(env!("CARGO_BIN_EXE_vsm"));
    let vsm = vsm.args(["run", "--config"]).arg(folder.join("vsm.toml")).env("RUST_LOG", "error");
    let vsm = Vsm(vsm.stdin(Stdio::null()).spawn().unwrap());
    let patience = Instant::now() + Duration::from_secs(60);
    while !run(folder, "show clock").0 {
        assert!(Instant::now() < patience, "the supervisor does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    vsm
}

fn client(folder: &Path, commands: &str) -> Command {
    let mut client = Command::new(env!("CARGO_BIN_EXE_vsm"));
    client.args(["cli", "--socket"]).arg(folder.join("cli")).args(["-c", commands]);
    client
}

fn run(folder: &Path, commands: &str) -> (bool, String) {
    let output = client(folder, commands).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// A session that gives every VLAN the name.
fn session(name: &str) -> String {
    let vlans = (1000..1000 + VLANS).map(|id| format!("vlan {id}\nname {name}-{id}\n")).collect::<String>();
    format!("configure session change\n{vlans}commit\n")
}

/// Which of the two the configuration is; it must be all of one.
fn which(text: &str) -> &'static str {
    let count = |name: &str| text.lines().filter(|line| line.starts_with(&format!("  name {name}-"))).count();
    match (count("odd"), count("even")) {
        (odd, 0) if odd == usize::from(VLANS) => "odd",
        (0, even) if even == usize::from(VLANS) => "even",
        mixed => panic!("neither the old nor the new configuration: {mixed:?} of {VLANS}"),
    }
}

#[test]
fn a_killed_supervisor_leaves_the_old_or_the_new_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    config(folder);
    let mut vsm = start(folder);
    let begun = Instant::now();
    let (done, printed) = run(folder, &format!("{}copy running-config startup-config", session("odd")));
    // About what the commands of a round take.
    let whole = begun.elapsed().mul_f64(1.2);
    assert!(done, "{printed}");
    let mut seed = u64::from(std::process::id());
    let mut found = std::collections::BTreeMap::new();
    let rounds = std::env::var("KILLS").map_or(ROUNDS, |text| text.parse().unwrap());
    for round in 0..rounds {
        let was = which(&run(folder, "show running-config").1);
        let next = if was == "odd" { "even" } else { "odd" };
        let commands = format!(
            "{}copy running-config startup-config\ncheckpoint kept-{round}\ncopy running-config bootflash:copy\n",
            session(next)
        );
        let mut typing = client(folder, &commands).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(whole.mul_f64((seed >> 40) as f64 / (1u64 << 24) as f64));
        drop(vsm);
        typing.wait().unwrap();
        vsm = start(folder);
        let runs = run(folder, "show running-config").1;
        let starts = run(folder, "show startup-config").1;
        assert_eq!(which(&runs), which(&starts));
        *found.entry(if which(&runs) == was { "old" } else { "new" }).or_insert(0u64) += 1;
        let log = run(folder, "show logging").1;
        assert!(!log.contains("STARTUP_REFUSED"), "{log}");
        // What was recorded before the kill is there, and a record that was torn is said.
        let chain = run(folder, "show accounting log verify | json").1;
        assert!(chain.contains("\"intact\":\"true\""), "{chain}");
        let (_, kept) = run(folder, &format!("show checkpoint kept-{round}"));
        if !kept.starts_with("ERROR") {
            assert_eq!(which(&kept), next);
            *found.entry("checkpoint").or_default() += 1;
            run(folder, &format!("no checkpoint kept-{round}"));
        }
        let (_, copy) = run(folder, "show file bootflash:copy");
        if !copy.starts_with("ERROR") {
            *found.entry(if which(&copy) == next { "new copy" } else { "old copy" }).or_default() += 1;
        }
    }
    println!("killed {rounds} times; found: {found:?}");
    drop(vsm);
}

#[test]
fn a_commit_that_waits_ends_with_the_supervisor() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    config(folder);
    let vsm = start(folder);
    assert!(run(folder, "configure terminal ; hostname before ; copy running-config startup-config").0);
    let trial = "configure session x ; hostname trial ; vlan 10 ; commit confirmed 1440 ; show hostname";
    let (done, printed) = run(folder, trial);
    assert!(done && printed.ends_with("\ntrial\n"), "{printed}");
    // The terminal has gone, the trial goes on, and nothing makes it lasting but its confirmation.
    let (done, printed) = run(folder, "copy running-config startup-config");
    assert!(!done && printed.contains("waits for its confirmation"), "{printed}");
    drop(vsm);
    let _vsm = start(folder);
    assert_eq!(run(folder, "show hostname").1, "before\n");
    assert!(run(folder, "configure terminal ; vlan 20 ; copy running-config startup-config").0);
}

#[test]
fn a_startup_file_with_an_error_starts_the_last_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    config(folder);
    let vsm = start(folder);
    assert!(run(folder, "configure terminal ; hostname good ; copy running-config startup-config").0);
    drop(vsm);
    let file = folder.join("state/startup-config");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("hostname good", "hostname bad\nvlan 5000")).unwrap();
    let vsm = start(folder);
    assert_eq!(run(folder, "show hostname").1, "good\n");
    let log = run(folder, "show logging").1;
    assert!(log.contains("%VSHD-2-STARTUP_REFUSED: startup-config is not used: line 6, 'vlan 5000'"), "{log}");
    assert!(run(folder, "show startup-config").1.contains("vlan 5000"));
    let refused = run(folder, "copy startup-config running-config");
    assert!(!refused.0 && refused.1.contains("startup-config: line 6, 'vlan 5000'"), "{}", refused.1);
    drop(vsm);
    // There is no good one: nothing starts, rather than something else.
    std::fs::remove_file(folder.join("state/startup-config.good")).unwrap();
    let outcome =
        Command::new(env!("CARGO_BIN_EXE_vsm")).args(["run", "--config"]).arg(folder.join("vsm.toml")).output();
    let outcome = outcome.unwrap();
    assert!(!outcome.status.success());
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(said.contains("startup-config: line 6, 'vlan 5000'"), "{said}");
}
