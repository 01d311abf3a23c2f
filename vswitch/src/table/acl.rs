//! A compiled access list: a linear scan over conditions laid out field by field, sixteen rules at a time.
//!
//! Every condition becomes the same arithmetic - `(value ^ want) & care == 0` for addresses, protocol, DSCP and ICMP,
//! `(port - low) <= span` for ports - so the compiler makes vector code of the scan and nothing in it depends on what
//! arrived. Rules that can match nothing (`lt 0`, a reversed range) are left out. The work is bounded by the rules that
//! are configured; lists beyond some thousand rules want groups with interval search, which can replace this behind
//! [`IpList::find`].
//!
//! Fragments: conditions on ports or ICMP can't be tested on a fragment other than the first. Such a fragment matches a
//! permit rule when the rest of the rule fits, and never a deny rule that has such conditions: the first fragment was
//! judged in full, and without it the others are useless to the receiver.

use proto::acl::{Action, IpRule, MacRule, PortMatch};

use crate::flow::key::{FlowKey, shape};
use crate::verdict::RuleRef;
use crate::wire::transport::{ICMP, TCP, UDP};

const LANES: usize = 16;

/// What a list says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Permit or deny.
    pub permit: bool,
    /// The rule that decided.
    pub rule: RuleRef,
}

/// Sixteen rules, field by field.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Lanes {
    src: [u32; LANES],
    src_care: [u32; LANES],
    dst: [u32; LANES],
    dst_care: [u32; LANES],
    /// Protocol, DSCP, ICMP type and code, one octet each.
    meta: [u32; LANES],
    meta_care: [u32; LANES],
    src_low: [u16; LANES],
    src_span: [u16; LANES],
    dst_low: [u16; LANES],
    dst_span: [u16; LANES],
}

impl Lanes {
    /// Matches nothing: the protocol would have to be 255 and, as DSCP, 255.
    const NEVER: Lanes = Lanes {
        src: [0; LANES],
        src_care: [0; LANES],
        dst: [0; LANES],
        dst_care: [0; LANES],
        meta: [u32::MAX; LANES],
        meta_care: [u32::MAX; LANES],
        src_low: [0; LANES],
        src_span: [0; LANES],
        dst_low: [0; LANES],
        dst_span: [0; LANES],
    };

    /// Not zero where a rule does not match.
    #[inline]
    fn misses(&self, packet: &Fields) -> [u32; LANES] {
        let mut misses = [0u32; LANES];
        let addresses = self.src.iter().zip(&self.src_care).zip(self.dst.iter().zip(&self.dst_care));
        for (miss, ((src, src_care), (dst, dst_care))) in misses.iter_mut().zip(addresses) {
            *miss = (packet.src ^ src) & src_care | (packet.dst ^ dst) & dst_care;
        }
        for (miss, (meta, care)) in misses.iter_mut().zip(self.meta.iter().zip(&self.meta_care)) {
            *miss |= (packet.meta ^ meta) & care;
        }
        let ports = self.src_low.iter().zip(&self.src_span).zip(self.dst_low.iter().zip(&self.dst_span));
        for (miss, ((src, src_span), (dst, dst_span))) in misses.iter_mut().zip(ports) {
            // How far beyond the span: the difference at zero is one instruction for eight ports, a comparison is not.
            let off_src = packet.src_port.wrapping_sub(*src).saturating_sub(*src_span);
            let off_dst = packet.dst_port.wrapping_sub(*dst).saturating_sub(*dst_span);
            *miss |= u32::from(off_src | off_dst);
        }
        misses
    }

    /// A rule matches.
    #[inline]
    fn any(&self, packet: &Fields) -> bool {
        self.misses(packet).iter().fold(false, |any, miss| any | (*miss == 0))
    }

    /// The first rule that matches.
    fn first(&self, packet: &Fields) -> Option<usize> {
        self.misses(packet).iter().position(|miss| *miss == 0)
    }
}

/// What a rule can ask of a packet.
struct Fields {
    src: u32,
    dst: u32,
    meta: u32,
    src_port: u16,
    dst_port: u16,
}

