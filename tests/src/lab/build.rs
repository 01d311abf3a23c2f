//! Building a lab: networks, supervisor, agents, ports, configuration, and the wait until everything forwards.

use std::fs;
use std::time::Duration;

use super::config;
use super::plan::{
    COLLECTOR_ADDRESS, Host, IPFIX_PORT, MGMT, MGMT_MTU, NETFLOW_PORT, Plan, SPAN_DEVICE, SPAN_PROFILE, UPLINK,
    UPLINK_PROFILE, VSM_ADDRESS, Vm,
};
use super::{Lab, wait};
use crate::agent::{Agent, Attachment};
use crate::command::{Run, installed};
use crate::error::{Error, Result, Tried};
use crate::netns::{self, ip};
use crate::ping;

/// Programs without which there is no lab, and the Debian package of each.
const PROGRAMS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("snmpd", "snmpd"),
    ("ping", "iputils-ping"),
    ("nfcapd", "nfdump"),
    ("setsid", "util-linux"),
    ("timeout", "coreutils"),
];
const READY: Duration = Duration::from_secs(15);

/// Builds the lab of a plan. `progress` gets a line per step. A lab that can't be built is removed again; then the
/// error holds the end of the log of the part that failed.
pub fn up(plan: Plan, progress: &mut dyn FnMut(&str)) -> Result<Lab> {
    prerequisites(&plan)?;
    let mut lab = Lab::claim(plan)?;
    let mut part = "vsm".to_owned();
    match build(&mut lab, progress, &mut part) {
        Ok(()) => Ok(lab),
        Err(error) => {
            let log = lab.log_end(&part, 20);
            let log = if log.is_empty() { String::new() } else { format!("\nend of the log of {part}:\n{log}") };
            let cleaned = lab.down().err().map(|e| format!("\nand it could not be removed: {e}")).unwrap_or_default();
            Err(Error::State(format!("{error}{log}{cleaned}")))
        }
    }
}

fn prerequisites(plan: &Plan) -> Result<()> {
    for (program, package) in PROGRAMS {
        if !installed(program) {
            return Err(Error::State(format!("{program} is not installed (package {package}); run `make deps`")));
        }
    }
    if let Some(reason) = netns::unable() {
        return Err(Error::State(format!("the lab {reason}")));
    }
    for name in ["vsm", "vem", "lab"] {
        let path = plan.bin.join(name);
        if !path.is_file() {
            return Err(Error::State(format!("{} is not built; run `cargo build --release`", path.display())));
        }
    }
    Ok(())
}

fn build(lab: &mut Lab, progress: &mut dyn FnMut(&str), part: &mut String) -> Result<()> {
    let plan = lab.plan.clone();
    progress("networks");
    folders(&plan)?;
    networks(&plan)?;
    progress("collectors");
    *part = "collector".to_owned();
    collectors(lab)?;
    progress("VSM");
    *part = "vsm".to_owned();
    lab.start_vsm()?;
    let console = lab.console();
    answers(lab, "vsm", "an answer of the VSM's console", || console.show("show version"))?;
    console.run(&config::start())?;
    *part = "snmpd".to_owned();
    lab.start_snmp()?;
    answers(lab, "relay-udp", "the address of the switch's SNMP", || {
        fs::read_to_string(plan.snmp_file()).tried(format!("{}", plan.snmp_file().display()))
    })?;
    *part = "relay".to_owned();
    lab.start_relays()?;
    for (service, _) in config::services() {
        let file = plan.address_file(service);
        answers(lab, &format!("relay-{service}"), &format!("the address of the switch's {service}"), || {
            fs::read_to_string(&file).tried(format!("{}", file.display()))
        })?;
    }
    for host in &plan.hosts {
        progress(&format!("VEM of {}", host.name));
        *part = host.name.clone();
        enrol(&plan, host)?;
        lab.start_vem(host)?;
        let agent = Agent::of(&plan, host);
        answers(lab, &super::vem_role(host), &format!("an answer of the VEM of {}", host.name), || agent.ports())?;
        agent.attach(&Attachment {
            profile: UPLINK_PROFILE,
            device: UPLINK,
            kind: "netdev",
            uplink: Some(1),
            ..Attachment::default()
        })?;
        for vm in plan.vms.iter().filter(|v| v.host == host.name) {
            attach_vm(&plan, vm)?;
        }
        attach_span(&plan, host)?;
    }
    progress("monitor session");
    *part = "vsm".to_owned();
    console.run(&config::mirror(&span_ports(&plan)?))?;
    progress("waiting until every VM reaches every other");
    ping::all_pairs_reach(&plan.vms, Duration::from_secs(20))?;
    lab.complete = true;
    lab.save()
}

