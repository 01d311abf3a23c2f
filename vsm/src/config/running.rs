//! The running configuration as CLI text.
//!
//! The text is read by people, by management tools, and by [`super::startup::load`], which must get the same model back.
//! So it prints what was said and nothing else, in one canonical spelling and in a stable order: what is referred to
//! stands before what refers to it. Lines of a sub-mode are indented by two blanks. The built-in profiles and VLAN 1,
//! which can't change, are not printed. `show running-config all` fills in the defaults.

use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::addr::VlanId;
use proto::flow::{Transport, Version};
use proto::name::IfName;
use proto::vlan::VlanSet;

use super::aaa;
use super::compile::{
    ACTIVE_S, EXPORT_MTU, INACTIVE_S, OPTION_TIMEOUT_S, SEND_BUFFER, TEMPLATE_PACKETS, TEMPLATE_TIMEOUT_S,
};
use super::flow::{aggregation_line, default_port, mode_line, transport_word};
use super::model::{
    FlowExporter, FlowMonitor, Interface, MAC_AGING_S, Model, MonitorSession, Profile, Settings, is_builtin,
};
use super::profile::{MTU, capability_word, kind_word};
use super::role;
use super::rule;
use super::user;

/// What `show running-config` is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "lives as long as a command")]
pub enum Part {
    /// Everything that was said.
    Whole,
    /// Everything, with the defaults.
    All,
    /// The blocks of these interfaces.
    Interfaces(Vec<IfName>),
    /// The block of one profile, or of all.
    Profiles(Option<String>),
    /// These VLANs, or all.
    Vlans(Option<VlanSet>),
    /// Access lists, and where they are applied.
    AccessLists,
    /// Records, exporters and monitors, and where they are applied.
    Netflow,
    /// Monitor sessions.
    Monitor,
    /// Lines that begin so.
    Lines(&'static str),
}

/// The part under its header: `!Command:`, `!Time:` (UTC) and `version`.
pub fn text(model: &Model, part: &Part, command: &str, now: SystemTime) -> String {
    headed(&body(model, part), command, now)
}

/// A part that is there already, under its header.
pub fn headed(body: &str, command: &str, now: SystemTime) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("!Command: {command}\n!Time: {}\n\nversion {version}\n{body}", date(now))
}

/// The part without a header.
pub fn body(model: &Model, part: &Part) -> String {
    let mut out = Text { text: String::new(), all: *part == Part::All };
    match part {
        Part::Whole | Part::All => whole(&mut out, model),
        Part::Interfaces(names) => {
            let found = names.iter().filter_map(|name| Some((name, model.interfaces.get(name)?)));
            found.for_each(|(name, interface)| out.interface(model, *name, interface));
        }
        Part::Profiles(None) => profiles(&mut out, model),
        Part::Profiles(Some(name)) => {
            if let Some(profile) = model.profiles.get(name) {
                out.profile(model, name, profile);
            }
        }
        Part::Vlans(only) => vlans(&mut out, model, only.as_ref()),
        Part::AccessLists => {
            acls(&mut out, model);
            out.uses(model, acl_lines);
        }
        Part::Netflow => {
            flow(&mut out, model);
            out.uses(model, flow_lines);
        }
        Part::Lines(start) => {
            let whole = body(model, &Part::Whole);
            whole.lines().filter(|line| line.starts_with(start)).for_each(|line| out.line(0, line));
        }
        Part::Monitor => model.sessions.iter().for_each(|(id, session)| out.session(*id, session)),
    }
    out.text
}

fn whole(out: &mut Text, model: &Model) {
    out.line(0, format_args!("hostname {}", model.hostname));
    for (name, role) in &model.roles {
        role::lines(name, role).iter().for_each(|(depth, line)| out.line(*depth, line));
    }
    for (name, user) in &model.users {
        user::lines(name, user).iter().for_each(|line| out.line(0, line));
    }
    model.logging.lines().iter().for_each(|line| out.line(0, line));
    aaa::lines(&model.aaa).iter().for_each(|(depth, line)| out.line(*depth, line));
    out.blank();
    vlans(out, model, None);
    if out.all {
        out.line(0, "system default switchport");
        out.line(0, "no system default switchport shutdown");
    }
    if let Some(id) = model.domain_id {
        out.blank();
        out.line(0, "svs-domain");
        out.line(1, format_args!("domain id {id}"));
    }
    for (slot, uuid) in &model.vems {
        out.line(0, format_args!("vem {slot}"));
        out.line(1, format_args!("host id {uuid}"));
    }
    acls(out, model);
    flow(out, model);
    profiles(out, model);
    for (name, interface) in &model.interfaces {
        out.interface(model, *name, interface);
    }
    macs(out, model);
    for (id, session) in &model.sessions {
        out.session(*id, session);
    }
    lines(out, model);
}