impl Fields {
    fn of(key: &FlowKey) -> Self {
        let v4 = |a: &[u8; 16]| {
            let [.., a, b, c, d] = *a;
            u32::from_be_bytes([a, b, c, d])
        };
        let icmp = if key.protocol == ICMP { key.dst_port } else { 0 };
        Fields {
            src: v4(&key.src),
            dst: v4(&key.dst),
            meta: meta(key.protocol, key.tos >> 2, (icmp >> 8) as u8, icmp as u8),
            src_port: key.src_port,
            dst_port: key.dst_port,
        }
    }
}

/// Puts a condition of rule `slot` into its lane.
fn set<T>(slot: usize, field: &mut [T; LANES], value: T) {
    if let Some(lane) = field.get_mut(slot) {
        *lane = value;
    }
}

fn meta(protocol: u8, dscp: u8, icmp_type: u8, icmp_code: u8) -> u32 {
    u32::from_be_bytes([protocol, dscp, icmp_type, icmp_code])
}

/// The part of `meta` that a later fragment has.
const META_L3: u32 = 0xffff_0000;

/// A compiled IP list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IpList {
    lanes: Vec<Lanes>,
    answers: Vec<Answer>,
    /// `None` for a list without rules, which permits.
    implicit: Option<RuleRef>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Answer {
    found: Found,
    /// Has conditions on ports or ICMP.
    l4: bool,
}

impl IpList {
    /// Compiles `rules` with their numbers, the last of which is that of the implicit deny.
    pub fn new(rules: &[(u32, IpRule)], ids: &[u32], counted: bool) -> Self {
        let mut list = IpList { lanes: Vec::new(), answers: Vec::new(), implicit: None };
        for ((_, rule), id) in rules.iter().zip(ids) {
            let found = Found { permit: rule.action == Action::Permit, rule: RuleRef::new(*id, counted) };
            let l4 = rule.src_port != PortMatch::Any || rule.dst_port != PortMatch::Any || rule.icmp_type.is_some();
            list.add(rule, Answer { found, l4 });
        }
        list.implicit = ids.last().filter(|_| !rules.is_empty()).map(|id| RuleRef::new(*id, counted));
        list
    }

    fn add(&mut self, rule: &IpRule, answer: Answer) {
        let (Some(src), Some(dst)) = (span(rule.src_port), span(rule.dst_port)) else { return };
        let ports = rule.src_port != PortMatch::Any || rule.dst_port != PortMatch::Any;
        let protocols: &[Option<u8>] = match (rule.protocol, rule.icmp_type) {
            (Some(p), None) if !ports || p == TCP || p == UDP => &[Some(p)],
            (None, None) if !ports => &[None],
            // Ports without a protocol are TCP's and UDP's.
            (None, None) => &[Some(TCP), Some(UDP)],
            (None | Some(ICMP), Some(_)) if !ports => &[Some(ICMP)],
            _ => return,
        };
        for protocol in protocols {
            let slot = self.answers.len() % LANES;
            if slot == 0 {
                self.lanes.push(Lanes::NEVER);
            }
            let Some(lanes) = self.lanes.last_mut() else { return };
            let octet = |value: Option<u8>| value.map_or(0, |_| 0xff);
            set(slot, &mut lanes.src, rule.src.addr);
            set(slot, &mut lanes.src_care, !rule.src.wildcard);
            set(slot, &mut lanes.dst, rule.dst.addr);
            set(slot, &mut lanes.dst_care, !rule.dst.wildcard);
            let want = |value: Option<u8>| value.unwrap_or(0);
            set(
                slot,
                &mut lanes.meta,
                meta(want(*protocol), want(rule.dscp), want(rule.icmp_type), want(rule.icmp_code)),
            );
            let code = rule.icmp_type.and(rule.icmp_code);
            set(
                slot,
                &mut lanes.meta_care,
                meta(octet(*protocol), octet(rule.dscp), octet(rule.icmp_type), octet(code)),
            );
            set(slot, &mut lanes.src_low, src.0);
            set(slot, &mut lanes.src_span, src.1);
            set(slot, &mut lanes.dst_low, dst.0);
            set(slot, &mut lanes.dst_span, dst.1);
            self.answers.push(answer);
        }
    }

