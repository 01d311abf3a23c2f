//! What only the writer of the MAC table knows: which slots are free, and per port the learned addresses by age.
//!
//! A list is ordered by when its addresses were last seen, as far as the writer knows. Other workers note in the slot
//! that an address was seen and touch no list; [`Order::oldest`] puts an address that was seen since into its right
//! place when it comes to the front, so that what it returns really is old.

use super::NONE;
use super::slots::Slots;
use crate::port::{PORTS_MAX, PortId};
use crate::time::Instant;

/// Addresses that one look for the oldest puts into place, and steps that it goes to find the place of one.
const STEPS: usize = 64;

#[derive(Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
    /// When the address was last seen, as of when it was put there.
    listed: Instant,
}

/// Learned addresses of a port.
#[derive(Clone, Copy)]
struct Held {
    oldest: u32,
    newest: u32,
    count: u32,
}

/// Free slots and lists.
pub(super) struct Order {
    links: Vec<Link>,
    held: Vec<Held>,
    free: Vec<u32>,
}

impl Order {
    pub(super) fn new(capacity: usize) -> Self {
        Order {
            links: vec![Link { older: NONE, newer: NONE, listed: Instant::default() }; capacity],
            held: vec![Held { oldest: NONE, newest: NONE, count: 0 }; PORTS_MAX],
            free: (0..capacity as u32).rev().collect(),
        }
    }

    pub(super) fn take_free(&mut self) -> Option<u32> {
        self.free.pop()
    }

    pub(super) fn give_free(&mut self, at: u32) {
        self.free.push(at);
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Learned addresses of `port`; `None` past the limit of ports.
    pub(super) fn count(&self, port: PortId) -> Option<u32> {
        self.held.get(port.index()).map(|held| held.count)
    }

    /// The port that holds most.
    pub(super) fn fullest(&self) -> Option<PortId> {
        let most = self.held.iter().enumerate().max_by_key(|(_, held)| held.count)?;
        Some(PortId(most.0 as u16))
    }

    /// The address of `port` that was not seen for the longest time.
    pub(super) fn oldest(&mut self, slots: &Slots, port: PortId) -> Option<u32> {
        for _ in 0..STEPS {
            let at = self.held.get(port.index())?.oldest;
            let listed = self.links.get(at as usize)?.listed;
            let seen = slots.seen(at);
            if seen <= listed {
                return Some(at);
            }
            self.unlink(at, port);
            self.link(at, port, seen);
        }
        Some(self.held.get(port.index())?.oldest).filter(|at| *at != NONE)
    }

    /// Puts slot `at` into the list of `port`, as seen at `seen`.
    pub(super) fn link(&mut self, at: u32, port: PortId, seen: Instant) {
        let Some(held) = self.held.get(port.index()).copied() else { return };
        let (mut older, mut newer) = (held.newest, NONE);
        for _ in 0..STEPS {
            match self.links.get(older as usize) {
                Some(link) if link.listed > seen => (older, newer) = (link.older, older),
                _ => break,
            }
        }
        if let Some(link) = self.links.get_mut(at as usize) {
            *link = Link { older, newer, listed: seen };
        }
        self.join(port, older, at);
        self.join(port, at, newer);
        if let Some(held) = self.held.get_mut(port.index()) {
            held.count += 1;
        }
    }

    /// Takes slot `at` out of the list of `port`.
    pub(super) fn unlink(&mut self, at: u32, port: PortId) {
        let Some(link) = self.links.get(at as usize).copied() else { return };
        self.join(port, link.older, link.newer);
        if let Some(held) = self.held.get_mut(port.index()) {
            held.count = held.count.saturating_sub(1);
        }
    }

    /// `newer` follows `older` in the list of `port`; [`NONE`] is its end.
    fn join(&mut self, port: PortId, older: u32, newer: u32) {
        let Some(held) = self.held.get_mut(port.index()) else { return };
        match self.links.get_mut(older as usize) {
            Some(link) => link.newer = newer,
            None => held.oldest = newer,
        }
        match self.links.get_mut(newer as usize) {
            Some(link) => link.older = older,
            None => held.newest = older,
        }
    }
}
