//! Captures: every frame of a port with its direction, none of another, and no harm to production.

mod net;

use net::frames::{ethernet, tso4, udp4};
use net::{Net, access, config, mac, trunk};
use vswitch::config::SessionConfig;
use vswitch::control::Error;
use vswitch::observe::bpf::{Insn, Program};
use vswitch::observe::capture::{Capture, Wanted};
use vswitch::port::PortId;
use vswitch::time::Instant;
use vswitch::verdict::DropReason;

fn all() -> Wanted {
    Wanted { filter: None, snap: 65_535, ring: 0 }
}

/// Asks from another thread while the worker turns, as the agent does.
fn asked<T: Send>(net: &mut Net, ask: impl FnOnce(&vswitch::control::Control) -> T + Send) -> T {
    let Net { worker, mirror, control, now_ms, .. } = net;
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(control));
        while !asking.is_finished() {
            worker.turn(Instant::from_ms(*now_ms));
            mirror.turn();
        }
        asking.join().unwrap()
    })
}

fn begin(net: &mut Net, port: u16, wanted: Wanted) -> Result<Capture, Error> {
    asked(net, move |control| control.capture(PortId(port), wanted))
}

/// Direction and length of what was seen.
fn seen(capture: &mut Capture) -> Vec<(bool, usize)> {
    capture.take(usize::MAX).iter().map(|s| (s.received, s.octets.len())).collect()
}

#[test]
fn both_directions_of_a_port_and_nothing_else() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(3, 10)]));
    let mut capture = begin(&mut net, 2, all()).unwrap();
    let (there, back) = (udp4(mac(2), mac(1), 80, 20), udp4(mac(1), mac(2), 80, 100));
    net.through(1, &there);
    net.now_ms += 7;
    net.through(2, &back);
    net.through(3, &udp4(mac(1), mac(3), 80, 5));
    let sightings = capture.take(usize::MAX);
    let told: Vec<_> = sightings.iter().map(|s| (s.received, &s.octets, s.length as usize)).collect();
    assert_eq!(told, [(false, &there, there.len()), (true, &back, back.len())]);
    assert!(sightings[0].at < sightings[1].at);
    assert_eq!((capture.counts(), capture.is_over()), ((2, 0), false));
}

#[test]
fn a_frame_that_is_dropped_is_seen_where_it_came_in_and_not_where_it_would_leave() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10)]));
    net.through(2, &udp4(mac(1), mac(2), 80, 20));
    (net.port(1).protected, net.port(2).protected) = (true, true);
    net.publish();
    let mut at_1 = begin(&mut net, 1, all()).unwrap();
    let mut at_2 = begin(&mut net, 2, all()).unwrap();
    let frame = udp4(mac(2), mac(1), 80, 20);
    net.through(1, &frame);
    assert_eq!(net.drops(1, DropReason::Isolated), 1);
    assert_eq!((seen(&mut at_1), seen(&mut at_2)), (vec![(true, frame.len())], vec![]));
}

#[test]
fn a_sent_frame_is_seen_with_its_tag_and_a_super_frame_whole() {
    let mut net = Net::new(config(vec![access(1, 10), trunk(2, 1, "10")]));
    let mut capture = begin(&mut net, 2, all()).unwrap();
    net.through(1, &ethernet(mac(2), mac(1), &[], 0x9999, &[0; 50]));
    let sightings = capture.take(usize::MAX);
    assert_eq!((sightings[0].octets.len(), &sightings[0].octets[12..16]), (68, &[0x81, 0, 0, 10][..]));
    let (frame, vnet) = tso4(mac(2), mac(1), 5000, 1448);
    net.send_vnet(1, &frame, vnet);
    net.turn();
    assert_eq!(seen(&mut capture), [(false, frame.len() + 4)]);
}

#[test]
fn only_what_the_filter_lets_pass_and_no_more_than_is_wanted_of_it() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10)]));
    // `tcpdump -d ip`
    let insns = [(0x28, 0, 0, 12), (0x15, 0, 1, 0x800), (6, 0, 0, 65_535), (6, 0, 0, 0)];
    let filter = Program::new(&insns.map(|(code, jt, jf, k)| Insn { code, jt, jf, k })).unwrap();
    let mut capture = begin(&mut net, 1, Wanted { filter: Some(filter), snap: 60, ring: 0 }).unwrap();
    net.through(1, &ethernet(mac(2), mac(1), &[], 0x9999, &[0; 50]));
    let frame = udp4(mac(2), mac(1), 80, 500);
    net.through(1, &frame);
    let sightings = capture.take(usize::MAX);
    assert_eq!((sightings.len(), sightings[0].octets.len(), sightings[0].length as usize), (1, 60, frame.len()));
}

#[test]
fn a_ring_that_nobody_empties_costs_the_capture_and_not_the_traffic() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10)]));
    let mut capture = begin(&mut net, 1, all()).unwrap();
    let frame = udp4(mac(2), mac(1), 80, 1400);
    for _ in 0..400 {
        assert_eq!(net.through(1, &frame), [2]);
    }
    let (matched, lost) = capture.counts();
    let kept = capture.take(usize::MAX).len() as u64;
    assert_eq!((matched, kept + lost), (400, 400));
    assert!(kept > 100 && lost > 100, "{kept} kept, {lost} lost");
    net.through(1, &frame);
    assert_eq!(capture.take(usize::MAX).len(), 1, "it goes on when there is room");
}

#[test]
fn one_capture_of_a_port_at_a_time_and_it_ends_with_the_port() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10)]));
    assert_eq!(begin(&mut net, 9, all()).err(), Some(Error::PortFree(9)));
    let first = begin(&mut net, 1, all()).unwrap();
    assert_eq!(begin(&mut net, 1, all()).err(), Some(Error::PortCaptured(1)));
    asked(&mut net, |control| control.end_capture(PortId(1))).unwrap();
    assert!(first.is_over());
    let second = begin(&mut net, 1, all()).unwrap();
    assert!(!second.is_over());
    assert!(asked(&mut net, |control| control.detach(PortId(1)).is_ok()));
    assert!(second.is_over());
}

/// Copies of a session are sent by another thread; a capture of its destination sees them all the same, and outlives it.
#[test]
fn copies_of_a_session_are_seen_at_its_destination() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(9, 10)]));
    net.through(2, &udp4(mac(1), mac(2), 80, 20));
    let mut capture = begin(&mut net, 9, all()).unwrap();
    let session =
        SessionConfig { rx_ports: vec![PortId(1)], destinations: vec![PortId(9)], ..SessionConfig::default() };
    net.config.sessions = vec![session];
    net.publish();
    let frame = udp4(mac(2), mac(1), 80, 30);
    assert_eq!(net.through(1, &frame), [2, 9]);
    let sightings = capture.take(usize::MAX);
    assert_eq!(sightings.iter().map(|s| (s.received, &s.octets)).collect::<Vec<_>>(), [(false, &frame)]);
    net.config.sessions.clear();
    net.publish();
    drop(net.mirror.detach(PortId(9)));
    assert!(!capture.is_over());
    asked(&mut net, |control| control.end_capture(PortId(9))).unwrap();
    assert!(capture.is_over());
}
