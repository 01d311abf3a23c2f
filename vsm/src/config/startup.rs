//! From CLI text to a configuration.
//!
//! The text is typed, line by line, into a session of its own on a supervisor without modules, from the configuration
//! out of the box onwards, or from another one ([`apply`]). So it means exactly what it would mean at the prompt, and a
//! text with an error changes nothing. Comments (`!`), blank lines, and a `version` with a dot in it are passed over, as
//! they are there.

use crate::cli::parse::parse;
use crate::cli::pipe;
use crate::cli::session::Session;
use crate::cli::tree::Mode;
use crate::module::registry::Inventory;
use crate::supervisor::Handle;

use super::model::Model;

/// A line that can't be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, '{text}': {reason}")]
pub struct LineError {
    /// Number of the line, from 1.
    pub line: usize,
    /// The line, without its indentation.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What is wrong, for a line of an answer: the first error, and how many there are beside it.
pub fn first_of(errors: &[LineError]) -> String {
    match errors {
        [] => String::new(),
        [only] => only.to_string(),
        [first, others @ ..] => format!("{first} (and {} more)", others.len()),
    }
}

/// A line to be typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Sub-modes below `(config)` in which it was typed; `None` finds its mode by itself.
    pub depth: Option<usize>,
    /// The line.
    pub text: String,
}

/// The model that the text describes.
///
/// # Errors
/// All lines that are wrong; a line may be wrong only because one before it is.
pub fn load(text: &str) -> Result<Model, Vec<LineError>> {
    apply(Model::default(), Inventory::default(), &lines(text))
}

/// The lines of a text.
pub fn lines(text: &str) -> Vec<Line> {
    text.lines().map(|line| Line { depth: None, text: line.trim_start().to_owned() }).collect()
}

/// What becomes of a configuration by typing the lines; the inventory is what commands see of the modules.
///
/// # Errors
/// As [`load`].
pub fn apply(model: Model, inventory: Inventory, lines: &[Line]) -> Result<Model, Vec<LineError>> {
    let mut session = Session::new(Handle::loading(model, inventory));
    session.enter(Mode::Config, Default::default());
    let mut errors = Vec::new();
    for (number, Line { depth, text: typed }) in (1..).zip(lines) {
        if typed.is_empty() || typed.starts_with('!') {
            continue;
        }
        while depth.is_some_and(|depth| session.depth() > depth) {
            session.leave();
        }
        if is_foreign(&session, typed) {
            let reason = "The line is no configuration".to_owned();
            errors.push(LineError { line: number, text: typed.trim_end().to_owned(), reason });
            continue;
        }
        let output = session.run_line(typed);
        let reason = match () {
            () if session.has_failed() => reason(&output),
            () if session.mode() == Mode::Exec => "The line leaves the configuration".to_owned(),
            () => continue,
        };
        if session.mode() == Mode::Exec {
            session.enter(Mode::Config, Default::default());
        }
        errors.push(LineError { line: number, text: typed.trim_end().to_owned(), reason });
    }
    if errors.is_empty() { Ok(Model::clone(&session.handle.model())) } else { Err(errors) }
}

/// The line asks the switch for something instead of configuring it; of these, moving between modes is harmless.
fn is_foreign(session: &Session, line: &str) -> bool {
    let parsed = |line: &str| parse(session.tree(), session.mode(), line).ok().flatten();
    let found = parsed(line).or_else(|| parsed(pipe::command(line)));
    let moves = ["configure [terminal]", "end", "exit"];
    found.is_some_and(|found| found.mode == Mode::Exec && !moves.contains(&found.command.syntax))
}

