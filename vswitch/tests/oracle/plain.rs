//! The switch as it would be written if nobody ever waited for it: no cache, no compiled lists, no batches, no tables but
//! maps. It reads the configuration and the octets of a frame and says what must come out where and what must be counted.

use std::collections::{BTreeMap, BTreeSet};

use proto::acl::{Action, IpRule, PortMatch, Rules};
use proto::addr::{MacAddr, VlanId};
use proto::vlan::PortMode;
use vswitch::config::{AclConfig, Config, PortConfig, SessionConfig};
use vswitch::frame::vnet::VnetHdr;
use vswitch::port::PortId;
use vswitch::verdict::DropReason::{self, *};

use crate::read::{Frame, Ip, mac_at, read};

#[derive(Default, Debug, PartialEq, Eq, Clone)]
pub struct Counts {
    /// Unicast, multicast, broadcast, octets.
    pub rx: [u64; 4],
    pub tx: [u64; 4],
    pub delivered: u64,
    pub rx_drops: BTreeMap<&'static str, u64>,
    pub tx_drops: BTreeMap<&'static str, u64>,
}

pub struct Plain {
    pub config: Config,
    macs: BTreeMap<(VlanId, MacAddr), (Option<PortId>, bool)>,
    /// Ports that lack every offload.
    pub bare: BTreeSet<PortId>,
    pub counts: BTreeMap<PortId, Counts>,
    pub rules: BTreeMap<u32, u64>,
    /// Copied, dropped, segmented.
    pub sessions: BTreeMap<usize, [u64; 3]>,
    /// Packets, IP octets and frame octets that a flow monitor must report.
    pub metered: [u64; 3],
    /// The frame at hand leaves by a port with a monitor.
    watched: bool,
    /// Port, octets, and the virtio header as octets.
    pub out: Vec<(u16, Vec<u8>, [u8; 12])>,
}

impl Plain {
    pub fn new(config: Config, bare: BTreeSet<PortId>) -> Self {
        let mut plain = Plain {
            config: Config::default(),
            macs: BTreeMap::new(),
            bare,
            counts: BTreeMap::new(),
            rules: BTreeMap::new(),
            sessions: BTreeMap::new(),
            metered: [0; 3],
            watched: false,
            out: Vec::new(),
        };
        plain.change(config);
        plain
    }

    fn port(&self, id: PortId) -> Option<&PortConfig> {
        self.config.ports.iter().find(|p| p.id == id)
    }

    fn carries(port: &PortConfig, vlan: VlanId) -> bool {
        match &port.mode {
            PortMode::Access(v) => *v == vlan,
            PortMode::Trunk { allowed, .. } => allowed.contains(vlan),
        }
    }

    fn is_destination(&self, id: PortId) -> bool {
        self.config.sensors.contains(&id) || self.config.sessions.iter().any(|s| s.destinations.contains(&id))
    }

    fn only_meters(&self, id: PortId) -> bool {
        self.config.monitor_ins.contains(&id)
    }

    /// A new configuration: addresses are forgotten where they can't be any more.
    pub fn change(&mut self, config: Config) {
        let old = std::mem::replace(&mut self.config, config);
        let mut macs = std::mem::take(&mut self.macs);
        macs.retain(|(vlan, mac), (port, is_static)| {
            if *is_static {
                return self.config.static_macs.iter().any(|e| (e.vlan, e.mac) == (*vlan, *mac));
            }
            let id = port.unwrap();
            let Some(port) = self.port(id) else { return false };
            let was = old.ports.iter().find(|p| p.id == id).unwrap();
            let stayed = port.up && port.uplink == was.uplink && !self.is_destination(id) && !self.only_meters(id);
            stayed && self.config.vlans.contains(*vlan) && Self::carries(port, *vlan)
        });
        for e in &self.config.static_macs {
            macs.insert((e.vlan, e.mac), (e.port, true));
        }
        self.macs = macs;
    }

