use std::net::{Ipv4Addr, UdpSocket};

use proto::flow::{Destination, Field, Sampler};
use vswitch::port::PortId;
use vswitch::time::Instant;

use super::super::Interface;
use super::super::flow::tests::tcp4;
use super::*;

struct Collector(UdpSocket);

impl Collector {
    fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Collector(socket)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    fn receive(&self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2000];
        std::iter::from_fn(|| self.0.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())).collect()
    }
}

fn at(ms: u64) -> Moment {
    Moment { now: Instant::from_ms(ms), boot_ms: 1_700_000_000_000 }
}

fn exporter(name: &str, version: Version, collector: &Collector) -> Exporter {
    Exporter {
        name: name.into(),
        destinations: vec![Destination::new(Ipv4Addr::LOCALHOST.into(), collector.port())],
        version,
        dscp: 0,
        template_timeout_s: 60,
        option_timeout_s: 60,
        payload_max: 1400,
        ..Exporter::default()
    }
}

fn monitor(name: &str, record: Option<&str>, exporters: &[&str]) -> Monitor {
    Monitor {
        name: name.into(),
        record: record.map(str::to_owned),
        exporters: exporters.iter().map(|name| (*name).to_owned()).collect(),
        active_s: 1800,
        inactive_s: 15,
        ..Monitor::default()
    }
}

fn interface(port: u16, if_index: u16) -> Interface {
    Interface { port: PortId(port), if_index, name: String::new(), description: String::new(), uplink: true }
}

fn config(exporters: Vec<Exporter>, monitors: Vec<Monitor>) -> Config {
    let fields = vec![Field::SourceAddress, Field::Bytes];
    let records = vec![proto::flow::Record { name: "talkers".into(), fields }];
    Config {
        module: 3,
        records,
        exporters,
        monitors,
        interfaces: vec![interface(1, 0x0101), interface(2, 0x0202)],
        ..Config::default()
    }
}

fn contains(datagrams: &[Vec<u8>], octets: &[u8]) -> bool {
    datagrams.iter().any(|datagram| datagram.windows(octets.len()).any(|window| window == octets))
}

#[test]
fn a_record_goes_to_the_exporters_of_its_monitors_with_their_interfaces() {
    let (a, b) = (Collector::new(), Collector::new());
    let exporters = vec![exporter("a", Version::V5, &a), exporter("b", Version::V5, &b)];
    let monitors = vec![monitor("m", None, &["a"]), monitor("n", None, &["b"]), monitor("o", None, &["a"])];
    let mut plan = Plan::default();
    plan.configure(config(exporters, monitors), at(0));
    let mut record = tcp4();
    (record.monitors_in, record.monitors_out) = (0b100, 0b001);
    plan.push(&record, at(10));
    plan.flush(at(20));
    let received = a.receive();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].len(), 24 + 2 * 48, "once for each monitor");
    assert!(contains(&received, &[1, 1, 2, 2]), "interfaces");
    assert!(b.receive().is_empty());
    assert_eq!(plan.rows().iter().map(|row| row.records).collect::<Vec<_>>(), [2, 0]);
}

#[test]
fn direction_is_that_of_the_monitor_and_a_dropped_flow_has_no_output() {
    let collector = Collector::new();
    let mut plan = Plan::default();
    let monitors = vec![monitor("m", None, &["a"])];
    plan.configure(config(vec![exporter("a", Version::V9, &collector)], monitors), at(0));
    let mut record = tcp4();
    (record.monitors_in, record.monitors_out) = (0, 1);
    plan.push(&record, at(10));
    record.monitors_in = 1;
    record.outcome = Outcome::Dropped(vswitch::verdict::DropReason::AclDeny);
    plan.push(&record, at(10));
    plan.flush(at(20));
    let received = collector.receive();
    // IP version, direction, end reason, forwarding status.
    assert!(contains(&received, &[4, 1, 3, 64]) && contains(&received, &[4, 0, 3, 129]));
    assert!(contains(&received, &[0, 0, 1, 1, 0, 0, 2, 2]) && contains(&received, &[0, 0, 1, 1, 0, 0, 0, 0]));
}

