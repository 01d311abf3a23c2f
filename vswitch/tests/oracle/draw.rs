//! Configurations, access lists and frames drawn from octets: for the oracle, the fuzz target and its replay.
//!
//! The worlds are small - few stations, VLANs, ports - so that frames meet what was learned and rules match. A list of
//! octets that runs out gives zeros, so every list is a case, and a shorter list is a simpler one.

#![allow(dead_code, reason = "each user uses its part")]

use std::net::Ipv4Addr;
use std::time::Duration;

use proto::acl::{Acl, Action, AddrMatch, IpRule, MacMatch, MacRule, PortMatch, Rules};
use proto::addr::{MacAddr, VlanId};
use proto::vlan::{PortMode, VlanSet};
use vswitch::config::{AclConfig, Config, MonitorConfig, PortConfig, SessionConfig, StaticMac};
use vswitch::frame::vnet::{self, VnetHdr};
use vswitch::port::PortId;

/// Most ports of a world; their numbers are 0 to this.
pub const PORTS: u16 = 6;

const VIDS: [u16; 4] = [10, 20, 30, 40];

pub struct Draw<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Draw<'a> {
    pub fn new(octets: &'a [u8]) -> Self {
        Draw { octets, at: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.at >= self.octets.len()
    }

    fn octet(&mut self) -> u8 {
        let octet = self.octets.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        octet
    }

    pub fn below(&mut self, n: usize) -> usize {
        let wide = usize::from(self.octet()) | if n > 256 { usize::from(self.octet()) << 8 } else { 0 };
        wide % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn maybe<T>(&mut self, one_in: usize, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(one_in).then(|| value(self))
    }

    fn vlan(&mut self) -> VlanId {
        VlanId::new(self.pick(&VIDS)).unwrap()
    }

    fn vlans(&mut self) -> VlanSet {
        let bits = self.below(16);
        (0..4).filter(|i| bits >> i & 1 == 1).filter_map(|i| VlanId::new(VIDS[i])).collect()
    }

    fn station(&mut self) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, 1 + self.below(6) as u8])
    }

    /// One that seldom speaks, so that frames to it are flooded.
    fn stranger(&mut self) -> MacAddr {
        MacAddr([2, 0, 0, 0, 1, self.below(3) as u8])
    }

    fn ports(&mut self) -> Vec<PortId> {
        (0..self.below(3)).map(|_| PortId(self.below(PORTS.into()) as u16)).collect()
    }

    pub fn config(&mut self, version: u64) -> Config {
        let mut next_id = 0;
        let acls: Vec<AclConfig> = (0..self.below(5)).map(|i| self.acl(i, &mut next_id)).collect();
        let lists = acls.len();
        let monitors: Vec<MonitorConfig> = (0..self.below(3)).map(|_| self.monitor()).collect();
        let mut ports: Vec<PortConfig> = (0..PORTS).map(|id| self.port(id, &acls, monitors.len())).collect();
        if self.one_in(2) {
            self.pair_up(&mut ports);
        }
        let mut static_macs: Vec<StaticMac> = Vec::new();
        for _ in 0..self.below(3) {
            let (vlan, mac) = (self.vlan(), self.station());
            let port = self.maybe(2, |d| PortId(d.below(PORTS.into()) as u16));
            if !static_macs.iter().any(|e| (e.vlan, e.mac) == (vlan, mac)) {
                static_macs.push(StaticMac { vlan, mac, port });
            }
        }
        Config {
            version,
            vlans: if self.one_in(4) { self.vlans() } else { VIDS.iter().filter_map(|v| VlanId::new(*v)).collect() },
            mac_aging: Duration::from_secs(300),
            static_macs,
            acls,
            monitors,
            selecting: Vec::new(),
            sessions: (0..self.below(4)).map(|id| self.session(id as u16, lists)).collect(),
            ports,
            sensors: self.maybe(8, Self::ports).unwrap_or_default(),
            monitor_ins: self.maybe(8, Self::ports).unwrap_or_default(),
            protected_macs: (0..self.below(3)).map(|_| self.station()).collect(),
            ..Config::default()
        }
    }

    fn monitor(&mut self) -> MonitorConfig {
        let seconds = |n: usize| Duration::from_secs(1 + n as u64);
        MonitorConfig { active: seconds(self.below(60)), inactive: seconds(self.below(20)) }
    }

    fn session(&mut self, id: u16, lists: usize) -> SessionConfig {
        SessionConfig {
            id,
            rx_ports: self.ports(),
            tx_ports: self.ports(),
            rx_vlans: self.maybe(4, Self::vlans).unwrap_or_default(),
            tx_vlans: self.maybe(4, Self::vlans).unwrap_or_default(),
            filter_vlans: self.maybe(3, Self::vlans),
            filter_acl: self.maybe(3, |d| d.below(lists.max(1))).filter(|list| *list < lists),
            destinations: self.maybe(2, |d| vec![PortId(d.below(PORTS.into()) as u16)]).unwrap_or_default(),
            ..SessionConfig::default()
        }
    }

    fn port(&mut self, id: u16, acls: &[AclConfig], monitors: usize) -> PortConfig {
        let list = |ip: bool, d: &mut Self| {
            let fit: Vec<usize> =
                (0..acls.len()).filter(|i| matches!(acls[*i].acl.rules, Rules::Ip(_)) == ip).collect();
            if fit.is_empty() { None } else { d.maybe(3, |d| d.pick(&fit)) }
        };
        let mode = match self.below(2) {
            0 => PortMode::Access(self.vlan()),
            _ => PortMode::Trunk { native: self.vlan(), allowed: self.vlans() },
        };
        PortConfig {
            id: PortId(id),
            uplink: self.one_in(4),
            up: !self.one_in(12),
            mode,
            protected: self.one_in(4),
            mtu: self.pick(&[1500, 1500, 600, 9000]),
            ip_acl_in: list(true, self),
            ip_acl_out: list(true, self),
            mac_acl_in: list(false, self),
            mac_acl_out: list(false, self),
            flow_in: if monitors > 0 { self.maybe(2, |d| d.below(monitors)) } else { None },
            flow_out: if monitors > 0 { self.maybe(2, |d| d.below(monitors)) } else { None },
            sampling: Default::default(),
        }
    }

    /// Two ports to a VLAN, but for a few: a flood has one receiver.
    pub fn pair_up(&mut self, ports: &mut [PortConfig]) {
        for (port, vid) in ports.iter_mut().zip([10, 10, 20, 20, 30, 30]) {
            if !self.one_in(6) {
                port.mode = PortMode::Access(VlanId::new(vid).unwrap());
            }
        }
    }

    fn acl(&mut self, index: usize, next_id: &mut u32) -> AclConfig {
        let count = if self.one_in(6) { 0 } else { self.below(24) };
        let rules = match self.below(3) {
            0 => Rules::Mac((0..count).map(|i| (i as u32, self.mac_rule())).collect()),
            _ => Rules::Ip((0..count).map(|i| (i as u32, self.ip_rule())).collect()),
        };
        let rule_ids: Vec<u32> = (*next_id..=*next_id + count as u32).collect();
        *next_id += count as u32 + 1;
        AclConfig { acl: Acl { name: format!("list{index}"), statistics: !self.one_in(4), rules }, rule_ids }
    }

    fn action(&mut self) -> Action {
        self.pick(&[Action::Permit, Action::Permit, Action::Deny])
    }

    fn address(&mut self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, self.below(2) as u8, self.below(6) as u8)
    }

    fn addr_match(&mut self) -> AddrMatch {
        let wildcard = self.pick(&[u32::MAX, u32::MAX, 0, 0xff, 0x101, 0x2, 0xff00_00ff]);
        AddrMatch::new(self.address(), Ipv4Addr::from(wildcard))
    }

    fn l4_port(&mut self) -> u16 {
        self.pick(&[0, 1, 22, 80, 443, 65_534, 65_535])
    }

    fn port_match(&mut self) -> PortMatch {
        let (a, b) = (self.l4_port(), self.l4_port());
        self.pick(&[
            PortMatch::Any,
            PortMatch::Any,
            PortMatch::Eq(a),
            PortMatch::Neq(a),
            PortMatch::Lt(a),
            PortMatch::Gt(a),
            PortMatch::Range(a, b),
        ])
    }

    fn ip_rule(&mut self) -> IpRule {
        let protocol = self.pick(&[None, Some(6), Some(17), Some(1), Some(47)]);
        let ports = matches!(protocol, Some(6 | 17));
        let icmp_type = if protocol == Some(1) { self.maybe(2, |d| d.pick(&[0, 3, 8])) } else { None };
        IpRule {
            action: self.action(),
            protocol,
            src: self.addr_match(),
            src_port: if ports { self.port_match() } else { PortMatch::Any },
            dst: self.addr_match(),
            dst_port: if ports { self.port_match() } else { PortMatch::Any },
            icmp_type,
            icmp_code: if icmp_type.is_some() { self.maybe(2, |d| d.below(2) as u8) } else { None },
            dscp: self.maybe(4, |d| d.pick(&[0, 46])),
        }
    }

    fn mac_match(&mut self) -> MacMatch {
        let wildcard = self.pick(&[MacAddr::BROADCAST, MacAddr::ZERO, MacAddr([0, 0, 0, 0, 0, 3])]);
        MacMatch::new(self.station(), wildcard)
    }

    fn mac_rule(&mut self) -> MacRule {
        MacRule {
            action: self.action(),
            src: self.mac_match(),
            dst: self.mac_match(),
            ethertype: self.maybe(2, |d| d.pick(&[0x0806, 0x86dd, 0x88cc, 0])),
            vlan: self.maybe(3, Self::vlan),
        }
    }

    pub fn frame(&mut self) -> (Vec<u8>, VnetHdr) {
        let dst = match self.below(12) {
            0 => MacAddr::BROADCAST,
            1 => MacAddr([1, 0, 0x5e, 0, 0, 1]),
            2 if self.one_in(3) => MacAddr([1, 0x80, 0xc2, 0, 0, self.below(20) as u8]),
            3..6 => self.stranger(),
            _ => self.station(),
        };
        let src = match self.below(60) {
            59 => MacAddr([3; 6]),
            55.. => self.stranger(),
            _ => self.station(),
        };
        let mut frame = [dst.0, src.0].concat();
        let tags = self.pick(&[0, 0, 0, 0, 1, 1, 1, 2, 2, 3]);
        for _ in 0..tags {
            let tpid: u16 = self.pick(&[0x8100, 0x8100, 0x88a8]);
            let vid = self.pick(&[10u16, 20, 30, 40, 10, 20, 0, 4095]);
            frame.extend_from_slice(&tpid.to_be_bytes());
            frame.extend_from_slice(&(vid | (self.below(16) as u16) << 12).to_be_bytes());
        }
        let l3 = frame.len() + 2;
        let (ethertype, packet, l4) = self.packet();
        frame.extend_from_slice(&ethertype.to_be_bytes());
        frame.extend_from_slice(&packet);
        let vnet = self.vnet(&mut frame, l3, l4, ethertype, packet.len());
        if vnet == VnetHdr::PLAIN && self.one_in(6) {
            frame.extend(std::iter::repeat_n(0xee, self.below(30)));
        }
        match self.below(24) {
            0 => frame.truncate(self.below(frame.len() + 1)),
            1 | 2 => {
                let at = self.below(frame.len().min(90));
                frame[at] = self.octet();
            }
            _ => {}
        }
        (frame, vnet)
    }

    /// EtherType, packet, and the protocol and offset of its transport header.
    fn packet(&mut self) -> (u16, Vec<u8>, Option<(u8, usize)>) {
        match self.below(16) {
            0 => {
                let mut p = vec![0, 1, 8, 0, 6, 4, 0, 1 + self.below(2) as u8, 2, 0, 0, 0, 0, 1];
                p.extend_from_slice(&self.address().octets());
                p.extend_from_slice(&[0; 6]);
                p.extend_from_slice(&self.address().octets());
                (0x0806, p, None)
            }
            1 => (self.pick(&[0x88cc, 0x9100, 0x0040]), vec![self.octet(); 46], None),
            2 => {
                let (p, _) = self.ipv4();
                (0x0040, [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &p[..]].concat(), None)
            }
            3 | 4 => {
                let (p, l4) = self.ipv6();
                (0x86dd, p, l4)
            }
            _ => {
                let (p, l4) = self.ipv4();
                (0x0800, p, l4)
            }
        }
    }

    fn transport(&mut self, protocol: u8) -> Vec<u8> {
        let length = self.pick(&[0, 4, 20, 100, 577, 1473, 2000]);
        let payload = vec![0x55; length];
        let (src, dst) = (self.l4_port(), self.l4_port());
        let mut s = [src.to_be_bytes(), dst.to_be_bytes()].concat();
        match protocol {
            6 => {
                let flags = self.pick(&[2, 0x10, 0x18, 0x11, 4]);
                s.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0, 9, 0, 0, 0, 0]);
            }
            17 => s.extend_from_slice(&[((8 + length) as u16).to_be_bytes(), [0, 0]].concat()),
            1 | 58 => s = vec![self.pick(&[0, 3, 8]), self.below(2) as u8, 0, 0, 0, 0, 0, 0],
            _ => {}
        }
        s.extend_from_slice(&payload);
        s
    }

    fn ipv4(&mut self) -> (Vec<u8>, Option<(u8, usize)>) {
        let protocol = self.pick(&[6, 6, 17, 17, 1, 47]);
        let fragment: u16 = if self.one_in(6) { self.pick(&[0x2000, 0x2001, 1, 2, 185]) } else { 0 };
        let options = if self.one_in(6) { 4 * (1 + self.below(10)) } else { 0 };
        let mut segment = self.transport(protocol);
        if fragment == 0x2000 {
            segment.truncate(self.pick(&[4, 8, 16, 20, 200]));
        }
        let header = 20 + options;
        let tos = self.pick(&[0, 0, 3, 46 << 2, 10 << 2]);
        let mut p = vec![0x40 | (header / 4) as u8, tos];
        p.extend_from_slice(&((header + segment.len()) as u16).to_be_bytes());
        p.extend_from_slice(&[0, 1]);
        p.extend_from_slice(&fragment.to_be_bytes());
        p.extend_from_slice(&[64, protocol, 0, 0]);
        p.extend_from_slice(&self.address().octets());
        p.extend_from_slice(&self.address().octets());
        p.extend(std::iter::repeat_n(1, options));
        p.extend_from_slice(&segment);
        (p, (fragment == 0).then_some((protocol, header)))
    }

    fn ipv6(&mut self) -> (Vec<u8>, Option<(u8, usize)>) {
        let protocol = self.pick(&[6, 17, 58, 59]);
        let segment = self.transport(protocol);
        let mut chain: Vec<u8> = Vec::new();
        let extensions = self.pick(&[0, 0, 0, 1, 2, 8, 9]);
        let mut kinds: Vec<u8> = (0..extensions).map(|_| self.pick(&[0, 60, 43, 44, 51])).collect();
        let mut whole = true;
        kinds.push(protocol);
        for pair in kinds.windows(2) {
            let fragment: u16 = if pair[0] == 44 { self.pick(&[0, 1, 8, 9]) } else { 0 };
            whole &= fragment == 0;
            let [f0, f1] = fragment.to_be_bytes();
            chain.extend_from_slice(&[pair[1], 0, f0, f1, 0, 0, 0, 0]);
        }
        let header = 40 + chain.len();
        let mut p = vec![0x60 | self.below(3) as u8, 0, 0, 0];
        p.extend_from_slice(&((chain.len() + segment.len()) as u16).to_be_bytes());
        p.extend_from_slice(&[kinds[0], 64]);
        for _ in 0..2 {
            p.extend_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.below(5) as u8]);
        }
        p.extend_from_slice(&chain);
        p.extend_from_slice(&segment);
        (p, whole.then_some((protocol, header)))
    }

    /// Nothing to do, a description that fits the frame, or anything.
    fn vnet(&mut self, frame: &mut [u8], l3: usize, l4: Option<(u8, usize)>, ethertype: u16, packet: usize) -> VnetHdr {
        let lie = |d: &mut Self| VnetHdr {
            flags: d.octet(),
            gso_type: d.pick(&[0, 1, 3, 4, 5, 0x81]),
            hdr_len: d.below(200) as u16,
            gso_size: d.pick(&[0, 1, 63, 64, 500, 1448, 65_535]),
            csum_start: d.pick(&[0, 34, 38, 54, 60_000]),
            csum_offset: d.pick(&[6, 16, 0, 60_000]),
        };
        let (Some((protocol @ (6 | 17), header)), 0..4) = (l4, self.below(12)) else {
            return if self.one_in(20) { lie(self) } else { VnetHdr::PLAIN };
        };
        let offset: usize = if protocol == 6 { 16 } else { 6 };
        let (start, length) = (l3 + header, packet - header);
        // The sum of the pseudo-header, as a guest leaves it.
        let addresses = if ethertype == 0x0800 { l3 + 12..l3 + 20 } else { l3 + 8..l3 + 40 };
        let mut sum = u32::from(protocol) + length as u32;
        for pair in frame[addresses].chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        frame[start + offset..start + offset + 2].copy_from_slice(&(sum as u16).to_be_bytes());
        let gso_type = match (protocol, ethertype) {
            (17, _) => vnet::GSO_UDP_L4,
            (_, 0x0800) => vnet::GSO_TCPV4,
            _ => vnet::GSO_TCPV6,
        };
        let super_frame = self.one_in(2);
        VnetHdr {
            flags: vnet::NEEDS_CSUM | self.pick(&[0, vnet::DATA_VALID]),
            gso_type: if super_frame { gso_type } else { 0 },
            hdr_len: self.below(100) as u16,
            gso_size: if super_frame { self.pick(&[64, 200, 500, 1448]) } else { 0 },
            csum_start: start as u16,
            csum_offset: offset as u16,
        }
    }
}