    /// What the switch must do with a frame.
    pub fn frame(&mut self, from: PortId, octets: &[u8], vnet: VnetHdr) {
        let frame = match read(octets, &vnet) {
            Ok(frame) => frame,
            Err(reason) => {
                let dst = if octets.len() >= 6 { mac_at(octets, 0) } else { MacAddr::ZERO };
                let counts = self.counts.entry(from).or_default();
                add(&mut counts.rx, dst, 1, octets.len() as u64);
                *counts.rx_drops.entry(reason.name()).or_default() += 1;
                return;
            }
        };
        add(&mut self.counts.entry(from).or_default().rx, frame.dst, frame.segments, frame.l2_octets);
        self.watched = self.port(from).is_some_and(|p| p.flow_in.is_some());
        let result = self.switch(from, &frame);
        if self.watched {
            let counts = [frame.segments, frame.ip_octets, frame.l2_octets];
            self.metered.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        }
        let counts = self.counts.entry(from).or_default();
        match result {
            Ok(()) => counts.delivered += frame.segments,
            Err(reason) => *counts.rx_drops.entry(reason.name()).or_default() += frame.segments,
        }
    }

    fn switch(&mut self, from: PortId, frame: &Frame<'_>) -> Result<(), DropReason> {
        let port = self.port(from).cloned();
        let mut vlan = None;
        let admitted = self.admit(port.as_ref(), frame, &mut vlan);
        let mut copied = 0u32;
        if !self.is_destination(from) && port.is_some() {
            for (i, s) in self.config.sessions.clone().iter().enumerate() {
                // A port that only meters has a VLAN also where there is none, and a session waits for it to be there.
                let is_watched = |v: VlanId| s.rx_vlans.contains(v) && self.config.vlans.contains(v);
                let watching = s.rx_ports.contains(&from) || vlan.is_some_and(is_watched);
                if watching && self.looks_for(s, vlan, frame) {
                    copied |= 1 << i;
                    self.copy(i, frame, vlan, frame.octets.to_vec());
                }
            }
        }
        admitted?;
        let (port, vlan) = (port.unwrap(), vlan.unwrap());
        let members: Vec<PortConfig> = self
            .config
            .ports
            .iter()
            .filter(|p| p.up && !self.is_destination(p.id) && !self.only_meters(p.id) && Self::carries(p, vlan))
            .cloned()
            .collect();
        let uplinks: Vec<PortId> = members.iter().filter(|p| p.uplink).map(|p| p.id).collect();
        let known = self.macs.get(&(vlan, frame.src)).copied();
        if let Some((Some(home), _)) = known
            && port.uplink
            && uplinks.len() > 1
            && self.port(home).is_some_and(|h| !h.uplink)
        {
            return Err(SplitHorizon);
        }
        match known {
            Some((None, _)) => return Err(StaticDrop),
            Some((_, true)) => {}
            _ => {
                self.macs.insert((vlan, frame.src), (Some(from), false));
            }
        }
        match self.macs.get(&(vlan, frame.dst)).copied() {
            Some((None, _)) => Err(StaticDrop),
            Some((Some(to), _)) if to == from => Err(SamePort),
            Some((Some(to), _)) => {
                let to = self.port(to).unwrap().clone();
                let leaves = self.may_leave(&port, &to, vlan, frame);
                // The flow of a packet that is too large for its one port is one that is forwarded.
                self.watched |= leaves == Err(MtuExceeded) && to.flow_out.is_some();
                leaves?;
                self.leave(&to, vlan, frame, &mut copied);
                Ok(())
            }
            None => {
                let flood_uplink = uplinks.iter().min().copied();
                let mut first = None;
                let mut out = Vec::new();
                let mut members = members;
                members.sort_by_key(|p| p.id);
                for to in members {
                    if to.id == from || (to.uplink && (port.uplink || Some(to.id) != flood_uplink)) {
                        continue;
                    }
                    match self.may_leave(&port, &to, vlan, frame) {
                        Ok(()) => out.push(to),
                        Err(reason) => first = first.or(Some(reason)),
                    }
                }
                // A copy is as the first port sent it; those that need the frame finished are sent to at once.
                out.sort_by_key(|to| (!(frame.vnet.needs_csum() && self.bare.contains(&to.id)), to.id));
                for to in &out {
                    self.leave(to, vlan, frame, &mut copied);
                }
                if out.is_empty() { Err(first.unwrap_or(NoDestination)) } else { Ok(()) }
            }
        }
    }

