//! Ports, flows, exporters and monitor sessions of a host: the same from the agent and from the supervisor.

use super::{Family, Page};
use crate::report::{CacheState, Counters, DropCount, ExporterRow, PortRow, PortState, SessionRow};

const UP: usize = 0;
const ADMIN: usize = 1;
const INFO: usize = 2;
const MTU: usize = 3;
const RX: [usize; 4] = [4, 5, 6, 7];
const TX: [usize; 4] = [8, 9, 10, 11];
const CACHE: usize = 12;
const EXPORTER: usize = 18;
const SESSION: usize = 25;

/// The families.
pub static SHARED: [Family; 31] = [
    Family::gauge("vswitch_port_up", "Whether the port forwards"),
    Family::gauge("vswitch_port_admin_up", "Whether the port is meant to forward"),
    Family::gauge("vswitch_port_info", "1, with what is attached to the port"),
    Family::gauge("vswitch_port_mtu_bytes", "Largest IP packet of the port"),
    Family::counter(
        "vswitch_port_receive_packets_total",
        "Frames from the port into the switch; super-frames count as their segments",
    ),
    Family::counter("vswitch_port_receive_bytes_total", "Octets of these frames, without FCS"),
    Family::counter(
        "vswitch_port_receive_dropped_packets_total",
        "Frames that the port brought in and that were dropped",
    ),
    Family::counter("vswitch_port_receive_drops_total", "The same by reason"),
    Family::counter(
        "vswitch_port_transmit_packets_total",
        "Frames from the switch into the port; super-frames count as their segments",
    ),
    Family::counter("vswitch_port_transmit_bytes_total", "Octets of these frames, without FCS"),
    Family::counter(
        "vswitch_port_transmit_dropped_packets_total",
        "Frames that could not leave by the port; a frame to one station also counts where it came from",
    ),
    Family::counter("vswitch_port_transmit_drops_total", "The same by reason"),
    Family::gauge("vswitch_flow_cache_flows", "Flows in the cache"),
    Family::gauge("vswitch_flow_cache_flows_max", "Most flows that the cache holds"),
    Family::counter("vswitch_flow_cache_added_total", "Flows that were added to the cache"),
    Family::counter("vswitch_flow_cache_reported_total", "Flows that were reported, by cause"),
    Family::counter(
        "vswitch_flow_unmetered_packets_total",
        "Packets in no report, because nobody took reports for too long",
    ),
    Family::counter("vswitch_flow_summed_total", "Flows that were reported in a sum, because there were too many"),
    Family::counter("vswitch_exporter_datagrams_total", "Datagrams that were sent to the collector"),
    Family::counter("vswitch_exporter_records_total", "Flow records that were sent to the collector"),
    Family::counter("vswitch_exporter_templates_total", "Templates that were sent to the collector"),
    Family::counter("vswitch_exporter_bytes_total", "Octets of payload that were sent to the collector"),
    Family::counter("vswitch_exporter_failed_datagrams_total", "Datagrams that the host refused to send"),
    Family::counter("vswitch_exporter_failed_records_total", "Flow records in these"),
    Family::counter("vswitch_exporter_not_exportable_records_total", "Flow records that the format can not carry"),
    Family::gauge("vswitch_monitor_session_up", "Whether the monitor session runs on the host"),
    Family::counter("vswitch_monitor_session_copied_packets_total", "Copies that reached a destination"),
    Family::counter(
        "vswitch_monitor_session_dropped_packets_total",
        "Copies lost, because a destination was full or refused them",
    ),
    Family::counter("vswitch_monitor_session_segmented_packets_total", "Super-frames that were cut into segments"),
    Family::counter("vswitch_monitor_session_received_packets_total", "Copies of other hosts that the session took"),
    Family::counter("vswitch_monitor_session_missing_packets_total", "Copies of other hosts that were lost on the way"),
];

/// Where figures are from.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Name of the host.
    pub host: &'a str,
    /// Number of the module; empty when the host has none yet.
    pub module: &'a str,
}

