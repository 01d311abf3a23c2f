//! Learning, flooding, ageing, quotas, uplinks: which ports a frame comes out of.

mod net;

use net::frames::udp4;
use net::{Net, access, config, mac};
use proto::addr::MacAddr;

#[test]
fn unknown_floods_within_the_vlan_and_known_goes_to_one_port() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(3, 10), access(4, 20)]));
    assert_eq!(net.through(1, &udp4(mac(2), mac(1), 5, 10)), [2, 3]);
    assert_eq!(net.through(2, &udp4(mac(1), mac(2), 5, 10)), [1]);
    assert_eq!(net.through(1, &udp4(mac(2), mac(1), 5, 10)), [2]);
    assert_eq!(net.through(1, &udp4(MacAddr::BROADCAST, mac(1), 5, 10)), [2, 3]);
    let c = net.counters(1);
    assert_eq!((c.rx.unicast, c.rx.broadcast, c.delivered), (2, 1, 3));
    assert_eq!((c.tx.unicast, c.tx.octets), (1, 52));
}
