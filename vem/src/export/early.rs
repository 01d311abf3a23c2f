//! Records that come before the configuration of their monitors: kept for that when they were announced, else counted.
//!
//! Limits: [`KEPT`] records.

use vswitch::flow::record::{MonitorSet, Record};

use super::clock::Moment;
use super::message::Weight;
use super::options::Lost;
use super::plan::Plan;

/// Most records that wait.
const KEPT: usize = 65_536;

/// The records, and what became of those that nobody takes.
#[derive(Debug, Default)]
pub(super) struct Early {
    kept: Vec<Record>,
    lost: Lost,
}

impl Early {
    /// Keeps `record` for those of its `unknown` monitors that are `expected`.
    pub(super) fn keep(&mut self, record: &Record, unknown: MonitorSet, expected: MonitorSet) {
        let known = unknown & expected;
        let room = self.kept.len() < KEPT;
        if unknown != known || !room {
            self.lost.add(Weight::flow(record.packets, record.octets));
        }
        if known != 0 && room {
            let (monitors_in, monitors_out) = (record.monitors_in & known, record.monitors_out & known);
            self.kept.push(Record { monitors_in, monitors_out, ..*record });
        }
    }

    /// Hands all over to the new plan.
    pub(super) fn give(&mut self, plan: &mut Plan, at: Moment) {
        for record in std::mem::take(&mut self.kept) {
            if plan.push(&record, at) != 0 {
                self.lost.add(Weight::flow(record.packets, record.octets));
            }
        }
    }

    /// Says what was lost since the last call.
    pub(super) fn tell(&mut self) {
        let Lost { flows, packets, octets } = std::mem::take(&mut self.lost);
        if flows > 0 {
            tracing::warn!(
                flows,
                packets,
                octets,
                "records of flow monitors that are not configured any more, not sent"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::flow::tests::tcp4;
    use super::*;

    #[test]
    fn what_is_not_announced_or_too_much_is_counted() {
        let mut early = Early::default();
        early.keep(&Record { monitors_in: 1, monitors_out: 6, ..tcp4() }, 6, 2);
        assert_eq!(early.kept.iter().map(|r| (r.monitors_in, r.monitors_out)).collect::<Vec<_>>(), [(0, 2)]);
        assert_eq!(early.lost, Lost { flows: 1, packets: 3, octets: 1500 });
        for _ in 0..KEPT {
            early.keep(&tcp4(), 1, 1);
        }
        assert_eq!((early.kept.len(), early.lost.flows), (KEPT, 2));
        let mut plan = Plan::default();
        early.give(&mut plan, Moment { now: vswitch::time::Instant::from_ms(0), boot_ms: 0 });
        assert_eq!((early.kept.len(), early.lost.flows), (0, 2 + KEPT as u64), "the plan does not have them");
        early.tell();
        assert_eq!(early.lost, Lost::default());
    }
}
