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
    // It moves back, and away again.
    let third = table.learn(vlan(1), mac(1), PortId(1), Instant::from_ms(6000)).unwrap().slot;
    assert!(first == third && table.is_current(first) && !table.is_current(second));
    table.learn(vlan(1), mac(1), PortId(2), Instant::from_ms(6000));
    assert_eq!(table.age(PortId(2), Some(Instant::from_ms(6000)), 9), 0);
    assert_eq!(table.age(PortId(2), Some(Instant::from_ms(6001)), 9), 1);
    assert!(!table.is_current(first) && !table.is_current(second));
}

#[test]
fn a_reference_to_an_address_that_has_gone_is_stale_whatever_takes_its_slot() {
    let mut table = MacTable::new(1, 1);
    let mut held = Vec::new();
    for n in 0..100 {
        // Every second is the same address on the same port.
        let slot = table.learn(vlan(1), mac(n % 2 * n), PortId(1), Instant::from_ms(n)).unwrap().slot;
        assert!(table.is_current(slot) && !held.contains(&slot));
        held.push(slot);
        table.age(PortId(1), None, 1);
        assert!(held.iter().all(|slot| !table.is_current(*slot)));
    }
    // Nowhere is a place like any other, and an empty slot is none.
    assert!(table.set_static(vlan(1), mac(7), None, Instant::default()));
    let nowhere = table.lookup(vlan(1), mac(7)).unwrap().slot;
    assert!(table.is_current(nowhere));
    table.remove_at(0);
    assert!(!table.is_current(nowhere));
}