/// Waits for an answer of a process, but not for one that has ended.
fn answers<T>(lab: &Lab, role: &str, what: &str, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    wait(what, READY, || {
        let alive = lab.process(role).is_some_and(|p| p.alive());
        if alive { ask().map(|a| Some(Ok(a))) } else { Ok(Some(Err(Error::State(format!("{role} ended"))))) }
    })?
}

fn folders(plan: &Plan) -> Result<()> {
    let mut folders = vec![plan.folder("log"), plan.vsm_state(), plan.netflow_dir(), plan.ipfix_dir()];
    folders.extend(plan.hosts.iter().map(|h| plan.folder(&h.name).join("state")));
    for folder in folders {
        fs::create_dir_all(&folder).tried(format!("{}", folder.display()))?;
    }
    let write = |path: std::path::PathBuf, text: String| fs::write(&path, text).tried(format!("{}", path.display()));
    write(plan.vsm_config(), config::vsm(plan))?;
    for host in &plan.hosts {
        write(plan.vem_config(host), config::vem(plan, host))?;
    }
    Ok(())
}

fn networks(plan: &Plan) -> Result<()> {
    for name in plan.namespaces() {
        netns::add(&name)?;
    }
    let mgmt = plan.mgmt_netns();
    bridge(&mgmt, "br0")?;
    let mut members = vec![
        ("vsm".to_owned(), plan.vsm_netns(), VSM_ADDRESS),
        ("coll".to_owned(), plan.collector_netns(), COLLECTOR_ADDRESS),
    ];
    members.extend(plan.hosts.iter().map(|h| (h.name.clone(), h.netns.clone(), h.address)));
    for (name, space, address) in members {
        // A network that carries whole copies: ERSPAN adds 50 octets to a frame and is not cut on the way.
        ip(&mgmt, &format!("link add {name} mtu {MGMT_MTU} type veth peer name {MGMT} mtu {MGMT_MTU} netns {space}"))?;
        ip(&mgmt, &format!("link set {name} master br0 up"))?;
        ip(&space, &format!("addr add {address}/24 dev {MGMT}"))?;
        ip(&space, &format!("link set {MGMT} up"))?;
    }
    trunks(plan)?;
    // One interface over the SPAN ports of all hosts. Its members don't talk to each other: nothing flows back.
    bridge(&plan.ids_netns(), SPAN_DEVICE)?;
    ip(&plan.ids_netns(), &format!("link set {SPAN_DEVICE} promisc on")).map(drop)
}

/// A bridge that passes every frame on and says nothing itself.
fn bridge(space: &str, name: &str) -> Result<()> {
    ip(space, &format!("link add {name} type bridge stp_state 0 mcast_snooping 0"))?;
    netns::within(space, || {
        let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
        if std::path::Path::new(&path).exists() { fs::write(&path, "1").tried(path) } else { Ok(()) }
    })?;
    ip(space, &format!("link set {name} up")).map(drop)
}

fn trunks(plan: &Plan) -> Result<()> {
    if let ([a, b], false) = (plan.hosts.as_slice(), plan.has_wire()) {
        let words = format!("link add {UPLINK} type veth peer name {UPLINK} netns {}", b.netns);
        ip(&a.netns, &words)?;
    } else {
        let wire = plan.wire_netns();
        bridge(&wire, "br0")?;
        for host in &plan.hosts {
            ip(&wire, &format!("link add {} type veth peer name {UPLINK} netns {}", host.name, host.netns))?;
            ip(&wire, &format!("link set {} master br0 up", host.name))?;
        }
    }
    for host in &plan.hosts {
        ip(&host.netns, &format!("link set {UPLINK} up"))?;
    }
    Ok(())
}

