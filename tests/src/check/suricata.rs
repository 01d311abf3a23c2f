//! A real Suricata behind the switch: on a SPAN port and behind an ERSPAN session it finds what is to be found, once.
//!
//! A VM fetches a page from another by HTTP. It comes in super-frames with unfinished checksums, as VMs send them; the
//! detector must see the request and the end of the page, put the page together without a gap, and count no packet twice.

use std::time::Duration;

use super::{Report, six};
use crate::command::Run;
use crate::detector::{Detector, Seen};
use crate::error::{Error, Result, Tried, expect};
use crate::lab::plan::{COLLECTOR_ADDRESS, MGMT, SPAN_DEVICE, VLAN, VM_PROFILE, Vm};
use crate::lab::{Lab, wait};
use crate::process::{Process, spawn};

const SESSION: u32 = 21;
/// Fetches of each check.
const FETCHES: u64 = 3;
/// Octets of the page.
const PAGE: usize = 90_000;
const END: &str = "END-OF-PAGE";
/// Rules in Suricata's words: the question, and the last octets of the answer.
const RULES: &str = r#"
alert http any any -> any any (msg:"asked"; flow:established,to_server; http.uri; content:"/page-of-interest"; sid:1;)
alert http any any -> any any (msg:"answered"; flow:established,to_client; file_data; content:"END-OF-PAGE"; sid:2;)
"#;

/// Who talks, how the copies come, and in which VLAN the detector must see them.
struct Case<'a> {
    name: &'static str,
    client: &'a Vm,
    server: &'a Vm,
    session: Vec<String>,
    at: (String, &'static str),
    vlans: String,
}

/// Runs the cases.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let [vm1, vm2, _, vm4, ..] = six(lab)?;
    let words = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let erspan = |source: String| {
        let session = format!("monitor session {SESSION} type erspan-source");
        let (to, id) = (format!("destination ip {COLLECTOR_ADDRESS}"), format!("erspan-id {SESSION}"));
        [vec![session, source, to, id], words(&["no shut"])].concat()
    };
    let sensor = (lab.plan.ids_netns(), SPAN_DEVICE);
    let collector = (lab.plan.collector_netns(), MGMT);
    let tagged = format!("[{VLAN}]");
    // A VLAN is watched at the VM, where frames have no tag, and at the uplink, where they have one.
    let port = crate::lab::build::span_ports(&lab.plan)?.remove(0);
    let session = format!("monitor session {SESSION}");
    let vlan = [session, format!("source vlan {VLAN} rx"), format!("destination interface {port}"), "no shut".into()];
    let cases = [
        Case {
            name: "SPAN: a sensor's port, two VMs of a host",
            client: &vm1,
            server: &vm2,
            session: Vec::new(),
            at: sensor.clone(),
            vlans: String::new(),
        },
        Case {
            name: "SPAN: a VLAN, where one direction has a tag and the other has none",
            client: &vm1,
            server: &vm4,
            session: [words(&["monitor session 1", "shut"]), vlan.to_vec()].concat(),
            at: sensor,
            vlans: String::new(),
        },
        Case {
            name: "ERSPAN: two VMs of a host",
            client: &vm1,
            server: &vm2,
            session: erspan(format!("source port-profile {VM_PROFILE} both")),
            at: collector.clone(),
            vlans: tagged.clone(),
        },
        Case {
            name: "ERSPAN: VMs of two hosts, both of which see every frame",
            client: &vm1,
            server: &vm4,
            session: erspan(format!("source port-profile {VM_PROFILE} both")),
            at: collector,
            vlans: tagged,
        },
    ];
    for case in cases {
        let console = lab.console();
        if !case.session.is_empty() {
            console.configure(&case.session)?;
        }
        report.check(case.name, || {
            let before = resent(&case)?;
            let seen = observed(&case)?;
            judge(&seen, &case.vlans, resent(&case)? - before)
        });
        if !case.session.is_empty() {
            let undo = [format!("no monitor session {SESSION}"), "monitor session 1".to_owned(), "no shut".to_owned()];
            console.configure(&undo)?;
        }
    }
    Ok(())
}