#[test]
fn additions_move_with_each_address_that_was_not_there_and_with_nothing_else() {
    let (mut writer, mut readers) = shared(2, 2, 1);
    let now = Instant::default();
    let absent = |table: &MacTable, n| table.search(vlan(1), mac(n)).err();
    assert_eq!((writer.additions(), absent(&readers[0], 1)), (0, Some(0)));
    writer.learn(vlan(1), mac(1), PortId(1), now);
    assert_eq!((readers[0].additions(), absent(&readers[0], 1)), (1, None));
    // A refresh, a move, a static address in its place, a wish that waits, and what goes.
    writer.learn(vlan(1), mac(1), PortId(1), Instant::from_ms(5_000));
    writer.learn(vlan(1), mac(1), PortId(2), now);
    assert!(writer.set_static(vlan(1), mac(1), Some(PortId(2)), now));
    readers[0].learn(vlan(1), mac(2), PortId(1), now);
    writer.remove_at(writer.capacity() - 1);
    assert_eq!((writer.additions(), absent(&writer, 2)), (1, Some(1)));
    writer.grant(9, now, &|_, _| true);
    assert_eq!((writer.additions(), absent(&readers[0], 2)), (2, None));
    for at in 0..writer.capacity() {
        writer.remove_at(at);
    }
    assert_eq!((writer.additions(), absent(&writer, 1)), (2, Some(2)));
    assert!(writer.set_static(vlan(1), mac(1), None, now));
    assert_eq!(writer.additions(), 3);
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

/// A table of `capacity` with `readers` further views, and a way to grant everything that they want.
fn shared(capacity: usize, quota: usize, readers: usize) -> (MacTable, Vec<MacTable>) {
    MacTable::shared(capacity, quota, readers)
}

#[test]
fn what_another_worker_wants_learned_is_known_to_all_once_it_is_granted() {
    let (mut writer, mut readers) = shared(8, 8, 2);
    assert!(writer.writes() && !readers[0].writes());
    assert_eq!(readers[0].learn(vlan(1), mac(1), PortId(5), Instant::from_ms(1)), None);
    assert_eq!(readers[1].learn(vlan(1), mac(2), PortId(6), Instant::from_ms(1)), None);
    assert!(writer.has_wishes() && writer.lookup(vlan(1), mac(1)).is_none());
    // Only what is allowed.
    assert!(!writer.grant(9, Instant::from_ms(2), &|_, port| port == PortId(5)));
    assert!(!writer.has_wishes());
    for table in readers.iter().chain([&writer]) {
        assert_eq!(table.lookup(vlan(1), mac(1)).unwrap().port, Some(PortId(5)));
        assert!(table.lookup(vlan(1), mac(2)).is_none());
    }
    let place = readers[1].learn(vlan(1), mac(1), PortId(5), Instant::from_ms(3)).unwrap();
    assert!(!writer.has_wishes() && readers[1].is_current(place.slot));
    // It moves, as a third worker sees.
    assert_eq!(readers[1].learn(vlan(1), mac(1), PortId(7), Instant::from_ms(4)), None);
    writer.grant(9, Instant::from_ms(4), &|_, _| true);
    assert!(!readers[0].is_current(place.slot));
    assert_eq!(readers[0].lookup(vlan(1), mac(1)).unwrap().port, Some(PortId(7)));
}

#[test]
fn views_that_do_not_write_change_nothing_but_when_an_address_was_seen() {
    let (mut writer, mut readers) = shared(4, 4, 1);
    let reader = &mut readers[0];
    let place = writer.learn(vlan(1), mac(1), PortId(1), Instant::from_ms(0)).unwrap();
    assert!(!reader.set_static(vlan(1), mac(2), None, Instant::default()));
    assert_eq!(reader.age(PortId(1), None, 9), 0);
    reader.remove_at(0);
    assert!(!reader.grant(9, Instant::default(), &|_, _| true) && !reader.has_wishes());
    assert_eq!(reader.at(0).map(|(_, mac, ..)| mac), Some(mac(1)));
    reader.refresh(place.slot, Instant::from_ms(900));
    assert_eq!(writer.at(0).unwrap().3, Instant::from_ms(0), "not before a second has passed");
    reader.refresh(place.slot, Instant::from_ms(1100));
    assert_eq!(writer.at(0).unwrap().3, Instant::from_ms(1100));
    // A static address stays where it is, whoever says otherwise.
    assert!(writer.set_static(vlan(1), mac(1), Some(PortId(3)), Instant::from_ms(0)));
    assert_eq!(reader.learn(vlan(1), mac(1), PortId(1), Instant::from_ms(1)).unwrap().port, Some(PortId(3)));
    assert!(!writer.has_wishes());
}

#[test]
fn a_wish_is_not_repeated_while_it_waits_and_a_full_ring_loses_it() {
    let (mut writer, mut readers) = shared(1024, 1024, 1);
    let reader = &mut readers[0];
    for _ in 0..3 {
        reader.learn(vlan(1), mac(1), PortId(1), Instant::default());
    }
    assert_eq!(reader.wished(), (1, 0));
    // Refused, so it is asked again.
    writer.grant(9, Instant::default(), &|_, _| false);
    reader.learn(vlan(1), mac(1), PortId(1), Instant::default());
    assert_eq!(reader.wished(), (2, 0));
    for n in 2..WISHES as u64 + 3 {
        reader.learn(vlan(1), mac(n), PortId(1), Instant::default());
    }
    assert_eq!(reader.wished(), (WISHES as u64 + 1, 2));
    assert!(writer.grant(WISHES - 1, Instant::default(), &|_, _| true), "there is more");
    assert!(!writer.grant(WISHES, Instant::default(), &|_, _| true));
    reader.learn(vlan(1), mac(WISHES as u64 + 2), PortId(1), Instant::default());
    writer.grant(9, Instant::default(), &|_, _| true);
    assert!(reader.lookup(vlan(1), mac(WISHES as u64 + 2)).is_some());
}

/// The writer's lists don't know what others have seen, and still neither ageing nor eviction hits what is in use.
#[test]
fn an_address_that_another_worker_sees_is_not_old() {
    let (mut writer, mut readers) = shared(8, 3, 1);
    for n in 0..3 {
        writer.learn(vlan(1), mac(n), PortId(1), Instant::from_ms(n * 10));
    }
    let slot = |table: &MacTable, n| table.lookup(vlan(1), mac(n)).unwrap().slot;
    let (zero, one) = (slot(&writer, 0), slot(&writer, 1));
    readers[0].refresh(zero, Instant::from_ms(9_000));
    readers[0].refresh(one, Instant::from_ms(5_000));
    // The quota takes 2, which nobody has seen since; then 1, which was seen before 0 and 3.
    writer.learn(vlan(1), mac(3), PortId(1), Instant::from_ms(7_000));
    let known = |table: &MacTable| (0..5).filter(|n| table.lookup(vlan(1), mac(*n)).is_some()).collect::<Vec<_>>();
    assert_eq!(known(&readers[0]), [0, 1, 3]);
    writer.learn(vlan(1), mac(4), PortId(1), Instant::from_ms(8_000));
    assert_eq!(known(&readers[0]), [0, 3, 4]);
    assert_eq!(writer.age(PortId(1), Some(Instant::from_ms(8_500)), 9), 2);
    assert_eq!(known(&readers[0]), [0]);
}

/// Random sightings by two views against a model: what is forgotten first is what was seen longest ago.
#[test]
fn ageing_takes_what_was_seen_longest_ago_whoever_saw_it() {
    let (mut writer, mut readers) = shared(64, 64, 1);
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let mut seed = 9u64;
    let mut draw = |n: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % n
    };
    for step in 1..4_000u64 {
        // Steps of more than a second, so that every sighting counts.
        let (n, now) = (draw(40), Instant::from_ms(step * 1_500));
        match draw(3) {
            0 => _ = writer.learn(vlan(1), mac(n), PortId(1), now),
            _ if seen.contains_key(&n) => _ = readers[0].learn(vlan(1), mac(n), PortId(1), now),
            _ => continue,
        }
        seen.insert(n, step);
        if draw(10) == 0 {
            let limit = step.saturating_sub(20);
            writer.age(PortId(1), Some(Instant::from_ms(limit * 1_500)), 64);
            seen.retain(|_, at| *at >= limit);
            for n in 0..40 {
                assert_eq!(writer.lookup(vlan(1), mac(n)).is_some(), seen.contains_key(&n), "step {step}, address {n}");
            }
        }
    }
}
