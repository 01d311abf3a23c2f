//! Ports: given to the workers, moved between them, taken back.
//!
//! Every worker can send to every port: it has a handle of its own. One of them, the *home* of the port, has the port itself,
//! which receives when the device has one queue only. [`Control::replan`] moves homes by letting two workers swap their
//! handles (`exchange`).
//!
//! The home gets a port last, so that whoever is to answer its frames can send already. A worker gives it back after the
//! others if it is the first, which writes the MAC table: then nobody can ask any more to have an address learned there.

use std::sync::Arc;
use std::time::{self, Duration};

use hashbrown::{HashMap, HashSet};

use super::{Ask, Control, Deal, Error, WorkerLoad, lock};
use crate::exchange::Exchange;
use crate::plan::{self, Load, Move};
use crate::port::{PORTS_MAX, Port, PortId};

/// Time between two plans of who receives from which port.
pub const REPLAN: Duration = Duration::from_secs(60);

/// Which worker has which port itself, and how busy they were when that was last planned.
#[derive(Default)]
pub(super) struct Homes {
    pub(super) of: HashMap<PortId, usize>,
    /// Ports whose device the mirror has a handle of.
    pub(super) copied_to: HashSet<PortId>,
    /// The mirror has a socket to other hosts.
    pub(super) has_socket: bool,
    /// It has one from other hosts.
    pub(super) has_inlet: bool,
    planned: Option<time::Instant>,
    before: Vec<WorkerLoad>,
}

impl Homes {
    /// The worker that receives from a port.
    pub(super) fn of(&self, id: PortId) -> Option<usize> {
        self.of.get(&id).copied()
    }
}

impl Control {
    /// Gives every worker a handle of a device for port `id`; the one that has least to do receives from it.
    pub fn attach(&self, id: PortId, mut port: Box<dyn Port>) -> Result<(), Error> {
        if id.index() >= PORTS_MAX {
            return Err(Error::PortNumber(id.0));
        }
        let mut homes = lock(&self.homes);
        let home = self.idlest(&homes);
        let shared = port.handles(self.workers() - 1).map_err(|e| Error::PortShared(id.0, e.to_string()))?;
        let others = (0..self.workers()).filter(|worker| *worker != home).zip(shared);
        // The home comes last: when frames arrive, every worker can send what answers them.
        let mut taken = Ok(());
        let mut having = Vec::new();
        for (worker, port) in others.chain([(home, port)]) {
            taken =
                self.ask(worker, |reply| Ask::Attach { id, port, reply }).and_then(|it| it.map_err(|(error, _)| error));
            match taken {
                Ok(()) => having.push(worker),
                Err(_) => break,
            }
        }
        match taken {
            Ok(()) => {
                homes.of.insert(id, home);
                let running = self.running();
                taken = self.give_destinations(&mut homes, &running);
            }
            Err(_) => having.into_iter().rev().for_each(|worker| {
                let _closed_here = self.ask(worker, |reply| Ask::Detach { id, reply });
            }),
        }
        taken
    }

    /// The worker that has done least since the last plan; among those that did about as little, the one with the fewest
    /// ports.
    fn idlest(&self, homes: &Homes) -> usize {
        let busy: Vec<u64> = since(&self.loads(), &homes.before).iter().map(|load| load.busy_ns).collect();
        let most = busy.iter().copied().max().unwrap_or(0).max(1_000_000_000);
        let ports = |worker| homes.of.values().filter(|home| **home == worker).count();
        let rank = |worker: usize| (busy.get(worker).map_or(0, |ns| ns.saturating_mul(8) / most), ports(worker));
        (0..self.workers()).min_by_key(|worker| rank(*worker)).unwrap_or(0)
    }

    /// Takes all handles of port `id` away and closes the device. Its flows are reported, its learned addresses forgotten.
    pub fn detach(&self, id: PortId) -> Result<(), Error> {
        let mut homes = lock(&self.homes);
        self.take_destination(&mut homes, id);
        let others = self.ask_all(1, |reply| Ask::Detach { id, reply });
        let first = self.ask(0, |reply| Ask::Detach { id, reply });
        homes.of.remove(&id);
        // After an attachment that failed half-way some may have had none.
        let any = others.as_ref().is_ok_and(|handles| handles.iter().any(Result::is_ok));
        match (first?, others?) {
            (Err(error), _) if !any => Err(error),
            _ => Ok(()),
        }
    }

    /// Worker `to` becomes the home of port `id`: it receives what the home before has received. Nothing is lost on the
    /// way, and frames keep their order.
    pub fn move_port(&self, id: PortId, to: usize) -> Result<(), Error> {
        self.swap(&mut lock(&self.homes), id, None, to)
    }

    /// Workers `from` (without one, the home) and `to` swap their handles of port `id`.
    fn swap(&self, homes: &mut Homes, id: PortId, from: Option<usize>, to: usize) -> Result<(), Error> {
        let home = homes.of.get(&id).copied().ok_or(Error::PortFree(id.0))?;
        let from = from.unwrap_or(home);
        if to >= self.workers() {
            return Err(Error::NoWorker(to));
        }
        if from == to {
            return Ok(());
        }
        let deal: Deal = Arc::new(Exchange::new());
        let offered =
            self.ask(to, |reply| Ask::Offer { id, deal: Arc::clone(&deal), reply }).and_then(|offered| offered);
        let swapped = match offered {
            Ok(()) => self.ask(from, |reply| Ask::Swap { id, deal: Arc::clone(&deal), reply }).map(drop),
            Err(error) => Err(error),
        };
        let off = deal.call_off();
        // It receives nothing until it has settled.
        let settled = self.ask(to, |reply| Ask::Adopt { version: 0, reply });
        if off {
            return swapped.and(Err(Error::PortFree(id.0)));
        }
        // With several queues the two may both be others than the home.
        let moved = [(from, to), (to, from)].into_iter().find(|(before, _)| *before == home);
        homes.of.insert(id, moved.map_or(home, |(_, after)| after));
        settled
    }

    /// To be called often: once in [`REPLAN`] it moves the port that evens out the workers' loads best, if that helps
    /// enough ([`plan`]). `now` is the caller's clock.
    pub fn replan(&self, now: time::Instant) -> Result<Option<Move>, Error> {
        let mut homes = lock(&self.homes);
        let passed = homes.planned.map(|planned| now.saturating_duration_since(planned));
        if passed.is_some_and(|passed| passed < REPLAN) {
            return Ok(None);
        }
        let loads = self.loads();
        let done = since(&loads, &homes.before);
        (homes.planned, homes.before) = (Some(now), loads);
        let Some(passed) = passed else { return Ok(None) };
        let interval = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        let Some(it) = plan::choose(&done, interval) else { return Ok(None) };
        self.swap(&mut homes, it.port, Some(it.from), it.to).map(|()| Some(it))
    }
}

/// What was done after `before` was read.
fn since(now: &[WorkerLoad], before: &[WorkerLoad]) -> Vec<Load> {
    let none = WorkerLoad::default();
    let load = |(i, now): (usize, &WorkerLoad)| {
        let before = before.get(i).unwrap_or(&none);
        let then: HashMap<PortId, u64> = before.ports.iter().copied().collect();
        let ports = now.ports.iter().map(|(id, ns)| (*id, ns.saturating_sub(then.get(id).copied().unwrap_or(0))));
        Load { busy_ns: now.busy_ns.saturating_sub(before.busy_ns), ports: ports.collect() }
    };
    now.iter().enumerate().map(load).collect()
}
