//! Why a frame went where it went, stage by stage and in words: of imagined frames and of real ones.
//!
//! What became of it, and what each judge said, the dataplane has told ([`vswitch::observe::passage`]); here that becomes
//! lines with names of interfaces, lists and monitors. Nothing is judged anew but the tag, which is a function of port, VLAN
//! and frame. A stage is told up to the one that dropped the frame.

mod running;
mod words;

use std::time::Instant;

use proto::acl::Action;
use proto::addr::VlanId;
use proto::name::IfName;
use proto::passage::{IMAGINED_MAX, Passage, Said, Step};
use proto::query::Query;
use proto::report::{Answer, PortState, RuleRef};
use vswitch::control::Traced;
use vswitch::egress::vlan::{Rewrite, rewrite};
use vswitch::frame::vnet::VnetHdr;
use vswitch::observe::passage::{self as told, Known};
use vswitch::port::PortId;
use vswitch::snapshot::{PortPolicy, Snapshot};
use vswitch::verdict::{DropReason, Judgement, Verdict};

use crate::apply::Plan;
use crate::header;
use crate::switch::Switch;

pub use running::{Error, Running};

/// The stages that a frame passes, in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Parse,
    Port,
    Vlan,
    AclIn,
    Learn,
    Lookup,
    Egress,
    Isolation,
    AclOut,
    Mtu,
    Send,
}

/// Where a frame was dropped. Some reasons are those of two judges; what the judges knew by then says which it was.
fn stage_of(reason: DropReason, j: &Judgement) -> Stage {
    use DropReason::*;
    match reason {
        Runt | Oversize | VlanDepth | VlanReserved | Ipv4Header | Ipv4Length | Ipv6Header | Ipv6Length
        | Ipv6Extensions | L4Header | FragmentTiny | FragmentOverlap | ArpMalformed | OffloadInvalid
        | SourceMacInvalid => Stage::Parse,
        PortDown | SensorInput => Stage::Port,
        MonitorInput if !j.admitted => Stage::Port,
        MirrorDestination if !j.admitted => Stage::Port,
        VlanTaggedOnAccess | VlanNotAllowed | VlanInactive | ReservedGroup => Stage::Vlan,
        AclDeny => Stage::AclIn,
        SplitHorizon | StaticDrop if j.out.is_none() && words::never_looked_up(j) => Stage::Learn,
        SamePort | NoDestination | StaticDrop => Stage::Lookup,
        EgressDown | MirrorDestination | MonitorInput | SplitHorizon | VlanNotAllowedOut => Stage::Egress,
        Isolated => Stage::Isolation,
        AclDenyOut => Stage::AclOut,
        MtuExceeded => Stage::Mtu,
        TxFull | TxError => Stage::Send,
    }
}

