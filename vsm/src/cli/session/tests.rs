use super::*;
use crate::config::model::{Model, User};

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
    let all = |role| Session::of(handle.clone(), 0, Some("ops".into())).role() == Some(role);
    assert!(all(Role::NetworkOperator));
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
