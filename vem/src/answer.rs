//! Answers to questions about the running switch: the supervisor's, and those of `vem ports` and `vem cmd`.
//!
//! The dataplane speaks of port and rule numbers; an answer speaks of interfaces and lists. A row whose port the
//! supervisor has not named yet has no interface. Questions about something that is not on this host are answered with
//! nothing, not with everything: the supervisor asks every host the same.
//!
//! In [`Answer::Drops`] a unicast frame that could not leave is told at both ends: where it came from, and where it should
//! have left.

use std::time::Instant;

use proto::capture::Wanted;
use proto::name::IfName;
use proto::passage::WatchRow;
use proto::query::{FLOWS_MAX, FlowQuery, Order, Query};
use proto::report::{
    AclCountRow, Amount, Answer, CacheState, Counters, DropCount, DropRow, DropSample, FlowRow, MacRow, PortRow,
    ReceivedCopies, ReconciledRow, RuleRef, SessionRow,
};
use vswitch::account::classes::{self, Class};
use vswitch::control::{FlowFilter, FlowOrder, LiveFlow, PortCounters, Traffic};
use vswitch::flow::record::{MonitorSet, Outcome};
use vswitch::observe::mirror::CopyLoss;
use vswitch::port::PortId;
use vswitch::verdict::DropReason;

use crate::applied::applied;
use crate::capture;
use crate::header;
use crate::switch::Switch;
use crate::why;

/// Answers a question; what can't be answered says why.
pub fn answer(switch: &mut Switch, query: &Query, now: Instant) -> Answer {
    let answered = match query {
        Query::Ports => Ok(Answer::Ports(ports(switch, now))),
        Query::Macs => macs(switch),
        Query::Flows(wanted) => flows(switch, wanted),
        Query::AclCounters => Ok(Answer::AclCounters(acl_counters(switch))),
        Query::Sessions => Ok(Answer::Sessions(sessions(switch))),
        Query::Exporters => Ok(exporters(switch)),
        Query::Drops => drops(switch),
        Query::ClearAclCounters(list) => {
            let rules = &switch.plan().numbers.rules;
            rules.iter(list.as_deref()).for_each(|(_, id)| switch.control().clear_rule(id));
            Ok(Answer::Done)
        }
        Query::ClearCounters(name) => {
            switch.clear_counters(*name);
            Ok(Answer::Done)
        }
        Query::ClearFlows(name) => clear_flows(switch, name.as_deref()),
        Query::ClearExporters(name) => {
            switch.clear_exporters(name.as_deref());
            Ok(Answer::Done)
        }
        Query::Applied => Ok(Answer::Applied(applied(switch))),
        Query::Reconcile => reconciled(switch),
        Query::CaptureBegin(wanted) => Ok(begin_capture(switch, wanted, now)),
        Query::CaptureRead(id) => Ok(captured(switch.captures().0.read(*id, now))),
        Query::CaptureEnd(id) => {
            let (captures, control) = switch.captures();
            let ended = captures.end(control, *id);
            Ok(ended.map_or_else(|error| Answer::Failed(error.to_string()), |()| Answer::Done))
        }
        Query::ExporterLevel(level) => {
            switch.debug_exporter(*level);
            Ok(Answer::Done)
        }
        Query::Trace(_) | Query::WatchBegin(_) | Query::WatchRead(_) | Query::WatchEnd(_) | Query::Watches => {
            if *query == Query::WatchEnd(None) {
                switch.debug_exporter(0);
            }
            let answer = why::answer(switch, query, now).unwrap_or_else(Answer::Failed);
            Ok(with_exporter(switch, answer))
        }
        // Needs more than the switch: the agent answers it.
        Query::Show(_) | Query::Stored { .. } | Query::StoreState => {
            Ok(Answer::Failed("not a question about the switch".to_owned()))
        }
        Query::ClearMacs { vlan, mac } => switch.control().clear_macs(*vlan, *mac).map(|()| Answer::Done),
    };
    answered.unwrap_or_else(|e| Answer::Failed(e.to_string()))
}

/// The flow export that says more is debugging too.
fn with_exporter(switch: &Switch, answer: Answer) -> Answer {
    match (answer, switch.exporter_debugged()) {
        (Answer::Watches(mut rows), Some((level, left))) => {
            let what = format!("flow exporter level {level}, in the log of the module");
            rows.push(WatchRow { what, matched: 0, seconds_left: left.as_secs() });
            Answer::Watches(rows)
        }
        (answer, _) => answer,
    }
}

