//! What this host really runs, for the supervisor's audit: read back from the dataplane and from the disk, not from what
//! was sent.
//!
//! The dataplane's snapshot gives VLANs, access lists and what each port does; the rest of the configuration (profiles,
//! flow export, sessions) is what the agent works with. What the supervisor can't see by comparing configurations is told
//! as a fault: a stored file that is not what runs, a device that is gone or bounds its port.

use proto::config::{Capability, HostConfig, PortBinding, PortSettings};
use proto::flow::Sampling;
use proto::msg::MESSAGE_MAX;
use proto::name::IfName;
use proto::report::Applied;
use vswitch::snapshot::{PortPolicy, Snapshot};

use crate::apply::{self, PortPlan};
use crate::attach::Attachment;
use crate::headless::LastGood;
use crate::switch::{Live, Switch};

/// Room in the answer for what is not the configuration.
const OVERHEAD: usize = 256 << 10;
/// Most faults that are told one by one.
const FAULTS_MAX: usize = 1000;

/// Answers [`proto::query::Query::Applied`].
pub fn applied(switch: &Switch) -> Applied {
    let (version, hash) = switch.applied();
    let mut faults = stored(switch);
    faults.extend(switch.ports().filter_map(|(port, live)| device(switch, port, live)));
    if faults.len() > FAULTS_MAX {
        let more = faults.len() - FAULTS_MAX;
        faults.truncate(FAULTS_MAX);
        faults.push(format!("{more} more"));
    }
    let config = switch.host_config().map(|host| LastGood::of(version, &running(switch, host)).config);
    let config = config.filter(|octets| octets.len() <= MESSAGE_MAX - OVERHEAD);
    if config.is_none() && switch.host_config().is_some() {
        faults.push("the configuration is too large to be told".to_owned());
    }
    Applied { version, hash, config, faults }
}

/// The configuration as the dataplane has it.
fn running(switch: &Switch, host: &HostConfig) -> HostConfig {
    let snapshot = switch.control().running();
    let port = |binding: &PortBinding| {
        let (attachment, _) = switch.ports().find(|(port, _)| port.nic == binding.nic)?;
        let plan = switch.plan().port(attachment.port())?;
        let policy = snapshot.port(attachment.port())?;
        Some(PortBinding {
            name: plan.name.unwrap_or(binding.name),
            profile: plan.profile.clone(),
            settings: settings(switch, plan, policy),
            ..binding.clone()
        })
    };
    HostConfig {
        vlans: snapshot.vlans.clone(),
        mac_aging_s: u32::try_from(snapshot.mac_aging.as_secs()).unwrap_or(u32::MAX),
        acls: snapshot.acls().cloned().collect(),
        protected_macs: protected(&snapshot, host),
        ports: host.ports.iter().filter_map(port).collect(),
        ..host.clone()
    }
}

/// In the order in which they came, as far as they are there.
fn protected(snapshot: &Snapshot, host: &HostConfig) -> Vec<proto::addr::MacAddr> {
    host.protected_macs.iter().copied().filter(|mac| snapshot.is_protected(*mac)).collect()
}

