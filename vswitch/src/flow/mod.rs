//! The flow cache: one exact-match lookup answers policy, forwarding, mirror and meter.
//!
//! [`Flows`] joins the table (`cache`), its timers (`expire`) and the meter (`account::meter`). One worker owns it.

pub mod cache;
pub mod entry;
pub mod expire;
pub mod hash;
pub mod key;
pub mod record;
mod settle;

use std::sync::Arc;

use cache::FlowCache;
use record::Record;
use rtrb::Producer;

use crate::account::counters::Counters;
use crate::table::wheel::Wheel;

/// The flows of a worker.
pub struct Flows {
    /// The table.
    pub cache: FlowCache,
    pub(crate) wheel: Wheel,
    pub(crate) records: Producer<Record>,
    pub(crate) counters: Arc<Counters>,
    /// Next entry to give its timer anew, after the timeouts have changed.
    pub(crate) retime: Option<u32>,
}

impl Flows {
    /// No flows; at most `capacity`. Reports go to `records`.
    pub fn new(capacity: usize, records: Producer<Record>, counters: Arc<Counters>) -> Self {
        let cache = FlowCache::new(capacity);
        let wheel = Wheel::new(cache.capacity());
        Flows { cache, wheel, records, counters, retime: None }
    }
}