#[test]
fn an_exporter_that_stays_goes_on_and_another_version_begins_anew() {
    let collector = Collector::new();
    let monitors = || vec![monitor("m", None, &["a"])];
    let mut plan = Plan::default();
    let push = |plan: &mut Plan, ms| {
        plan.push(&tcp4(), at(ms));
        plan.flush(at(ms));
    };
    plan.configure(config(vec![exporter("a", Version::V9, &collector)], monitors()), at(0));
    push(&mut plan, 10);
    plan.configure(config(vec![exporter("a", Version::V9, &collector)], monitors()), at(20));
    push(&mut plan, 30);
    plan.configure(config(vec![exporter("a", Version::Ipfix, &collector)], monitors()), at(40));
    push(&mut plan, 50);
    let received = collector.receive();
    let heads: Vec<(u8, u8)> = received.iter().map(|d| (d[1], if d[1] == 9 { d[15] } else { d[11] })).collect();
    assert_eq!(heads, [(9, 0), (9, 1), (10, 0)]);
}

#[test]
fn an_exporter_that_comes_back_goes_on_with_its_templates_first() {
    let collector = Collector::new();
    let mut plan = Plan::default();
    let there = || config(vec![exporter("a", Version::V9, &collector)], vec![monitor("m", None, &["a"])]);
    for round in 0..3 {
        plan.configure(there(), at(100 * round));
        assert_eq!(plan.push(&tcp4(), at(100 * round + 10)), 0);
        plan.configure(config(Vec::new(), Vec::new()), at(100 * round + 20));
        assert_eq!(plan.push(&tcp4(), at(100 * round + 30)), 1, "nobody's");
        assert_eq!(plan.rows(), []);
    }
    let received = collector.receive();
    let heads: Vec<(u8, u8)> = received.iter().map(|d| (d[15], d[21])).collect();
    assert_eq!(heads, [(0, 0), (1, 0), (2, 0)], "sequence, and a FlowSet of templates");
    // As another module it is another stream; and not all that ever were are kept.
    plan.configure(Config { module: 4, ..there() }, at(400));
    plan.push(&tcp4(), at(410));
    plan.flush(at(410));
    assert_eq!(collector.receive()[0][12..20], [0, 0, 0, 0, 0, 0, 0, 4]);
    for n in 0..RESTING_MAX + 5 {
        let exporters = vec![exporter(&n.to_string(), Version::V9, &collector)];
        plan.configure(Config { module: 4, ..config(exporters, Vec::new()) }, at(500));
    }
    assert_eq!(plan.resting.len(), RESTING_MAX);
}

#[test]
fn what_waits_is_sent_when_its_exporter_goes() {
    let collector = Collector::new();
    let mut plan = Plan::default();
    let monitors = vec![monitor("m", None, &["a"])];
    plan.configure(config(vec![exporter("a", Version::V5, &collector)], monitors), at(0));
    plan.push(&tcp4(), at(10));
    plan.configure(config(Vec::new(), Vec::new()), at(20));
    assert_eq!(collector.receive().len(), 1);
    plan.push(&tcp4(), at(30));
    plan.flush(at(30));
    assert!(plan.rows().is_empty());
}

#[test]
fn only_templates_that_are_used_are_sent() {
    let collector = Collector::new();
    let mut plan = Plan::default();
    let monitors = vec![monitor("m", Some("talkers"), &["a"])];
    plan.configure(config(vec![exporter("a", Version::V9, &collector)], monitors), at(0));
    plan.tick(at(10));
    // One for each family, one for overflows, and four of options.
    assert_eq!(plan.rows()[0].templates, 8);
    plan.push(&tcp4(), at(20));
    plan.flush(at(20));
    assert!(contains(&collector.receive(), &[10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 5, 0xdc]));
}

/// Monitor 0 is sampled at two rates, monitor 1 not.
fn sampled(exporters: Vec<Exporter>, record: Option<&str>) -> (Config, [Sampling; 2]) {
    let rates = [Sampling::new(false, 10).unwrap(), Sampling::new(true, 100).unwrap()];
    let names: Vec<&str> = exporters.iter().map(|exporter| exporter.name.as_str()).collect();
    let monitors = vec![monitor("m", record, &names), monitor("n", None, &names)];
    let samplings = vec![rates.into(), BTreeSet::from([Sampling::NONE])];
    let samplers = vec![Sampler { name: "tenth".into(), random: false, out_of: 10, count: None }];
    (Config { samplings, samplers, ..config(exporters, monitors) }, rates)
}

