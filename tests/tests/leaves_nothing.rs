//! A lab that fails half-way, or loses its parts, leaves nothing behind and says why.
//!
//! The supervisor is a script here: what is tested is the lab itself. Needs root and taps; without them there is nothing to
//! test and the test says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tests::lab::plan::Plan;
use tests::lab::{Lab, build};
use tests::{netns, process::Process};

fn able() -> bool {
    let reason = netns::unable();
    if let Some(reason) = &reason {
        eprintln!("skipped: {reason}");
    }
    reason.is_none()
}

fn script(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
}

fn nothing_left(plan: &Plan) {
    for name in plan.namespaces() {
        assert!(!netns::exists(&name), "{name} is left");
    }
    assert!(!plan.dir.exists(), "{} is left", plan.dir.display());
}

#[test]
fn an_up_that_fails_shows_the_log_and_cleans_up() {
    if !able() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    script(folder.path(), "vsm", "case $1 in run) echo the disk is full; exit 1;; *) exit 1;; esac");
    script(folder.path(), "vem", "exit 1");
    script(folder.path(), "lab", "exit 1");
    let plan = Plan::new("tlua", folder.path().join("up"), folder.path().into(), 3, 1).expect("a plan");
    let error = build::up(plan.clone(), &mut |_| ()).expect_err("this vsm has no console");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    nothing_left(&plan);
}

#[test]
fn down_also_removes_what_is_not_written_down() {
    if !able() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan::new("tlub", folder.path().join("lab"), folder.path().into(), 2, 2).expect("a plan");
    let mut lab = Lab::claim(plan.clone()).expect("claimed");
    assert!(Lab::claim(plan.clone()).is_err(), "a second lab in the same folder is refused");
    assert!(Lab::open(&plan.dir).is_err(), "a half-built lab is not open");
    let vm = plan.vms[1].netns.clone();
    netns::add(&vm).expect("added");
    let log = plan.dir.join("log");
    lab.start("known", &vm, &["sleep", "60"], &log).expect("started");
    let known = lab.process("known").expect("written down").clone();
    let unknown = tests::process::spawn("unknown", Some(&vm), &["sleep", "60"], &log).expect("started");
    // The state file is all that a later program knows.
    let found = Lab::find(&plan.dir).expect("readable").expect("a lab");
    assert_eq!(found, lab);
    found.down().expect("removed");
    assert!(!known.alive() && !unknown.alive(), "processes are left");
    assert!(Process::of("x", known.pid).is_none_or(|p| p != known || !p.alive()));
    nothing_left(&plan);
    assert!(Lab::find(&plan.dir).expect("readable").is_none());
}

#[test]
fn does_not_take_what_is_not_its_own() {
    if !able() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("thesis.txt"), "years of work").expect("written");
    let plan = Plan::new("tluc", folder.path().into(), folder.path().into(), 2, 1).expect("a plan");
    assert!(Lab::claim(plan.clone()).is_err(), "a folder with other files");
    assert!(folder.path().join("thesis.txt").exists());
    let plan = Plan { dir: folder.path().join("lab"), ..plan };
    netns::add("tluc-ids").expect("added");
    let refused = Lab::claim(plan);
    netns::delete("tluc-ids").expect("deleted");
    assert!(refused.is_err(), "somebody else's namespace");
}
