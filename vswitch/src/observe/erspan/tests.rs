use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use proto::addr::VlanId;

use super::*;

fn encapsulation(form: Form) -> Encapsulation {
    Encapsulation {
        origin: IpAddr::from([192, 0, 2, 1]),
        destination: IpAddr::from([198, 51, 100, 7]),
        session: 0x123,
        form,
        ttl: 64,
        dscp: 46,
        fragment: matches!(form, Form::Relay(_)),
    }
}

fn sighting(tag: Tag) -> Sighting {
    Sighting {
        tag,
        port: 0x0012_3456,
        direction: Direction::Egress,
        truncated: false,
        time: Duration::new(0x6543_2100, 123_456_789),
    }
}

fn packet(encapsulation: &Encapsulation, copy: &Sighting, sequence: u32, frame: &[u8]) -> Vec<u8> {
    let mut headers = [0; HEADERS_MAX];
    let length = encapsulation.write(copy, sequence, frame.len(), &mut headers);
    [&headers[..length], frame].concat()
}

const FRAME: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x06];

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Octets as the draft draws them, worked out by hand.
#[test]
fn golden_octets() {
    let removed = Tag::Removed(5 << 13 | 100);
    let behind_ip = |form, copy: &Sighting| {
        let packet = packet(&encapsulation(form), copy, 0xa1b2_c3d4, &FRAME);
        hex(&packet[20..packet.len() - FRAME.len()])
    };
    let copy = sighting(removed);
    // Version 1, VLAN 0x064, COS 5, En 2, T 0, session 0x123; index.
    assert_eq!(behind_ip(Form::Two, &copy), "100088bea1b2c3d41064b12300023456");
    let cut = Sighting { truncated: true, tag: Tag::None(VlanId::new(7)), ..copy };
    assert_eq!(behind_ip(Form::Two, &cut), "100088bea1b2c3d41007052300023456");
    let kept = Sighting { tag: Tag::Kept, ..copy };
    assert_eq!(behind_ip(Form::Two, &kept), "100088bea1b2c3d41000192300023456");

    // Version 2, VLAN, COS 5, BSO 0, T 0, session; time; no group; P, frame type 0, hardware 0, D, granularity, O.
    let head = |protocol: &str, rest: &str| format!("1000{protocol}a1b2c3d42064a123{rest}");
    let ticks = |unit_ns: u128| format!("{:08x}", (copy.time.as_nanos() / unit_ns) as u32);
    let micros = ticks(100_000);
    assert_eq!(behind_ip(Form::Three(Stamp::Micros100), &copy), head("22eb", &format!("{micros}00008008")));
    let nanos = ticks(100);
    assert_eq!(behind_ip(Form::Three(Stamp::Nanos100), &copy), head("22eb", &format!("{nanos}0000800a")));
    // Nanoseconds; platform 3, 14 bits of the port, seconds.
    assert_eq!(behind_ip(Form::Three(Stamp::Ieee1588), &copy), head("22eb", "075bcd150000800d0c00345665432100"));
    // Platform 1, domain, all of the port.
    let n1kv = behind_ip(Form::Three(Stamp::Nexus1000v(0xabc)), &copy);
    assert_eq!(n1kv, head("22eb", &format!("{micros}0000800904000abc00123456")));
    let ingress = Sighting { direction: Direction::Ingress, ..copy };
    assert!(behind_ip(Form::Three(Stamp::Micros100), &ingress).ends_with("8000"));
}

#[test]
fn the_outer_header_is_whole_and_may_not_be_cut() {
    let packet = packet(&encapsulation(Form::Two), &sighting(Tag::Kept), 1, &FRAME);
    assert_eq!(hex(&packet[..10]), "45b8003200004000402f");
    assert_eq!(crate::offload::checksum(&packet[..20]), 0, "the sum with its checksum");
    assert_eq!(hex(&packet[12..20]), "c0000201c6336407");
}