/// Of a monitor that is sampled, the template has the sampler's field, and the table of samplers is sent; of another
/// one everything is as ever.
#[test]
fn records_of_a_sampled_monitor_name_their_sampler() {
    let collector = Collector::new();
    let mut plan = Plan::default();
    let (config, [tenth, hundredth]) = sampled(vec![exporter("a", Version::V9, &collector)], None);
    plan.configure(config, at(0));
    plan.push(&Record { sampling: hundredth, ..tcp4() }, at(10));
    plan.push(&Record { monitors_in: 2, ..tcp4() }, at(10));
    plan.tick(at(10));
    plan.flush(at(20));
    let received = collector.receive();
    // Table 516: rate, number, mode, rate, name.
    assert!(contains(&received, &[0, 0, 0, 10, 0, 10, 1, 0, 0, 0, 10, b't', b'e', b'n', b't', b'h', 0]));
    assert!(contains(&received, &[0, 0, 0, 100, 0x80, 100, 2, 0, 0, 0, 100, 0]));
    assert_eq!((tenth.number(), hundredth.number()), (10, 0x8064));
    // Behind flowEndReason and forwardingStatus stands the sampler; behind that of the other monitor, padding.
    let ends = |octets: &[u8]| contains(&received, &[&[0x1b, 4, 0, 3, 64][..], octets].concat());
    assert!(ends(&[0x80, 100]) && ends(&[0]));
}

#[test]
fn what_was_sampled_under_a_configuration_that_is_gone_is_multiplied() {
    let collector = Collector::new();
    let mut plan = Plan::default();
    plan.configure(config(vec![exporter("a", Version::V9, &collector)], vec![monitor("m", None, &["a"])]), at(0));
    plan.push(&Record { sampling: Sampling::new(false, 100).unwrap(), ..tcp4() }, at(10));
    plan.flush(at(20));
    assert!(contains(&collector.receive(), &[&150_000u64.to_be_bytes()[..], &300u64.to_be_bytes()].concat()));
}

/// Flows that agree in what a record matches, but not in how they were sampled, are two records.
#[test]
fn sums_are_of_one_rate() {
    let collector = Collector::new();
    let mut plan = Plan::default();
    let (config, rates) = sampled(vec![exporter("a", Version::V9, &collector)], Some("talkers"));
    plan.configure(config, at(0));
    for n in 0..6 {
        plan.push(&Record { sampling: rates[n % 2], octets: 100, ..tcp4() }, at(10));
    }
    plan.flush(at(20));
    let received = collector.receive();
    let record = |number: [u8; 2]| [&[10, 0, 0, 1][..], &300u64.to_be_bytes(), &number].concat();
    assert!(contains(&received, &record([0, 10])) && contains(&received, &record([0x80, 100])));
}

#[test]
fn names_that_do_not_exist_are_refused() {
    let refused = |monitor| check(&config(Vec::new(), vec![monitor])).unwrap_err().to_string();
    assert_eq!(refused(monitor("m", None, &["x"])), "flow monitor m: no flow exporter x");
    assert_eq!(refused(monitor("m", Some("x"), &[])), "flow monitor m: no flow record x");
    let many = (0..33).map(|_| monitor("m", None, &[])).collect();
    assert!(matches!(check(&config(Vec::new(), many)), Err(Error::MonitorsMax)));
    assert!(check(&config(Vec::new(), vec![monitor("m", Some("talkers"), &[])])).is_ok());
}

fn sum_of(name: &str, exporters: &[&str], active_s: u32) -> Monitor {
    Monitor { active_s, inactive_s: 15, ..monitor(name, Some("talkers"), exporters) }
}

/// Octets of the records that a collector of version 9 was sent, by template.
fn octets(datagrams: &[Vec<u8>], source: [u8; 4]) -> u64 {
    let at = |datagram: &[u8]| datagram.windows(4).position(|window| window == source).map(|at| at + 4);
    let number = |datagram: &Vec<u8>| Some(u64::from_be_bytes(datagram.get(at(datagram)?..)?[..8].try_into().unwrap()));
    datagrams.iter().filter_map(number).sum()
}

