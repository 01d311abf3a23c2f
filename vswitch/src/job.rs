//! Questions that need a walk over a table: done a slice a turn, so that they never hold up frames.

use std::sync::mpsc::SyncSender;

use proto::addr::{MacAddr, VlanId};

use crate::account::classes::Classes;
use crate::control::{Error, FlowFilter, FlowOrder, LiveFlow, MacEntry};
use crate::flow::entry::{Entry, state};
use crate::flow::expire::SLICE;
use crate::flow::record::{EndReason, MonitorSet, Outcome, Record};
use crate::port::{Port, PortId};
use crate::road::Road;
use crate::snapshot::Snapshot;
use crate::time::Instant;

/// A walk that has got as far as `from`, and who waits for it.
pub(crate) enum Job {
    /// Waits for a snapshot to be taken over.
    Adopt { version: u64, reply: SyncSender<()> },
    /// Reports the flows of a port that was detached, then gives its device back.
    Retire { port: PortId, device: Box<dyn Port>, from: u32, reply: SyncSender<Result<Box<dyn Port>, Error>> },
    /// Reports what was counted under monitors that the snapshot has taken away; from `until` on, a full ring is not waited for.
    Settle { from: u32, until: Instant, reply: SyncSender<()> },
    /// Reports what was counted for monitors; from `until` on, a full ring is not waited for.
    Flush { monitors: MonitorSet, from: u32, until: Instant, reply: SyncSender<()> },
    /// Lists the MAC table.
    Macs { into: Vec<MacEntry>, from: usize, reply: SyncSender<Vec<MacEntry>> },
    /// Forgets learned addresses.
    ClearMacs { vlan: Option<VlanId>, mac: Option<MacAddr>, from: usize, reply: SyncSender<()> },
    /// Finds the flows with the most octets. `into` has room for twice `top`.
    Flows {
        filter: FlowFilter,
        top: usize,
        into: Vec<LiveFlow>,
        matched: u64,
        from: u32,
        reply: SyncSender<(Vec<LiveFlow>, u64)>,
    },
    /// Adds up what the flows in the cache have counted, by the port that they came from.
    Live { into: Vec<Classes>, from: u32, reply: SyncSender<Vec<Classes>> },
}

impl Job {
    /// Does a slice; the job, when it is not done. `running` is the version of `snapshot`. A reply that nobody waits for
    /// any more is no error.
    pub(crate) fn slice(self, road: &mut Road, snapshot: &Snapshot, running: u64, now: Instant) -> Option<Job> {
        match self {
            Job::Adopt { version, reply } if running < version => Some(Job::Adopt { version, reply }),
            Job::Adopt { reply, .. } => {
                let _ = reply.send(());
                None
            }
            Job::Retire { port, device, from, reply } => match road.flows.retire(Some(port), from, now) {
                Some(from) => Some(Job::Retire { port, device, from, reply }),
                None => {
                    let _ = reply.send(Ok(device));
                    None
                }
            },
            Job::Settle { from, until, reply } => match road.flows.settle(from, snapshot, now < until, now) {
                Some(from) => Some(Job::Settle { from, until, reply }),
                None => {
                    let _ = reply.send(());
                    None
                }
            },
            Job::Flush { monitors, from, until, reply } => match road.flows.flush(monitors, from, now < until) {
                Some(from) => Some(Job::Flush { monitors, from, until, reply }),
                None => {
                    let _ = reply.send(());
                    None
                }
            },
            Job::Macs { mut into, from, reply } => {
                let to = (from + SLICE as usize).min(road.macs.capacity());
                into.extend((from..to).filter_map(|at| road.macs.at(at)).map(|(vlan, mac, place, seen)| MacEntry {
                    vlan,
                    mac,
                    port: place.port,
                    is_static: place.is_static,
                    seen,
                }));
                if to < road.macs.capacity() {
                    return Some(Job::Macs { into, from: to, reply });
                }
                let _ = reply.send(into);
                None
            }
            Job::ClearMacs { vlan, mac, from, reply } => {
                let to = (from + SLICE as usize).min(road.macs.capacity());
                for at in from..to {
                    let fits = road.macs.at(at).is_some_and(|(v, m, place, _)| {
                        !place.is_static && vlan.is_none_or(|vlan| vlan == v) && mac.is_none_or(|mac| mac == m)
                    });
                    if fits {
                        road.macs.remove_at(at);
                    }
                }
                if to < road.macs.capacity() {
                    return Some(Job::ClearMacs { vlan, mac, from: to, reply });
                }
                let _ = reply.send(());
                None
            }
            Job::Flows { filter, top, mut into, mut matched, from, reply } => {
                let to = from.saturating_add(SLICE).min(road.flows.cache.used());
                for (at, entry) in (from..to).filter_map(|at| Some((at, road.flows.cache.get(at)?))) {
                    let fitting = |record: &Record| fits(&filter, entry, record);
                    for record in road.flows.reports(at, EndReason::Active).into_iter().filter(fitting) {
                        matched += 1;
                        into.push(LiveFlow { record });
                        if into.len() >= 2 * top {
                            keep_top(&mut into, filter.order, top);
                        }
                    }
                }
                if to < road.flows.cache.used() {
                    return Some(Job::Flows { filter, top, into, matched, from: to, reply });
                }
                keep_top(&mut into, filter.order, top);
                let _ = reply.send((into, matched));
                None
            }
            Job::Live { mut into, from, reply } => {
                let to = from.saturating_add(SLICE).min(road.flows.cache.used());
                for (at, entry) in (from..to).filter_map(|at| Some((at, road.flows.cache.get(at)?))) {
                    if let Some(classes) = into.get_mut(entry.key().in_port().index()).filter(|_| entry.is(state::LIVE))
                    {
                        let counted = road.flows.classes(at);
                        counted.into_iter().for_each(|(class, amount)| classes.add(class, amount));
                    }
                }
                if to < road.flows.cache.used() {
                    return Some(Job::Live { into, from: to, reply });
                }
                let _ = reply.send(into);
                None
            }
        }
    }
}

/// The `top` first flows.
pub(crate) fn keep_top(flows: &mut Vec<LiveFlow>, order: FlowOrder, top: usize) {
    flows.sort_unstable_by_key(|flow| std::cmp::Reverse(order.rank(&flow.record)));
    flows.truncate(top);
}

fn fits(filter: &FlowFilter, entry: &Entry, record: &Record) -> bool {
    let key = &record.key;
    let out = entry.judgement().out;
    entry.is(state::LIVE)
        && record.packets > 0
        && match filter.monitors {
            0 => !record.again,
            wanted => wanted & (record.monitors_in | record.monitors_out) != 0,
        }
        && filter.host.is_none_or(|host| host == key.src || host == key.dst)
        && filter.protocol.is_none_or(|protocol| protocol == key.protocol)
        && filter.port.is_none_or(|port| port == key.src_port || port == key.dst_port)
        && filter.vlan.is_none_or(|vlan| Some(vlan) == record.vlan)
        && filter.interface.is_none_or(|port| port == key.in_port() || Some(port) == out)
        && (!filter.dropped || matches!(record.outcome, Outcome::Dropped(_)))
}