    fn admit(
        &mut self,
        port: Option<&PortConfig>,
        frame: &Frame<'_>,
        vlan: &mut Option<VlanId>,
    ) -> Result<(), DropReason> {
        let Some(port) = port.filter(|p| p.up) else { return Err(PortDown) };
        if self.config.sensors.contains(&port.id) {
            return Err(SensorInput);
        }
        if self.is_destination(port.id) {
            return Err(MirrorDestination);
        }
        let tag = frame.tags.first().map_or(0, |t| t.1 & 0xfff);
        if self.only_meters(port.id) {
            let (PortMode::Access(own) | PortMode::Trunk { native: own, .. }) = &port.mode;
            *vlan = Some(VlanId::new(tag).unwrap_or(*own));
            return Err(MonitorInput);
        }
        let v = match &port.mode {
            PortMode::Access(v) if tag == 0 => *v,
            PortMode::Access(_) => return Err(VlanTaggedOnAccess),
            PortMode::Trunk { native, .. } if tag == 0 => *native,
            PortMode::Trunk { .. } => VlanId::new(tag).unwrap(),
        };
        if !Self::carries(port, v) {
            return Err(VlanNotAllowed);
        }
        if !self.config.vlans.contains(v) {
            return Err(VlanInactive);
        }
        *vlan = Some(v);
        if frame.dst.0[..5] == [1, 0x80, 0xc2, 0, 0] && frame.dst.0[5] < 16 {
            return Err(ReservedGroup);
        }
        if self.acl(port.ip_acl_in, port.mac_acl_in, v, frame) { Ok(()) } else { Err(AclDeny) }
    }

    fn may_leave(
        &mut self,
        from: &PortConfig,
        to: &PortConfig,
        vlan: VlanId,
        frame: &Frame<'_>,
    ) -> Result<(), DropReason> {
        let Some(reason) = self.refuse(from, to, vlan, frame) else { return Ok(()) };
        let counts = self.counts.entry(to.id).or_default();
        *counts.tx_drops.entry(reason.name()).or_default() += frame.segments;
        Err(reason)
    }

    fn leave(&mut self, to: &PortConfig, vlan: VlanId, frame: &Frame<'_>, copied: &mut u32) {
        let native = matches!(&to.mode, PortMode::Trunk { native, .. } if *native == vlan);
        let untagged = matches!(to.mode, PortMode::Access(_)) || (native && frame.tags.len() < 2);
        let octets = if untagged { strip(frame) } else { tag(frame, vlan) };
        self.send(to.id, frame, octets.clone());
        self.watched |= to.flow_out.is_some();
        for (i, s) in self.config.sessions.clone().iter().enumerate() {
            let watching = s.tx_ports.contains(&to.id) || s.tx_vlans.contains(vlan);
            if *copied >> i & 1 == 0 && watching && self.looks_for(s, Some(vlan), frame) {
                *copied |= 1 << i;
                self.copy(i, frame, Some(vlan), octets.clone());
            }
        }
    }

    fn refuse(&mut self, from: &PortConfig, to: &PortConfig, vlan: VlanId, frame: &Frame<'_>) -> Option<DropReason> {
        let protected = from.protected || (from.uplink && self.config.protected_macs.contains(&frame.src));
        match () {
            () if !to.up => Some(EgressDown),
            () if self.is_destination(to.id) => Some(MirrorDestination),
            () if self.only_meters(to.id) => Some(MonitorInput),
            () if from.uplink && to.uplink => Some(SplitHorizon),
            () if !Self::carries(to, vlan) => Some(VlanNotAllowedOut),
            () if protected && to.protected => Some(Isolated),
            () if !self.acl(to.ip_acl_out, to.mac_acl_out, vlan, frame) => Some(AclDenyOut),
            () if frame.packet_max > u64::from(to.mtu) => Some(MtuExceeded),
            () => None,
        }
    }