#[test]
fn a_users_record_is_summed_up_over_changes_that_do_not_concern_it() {
    let (collector, other) = (Collector::new(), Collector::new());
    let mut plan = Plan::default();
    let exporters = || vec![exporter("a", Version::V9, &collector), exporter("b", Version::V9, &other)];
    plan.configure(config(exporters(), vec![sum_of("m", &["a"], 60)]), at(0));
    plan.push(&tcp4(), at(10));
    let dscp = exporters().into_iter().map(|exporter| Exporter { dscp: 10, ..exporter }).collect();
    plan.configure(config(dscp, vec![sum_of("m", &["a"], 60)]), at(20));
    plan.push(&tcp4(), at(30));
    plan.tick(at(2_000));
    assert_eq!(plan.rows()[0].records, 0, "still summed up");
    plan.configure(config(exporters(), vec![sum_of("m", &["a"], 30)]), at(3_000));
    plan.push(&tcp4(), at(3_010));
    plan.configure(config(exporters(), vec![sum_of("m", &["b"], 30)]), at(4_000));
    plan.push(&tcp4(), at(4_010));
    plan.flush(at(5_000));
    assert_eq!(plan.rows().iter().map(|row| row.records).collect::<Vec<_>>(), [2, 1]);
    let source = [10, 0, 0, 1];
    assert_eq!((octets(&collector.receive(), source), octets(&other.receive(), source)), (3000 + 1500, 1500));
}

#[test]
fn an_overflow_passes_by_the_sums() {
    let collector = Collector::new();
    let mut plan = Plan::default();
    plan.configure(config(vec![exporter("a", Version::V9, &collector)], vec![sum_of("m", &["a"], 60)]), at(0));
    plan.push(&super::super::flow::tests::overflow(), at(10));
    plan.tick(at(1_100));
    assert_eq!(plan.rows()[0].records, 1);
}

/// What is logged while `work` is done.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, work);
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn what_is_sent_is_said_at_its_level() {
    let collector = Collector::new();
    let mut plan = Plan::default();
    let monitors = vec![monitor("m", None, &["a"])];
    plan.configure(config(vec![exporter("a", Version::V9, &collector)], monitors), at(0));
    let mut said = |level, ms| {
        plan.debug(level);
        let log = logged(|| {
            for _ in 0..40 {
                plan.push(&tcp4(), at(ms));
            }
            plan.flush(at(ms));
        });
        log.lines().filter(|line| line.contains("flow export datagram")).count()
    };
    assert_eq!(said(1, 10), 1, "the first has the templates");
    assert_eq!((said(0, 20), said(1, 30), said(2, 40)), (0, 0, 2));
}

/// Flows of version 5 in a datagram, and the number of flows before them.
fn v5(datagram: &[u8]) -> (Vec<[u8; 8]>, u32) {
    let flows = datagram[24..].chunks(48).map(|flow| flow[..8].try_into().unwrap()).collect();
    (flows, u32::from_be_bytes(datagram[16..20].try_into().unwrap()))
}

#[test]
fn collectors_share_conversations_and_each_misses_nothing() {
    let collectors = [Collector::new(), Collector::new(), Collector::new()];
    let mut shared = exporter("a", Version::V5, &collectors[0]);
    shared.destinations = collectors.iter().map(|c| Destination::new(Ipv4Addr::LOCALHOST.into(), c.port())).collect();
    shared.load_balance = Some(true);
    let other = Collector::new();
    let mut plan = Plan::default();
    let all = vec![shared.clone(), exporter("b", Version::V5, &other)];
    plan.configure(config(all.clone(), vec![monitor("m", None, &["a", "b"])]), at(0));
    let mut sent = Vec::new();
    for n in 0..300u16 {
        let mut record = tcp4();
        (record.key.src[15], record.key.dst[14], record.key.src_port) = (n as u8, (n >> 8) as u8, n);
        let mut back = record;
        std::mem::swap(&mut back.key.src, &mut back.key.dst);
        std::mem::swap(&mut back.key.src_port, &mut back.key.dst_port);
        for record in [record, back] {
            plan.push(&record, at(10 + u64::from(n)));
            sent.push([&record.key.src[12..], &record.key.dst[12..]].concat());
        }
        if n == 150 {
            plan.configure(config(all.clone(), vec![monitor("m", None, &["a", "b"])]), at(10 + u64::from(n)));
        }
    }
    plan.flush(at(400));
    let (mut seen, mut counts) = (Vec::new(), Vec::new());
    for collector in &collectors {
        let mut own: Vec<[u8; 8]> = Vec::new();
        for datagram in collector.receive() {
            let (flows, before) = v5(&datagram);
            assert_eq!(before as usize, own.len(), "a sequence of its own, without a gap");
            own.extend(flows);
        }
        for [a, b, c, d, e, f, g, h] in &own {
            assert!(own.contains(&[*e, *f, *g, *h, *a, *b, *c, *d]), "the other direction is here too");
        }
        counts.push(own.len() as u64);
        seen.extend(own.iter().map(|flow| flow.to_vec()));
    }
    assert!(counts.iter().all(|count| (120..=280).contains(count)), "{counts:?}");
    assert_eq!(plan.rows().iter().map(|row| row.records).collect::<Vec<_>>(), [counts, vec![600]].concat());
    seen.sort();
    sent.sort();
    assert_eq!(seen, sent, "each once");
    assert_eq!(other.receive().iter().map(|datagram| v5(datagram).0.len()).sum::<usize>(), 600);
}

