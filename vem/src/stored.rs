//! Answers out of the flow store: `show flow records`, `show flow-store`.
//!
//! Read by the thread that answers, so bounded to a second and a half.

use std::net::Ipv6Addr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use proto::addr::{MacAddr, VlanId};
use proto::name::IfName;
use proto::query::{FLOWS_MAX, FlowQuery, Order};
use proto::report::{Answer, FlowRow, StoreRow};

use crate::export::store::ecs::dropped;
use crate::export::store::nfcapd::Row;
use crate::export::store::query;
use crate::switch::Switch;

const PATIENCE: Duration = Duration::from_millis(1500);
/// TCP, UDP and SCTP have ports.
const PORTS: [u8; 3] = [6, 17, 132];

/// Flows that ended in the last minutes.
pub fn answer(switch: &Switch, dir: &Path, wanted: &FlowQuery, minutes: u32, now: Instant) -> Answer {
    let wall_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let since_ms = wall_ms.saturating_sub(u64::from(minutes) * 60_000);
    let interface = match wanted.interface {
        None => None,
        Some(name) => match index_of(switch, name) {
            Some(index) => Some(index),
            None => return Answer::Flows(Vec::new(), 0),
        },
    };
    let top = if wanted.top == 0 { FLOWS_MAX } else { wanted.top.min(FLOWS_MAX) };
    let rank = |row: &Row| match wanted.order {
        None | Some(Order::Octets) => row.octets,
        Some(Order::Packets) => row.packets,
        Some(Order::Duration) => row.last_ms.saturating_sub(row.first_ms),
        Some(Order::Recent) => row.last_ms,
    };
    match query::read(dir, since_ms, top as usize, now + PATIENCE, rank, |row| fits(row, wanted, interface)) {
        Ok((rows, matched)) => Answer::Flows(
            rows.iter().map(|row| flow_row(row, wall_ms, &|index| name_of(switch, index))).collect(),
            matched,
        ),
        Err(error) => Answer::Failed(error.to_string()),
    }
}

/// What the store holds; `None` when none is configured.
pub fn state(switch: &Switch, dir: &Path) -> Option<StoreRow> {
    let counts = switch.stored()?;
    Some(StoreRow {
        directory: dir.display().to_string(),
        files: counts.files,
        octets: counts.octets,
        stored: counts.stored,
        lost: counts.lost,
        error: counts.error.clone(),
    })
}

fn index_of(switch: &Switch, name: IfName) -> Option<u32> {
    let port = switch.plan().by_name(name)?;
    switch.ports().find(|(attachment, _)| attachment.port() == port).map(|(attachment, _)| attachment.if_index.into())
}

fn name_of(switch: &Switch, index: u32) -> Option<IfName> {
    let found = switch.ports().find(|(attachment, _)| u32::from(attachment.if_index) == index);
    found.and_then(|(attachment, _)| switch.plan().name(attachment.port()))
}

fn fits(row: &Row, wanted: &FlowQuery, interface: Option<u32>) -> bool {
    let host = wanted.host.map(Ipv6Addr::from_bits);
    let has_port = |port| PORTS.contains(&row.protocol) && (row.src_port == port || row.dst_port == port);
    host.is_none_or(|host| row.addresses.is_some_and(|(src, dst)| src == host || dst == host))
        && wanted.protocol.is_none_or(|protocol| row.addresses.is_some() && row.protocol == protocol)
        && wanted.port.is_none_or(has_port)
        && wanted.vlan.is_none_or(|vlan| row.vlan == vlan.get())
        && interface.is_none_or(|index| row.input == index || row.output == index)
        && (!wanted.dropped || dropped(row))
}

fn flow_row(row: &Row, wall_ms: u64, name: &dyn Fn(u32) -> Option<IfName>) -> FlowRow {
    let (src, dst) = row.addresses.unwrap_or((Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED));
    let ethertype = match row.addresses {
        None => 0,
        Some((src, _)) if src.to_ipv4_mapped().is_some() => 0x0800,
        Some(_) => 0x86dd,
    };
    let mac = MacAddr;
    FlowRow {
        input: name(row.input),
        output: name(row.output),
        vlan: VlanId::new(row.vlan),
        src_mac: mac(row.src_mac),
        dst_mac: mac(row.dst_mac),
        ethertype,
        src: src.to_bits(),
        dst: dst.to_bits(),
        protocol: row.protocol,
        tos: row.tos,
        src_port: row.src_port,
        dst_port: row.dst_port,
        tcp_flags: row.tcp_flags,
        packets: row.packets,
        octets: row.octets,
        first_ms_ago: wall_ms.saturating_sub(row.first_ms),
        last_ms_ago: wall_ms.saturating_sub(row.last_ms),
        dropped: dropped(row).then(|| reason(row.status).to_owned()),
        // They are multiplied already.
        sampled: row.sampled.then_some(0),
        sampled_count: None,
    }
}

/// What is kept of the reason is a forwardingStatus (RFC 7270 section 4.12).
fn reason(status: u8) -> &'static str {
    match status {
        129 => "acl-deny",
        130 => "policy",
        131 => "no-destination",
        133 => "mtu-exceeded",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_those_of_the_cache() {
        let v4 = |last| std::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped();
        let row = Row {
            addresses: Some((v4(1), v4(2))),
            protocol: 6,
            src_port: 4000,
            dst_port: 80,
            vlan: 10,
            input: 3,
            output: 4,
            status: 129,
            last_ms: 1000,
            ..Row::default()
        };
        let any = FlowQuery::default;
        assert!(fits(&row, &any(), None) && fits(&row, &any(), Some(4)) && !fits(&row, &any(), Some(5)));
        for (query, is) in [
            (FlowQuery { host: Some(v4(2).to_bits()), ..any() }, true),
            (FlowQuery { host: Some(v4(3).to_bits()), ..any() }, false),
            (FlowQuery { protocol: Some(17), ..any() }, false),
            (FlowQuery { port: Some(80), ..any() }, true),
            (FlowQuery { port: Some(81), ..any() }, false),
            (FlowQuery { vlan: VlanId::new(11), ..any() }, false),
            (FlowQuery { dropped: true, ..any() }, true),
        ] {
            assert_eq!(fits(&row, &query, None), is, "{query:?}");
        }
        let shown = flow_row(&row, 3000, &|_| None);
        assert_eq!((shown.ethertype, shown.last_ms_ago, shown.dropped.as_deref()), (0x0800, 2000, Some("acl-deny")));
    }
}