    /// The frame, with the tag that it leaves with, to a production port.
    fn send(&mut self, to: PortId, frame: &Frame<'_>, octets: Vec<u8>) {
        let finished = self.bare.contains(&to);
        let frames = finish(frame, octets.clone(), finished);
        let l2 = frame.l2_octets + frame.segments * octets.len() as u64 - frame.segments * frame.octets.len() as u64;
        add(&mut self.counts.entry(to).or_default().tx, frame.dst, frame.segments, l2);
        self.out.extend(frames.into_iter().map(|(f, vnet)| (to.0, f, vnet.write())));
    }

    fn copy(&mut self, session: usize, frame: &Frame<'_>, vlan: Option<VlanId>, seen: Vec<u8>) {
        let stats = self.sessions.entry(session).or_default();
        stats[2] += u64::from(frame.vnet.is_gso());
        let mut destinations = self.config.sessions[session].destinations.clone();
        destinations.dedup();
        for id in destinations {
            let to = self.port(id).unwrap().clone();
            if !to.up {
                self.sessions.entry(session).or_default()[1] += frame.segments;
                continue;
            }
            let octets = match (&to.mode, vlan) {
                (PortMode::Trunk { .. }, Some(vlan)) => tag(frame, vlan),
                (PortMode::Access(_), Some(_)) => strip(frame),
                (_, None) => seen.clone(),
            };
            self.sessions.entry(session).or_default()[0] += frame.segments;
            let frames = finish(frame, octets, true);
            let tx: u64 = frames.iter().map(|(f, _)| f.len() as u64).sum();
            add(&mut self.counts.entry(id).or_default().tx, frame.dst, frame.segments, tx);
            self.out.extend(frames.into_iter().map(|(f, vnet)| (id.0, f, vnet.write())));
        }
    }

    fn looks_for(&self, session: &SessionConfig, vlan: Option<VlanId>, frame: &Frame<'_>) -> bool {
        let in_vlans = session.filter_vlans.as_ref().is_none_or(|vlans| vlan.is_some_and(|v| vlans.contains(v)));
        let permitted = session.filter_acl.is_none_or(|index| {
            let list = &self.config.acls[index];
            let v4 = frame.ip.is_some_and(|ip| ip.v4);
            // A MAC list may ask for the VLAN.
            let judges = if matches!(list.acl.rules, Rules::Ip(_)) { v4 } else { !v4 && vlan.is_some() };
            judges && Self::permits(list, vlan, frame).1
        });
        in_vlans && permitted
    }

    fn acl(&mut self, ip: Option<usize>, mac: Option<usize>, vlan: VlanId, frame: &Frame<'_>) -> bool {
        let v4 = frame.ip.filter(|ip| ip.v4);
        let Some(index) = (if v4.is_some() { ip } else { mac }) else { return true };
        let list = self.config.acls[index].clone();
        let (rule, permits) = Self::permits(&list, Some(vlan), frame);
        if let (true, Some(rule)) = (list.acl.statistics, rule) {
            *self.rules.entry(rule).or_default() += frame.segments;
        }
        permits
    }

    /// Whether a list permits a frame of its kind, and the number of the rule that says so.
    fn permits(list: &AclConfig, vlan: Option<VlanId>, frame: &Frame<'_>) -> (Option<u32>, bool) {
        let mut hit = None;
        let mut rules = 0;
        match &list.acl.rules {
            Rules::Ip(all) => {
                rules = all.len();
                let packet = frame.ip.filter(|ip| ip.v4).unwrap();
                hit = all.iter().position(|(_, r)| ip_matches(r, &packet)).map(|i| (i, all[i].1.action));
            }
            Rules::Mac(all) => {
                rules = rules.max(all.len());
                let fits = |r: &proto::acl::MacRule| {
                    let bits = |m: MacAddr, w: MacAddr| m.to_u64() & !w.to_u64();
                    bits(frame.src, r.src.wildcard) == bits(r.src.addr, r.src.wildcard)
                        && bits(frame.dst, r.dst.wildcard) == bits(r.dst.addr, r.dst.wildcard)
                        && (r.ethertype.is_none() || r.ethertype == Some(frame.ethertype))
                        && (r.vlan.is_none() || r.vlan == vlan)
                };
                for (i, (_, r)) in all.iter().enumerate() {
                    if fits(r) && hit.is_none() {
                        hit = Some((i, r.action));
                    }
                }
            }
        }
        if rules == 0 {
            return (None, true);
        }
        let (index, action) = hit.unwrap_or((rules, Action::Deny));
        (Some(list.rule_ids[index]), action == Action::Permit)
    }
}

