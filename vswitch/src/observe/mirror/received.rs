//! Copies of other hosts, on their way to the destinations of a session.
//!
//! A packet is refused for one named reason, or is of one session. Its headers go, the tag comes back as the header says, and
//! the frame goes to the session's destinations on this host: to ports that take nothing but copies and whose own frames are
//! dropped. It is never copied again and never sent on, so nothing that comes from outside can go round.
//!
//! Gaps in the numbers of a sender are copies that were lost on the way. As many senders are remembered as [`STREAMS_MAX`];
//! of others nothing is said.

use std::net::IpAddr;

use hashbrown::HashMap;
use proto::vlan::PortMode;

use super::CopyLoss;
use super::copy::outer_tag;
use super::inlet::Inlet;
use super::outs::Outs;
use crate::account::counters::{Counter, Counters};
use crate::egress::vlan::Rewrite;
use crate::frame::vnet::VnetHdr;
use crate::observe::erspan::{Received, Refused, TagSeen};
use crate::snapshot::Snapshot;

/// Senders whose numbers are followed: one for each session and host.
pub const STREAMS_MAX: usize = 4096;
/// A number that is so much higher is that of a sender that began anew.
const JUMP: u32 = 1 << 16;
/// A number that is so little lower came late.
const LATE: u32 = 1 << 10;

/// Packets that no session took, of all of them.
#[derive(Debug, Default)]
pub struct Turned {
    refused: [Counter; Refused::COUNT],
    /// ERSPAN that no session is for.
    pub unknown: Counter,
    /// What found no room in the socket.
    pub overrun: Counter,
}

impl Turned {
    /// Each reason, and how often.
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        let refused = Refused::ALL.iter().zip(&self.refused).map(|(why, count)| (why.name(), count.get()));
        refused.chain([("no-session", self.unknown.get()), ("socket-full", self.overrun.get())]).collect()
    }
}

/// What comes from other hosts.
pub(super) struct Gate {
    /// `None` while no session takes copies of other hosts.
    pub inlet: Option<Box<dyn Inlet>>,
    /// Of the inlet that is there, as counted.
    lost: u64,
    /// The next number of each sender.
    streams: HashMap<(u16, IpAddr), u32>,
}

impl Gate {
    /// Closed.
    pub fn new() -> Self {
        Gate { inlet: None, lost: 0, streams: HashMap::with_capacity(STREAMS_MAX) }
    }

    /// Opens or closes; what was there comes back.
    pub fn set(&mut self, inlet: Option<Box<dyn Inlet>>) -> Option<Box<dyn Inlet>> {
        self.streams.clear();
        self.lost = 0;
        std::mem::replace(&mut self.inlet, inlet)
    }

    /// Takes a batch of packets. Returns how many there were.
    pub fn turn(&mut self, snapshot: &Snapshot, outs: &mut Outs, counters: &Counters, turned: &Turned) -> usize {
        let Some(inlet) = &mut self.inlet else { return 0 };
        let streams = &mut self.streams;
        let got = inlet.receive(&mut |packet| match packet.read() {
            Ok(copy) => deliver(&copy, snapshot, streams, outs, counters, turned),
            Err(why) => {
                if let Some(count) = turned.refused.get(why as usize) {
                    count.add(1);
                }
            }
        });
        let lost = inlet.lost();
        if lost != self.lost {
            turned.overrun.add(lost.wrapping_sub(self.lost));
            self.lost = lost;
        }
        got
    }
}

fn deliver(
    copy: &Received<'_>,
    snapshot: &Snapshot,
    streams: &mut HashMap<(u16, IpAddr), u32>,
    outs: &mut Outs,
    counters: &Counters,
    turned: &Turned,
) {
    let Some((session, welcome)) = snapshot.receiving(copy) else { return turned.unknown.add(1) };
    let Some(cells) = counters.session(session.id) else { return };
    if !welcome {
        return cells.unwelcome.add(1);
    }
    cells.received.add(1);
    cells.received_cut.add(copy.truncated.into());
    match copy.sequence.map(|number| follow(streams, (session.id, copy.source), number)) {
        Some(Followed::Gap(missing)) => cells.missing.add(missing.into()),
        Some(Followed::Late) => cells.late.add(1),
        Some(Followed::InOrder) | None => {}
    }
    for id in &session.destinations {
        let to = snapshot.port(*id).filter(|to| to.config.up);
        let Some((to, mut out)) = to.and_then(|to| Some((to, outs.gather(counters, *id, session.id)?))) else {
            cells.lose(CopyLoss::DestinationDown, 1);
            continue;
        };
        let rewrite = rewrite(copy, matches!(to.config.mode, PortMode::Trunk { .. }));
        let front = rewrite.head(copy.frame);
        let view = front.with(copy.frame, VnetHdr::PLAIN);
        out.push([view.head, view.rest]);
    }
}

/// What becomes of the tag: a trunk gets the frame with the tag of its VLAN, where the header names that, and a port in
/// access mode without what the header has taken out of it or a module has put in. So both directions look the same.
fn rewrite(copy: &Received<'_>, trunk: bool) -> Rewrite {
    match (copy.tag, copy.tci) {
        (TagSeen::Removed, Some(tci)) if trunk => Rewrite::Push(tci),
        // Of another module: it has the tag of its VLAN.
        (TagSeen::Unsaid, Some(_)) if copy.key.is_some() && !trunk => Rewrite::Pop,
        (TagSeen::Unsaid, Some(tci)) if trunk && outer_tag(copy.frame).is_none() => Rewrite::Push(tci),
        _ => Rewrite::Keep,
    }
}

/// What a number says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Followed {
    InOrder,
    /// So many are missing before it.
    Gap(u32),
    /// A later one came before.
    Late,
}

fn follow(streams: &mut HashMap<(u16, IpAddr), u32>, stream: (u16, IpAddr), number: u32) -> Followed {
    let full = streams.len() >= STREAMS_MAX;
    let Some(next) = streams.get_mut(&stream) else {
        if !full {
            streams.insert(stream, number.wrapping_add(1));
        }
        return Followed::InOrder;
    };
    let ahead = number.wrapping_sub(*next);
    // A sender begins with 0.
    if number != 0 && next.wrapping_sub(number) <= LATE && ahead != 0 {
        return Followed::Late;
    }
    *next = number.wrapping_add(1);
    if number != 0 && (1..JUMP).contains(&ahead) { Followed::Gap(ahead) } else { Followed::InOrder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_and_a_new_begin_is_none() {
        let mut streams = HashMap::new();
        let mut said = |number| follow(&mut streams, (1, [127, 0, 0, 1].into()), number);
        assert_eq!(said(7), Followed::InOrder, "the first that is seen");
        assert_eq!(
            [said(8), said(9), said(12), said(10)],
            [Followed::InOrder, Followed::InOrder, Followed::Gap(2), Followed::Late]
        );
        assert_eq!([said(13), said(0), said(1)], [Followed::InOrder; 3], "it was started again");
        assert_eq!([said(500_000), said(500_001)], [Followed::InOrder; 2], "another sender with its address");
        assert_eq!([said(u32::MAX), said(0), said(1)], [Followed::InOrder; 3], "the numbers come round");
    }

    #[test]
    fn strangers_take_no_more_memory_than_there_is() {
        let mut streams = HashMap::new();
        for n in 0..2 * STREAMS_MAX as u32 {
            assert_eq!(follow(&mut streams, (1, std::net::Ipv4Addr::from(n).into()), n), Followed::InOrder);
        }
        assert_eq!(streams.len(), STREAMS_MAX);
    }
}
