//! A generator that knows the truth, and judges who must report it: packets of every kind go through a real worker between
//! memory ports, its records through the export thread to nfcapd, nfacctd and a third decoder, and each one's flows, packets
//! and octets, by family and protocol, are those that were generated; no judge misses a sequence number, and tshark finds
//! nothing malformed.
//!
//! `TRUTH_PACKETS` says how many packets (`make truth`: 1,000,000), ten for each flow. The worker's time is 60 s of the past,
//! which pass as fast as the judges read.

mod export_judges;
#[allow(dead_code, reason = "the frames of another crate's tests")]
#[path = "../../vswitch/tests/net/frames.rs"]
mod frames;
mod truth;

use export_judges::{judges, tshark};
use proto::flow::{Field, Sampling, Version};
use truth::crowd::Crowd;
use truth::generate::{Generated, Generator};
use truth::{Family, Sums, total};

fn packets() -> usize {
    std::env::var("TRUTH_PACKETS").map_or(40_000, |text| text.parse().expect("TRUTH_PACKETS is a number"))
}

/// What a version without IPv6 and without link-layer flows can carry.
fn ipv4(sums: &Sums) -> Sums {
    sums.iter().filter(|((family, _), _)| *family == Family::Ipv4).map(|(key, sum)| (*key, *sum)).collect()
}

#[test]
fn every_judge_reports_the_truth_in_every_version() {
    if judges() {
        judge(packets(), [Sampling::NONE; 2]);
    }
}

/// Of every seventh packet at one port, and of every third at the other. Judges that know of sampling report as many times what
/// was picked, to the octet.
#[test]
fn every_judge_reports_what_was_sampled() {
    if judges() {
        judge(packets() / 2, [7, 3].map(|every| Sampling::new(false, every).unwrap()));
    }
}

/// The last two of each fourteen packets at one port, and the last three of each nine at the other.
#[test]
fn every_judge_reports_what_was_sampled_several_at_a_time() {
    if judges() {
        judge(packets() / 4, [(2, 14), (3, 9)].map(|(count, of)| Sampling::several(false, count, of).unwrap()));
    }
}

/// Where packets are picked at random, those that know of it report about as many as there were.
#[test]
fn of_a_random_sample_judges_make_about_all() {
    if !judges() {
        return;
    }
    let versions = [Version::V5, Version::V9, Version::Ipfix];
    let mut crowd = Crowd::start(&versions);
    let sampling = [(2, 10), (1, 8)].map(|(count, out_of)| Sampling::several(true, count, out_of).unwrap());
    crowd.sample(&sampling);
    let Generated { truth, packets, .. } = Generator::new(packets() / 4, sampling).run(&mut crowd);
    assert_eq!(total(&truth).1, packets);
    for (version, heard) in versions.into_iter().zip(crowd.stop()) {
        let all = total(&if version.has_templates() { truth.clone() } else { ipv4(&truth) }).1;
        let (judge, sums) = &heard.sums[0];
        let said = total(sums).1;
        // Six standard deviations, if all were picked at the smaller rate.
        let deviation = (all as f64 * 7.0).sqrt();
        assert!((said as f64 - all as f64).abs() < 6.0 * deviation, "{version:?}: {judge}: {said} instead of {all}");
        assert!(said != all && said > 0);
        heard.check();
    }
}

/// Least and most time to live and length, and the first flow label, of every flow: as generated, whether all its packets are
/// counted or some. They are summed up and sent at the end, so they are no more than sockets take at once.
#[test]
fn least_and_most_of_every_flow_are_those_of_its_packets() {
    if !judges() {
        return;
    }
    use Field::*;
    let keys =
        [SourceAddress, DestinationAddress, Protocol, Tos, SourcePort, DestinationPort, Vlan, SourceMac, Ethertype];
    let counters = [Bytes, Packets, First, Last, TtlMinimum, TtlMaximum, LengthMinimum, LengthMaximum, FlowLabel];
    let versions = [Version::V9, Version::Ipfix];
    for every in [[1, 1], [3, 2]] {
        let mut crowd = Crowd::start(&versions);
        let sampling = every.map(|every| Sampling::new(false, every).unwrap_or_default());
        crowd.sample(&sampling);
        crowd.ask_for(&[&keys[..], &counters].concat());
        let generated = Generator::new(packets().min(40_000) / 10, sampling).detailed().run(&mut crowd);
        let mut expected = generated.details;
        expected.sort_unstable();
        let count = |family| expected.iter().filter(|detail| detail.key.0 == family).count();
        assert!(count(Family::Ipv4) > 20 && count(Family::Ipv6) > 20);
        for (version, mut heard) in versions.into_iter().zip(crowd.stop()) {
            heard.details.sort_unstable();
            assert_eq!(heard.details, expected, "{version:?}");
            // And as tshark reads them, in the order of the records.
            let fields = ["ttl_min", "ttl_max", "length_min", "length_max"].map(|field| format!("cflow.{field}"));
            let fields = fields.iter().flat_map(|field| ["-e", field]);
            let text = tshark(
                &heard.datagrams,
                &["-Y", "cflow", "-T", "fields"].into_iter().chain(fields).collect::<Vec<_>>(),
            );
            let mut read = Vec::new();
            for line in text.lines() {
                let columns = line.split('\t').map(|column| {
                    column.split(',').filter_map(|number| number.parse::<u16>().ok()).collect::<Vec<_>>()
                });
                let columns: Vec<_> = columns.collect();
                read.extend((0..columns[0].len()).map(|at| [0, 1, 2, 3].map(|column| columns[column][at])));
            }
            read.sort_unstable();
            let mut numbers: Vec<_> =
                expected.iter().map(|d| [d.ttl[0].into(), d.ttl[1].into(), d.lengths[0], d.lengths[1]]).collect();
            numbers.sort_unstable();
            assert_eq!(read, numbers, "{version:?}: tshark");
            heard.check();
        }
    }
}

