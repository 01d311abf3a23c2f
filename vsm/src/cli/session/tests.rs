use super::*;
use crate::config::model::{Model, User};
use crate::config::role::{NETWORK_OPERATOR, SERVER_ADMIN};
use crate::config::startup;

fn session() -> Session {
    Session::new(Handle::detached(Model::default()))
}

#[test]
fn modes_nest() {
    let mut session = session();
    session.enter(Mode::FlowExporter, Subject::Name("e".into()));
    assert_eq!(session.prompt(), "switch(config-flow-exporter)# ");
    session.enter(Mode::FlowExporterVersion, Subject::Number(9));
    session.leave();
    assert_eq!(session.subject(), &Subject::Name("e".into()));
    session.enter(Mode::Vlan, Subject::None);
    session.leave();
    assert_eq!(session.mode(), Mode::Config);
    session.enter(Mode::FlowExporterVersion, Subject::None);
    session.end();
    assert_eq!((session.mode(), session.is_closed()), (Mode::Exec, false));
    session.leave();
    assert!(session.is_closed());
}

#[test]
fn an_operator_looks_and_changes_nothing() {
    let mut model = Model::default();
    model.users.insert("ops".into(), User::default());
    let handle = Handle::detached(model);
    let mut session = Session::of(handle.clone(), 0, Some("ops".into()));
    for line in ["configure terminal", "copy running-config startup-config", "clear counters"] {
        assert_eq!(session.run_line(line), "% Permission denied for the role\n");
        assert!(session.has_failed());
    }
    for line in ["show version", "terminal length 0", "end", "enable"] {
        session.run_line(line);
        assert!(!session.has_failed(), "{line}");
    }
    let roles = Session::of(handle.clone(), 0, Some("ops".into())).roles();
    assert_eq!(roles, Some(vec![NETWORK_OPERATOR.to_owned()]));
    handle
        .edit(Box::new(|model| {
            model.users.clear();
            Ok(Vec::new())
        }))
        .unwrap();
    assert_eq!(session.run_line("show version"), "% Permission denied for the role\n");
    assert!(session.is_closed());
}

#[test]
fn lines_print_and_fail() {
    let mut session = session();
    assert_eq!(session.run_line("! comment"), "");
    assert_eq!(session.run_line("  frob"), "  ^\n% Invalid command at '^' marker.\n");
    assert!(session.has_failed());
    assert_eq!(session.run_line("conf t | count"), "1\n");
    assert_eq!((session.mode(), session.has_failed()), (Mode::Config, false));
    assert_eq!(session.run_line("exit | frob"), "       ^\n% Invalid command at '^' marker.\n");
    assert_eq!(session.mode(), Mode::Config);
    assert_eq!(session.run_line("end"), "");
    assert_eq!(session.mode(), Mode::Exec);
}

const CONFIGURATION: &str = "\
vlan 1,10-20
port-profile type vethernet web
  switchport access vlan 10
  state enabled
port-profile type vethernet draft
port-profile type ethernet up
  state enabled
interface vethernet 1
interface vethernet 2
interface ethernet 3/1
role name net
  description the network's team
  rule 40 deny command clear *
  rule 30 permit read-write feature files
  rule 20 permit read-write feature checkpoint
  rule 19 permit read-write feature draft
  rule 10 permit read-write feature port
  rule 9 permit read-write feature vlan
  rule 8 permit command interface *
  rule 7 deny command show version
  interface policy deny
    permit interface veth1
  vlan policy deny
    permit vlan 10-11
role name clears
  rule 1 permit command clear *
username net password 5 ! role net
username both password 5 ! role net
username both role clears
username srv password 5 ! role server-admin
";

/// Types lines as a user, and says which of them the role has no right to.
fn denied<'a>(user: &str, lines: &[&'a str]) -> Vec<&'a str> {
    let handle = Handle::detached(startup::load(CONFIGURATION).unwrap());
    let mut session = Session::of(handle, 0, Some(user.to_owned()));
    let mut denied = Vec::new();
    for line in lines {
        let printed = session.run_line(line);
        match session.was_denied() || printed.contains("permission denied for the role") {
            true => denied.push(*line),
            false => assert!(!session.has_failed(), "{line}: {printed}"),
        }
    }
    denied
}

#[test]
fn a_server_administrator_attaches_and_nothing_else() {
    let may = ["show version", "configure terminal", "interface vethernet 1", "inherit port-profile web", "end"];
    assert_eq!(denied("srv", &may), [""; 0]);
    let ranged = ["conf", "interface veth1-2", "inherit port-profile web", "terminal length 0", "sh run"];
    assert_eq!(denied("srv", &ranged), [""; 0]);
    let not = [
        "interface veth3",
        "interface eth3/1",
        "no interface veth1",
        "vlan 10",
        "inherit port-profile draft",
        "inherit port-profile up",
        "inherit port-profile nobody",
        "no inherit port-profile",
        "shutdown",
        "description x",
        "switchport access vlan 10",
        "copy running-config startup-config",
        "configure session x",
        "username srv role network-admin",
        "role name net",
        "clear counters",
        "clear accounting log",
        "reload",
    ];
    for line in &not[..not.len() - 1] {
        assert_eq!(denied("srv", &["conf t", "interface veth1", line]), [*line]);
    }
}

