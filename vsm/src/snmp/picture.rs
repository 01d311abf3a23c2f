//! The picture of the switch that questions are answered from.
//!
//! Every [`EVERY`] the modules are asked for their ports, and every third time for their MAC addresses; sooner when the
//! configuration has changed. That is all that SNMP costs them. A module that does not answer keeps the counters that it told last. Counters that fall (a VEM was
//! restarted, somebody cleared them) are a discontinuity, and say when (`ifCounterDiscontinuityTime`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use proto::addr::{MacAddr, VlanId};
use proto::name::IfName;
use proto::query::Query;
use proto::report::{Answer, PortRow};

use super::Status;
use super::mgmt0::{self, Mgmt0};
use super::tables;
use super::tree::Tree;
use crate::cli::cmd::show::gather::{Port, ports};
use crate::config::model::Model;
use crate::module::registry::Inventory;
use crate::supervisor::Handle;

/// Between two pictures.
pub const EVERY: Duration = Duration::from_secs(5);
/// Between two pictures when the configuration has changed, as it does when a card is attached.
const SOON: Duration = Duration::from_secs(1);
/// Pictures between two questions for MAC addresses.
const MACS_EVERY: u32 = 3;

/// All that the tables are made of.
#[derive(Default)]
pub struct Facts {
    /// The configuration.
    pub model: Arc<Model>,
    /// The modules.
    pub inventory: Arc<Inventory>,
    /// The interfaces, in order.
    pub ports: Vec<Port>,
    /// The interface of the supervisor.
    pub mgmt: Option<Mgmt0>,
    /// Where addresses are.
    pub macs: BTreeMap<(VlanId, MacAddr), (IfName, bool)>,
    /// When the counters of an interface fell last, in hundredths of a second of `sysUpTime`.
    pub fell: BTreeMap<IfName, u32>,
    /// `sysUpTime` of the picture.
    pub uptime: u32,
}

/// The thread that makes pictures.
pub(super) struct Picture {
    handle: Handle,
    status: Arc<Status>,
    tree: Arc<ArcSwap<Tree>>,
    mgmt: Option<IpAddr>,
    rows: BTreeMap<IfName, (u8, PortRow)>,
    fell: BTreeMap<IfName, u32>,
    macs: BTreeMap<(VlanId, MacAddr), (IfName, bool)>,
    round: u32,
}

impl Picture {
    pub(super) fn new(handle: Handle, status: Arc<Status>, tree: Arc<ArcSwap<Tree>>) -> Self {
        let facts = handle.facts();
        let mgmt = mgmt0::address(facts.listen, &facts.addresses);
        Picture {
            handle,
            status,
            tree,
            mgmt,
            rows: BTreeMap::new(),
            fell: BTreeMap::new(),
            macs: BTreeMap::new(),
            round: 0,
        }
    }

    /// Makes pictures until the other end of `ended` is dropped; while snmpd is away, none but the first.
    pub(super) fn run(&mut self, ended: &Receiver<()>) {
        let mut painted: Option<(Instant, Arc<Model>)> = None;
        loop {
            let is_wanted = {
                let state = self.status.state();
                state.connected.is_some() || state.picture.is_none()
            };
            let is_due = painted.as_ref().is_none_or(|(at, model)| {
                let has_changed = !Arc::ptr_eq(model, &self.handle.model());
                at.elapsed() >= if has_changed { SOON } else { EVERY }
            });
            if is_wanted && is_due {
                painted = Some((Instant::now(), self.handle.model()));
                self.paint();
            }
            if ended.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn paint(&mut self) {
        self.ask_ports();
        if self.round.is_multiple_of(MACS_EVERY) {
            self.ask_macs();
        }
        self.round = self.round.wrapping_add(1);
        let (model, inventory) = (self.handle.model(), self.handle.inventory());
        let rows: Vec<(u8, PortRow)> = self.rows.values().cloned().collect();
        let ports = self.believed(ports(&model, &inventory, &rows), &inventory);
        self.fell.retain(|name, _| ports.iter().any(|port| port.name == *name));
        let count = ports.len() + 1;
        let facts = Facts {
            ports,
            model,
            inventory,
            mgmt: self.mgmt.and_then(mgmt0::read),
            macs: self.macs.clone(),
            fell: self.fell.clone(),
            uptime: self.status.uptime(),
        };
        self.tree.store(Arc::new(tables::tree(facts)));
        self.status.state().picture = Some((Instant::now(), count));
    }

    fn ask_ports(&mut self) {
        let uptime = self.status.uptime();
        for (slot, answer) in self.handle.ask(Query::Ports, None) {
            let Ok(Answer::Ports(rows)) = answer else { continue };
            let old: BTreeMap<IfName, (u8, PortRow)> = {
                let (own, others) = std::mem::take(&mut self.rows).into_iter().partition(|(_, (at, _))| *at == slot);
                self.rows = others;
                own
            };
            for row in rows {
                let Some(name) = row.name else { continue };
                let was = old.get(&name).map(|(_, was)| was);
                if was.is_some_and(|was| row.rx.octets < was.rx.octets || row.tx.octets < was.tx.octets) {
                    self.fell.insert(name, uptime);
                }
                self.rows.insert(name, (slot, row));
            }
        }
    }

    /// What a module told that is away now counts, but its ports do not forward.
    fn believed(&self, mut ports: Vec<Port>, inventory: &Inventory) -> Vec<Port> {
        for port in &mut ports {
            let is_there = port.slot.and_then(|slot| inventory.modules.get(&slot)).is_some_and(|m| m.address.is_some());
            if !is_there && port.is_up() {
                port.state = proto::report::PortState::Down("Module absent".to_owned());
            }
        }
        ports
    }

    /// A VM's port goes before an uplink: behind that the address is only on the other hosts.
    fn ask_macs(&mut self) {
        let mut macs: BTreeMap<(VlanId, MacAddr), (IfName, bool)> = BTreeMap::new();
        for (_, answer) in self.handle.ask(Query::Macs, None) {
            let Ok(Answer::Macs(rows)) = answer else { continue };
            for row in rows {
                let Some(port) = row.port else { continue };
                let at = macs.entry((row.vlan, row.mac)).or_insert((port, row.is_static));
                if at.0.is_ethernet() && !port.is_ethernet() {
                    *at = (port, row.is_static);
                }
            }
        }
        self.macs = macs;
    }
}
