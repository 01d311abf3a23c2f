//! A switch whose ports are watched by flow monitors, and what its reports come to.

use vswitch::account::classes::{Amount, Class};
use vswitch::config::Config;
use vswitch::control::Reconciled;
use vswitch::flow::record::{EndReason, Outcome, Record};
use vswitch::port::Offloads;
use vswitch::worker::Limits;

use super::frames::udp4;
use super::{Net, access, config, mac, monitor};

/// Ports 1 to 3 in one VLAN; monitor 0 sees what enters at 1, monitor 1 what leaves at 2.
pub fn metered(limits: Limits) -> Net {
    let mut ports = vec![access(1, 10), access(2, 10), access(3, 10)];
    ports[0].flow_in = Some(0);
    ports[1].flow_out = Some(1);
    let mut config = config(ports);
    config.monitors = vec![monitor(60, 15), monitor(30, 20)];
    settled(config, limits)
}

/// One whose three stations are known, and of which nothing was reported.
pub fn settled(config: Config, limits: Limits) -> Net {
    let mut net = Net::with(config, limits, Offloads::ALL, 512);
    net.through(2, &udp4(mac(1), mac(2), 5, 0));
    net.through(3, &udp4(mac(1), mac(3), 5, 0));
    net.after(60_000);
    net.records();
    net
}

/// Packets, octets and octets of frames.
pub fn sums(records: &[Record]) -> (u64, u64, u64) {
    records.iter().fold((0, 0, 0), |s, r| (s.0 + r.packets, s.1 + r.octets, s.2 + r.l2_octets))
}

/// Why each ended, its packets and what became of them.
pub fn ended(records: &[Record]) -> Vec<(EndReason, u64, Outcome)> {
    records.iter().map(|r| (r.end, r.packets, r.outcome)).collect()
}

/// What each port has received is in exactly one class, at any time: watched or not, filtered, malformed, of flows that
/// were reported, evicted, judged anew or still live.
pub fn reconcile(net: &mut Net) -> Vec<Reconciled> {
    let rows: Vec<Reconciled> = net.ask(|control| control.reconciliation().unwrap());
    for row in &rows {
        let mut sum = Amount::default();
        for class in Class::ALL {
            sum.add(row.reported.get(class));
            sum.add(row.in_cache.get(class));
        }
        assert_eq!(sum, row.received, "{row:?}");
    }
    rows
}