#[test]
fn rules_and_policies_hold_for_every_way_in() {
    let own = [
        "conf t",
        "vlan 10",
        "name web",
        "int veth1",
        "sw acc vlan 11",
        "shut",
        "inherit port-profile web",
        "switchport trunk allowed vlan 10",
        "copy run bootflash:x",
        "checkpoint mine",
    ];
    assert_eq!(denied("net", &own), [""; 0]);
    let lines = [
        "interface veth2",
        "interface veth1-2",
        "vlan 12",
        "vlan 10,13",
        "no vlan 20",
        "switchport access vlan 12",
        "switchport trunk allowed vlan all",
        "switchport trunk allowed vlan except 12",
        "switchport mode trunk",
        "inherit port-profile draft",
        "no switchport trunk allowed vlan",
        "default switchport trunk allowed vlan",
        "hostname x",
        "role name net",
        "username net role network-admin",
        "show version",
        "cle count",
        "no role name net",
    ];
    for line in lines {
        assert_eq!(denied("net", &["conf t", "interface veth1", line]), [line]);
    }
    // What one role denies another may permit.
    assert_eq!(denied("both", &["clear counters", "clear mac address-table dynamic"]), [""; 0]);
    // A configuration session, also one that an administrator has begun.
    assert_eq!(
        denied("net", &["configure session mine", "vlan 10", "vlan 12", "hostname x", "commit"]),
        ["vlan 12", "hostname x"]
    );
}

/// Text that somebody else has kept does not bring in what may not be typed.
#[test]
fn nobody_brings_in_what_he_may_not_type() {
    let handle = Handle::detached(startup::load(CONFIGURATION).unwrap());
    let mut admin = Session::new(handle.clone());
    for line in [
        "checkpoint same",
        "configure session theirs",
        "vlan 10",
        "hostname stolen",
        "end",
        "configure terminal",
        "hostname kept",
        "checkpoint kept",
        "copy running-config bootflash:kept",
        "hostname switch",
    ] {
        admin.run_line(line);
        assert!(!admin.has_failed(), "{line}");
    }
    let mut net = Session::of(handle.clone(), 0, Some("net".into()));
    for line in [
        "copy bootflash:kept running-config",
        "copy bootflash:kept startup-config",
        "rollback running-config checkpoint kept",
        "rollback running-config file kept",
    ] {
        let printed = net.run_line(line);
        assert!(printed.contains("permission denied for the role"), "{line}: {printed}");
    }
    net.run_line("configure session theirs");
    assert!(net.run_line("commit").contains("'hostname stolen': permission denied for the role"));
    assert_eq!(handle.model().hostname, "switch");
    net.run_line("end");
    net.run_line("conf t");
    net.run_line("vlan 10");
    net.run_line("name mine");
    let printed = net.run_line("rollback running-config checkpoint same");
    assert!(!net.has_failed() && printed.contains("completed successfully"), "{printed}");
}

#[test]
fn roles_count_from_the_next_command_on_and_a_given_one_stays() {
    let handle = Handle::detached(startup::load(CONFIGURATION).unwrap());
    let mut session = Session::of(handle.clone(), 0, Some("srv".into()));
    let change = |role: &'static str| {
        let add = move |model: &mut Model| {
            model.users.get_mut("srv").unwrap().roles.insert(role.to_owned());
            Ok(Vec::new())
        };
        handle.edit(Box::new(add)).unwrap();
    };
    session.run_line("conf t");
    session.run_line("hostname x");
    assert!(session.was_denied());
    change("network-admin");
    session.run_line("hostname x");
    assert!(!session.was_denied());
    session.granted = Some(vec![SERVER_ADMIN.to_owned(), "no-such-role".to_owned()]);
    session.run_line("hostname y");
    assert!(session.was_denied());
}

#[test]
fn secrets_of_a_shortened_line_are_not_shown_either() {
    let handle = Handle::detached(startup::load("username ops password 5 ! role network-operator").unwrap());
    let mut admin = Session::new(handle.clone());
    for line in [
        "conf sess mine",
        "radius-s key Secret-one",
        "radius-s h 192.0.2.1 k Secret-two timeo 3",
        "usern ann pass Secret-three",
    ] {
        admin.run_line(line);
        assert!(!admin.has_failed(), "{line}");
    }
    assert!(admin.run_line("show configuration session mine").contains("Secret-two"));
    let mut ops = Session::of(handle.clone(), 0, Some("ops".into()));
    let shown = ops.run_line("show configuration session mine");
    assert!(
        shown.contains("radius-server host 192.0.2.1 key ******** timeout 3") && !shown.contains("Secret"),
        "{shown}"
    );
    assert!(!admin.run_line("show accounting log all").contains("Secret"));
    admin.run_line("commit");
    assert_eq!(handle.model().aaa.radius.key.as_deref(), Some("Secret-one"));
}
