//! What became of the frames of a port in the flow meter: every frame that a port brought in is in exactly one class.
//!
//! A frame is counted in the entry of its flow, and an entry gives what it has counted to a class when it is reported,
//! given up or removed. So the classes of a port, what its live flows have counted since, and what was no flow at all add
//! up to what the port has received: [`Classes`] is how that is shown.

use super::counters::Counter;
use super::select::Skipped;
use crate::flow::entry::Entry;
use crate::flow::key::shape;

/// Where the frames of a flow are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Class {
    /// IPv4 and IPv6 packets of flows that a monitor counts.
    Ip,
    /// Other frames of flows that a monitor counts.
    Other,
    /// Flows that no monitor looks at.
    Unwatched,
    /// Flows, or packets of them, that the filter of their monitor does not want.
    Filtered,
    /// Flows that are counted on another host.
    Elsewhere,
    /// In no flow, because the frame contradicts itself.
    Malformed,
    /// Of a watched flow whose report nobody took.
    Unmetered,
    /// Packets of a watched flow that no sampler picked.
    Unsampled,
}

impl Class {
    /// Every class, in the order of their numbers.
    pub const ALL: [Class; 8] = [
        Class::Ip,
        Class::Other,
        Class::Unwatched,
        Class::Filtered,
        Class::Elsewhere,
        Class::Malformed,
        Class::Unmetered,
        Class::Unsampled,
    ];

    /// The same, or that nobody took the report of the flow.
    pub fn or_lost(self, lost: bool) -> Class {
        match self {
            Class::Ip | Class::Other if lost => Class::Unmetered,
            class => class,
        }
    }

    /// The class of what `entry` has counted.
    pub fn of(entry: &Entry) -> Class {
        let is_ip = entry.key().shape & (shape::IPV4 | shape::IPV6) != 0;
        match entry.skipped() {
            _ if entry.monitors_in | entry.monitors_out != 0 => {
                if is_ip {
                    Class::Ip
                } else {
                    Class::Other
                }
            }
            Skipped::No => Class::Unwatched,
            Skipped::Filtered => Class::Filtered,
            Skipped::Elsewhere => Class::Elsewhere,
        }
    }
}

/// Packets, which are the segments of super-frames, and octets of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    /// Packets.
    pub packets: u64,
    /// Octets of the frames, without FCS.
    pub octets: u64,
}

impl Amount {
    /// Adds another.
    pub fn add(&mut self, other: Amount) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.octets = self.octets.wrapping_add(other.octets);
    }
}

/// The classes of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Classes([Amount; Class::ALL.len()]);

impl Classes {
    /// What is in a class.
    pub fn get(&self, class: Class) -> Amount {
        self.0.get(class as usize).copied().unwrap_or_default()
    }

    /// Adds to a class.
    pub fn add(&mut self, class: Class, amount: Amount) {
        if let Some(sum) = self.0.get_mut(class as usize) {
            sum.add(amount);
        }
    }

    /// Adds others, class by class.
    pub fn add_all(&mut self, others: &Classes) {
        self.0.iter_mut().zip(others.0).for_each(|(sum, other)| sum.add(other));
    }
}

/// The cells behind [`Classes`].
#[derive(Debug, Default)]
pub struct ClassCells([(Counter, Counter); Class::ALL.len()]);

impl ClassCells {
    /// Adds to a class; by the one writer only.
    pub fn add(&self, class: Class, amount: Amount) {
        if let Some((packets, octets)) = self.0.get(class as usize) {
            packets.add(amount.packets);
            octets.add(amount.octets);
        }
    }

    /// What they hold.
    pub fn read(&self) -> Classes {
        let mut classes = Classes::default();
        for (sum, (packets, octets)) in classes.0.iter_mut().zip(&self.0) {
            *sum = Amount { packets: packets.get(), octets: octets.get() };
        }
        classes
    }
}
