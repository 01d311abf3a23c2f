//! What the switch tells others of itself: port states and their events, and what the flow export must know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use proto::config::{Capability, HostConfig};
use proto::flow::Sampling;
use proto::msg::Event;
use proto::report::PortState;
use vswitch::verdict::DropReason;

use super::Switch;
use crate::apply::{Plan, SessionPlan};
use crate::attach::Attachment;
use crate::export;
use crate::hostport;
use crate::overload::Thing;

/// Most events that wait to be sent; further ones are only logged.
const EVENTS_MAX: usize = 1024;

impl Switch {
    /// What the export thread is to do under a plan.
    pub(super) fn export_config(&self, host: &HostConfig, plan: &Plan) -> export::Config {
        let monitor = |name: Option<&str>| {
            let found = host.monitors.iter().find(|m| Some(m.name.as_str()) == name).cloned();
            // An empty place exports nowhere.
            found.unwrap_or_else(|| proto::flow::Monitor {
                active_s: 1800,
                inactive_s: 15,
                ..proto::flow::Monitor::default()
            })
        };
        let interface = |attachment: &Attachment| {
            let plan = plan.port(attachment.port());
            let name = plan.and_then(|p| p.name).map_or_else(|| attachment.device.clone(), |name| name.to_string());
            let description = plan.map(|p| p.settings.description.clone()).filter(|d| !d.is_empty());
            export::Interface {
                port: attachment.port(),
                if_index: attachment.if_index,
                name,
                description: description.unwrap_or_else(|| attachment.vm.clone()),
                uplink: attachment.card > 0,
            }
        };
        export::Config {
            module: host.module,
            records: host.records.clone(),
            exporters: host.exporters.clone(),
            monitors: plan.numbers.monitors.iter().map(monitor).collect(),
            samplings: samplings(plan),
            samplers: host.samplers.clone().unwrap_or_default(),
            interfaces: self.attachments.iter().map(interface).collect(),
            store: host.store,
        }
    }

    /// Decides the state of every port and makes an event of each change.
    pub(super) fn compare_states(&mut self, now: Instant) {
        let mut changes = Vec::new();
        for attachment in self.attachments.iter() {
            let Some(live) = self.live.get_mut(&attachment.nic) else { continue };
            if let Some(guest) = &live.guest {
                live.connected = hostport::vhost::is_linked(guest);
            }
            let planned = self.plan.port(attachment.port());
            let state = match planned.map(|p| &p.state) {
                Some(PortState::Up) if !live.open => PortState::Down("device is gone".to_owned()),
                Some(PortState::Up) if !live.connected => PortState::Down("Link not connected".to_owned()),
                Some(state) => state.clone(),
                None => PortState::Down("Initializing".to_owned()),
            };
            let name = planned.and_then(|p| p.name);
            let name = || name.map_or_else(|| attachment.nic.to_string(), |name| name.to_string());
            if planned.is_some_and(|p| p.settings.capability == Some(Capability::IdsSensor)) {
                let counters = self.control.port_counters(attachment.port());
                let sent = counters.rx_drops.get(DropReason::SensorInput as usize).copied().unwrap_or(0);
                let is_due = live.sensor_told.1.is_none_or(|told| now.saturating_duration_since(told) >= SENSOR_EVERY);
                if sent > 0 && sent != live.sensor_told.0 && is_due {
                    live.sensor_told = (sent, Some(now));
                    changes.push(sensor_event(&name(), sent));
                }
            }
            if state == live.state {
                continue;
            }
            let name = name();
            changes.push(state_event(&name, &state));
            live.state = state;
            live.since = now;
        }
        changes.extend(self.compare_sessions());
        self.tell(changes);
    }

    /// An event of each monitor session that runs now and did not, or the other way round.
    fn compare_sessions(&mut self) -> Vec<Event> {
        let wanted: BTreeSet<IpAddr> = self.plan.sessions.iter().filter_map(|session| session.at).collect();
        self.absent = wanted.into_iter().filter(|address| !is_here(*address)).collect();
        let sessions = self.plan.sessions.iter();
        let now: BTreeMap<u16, Option<String>> =
            sessions.map(|session| (session.id, self.session_down(session))).collect();
        let before = std::mem::replace(&mut self.sessions, now);
        let changed = self.sessions.iter().filter(|(id, down)| before.get(id) != Some(down));
        changed.map(|(id, down)| session_event(*id, down.as_deref())).collect()
    }

