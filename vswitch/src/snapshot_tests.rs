//! What a snapshot refuses, and when a port's generation moves.

use proto::acl::{Acl, MacRule, Rules};
use proto::addr::MacAddr;

use super::*;
use crate::config::AclConfig;

fn port(id: u16) -> PortConfig {
    PortConfig {
        id: PortId(id),
        uplink: false,
        up: true,
        mode: PortMode::default(),
        protected: false,
        mtu: 1500,
        ip_acl_in: None,
        ip_acl_out: None,
        mac_acl_in: None,
        mac_acl_out: None,
        flow_in: None,
        flow_out: None,
        sampling: Default::default(),
    }
}

fn mac_list(rule_ids: Vec<u32>) -> AclConfig {
    let rules: Vec<(u32, MacRule)> = Vec::new();
    AclConfig { acl: Acl { name: "m".into(), statistics: true, rules: Rules::Mac(rules) }, rule_ids }
}

fn base() -> Config {
    Config { vlans: VlanSet::all(), ports: vec![port(1), port(2)], ..Config::default() }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = base();
        change(&mut config);
        Snapshot::build(&config).unwrap_err().to_string()
    };
    assert!(Snapshot::build(&base()).is_ok());
    assert_eq!(refused(&|c| c.ports.push(port(2))), "port 2 is given twice");
    assert_eq!(refused(&|c| c.ports.push(port(1024))), "port number: 1024 are more than 1023");
    assert_eq!(refused(&|c| c.ports[0].ip_acl_in = Some(0)), "port 1 refers to access list 0, which does not exist");
    assert_eq!(refused(&|c| c.ports[0].flow_out = Some(0)), "port 1 refers to flow monitor 0, which does not exist");
    assert_eq!(
        refused(&|c| {
            c.acls = vec![mac_list(vec![0])];
            c.ports[0].ip_acl_in = Some(0);
        }),
        "access list 'm' is of the wrong kind"
    );
    assert_eq!(refused(&|c| c.acls = vec![mac_list(vec![5]), mac_list(vec![5])]), "rule number 5 is given twice");
    assert_eq!(refused(&|c| c.acls = vec![mac_list(vec![65_536])]), "rule number: 65536 are more than 65535");
    assert!(refused(&|c| c.acls = vec![mac_list(vec![])]).contains("a rule without a number"));
    let sampled = |id: u16| PortConfig { sampling: [Sampling::from_number(id.into()), Sampling::NONE], ..port(id) };
    assert_eq!(refused(&|c| c.ports = (2..19).map(sampled).collect()), "samplers: 17 are more than 16");
    let session = |rx: u16| SessionConfig { rx_ports: vec![PortId(rx)], ..SessionConfig::default() };
    assert_eq!(refused(&|c| c.sessions = vec![session(3)]), "session 0 refers to port 3, which does not exist");
    assert_eq!(refused(&|c| c.sessions = vec![session(1); 65]), "monitor sessions: 65 are more than 64");
    assert_eq!(refused(&|c| c.sessions = vec![session(1); 2]), "session 0 is given twice");
    let listed = SessionConfig { filter_acl: Some(9), ..session(1) };
    assert_eq!(
        refused(&|c| c.sessions = vec![listed.clone()]),
        "session 0 refers to access list 9, which does not exist"
    );
    let high = SessionConfig { id: 257, ..session(1) };
    assert_eq!(refused(&|c| c.sessions = vec![high.clone()]), "number of a monitor session: 257 are more than 256");
    let entry = |port: u16| StaticMac { vlan: VlanId::DEFAULT, mac: MacAddr([2; 6]), port: Some(PortId(port)) };
    assert!(refused(&|c| c.static_macs = vec![entry(9)]).contains("refers to port 9"));
    assert!(refused(&|c| c.static_macs = vec![entry(1), entry(2)]).contains("is given twice"));
}

#[test]
fn a_generation_moves_with_what_its_port_rests_on_and_only_then() {
    let mut running = Snapshot::build(&base()).unwrap();
    let mut config = base();
    config.ports[1].mode = PortMode::Access(VlanId::new(2).unwrap());
    config.ports.push(PortConfig { uplink: true, ..port(3) });
    let mut next = |config: &Config| -> Vec<bool> {
        let mut snapshot = Snapshot::build(config).unwrap();
        snapshot.succeed(&running);
        let moved = (1..4).map(|id| snapshot.generation(PortId(id)) != running.generation(PortId(id))).collect();
        running = snapshot;
        moved
    };
    next(&config);
    assert_eq!(next(&config), [false, false, false]);
    config.acls = vec![mac_list(vec![1])];
    assert_eq!(next(&config), [false, false, false]);
    config.ports[0].mac_acl_out = Some(0);
    assert_eq!(next(&config), [true, false, false]);
    config.acls = vec![mac_list(vec![2])];
    assert_eq!(next(&config), [true, false, false]);
    config.protected_macs = vec![MacAddr([2; 6])];
    assert_eq!(next(&config), [false, false, true]);
    config.vlans.remove(VlanId::new(2).unwrap());
    assert_eq!(next(&config), [false, true, false]);
    config.sessions = vec![SessionConfig { rx_ports: vec![PortId(2)], ..SessionConfig::default() }];
    assert_eq!(next(&config), [false, true, false]);
    config.sessions[0].rx_vlans = [VlanId::DEFAULT].into_iter().collect();
    assert_eq!(next(&config), [true, false, true]);
    // A port that goes and comes back is not mistaken for what it was.
    let gone = config.ports.remove(0);
    next(&config);
    config.ports.insert(0, gone);
    assert!(next(&config)[0]);
}