fn begin_capture(switch: &mut Switch, wanted: &Wanted, now: Instant) -> Answer {
    let Some(port) = switch.plan().by_name(wanted.port) else {
        return Answer::Failed(format!("{} is not on this host", wanted.port));
    };
    let (captures, control) = switch.captures();
    captured(captures.begin(control, port, wanted, now))
}

fn captured(outcome: Result<proto::capture::Captured, capture::Error>) -> Answer {
    outcome.map_or_else(|error| Answer::Failed(error.to_string()), Answer::Captured)
}

/// The rows of [`Query::Ports`].
pub fn ports(switch: &Switch, now: Instant) -> Vec<PortRow> {
    let row = |(attachment, live): (&crate::attach::Attachment, &crate::switch::Live)| {
        let counters = switch.control().port_counters(attachment.port());
        let plan = switch.plan().port(attachment.port());
        let rate = live.rates.rate();
        PortRow {
            port: attachment.report(),
            name: plan.and_then(|p| p.name),
            state: live.state.clone(),
            admin_up: plan.is_some_and(|p| p.settings.admin_up),
            mtu: plan.map_or(1500, |p| p.mtu),
            rx: direction(counters.rx, &counters.rx_drops),
            tx: direction(counters.tx, &counters.tx_drops),
            since_s: now.saturating_duration_since(live.since).as_secs(),
            if_index: attachment.if_index,
            rx_bps: rate.rx_bps,
            rx_pps: rate.rx_pps,
            tx_bps: rate.tx_bps,
            tx_pps: rate.tx_pps,
            rx_reasons: Some(reasons(&counters.rx_drops)),
            tx_reasons: Some(reasons(&counters.tx_drops)),
        }
    };
    switch.ports().map(row).collect()
}

fn direction(traffic: Traffic, drops: &[u64]) -> Counters {
    Counters {
        unicast: traffic.unicast,
        multicast: traffic.multicast,
        broadcast: traffic.broadcast,
        octets: traffic.octets,
        drops: drops.iter().sum(),
    }
}

/// Those that there were.
fn reasons(drops: &[u64]) -> Vec<DropCount> {
    let counted = DropReason::ALL.iter().zip(drops).filter(|(_, frames)| **frames > 0);
    counted.map(|(reason, frames)| DropCount { reason: reason.name().to_owned(), frames: *frames }).collect()
}

type Asked = Result<Answer, vswitch::control::Error>;

fn macs(switch: &Switch) -> Asked {
    let entries = switch.control().macs()?;
    // The worker's clock stands while it sleeps; answering has set it right.
    let now = switch.control().now();
    let row = |entry: vswitch::control::MacEntry| MacRow {
        vlan: entry.vlan,
        mac: entry.mac,
        is_static: entry.is_static,
        age_s: u32::try_from(now.since(entry.seen).as_secs()).unwrap_or(u32::MAX),
        port: entry.port.and_then(|port| switch.plan().name(port)),
    };
    Ok(Answer::Macs(entries.into_iter().map(row).collect()))
}

fn flows(switch: &Switch, wanted: &FlowQuery) -> Asked {
    let nothing = Ok(Answer::Flows(Vec::new(), 0));
    let monitors = match &wanted.monitor {
        None => 0,
        Some(name) => match switch.plan().numbers.monitors.index(name) {
            Some(index) => 1 << index,
            None => return nothing,
        },
    };
    let interface = match wanted.interface {
        None => None,
        Some(name) => match switch.plan().by_name(name) {
            Some(port) => Some(port),
            None => return nothing,
        },
    };
    let order = match wanted.order {
        None | Some(Order::Octets) => FlowOrder::Octets,
        Some(Order::Packets) => FlowOrder::Packets,
        Some(Order::Duration) => FlowOrder::Duration,
        Some(Order::Recent) => FlowOrder::Recent,
    };
    let filter = FlowFilter {
        order,
        monitors,
        host: wanted.host.map(u128::to_be_bytes),
        protocol: wanted.protocol,
        port: wanted.port,
        vlan: wanted.vlan,
        interface,
        dropped: wanted.dropped,
    };
    let top = if wanted.top == 0 { FLOWS_MAX } else { wanted.top.min(FLOWS_MAX) };
    let (flows, matched) = switch.control().flows(filter, usize::try_from(top).unwrap_or(usize::MAX))?;
    let now = switch.control().now();
    let rows = flows.iter().map(|flow| flow_row(flow, now, &|port| switch.plan().name(port))).collect();
    Ok(Answer::Flows(rows, matched))
}