impl Place<'_> {
    fn labels<'b, const N: usize>(&'b self, more: [(&'b str, &'b str); N]) -> Vec<(&'b str, &'b str)> {
        [("host", self.host), ("module", self.module)].into_iter().chain(more).collect()
    }
}

fn put<const N: usize>(page: &mut Page, place: Place<'_>, family: usize, more: [(&str, &str); N], value: u64) {
    // The number of a family is a constant of this file.
    if let Some(family) = SHARED.get(family) {
        page.put(family, &place.labels(more), value);
    }
}

/// The ports. A port that has no interface yet goes by its card.
pub fn ports(page: &mut Page, place: Place<'_>, rows: &[PortRow]) {
    for row in rows {
        let name = row.name.map_or_else(|| row.port.nic.to_string(), |name| name.to_string());
        let interface = [("interface", name.as_str())];
        put(page, place, UP, interface, u64::from(row.state == PortState::Up));
        put(page, place, ADMIN, interface, u64::from(row.admin_up));
        put(page, place, MTU, interface, u64::from(row.mtu));
        let nic = row.port.nic.to_string();
        let info = [
            ("interface", name.as_str()),
            ("vm", row.port.vm.as_str()),
            ("nic", &nic),
            ("device", &row.port.device),
            ("driver", &row.port.driver),
            ("profile", &row.port.profile),
        ];
        put(page, place, INFO, info, 1);
        direction(page, place, &name, RX, &row.rx, row.rx_reasons.as_deref());
        direction(page, place, &name, TX, &row.tx, row.tx_reasons.as_deref());
    }
}

fn direction(
    page: &mut Page,
    place: Place<'_>,
    name: &str,
    [packets, octets, drops, reasons]: [usize; 4],
    counters: &Counters,
    by_reason: Option<&[DropCount]>,
) {
    let interface = ("interface", name);
    let casts = [("unicast", counters.unicast), ("multicast", counters.multicast), ("broadcast", counters.broadcast)];
    for (cast, count) in casts {
        put(page, place, packets, [interface, ("cast", cast)], count);
    }
    put(page, place, octets, [interface], counters.octets);
    put(page, place, drops, [interface], counters.drops);
    for DropCount { reason, frames } in by_reason.unwrap_or_default() {
        put(page, place, reasons, [interface, ("reason", reason)], *frames);
    }
}

/// The flow cache.
pub fn cache(page: &mut Page, place: Place<'_>, cache: &CacheState) {
    put(page, place, CACHE, [], cache.active);
    put(page, place, CACHE + 1, [], cache.capacity);
    put(page, place, CACHE + 2, [], cache.added);
    let causes = [
        ("inactive", cache.aged_inactive),
        ("active", cache.aged_active),
        ("tcp-end", cache.ended),
        ("forced", cache.forced),
        ("evicted", cache.evicted),
    ];
    for (cause, count) in causes {
        put(page, place, CACHE + 3, [("cause", cause)], count);
    }
    if let Some(count) = cache.unmetered {
        put(page, place, CACHE + 4, [], count);
    }
    if let Some(count) = cache.summed {
        put(page, place, CACHE + 5, [], count);
    }
}

/// The exporters.
pub fn exporters(page: &mut Page, place: Place<'_>, rows: &[ExporterRow]) {
    for row in rows {
        let labels = [("exporter", row.name.as_str()), ("destination", &row.destination)];
        for (at, count) in row.counts().into_iter().enumerate() {
            put(page, place, EXPORTER + at, labels, count);
        }
    }
}