fn settings(switch: &Switch, plan: &PortPlan, policy: &PortPolicy) -> PortSettings {
    let monitor = |set: u32| {
        let index = usize::try_from(set.trailing_zeros()).ok().filter(|_| set != 0)?;
        switch.plan().numbers.monitors.iter().nth(index).flatten().map(str::to_owned)
    };
    let ([ip_in, mac_in], [ip_out, mac_out]) = (policy.acl_in.names(), policy.acl_out.names());
    // A list or monitor that does not exist has no effect, and is no difference.
    let or_named = |runs: Option<String>, named: &Option<String>, exists: bool| match (runs, named) {
        (None, Some(name)) if !exists => Some(name.clone()),
        (runs, _) => runs,
    };
    let host = switch.host_config();
    let is_list =
        |name: &Option<String>| host.is_some_and(|host| host.acls.iter().any(|acl| Some(&acl.name) == name.as_ref()));
    let is_monitor =
        |name: &Option<String>| host.is_some_and(|host| host.monitors.iter().any(|m| Some(&m.name) == name.as_ref()));
    let set = &plan.settings;
    let list = |runs: Option<&str>, named: &Option<String>| or_named(runs.map(str::to_owned), named, is_list(named));
    let flow = |runs: u32, named: &Option<String>| or_named(monitor(runs), named, is_monitor(named));
    // Another one that does the same is no difference either.
    let sampler = |runs: Sampling, named: &Option<String>| {
        let samplers = || host.into_iter().flat_map(|host| host.samplers.iter().flatten());
        match host.map(|host| apply::sampling(host, named)) {
            Some(wanted) if wanted == runs => named.clone(),
            _ => samplers().find(|sampler| sampler.sampling() == runs).map(|sampler| sampler.name.clone()),
        }
    };
    let [sampling_in, sampling_out] = policy.config.sampling;
    PortSettings {
        sampler_in: sampler(sampling_in, &set.sampler_in),
        sampler_out: sampler(sampling_out, &set.sampler_out),
        mode: policy.config.mode.clone(),
        protected: policy.config.protected,
        ip_acl_in: list(ip_in, &set.ip_acl_in),
        ip_acl_out: list(ip_out, &set.ip_acl_out),
        mac_acl_in: list(mac_in, &set.mac_acl_in),
        mac_acl_out: list(mac_out, &set.mac_acl_out),
        flow_in: flow(policy.monitors_in, &set.flow_in),
        flow_out: flow(policy.monitors_out, &set.flow_out),
        capability: match (policy.sensor, policy.monitor_in) {
            (true, _) => Some(Capability::IdsSensor),
            (false, true) => Some(Capability::MonitorIn),
            (false, false) => None,
        },
        // A smaller device bounds it; that is told as a fault.
        mtu: if policy.config.mtu == plan.mtu { set.mtu } else { policy.config.mtu },
        ..set.clone()
    }
}

/// What is on the disk is what the host would come back with.
fn stored(switch: &Switch) -> Vec<String> {
    let mut faults = Vec::new();
    let (version, hash) = switch.applied();
    match switch.stored_config() {
        Err(error) => faults.push(format!("stored configuration: {error}")),
        Ok(None) if version == 0 => {}
        Ok(None) => faults.push("stored configuration: the file is gone".to_owned()),
        Ok(Some(last)) if (last.version, last.hash) != (version, hash) => faults.push(format!(
            "stored configuration: version {} (hash {:.12}) is on the disk, version {version} (hash {:.12}) runs",
            last.version,
            last.hash.to_string(),
            hash.to_string()
        )),
        Ok(Some(_)) => {}
    }
    match switch.stored_ports_match() {
        Ok(true) => {}
        Ok(false) => faults.push("stored ports: the file is not what is attached".to_owned()),
        Err(error) => faults.push(format!("stored ports: {error}")),
    }
    faults
}

fn device(switch: &Switch, port: &Attachment, live: &Live) -> Option<String> {
    let plan = switch.plan().port(port.port())?;
    let name = plan.name.map_or_else(|| port.nic.to_string(), |name: IfName| name.to_string());
    let runs = switch.control().running().port(port.port()).is_some_and(|policy| policy.config.up);
    match () {
        () if !live.open => {
            let why = live.problem.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            Some(format!("{name}: device {} is gone{why}", port.device))
        }
        () if plan.state == proto::report::PortState::Up && !runs => Some(format!("{name}: does not forward")),
        () if plan.mtu < plan.settings.mtu => Some(format!(
            "{name}: device {} takes packets of {} octets, configured are {}",
            port.device, plan.mtu, plan.settings.mtu
        )),
        () => None,
    }
}
