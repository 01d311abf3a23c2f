//! The switch of this host: the ports that are attached, the configuration that they run on, and the dataplane between.
//!
//! ```text
//!            attach / detach                   prepare · commit                       questions
//!                 │                                  │                                    │
//!   Attachments ──┴──▶ plan ◀── HostConfig ──────────┘            plan + counters ──▶ answer
//!                       │
//!                       └──▶ Snapshot::build ──▶ publish ──▶ exporter, link events
//! ```
//!
//! Every change makes a whole new plan and publishes it; if any step fails, what ran before goes on running. The order
//! is: store on the disk, publish to the dataplane, tell the world. So what is reported as applied is also what comes
//! back after a crash.
//!
//! The state of a port's device comes from netlink, that of a vhost-user port from its ring, and decides what is reported, not what is forwarded: otherwise a
//! guest that toggles its card would make the whole host build configurations. States are compared once a second at
//! most, which also bounds the events that a guest can cause.
//!
//! One thread, the control thread, owns a `Switch`; calls may block on the disk, on netlink and on the dataplane (2 s).

mod devices;
mod publish;
mod reporting;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use proto::addr::NicId;
use proto::config::HostConfig;
use proto::msg::{ConfigHash, Event};
use proto::name::IfName;
use proto::report::{ExporterRow, PortReport, PortState};
use vswitch::control::Control;
use vswitch::port::vhost::VhostState;
use vswitch::port::xdp::ethtool::Queues;
use vswitch::snapshot::Snapshot;

use crate::apply::{self, Attached, Numbers, Plan};
use crate::attach::{self, Attachment, Attachments};
use crate::capture::Captures;
use crate::export::{self, ExportHandle};
use crate::headless::{self, LastGood, Store};
use crate::hostport::{self, netns};
use crate::numbers::MonitorNumbers;
use crate::overload::Overload;
use crate::rates::{Rates, Totals};
use crate::request::Kind;
use crate::why;
use crate::workers::Busy;

