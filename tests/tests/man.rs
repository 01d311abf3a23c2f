//! The manual pages are those of the command lines that are built. `BLESS=1` writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/man")
}

/// The page of a command, and those of what it can do, by name: `vem`, `vem-attach`.
fn pages(command: &Command, name: &str, into: &mut BTreeMap<String, String>) {
    let shown = command.clone().name(&*name.to_owned().leak()).bin_name(name.replace('-', " "));
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(shown.disable_help_subcommand(true)).section("8").date("");
    man.render(&mut page).expect("a page");
    into.insert(name.to_owned(), String::from_utf8(page).expect("text"));
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        pages(inner, &format!("{name}-{}", inner.get_name()), into);
    }
}

#[test]
fn the_manual_pages_are_those_of_the_command_lines() {
    let mut all = BTreeMap::new();
    let daemons = [
        ("vsm", vsm::args::Args::command()),
        ("vem", vem::args::Cli::command()),
        ("flow-relay", vem::relay::args::Cli::command()),
    ];
    for (name, command) in daemons {
        pages(&command, name, &mut all);
    }
    if std::env::var_os("BLESS").is_some() {
        let _gone = fs::remove_dir_all(directory());
        fs::create_dir_all(directory()).expect("docs/man");
        for (name, page) in &all {
            fs::write(directory().join(format!("{name}.8")), page).expect("a page");
        }
    }
    let there = fs::read_dir(directory()).expect("docs/man").map(|file| file.expect("a file").path());
    let there: BTreeMap<String, String> = there
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("a page"))
        })
        .collect();
    assert_eq!(there, all, "BLESS=1 cargo test -p tests --test man");
    for page in all.values() {
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".TH"), "{page}");
    }
}
