//! A switch whose frames monitor sessions copy.

use vswitch::config::SessionConfig;
use vswitch::port::PortId;

use super::frames::udp4;
use super::{Net, access, config, mac};

/// The numbers of ports.
pub fn ids(list: &[u16]) -> Vec<PortId> {
    list.iter().map(|id| PortId(*id)).collect()
}

/// Ports 1 to 3 in VLAN 10, port 9 the destination.
pub fn watched(session: SessionConfig) -> Net {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(3, 10), access(9, 10)]));
    net.config.sessions = vec![SessionConfig { destinations: ids(&[9]), ..session }];
    net.publish();
    net.through(2, &udp4(mac(1), mac(2), 5, 0));
    net
}