/// The last line of what was printed, with the column in place of the caret.
fn reason(output: &str) -> String {
    let caret = output.lines().find(|line| line.trim() == "^").map(|line| line.len());
    let last = output.lines().last().unwrap_or("").trim_start_matches("ERROR: ").trim_start_matches("% ");
    match caret {
        Some(column) => last.replace("at '^' marker", &format!("at column {column}")),
        None => last.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;
    use crate::config::random;
    use crate::config::running::{Part, body, text};

    const EXAMPLE: &str = "\
hostname dc1
username admin password 5 $argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY role network-admin
username ops password 5 ! role network-operator
username ops sshkey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMeWNq29LBE1ZJ4fEW+qyLxuKy69xaUbxTTEMtlC7aF4 ops@desk of mine

vlan 1,10-20
vlan 10
  name web
vlan 20
  state suspend
  shutdown

svs-domain
  domain id 100
vem 3
  host id f81d4fae-7dec-11d0-a765-00a0c91e6bf6

ip access-list peers
  10 permit ip any 192.168.100.0/24
  20 permit ip 192.168.100.0/24 any
  30 deny ip any 192.168.0.0/16

mac access-list six
  10 deny any any 0x86dd vlan 10
  20 permit 0200.0000.0001 0000.0000.0000 any

ip access-list thin
  statistics per-entry
  10 permit tcp any 192.168.100.0/24 eq 1494
  15 remark the other way
  20 permit tcp 192.168.100.0/24 eq www any range 2598 2600
  30 permit icmp any 10.0.0.1/32 echo-reply dscp ef
  40 deny udp 10.0.0.1 0.255.0.254 any neq snmp

flow record r
  description all there is
  match ip protocol
  match ipv6 source address
  collect counter bytes
  collect timestamp sys-uptime first

flow exporter e
  destination 192.0.2.1
  destination 192.0.2.2 port 2055
  transport udp 9996
  dscp 46
  version 10
    template data timeout 30
    option interface-table timeout 60

flow monitor m
  record r
  exporter e
  timeout active 60
  timeout inactive 5

port-profile type ethernet uplink
  switchport mode trunk
  switchport trunk native vlan 1
  switchport trunk allowed vlan 1,10-20
  no shutdown
  state enabled

port-profile type vethernet web
  description front ends
  switchport mode access
  switchport access vlan 10
  switchport protected
  ip port access-group thin in
  mac port access-group six out
  ip flow monitor m input
  no shutdown
  state enabled

port-profile type vethernet child
  inherit port-profile web
  mtu 9000

interface Ethernet3/1
  inherit port-profile uplink

interface Vethernet1
  description a | b
  inherit port-profile child
  switchport trunk allowed vlan none
  shutdown

interface Vethernet2
  inherit port-profile nobody

mac address-table aging-time 600
mac address-table static 0200.0000.0009 vlan 10 interface Vethernet1
mac address-table static 0200.0000.000a vlan 10 drop

monitor session 1 type local
  description ids
  source interface Vethernet1 rx
  source vlan 10 both
  source port-profile web tx
  destination interface Vethernet9
  no shut
";

    #[test]
    fn what_is_printed_reads_back() {
        let model = load(EXAMPLE).unwrap();
        assert_eq!(body(&model, &Part::Whole), EXAMPLE);
    }

    #[test]
    fn a_release_is_told_from_the_version_of_an_exporter() {
        let model = load("! saved\n\nversion 0.1.0\nflow exporter e\n  version 9\n").unwrap();
        assert!(model.exporters["e"].version.is_some());
        assert_eq!(load("hostname a\nversion 9\n").map_err(|e| e.len()), Err(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_model_reads_back(model in random::model()) {
            let printed = text(&model, &Part::Whole, "show startup-config", UNIX_EPOCH);
            prop_assert_eq!(load(&printed), Ok(model));
        }
    }

    #[test]
    fn errors_name_line_and_reason() {
        let wrong = "!Command: x\n\nversion 0.9\nhostname a\nvlan 5000\ninterface veth1\n  inherit port-profile \
                     Unused_Or_Quarantine_Uplink\nend\nvlan 1\n  frob\nshow clock | count\nwrite erase";
        let errors: Vec<String> = load(wrong).unwrap_err().iter().map(ToString::to_string).collect();
        let want = [
            "line 5, 'vlan 5000': Invalid number, range is (1:4094) at column 6.",
            "line 7, 'inherit port-profile Unused_Or_Quarantine_Uplink': \
             Port-profile 'Unused_Or_Quarantine_Uplink' is of type ethernet",
            "line 8, 'end': The line leaves the configuration",
            "line 10, 'frob': Invalid command at column 1.",
            "line 11, 'show clock | count': The line is no configuration",
            "line 12, 'write erase': The line is no configuration",
        ];
        assert_eq!(errors, want);
    }
}
