//! Who gets in, and who is told why not.

use proto::msg::{ConfigHash, Event, FromVem};
use proto::token::Token;
use vem::enroll::{Error, enroll};
use vem::link;

use crate::world::{Agent, World, uuid, wait_for};

fn downs(agent: &Agent, text: &str) -> bool {
    agent.state().downs.iter().any(|reason| reason.contains(text))
}

#[test]
fn a_token_is_a_module() {
    let world = World::new(100);
    let dir = world.enroll(1);
    world.wait_logged("%VEM_MGR-5-VEM_MGR_ENROLLED: Host host-1 (01010101-");
    let agent = Agent::start(world.link_config(1, dir.path()), None, (0, ConfigHash::default()));
    wait_for("up", || agent.state().module == Some(3));
    assert!(world.logged("%VEM_MGR-2-VEM_MGR_DETECTED: Host host-1 detected as module 3"));
    let inventory = world.handle().inventory();
    assert_eq!(inventory.modules[&3].host, "host-1");
    assert!(inventory.modules[&3].address.is_some());
    agent.send(FromVem::Event(Event {
        facility: "ethport".to_owned(),
        severity: 5,
        mnemonic: "IF_UP".to_owned(),
        text: "Vethernet1 is\nup".to_owned(),
    }));
    world.wait_logged("%ETHPORT-5-IF_UP: Module 3: Vethernet1 is?up");
    agent.stop();
    world.wait_logged("%VEM_MGR-2-MOD_OFFLINE: Module 3 is offline");
    wait_for("absent", || world.handle().inventory().modules[&3].address.is_none());
    let counters = world.handle().inventory().modules[&3].counters;
    assert_eq!((counters.insertions, counters.removals), (1, 1));
    assert!(counters.messages_in >= 2 && counters.messages_out >= 1, "{counters:?}");
}

#[test]
fn bad_tokens_are_refused_on_both_sides() {
    let world = World::new(100);
    let dir = tempfile::tempdir().unwrap();
    let refused = |token: &str, why: &str| {
        match enroll(token, uuid(1), "host-1", dir.path()).unwrap_err() {
            Error::Refused(reason) => assert!(reason.contains(why), "{reason}"),
            other => panic!("{other}"),
        }
        world.wait_logged(why);
    };
    let good: Token = world.token(None).parse().unwrap();
    refused(&Token { secret: [1; 32], ..good.clone() }.to_string(), "the join token is not known here");
    refused(&Token { domain: 200, ..good.clone() }.to_string(), "domain 200 is not served here");
    refused(&world.token(Some("host-9")), "the join token is for host host-9");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was stored");
    enroll(&good.to_string(), uuid(1), "host-1", dir.path()).unwrap();
    refused(&good.to_string(), "the join token has been used already");
    assert!(world.logged("%VEM_MGR-2-VEM_MGR_REFUSED: Refused host host-1 ("));
}

#[test]
fn an_expired_token_is_refused() {
    let world = World::new(100);
    let dir = tempfile::tempdir().unwrap();
    let token: Token = world.token(None).parse().unwrap();
    // What counts is what the supervisor has stored.
    let tokens = world.boot.state_dir.join("tokens");
    let stored = std::fs::read_dir(&tokens).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&stored).unwrap().replace(&token.expires_s.to_string(), "1000");
    std::fs::write(&stored, text).unwrap();
    let error = enroll(&token.to_string(), uuid(1), "host-1", dir.path()).unwrap_err();
    assert!(matches!(&error, Error::Refused(reason) if reason.contains("expired")), "{error}");
}