/// Why something can't be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong.
    #[error(transparent)]
    Attach(#[from] attach::Error),
    /// The device can't be used.
    #[error(transparent)]
    Device(#[from] hostport::Error),
    /// The configuration contradicts itself or passes a limit.
    #[error("configuration: {0}")]
    Config(#[from] vswitch::config::Error),
    /// The dataplane does not do it.
    #[error("dataplane: {0}")]
    Control(#[from] vswitch::control::Error),
    /// The flow export does not take it.
    #[error(transparent)]
    Export(#[from] export::Error),
    /// It can't be stored.
    #[error("state: {0}")]
    Store(#[from] headless::Error),
    /// The supervisor commits what was not prepared.
    #[error("version {0} was not prepared")]
    NotPrepared(u64),
    /// The octets are not a configuration for this host.
    #[error("{0}")]
    Malformed(String),
}

/// What is known of a port beyond its attachment.
pub struct Live {
    /// The dataplane has the device.
    pub open: bool,
    /// The device is set up and has carrier.
    pub connected: bool,
    /// As reported.
    pub state: PortState,
    /// When the state last changed.
    pub since: Instant,
    /// Averages.
    pub rates: Rates,
    /// Why the device could not be opened, when that was tried.
    pub problem: Option<String>,
    namespace: Option<netns::Identity>,
    /// Index of the device.
    index: u32,
    /// The device was deleted, or another has its name: a packet socket does not always hear of it.
    deleted: bool,
    mtu: u16,
    /// What the dataplane knows of the guest of a vhost-user port.
    guest: Option<Arc<VhostState>>,
    /// Largest packet of the device as it is.
    device_mtu: u32,
    /// Largest packet of the device when it was opened.
    opened_mtu: u32,
    /// What drives a netdev.
    pub driver: Option<String>,
    /// Queues that AF_XDP was opened for.
    queues: Option<Queues>,
    /// How many frames a sensor had sent when that was last told, and when.
    sensor_told: (u64, Option<Instant>),
}

impl Live {
    fn new(now: Instant) -> Live {
        Live {
            open: false,
            connected: false,
            state: PortState::Down("Initializing".to_owned()),
            since: now,
            rates: Rates::default(),
            problem: None,
            namespace: None,
            index: 0,
            deleted: false,
            mtu: 0,
            guest: None,
            device_mtu: 0,
            opened_mtu: 0,
            driver: None,
            queues: None,
            sensor_told: (0, None),
        }
    }

    /// What the dataplane knows of the guest of a vhost-user port that is open.
    pub fn guest(&self) -> Option<&VhostState> {
        self.guest.as_deref()
    }

    /// AF_XDP drives the device.
    fn by_xdp(&self) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.starts_with("xdp"))
    }
}

/// A configuration that was checked and waits for its commit.
struct Prepared {
    last: LastGood,
    host: HostConfig,
}

/// The switch of this host.
pub struct Switch {
    control: Control,
    exporter: ExportHandle,
    store: Store,
    devices: hostport::Settings,
    attachments: Attachments,
    live: BTreeMap<NicId, Live>,
    host: Option<HostConfig>,
    last: Option<LastGood>,
    prepared: Option<Prepared>,
    plan: Plan,
    generation: u64,
    /// Flows may still be counted under monitors that a port does not have any more.
    unsettled: bool,
    events: Vec<Event>,
    busy: Busy,
    captures: Captures,
    watching: why::Running,
    overload: Overload,
    /// Monitor sessions, and why each does not run.
    sessions: BTreeMap<u16, Option<String>>,
    /// Addresses that sessions receive at and that this host does not have.
    absent: BTreeSet<IpAddr>,
}

impl Switch {
    /// A switch with what `store` holds and with the ports that are `fixed` by the configuration file. Every device that is
    /// there is opened; one that is not is reported and tried again. The workers' clock began at `now`.
    ///
    /// # Errors
    /// The dataplane does not start. Damaged files are logged and not used.
    pub fn start(
        control: Control,
        exporter: ExportHandle,
        store: Store,
        fixed: Vec<Attachment>,
        devices: hostport::Settings,
        now: Instant,
    ) -> Result<Switch, Error> {
        let stored = store.load_config().unwrap_or_else(|error| {
            tracing::error!(%error, "no last good configuration");
            None
        });
        let attachments = store.load_attachments().unwrap_or_else(|error| {
            tracing::error!(%error, "no stored ports");
            Attachments::default()
        });
        let (last, host) = stored.unzip();
        let plan = apply::plan(0, None, &[], &Numbers::default())?;
        let mut switch = Switch {
            control,
            exporter,
            store,
            devices,
            attachments,
            live: BTreeMap::new(),
            host,
            last,
            prepared: None,
            plan,
            generation: 0,
            unsettled: false,
            events: Vec::new(),
            busy: Busy::default(),
            captures: Captures::new(now),
            watching: why::Running::new(now),
            overload: Overload::default(),
            sessions: BTreeMap::new(),
            absent: BTreeSet::new(),
        };
        switch.merge_fixed(fixed);
        if let Some(last) = &switch.last {
            tracing::info!(version = last.version, hash = %last.hash, "last good configuration");
        }
        switch.open_all(now)?;
        Ok(switch)
    }

    /// The dataplane.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The captures that run, with the dataplane.
    pub fn captures(&mut self) -> (&mut Captures, &Control) {
        (&mut self.captures, &self.control)
    }

    /// The watch that runs, with the dataplane and what its ports are called.
    pub fn watching(&mut self) -> (&mut why::Running, &Control, &Plan) {
        (&mut self.watching, &self.control, &self.plan)
    }

    /// How busy the workers are.
    pub fn busy(&self) -> &Busy {
        &self.busy
    }

    /// The plan that runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The configuration that runs.
    pub fn host_config(&self) -> Option<&HostConfig> {
        self.host.as_ref()
    }

    /// Version and hash of the configuration that runs; zero without one.
    pub fn applied(&self) -> (u64, ConfigHash) {
        self.last.as_ref().map_or((0, ConfigHash::default()), |last| (last.version, last.hash))
    }

    /// What the agent would come back with: the last good configuration as it is on the disk.
    ///
    /// # Errors
    /// The file can't be used.
    pub fn stored_config(&self) -> Result<Option<LastGood>, headless::Error> {
        Ok(self.store.load_config()?.map(|(last, _)| last))
    }

    /// The ports on the disk are those that are attached.
    ///
    /// # Errors
    /// The file can't be used.
    pub fn stored_ports_match(&self) -> Result<bool, headless::Error> {
        Ok(self.store.load_attachments()? == self.attachments)
    }

    /// Every port.
    pub fn ports(&self) -> impl Iterator<Item = (&Attachment, &Live)> {
        self.attachments.iter().filter_map(|a| self.live.get(&a.nic).map(|live| (a, live)))
    }

    /// What the supervisor is told of the ports.
    pub fn reports(&self) -> Vec<PortReport> {
        self.attachments.iter().map(Attachment::report).collect()
    }

    /// What exporters have counted.
    pub fn exporter_rows(&self) -> Vec<ExporterRow> {
        self.exporter.rows()
    }

    /// Rows of `show flow exporter`: what was counted since `clear flow exporter`.
    pub fn exporter_rows_since_cleared(&self) -> Vec<ExporterRow> {
        self.exporter.rows_since_cleared()
    }

    /// `clear flow exporter`, of the one of that name, or of all.
    pub fn clear_exporters(&mut self, name: Option<&str>) {
        self.exporter.clear(name);
    }

    /// What the store of flows has counted; `None` when there is none.
    pub fn stored(&self) -> Option<Arc<export::store::Counts>> {
        self.exporter.stored()
    }

    /// How much the flow export says in the log.
    pub fn debug_exporter(&self, level: u8) {
        self.exporter.debug(level);
    }

    /// How much that is, and for how long still.
    pub fn exporter_debugged(&self) -> Option<(u8, std::time::Duration)> {
        self.exporter.debugged()
    }

    /// Exports what the workers have left, and ends.
    pub fn stop(self) {
        self.exporter.stop();
        let packets = self.control.cache_stats().unmetered;
        if packets > 0 {
            tracing::warn!(packets, "not in any flow record: they found no room");
        }
    }

    /// Events since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Sets the counters of a port, or of all, to zero.
    pub fn clear_counters(&mut self, name: Option<IfName>) {
        let wanted = name.map(|name| self.plan.by_name(name));
        for attachment in self.attachments.iter() {
            if wanted.is_none_or(|port| port == Some(attachment.port())) {
                self.control.clear_port_counters(attachment.port());
                if let Some(live) = self.live.get_mut(&attachment.nic) {
                    live.rates = Rates::default();
                }
            }
        }
    }

    /// Checks a configuration and brings it to the disk for its commit. Nothing that runs changes.
    ///
    /// # Errors
    /// It is not one for this host, contradicts itself, or finds no room on the disk.
    pub fn prepare(&mut self, version: u64, hash: ConfigHash, config: Vec<u8>) -> Result<(), Error> {
        self.prepared = None;
        let prepared = match (&self.last, &self.host) {
            (Some(last), Some(host)) if last.hash == hash => {
                Prepared { last: LastGood { version, ..last.clone() }, host: host.clone() }
            }
            _ => {
                let last = LastGood { version, hash, config };
                let host = last.decode().map_err(|reason| Error::Malformed(reason.to_owned()))?;
                if !(3..=66).contains(&host.module) {
                    return Err(Error::Malformed(format!("module {} is outside 3-66", host.module)));
                }
                Prepared { last, host }
            }
        };
        // Whether there are numbers for its monitors at once is no matter of the configuration.
        let numbers = Numbers { rules: self.plan.numbers.rules.clone(), monitors: MonitorNumbers::default() };
        let plan = apply::plan(self.generation, Some(&prepared.host), &self.attached(), &numbers)?;
        Snapshot::build_after(&plan.config, &self.control.running())?;
        export::plan::check(&self.export_config(&prepared.host, &plan))?;
        self.store.stage_config(&prepared.last)?;
        self.prepared = Some(prepared);
        Ok(())
    }

    /// Makes what was prepared the last good configuration and publishes it.
    ///
    /// # Errors
    /// It was not prepared, can't be kept, or the dataplane does not take it; what ran before goes on running.
    pub fn commit(&mut self, version: u64, now: Instant) -> Result<(), Error> {
        let prepared = self.prepared.take().filter(|p| p.last.version == version);
        let Prepared { last, host } = prepared.ok_or(Error::NotPrepared(version))?;
        let before = (self.last.clone(), self.host.clone(), self.attachments.clone());
        self.store.keep_staged_config()?;
        (self.last, self.host) = (Some(last), Some(host));
        let nics: Vec<NicId> = self.attachments.iter().map(|a| a.nic.clone()).collect();
        for nic in nics {
            if let Some(attachment) = self.attachments.get_mut(&nic) {
                attachment.fresh = false;
            }
        }
        if let Err(error) = self.publish(now) {
            (self.last, self.host, self.attachments) = before;
            if let Some(last) = &self.last {
                self.store.save_config(last)?;
            }
            return Err(error);
        }
        if self.attachments != before.2 {
            self.store.save_attachments(&self.attachments)?;
        }
        Ok(())
    }

    /// Forgets what was prepared under `version`, or whatever was prepared.
    pub fn abort(&mut self, version: Option<u64>) {
        self.prepared.take_if(|p| version.is_none_or(|v| v == p.last.version));
    }

    /// Samples counters, evens out the workers' loads, looks after devices, and compares states.
    ///
    /// # Errors
    /// The dataplane does not take the change that a lost or found device makes necessary.
    pub fn tick(&mut self, now: Instant) -> Result<(), Error> {
        for attachment in self.attachments.iter() {
            let counters = self.control.port_counters(attachment.port());
            let frames = |t: vswitch::control::Traffic| t.unicast + t.multicast + t.broadcast;
            let totals = Totals {
                rx_octets: counters.rx.octets,
                rx_frames: frames(counters.rx),
                tx_octets: counters.tx.octets,
                tx_frames: frames(counters.tx),
            };
            if let Some(live) = self.live.get_mut(&attachment.nic) {
                live.rates.sample(now, totals);
            }
        }
        self.captures.expire(&self.control, now);
        self.watching.expire(&self.control, now);
        self.busy.sample(now, &self.control.loads());
        match self.control.replan(now) {
            Ok(Some(it)) => tracing::info!(port = it.port.0, from = it.from, to = it.to, "port moved between workers"),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "port not moved between workers"),
        }
        self.look_after_devices(now)?;
        self.compare_states(now);
        self.tell_overload(now);
        Ok(())
    }

    fn attached(&self) -> Vec<Attached> {
        let attached = |a: &Attachment| Attached {
            id: a.port(),
            nic: a.nic.clone(),
            kind: a.profile_type(),
            profile: a.profile.clone(),
            fresh: a.fresh,
            open: self.live.get(&a.nic).is_some_and(|live| live.open),
            if_index: a.if_index,
            // A tap takes what it is given: its MTU is its guest's affair.
            device_mtu: self
                .live
                .get(&a.nic)
                .filter(|live| live.open && a.kind == Kind::Netdev)
                .map(|live| u16::try_from(live.device_mtu).unwrap_or(u16::MAX)),
        };
        self.attachments.iter().map(attached).collect()
    }

    fn merge_fixed(&mut self, fixed: Vec<Attachment>) {
        let wanted: BTreeSet<NicId> = fixed.iter().map(|a| a.nic.clone()).collect();
        let ended: Vec<Attachment> =
            self.attachments.iter().filter(|a| a.fixed && !wanted.contains(&a.nic)).cloned().collect();
        for attachment in ended {
            self.attachments.remove(&attachment.nic);
            release(&attachment);
        }
        for new in fixed {
            if let Some(old) = self.attachments.get_mut(&new.nic) {
                if old.same_device(&new) {
                    old.fresh |= old.profile != new.profile;
                    old.fixed = true;
                    (old.profile, old.mac, old.vm) = (new.profile, new.mac, new.vm);
                    continue;
                }
                if let Some(old) = self.attachments.remove(&new.nic) {
                    release(&old);
                }
            }
            let nic = new.nic.clone();
            if let Err(error) = self.attachments.add(new) {
                tracing::error!(%nic, %error, "port of the configuration file");
            }
        }
    }
}

/// Puts a device back; that it can't be is logged, nothing else can be done about it.
fn release(attachment: &Attachment) {
    if let Err(error) = hostport::release(attachment) {
        tracing::warn!(nic = %attachment.nic, %error, "device not put back");
    }
}

#[cfg(test)]
mod tests;