fn ip_matches(r: &IpRule, p: &Ip) -> bool {
    let port = |m: PortMatch, p: u16| match m {
        PortMatch::Any => true,
        PortMatch::Eq(a) => p == a,
        PortMatch::Neq(a) => p != a,
        PortMatch::Lt(a) => p < a,
        PortMatch::Gt(a) => p > a,
        PortMatch::Range(a, b) => a <= p && p <= b,
    };
    let impossible = |m: PortMatch| match m {
        PortMatch::Lt(0) | PortMatch::Gt(u16::MAX) => true,
        PortMatch::Range(a, b) => a > b,
        _ => false,
    };
    let l3 = r.protocol.is_none_or(|x| x == p.protocol)
        && p.src & !r.src.wildcard == r.src.addr
        && p.dst & !r.dst.wildcard == r.dst.addr
        && r.dscp.is_none_or(|d| d == p.dscp);
    let l4 = r.src_port != PortMatch::Any || r.dst_port != PortMatch::Any || r.icmp_type.is_some();
    if !l3 || !l4 {
        return l3;
    }
    if p.later_fragment {
        // A rule that no packet at all can match is no rule.
        return r.action == Action::Permit && !impossible(r.src_port) && !impossible(r.dst_port);
    }
    match (r.icmp_type, p.ports) {
        (Some(kind), Some((_, d))) => {
            d >> 8 == u16::from(kind) && r.icmp_code.is_none_or(|code| d & 255 == u16::from(code))
        }
        (None, Some((s, d))) => port(r.src_port, s) && port(r.dst_port, d),
        (_, None) => false,
    }
}

fn add(to: &mut [u64; 4], dst: MacAddr, frames: u64, octets: u64) {
    let kind = if dst.is_broadcast() { 2 } else { usize::from(dst.is_multicast()) };
    to[kind] += frames;
    to[3] += octets;
}

fn strip(frame: &Frame<'_>) -> Vec<u8> {
    let mut octets = frame.octets.to_vec();
    if !frame.tags.is_empty() {
        octets.drain(12..16);
    }
    octets
}

fn tag(frame: &Frame<'_>, vlan: VlanId) -> Vec<u8> {
    let mut octets = frame.octets.to_vec();
    match frame.tags.first() {
        None => {
            octets.splice(12..12, [0x81, 0].into_iter().chain(vlan.get().to_be_bytes()));
        }
        Some((_, tci)) => octets[14..16].copy_from_slice(&(tci & 0xf000 | vlan.get()).to_be_bytes()),
    }
    octets
}

/// What a port without offloads gets; its own oracle is in the library.
fn finish(frame: &Frame<'_>, mut octets: Vec<u8>, finished: bool) -> Vec<(Vec<u8>, VnetHdr)> {
    let vnet = frame.vnet.shifted(octets.len() as i16 - frame.octets.len() as i16);
    if !finished || !vnet.needs_csum() {
        return vec![(octets, vnet)];
    }
    if vnet.is_gso() {
        let mut all = Vec::new();
        vswitch::offload::segment(&octets, &vnet, &mut Vec::new(), &mut |f| all.push((f.to_vec(), VnetHdr::PLAIN)))
            .unwrap();
        assert_eq!(all.len() as u64, frame.segments);
        return all;
    }
    vswitch::offload::complete_checksum(&mut octets, &vnet).unwrap();
    vec![(octets, VnetHdr::PLAIN)]
}