/// Answers a question about the way of frames.
///
/// # Errors
/// In English.
pub fn answer(switch: &mut Switch, query: &Query, now: Instant) -> Result<Answer, String> {
    let port = |switch: &Switch, name| switch.plan().by_name(name).ok_or_else(|| format!("{name} is not on this host"));
    match query {
        Query::Trace(imagined) => {
            let port = port(switch, imagined.port)?;
            if imagined.octets.len() > IMAGINED_MAX {
                return Err(format!("a frame has up to {IMAGINED_MAX} octets"));
            }
            let traced = switch.control().trace(port, &imagined.octets, VnetHdr::PLAIN).map_err(said)?;
            let snapshot = switch.control().running();
            Ok(Answer::Traced(Teller::new(switch.plan(), &snapshot).imagined(&traced)))
        }
        Query::WatchBegin(wanted) => {
            let port = wanted.port.map(|name| port(switch, name)).transpose()?;
            let (watching, control, _) = switch.watching();
            watching.begin(control, port, wanted, now).map(Answer::Told).map_err(said)
        }
        Query::WatchRead(id) => {
            let (watching, control, plan) = switch.watching();
            let snapshot = control.running();
            watching.read(control, (plan, &snapshot), *id, now).map(Answer::Told).map_err(said)
        }
        Query::WatchEnd(id) => {
            let (watching, control, _) = switch.watching();
            watching.end(control, *id, "it was ended").map(|()| Answer::Done).map_err(said)
        }
        _ => {
            let (watching, control, _) = switch.watching();
            Ok(Answer::Watches(watching.rows(control, now)))
        }
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Tells the way of frames in the words of a plan.
pub struct Teller<'a> {
    plan: &'a Plan,
    snapshot: &'a Snapshot,
}

impl<'a> Teller<'a> {
    /// In the words of `plan`; `snapshot` is what runs.
    pub fn new(plan: &'a Plan, snapshot: &'a Snapshot) -> Self {
        Teller { plan, snapshot }
    }

    /// An imagined frame.
    pub fn imagined(&self, traced: &Traced) -> Passage {
        let mut steps = Steps { teller: self, p: &traced.passage, list: Vec::new() };
        steps.all(words::would_be_cached(traced.cached), Some(traced));
        steps.passage(None)
    }

    /// A real frame, which came at `at_ns`.
    pub fn real(&self, passage: &told::Passage, at_ns: u64) -> Passage {
        let mut steps = Steps { teller: self, p: passage, list: Vec::new() };
        let cached = passage.cached.map(words::cached).unwrap_or_default();
        steps.all(cached.to_owned(), None);
        steps.passage(Some(at_ns))
    }

    fn rule(&self, rule: vswitch::verdict::RuleRef, action: Action) -> Option<RuleRef> {
        let (acl, sequence) = self.plan.numbers.rules.name(rule.id()?)?;
        Some(RuleRef { acl: acl.to_owned(), sequence, action })
    }

    fn name(&self, port: PortId) -> String {
        self.plan.name(port).map_or_else(|| format!("port {} without a name", port.0), |name| name.short())
    }

    /// Why a port is down.
    fn down(&self, name: IfName) -> Option<&str> {
        let plan = self.plan.ports.iter().find(|port| port.name == Some(name))?;
        match &plan.state {
            PortState::Down(why) => Some(why),
            PortState::Up => None,
        }
    }

    fn known(&self, known: Known) -> String {
        let kind = if known.is_static { "static" } else { "learned" };
        match known.port {
            Some(port) => format!("{kind}, on {}", self.name(port)),
            None => format!("{kind}, drop"),
        }
    }

    fn sessions(&self, set: vswitch::snapshot::SessionSet) -> String {
        let running = self.plan.config.sessions.iter().enumerate().filter(|(place, _)| set >> place & 1 == 1);
        running.map(|(_, session)| session.id.to_string()).collect::<Vec<_>>().join(", ")
    }

    fn monitors(&self, set: vswitch::flow::record::MonitorSet) -> String {
        let named = self.plan.numbers.monitors.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
        named.filter_map(|(_, name)| name).collect::<Vec<_>>().join(", ")
    }
}

fn step(stage: &str, said: Said, text: impl Into<String>) -> Step {
    Step { stage: stage.to_owned(), said, text: text.into(), port: None, rule: None }
}

struct Steps<'a> {
    teller: &'a Teller<'a>,
    p: &'a told::Passage,
    list: Vec<Step>,
}

