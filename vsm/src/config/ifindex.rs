//! The number of an interface as management systems know it: `ifIndex` of the IF-MIB (RFC 2863), and what
//! `show interface snmp-ifindex` prints. One place, so that both say the same.
//!
//! A number follows from the name alone, in the layout of the Nexus: so it is the same after any restart, nothing has to
//! be kept for it, and it moves with the interface's name and with nothing else (decision 0006 says what names are bound
//! to). Ethernet interfaces are based at 0x0200_0000, as 64 modules do not fit between the bases that a Nexus uses.
//!
//! The index that flow records carry is another one: it is the host's, and has 16 bits, as version 5 wants it.

use crate::module::registry::SLOT_FIRST;
use proto::name::{ETHERNET_PORT_MAX, IfName, VETHERNET_MAX};

const ETHERNET: u32 = 0x0200_0000;
const MGMT0: u32 = 0x0500_0000;
const VETHERNET: u32 = 0x1c00_0000;
const SLOT_SHIFT: u32 = 19;
const PORT_SHIFT: u32 = 12;
const VETHERNET_SHIFT: u32 = 4;

/// The interface's number, 1-2147483647.
pub fn of(name: IfName) -> u32 {
    match name {
        IfName::Ethernet { slot, port } => {
            ETHERNET
                + (u32::from(slot.saturating_sub(1)) << SLOT_SHIFT)
                + (u32::from(port.saturating_sub(1)) << PORT_SHIFT)
        }
        IfName::Mgmt0 => MGMT0,
        IfName::Vethernet(n) => VETHERNET + (n.saturating_sub(1) << VETHERNET_SHIFT),
    }
}

/// The interface of that number.
pub fn name(index: u32) -> Option<IfName> {
    let name = match index {
        MGMT0 => IfName::Mgmt0,
        VETHERNET.. => IfName::Vethernet(((index - VETHERNET) >> VETHERNET_SHIFT) + 1),
        ETHERNET..MGMT0 => IfName::Ethernet {
            slot: u8::try_from(((index - ETHERNET) >> SLOT_SHIFT) + 1).ok()?,
            port: u8::try_from(((index - ETHERNET) >> PORT_SHIFT) % (1 << (SLOT_SHIFT - PORT_SHIFT)) + 1).ok()?,
        },
        _ => return None,
    };
    let exists = match name {
        IfName::Vethernet(n) => n <= VETHERNET_MAX,
        IfName::Ethernet { port, .. } => port <= ETHERNET_PORT_MAX,
        IfName::Mgmt0 => true,
    };
    (exists && of(name) == index).then_some(name)
}

/// The interface's port of the bridge (`dot1dBasePort`, 1-65535): the number of a Vethernet, and beyond 60000 the cards of
/// the modules. `None`: it has none.
pub fn bridge_port(name: IfName) -> Option<u32> {
    const CARDS: u32 = 60_000;
    match name {
        IfName::Vethernet(n) => (1..=CARDS).contains(&n).then_some(n),
        IfName::Ethernet { slot, port } => {
            let slot = u32::from(slot.checked_sub(SLOT_FIRST)?);
            Some(CARDS + slot * u32::from(ETHERNET_PORT_MAX) + u32::from(port))
        }
        IfName::Mgmt0 => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::registry::SLOT_LAST;

    #[test]
    fn every_interface_has_a_number_of_its_own() {
        assert_eq!(of(IfName::Mgmt0), 83_886_080);
        assert_eq!(of(IfName::Vethernet(1)), 0x1c00_0000);
        assert_eq!(of(IfName::Vethernet(2)), 0x1c00_0010);
        assert_eq!(of(IfName::Ethernet { slot: 3, port: 2 }), 0x0210_1000);
        let ethernets = (SLOT_FIRST..=SLOT_LAST)
            .flat_map(|slot| (1..=ETHERNET_PORT_MAX).map(move |port| IfName::Ethernet { slot, port }));
        let vethernets = [1, 2, 10_000, VETHERNET_MAX].map(IfName::Vethernet);
        let all: Vec<IfName> = ethernets.chain([IfName::Mgmt0]).chain(vethernets).collect();
        for pair in all.windows(2) {
            assert!(of(pair[0]) < of(pair[1]), "{pair:?}");
        }
        for each in all {
            assert!((1..=0x7fff_ffff).contains(&of(each)));
            assert_eq!(name(of(each)), Some(each));
            assert!(bridge_port(each).is_none_or(|port| (1..=65_535).contains(&port)), "{each}");
        }
    }

    #[test]
    fn ports_of_the_bridge() {
        assert_eq!(bridge_port(IfName::Vethernet(10_000)), Some(10_000));
        assert_eq!(bridge_port(IfName::Ethernet { slot: 3, port: 1 }), Some(60_001));
        assert_eq!(bridge_port(IfName::Ethernet { slot: 66, port: 32 }), Some(62_048));
        assert_eq!((bridge_port(IfName::Vethernet(60_001)), bridge_port(IfName::Mgmt0)), (None, None));
    }

    #[test]
    fn other_numbers_are_nobody_s() {
        for index in [0, 1, 0x0210_1001, 0x0212_0000, 0x0500_0001, 0x1c00_0001, 0x1d00_0000, u32::MAX] {
            assert_eq!(name(index), None, "{index:#x}");
        }
    }
}
