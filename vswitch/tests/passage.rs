//! Frames that are told of, and frames that are imagined: how many, which, and what is refused. That both are right is the
//! oracle's to say (`oracle/trace.rs`).

mod net;

use net::frames::udp4;
use net::{Net, access, config, mac};
use vswitch::control::Error;
use vswitch::frame::vnet::VnetHdr;
use vswitch::observe::bpf::{Insn, Program};
use vswitch::observe::passage::{Cached, PER_SECOND, WatchWanted};
use vswitch::port::PortId;
use vswitch::verdict::DropReason;

fn net() -> Net {
    Net::new(config(vec![access(1, 10), access(2, 10), access(3, 10), access(4, 20)]))
}

/// Frames of that length.
fn of_length(length: u32) -> Program {
    let insn = |code, jt, jf, k| Insn { code, jt, jf, k };
    Program::new(&[insn(0x80, 0, 0, 0), insn(0x15, 0, 1, length), insn(6, 0, 0, 1), insn(6, 0, 0, 0)]).unwrap()
}

#[test]
fn a_watch_tells_of_what_it_is_asked_for_and_of_no_more() {
    let mut net = net();
    let wanted = WatchWanted { port: Some(PortId(1)), filter: Some(of_length(72)), count: 3 };
    let mut watching = net.ask(|control| control.watch(wanted.clone()).unwrap());
    let again = net.ask(|control| control.watch(wanted.clone()).err());
    assert_eq!(again, Some(Error::Watched));
    let frame = |octets| udp4(mac(2), mac(1), 80, octets);
    assert_eq!(frame(30).len(), 72);
    net.through(1, &frame(30));
    net.through(1, &frame(31));
    net.through(2, &udp4(mac(1), mac(2), 80, 30));
    net.through(1, &frame(30));
    let told = watching.take();
    let ways: Vec<_> = told.iter().map(|p| (p.port.0, p.cached.unwrap(), p.dropped(), p.receivers.len())).collect();
    assert_eq!(ways, [(1, Cached::Miss, None, 2), (1, Cached::Stale, None, 0)]);
    assert_eq!((told[1].header[..12].to_vec(), told[1].length), ([mac(2).0, mac(1).0].concat(), 72));
    assert!(!watching.is_over());
    // A batch with more than are left.
    for _ in 0..5 {
        net.send(1, &frame(30));
    }
    net.turn();
    assert_eq!((watching.take().len(), watching.is_over()), (1, true));
    net.ask(|control| control.end_watch().unwrap());
    let mut watching = net.ask(|control| control.watch(WatchWanted { filter: None, ..wanted }).unwrap());
    net.through(1, &frame(31));
    assert_eq!(watching.take().len(), 1);
}

#[test]
fn a_watch_tells_of_no_more_than_a_person_can_read() {
    let mut net = net();
    let wanted = WatchWanted { port: None, filter: None, count: 100_000 };
    let mut watching = net.ask(|control| control.watch(wanted).unwrap());
    for _ in 0..2 * PER_SECOND {
        net.through(1, &udp4(mac(2), mac(1), 80, 30));
    }
    let most = PER_SECOND as usize;
    assert_eq!(watching.take().len(), most);
    assert_eq!(watching.counts(), (2 * most as u64, most as u64));
    net.after(1_001);
    net.through(1, &udp4(mac(2), mac(1), 80, 30));
    assert_eq!(watching.take().len(), 1);
}

#[test]
fn what_is_not_what_it_claims_is_told_of_as_well() {
    let mut net = net();
    let mut watching = net.ask(|control| control.watch(WatchWanted { port: None, filter: None, count: 9 }).unwrap());
    net.through(1, &[1, 2, 3]);
    let told = watching.take();
    assert_eq!((told[0].cached, told[0].judgement, told[0].dropped()), (None, None, Some(DropReason::Runt)));
    let traced = net.ask(|control| control.trace(PortId(1), &[1, 2, 3], VnetHdr::PLAIN).unwrap());
    assert_eq!((traced.passage.dropped(), traced.cached), (Some(DropReason::Runt), None));
}

#[test]
fn a_frame_is_imagined_at_a_port_that_is_there() {
    let mut net = net();
    let frame = udp4(mac(2), mac(1), 80, 30);
    let nowhere = net.ask(|control| control.trace(PortId(9), &frame, VnetHdr::PLAIN).err());
    assert_eq!(nowhere, Some(Error::PortFree(9)));
    let traced = net.ask(|control| control.trace(PortId(1), &frame, VnetHdr::PLAIN).unwrap());
    assert_eq!(traced.sent.iter().map(|s| (s.port.0, s.copy)).collect::<Vec<_>>(), [(2, false), (3, false)]);
    assert!(traced.cached.is_none() && net.ask(|control| control.macs().unwrap()).is_empty());
}