#[test]
fn over_ipv6_the_rest_is_the_same() {
    let (from, to): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "2001:db8::99".parse().unwrap());
    for form in [Form::Two, Form::Three(Stamp::Ieee1588), Form::Relay(7)] {
        let four = encapsulation(form);
        let six = Encapsulation { origin: from, destination: to, ..four };
        let copy = sighting(Tag::Removed(5 << 13 | 100));
        let [four, six] = [four, six].map(|encapsulation| packet(&encapsulation, &copy, 9, &FRAME));
        assert_eq!(six[40..], four[20..]);
        let length = six.len() - 40;
        assert_eq!(hex(&six[..8]), format!("6b800000{length:04x}2f40"), "DSCP 46, no label, GRE, 64 hops");
        assert_eq!(hex(&six[8..40]), "20010db800000000000000000000000120010db8000000000000000000000099");
        let read = Received::read_gre(from, to, &six[40..]).unwrap();
        let same = Received::read(&four).unwrap();
        assert_eq!(read, Received { source: from, destination: to, ..same });
        assert_eq!(Received::read(&six), Err(Refused::Ipv4), "of IPv6 a raw socket gives no header");
    }
}

#[test]
fn what_is_relayed_has_a_key_and_may_be_cut() {
    let packet =
        packet(&encapsulation(Form::Relay(0x0064_0007)), &sighting(Tag::Whole(VlanId::new(100), false)), 9, &FRAME);
    assert_eq!(hex(&packet[..8]), "45b8003600000000");
    assert_eq!(hex(&packet[20..40]), "300088be006400070000000910640123".to_owned() + "00023456");
}

#[test]
fn the_overhead_is_as_written_in_the_books() {
    // 50, 54 and 62 octets with the outer Ethernet header.
    let forms = [Form::Two, Form::Three(Stamp::Micros100), Form::Three(Stamp::Nexus1000v(1))];
    assert_eq!(forms.map(|form| 14 + 20 + form.behind_ip()), [50, 54, 62]);
    assert_eq!(40 + Form::Three(Stamp::Ieee1588).behind_ip(), HEADERS_MAX);
}

fn any_form() -> impl Strategy<Value = Form> {
    prop_oneof![
        Just(Form::Two),
        any::<u32>().prop_map(Form::Relay),
        Just(Form::Three(Stamp::Micros100)),
        Just(Form::Three(Stamp::Nanos100)),
        Just(Form::Three(Stamp::Ieee1588)),
        (0..4096u16).prop_map(|domain| Form::Three(Stamp::Nexus1000v(domain))),
    ]
}

fn any_tag() -> impl Strategy<Value = Tag> {
    prop_oneof![
        (0..4095u16).prop_map(|vlan| Tag::None(VlanId::new(vlan))),
        (0..8u16, 0..4095u16).prop_map(|(pcp, vlan)| Tag::Removed(pcp << 13 | vlan)),
        Just(Tag::Kept),
        (0..4095u16, any::<bool>()).prop_map(|(vlan, had)| Tag::Whole(VlanId::new(vlan), had)),
    ]
}

