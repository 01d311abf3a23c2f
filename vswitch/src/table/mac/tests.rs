//! Quotas, eviction, versions, and the table against a map.

use std::collections::HashMap;

use super::*;

fn mac(n: u64) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 | n)
}

fn vlan(n: u16) -> VlanId {
    VlanId::new(n).unwrap()
}

#[test]
fn a_port_at_its_quota_replaces_its_own_oldest() {
    let mut table = MacTable::new(8, 3);
    table.learn(vlan(1), mac(100), PortId(2), Instant::from_ms(0));
    for n in 0..5 {
        table.learn(vlan(1), mac(n), PortId(1), Instant::from_ms(n * 2000));
    }
    let known: Vec<u64> = (0..5).filter(|n| table.lookup(vlan(1), mac(*n)).is_some()).collect();
    assert_eq!(known, [2, 3, 4]);
    assert!(table.lookup(vlan(1), mac(100)).is_some());
    assert!(table.lookup(vlan(2), mac(100)).is_none());
}

#[test]
fn a_full_table_evicts_from_the_port_that_holds_most_and_never_static() {
    let mut table = MacTable::new(4, 4);
    assert!(table.set_static(vlan(1), mac(9), None, Instant::default()));
    table.learn(vlan(1), mac(1), PortId(1), Instant::from_ms(0));
    table.learn(vlan(1), mac(2), PortId(2), Instant::from_ms(5000));
    table.learn(vlan(1), mac(3), PortId(2), Instant::from_ms(6000));
    table.learn(vlan(1), mac(4), PortId(3), Instant::from_ms(7000));
    assert!(table.lookup(vlan(1), mac(2)).is_none(), "the oldest of port 2");
    assert!(table.lookup(vlan(1), mac(1)).is_some() && table.lookup(vlan(1), mac(4)).is_some());
    assert_eq!(table.lookup(vlan(1), mac(9)).unwrap().port, None);
    for n in 20..23 {
        assert!(table.set_static(vlan(1), mac(n), Some(PortId(1)), Instant::default()));
    }
    assert!(!table.set_static(vlan(1), mac(23), None, Instant::default()));
    assert!(table.learn(vlan(1), mac(24), PortId(1), Instant::default()).is_none());
}

#[test]
fn a_move_makes_held_references_stale_and_a_refresh_does_not() {
    let mut table = MacTable::new(8, 8);
    let first = table.learn(vlan(1), mac(1), PortId(1), Instant::from_ms(0)).unwrap().slot;
    table.learn(vlan(1), mac(1), PortId(1), Instant::from_ms(5000));
    assert!(table.is_current(first));
    let second = table.learn(vlan(1), mac(1), PortId(2), Instant::from_ms(6000)).unwrap().slot;
    assert!(!table.is_current(first) && table.is_current(second) && table.is_current(SlotRef::NONE));
    assert_eq!(table.age(PortId(2), Some(Instant::from_ms(6000)), 9), 0);
    assert_eq!(table.age(PortId(2), Some(Instant::from_ms(6001)), 9), 1);
    assert!(!table.is_current(second));
}

/// Random operations against an obvious model without limits.
#[test]
fn behaves_as_a_map_while_there_is_room() {
    let mut table = MacTable::new(512, 512);
    let mut model: HashMap<(u16, u64), (u16, bool)> = HashMap::new();
    let mut seed = 7u64;
    let mut draw = |n: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % n
    };
    for step in 0..50_000u64 {
        let (v, m, p) = (1 + draw(3) as u16, draw(150), draw(5) as u16);
        let now = Instant::from_ms(step * 10);
        match draw(20) {
            0 => {
                table.set_static(vlan(v), mac(m), Some(PortId(p)), now);
                model.insert((v, m), (p, true));
            }
            1 => {
                table.age(PortId(p), None, 1000);
                model.retain(|_, (port, is_static)| *is_static || *port != p);
            }
            2 => {
                if let Some(at) = (0..table.capacity()).find(|i| table.at(*i).is_some_and(|e| e.2.is_static)) {
                    let (v, m, ..) = table.at(at).unwrap();
                    model.remove(&(v.get(), m.to_u64() & 0xffff));
                    table.remove_at(at);
                }
            }
            _ => {
                table.learn(vlan(v), mac(m), PortId(p), now);
                let entry = model.entry((v, m)).or_insert((p, false));
                if !entry.1 {
                    entry.0 = p;
                }
            }
        }
        let got = table.lookup(vlan(v), mac(m)).map(|place| (place.port.unwrap().0, place.is_static));
        assert_eq!(got, model.get(&(v, m)).copied());
    }
    assert_eq!((0..table.capacity()).filter(|i| table.at(*i).is_some()).count(), model.len());
}