/// A monitor that is at no port here has counted nothing.
fn clear_flows(switch: &Switch, name: Option<&str>) -> Asked {
    let monitors = match name {
        None => MonitorSet::MAX,
        Some(name) => switch.plan().numbers.monitors.index(name).map_or(0, |index| 1 << index),
    };
    switch.control().flush_flows(monitors).map(|()| Answer::Done)
}

fn flow_row(flow: &LiveFlow, now: vswitch::time::Instant, name: &dyn Fn(PortId) -> Option<IfName>) -> FlowRow {
    let record = &flow.record;
    let ms_ago = |at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
    let (output, dropped) = match record.outcome {
        Outcome::Forwarded(port) => (name(port), None),
        Outcome::Flooded => (None, None),
        Outcome::Dropped(reason) => (None, Some(reason.name().to_owned())),
    };
    FlowRow {
        input: name(record.key.in_port()),
        output,
        vlan: record.vlan,
        src_mac: record.key.src_mac(),
        dst_mac: record.key.dst_mac(),
        ethertype: record.key.ethertype,
        src: u128::from_be_bytes(record.key.src),
        dst: u128::from_be_bytes(record.key.dst),
        protocol: record.key.protocol,
        tos: record.key.tos,
        src_port: record.key.src_port,
        dst_port: record.key.dst_port,
        tcp_flags: record.tcp_flags,
        packets: record.packets,
        octets: record.octets,
        first_ms_ago: ms_ago(record.first),
        last_ms_ago: ms_ago(record.last),
        dropped,
        sampled: record.sampling.is_some().then(|| record.sampling.out_of()),
        sampled_count: Some(record.sampling.count()).filter(|count| *count > 1),
    }
}

fn acl_counters(switch: &Switch) -> Vec<AclCountRow> {
    let plan = switch.plan();
    let empty = |name: &str| plan.numbers.rules.iter(Some(name)).count() == 1;
    let row = |((acl, sequence), id): ((&str, Option<u32>), u32)| AclCountRow {
        acl: acl.to_owned(),
        sequence,
        matches: switch.control().rule_matches(id),
    };
    // A list without rules permits everything, so its implicit deny is not there.
    plan.numbers.rules.iter(None).filter(|((acl, _), _)| !empty(acl)).map(row).collect()
}

/// The rows of [`Query::Sessions`].
pub fn sessions(switch: &Switch) -> Vec<SessionRow> {
    let turned_away = switch.control().turned_away().into_iter().filter(|(_, count)| *count > 0);
    let turned_away: Vec<(String, u64)> = turned_away.map(|(why, count)| (why.to_owned(), count)).collect();
    let host = switch.host_config();
    let row = |session: &crate::apply::SessionPlan| {
        let stats = switch.control().session_stats(session.id);
        let takes = host.is_some_and(|host| {
            let of = |it: &&proto::config::Session| it.id == session.id;
            host.sessions
                .iter()
                .find(of)
                .is_some_and(|it| it.receive.is_some() || it.relay.as_ref().is_some_and(|relay| !relay.from.is_empty()))
        });
        let received = ReceivedCopies {
            copies: stats.received,
            truncated: stats.received_cut,
            missing: stats.missing,
            late: stats.late,
            unwelcome: stats.unwelcome,
        };
        let losses = CopyLoss::ALL.iter().zip(stats.losses).filter(|(_, count)| *count > 0);
        SessionRow {
            id: session.id,
            down: switch.session_down(session),
            copied: stats.copied,
            dropped: stats.dropped,
            segmented: stats.segmented,
            matched: Some(stats.matched),
            truncated: Some(stats.truncated),
            losses: Some(losses.map(|(loss, count)| (loss.name().to_owned(), count)).collect()),
            received: takes.then_some(received),
            turned_away: takes.then(|| turned_away.clone()),
            relayed: Some(session.relayed.clone()).filter(|modules| !modules.is_empty()),
        }
    };
    switch.plan().sessions.iter().map(row).collect()
}

fn exporters(switch: &Switch) -> Answer {
    Answer::Exporters(switch.exporter_rows_since_cleared(), cache(switch))
}

