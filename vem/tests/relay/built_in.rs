//! The sender that the agent has built in: what our own exporter writes while nobody is there waits on the disk and arrives.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant as StdInstant};

use proto::flow::{Destination, Exporter, Monitor, Transport, Version};
use vem::export::transport::Credentials;
use vem::export::{self, Anchor, Config};
use vswitch::flow::key::{FlowKey, shape};
use vswitch::flow::record::{EndReason, Outcome, Record};
use vswitch::time::Instant;

use super::place::Place;

fn record(port: u16) -> Record {
    let key = FlowKey { src_port: port, protocol: 17, shape: shape::IPV4 | shape::PORTS, ..FlowKey::default() };
    Record {
        key,
        vlan: None,
        flows: 1,
        packets: 1,
        octets: 100,
        l2_octets: 114,
        first: Instant::from_ms(1),
        last: Instant::from_ms(2),
        tcp_flags: 0,
        outcome: Outcome::Flooded,
        end: EndReason::Idle,
        sampling: Default::default(),
        detail: Default::default(),
        again: false,
        monitors_in: 1,
        monitors_out: 0,
    }
}

#[test]
fn our_own_exporter_has_it_built_in() {
    has_it_built_in(Place::new());
}

#[test]
fn also_towards_a_receiver_by_ipv6() {
    let mut place = Place::new();
    place.receiver = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), place.receiver.port());
    has_it_built_in(place);
}

fn has_it_built_in(place: Place) {
    let key = place.shared("shared.key");
    place.write(place.receiver, "", [&key, &key]);
    let (dir, memory) = (place.dir.path().display(), place.memory.path().display());
    let relay = format!(
        "spool_dir = \"{dir}/own\"\nspool_key = \"{dir}/spool.key\"\nruntime_dir = \"{memory}/own\"\ntrust = {{ {key} }}\n"
    );
    let credentials =
        Credentials { relay: Some(toml::from_str(&relay).unwrap()), host: "host1".into(), ..Credentials::default() };
    let exporter = Exporter {
        name: "e".into(),
        destinations: vec![Destination::new(place.receiver.ip(), place.receiver.port())],
        version: Version::Ipfix,
        dscp: 0,
        template_timeout_s: 60,
        option_timeout_s: 60,
        payload_max: 1400,
        transport: Some(Transport::Relay),
        ..Exporter::default()
    };
    let monitor = Monitor {
        name: "m".into(),
        record: None,
        exporters: vec!["e".into()],
        active_s: 1800,
        inactive_s: 15,
        ..Monitor::default()
    };
    let config = Config { module: 3, exporters: vec![exporter], monitors: vec![monitor], ..Config::default() };
    let (mut ring, consumer) = rtrb::RingBuffer::new(1024);
    let origin = StdInstant::now() - Duration::from_secs(3);
    let handle = export::start_with(vec![consumer], Anchor::new(origin), credentials).unwrap();
    handle.configure(config).unwrap();
    (1..=500).for_each(|port| ring.push(record(port)).unwrap());
    let end = StdInstant::now() + Duration::from_secs(20);
    while handle.rows()[0].records < 500 {
        assert!(StdInstant::now() < end, "{:?}", handle.rows());
        std::thread::sleep(Duration::from_millis(20));
    }
    let spool = place.path(&format!("own/{}-{}", place.receiver.ip(), place.receiver.port()));
    let segments = || std::fs::read_dir(&spool).unwrap().count();
    while segments() < 2 {
        assert!(StdInstant::now() < end, "nothing on the disk");
        std::thread::sleep(Duration::from_millis(20));
    }
    let _receiver = place.receiver();
    place.collector.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (mut buffer, mut sequence) = (vec![0; 65_536], 0);
    let mut parser = netflow_parser::NetflowParser::default();
    let mut flows = 0;
    while flows < 500 {
        let length = place.collector.recv(&mut buffer).unwrap();
        let message = &buffer[..length];
        assert_eq!(u32::from_be_bytes(message[8..12].try_into().unwrap()), sequence, "none is missing, none twice");
        for packet in parser.parse_bytes(message).packets {
            let netflow_parser::NetflowPacket::IPFix(ipfix) = packet else { panic!("no IPFIX") };
            for set in ipfix.flowsets {
                use netflow_parser::variable_versions::ipfix::FlowSetBody;
                match set.body {
                    FlowSetBody::Data(data) => {
                        flows += data.fields.len();
                        sequence += data.fields.len() as u32;
                    }
                    FlowSetBody::OptionsData(data) => sequence += data.fields.len() as u32,
                    _ => {}
                }
            }
        }
    }
    assert_eq!(flows, 500);
    assert_eq!(handle.stop()[0].failed_records, 0);
}
