//! What a worker does, for the plan of who receives from which port, and for `show workers`.
//!
//! Written by the worker once per batch, read by anyone; see `counters`.

use super::counters::{Counter, Row};
use crate::control::WorkerLoad;
use crate::port::{PORTS_MAX, PortId};

/// The cells behind [`WorkerLoad`].
#[derive(Debug)]
#[repr(align(128))]
#[expect(missing_docs, reason = "as the fields of WorkerLoad")]
pub struct LoadCells {
    pub frames: Counter,
    pub busy_ns: Counter,
    pub receives_from: Counter,
    pub naps: Counter,
    pub sleeps: Counter,
    pub wishes_lost: Counter,
    ports: Row,
}

impl Default for LoadCells {
    fn default() -> Self {
        LoadCells {
            frames: Counter::default(),
            busy_ns: Counter::default(),
            receives_from: Counter::default(),
            naps: Counter::default(),
            sleeps: Counter::default(),
            wishes_lost: Counter::default(),
            ports: Row::new(PORTS_MAX),
        }
    }
}

impl LoadCells {
    /// A batch of `frames` frames of port `id` took `ns` nanoseconds.
    pub fn add(&self, id: PortId, frames: u64, ns: u64) {
        self.frames.add(frames);
        self.busy_ns.add(ns);
        if let Some(cell) = self.ports.get(id.index()) {
            cell.add(ns);
        }
    }

    /// What was counted.
    pub fn read(&self) -> WorkerLoad {
        let ports = self.ports.iter().enumerate().map(|(id, cell)| (PortId(id as u16), cell.get()));
        WorkerLoad {
            frames: self.frames.get(),
            busy_ns: self.busy_ns.get(),
            ports: ports.filter(|(_, ns)| *ns > 0).collect(),
            receives_from: self.receives_from.get(),
            naps: self.naps.get(),
            sleeps: self.sleeps.get(),
            wishes_lost: self.wishes_lost.get(),
        }
    }
}