fn collectors(lab: &mut Lab) -> Result<()> {
    let netns = lab.plan.collector_netns();
    let address = COLLECTOR_ADDRESS.to_string();
    for (role, port, dir) in
        [("collector", NETFLOW_PORT, lab.plan.netflow_dir()), ("ipfix", IPFIX_PORT, lab.plan.ipfix_dir())]
    {
        let (port, dir, log) = (port.to_string(), dir.display().to_string(), lab.plan.log(role));
        // A new file every two seconds: what has been received can be read soon.
        lab.start(
            role,
            &netns,
            &["nfcapd", "-b", &address, "-p", &port, "-w", &dir, "-t", "2", "-B", "4194304"],
            &log,
        )?;
    }
    for role in ["collector", "ipfix"] {
        let alive = || Ok(lab.process(role).is_some_and(|p| p.alive()).then_some(()));
        wait(&format!("start of {role}"), Duration::from_secs(2), alive)?;
    }
    Ok(())
}

fn enrol(plan: &Plan, host: &Host) -> Result<()> {
    let printed = Run::new("")
        .arg(plan.bin.join("vsm").display().to_string())
        .args("enroll --config")
        .arg(plan.vsm_config().display().to_string())
        .netns(&plan.vsm_netns())
        .text()?;
    let token = printed.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or_default();
    if token.is_empty() {
        return Err(Error::Unreadable { what: "vsm enroll".to_owned(), reason: "no token".to_owned() });
    }
    Run::new("")
        .arg(plan.bin.join("vem").display().to_string())
        .args("enroll --token")
        .arg(token)
        .arg("--config")
        .arg(plan.vem_config(host).display().to_string())
        .netns(&host.netns)
        .text()
        .map(drop)
}

/// Gives a VM its card and its address.
pub fn attach_vm(plan: &Plan, vm: &Vm) -> Result<()> {
    attach_with(plan, vm, &vm.profile)
}

/// What the server administrator does to give a VM another profile: takes its card out, and puts it in again. It keeps
/// its interface, but the guest has to set it up anew.
pub fn move_vm(plan: &Plan, vm: &Vm, profile: &str) -> Result<()> {
    Agent::of(plan, plan.host(&vm.host)?).detach(&vm.ifname)?;
    attach_with(plan, vm, profile)
}

fn attach_with(plan: &Plan, vm: &Vm, profile: &str) -> Result<()> {
    Agent::of(plan, plan.host(&vm.host)?).attach(&Attachment {
        profile,
        device: &vm.ifname,
        kind: "tap",
        netns: Some(&vm.netns),
        vm: Some(&vm.name),
        mac: Some(&vm.mac),
        ..Attachment::default()
    })?;
    address_vm(vm)
}

/// What a guest's own start would do: address, up.
pub fn address_vm(vm: &Vm) -> Result<()> {
    let device = &vm.ifname;
    ip(&vm.netns, &format!("link set {device} address {} up", vm.mac))?;
    ip(&vm.netns, &format!("addr replace {}/24 dev {device}", vm.ip)).map(drop)
}

fn attach_span(plan: &Plan, host: &Host) -> Result<()> {
    let (ids, device) = (plan.ids_netns(), &host.span_device);
    Agent::of(plan, host).attach(&Attachment {
        profile: SPAN_PROFILE,
        device,
        kind: "tap",
        netns: Some(&ids),
        vm: Some(&format!("ids-{}", host.name)),
        ..Attachment::default()
    })?;
    ip(&ids, &format!("link set {device} master {SPAN_DEVICE} up"))?;
    ip(&ids, &format!("link set {device} type bridge_slave isolated on learning off")).map(drop)
}

/// The interfaces of the SPAN ports.
pub fn span_ports(plan: &Plan) -> Result<Vec<String>> {
    plan.hosts
        .iter()
        .map(|host| {
            let agent = Agent::of(plan, host);
            wait(&format!("a number for {}", host.span_device), READY, || agent.interface(&host.span_device))
        })
        .collect()
}
