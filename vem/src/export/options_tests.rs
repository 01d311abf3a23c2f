use super::*;

fn length(template: &OptionsTemplate) -> usize {
    template.fields.iter().map(|(_, length)| usize::from(*length)).sum::<usize>() + usize::from(template.scope.1)
}

fn tables() -> Tables {
    Tables {
        interfaces: vec![InterfaceRow { if_index: 7, name: "Vethernet7".into(), description: "ä".repeat(40) }],
        timeouts: vec![TimeoutRow { monitor: 1, active_s: 1800, inactive_s: 100_000 }],
        sampling: Sampling::NONE,
        samplers: vec![
            SamplerRow { sampling: Sampling::new(true, 1000).unwrap(), name: "thousandth".into() },
            SamplerRow { sampling: Sampling::several(true, 2, 2000).unwrap(), name: "two".into() },
            SamplerRow { sampling: Sampling::several(false, 3, 100).unwrap(), name: "three".into() },
        ],
    }
}

#[test]
fn records_are_as_long_as_their_template_says() {
    for version in [Version::V9, Version::Ipfix] {
        let records = |table| tables().records(table, version, 3, &Totals::default());
        let records: Vec<_> = Table::ALL.into_iter().flat_map(records).collect();
        // Version 9 has one sampler for the rate of two, and none for the third.
        assert_eq!(records.len(), if version == Version::Ipfix { 7 } else { 5 });
        for (id, record) in records {
            let template = templates(version).iter().find(|template| template.id == id).unwrap();
            assert_eq!(record.len(), length(template), "{version:?} {id}");
        }
    }
}

#[test]
fn sampling_says_unsampled() {
    let none = Sampling::NONE;
    assert_eq!(sampling(Version::V9, [0, 0, 0, 3], none), [0, 0, 0, 3, 0, 0, 0, 1, 1]);
    assert_eq!(sampling(Version::Ipfix, [0, 0, 0, 3], none), [0, 0, 0, 3, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
}

#[test]
fn samplers_say_their_rate() {
    let row = tables().samplers.remove(0);
    let v9 = row.record(Version::V9, [0, 0, 0, 3]);
    assert_eq!(v9[..15], [0, 0, 0, 3, 0, 0, 3, 0xe8, 0x83, 0xe8, 2, 0, 0, 3, 0xe8]);
    assert_eq!(&v9[15..26], b"thousandth\0");
    let ipfix = row.record(Version::Ipfix, [0, 0, 0, 3]);
    assert_eq!(ipfix[..26], [0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x83, 0xe8, 0, 0, 3, 0xe8, 0, 4, 0, 0, 0, 1, 0, 0, 3, 0xe7]);
    assert_eq!(f64::from_be_bytes(ipfix[26..34].try_into().unwrap()), 0.001);
    let every = Sampling::new(false, 100).unwrap();
    assert_eq!(sampling(Version::V9, [0; 4], every), [0, 0, 0, 0, 0, 0, 0, 100, 1]);
    assert_eq!(sampling(Version::Ipfix, [0; 4], every), [0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 99]);
}

#[test]
fn samplers_of_several_packets_say_how_many_of_how_many() {
    let [_, two, three] = &tables().samplers[..] else { panic!() };
    assert_eq!((two.table(Version::Ipfix), three.table(Version::Ipfix), two.table(Version::V9)), (517, 516, 516));
    let record = two.record(Version::Ipfix, [0, 0, 0, 3]);
    assert_eq!(record[4..12], [0, 0, 0, 0, 0, 1, 0x87, 0xd0]);
    assert_eq!(record[12..26], [0, 0, 3, 0xe8, 0, 3, 0, 0, 0, 2, 0, 0, 7, 0xce]);
    assert_eq!(record[26..34], [0, 0, 0, 2, 0, 0, 7, 0xd0]);
    assert_eq!(f64::from_be_bytes(record[34..42].try_into().unwrap()), 0.001);
    let record = three.record(Version::Ipfix, [0, 0, 0, 3]);
    assert_eq!(record[12..26], [0, 0, 0, 33, 0, 1, 0, 0, 0, 3, 0, 0, 0, 97]);
    assert_eq!(sampling(Version::V9, [0; 4], three.sampling), [0, 0, 0, 0, 0, 0, 0, 1, 1]);
}

#[test]
fn statistics_stand_in_the_order_of_their_fields() {
    let lost = Lost { flows: 4, packets: 5, octets: 6 };
    let record = statistics([0; 4], &Totals { octets: 1, datagrams: 2, flows: 3, lost });
    let numbers: Vec<u64> = record[4..].chunks(8).map(|n| u64::from_be_bytes(n.try_into().unwrap())).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn texts_are_cut_between_characters() {
    let row = tables().interfaces.remove(0);
    let record = row.record();
    assert_eq!(&record[..16], b"\0\0\0\x07Vethernet7\0\0");
    assert_eq!(std::str::from_utf8(&record[4 + NAME..]).unwrap(), "ä".repeat(32));
    assert_eq!(cut("aä", 2), "a");
}

#[test]
fn timeouts_that_are_too_long_are_the_longest() {
    assert_eq!(tables().timeouts[0].record(), [0, 0, 0, 1, 7, 8, 255, 255]);
}