proptest! {
    /// What is written is what is read.
    #[test]
    fn there_and_back(
        form in any_form(),
        tag in any_tag(),
        (session, port, sequence) in (0..=SESSION_MAX, any::<u32>(), any::<u32>()),
        (egress, truncated) in any::<(bool, bool)>(),
        (seconds, nanos) in (any::<u32>(), 0..1_000_000_000u32),
        frame in proptest::collection::vec(any::<u8>(), 14..200),
    ) {
        let encapsulation = Encapsulation { session, ..encapsulation(form) };
        let direction = if egress { Direction::Egress } else { Direction::Ingress };
        let copy = Sighting { tag, port, direction, truncated, time: Duration::new(seconds.into(), nanos) };
        let packet = packet(&encapsulation, &copy, sequence, &frame);
        prop_assert_eq!(packet.len(), (20 + form.behind_ip()) + frame.len());
        let read = Received::read(&packet).unwrap();
        let (source, destination) = (encapsulation.origin, encapsulation.destination);
        prop_assert_eq!((read.source, read.destination), (source, destination));
        prop_assert_eq!((read.session, read.sequence, read.truncated), (session, Some(sequence), truncated));
        prop_assert_eq!(read.frame, &frame[..]);
        let tci = match tag {
            Tag::None(vlan) => vlan.map(VlanId::get),
            // A priority tag is of no VLAN: its class is lost with it.
            Tag::Removed(tci) => (tci & 0xfff != 0).then_some(tci),
            Tag::Kept => None,
            // Type III does not say where the tag is.
            Tag::Whole(_, true) if !matches!(form, Form::Three(_)) => None,
            Tag::Whole(vlan, _) => vlan.map(VlanId::get),
        };
        prop_assert_eq!(read.tci, tci);
        let (vlan, said) = match tag {
            Tag::None(vlan) => (vlan, TagSeen::Unsaid),
            Tag::Removed(tci) => (VlanId::new(tci & 0xfff), TagSeen::Removed),
            Tag::Kept => (None, TagSeen::Kept),
            Tag::Whole(vlan, had) => (vlan, if had { TagSeen::Kept } else { TagSeen::Unsaid }),
        };
        prop_assert_eq!((read.vlan, read.tag), (vlan, if matches!(form, Form::Three(_)) { TagSeen::Unsaid } else { said }));
        prop_assert_eq!(read.key, if let Form::Relay(key) = form { Some(key) } else { None });
        match form {
            Form::Two | Form::Relay(_) => {
                prop_assert_eq!((read.kind, read.direction, read.time), (TypeSeen::Two, None, None));
                prop_assert_eq!(read.port, Some(port & 0xf_ffff));
            }
            Form::Three(stamp) => {
                prop_assert_eq!((read.kind, read.direction), (TypeSeen::Three, Some(direction)));
                let (port, time) = match stamp {
                    Stamp::Micros100 => (None, 100_000),
                    Stamp::Nanos100 => (None, 100),
                    Stamp::Ieee1588 => (Some(port & 0x3fff), 0),
                    Stamp::Nexus1000v(_) => (Some(port), 100_000),
                };
                prop_assert_eq!(read.port, port);
                let round = |unit: u128| (copy.time.as_nanos() / unit) as u32 as u128 * unit;
                let time = if time == 0 { copy.time.as_nanos() } else { round(time) };
                prop_assert_eq!(read.time.unwrap().as_nanos(), time);
            }
        }
    }

    /// Any octets behind a GRE header that is right, and any octets at all: no panic, and no frame from outside.
    #[test]
    fn any_octets(form in any_form(), at in 0..48usize, value in any::<u8>(), octets in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut spoiled = packet(&encapsulation(form), &sighting(Tag::Kept), 1, &octets);
        spoiled[at.min((20 + form.behind_ip()) - 1)] = value;
        for packet in [&octets, &spoiled] {
            if let Ok(read) = Received::read(packet) {
                prop_assert!(read.frame.len() >= FRAME_MIN && read.session <= SESSION_MAX);
                prop_assert!(packet.as_ptr_range().contains(&read.frame.as_ptr()));
            }
        }
    }
}