fn lines(out: &mut Text, model: &Model) {
    let lines = model.lines.text(out.all);
    if !lines.is_empty() {
        out.blank();
    }
    lines.into_iter().for_each(|(depth, line)| out.line(depth, line));
}

fn vlans(out: &mut Text, model: &Model, only: Option<&VlanSet>) {
    let is_wanted = |id: &VlanId| only.is_none_or(|only| only.contains(*id));
    let ids: VlanSet = model.vlans.keys().filter(|id| is_wanted(id)).copied().collect();
    if !ids.is_empty() {
        out.line(0, format_args!("vlan {ids}"));
    }
    let said =
        model.vlans.iter().filter(|(id, _)| is_wanted(id)).filter(|(_, v)| v.own_name.is_some() || !v.is_active());
    for (id, vlan) in said {
        out.line(0, format_args!("vlan {id}"));
        out.said("name", &vlan.own_name);
        out.flag("state suspend", vlan.suspended);
        out.flag("shutdown", vlan.shutdown);
    }
}

fn acls(out: &mut Text, model: &Model) {
    for (name, list) in &model.acls {
        out.blank();
        out.line(0, format_args!("{} access-list {name}", if list.entries.is_ip() { "ip" } else { "mac" }));
        out.flag("statistics per-entry", list.statistics);
        for (sequence, entry) in rule::entries(list) {
            out.line(1, format_args!("{sequence} {entry}"));
        }
    }
}

fn flow(out: &mut Text, model: &Model) {
    for (name, record) in &model.records {
        out.blank();
        out.line(0, format_args!("flow record {name}"));
        out.said("description", &record.description);
        record.items.iter().for_each(|item| out.line(1, item.line));
    }
    for (name, exporter) in &model.exporters {
        out.exporter(name, exporter);
    }
    for (name, monitor) in &model.monitors {
        out.monitor(name, monitor);
    }
    for (name, sampler) in &model.samplers {
        out.blank();
        out.line(0, format_args!("sampler {name}"));
        out.said("description", &sampler.description);
        sampler.mode.iter().for_each(|mode| out.line(1, mode_line(*mode)));
    }
    if !model.internal_prefixes.is_empty() || model.flow_store.is_some() || model.as_file.is_some() {
        out.blank();
    }
    if let Some(store) = model.flow_store {
        let size = store.size_mib.map(|mib| format!(" size {mib}")).unwrap_or_default();
        let keep = store.keep_h.map(|hours| format!(" keep {hours}")).unwrap_or_default();
        out.line(0, format_args!("flow-store{size}{keep}{}", if store.ecs { " ecs" } else { "" }));
    }
    if let Some(file) = &model.as_file {
        out.line(0, format_args!("flow as-file bootflash:{file}"));
    }
    model.internal_prefixes.iter().for_each(|prefix| out.line(0, format_args!("flow internal-prefix {prefix}")));
}

/// Parents before children, else by name.
fn profiles(out: &mut Text, model: &Model) {
    let mut names: Vec<(usize, &String)> =
        model.profiles.keys().map(|name| (model.lineage(name).len(), name)).collect();
    names.sort();
    for (_, name) in names {
        if let Some(profile) = model.profiles.get(name).filter(|_| !is_builtin(name)) {
            out.profile(model, name, profile);
        }
    }
}

fn macs(out: &mut Text, model: &Model) {
    let aging = (out.all || model.mac_aging_s != MAC_AGING_S).then_some(model.mac_aging_s);
    if aging.is_some() || !model.static_macs.is_empty() {
        out.blank();
    }
    if let Some(aging) = aging {
        out.line(0, format_args!("mac address-table aging-time {aging}"));
    }
    for ((vlan, mac), port) in &model.static_macs {
        match port {
            Some(port) => out.line(0, format_args!("mac address-table static {mac} vlan {vlan} interface {port}")),
            None => out.line(0, format_args!("mac address-table static {mac} vlan {vlan} drop")),
        }
    }
}

/// The text so far, and whether defaults are printed too.
struct Text {
    text: String,
    all: bool,
}

impl Text {
    fn line(&mut self, depth: usize, line: impl Display) {
        self.text += &"  ".repeat(depth);
        self.text += &line.to_string();
        self.text.push('\n');
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }

    /// `word value`, when it was said.
    fn said(&mut self, word: &str, value: &Option<impl Display>) {
        if let Some(value) = value {
            self.line(1, format_args!("{word} {value}"));
        }
    }

    /// As [`Text::said`], or with the default when defaults are wanted.
    fn said_or<T: Display + Copy>(&mut self, word: &str, value: Option<T>, default: T) {
        self.said(word, &value.or(self.all.then_some(default)));
    }