/// Of a rate that is no whole number, as 3 of 10: where the format can't say it every record is multiplied, to the nearest packet,
/// and all judges read the same. In IPFIX nfdump reports about all, as it cuts off what is not a whole packet of a record; nfacctd, which takes the next
/// smaller whole number for the rate, less.
#[test]
fn of_a_rate_that_is_no_whole_number_judges_make_about_all() {
    if !judges() {
        return;
    }
    let versions = [Version::V5, Version::V9, Version::Ipfix];
    let mut crowd = Crowd::start(&versions);
    let sampling = [(3, 10), (5, 7)].map(|(count, of)| Sampling::several(false, count, of).unwrap());
    crowd.sample(&sampling);
    let Generated { counted, packets, flows, .. } = Generator::new(packets() / 8, sampling).run(&mut crowd);
    let short = 17;
    for (version, heard) in versions.into_iter().zip(crowd.stop()) {
        let of = |wanted| heard.sums.iter().find(|(judge, _)| *judge == wanted).map(|(_, sums)| sums).unwrap();
        let (nfdump, parser) = (total(of("nfdump")).1, of("netflow_parser"));
        match version {
            Version::Ipfix => {
                assert_eq!(*parser, counted);
                assert!(nfdump <= packets + short && nfdump + flows + short >= packets, "{nfdump} of {packets}");
            }
            Version::V9 => {
                assert_eq!(of("nfdump"), parser);
                assert!(nfdump.abs_diff(packets) <= flows / 2 + short, "{nfdump} of {packets}");
            }
            _ => assert_eq!([of("nfdump"), of("nfacctd")], [parser; 2]),
        }
        heard.check();
    }
}

/// Packets are counted as the samplers say, of which none is random.
fn judge(packets: usize, sampling: [Sampling; 2]) {
    let versions = Version::ALL;
    let mut crowd = Crowd::start(&versions);
    crowd.sample(&sampling);
    let Generated { truth, counted, packets, flows, .. } = Generator::new(packets, sampling).run(&mut crowd);
    let short: u64 = sampling.iter().map(|sampling| u64::from(sampling.out_of())).sum();
    assert!(
        packets.abs_diff(total(&truth).1) < short.max(10),
        "what is not said is less than a packet stands for, at each port"
    );
    let heard = crowd.stop();
    for (version, heard) in versions.into_iter().zip(heard) {
        let of = |sums: &Sums| if version.has_templates() { sums.clone() } else { ipv4(sums) };
        let expected = of(&truth);
        let lost = flows - total(&expected).0;
        assert_eq!(heard.not_exportable, lost, "{version:?}: not exportable");
        for (judge, sums) in &heard.sums {
            // nfacctd 1.7 passes over flows that are not IP, without a word.
            let ip = |(family, _): &(Family, u8)| *family != Family::Link || *judge != "nfacctd";
            // The crate reads records as they are; versions 1 and 7 can't say how they are sampled, so they are multiplied.
            let is_as_read = *judge == "netflow_parser" && !matches!(version, Version::V1 | Version::V7);
            let expected = if is_as_read { of(&counted) } else { expected.clone() };
            let read: Sums = expected.into_iter().filter(|(key, _)| ip(key)).collect();
            assert_eq!(*sums, read, "{version:?}: {judge}");
        }
        let judges = match version {
            Version::V1 => 1,
            Version::V7 => 2,
            Version::V5 | Version::V9 | Version::Ipfix => 3,
        };
        assert_eq!(heard.sums.len(), judges);
        heard.check();
        eprintln!("{version:?}: {} datagrams, flows, packets, octets {:?}", heard.datagrams.len(), total(&expected));
    }
}