    /// The first rule that matches an IPv4 packet, the implicit deny, or a permit without a rule for a list without rules.
    pub fn find(&self, key: &FlowKey) -> Found {
        let packet = Fields::of(key);
        let hit = if key.is(shape::LATER_FRAGMENT) { self.find_fragment(&packet) } else { self.find_whole(&packet) };
        hit.unwrap_or_else(|| otherwise(self.implicit))
    }

    fn find_whole(&self, packet: &Fields) -> Option<Found> {
        // Which of the sixteen it is, is asked once and not in the scan.
        let (lanes, answers) =
            self.lanes.iter().zip(self.answers.chunks(LANES)).find(|(lanes, _)| lanes.any(packet))?;
        answers.get(lanes.first(packet)?).map(|answer| answer.found)
    }

    /// As `find_whole`, with the conditions that a later fragment can't be tested on left out.
    fn find_fragment(&self, packet: &Fields) -> Option<Found> {
        for (lanes, answers) in self.lanes.iter().zip(self.answers.chunks(LANES)) {
            let addresses = lanes.src.iter().zip(&lanes.src_care).zip(lanes.dst.iter().zip(&lanes.dst_care));
            let metas = lanes.meta.iter().zip(&lanes.meta_care);
            for ((((src, src_care), (dst, dst_care)), (meta, care)), answer) in addresses.zip(metas).zip(answers) {
                let miss = (packet.src ^ src) & src_care
                    | (packet.dst ^ dst) & dst_care
                    | (packet.meta ^ meta) & care & META_L3;
                if miss == 0 && (answer.found.permit || !answer.l4) {
                    return Some(answer.found);
                }
            }
        }
        None
    }
}

/// First port and number of ports behind it, modulo 2^16; `None` when no port fits.
fn span(ports: PortMatch) -> Option<(u16, u16)> {
    match ports {
        PortMatch::Any => Some((0, 0xffff)),
        PortMatch::Eq(p) => Some((p, 0)),
        PortMatch::Neq(p) => Some((p.wrapping_add(1), 0xfffe)),
        PortMatch::Lt(p) => p.checked_sub(1).map(|last| (0, last)),
        PortMatch::Gt(p) => p.checked_add(1).map(|first| (first, 0xffff - first)),
        PortMatch::Range(first, last) => last.checked_sub(first).map(|span| (first, span)),
    }
}

fn otherwise(implicit: Option<RuleRef>) -> Found {
    match implicit {
        Some(rule) => Found { permit: false, rule },
        None => Found { permit: true, rule: RuleRef::NONE },
    }
}

/// A compiled MAC list: a plain scan, as such lists are short and judge ARP and IPv6 only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MacList {
    rules: Vec<(MacRule, Found)>,
    implicit: Option<RuleRef>,
}

impl MacList {
    /// Compiles `rules` with their numbers, the last of which is that of the implicit deny.
    pub fn new(rules: &[(u32, MacRule)], ids: &[u32], counted: bool) -> Self {
        let answer = |rule: &MacRule, id: &u32| Found {
            permit: rule.action == Action::Permit,
            rule: RuleRef::new(*id, counted),
        };
        MacList {
            rules: rules.iter().zip(ids).map(|((_, rule), id)| (*rule, answer(rule, id))).collect(),
            implicit: ids.last().filter(|_| !rules.is_empty()).map(|id| RuleRef::new(*id, counted)),
        }
    }

    /// As [`IpList::find`], for a frame that is switched in `vlan`.
    pub fn find(&self, key: &FlowKey, vlan: proto::addr::VlanId) -> Found {
        let (src, dst) = (key.src_mac(), key.dst_mac());
        let hit = self.rules.iter().find(|(rule, _)| {
            rule.ethertype.is_none_or(|e| e == key.ethertype)
                && rule.vlan.is_none_or(|v| v == vlan)
                && rule.src.matches(src)
                && rule.dst.matches(dst)
        });
        hit.map_or_else(|| otherwise(self.implicit), |(_, found)| *found)
    }
}
