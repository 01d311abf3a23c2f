//! The table under every order in which a writer and a reader may see each other: `make loom`.
//!
//! The reader is the thread that is spawned: loom looks for conflicts with the last access to each word, and the writer's
//! own reads would hide the reader's. A thread is interrupted three times at most, which keeps the number of orders small.

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

/// A hash that puts two addresses into the same bucket, where a reader can take one for the other.
fn hash_that_joins(capacity: usize, one: u64, other: u64) -> HashKey {
    let mask = (capacity * 2).next_power_of_two() - 1;
    let bucket = |hash: &HashKey, n: u64| hash.of_word(key(VLAN, mac(n))) as usize & mask;
    let hashes = std::iter::repeat_with(HashKey::random);
    hashes.take(10_000).find(|hash| bucket(hash, one) == bucket(hash, other)).expect("one of many")
}

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Runs `write` against `read`, on a table of `capacity` that `prepare` has filled.
fn model(
    capacity: usize,
    prepare: impl Fn(&mut MacTable) + Sync + Send + 'static,
    write: impl Fn(&mut MacTable) + Sync + Send + 'static,
    read: impl Fn(&mut MacTable) + Sync + Send + Copy + 'static,
) {
    let hash = hash_that_joins(capacity, 1, 2);
    explore(move || {
        let (mut writer, mut readers) = MacTable::with_hash(capacity, capacity, 1, hash.clone());
        prepare(&mut writer);
        let reading = thread::spawn(move || read(&mut readers[0]));
        write(&mut writer);
        reading.join().unwrap();
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
        |table| assert!(matches!(port(table, 2), None | Some(2))),
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
fn loom_an_address_that_was_absent_stays_so_until_the_additions_move() {
    let hash = hash_that_joins(2, 1, 2);
    explore(move || {
        let (mut writer, readers) = MacTable::with_hash(2, 2, 1, hash.clone());
        writer.learn(VLAN, mac(2), PortId(2), NOW);
        let reading = thread::spawn(move || {
            let seen = readers[0].additions();
            let found = readers[0].search(VLAN, mac(1));
            assert!(seen == 1 || found.is_ok(), "who sees the count sees the address");
            found.err()
        });
        writer.learn(VLAN, mac(1), PortId(1), NOW);
        // What was remembered is over when the writer has done.
        assert_ne!(reading.join().unwrap(), Some(writer.additions()));
    });
}

#[test]
fn loom_a_neighbour_in_the_chain_comes_and_goes_and_the_address_stays_known() {
    let (hash, near) = (hash_that_joins(2, 1, 2), 2);
    let bucket = |n: u64| hash.of_word(key(VLAN, mac(n))) as usize & 3;
    let far = (2..).find(|n| bucket(*n) != bucket(1)).unwrap();
    explore(move || {
        let (mut writer, readers) = MacTable::with_hash(2, 2, 1, hash.clone());
        writer.learn(VLAN, mac(1), PortId(1), NOW);
        // In front of it in its chain.
        writer.learn(VLAN, mac(near), PortId(2), NOW);
        let reading = thread::spawn(move || assert_eq!(port(&readers[0], 1), Some(1)));
        writer.age(PortId(2), None, 1);
        writer.learn(VLAN, mac(far), PortId(3), NOW);
        reading.join().unwrap();
    });
}