/// Every lie that a header can tell, each by one change of a packet that is right.
#[test]
fn lies_are_refused() {
    let two = packet(&encapsulation(Form::Two), &sighting(Tag::Removed(100)), 1, &FRAME);
    let three = packet(&encapsulation(Form::Three(Stamp::Nexus1000v(1))), &sighting(Tag::Removed(100)), 1, &FRAME);
    let relay = packet(&encapsulation(Form::Relay(7)), &sighting(Tag::Kept), 1, &FRAME);
    let cut = |packet: &[u8], octets: usize| {
        let mut cut = packet[..octets].to_vec();
        cut[2..4].copy_from_slice(&(octets as u16).to_be_bytes());
        cut
    };
    let with = |packet: &[u8], at: usize, value: u8| {
        let mut changed = packet.to_vec();
        changed[at] = value;
        changed
    };
    let cases = [
        (Refused::Ipv4, two[..19].to_vec()),
        (Refused::Ipv4, two[..two.len() - 1].to_vec()),
        (Refused::Ipv4, with(&two, 0, 0x65)),
        (Refused::Ipv4, with(&two, 0, 0x44)),
        (Refused::Fragment, with(&two, 6, 0x20)),
        (Refused::Fragment, with(&two, 7, 1)),
        (Refused::NotGre, with(&two, 9, 17)),
        (Refused::Short, cut(&two, 20)),
        (Refused::Short, cut(&two, 23)),
        (Refused::Short, cut(&two, 28)),
        (Refused::Short, cut(&two, 35)),
        (Refused::Short, cut(&three, 39)),
        (Refused::Short, cut(&three, 47)),
        (Refused::Runt, cut(&two, 36)),
        (Refused::Runt, cut(&two, 49)),
        (Refused::Runt, cut(&three, 61)),
        (Refused::GreFlags, with(&two, 20, 0x90)),
        (Refused::GreFlags, with(&two, 20, 0x20)),
        (Refused::GreFlags, with(&three, 20, 0x30)),
        (Refused::Short, cut(&relay, 27)),
        (Refused::Short, cut(&relay, 39)),
        (Refused::Runt, cut(&relay, 40)),
        (Refused::GreFlags, with(&two, 21, 0x01)),
        (Refused::GreFlags, with(&three, 20, 0)),
        (Refused::GreProtocol, with(&two, 23, 0)),
        (Refused::Version, with(&two, 28, 0x20)),
        (Refused::Version, with(&three, 28, 0x10)),
        (Refused::Vlan, with(&with(&two, 28, 0x1f), 29, 0xff)),
        (Refused::Payload, with(&two, 30, 0x09)),
        (Refused::Payload, with(&three, 38, 0x88)),
    ];
    for (why, packet) in &cases {
        assert_eq!(Received::read(packet), Err(*why), "{}", hex(packet));
    }
    for why in Refused::ALL {
        assert!(cases.iter().any(|(named, _)| *named == why), "no case for {why}");
    }
}

#[test]
fn what_others_send_is_read() {
    // Type I, of a bare GRE header.
    let two = packet(&encapsulation(Form::Two), &sighting(Tag::Kept), 1, &FRAME);
    let mut one = [&two[..20], &[0, 0, 0x88, 0xbe], &FRAME].concat();
    one[3] = one.len() as u8;
    let read = Received::read(&one).unwrap();
    assert_eq!((read.kind, read.sequence, read.session, read.frame), (TypeSeen::One, None, 0, &FRAME[..]));
    // Padding of the outer Ethernet frame is not the mirrored frame's.
    let padded = [&two[..], &[0; 9]].concat();
    assert_eq!(Received::read(&padded).unwrap().frame, &FRAME[..]);
    // Linux keeps the tag in the frame and repeats the VLAN in the header.
    let mut linux = two.clone();
    linux[29] = 100;
    assert_eq!(Received::read(&linux).unwrap().tci, None);
    // A sub-header of another platform, and reserved bits.
    let mut other = packet(&encapsulation(Form::Three(Stamp::Ieee1588)), &sighting(Tag::Kept), 1, &FRAME);
    other[40] = 5 << 2;
    let read = Received::read(&other).unwrap();
    assert_eq!((read.port, read.frame), (None, &FRAME[..]));
    // IPv4 options.
    let mut options = [&two[..20], &[1, 1, 1, 1], &two[20..]].concat();
    (options[0], options[3]) = (0x46, options.len() as u8);
    assert_eq!(Received::read(&options).unwrap().frame, &FRAME[..]);
}
