//! Notifications, made from lines of the log: what the log tells at once, a picture may miss.

use proto::name::IfName;

use super::oid::{Oid, Value, VarBind};
use super::tables::{IF_ENTRY, IFX_ENTRY};
use crate::config::ifindex;
use crate::log::Event;

/// The arc of our own objects: under the number that RFC 5612 keeps for documentation, as the project has none.
pub const ENTERPRISE: [u32; 8] = [1, 3, 6, 1, 4, 1, 32473, 1];

/// A notification.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notification {
    /// An interface came up (RFC 2863).
    LinkUp(IfName),
    /// An interface went down.
    LinkDown(IfName),
    /// A module came.
    ModuleUp(u8, String),
    /// A module went.
    ModuleDown(u8, String),
    /// A host claimed or applied what it may not.
    Violation(String),
}

impl Notification {
    /// What the line is worth telling.
    pub fn of(event: &Event) -> Option<Self> {
        let text = event.text.as_str();
        match (event.part.as_str(), event.mnemonic.as_str()) {
            ("ETHPORT", "IF_UP") => interface(text).map(Notification::LinkUp),
            ("ETHPORT", mnemonic) if mnemonic.starts_with("IF_DOWN") => interface(text).map(Notification::LinkDown),
            ("VEM_MGR", "MOD_ONLINE") => Some(Notification::ModuleUp(slot(text)?, text.to_owned())),
            ("VEM_MGR", "MOD_OFFLINE") => Some(Notification::ModuleDown(slot(text)?, text.to_owned())),
            ("VEM_MGR", "DUPLICATE_NIC" | "VEM_MGR_REFUSED" | "CONFIG_REFUSED") => {
                Some(Notification::Violation(text.to_owned()))
            }
            _ => None,
        }
    }

    /// Its variables, `snmpTrapOID.0` first.
    pub fn binds(&self) -> Vec<VarBind> {
        let own = |n: u32| Oid::from(ENTERPRISE).with(&[0, n]);
        let text = |text: &str| (Oid::from(ENTERPRISE).with(&[1, 2, 0]), Value::from(text));
        let module = |slot: u8| (Oid::from(ENTERPRISE).with(&[1, 1, 0]), Value::Integer(slot.into()));
        let (trap, rest) = match self {
            Notification::LinkUp(name) => ([1, 3, 6, 1, 6, 3, 1, 1, 5, 4].into(), link(*name, true)),
            Notification::LinkDown(name) => ([1, 3, 6, 1, 6, 3, 1, 1, 5, 3].into(), link(*name, false)),
            Notification::ModuleUp(slot, said) => (own(1), vec![module(*slot), text(said)]),
            Notification::ModuleDown(slot, said) => (own(2), vec![module(*slot), text(said)]),
            Notification::Violation(said) => (own(3), vec![text(said)]),
        };
        let first = ([1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0].into(), Value::Oid(trap));
        std::iter::once(first).chain(rest).collect()
    }
}

fn link(name: IfName, up: bool) -> Vec<VarBind> {
    let index = ifindex::of(name);
    let of = |entry: Oid, column: u32| entry.with(&[column, index]);
    vec![
        (of(IF_ENTRY.into(), 1), Value::Integer(index as i32)),
        (of(IF_ENTRY.into(), 8), Value::Integer(if up { 1 } else { 2 })),
        (of(IFX_ENTRY.into(), 1), Value::from(name.to_string().as_str())),
    ]
}

/// `... Interface Vethernet1 is ...`
fn interface(text: &str) -> Option<IfName> {
    text.split_once("Interface ")?.1.split(' ').next()?.parse().ok()
}

/// `Module 3 is ...`
fn slot(text: &str) -> Option<u8> {
    text.strip_prefix("Module ")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(part: &str, mnemonic: &str, text: &str) -> Option<Notification> {
        Notification::of(&Event { part: part.into(), mnemonic: mnemonic.into(), text: text.into() })
    }

    #[test]
    fn lines_that_are_worth_telling() {
        let veth = IfName::Vethernet(7);
        let up = of("ETHPORT", "IF_UP", "Module 3: Interface Vethernet7 is up");
        assert_eq!(up, Some(Notification::LinkUp(veth)));
        let down =
            of("ETHPORT", "IF_DOWN_ADMIN_DOWN", "Module 3: Interface Vethernet7 is down (Administratively down)");
        assert_eq!(down, Some(Notification::LinkDown(veth)));
        assert_eq!(of("ETHPORT", "IF_UP", "Module 3: Interface vm1/0 is up"), None, "it has no interface yet");
        let module = of("VEM_MGR", "MOD_ONLINE", "Module 3 is online");
        assert_eq!(module, Some(Notification::ModuleUp(3, "Module 3 is online".into())));
        assert!(matches!(of("VEM_MGR", "DUPLICATE_NIC", "x"), Some(Notification::Violation(_))));
        assert_eq!(of("VSHD", "IF_UP", "Interface Vethernet7 is up"), None);
        let binds = up.unwrap().binds();
        assert_eq!(binds[0].1, Value::Oid([1, 3, 6, 1, 6, 3, 1, 1, 5, 4].into()));
        assert_eq!(binds[1].0.to_string(), format!("1.3.6.1.2.1.2.2.1.1.{}", 0x1c00_0060));
    }
}
