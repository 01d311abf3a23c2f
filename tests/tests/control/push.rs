//! Changes reach every module or none; whoever comes back is brought up to date.

use proto::addr::MacAddr;
use proto::msg::ConfigHash;
use proto::query::Query;
use proto::report::Answer;
use vsm::config::model::Model;
use vsm::supervisor::{EditError, Handle};

use crate::world::{Agent, World, port, rename, uplink, wait_for};

fn in_step(handle: &Handle, slot: u8) -> bool {
    let inventory = handle.inventory();
    let module = &inventory.modules[&slot];
    module.applied == module.intended && module.applied.0 > 0
}

#[test]
fn an_edit_returns_when_every_module_runs_it() {
    let world = World::new(100);
    let agents = [world.agent(1), world.agent(2)];
    wait_for("first configuration", || agents.iter().all(|a| a.hostname().is_some()));
    for i in 0..20 {
        let name = format!("name-{i}");
        assert_eq!(world.rename(&name), Ok(Vec::new()));
        for agent in &agents {
            assert_eq!(agent.hostname().as_deref(), Some(name.as_str()));
        }
    }
    for agent in &agents {
        let slot = agent.module();
        assert!(in_step(&world.handle(), slot));
        assert_eq!(world.handle().inventory().modules[&slot].applied, agent.state().applied);
    }
}

#[test]
fn a_dry_run_asks_every_module_and_changes_none() {
    let world = World::new(100);
    let agents = [world.agent(1), world.agent(2)];
    world.rename("before").unwrap();
    agents[1].state().refuse = Some("no room".to_owned());
    let mut session = vsm::cli::session::Session::new(world.handle());
    let commits = agents.each_ref().map(|agent| agent.state().commits);
    for line in ["configure session move", "hostname after", "vlan 10"] {
        session.run_line(line);
    }
    for line in ["commit dry-run", "show configuration session move impact"] {
        let text = session.run_line(line);
        assert!(text.contains("3          2  ready") && text.contains("4          2  refuses: no room"), "{text}");
        assert!(
            text.contains("before        after") && text.contains("refused by 1 module, and so changed on none"),
            "{text}"
        );
    }
    assert_eq!(agents.each_ref().map(|agent| agent.state().commits), commits);
    wait_for("every module has forgotten it", || agents.iter().all(|agent| agent.state().aborts >= 2));
    assert!(agents.iter().all(|agent| agent.hostname().as_deref() == Some("before")));
    assert_eq!(world.handle().model().hostname, "before");
    agents[1].state().refuse = None;
    assert!(session.run_line("commit dry-run").contains("Every module that is connected would take it"));
    session.run_line("commit");
    assert!(agents.iter().all(|agent| agent.hostname().as_deref() == Some("after")));
}

#[test]
fn what_one_module_refuses_none_gets() {
    let world = World::new(100);
    let agents = [world.agent(1), world.agent(2)];
    wait_for("first configuration", || agents.iter().all(|a| a.hostname().is_some()));
    world.rename("before").unwrap();
    agents[1].state().refuse = Some("no room".to_owned());
    let slot = agents[1].module();
    assert_eq!(world.rename("after"), Err(EditError::Module { slot, reason: "no room".to_owned() }));
    assert_eq!(world.handle().model().hostname, "before");
    wait_for("abort", || agents[0].state().aborts == 1);
    assert!(agents.iter().all(|a| a.hostname().as_deref() == Some("before")));
    world.wait_logged("%VEM_MGR-2-CONFIG_REFUSED: Module");
    agents[1].state().refuse = None;
    assert_eq!(world.rename("after"), Ok(Vec::new()));
    assert!(agents.iter().all(|a| a.hostname().as_deref() == Some("after")));
}

