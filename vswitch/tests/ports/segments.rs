//! Our segmentation held against the kernel's.

use vswitch::frame::TxFrame;
use vswitch::frame::vnet::{GSO_TCPV4, NEEDS_CSUM, VnetHdr};
use vswitch::offload;
use vswitch::port::Port;
use vswitch::port::netdev::Netdev;

use crate::lab::{receive_until, run, veth_pair};

/// An IPv4 TCP super-frame with options, all flags set that segments differ in, and perhaps a tag.
fn superframe(tags: &[u8], payload: usize) -> (Vec<u8>, VnetHdr) {
    let l3 = 14 + tags.len();
    let mut frame = [b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01".as_slice(), tags, b"\x08\x00"].concat();
    frame.extend([0x46, 0]);
    frame.extend((24 + 32 + payload as u16).to_be_bytes());
    frame.extend([0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2]);
    // Router alert (RFC 2113).
    frame.extend([148, 4, 0, 0]);
    frame.extend([0x30, 0x39, 0, 80, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0x80, 0x99, 1, 0, 0, 0, 0, 0]);
    frame.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    frame.extend((0..payload).map(|i| (i * 7 % 251) as u8));
    let sum = !offload::checksum(&frame[l3..l3 + 24]);
    let header = (!sum).to_be_bytes();
    frame[l3 + 10..l3 + 12].copy_from_slice(&header);
    let l4 = l3 + 24;
    let mut pseudo = frame[l3 + 12..l3 + 20].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend((32 + payload as u16).to_be_bytes());
    let seed = (!offload::checksum(&pseudo)).to_be_bytes();
    frame[l4 + 16..l4 + 18].copy_from_slice(&seed);
    let vnet = VnetHdr {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: (l4 + 32) as u16,
        gso_size: 1000,
        csum_start: l4 as u16,
        csum_offset: 16,
    };
    (frame, vnet)
}

#[test]
fn our_segments_are_those_that_the_kernel_would_make() {
    let _lab = lab!("ns");
    veth_pair("port-ns0", "port-ns1", "");
    // The device loses its offloads, so the kernel does in software what we claim to do.
    run("ethtool -K port-ns0 tso off gso off tx off txvlan off");
    let (mut ours, mut theirs) = (Netdev::open("port-ns0").unwrap(), Netdev::open("port-ns1").unwrap());
    for tags in [&b""[..], b"\x81\x00\x20\x64", b"\x88\xa8\x00\xc8\x81\x00\x00\x64"] {
        for payload in [1, 900, 1001, 2000, 5000, 30_017, 65_535 - 56] {
            let (frame, vnet) = superframe(tags, payload);
            let mut expected = Vec::new();
            let count = offload::segment(&frame, &vnet, &mut Vec::new(), &mut |s| expected.push(s.to_vec())).unwrap();
            assert_eq!((count, expected.len()), (payload.div_ceil(1000), count));
            assert_eq!(ours.tx(&[TxFrame { head: &frame[..12], rest: &frame[12..], vnet, copy: false }]).accepted, 1);
            let mut got = Vec::new();
            receive_until(&mut theirs, |buffer| {
                got.push(buffer.frame().to_vec());
                (got.len() == count).then_some(())
            });
            assert_eq!(got.len(), count, "tags {tags:x?} payload {payload}");
            for (number, (got, expected)) in got.iter().zip(&expected).enumerate() {
                assert_eq!(got, expected, "tags {tags:x?} payload {payload} segment {number}");
            }
        }
    }
}