    fn flag(&mut self, line: &str, said: bool) {
        if said {
            self.line(1, line);
        }
    }

    fn profile(&mut self, model: &Model, name: &str, profile: &Profile) {
        self.blank();
        self.line(0, format_args!("port-profile type {} {name}", kind_word(profile.kind)));
        self.said("description", &profile.description);
        self.said("inherit port-profile", &profile.inherit);
        self.settings(&profile.own, || model.inherited_settings(name));
        self.flag("state enabled", profile.enabled);
    }

    fn interface(&mut self, model: &Model, name: IfName, interface: &Interface) {
        self.blank();
        self.line(0, format_args!("interface {name}"));
        self.said("description", &interface.description);
        self.said("attached port-profile", &interface.asked);
        self.said("inherit port-profile", &interface.inherit);
        let inherited = || interface.inherit.as_deref().map(|p| model.inherited_settings(p)).unwrap_or_default();
        self.settings(&interface.own, inherited);
    }

    fn settings(&mut self, own: &Settings, inherited: impl FnOnce() -> Settings) {
        let whole;
        let settings = match self.all {
            true => {
                whole = own.over(&inherited()).over(&defaults());
                &whole
            }
            false => own,
        };
        setting_lines(settings).iter().for_each(|line| self.line(1, line));
    }

    /// Some lines of every profile and interface, in their block.
    fn uses(&mut self, model: &Model, pick: fn(&Settings) -> Vec<String>) {
        let profiles = model.profiles.iter().filter(|(name, _)| !is_builtin(name));
        let profiles = profiles.map(|(name, p)| (format!("port-profile type {} {name}", kind_word(p.kind)), &p.own));
        let interfaces = model.interfaces.iter().map(|(name, i)| (format!("interface {name}"), &i.own));
        for (head, own) in profiles.chain(interfaces) {
            let lines = pick(own);
            if !lines.is_empty() {
                self.blank();
                self.line(0, head);
                lines.iter().for_each(|line| self.line(1, line));
            }
        }
    }

    fn exporter(&mut self, name: &str, exporter: &FlowExporter) {
        self.blank();
        self.line(0, format_args!("flow exporter {name}"));
        self.said("description", &exporter.description);
        for (addr, port) in &exporter.destinations {
            match port {
                Some(port) => self.line(1, format_args!("destination {addr} port {port}")),
                None => self.line(1, format_args!("destination {addr}")),
            }
        }
        self.flag("source mgmt 0", exporter.source_mgmt || self.all);
        let word = transport_word(exporter.transport.unwrap_or(Transport::Udp));
        self.said_or(&format!("transport {word}"), exporter.port, default_port(exporter.transport));
        self.said_or("dscp", exporter.dscp, 0);
        self.said_or("mtu", exporter.mtu, EXPORT_MTU);
        self.said_or("sndbuf", exporter.send_buffer, SEND_BUFFER);
        self.flag("load-balance", exporter.load_balance);
        self.said("rate-limit", &exporter.rate_limit);
        let version = exporter.version.or(self.all.then_some(exporter.format()));
        self.said("version", &version.map(version_word));
        if version.is_some_and(|version| !version.has_templates()) {
            return;
        }
        let times = [
            ("template data timeout", exporter.template_timeout_s, TEMPLATE_TIMEOUT_S),
            ("template data packets", exporter.template_packets, TEMPLATE_PACKETS),
            ("option interface-table timeout", exporter.option_timeout_s, OPTION_TIMEOUT_S),
            ("option sampler-table timeout", exporter.sampler_timeout_s, OPTION_TIMEOUT_S),
            ("option exporter-stats timeout", exporter.statistics_timeout_s, OPTION_TIMEOUT_S),
        ];
        for (word, value, default) in times {
            if let Some(seconds) = value.or(self.all.then_some(default)) {
                self.line(2, format_args!("{word} {seconds}"));
            }
        }
    }

    fn monitor(&mut self, name: &str, monitor: &FlowMonitor) {
        self.blank();
        self.line(0, format_args!("flow monitor {name}"));
        self.said("description", &monitor.description);
        self.said("record", &monitor.record);
        monitor.exporters.iter().for_each(|exporter| self.line(1, format_args!("exporter {exporter}")));
        self.said_or("timeout active", monitor.active_s, ACTIVE_S);
        self.said_or("timeout inactive", monitor.inactive_s, INACTIVE_S);
        self.said("cache entries", &monitor.entries);
        self.said("match filter access-list", &monitor.filter);
        self.said("match filter bpf", &monitor.filter_bpf.as_ref().map(|filter| format!("\"{}\"", filter.text)));
        self.flag("scope once", monitor.once);
        monitor.aggregation.iter().for_each(|rule| self.line(1, aggregation_line(rule)));
        self.flag("biflow", monitor.biflow);
    }