/// Whatever it is that conversations differ in.
#[test]
fn conversations_are_shared_evenly() {
    type Change = fn(&mut FlowKey, u16);
    let changes: [(&str, Change); 6] = [
        ("source port", |key, n| key.src_port = 20_000 + n),
        ("both ports", |key, n| (key.src_port, key.dst_port) = (n, 53)),
        ("address", |key, n| (key.src[14], key.src[15]) = ((n >> 8) as u8, n as u8)),
        ("network", |key, n| (key.src[12], key.src[13]) = ((n >> 8) as u8, n as u8)),
        ("prefix of IPv6", |key, n| (key.src[0], key.src[7]) = ((n >> 8) as u8, n as u8)),
        ("MAC address", |key, n| {
            (key.src, key.dst) = ([0; 16], [0; 16]);
            (key.src_mac[4], key.src_mac[5]) = ((n >> 8) as u8, n as u8);
        }),
    ];
    for (what, change) in changes {
        for shares in [2, 3, 4] {
            let mut counts = [0; 4];
            for n in 0..4000 {
                let mut key = tcp4().key;
                change(&mut key, n);
                counts[conversation(&key) as usize % shares] += 1;
            }
            let fair = 4000 / shares;
            let rest = counts.iter().take(shares).map(|count| fair.abs_diff(*count)).max();
            assert!(rest.is_some_and(|most| most < fair / 5), "{what} of {shares}: {counts:?}");
        }
    }
}

/// A ping is one conversation, although its answers have another type.
#[test]
fn what_answers_goes_where_the_question_went() {
    let (icmp, shape) = (1, shape::IPV4 | shape::PORTS);
    for n in 0..100 {
        let mut ping = FlowKey { protocol: icmp, shape, src_port: 0, dst_port: 8 << 8, ..tcp4().key };
        ping.src[15] = n;
        let pong = FlowKey { src: ping.dst, dst: ping.src, dst_port: 0, ..ping };
        assert_eq!(conversation(&ping), conversation(&pong), "{n}");
    }
}

#[test]
fn a_rate_holds_datagrams_back_and_nothing_is_lost() {
    let collector = Collector::new();
    let limited = Exporter { rate_limit: Some(10), ..exporter("a", Version::V5, &collector) };
    let mut plan = Plan::default();
    plan.configure(config(vec![limited], vec![monitor("m", None, &["a"])]), at(0));
    let mut pushed = 0;
    while !plan.is_behind() {
        plan.push(&tcp4(), at(1000));
        pushed += 1;
    }
    assert!(pushed > 50_000);
    let at_once = collector.receive().len();
    assert!((2..=3).contains(&at_once), "{at_once}");
    let second: usize = (1..=20).map(|n| (plan.tick(at(1000 + n * 50)), collector.receive().len()).1).sum();
    assert!((9..=11).contains(&second), "{second}");
    assert!(!plan.is_behind());
    plan.hurry(at(2000));
    plan.flush(at(2000));
    let left = collector.receive().len();
    let row = plan.rows().remove(0);
    assert_eq!((row.records, row.failed_records), (pushed, 0));
    assert!(left > 0 && row.datagrams > 2000, "{row:?}");
}