#[test]
fn a_change_that_says_no_changes_nothing_and_asks_nobody() {
    let world = World::new(100);
    let agent = world.agent(1);
    wait_for("first configuration", || agent.hostname().is_some());
    let prepares = agent.state().prepares;
    let outcome = world.handle().edit(Box::new(|model: &mut Model| {
        model.hostname = "other".to_owned();
        Err("no such thing".to_owned())
    }));
    assert_eq!(outcome, Err(EditError::Refused("no such thing".to_owned())));
    assert_eq!(world.handle().model().hostname, "switch");
    assert_eq!(agent.state().prepares, prepares);
    let other_domain = world.handle().edit(Box::new(|model: &mut Model| {
        model.domain_id = Some(200);
        Ok(Vec::new())
    }));
    assert!(matches!(other_domain, Err(EditError::Refused(reason)) if reason.contains("domain 100")));
}

#[test]
fn a_mute_module_is_disconnected_and_holds_up_nobody() {
    let world = World::new(100);
    let agents = [world.agent(1), world.agent(2)];
    wait_for("first configuration", || agents.iter().all(|a| a.hostname().is_some()));
    agents[1].state().mute = true;
    let warnings = world.rename("after").unwrap();
    assert!(warnings.iter().any(|w| w.contains("was lost meanwhile")), "{warnings:?}");
    assert_eq!(agents[0].hostname().as_deref(), Some("after"));
    world.wait_logged("it did not answer a prepare within 3 seconds");
    agents[1].state().mute = false;
    wait_for("resync", || agents[1].hostname().as_deref() == Some("after"));
}

#[test]
fn only_modules_whose_configuration_changes_are_asked() {
    let world = World::new(100);
    let (one, two) = (world.agent(1), world.agent(2));
    wait_for("first configuration", || one.hostname().is_some() && two.hostname().is_some());
    let prepares = two.state().prepares;
    one.set_ports(vec![port("vm-a/0", "web")]);
    wait_for("a port", || one.state().config.as_ref().is_some_and(|c| c.ports.len() == 1));
    assert_eq!(two.state().prepares, prepares);
}

#[test]
fn cards_get_numbers_that_stay_with_them() {
    let mut world = World::new(100);
    let (one, two) = (world.agent(1), world.agent(2));
    one.set_ports(vec![port("vm-a/0", "web"), port("vm-b/0", "web"), uplink(1, "up")]);
    wait_for("ports", || one.state().config.as_ref().is_some_and(|c| c.ports.len() == 3));
    let names = |agent: &Agent| {
        let state = agent.state();
        let ports = state.config.iter().flat_map(|c| &c.ports);
        ports.map(|p| (p.nic.to_string(), p.name.short(), p.profile.clone())).collect::<Vec<_>>()
    };
    let row = |nic: &str, name: &str, profile: &str| (nic.to_owned(), name.to_owned(), profile.to_owned());
    let eth = format!("Eth{}/1", one.module());
    let mut got = names(&one);
    got.sort();
    assert_eq!(got, [row("uplink/1", &eth, "up"), row("vm-a/0", "Veth1", "web"), row("vm-b/0", "Veth2", "web")]);

    // The card moves to the other host, and gets another profile there.
    one.set_ports(vec![port("vm-b/0", "web")]);
    two.set_ports(vec![port("vm-a/0", "db"), port("vm-c/0", "db")]);
    wait_for("moved", || names(&two) == [row("vm-a/0", "Veth1", "db"), row("vm-c/0", "Veth3", "db")]);
    wait_for("gone", || names(&one) == [row("vm-b/0", "Veth2", "web")]);

    // Numbers and slots are the same after a restart of the supervisor.
    let slots = (one.module(), two.module());
    world.stop();
    wait_for("down", || one.state().module.is_none() && two.state().module.is_none());
    world.start(Model::default());
    wait_for("back", || (one.state().module, two.state().module) == (Some(slots.0), Some(slots.1)));
    wait_for("in step", || in_step(&world.handle(), slots.0) && in_step(&world.handle(), slots.1));
    assert_eq!(names(&two), [row("vm-a/0", "Veth1", "db"), row("vm-c/0", "Veth3", "db")]);
    assert_eq!(world.handle().inventory().vethernets.len(), 3);
}