impl Steps<'_> {
    fn push(&mut self, stage: &str, said: Said, text: impl Into<String>) {
        self.list.push(step(stage, said, text));
    }

    fn passage(self, at_ns: Option<u64>) -> Passage {
        let out = match self.p.dropped() {
            Some(_) => Vec::new(),
            None => self.leaves_by().into_iter().filter_map(|port| self.teller.plan.name(port)).collect(),
        };
        Passage {
            at_ns,
            port: self.teller.plan.name(self.p.port),
            length: self.p.length,
            headers: header::describe(self.p.header.get(..96).unwrap_or(&self.p.header)),
            steps: self.list,
            dropped: self.p.dropped().map(|reason| reason.name().to_owned()),
            out,
        }
    }

    /// The ports that it was sent to.
    fn leaves_by(&self) -> Vec<PortId> {
        match self.p.judgement.map(|j| j.verdict) {
            Some(Verdict::Forward(to)) => vec![to],
            Some(Verdict::Flood) => self.p.receivers.iter().filter(|r| r.refused.is_none()).map(|r| r.port).collect(),
            _ => Vec::new(),
        }
    }

    fn all(&mut self, cached: String, traced: Option<&Traced>) {
        let Some(j) = self.p.judgement else {
            let why = self.p.dropped().map_or("it was not judged", DropReason::text);
            self.push("parse", Said::Drop, why);
            return self.result();
        };
        // A flood ends at each of its ports by itself.
        let end = self.p.dropped().filter(|_| j.verdict != Verdict::Flood).map(|reason| stage_of(reason, &j));
        self.push("parse", Said::Pass, words::parsed(&self.p.parsed));
        self.push("flow-cache", Said::Note, cached);
        self.ingress(&j, end);
        if j.rx_sessions != 0 {
            let text = format!("as received, for monitor session {}", self.teller.sessions(j.rx_sessions));
            self.push("copy", Said::Note, text);
        }
        if j.admitted {
            self.bridge(&j, end);
            match j.verdict {
                Verdict::Flood => self.flood(),
                _ => self.egress(&j, end),
            }
        }
        self.sent(&j, traced);
        self.result();
    }

    /// A stage that passes, or drops if the frame ended there; not told when it ended before.
    fn stage(&mut self, stage: Stage, end: Option<Stage>, pass: Step) {
        match end {
            Some(end) if end < stage => {}
            Some(end) if end == stage => {
                let why = self.p.dropped().map_or("", DropReason::text);
                let text = match pass.port.and_then(|name| self.teller.down(name)) {
                    Some(state) if matches!(stage, Stage::Port | Stage::Egress) => format!("{why}: {state}"),
                    _ => why.to_owned(),
                };
                self.list.push(Step { said: Said::Drop, text, ..pass });
            }
            _ => self.list.push(pass),
        }
    }

    fn ingress(&mut self, j: &Judgement, end: Option<Stage>) {
        let teller = self.teller;
        let from = teller.snapshot.port(self.p.port);
        let kind = if from.is_some_and(|from| from.config.uplink) { "up, an uplink" } else { "up" };
        let port = teller.plan.name(self.p.port);
        self.stage(Stage::Port, end, Step { port, ..step("port", Said::Pass, kind) });
        let vlan = words::vlan(j.vlan, from, &self.p.parsed);
        self.stage(Stage::Vlan, end, step("vlan", Said::Pass, vlan));
        let action = if end == Some(Stage::AclIn) { Action::Deny } else { Action::Permit };
        let (rule, text) = (teller.rule(j.rule_in, action), words::permitted(from, j, &self.p.parsed));
        self.stage(Stage::AclIn, end, Step { port, rule, ..step("acl-in", Said::Pass, text) });
    }

    fn bridge(&mut self, j: &Judgement, end: Option<Stage>) {
        let teller = self.teller;
        let (source, destination) = (self.p.parsed.key.src_mac(), self.p.parsed.key.dst_mac());
        let here = Some(self.p.port);
        let learned = match self.p.source {
            None => format!("{source} is new: learned here"),
            Some(known) if known.port == here => format!("{source} is known here"),
            Some(known) if known.is_static => format!("{source} stays where it is: {}", teller.known(known)),
            Some(known) => format!("{source} has moved here: it was {}", teller.known(known)),
        };
        self.stage(Stage::Learn, end, step("learn", Said::Pass, learned));
        let many = matches!(destination.0, [first, ..] if first & 1 == 1);
        let found = match (self.p.destination, j.out) {
            (Some(known), _) => format!("{destination} is {}", teller.known(known)),
            (None, _) if many => format!("{destination} is for many: to all ports of the VLAN"),
            (None, _) => format!("{destination} is not known: to all ports of the VLAN"),
        };
        self.stage(Stage::Lookup, end, step("lookup", Said::Pass, found));
    }

    fn flood(&mut self) {
        let teller = self.teller;
        for receiver in self.p.receivers.clone() {
            let (said, text) = match receiver.refused {
                Some(reason) => (Said::Drop, reason.text()),
                None => (Said::Pass, "may have it"),
            };
            let action = if said == Said::Drop { Action::Deny } else { Action::Permit };
            let rule = teller.rule(receiver.rule, action);
            let port = teller.plan.name(receiver.port);
            self.list.push(Step { port, rule, ..step("flood", said, text) });
        }
        if self.p.receivers.is_empty() {
            self.push("flood", Said::Drop, DropReason::NoDestination.text());
        }
        if self.p.more_receivers > 0 {
            let text = format!("and {} more ports, which are not told one by one", self.p.more_receivers);
            self.push("flood", Said::Note, text);
        }
    }

    fn egress(&mut self, j: &Judgement, end: Option<Stage>) {
        let Some(out) = j.out else { return };
        let (teller, port) = (self.teller, self.teller.plan.name(out));
        let to = teller.snapshot.port(out);
        let vlan = j.vlan.map_or(0, VlanId::get);
        let carries = format!("up, and carries VLAN {vlan}");
        self.stage(Stage::Egress, end, Step { port, ..step("egress", Said::Pass, carries) });
        let apart = words::apart(teller.snapshot, self.p, to);
        self.stage(Stage::Isolation, end, step("isolation", Said::Pass, apart));
        let action = if end == Some(Stage::AclOut) { Action::Deny } else { Action::Permit };
        let (rule, text) = (teller.rule(j.rule_out, action), words::permitted_out(to, j, &self.p.parsed));
        self.stage(Stage::AclOut, end, Step { port, rule, ..step("acl-out", Said::Pass, text) });
        self.stage(Stage::Mtu, end, step("mtu", Said::Pass, words::mtu(self.p, to)));
    }

    /// What leaves, and who looks on.
    fn sent(&mut self, j: &Judgement, traced: Option<&Traced>) {
        let teller = self.teller;
        for port in self.leaves_by() {
            let Some(to) = teller.snapshot.port(port) else { continue };
            if self.p.dropped().is_some_and(|reason| stage_of(reason, j) == Stage::Send) {
                let why = self.p.dropped().map_or("", DropReason::text);
                self.list.push(Step { port: teller.plan.name(port), ..step("send", Said::Drop, why) });
                continue;
            }
            if self.p.dropped().is_some() {
                continue;
            }
            let change = change(to, j.vlan, self.p);
            let frames = traced.map(|traced| traced.sent.iter().filter(|s| s.port == port && !s.copy).count());
            let parts =
                frames.filter(|frames| *frames > 1).map(|n| format!(", cut into {n} frames")).unwrap_or_default();
            let text = format!("{change}{parts}");
            self.list.push(Step { port: teller.plan.name(port), ..step("send", Said::Pass, text) });
        }
        let later = self.p.copied & !j.rx_sessions;
        if later != 0 {
            self.push("copy", Said::Note, format!("as sent, for monitor session {}", teller.sessions(later)));
        }
        let flooded = |set, receiver: &told::Receiver| {
            let port = teller.snapshot.port(receiver.port).filter(|_| receiver.refused.is_none());
            set | port.map_or(0, |port| port.monitors_out)
        };
        let monitors = j.monitors_in | j.monitors_out | self.p.receivers.iter().fold(0, flooded);
        if monitors != 0 {
            let text = format!("counted by flow monitor {}", teller.monitors(monitors));
            self.push("meter", Said::Note, text);
        }
    }

    fn result(&mut self) {
        match self.p.dropped() {
            Some(reason) => {
                let rule = self.teller.rule(self.p.rule, Action::Deny);
                let text = format!("dropped as {}: {}", reason.name(), reason.text());
                self.list.push(Step { rule, ..step("result", Said::Drop, text) });
            }
            None => {
                let names: Vec<String> = self.leaves_by().into_iter().map(|port| self.teller.name(port)).collect();
                self.push("result", Said::Pass, format!("leaves by {}", names.join(", ")));
            }
        }
    }
}

/// What becomes of the tag.
fn change(to: &PortPolicy, vlan: Option<VlanId>, p: &told::Passage) -> String {
    let Some(vlan) = vlan else { return "as it came".to_owned() };
    match rewrite(to, vlan, &p.parsed) {
        Rewrite::Keep => "as it came".to_owned(),
        Rewrite::Push(tci) => format!("with a tag, VLAN {}", tci & 0xfff),
        Rewrite::Pop => "without its tag".to_owned(),
        Rewrite::Replace(tci) => format!("with another tag, VLAN {}", tci & 0xfff),
    }
}

#[cfg(test)]
mod tests;
