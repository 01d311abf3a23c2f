//! Which frames a flow monitor counts, of those that pass the ports that it looks at.
//!
//! What an access list says of a frame, and where its source is, are in the key of its flow: these are decided with the
//! verdict, when the judges run, and cost a frame of a known flow nothing. A port whose monitors have neither pays for the
//! question alone, and that only when the judges run. What a program says of a packet is not: it is asked for each
//! ([`crate::flow::tally`]).

use std::sync::Arc;

use proto::addr::{MacAddr, VlanId};

use crate::config::{Error, Filter, Selecting};
use crate::flow::key::{FlowKey, shape};
use crate::flow::record::MonitorSet;
use crate::observe::bpf::Program;
use crate::table::acl::list::{AclPair, Lists};

/// Why a monitor that looks at a port does not count a frame there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Skipped {
    /// It counts it, or there is none.
    No = 0,
    /// Its filter does not want it.
    Filtered = 1,
    /// It is counted on another host, where it comes from.
    Elsewhere = 2,
}

impl Skipped {
    /// The inverse of `as u8`.
    pub fn from_number(number: u8) -> Skipped {
        match number {
            1 => Skipped::Filtered,
            2 => Skipped::Elsewhere,
            _ => Skipped::No,
        }
    }
}

/// What a monitor counts, compiled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// The list that must permit a frame, and whether it judges IPv4.
    list: Option<(AclPair, bool)>,
    /// Sources that are counted on their own hosts, in rising order.
    elsewhere: Arc<[u64]>,
    /// What it looks for in each packet.
    program: Option<Arc<Program>>,
    /// It reads a [`Detail`](crate::flow::detail::Detail) of each packet.
    detailed: bool,
}

impl Selection {
    /// Compiles what monitor `index` counts.
    ///
    /// # Errors
    /// The list does not exist.
    pub fn compile(index: usize, selecting: &Selecting, lists: &Lists) -> Result<Selection, Error> {
        let list = match &selecting.filter {
            None => None,
            Some(Filter::Acl(list)) => {
                let found = lists.get(*list).cloned();
                let found = found
                    .ok_or_else(|| Error::Dangling(format!("flow monitor {index}"), format!("access list {list}")))?;
                let is_ip = found.is_ip();
                Some(if is_ip {
                    (AclPair::new(Some(found), None), true)
                } else {
                    (AclPair::new(None, Some(found)), false)
                })
            }
        };
        let mut elsewhere: Vec<u64> = selecting.elsewhere.iter().map(|mac| mac.to_u64()).collect();
        elsewhere.sort_unstable();
        elsewhere.dedup();
        Ok(Selection {
            list,
            elsewhere: elsewhere.into(),
            program: selecting.program.clone(),
            detailed: selecting.detailed,
        })
    }

    /// Its list, to be replaced by one that says the same.
    pub fn list_mut(&mut self) -> Option<&mut AclPair> {
        self.list.as_mut().map(|(list, _)| list)
    }

    /// What it looks for in each packet, if it does.
    pub fn program(&self) -> Option<&Program> {
        self.program.as_deref()
    }

    /// It reads a [`Detail`](crate::flow::detail::Detail) of each packet.
    pub fn is_detailed(&self) -> bool {
        self.detailed
    }

    /// It looks at each packet.
    pub fn looks_at_packets(&self) -> bool {
        self.program.is_some() || self.detailed
    }

    /// Not every flow is counted.
    pub fn is_selective(&self) -> bool {
        self.list.is_some() || !self.elsewhere.is_empty()
    }

    /// Whether a frame is counted that came by an uplink or not.
    pub fn judge(&self, by_uplink: bool, key: &FlowKey, vlan: Option<VlanId>) -> Skipped {
        if by_uplink && self.elsewhere.binary_search(&MacAddr(key.src_mac).to_u64()).is_ok() {
            return Skipped::Elsewhere;
        }
        match &self.list {
            // A list that does not judge a packet does not ask for it.
            Some((list, is_ip)) => match key.is(shape::IPV4) == *is_ip {
                true if list.find(key, vlan.unwrap_or(VlanId::DEFAULT)).permit => Skipped::No,
                _ => Skipped::Filtered,
            },
            None => Skipped::No,
        }
    }
}

/// Of the monitors in `set`, those that count the frame; if it is none, why.
pub fn watching(
    selections: &[Selection],
    set: MonitorSet,
    by_uplink: bool,
    key: &FlowKey,
    vlan: Option<VlanId>,
) -> (MonitorSet, Skipped) {
    let (mut counts, mut why) = (0, Skipped::No);
    for (index, selection) in selections.iter().enumerate() {
        let bit: MonitorSet = 1 << (index % 32);
        if set & bit != 0 {
            match selection.judge(by_uplink, key, vlan) {
                Skipped::No => counts |= bit,
                skipped => why = skipped,
            }
        }
    }
    (counts, if counts == 0 { why } else { Skipped::No })
}
