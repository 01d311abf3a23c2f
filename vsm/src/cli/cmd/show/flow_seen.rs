//! Flows of all modules, each once, with what is known of their ends: what `show flow top` and `show flow local-only` add up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use proto::addr::MacAddr;
use proto::flow::Sampling;
use proto::name::IfName;
use proto::report::FlowRow;

use super::flow_cache::is_ip;
use super::gather::Port;
use crate::autonomous;
use crate::config::flow::Prefix;

/// Between which sides of the edge a flow goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From outside to inside.
    Inbound,
    /// From inside to outside.
    Outbound,
    /// Inside only.
    Internal,
    /// Outside only.
    External,
}

impl Way {
    pub fn named(word: &str) -> Option<Way> {
        [Way::Inbound, Way::Outbound, Way::Internal, Way::External].into_iter().find(|way| way.name() == word)
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Way::Inbound => "inbound",
            Way::Outbound => "outbound",
            Way::Internal => "internal",
            Way::External => "external",
        }
    }
}

/// One flow, and what is known of its ends.
pub struct Flow<'a> {
    /// Module that told it.
    pub slot: u8,
    /// What it told.
    pub row: &'a FlowRow,
    /// All of its packets, as they are estimated to be where one of so many was counted.
    pub packets: u64,
    /// All of its octets.
    pub octets: u64,
    /// Between which sides it goes.
    pub way: Way,
    /// The ports of the VMs at its ends, on whichever module.
    pub ends: [Option<&'a Port>; 2],
}

impl Flow<'_> {
    /// It came from a VM and went to another on the same host: no cable has carried it.
    pub fn is_local(&self) -> bool {
        let vm = |name: Option<IfName>| matches!(name, Some(IfName::Vethernet(_)));
        vm(self.row.input) && vm(self.row.output)
    }

    /// Both addresses, of IP or else of the cards.
    pub fn addresses(&self) -> [String; 2] {
        let ip = |bits: u128| Ipv6Addr::from_bits(bits).to_canonical().to_string();
        match is_ip(self.row) {
            true => [ip(self.row.src), ip(self.row.dst)],
            false => [self.row.src_mac.to_string(), self.row.dst_mac.to_string()],
        }
    }
}

/// The flows of all modules, each once.
pub struct Seen<'a> {
    /// The flows.
    pub flows: Vec<Flow<'a>>,
    /// Flows that the modules have, and told.
    pub there: (u64, u64),
    /// Flows whose figures are estimates.
    pub sampled: usize,
    /// Where they have them.
    place: String,
    /// Who has which addresses, where that is asked.
    systems: Option<&'a autonomous::Table>,
}

impl<'a> Seen<'a> {
    /// Of what the modules told; `prefixes` are inside, and when there are none the VMs are.
    pub fn new(told: &'a [(u8, (Vec<FlowRow>, u64))], ports: &'a [Port], prefixes: &BTreeSet<Prefix>) -> Self {
        let by_name: BTreeMap<IfName, &Port> = ports.iter().map(|port| (port.name, port)).collect();
        let vms = ports.iter().filter(|port| matches!(port.name, IfName::Vethernet(_)));
        let by_mac: BTreeMap<MacAddr, &Port> =
            vms.filter_map(|port| Some((port.report.as_ref()?.mac?, port))).collect();
        let vm = |name: Option<IfName>, mac: MacAddr| match name {
            Some(name @ IfName::Vethernet(_)) => by_name.get(&name).copied(),
            _ => by_mac.get(&mac).copied(),
        };
        let flow = |slot: u8, row: &'a FlowRow| {
            let ends = [vm(row.input, row.src_mac), vm(row.output, row.dst_mac)];
            let comes_again = matches!(row.input, Some(IfName::Ethernet { .. })) && ends[0].is_some();
            let way = way(row, [ends[0].is_some(), ends[1].is_some()], prefixes);
            let sampling = Sampling::several(false, row.sampled_count.unwrap_or(1), row.sampled.unwrap_or(0));
            let all = |counted: u64| sampling.unwrap_or_default().scale(counted);
            let (packets, octets) = (all(row.packets), all(row.octets));
            (!comes_again && row.dropped.is_none()).then_some(Flow { slot, row, packets, octets, way, ends })
        };
        let flows = told.iter().flat_map(|(slot, (rows, _))| rows.iter().filter_map(move |row| flow(*slot, row)));
        let flows: Vec<Flow<'_>> = flows.collect();
        let sampled = flows.iter().filter(|flow| flow.row.sampled.is_some()).count();
        let there = told.iter().fold((0, 0), |sum, (_, (rows, all))| (sum.0 + all, sum.1 + rows.len() as u64));
        Seen { flows, there, sampled, place: "in the caches".to_owned(), systems: None }
    }

    /// They were kept in the last minutes.
    pub fn kept(self, minutes: u32) -> Self {
        Seen { place: format!("that ended in the last {minutes} minutes"), ..self }
    }

    /// With the autonomous systems of addresses.
    pub fn with_systems(self, systems: &'a autonomous::Table) -> Self {
        Seen { systems: Some(systems), ..self }
    }

    /// The autonomous system of an address.
    pub fn system(&self, address: u128) -> Option<&'a autonomous::System> {
        self.systems?.find(address)
    }

    /// What is to be said before a table.
    pub fn head(&self) -> String {
        let (there, told) = self.there;
        let mut head = match there > told {
            true => format!("Of {there} flows {} the {told} with the most octets\n", self.place),
            false => String::new(),
        };
        if self.sampled > 0 {
            head += &format!("{} flows are sampled: their packets and octets are estimates\n", self.sampled);
        }
        head
    }
}

fn way(row: &FlowRow, is_vm: [bool; 2], prefixes: &BTreeSet<Prefix>) -> Way {
    let inside = |bits: u128| prefixes.iter().any(|prefix| prefix.contains(bits));
    let [from, to] = match () {
        () if is_ip(row) && !prefixes.is_empty() => [inside(row.src), inside(row.dst)],
        // A group is on the side of whoever speaks to it.
        () if row.dst_mac.is_multicast() => [is_vm[0], is_vm[0]],
        () => is_vm,
    };
    match (from, to) {
        (true, true) => Way::Internal,
        (true, false) => Way::Outbound,
        (false, true) => Way::Inbound,
        (false, false) => Way::External,
    }
}