    /// Why a session does not run here: what the plan says, or the address that it receives at is not there.
    pub fn session_down(&self, session: &SessionPlan) -> Option<String> {
        let absent = session.at.filter(|address| self.absent.contains(address));
        let absent = absent.map(|address| format!("{address} is not on this host"));
        session.down.clone().or(absent)
    }

    /// Says which queues and tables have lost something for want of room.
    pub(super) fn tell_overload(&mut self, now: Instant) {
        let (control, plan, attachments) = (&self.control, &self.plan, &self.attachments);
        let losses = || {
            let queue = |attachment: &Attachment| {
                let drops = control.port_counters(attachment.port()).tx_drops;
                let lost = drops.get(DropReason::TxFull as usize).copied().unwrap_or(0);
                let name =
                    plan.name(attachment.port()).map_or_else(|| attachment.nic.to_string(), |name| name.to_string());
                (Thing::Queue(name, attachment.report().driver), lost)
            };
            let flows = (Thing::Flows, control.cache_stats().unmetered);
            attachments.iter().map(queue).chain([flows]).collect()
        };
        let events = self.overload.look(now, losses);
        self.tell(events);
    }

    /// Logs events, and keeps them for the supervisor.
    fn tell(&mut self, events: Vec<Event>) {
        for event in events {
            tracing::info!("%{}-{}-{}: {}", event.facility, event.severity, event.mnemonic, event.text);
            if self.events.len() < EVENTS_MAX {
                self.events.push(event);
            }
        }
    }
}

/// The host has that address: a socket can be bound to it.
fn is_here(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// How packets are sampled for each monitor, by the ports that have it.
fn samplings(plan: &Plan) -> Vec<BTreeSet<Sampling>> {
    let mut samplings = vec![BTreeSet::new(); plan.config.monitors.len()];
    for port in &plan.config.ports {
        for (monitor, sampling) in [port.flow_in, port.flow_out].into_iter().zip(port.sampling) {
            if let Some(set) = monitor.and_then(|index| samplings.get_mut(index)) {
                set.insert(sampling);
            }
        }
    }
    samplings
}

fn session_event(id: u16, down: Option<&str>) -> Event {
    let (mnemonic, text) = match down {
        None => ("ETH_SPAN_SESSION_UP", format!("Session {id} is up")),
        Some(why) => ("ETH_SPAN_SESSION_DOWN", format!("Session {id} is down ({why})")),
    };
    Event { facility: "MONITOR".to_owned(), severity: 5, mnemonic: mnemonic.to_owned(), text }
}

/// A sensor that sends is told of no more often.
const SENSOR_EVERY: Duration = Duration::from_secs(600);

fn sensor_event(name: &str, frames: u64) -> Event {
    let text = format!("Interface {name} is an IDS sensor and has sent {frames} frames, which were dropped");
    Event { facility: "ETHPORT".to_owned(), severity: 4, mnemonic: "SENSOR_SENDS".to_owned(), text }
}

pub(super) fn state_event(name: &str, state: &PortState) -> Event {
    let (mnemonic, text) = match state {
        PortState::Up => ("IF_UP", format!("Interface {name} is up")),
        PortState::Down(why) => {
            let mnemonic = match why.as_str() {
                "Administratively down" => "IF_DOWN_ADMIN_DOWN",
                "Link not connected" => "IF_DOWN_LINK_FAILURE",
                "device is gone" => "IF_DOWN_INTERFACE_REMOVED",
                _ => "IF_DOWN_NONE",
            };
            (mnemonic, format!("Interface {name} is down ({why})"))
        }
    };
    Event { facility: "ETHPORT".to_owned(), severity: 5, mnemonic: mnemonic.to_owned(), text }
}