/// What the detector sees of the fetches of a case.
fn observed(case: &Case<'_>) -> Result<Seen> {
    let folder = tempfile::tempdir().tried("a folder for the page")?;
    std::fs::write(folder.path().join("page-of-interest"), "x".repeat(PAGE - END.len()) + END).tried("the page")?;
    let (netns, device) = &case.at;
    let detector = Detector::start(netns, device, RULES)?;
    let server = served(case.server, folder.path())?;
    let fetched = fetch(case);
    server.kill();
    fetched?;
    detector.stop()
}

/// A server of the files of a folder.
fn served(vm: &Vm, folder: &std::path::Path) -> Result<Process> {
    let (address, files) = (vm.ip.to_string(), folder.display().to_string());
    let argv = ["python3", "-m", "http.server", "--bind", &address, "--directory", &files, "80"];
    spawn("web server", Some(&vm.netns), &argv, &folder.join("server.log"))
}

fn fetch(case: &Case<'_>) -> Result<()> {
    let url = format!("http://{}/page-of-interest", case.server.ip);
    // Asked in its own namespace, so that no attempt at a port that is not open yet is seen on the way.
    wait("the web server", Duration::from_secs(10), || {
        let listening = Run::new("ss -Hltn sport = :80").netns(&case.server.netns).text()?;
        Ok((!listening.trim().is_empty()).then_some(()))
    })?;
    for _ in 0..FETCHES {
        let page = Run::new("curl -s -S -f -m 10").arg(&url).netns(&case.client.netns).text()?;
        expect(page.len() == PAGE, || format!("{} octets were fetched", page.len()))?;
    }
    Ok(())
}

/// Segments that the two VMs have sent again.
fn resent(case: &Case<'_>) -> Result<u64> {
    let of = |vm: &Vm| -> Result<u64> {
        let text = Run::new("nstat -asz TcpRetransSegs").netns(&vm.netns).text()?;
        let count = text.lines().find_map(|line| line.strip_prefix("TcpRetransSegs")?.split_whitespace().next());
        count.and_then(|count| count.parse().ok()).ok_or_else(|| Error::State(format!("nstat says: {text}")))
    };
    Ok(of(case.client)? + of(case.server)?)
}

/// `resent` segments were sent twice by the VMs themselves.
fn judge(seen: &Seen, vlans: &str, resent: u64) -> Result<()> {
    let shown = || format!("{seen:#?}");
    for what in ["asked", "answered"] {
        let found = seen.alerts.get(&(what.to_owned(), vlans.to_owned())).copied();
        expect(found == Some(FETCHES), || format!("'{what}' {found:?} times in VLANs '{vlans}': {}", shown()))?;
    }
    let whole = seen.files.iter().filter(|(octets, whole)| *whole && *octets == PAGE as u64).count();
    expect(whole as u64 == FETCHES, || format!("{whole} whole pages: {}", shown()))?;
    let web: Vec<_> = seen.conversations.iter().filter(|talk| talk.port == 80).collect();
    expect(web.len() as u64 == FETCHES && web.iter().all(|talk| talk.vlans == vlans), shown)?;
    for name in ["tcp.syn", "tcp.synack"] {
        let found = seen.count(name);
        expect(found == FETCHES, || format!("{name} is {found}: {}", shown()))?;
    }
    let again = seen.count("tcp.overlap");
    expect(again <= resent, || format!("{again} segments came twice, {resent} were sent twice: {}", shown()))?;
    for nothing in ["tcp.invalid_checksum", "tcp.reassembly_gap", "decoder.invalid", "tcp.ack_unseen_data"] {
        expect(seen.count(nothing) == 0, || format!("{nothing} is {}: {}", seen.count(nothing), shown()))?;
    }
    Ok(())
}