/// State of the flow cache.
pub fn cache(switch: &Switch) -> CacheState {
    let cache = switch.control().cache_stats();
    CacheState {
        active: cache.active,
        capacity: cache.capacity,
        added: cache.added,
        aged_inactive: cache.aged_inactive,
        aged_active: cache.aged_active,
        ended: cache.ended,
        forced: cache.forced,
        evicted: cache.evicted,
        unmetered: Some(cache.unmetered),
        summed: Some(cache.summed),
    }
}

fn reconciled(switch: &Switch) -> Asked {
    let all = switch.control().reconciliation()?;
    let amount = |amount: classes::Amount| Amount { packets: amount.packets, octets: amount.octets };
    let row = |(attachment, _): (&crate::attach::Attachment, &crate::switch::Live)| {
        let row = all.get(attachment.port().index())?;
        let both = |class| {
            let mut sum = row.reported.get(class);
            sum.add(row.in_cache.get(class));
            amount(sum)
        };
        let mut in_cache = row.in_cache.get(Class::Ip);
        in_cache.add(row.in_cache.get(Class::Other));
        Some(ReconciledRow {
            port: switch.plan().name(attachment.port()),
            received: amount(row.received),
            ip: amount(row.reported.get(Class::Ip)),
            other: amount(row.reported.get(Class::Other)),
            in_cache: amount(in_cache),
            unwatched: both(Class::Unwatched),
            filtered: both(Class::Filtered),
            elsewhere: both(Class::Elsewhere),
            malformed: both(Class::Malformed),
            unmetered: both(Class::Unmetered),
            unsampled: Some(both(Class::Unsampled)),
        })
    };
    Ok(Answer::Reconciled(switch.ports().filter_map(row).collect()))
}

fn drops(switch: &Switch) -> Asked {
    let plan = switch.plan();
    let mut rows = Vec::new();
    let by_rule = switch.control().rule_drops();
    for (attachment, _) in switch.ports() {
        let port = attachment.port();
        let counters = switch.control().port_counters(port);
        for row in drop_rows(&counters, plan.name(port)) {
            let mine = by_rule.iter().filter(|(pair, _)| pair.port == port && pair.reason.name() == row.reason);
            let named = mine.filter_map(|(pair, frames)| Some((rule_ref(switch, pair.rule)?, *frames)));
            rows.extend(by_rules(&row, named));
        }
    }
    let samples = switch.control().drop_samples()?;
    let now = switch.control().now();
    let sample = |sample: vswitch::control::DropSample| DropSample {
        ms_ago: u64::try_from(now.since(sample.at).as_millis()).unwrap_or(u64::MAX),
        port: plan.name(sample.port),
        reason: sample.reason.name().to_owned(),
        rule: sample.rule.and_then(|id| rule_ref(switch, id)),
        length: sample.length,
        headers: header::describe(sample.header.get(..sample.header_len.into()).unwrap_or(&sample.header)),
    };
    Ok(Answer::Drops(rows, samples.into_iter().map(sample).collect()))
}

/// A row for each rule, and one for the frames that no rule is known for.
fn by_rules(row: &DropRow, rules: impl Iterator<Item = (RuleRef, u64)>) -> Vec<DropRow> {
    let mut rows = Vec::new();
    let mut left = row.frames;
    for (rule, frames) in rules {
        // The table of rules is read after the counters of the port.
        let frames = frames.min(left);
        left -= frames;
        rows.push(DropRow { frames, rule: Some(rule), ..row.clone() });
    }
    rows.push(DropRow { frames: left, ..row.clone() });
    rows.retain(|row| row.frames > 0);
    rows
}

fn drop_rows(counters: &PortCounters, port: Option<IfName>) -> Vec<DropRow> {
    let both = counters.rx_drops.iter().zip(&counters.tx_drops).map(|(rx, tx)| rx + tx);
    let row = |(reason, frames): (&DropReason, u64)| DropRow {
        port,
        reason: reason.name().to_owned(),
        text: reason.text().to_owned(),
        frames,
        rule: None,
    };
    DropReason::ALL.iter().zip(both).filter(|(_, frames)| *frames > 0).map(row).collect()
}

/// Only a rule that denies can drop a frame.
fn rule_ref(switch: &Switch, id: u32) -> Option<RuleRef> {
    let (acl, sequence) = switch.plan().numbers.rules.name(id)?;
    Some(RuleRef { acl: acl.to_owned(), sequence, action: proto::acl::Action::Deny })
}
