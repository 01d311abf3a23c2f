//! The table under every order in which a writer and a reader may see each other: `make loom`.

use loom::thread;

use super::*;

const VLAN: VlanId = VlanId::DEFAULT;
const NOW: Instant = Instant::from_ms(5);

fn mac(n: u64) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 | n)
}

fn port(table: &MacTable, n: u64) -> Option<u16> {
    table.lookup(VLAN, mac(n)).map(|place| place.port.unwrap().0)
}

/// Runs `write` against `read`, on a table of `capacity` that `prepare` has filled.
fn model(
    capacity: usize,
    prepare: impl Fn(&mut MacTable) + Sync + Send + 'static,
    write: impl Fn(&mut MacTable) + Sync + Send + Copy + 'static,
    read: impl Fn(&mut MacTable) + Sync + Send + 'static,
) {
    let hash = HashKey::random();
    loom::model(move || {
        let (mut writer, mut readers) = MacTable::with_hash(capacity, capacity, 1, hash.clone());
        prepare(&mut writer);
        let writing = thread::spawn(move || write(&mut writer));
        read(&mut readers[0]);
        writing.join().unwrap();
    });
}

#[test]
fn loom_a_slot_that_is_used_again_never_has_the_port_of_the_address_before() {
    model(
        1,
        |table| assert!(table.learn(VLAN, mac(1), PortId(1), NOW).is_some()),
        |table| {
            table.age(PortId(1), None, 1);
            table.learn(VLAN, mac(2), PortId(2), NOW);
        },
        |table| {
            assert!(matches!(port(table, 1), None | Some(1)));
            assert!(matches!(port(table, 2), None | Some(2)));
        },
    );
}

#[test]
fn loom_a_slot_that_comes_back_to_its_address_is_not_mixed_up() {
    model(
        1,
        |table| assert!(table.learn(VLAN, mac(1), PortId(1), NOW).is_some()),
        |table| {
            table.age(PortId(1), None, 1);
            table.learn(VLAN, mac(2), PortId(2), NOW);
            table.age(PortId(2), None, 1);
            table.learn(VLAN, mac(1), PortId(3), NOW);
        },
        |table| assert!(matches!(port(table, 1), None | Some(1 | 3))),
    );
}

#[test]
fn loom_an_address_that_moves_is_always_known_and_its_old_reference_is_stale_afterwards() {
    model(
        2,
        |table| assert!(table.learn(VLAN, mac(1), PortId(1), NOW).is_some()),
        |table| assert!(table.learn(VLAN, mac(1), PortId(3), NOW).is_some()),
        |table| {
            let place = table.lookup(VLAN, mac(1)).unwrap();
            let again = table.lookup(VLAN, mac(1)).unwrap();
            match (place.port.unwrap().0, again.port.unwrap().0) {
                (1, 1) | (3, 3) => assert_eq!(place.slot, again.slot),
                (1, 3) => assert!(!table.is_current(place.slot) && table.is_current(again.slot)),
                other => panic!("{other:?}"),
            }
        },
    );
}

#[test]
fn loom_a_neighbour_in_the_chain_comes_and_goes_and_the_address_stays_known() {
    let hash = HashKey::random();
    let bucket = |n: u64| hash.of_word(key(VLAN, mac(n))) as usize & 3;
    let near = (2..).find(|n| bucket(*n) == bucket(1)).unwrap();
    let far = (2..).find(|n| bucket(*n) != bucket(1)).unwrap();
    loom::model(move || {
        let (mut writer, mut readers) = MacTable::with_hash(2, 2, 1, hash.clone());
        writer.learn(VLAN, mac(1), PortId(1), NOW);
        // In front of it in its chain.
        writer.learn(VLAN, mac(near), PortId(2), NOW);
        let writing = thread::spawn(move || {
            writer.age(PortId(2), None, 1);
            writer.learn(VLAN, mac(far), PortId(3), NOW);
        });
        assert_eq!(port(&readers[0], 1), Some(1));
        assert!(matches!(port(&readers[0], near), None | Some(2)));
        readers[0].refresh(SlotRef { slot: 0, version: 0 }, Instant::from_ms(9_000));
        writing.join().unwrap();
    });
}