/// The monitor sessions.
pub fn sessions(page: &mut Page, place: Place<'_>, rows: &[SessionRow]) {
    for row in rows {
        let id = row.id.to_string();
        let counts = [u64::from(row.down.is_none()), row.copied, row.dropped, row.segmented];
        let received = row.received.map(|it| [it.copies, it.missing]).into_iter().flatten();
        for (at, count) in counts.into_iter().chain(received).enumerate() {
            put(page, place, SESSION + at, [("session", &id)], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProfileType;
    use crate::name::IfName;
    use crate::report::{PortReport, ReceivedCopies};

    fn row(name: Option<IfName>) -> PortRow {
        let port = PortReport {
            nic: "web1/0".parse().unwrap(),
            kind: ProfileType::Vethernet,
            card: 0,
            profile: "web".into(),
            vm: "web1".into(),
            device: "tap0".into(),
            driver: "tap".into(),
            mac: None,
        };
        let rx = Counters { unicast: 5, multicast: 6, broadcast: 7, octets: 800, drops: 9 };
        PortRow {
            port,
            name,
            state: PortState::Up,
            admin_up: true,
            mtu: 1500,
            rx,
            tx: Counters::default(),
            since_s: 1,
            if_index: 1,
            rx_bps: 0,
            rx_pps: 0,
            tx_bps: 0,
            tx_pps: 0,
            rx_reasons: Some(vec![DropCount { reason: "acl-deny".into(), frames: 9 }]),
            tx_reasons: None,
        }
    }

    #[test]
    fn every_family_has_its_rows() {
        let mut page = Page::default();
        let place = Place { host: "h", module: "3" };
        let tx = PortRow { tx_reasons: row(None).rx_reasons, ..row(None) };
        ports(&mut page, place, &[row(Some(IfName::Vethernet(1))), tx]);
        cache(
            &mut page,
            place,
            &CacheState { active: 11, unmetered: Some(12), summed: Some(13), ..CacheState::default() },
        );
        let exporter = ExporterRow {
            name: "e".into(),
            destination: "192.0.2.1:1".into(),
            datagrams: 21,
            records: 22,
            templates: 23,
            octets: 24,
            failed_datagrams: 25,
            failed_records: 26,
            not_exportable: 27,
            last_error: None,
            ..ExporterRow::default()
        };
        exporters(&mut page, place, &[exporter]);
        sessions(
            &mut page,
            place,
            &[
                SessionRow { id: 1, copied: 31, dropped: 32, segmented: 33, ..SessionRow::default() },
                SessionRow {
                    id: 2,
                    received: Some(ReceivedCopies { copies: 34, missing: 35, ..ReceivedCopies::default() }),
                    ..SessionRow::default()
                },
            ],
        );
        let text = page.to_string();
        for line in [
            "vswitch_port_up{host=\"h\",module=\"3\",interface=\"Vethernet1\"} 1",
            "vswitch_port_up{host=\"h\",module=\"3\",interface=\"web1/0\"} 1",
            "vswitch_port_mtu_bytes{host=\"h\",module=\"3\",interface=\"Vethernet1\"} 1500",
            "vswitch_port_receive_packets_total{host=\"h\",module=\"3\",interface=\"Vethernet1\",cast=\"multicast\"} 6",
            "vswitch_port_receive_bytes_total{host=\"h\",module=\"3\",interface=\"Vethernet1\"} 800",
            "vswitch_port_receive_drops_total{host=\"h\",module=\"3\",interface=\"Vethernet1\",reason=\"acl-deny\"} 9",
            "vswitch_port_transmit_drops_total{host=\"h\",module=\"3\",interface=\"web1/0\",reason=\"acl-deny\"} 9",
            "vswitch_flow_unmetered_packets_total{host=\"h\",module=\"3\"} 12",
            "vswitch_flow_summed_total{host=\"h\",module=\"3\"} 13",
            "vswitch_exporter_not_exportable_records_total{host=\"h\",module=\"3\",exporter=\"e\",destination=\"192.0.2.1:1\"} 27",
            "vswitch_monitor_session_segmented_packets_total{host=\"h\",module=\"3\",session=\"1\"} 33",
            "vswitch_monitor_session_received_packets_total{host=\"h\",module=\"3\",session=\"2\"} 34",
            "vswitch_monitor_session_missing_packets_total{host=\"h\",module=\"3\",session=\"2\"} 35",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        for family in &SHARED {
            assert!(text.contains(&format!("\n{}{{", family.name)), "{}", family.name);
        }
    }
}
