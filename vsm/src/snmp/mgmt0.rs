//! The interface mgmt0: the device of the supervisor's host that its address is on.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// What the host says of the device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mgmt0 {
    /// Its address, six octets.
    pub mac: Vec<u8>,
    /// Largest packet.
    pub mtu: i32,
    /// It carries.
    pub up: bool,
    /// Megabits per second; 0 when the device has no speed.
    pub speed: u32,
    /// Octets, packets, group packets, drops and errors received.
    pub rx: [u64; 5],
    /// Octets, packets, 0, drops and errors sent.
    pub tx: [u64; 5],
}

/// The device that the host sends to its own network of this address by; `None` when there is none, or it is no IPv4.
pub fn device(routes: &str, address: IpAddr) -> Option<String> {
    let IpAddr::V4(address) = address else { return None };
    if address.is_loopback() {
        return Some("lo".to_owned());
    }
    let hex = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, network, gateway, mask) =
            (*words.first()?, hex(words.get(1)?)?, hex(words.get(2)?)?, hex(words.get(7)?)?);
        (gateway == 0 && mask != 0 && u32::from(address) & mask == network).then(|| (mask, name.to_owned()))
    };
    routes.lines().skip(1).filter_map(route).max().map(|(_, name)| name)
}

/// What the host says of the device that the address is on.
pub fn read(address: IpAddr) -> Option<Mgmt0> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    let folder = Path::new("/sys/class/net").join(device(&routes, address)?);
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default().trim().to_owned();
    let count = |name: &str| text(&format!("statistics/{name}")).parse().unwrap_or(0);
    let mac: Vec<u8> = text("address").split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    let speed: i64 = text("speed").parse().unwrap_or(0);
    Some(Mgmt0 {
        mac,
        mtu: text("mtu").parse().unwrap_or(0),
        up: text("carrier") == "1",
        speed: u32::try_from(speed).unwrap_or(0),
        rx: ["rx_bytes", "rx_packets", "multicast", "rx_dropped", "rx_errors"].map(count),
        tx: [count("tx_bytes"), count("tx_packets"), 0, count("tx_dropped"), count("tx_errors")],
    })
}

/// The supervisor's address: the one that it listens on, or the first that agents are told.
pub fn address(listen: Option<std::net::SocketAddr>, advertised: &[String]) -> Option<IpAddr> {
    let own = listen.map(|listen| listen.ip()).filter(|ip| !ip.is_unspecified());
    own.or_else(|| advertised.iter().find_map(|text| Some(text.rsplit_once(':')?.0.parse::<Ipv4Addr>().ok()?.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_of_an_address() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                      eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                      eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                      eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let of = |text: &str| device(routes, text.parse().unwrap());
        assert_eq!(of("192.168.1.7").as_deref(), Some("eth0"));
        assert_eq!(of("192.168.2.7").as_deref(), Some("eth1"));
        assert_eq!(of("127.0.0.1").as_deref(), Some("lo"));
        assert_eq!((of("10.0.0.1"), of("::1")), (None, None));
        assert_eq!(address(None, &["192.0.2.1:4785".into()]), Some([192, 0, 2, 1].into()));
        assert!(read([127, 0, 0, 1].into()).is_some_and(|lo| lo.mtu > 0));
    }
}