    fn session(&mut self, id: u16, session: &MonitorSession) {
        self.blank();
        self.line(0, format_args!("monitor session {id} type {}", session.kind.word()));
        session.lines().iter().for_each(|line| self.line(1, line));
    }
}

/// The number by which `version` knows the format.
pub fn version_word(version: Version) -> &'static str {
    match version {
        Version::V1 => "1",
        Version::V5 => "5",
        Version::V7 => "7",
        Version::V9 => "9",
        Version::Ipfix => "10",
    }
}

fn defaults() -> Settings {
    Settings {
        admin_up: Some(false),
        trunk: Some(false),
        access_vlan: Some(VlanId::DEFAULT),
        native_vlan: Some(VlanId::DEFAULT),
        allowed_vlans: Some(VlanSet::all()),
        mtu: Some(MTU),
        ..Settings::default()
    }
}

/// What port settings say, a line for each thing said.
pub fn setting_lines(settings: &Settings) -> Vec<String> {
    fn said(word: &str, value: &Option<impl Display>) -> Option<String> {
        value.as_ref().map(|value| format!("{word} {value}"))
    }
    let mode = settings.trunk.map(|trunk| if trunk { "trunk" } else { "access" });
    let mut lines: Vec<String> = [
        said("switchport mode", &mode),
        said("switchport access vlan", &settings.access_vlan),
        said("switchport trunk native vlan", &settings.native_vlan),
        said("switchport trunk allowed vlan", &settings.allowed_vlans),
        settings.protected.then(|| "switchport protected".to_owned()),
        settings.no_cdp.then(|| "no cdp enable".to_owned()),
        settings.capability.map(|capability| format!("capability {}", capability_word(capability))),
    ]
    .into_iter()
    .flatten()
    .collect();
    lines.extend(acl_lines(settings));
    lines.extend(flow_lines(settings));
    lines.extend(said("mtu", &settings.mtu));
    lines.extend(settings.admin_up.map(|up| if up { "no shutdown" } else { "shutdown" }.to_owned()));
    lines
}

/// `ip port access-group NAME in` and the like.
pub fn acl_lines(settings: &Settings) -> Vec<String> {
    let (ip, mac) = settings.acls();
    let lines = |kind: &'static str, names: [Option<&String>; 2]| {
        let named = names.into_iter().zip(["in", "out"]).filter_map(|(name, way)| Some((name?, way)));
        named.map(move |(name, way)| format!("{kind} port access-group {name} {way}")).collect::<Vec<_>>()
    };
    [lines("ip", ip), lines("mac", mac)].concat()
}

/// `ip flow monitor NAME input` and the like.
pub fn flow_lines(settings: &Settings) -> Vec<String> {
    let ways = settings.flow_monitors().into_iter().zip(settings.samplers()).zip(["input", "output"]);
    let line = |((name, sampler), way): ((Option<&String>, Option<&String>), &str)| {
        let sampler = sampler.map(|sampler| format!(" sampler {sampler}")).unwrap_or_default();
        name.map(|name| format!("ip flow monitor {name} {way}{sampler}"))
    };
    ways.filter_map(line).collect()
}

/// `Sat Nov 21 01:14:23 2026`, in UTC. A time before 1970 is shown as its first second.
pub fn date(now: SystemTime) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (mut day, second) = (seconds / 86_400, seconds % 86_400);
    let weekday = DAYS[(day % 7) as usize];
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{weekday} {} {:2} {hour:02}:{minute:02}:{:02} {year}", MONTHS[month], day + 1, second % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates() {
        let at = |s| date(UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(at(951_827_696), "Tue Feb 29 12:34:56 2000");
        assert_eq!(at(1_795_223_663), "Sat Nov 21 01:14:23 2026");
    }

    #[test]
    fn out_of_the_box() {
        let text = text(&Model::default(), &Part::Whole, "show running-config", UNIX_EPOCH);
        let version = env!("CARGO_PKG_VERSION");
        let want = format!(
            "!Command: show running-config\n!Time: Thu Jan  1 00:00:00 1970\n\nversion {version}\nhostname switch\n\nvlan 1\n"
        );
        assert_eq!(text, want);
    }

    #[test]
    fn all_names_the_defaults() {
        let mut model = Model::default();
        model.interfaces.insert(IfName::Vethernet(1), Interface::default());
        let text = body(&model, &Part::All);
        for line in ["system default switchport", "  switchport mode access", "  shutdown", "  mtu 1500"] {
            assert!(text.lines().any(|l| l == line), "{line}");
        }
        assert!(!body(&model, &Part::Whole).contains("mtu"));
    }
}