#[test]
fn who_comes_back_is_brought_up_to_date_and_who_is_up_to_date_is_left_alone() {
    let world = World::new(100);
    let dir = world.enroll(1);
    let cfg = world.link_config(1, dir.path());
    let agent = Agent::start(cfg.clone(), None, (0, ConfigHash::default()));
    wait_for("first configuration", || agent.hostname().is_some());
    let applied = agent.state().applied;
    agent.stop();
    world.wait_logged("MOD_OFFLINE");

    // Nothing has changed meanwhile: nothing is pushed.
    let agent = Agent::start(cfg.clone(), None, applied);
    wait_for("up", || agent.state().module.is_some());
    wait_for("in step", || in_step(&world.handle(), 3));
    assert_eq!(agent.state().prepares, 0);
    agent.stop();
    wait_for("absent", || world.handle().inventory().modules[&3].address.is_none());

    world.rename("meanwhile").unwrap();
    let agent = Agent::start(cfg, None, applied);
    wait_for("resync", || agent.hostname().as_deref() == Some("meanwhile"));
    assert!(agent.state().applied.0 > applied.0);
}

#[test]
fn a_refused_resync_shows_in_the_inventory() {
    let world = World::new(100);
    let agent = world.agent(1);
    wait_for("first configuration", || agent.hostname().is_some());
    agent.state().refuse = Some("no memory".to_owned());
    agent.set_ports(vec![port("vm-a/0", "web")]);
    world.wait_logged("no memory");
    wait_for("not in step", || !in_step(&world.handle(), 3));
    assert_eq!(world.handle().inventory().vethernets.len(), 1);
    agent.state().refuse = None;
    agent.set_ports(vec![port("vm-a/0", "web")]);
    wait_for("in step", || in_step(&world.handle(), 3));
}

#[test]
fn edits_of_many_hands_are_made_one_after_the_other() {
    let world = World::new(100);
    let agent = world.agent(1);
    wait_for("first configuration", || agent.hostname().is_some());
    std::thread::scope(|scope| {
        for hand in 0..8 {
            let handle = world.handle();
            scope.spawn(move || {
                for i in 0..10 {
                    let mac: MacAddr = format!("0200.0000.{hand:02x}{i:02x}").parse().unwrap();
                    let change = move |model: &mut Model| {
                        model.static_macs.insert((proto::addr::VlanId::DEFAULT, mac), None);
                        Ok(Vec::new())
                    };
                    handle.edit(Box::new(change)).unwrap();
                }
            });
        }
    });
    assert_eq!(world.handle().model().static_macs.len(), 80);
    assert_eq!(agent.state().config.as_ref().unwrap().static_macs.len(), 80);
}

#[test]
fn questions_go_to_one_or_to_all() {
    let world = World::new(100);
    assert_eq!(world.handle().ask(Query::Macs, None), []);
    let agents = [world.agent(1), world.agent(2)];
    let answer = Ok(Answer::Macs(Vec::new()));
    assert_eq!(world.handle().ask(Query::Macs, None), [(3, answer.clone()), (4, answer.clone())]);
    assert_eq!(world.handle().ask(Query::Macs, Some(4)), [(4, answer.clone())]);
    assert_eq!(world.handle().ask(Query::Macs, Some(9)), [(9, Err("module 9 is not connected".to_owned()))]);
    agents[1].state().mute = true;
    let answers = world.handle().ask(Query::Macs, None);
    assert_eq!(answers[0], (3, answer));
    assert!(matches!(&answers[1], (4, Err(reason)) if reason.contains("did not answer")));
}

#[test]
fn a_module_can_be_forgotten_when_it_is_away() {
    let world = World::new(100);
    let agent = world.agent(1);
    assert!(world.handle().remove_module(3).unwrap_err().contains("is connected"));
    agent.stop();
    wait_for("absent", || world.handle().inventory().modules[&3].address.is_none());
    world.handle().remove_module(3).unwrap();
    assert!(world.handle().inventory().modules.is_empty());
}

#[test]
fn a_stopped_supervisor_says_so() {
    let mut world = World::new(100);
    let handle = world.handle();
    world.stop();
    assert_eq!(handle.edit(rename("x")), Err(EditError::Stopping));
    assert_eq!(handle.ask(Query::Macs, None), []);
    handle.stop();
}
