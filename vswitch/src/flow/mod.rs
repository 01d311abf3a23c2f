//! The flow cache: one exact-match lookup answers policy, forwarding, mirror and meter.
//!
//! [`Flows`] joins the table (`cache`), its timers (`expire`) and the meter (`account::meter`). One worker owns it.

pub mod cache;
pub mod detail;
pub mod entry;
pub mod expire;
pub mod hash;
pub mod key;
pub mod overflow;
mod pace;
mod quota;
pub mod record;
mod settle;
pub mod tally;

use std::sync::Arc;

use cache::FlowCache;
use overflow::Overflow;
use pace::Pace;
use quota::Quotas;
use record::Record;
use rtrb::Producer;
use tally::Picks;

use crate::account::counters::Counters;
use crate::table::wheel::Wheel;

/// The flows of a worker.
pub struct Flows {
    /// The table.
    pub cache: FlowCache,
    pub(crate) wheel: Wheel,
    pub(crate) records: Producer<Record>,
    pub(crate) counters: Arc<Counters>,
    /// Flows that were not reported one by one.
    pub(crate) overflow: Overflow,
    pub(crate) pace: Pace,
    pub(crate) quotas: Quotas,
    pub(crate) picks: Picks,
    /// Next entry to give its timer anew, after the timeouts have changed.
    pub(crate) retime: Option<u32>,
}

impl Flows {
    /// No flows; at most `capacity`. Reports go to `records`, those of flows of one packet that were evicted at most
    /// `evicted_per_s` a second.
    pub fn new(capacity: usize, records: Producer<Record>, evicted_per_s: usize, counters: Arc<Counters>) -> Self {
        let cache = FlowCache::new(capacity);
        let wheel = Wheel::new(cache.capacity());
        let pace = Pace::new(evicted_per_s);
        let picks = Picks::new(cache.capacity());
        Flows {
            cache,
            wheel,
            records,
            counters,
            overflow: Overflow::new(),
            pace,
            quotas: Quotas::default(),
            picks,
            retime: None,
        }
    }
}
