//! The main job: a lab of the binaries that are built here, every theme of `lab check`, and nothing left afterwards.
//!
//! Needs root and taps; without them there is nothing to run and the test says so.

use std::path::Path;
use std::process::Command;

use tests::check;
use tests::lab::plan::Plan;
use tests::lab::{self, Lab, build};
use tests::netns;

/// Removes the lab whatever happens to the test.
struct Removed(Option<Lab>);

impl Removed {
    fn remove(mut self) {
        self.0.take().expect("a lab").down().expect("the lab goes");
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|lab| lab.down()) {
            eprintln!("the lab is left: {error}");
        }
    }
}

/// `cargo test` builds the binaries of other packages only when it tests those too.
fn built(bin: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    // The whole workspace, as `make test` builds it: a part of it would be built with other features, from the beginning.
    cargo.args(["build", "--quiet", "--workspace", "--bins"]);
    // What cargo tells a test about itself would make build scripts of dependencies run again.
    let about_us = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| about_us(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    if bin.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).status().expect("cargo");
    assert!(status.success(), "the binaries can't be built");
}

#[test]
fn the_main_job() {
    if let Some(reason) = netns::unable() {
        eprintln!("skipped: {reason}");
        return;
    }
    let bin = lab::binaries().expect("a folder");
    built(&bin);
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan::new("e2e", folder.path().join("lab"), bin, 2, 3).expect("a plan");
    let lab = build::up(plan.clone(), &mut |step| println!("{step}")).expect("the lab comes up");
    let mut lab = Removed(Some(lab));
    let report = check::run(lab.0.as_mut().expect("a lab"), &[]).expect("the lab is large enough");
    println!("{}", report.line());
    let logs: Vec<String> = if report.failed() > 0 {
        let up = lab.0.as_ref().expect("a lab");
        ["vsm", "host1", "host2"].map(|part| format!("{part}:\n{}", up.log_end(part, 15))).into()
    } else {
        Vec::new()
    };
    lab.remove();
    assert_eq!(report.failed(), 0, "{}\n{}", report.line(), logs.join("\n"));
    for name in plan.namespaces() {
        assert!(!netns::exists(&name), "{name} is left");
    }
    assert!(!plan.dir.exists(), "{} is left", plan.dir.display());
}