#[test]
fn a_token_of_another_authority_tells_nobody_its_secret() {
    let (world, other) = (World::new(100), World::new(100));
    let dir = tempfile::tempdir().unwrap();
    let token: Token = world.token(None).parse().unwrap();
    let lured = Token { addresses: vec![other.address()], ..token.clone() };
    let error = enroll(&lured.to_string(), uuid(1), "host-1", dir.path()).unwrap_err();
    assert!(matches!(&error, Error::Supervisor { .. }), "{error}");
    other.wait_logged("it does not trust this supervisor: it belongs to another domain (UnknownCA)");
    // The token is still good where it belongs.
    enroll(&token.to_string(), uuid(1), "host-1", dir.path()).unwrap();
}

#[test]
fn a_host_without_a_certificate_does_not_start_a_link() {
    let world = World::new(100);
    let dir = tempfile::tempdir().unwrap();
    let poll = mio::Poll::new().unwrap();
    let waker = std::sync::Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
    let (sender, _events) = crossbeam::channel::bounded(4);
    let outcome = link::start(world.link_config(1, dir.path()), (0, ConfigHash::default()), sender, waker);
    assert!(matches!(outcome, Err(link::Error::NotEnrolled(_))));
}

#[test]
fn a_wrong_domain_is_refused_on_both_sides() {
    let world = World::new(100);
    let dir = world.enroll(1);
    let cfg = link::Config { domain: 200, ..world.link_config(1, dir.path()) };
    let agent = Agent::start(cfg, None, (0, ConfigHash::default()));
    wait_for("refused", || downs(&agent, "domain 200 is not served here; this supervisor serves domain 100"));
    world.wait_logged("%VEM_MGR-2-VEM_MGR_REFUSED: Refused host host-1");
    assert!(world.handle().inventory().modules.is_empty());
}

#[test]
fn another_host_s_certificate_is_refused() {
    let world = World::new(100);
    let dir = world.enroll(1);
    let agent = Agent::start(world.link_config(2, dir.path()), None, (0, ConfigHash::default()));
    wait_for("refused", || downs(&agent, "is not the certificate's"));
    world.wait_logged("is not the certificate's");
}

#[test]
fn a_second_agent_of_the_same_host_is_refused() {
    let world = World::new(100);
    let dir = world.enroll(1);
    let first = Agent::start(world.link_config(1, dir.path()), None, (0, ConfigHash::default()));
    wait_for("up", || first.state().module == Some(3));
    let second = Agent::start(world.link_config(1, dir.path()), None, (0, ConfigHash::default()));
    wait_for("refused", || downs(&second, "is connected already"));
    world.wait_logged("is connected already");
    assert_eq!(first.state().module, Some(3));
    assert!(first.state().downs.is_empty());
    first.stop();
    wait_for("the second takes over", || second.state().module == Some(3));
}

#[test]
fn certificates_of_another_domain_are_refused_both_ways() {
    let (world, other) = (World::new(100), World::new(100));
    let (own, foreign) = (world.enroll(1), other.enroll(2));

    // An agent that has joined elsewhere does not believe this supervisor.
    let agent = Agent::start(world.link_config(2, foreign.path()), None, (0, ConfigHash::default()));
    wait_for("refused", || downs(&agent, "not of the domain that this host has joined"));
    world.wait_logged("it does not trust this supervisor: it belongs to another domain");

    // One that is made to believe it has a certificate that this supervisor does not believe.
    let text = |dir: &tempfile::TempDir| std::fs::read_to_string(dir.path().join("identity.pem")).unwrap();
    let authority_at = |text: &str| text.rfind("-----BEGIN CERTIFICATE").unwrap();
    let (own_text, foreign_text) = (text(&own), text(&foreign));
    let mixed = format!("{}{}", &foreign_text[..authority_at(&foreign_text)], &own_text[authority_at(&own_text)..]);
    std::fs::write(foreign.path().join("identity.pem"), mixed).unwrap();
    let agent = Agent::start(world.link_config(2, foreign.path()), None, (0, ConfigHash::default()));
    wait_for("refused", || downs(&agent, "does not know this host's certificate"));
    world.wait_logged("its certificate is not of this domain");
    assert!(world.handle().inventory().modules.is_empty());
}
