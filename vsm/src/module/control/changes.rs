//! The changes: one queue, one push at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam::channel::Sender;
use proto::addr::NicId;
use proto::config::ProfileType;
use proto::msg::{ConfigHash, MESSAGE_MAX};
use proto::name::IfName;
use proto::report::PortReport;
use sha2::{Digest, Sha256};

use super::{Control, Edit, Refusals, Running, Work};
use crate::config::compile::{compile, interface_of};
use crate::config::model::Model;
use crate::config::narrate;
use crate::history::{self, Object};
use crate::log::Log;
use crate::module::push::{Action, Parcel, Phase, Push};
use crate::module::registry::Inventory;
use crate::supervisor::{Change, EditError};

/// Octets of a prepare that are not the configuration, at most.
const PREPARE_OVERHEAD: usize = 128;

impl Control {
    pub(super) fn push(&mut self, event: impl FnOnce(&mut Push) -> Vec<Action>) -> Vec<Action> {
        self.running.as_mut().map(|running| event(&mut running.push)).unwrap_or_default()
    }

    pub(super) fn perform(&mut self, actions: Vec<Action>, now: u64) {
        // What is decided holds before a module can act on it.
        self.settle(now);
        for action in actions {
            match action {
                Action::Send(slot, message) => self.send(slot, &message, now),
                Action::Disconnect(slot, reason) => self.disconnect(slot, reason, now),
            }
        }
    }

    /// Takes the next change when none is under way.
    pub(super) fn advance(&mut self, now: u64) {
        while self.running.is_none() {
            match self.queue.pop_front() {
                Some(Work::Edit { change, reply }) => self.begin_edit(change, reply, now),
                Some(Work::Try { change, reply }) => self.begin_try(change, reply, now),
                Some(Work::Ports { slot, ports }) => self.begin_ports(slot, ports, now),
                None => return,
            }
        }
    }

    /// The model with a change, and its warnings.
    fn changed(&mut self, change: Change, now: u64) -> (Model, Result<Vec<String>, EditError>) {
        // The change may look at the inventory, and must find there every card that has an interface in the model.
        self.publish(now);
        let mut model = Model::clone(&self.model);
        let ours = self.shared.facts.domain;
        let outcome = change(&mut model).map_err(EditError::Refused).and_then(|warnings| {
            match model.domain_id.filter(|id| *id != ours) {
                Some(id) => Err(EditError::Refused(format!(
                    "domain {id}: vsm.toml makes this supervisor that of domain {ours}"
                ))),
                None => Ok(warnings),
            }
        });
        (model, outcome)
    }

    /// Asks the modules whether they would take a change; nothing is changed.
    fn begin_try(&mut self, change: Change, reply: Sender<Result<Refusals, EditError>>, now: u64) {
        let (model, outcome) = self.changed(change, now);
        if let Err(error) = outcome {
            return drop(reply.send(Err(error)));
        }
        let (parcels, too_large) = self.parcels(&model);
        let version = self.parts.registry.next_version();
        self.save();
        let (push, actions) = Push::begin_dry(version, parcels, now);
        self.running = Some(Running { push, edit: None, tried: Some((too_large, reply)), decided: false });
        self.perform(actions, now);
    }

    fn begin_edit(&mut self, change: Change, reply: Sender<Result<Vec<String>, EditError>>, now: u64) {
        let (model, outcome) = self.changed(change, now);
        let (parcels, too_large) = self.parcels(&model);
        let outcome = outcome.and_then(|warnings| match too_large.into_iter().next() {
            Some((slot, reason)) => Err(EditError::Module { slot, reason }),
            None => Ok(warnings),
        });
        match outcome {
            Ok(warnings) => self.begin(parcels, Some(Edit { model, warnings, reply }), now),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn begin_ports(&mut self, slot: u8, ports: Vec<PortReport>, now: u64) {
        let Some(member) = self.members.get_mut(&slot) else { return };
        let before = cards(&self.parts.registry.inventory, slot);
        let placed = self.parts.registry.place(slot, ports);
        let after = cards(&self.parts.registry.inventory, slot);
        tell_cards(&self.shared.log, slot, &before, &after);
        history::cards(&self.shared.history, slot, &before, &after);
        member.has_ports = true;
        let was = std::mem::replace(&mut member.contested, placed.contested);
        if let Some(port) = member.contested.iter().find(|port| !was.contains(port)) {
            let text = format!("Module {slot} claims {} that another module holds", port.nic);
            self.shared.log.write("VEM_MGR", 2, "DUPLICATE_NIC", &text);
        }
        if let Some((nic, reason)) = placed.refused.first() {
            let count = placed.refused.len();
            let text = format!("Module {slot}: {count} ports get no interface; the first is {nic}: {reason}");
            self.shared.log.write("VEM_MGR", 2, "NO_INTERFACE", &text);
        }
        self.offer(&placed.released);
        self.install(self.with_interfaces(slot));
        self.changed = true;
        let (parcels, too_large) = self.parcels(&self.model);
        for (slot, reason) in too_large {
            self.shared.log.write("VEM_MGR", 2, "CONFIG_REFUSED", &format!("Module {slot}: {reason}"));
        }
        self.begin(parcels, None, now);
    }

    /// The model in which the ports of the module have their interfaces.
    fn with_interfaces(&self, slot: u8) -> Model {
        let mut model = Model::clone(&self.model);
        let inventory = &self.parts.registry.inventory;
        for port in inventory.modules.get(&slot).map(|m| m.ports.as_slice()).unwrap_or_default() {
            match port.kind {
                ProfileType::Ethernet => model.bind_ethernet(slot, port.card, port),
                ProfileType::Vethernet => {
                    if let Some(number) = inventory.vethernets.get(&port.nic) {
                        model.bind_vethernet(*number, port);
                    }
                }
            }
        }
        model
    }

    /// Cards are free: who has claimed one gets it.
    pub(super) fn offer(&mut self, released: &[NicId]) {
        let inventory = &self.parts.registry.inventory;
        for (slot, member) in &self.members {
            let waiting = |work: &Work| matches!(work, Work::Ports { slot: other, .. } if other == slot);
            if !member.contested.iter().any(|port| released.contains(&port.nic)) || self.queue.iter().any(waiting) {
                continue;
            }
            let own = inventory.modules.get(slot).map(|m| m.ports.clone()).unwrap_or_default();
            let ports = own.into_iter().chain(member.contested.iter().cloned()).collect();
            self.queue.push_back(Work::Ports { slot: *slot, ports });
        }
    }

    fn begin(&mut self, parcels: BTreeMap<u8, Parcel>, edit: Option<Edit>, now: u64) {
        let version = self.parts.registry.next_version();
        self.save();
        let (push, actions) = Push::begin(version, edit.is_some(), parcels, now);
        self.running = Some(Running { push, edit, tried: None, decided: false });
        self.perform(actions, now);
    }

    /// The configurations of the connected modules that differ from what they run, and the modules whose configuration
    /// is too large to be sent.
    fn parcels(&self, model: &Model) -> (BTreeMap<u8, Parcel>, Vec<(u8, String)>) {
        let (mut parcels, mut too_large) = (BTreeMap::new(), Vec::new());
        let inventory = &self.parts.registry.inventory;
        for slot in self.members.iter().filter(|(_, m)| m.has_ports).map(|(slot, _)| *slot) {
            let config = match minicbor::to_vec(compile(model, inventory, slot)) {
                Ok(config) => config,
                Err(e) => {
                    too_large.push((slot, e.to_string()));
                    continue;
                }
            };
            let hash = ConfigHash(Sha256::digest(&config).into());
            let runs = inventory.modules.get(&slot).map(|m| m.applied.1);
            if config.len() > MESSAGE_MAX - PREPARE_OVERHEAD {
                too_large.push((slot, format!("the configuration would have {} octets, over 8 MiB", config.len())));
            } else if runs != Some(hash) {
                parcels.insert(slot, Parcel { hash, config });
            }
        }
        (parcels, too_large)
    }

    /// Draws the consequences of how far the push is.
    fn settle(&mut self, now: u64) {
        let Some(mut running) = self.running.take() else { return };
        if !running.decided && matches!(running.push.phase(), Phase::Committing | Phase::Done) {
            running.decided = true;
            if let Some(edit) = &running.edit {
                self.free_numbers(&edit.model);
                self.install(edit.model.clone());
            }
            let version = running.push.version();
            let given: BTreeMap<u8, ConfigHash> = running.push.intended().collect();
            for slot in self.members.iter().filter(|(_, m)| m.has_ports).map(|(slot, _)| *slot) {
                if let Some(module) = self.parts.registry.inventory.modules.get_mut(&slot) {
                    module.intended = match given.get(&slot) {
                        Some(hash) => (version, *hash),
                        None => module.applied,
                    };
                }
            }
            self.changed = true;
        }
        match running.push.phase() {
            Phase::Preparing | Phase::Committing => self.running = Some(running),
            Phase::Tried => {
                let lost = running.push.lost().iter().map(|slot| (*slot, "it was lost when it was asked".to_owned()));
                if let Some((mut refusals, reply)) = running.tried {
                    refusals.extend(running.push.refusals().iter().cloned().chain(lost));
                    let _ = reply.send(Ok(refusals));
                }
            }
            Phase::Aborted { slot, reason } => {
                let (slot, reason) = (*slot, reason.clone());
                let text = format!("Module {slot} refused version {}: {reason}", running.push.version());
                self.shared.log.write("VEM_MGR", 2, "CONFIG_REFUSED", &text);
                self.shared.history.note(Object::Module(slot), "refused", &text);
                if let Some(edit) = running.edit {
                    let _ = edit.reply.send(Err(EditError::Module { slot, reason }));
                }
            }
            Phase::Done => {
                for (slot, reason) in running.push.refusals() {
                    let text = format!("Module {slot} refused version {}: {reason}", running.push.version());
                    self.shared.log.write("VEM_MGR", 2, "CONFIG_REFUSED", &text);
                    self.shared.history.note(Object::Module(*slot), "refused", &text);
                }
                let lost = running.push.lost().iter();
                let lost =
                    lost.map(|slot| format!("module {slot} was lost meanwhile and gets the change when it is back"));
                if let Some(mut edit) = running.edit {
                    edit.warnings.extend(lost);
                    self.save();
                    self.changed = true;
                    self.publish(now);
                    let _ = edit.reply.send(Ok(edit.warnings));
                }
            }
        }
    }

    /// Frees the numbers of the cards that nobody holds and whose interface the edit has removed.
    fn free_numbers(&mut self, next: &Model) {
        let registry = &mut self.parts.registry;
        let removed: Vec<_> = self.model.interfaces.keys().filter(|name| !next.interfaces.contains_key(name)).collect();
        if removed.is_empty() {
            return;
        }
        let inventory = &registry.inventory;
        let held = |nic: &NicId| inventory.modules.values().any(|m| m.ports.iter().any(|p| p.nic == *nic));
        let gone: Vec<_> = inventory
            .vethernets
            .iter()
            .filter(|(nic, n)| removed.contains(&&IfName::Vethernet(**n)) && !held(nic))
            .map(|(nic, _)| nic.clone())
            .collect();
        for nic in gone {
            registry.unbind(&nic);
        }
    }

    fn install(&mut self, model: Model) {
        if model != *self.model {
            self.shared.log.configure(&model);
            for line in narrate::changes(&self.model, &model) {
                self.shared.log.write(line.part, line.severity, line.mnemonic, &line.text);
            }
            history::changes(&self.shared.history, &self.model, &model);
            self.model = Arc::new(model);
            self.shared.model.store(self.model.clone());
        }
    }
}

/// Most lines about the cards of one report.
const CARD_LINES: usize = 50;

/// The cards of a module with their interfaces.
fn cards(inventory: &Inventory, slot: u8) -> BTreeMap<IfName, NicId> {
    let ports = inventory.modules.get(&slot).map(|m| m.ports.as_slice()).unwrap_or_default();
    ports.iter().filter_map(|port| Some((interface_of(inventory, slot, port)?, port.nic.clone()))).collect()
}

fn tell_cards(log: &Log, slot: u8, before: &BTreeMap<IfName, NicId>, after: &BTreeMap<IfName, NicId>) {
    let new = after.iter().filter(|(name, _)| !before.contains_key(name));
    let new = new.map(|(name, nic)| ("IF_ATTACHED", format!("Interface {name} is attached to {nic} on module {slot}")));
    let gone = before.iter().filter(|(name, _)| !after.contains_key(name));
    let gone =
        gone.map(|(name, nic)| ("IF_DETACHED", format!("Interface {name} is detached from {nic} on module {slot}")));
    let all: Vec<_> = new.chain(gone).collect();
    for (mnemonic, text) in all.iter().take(CARD_LINES) {
        log.write("VIM", 5, mnemonic, text);
    }
    if all.len() > CARD_LINES {
        let text = format!("{} more interfaces of module {slot} were attached or detached", all.len() - CARD_LINES);
        log.write("VIM", 5, "MORE_CHANGES", &text);
    }
}
