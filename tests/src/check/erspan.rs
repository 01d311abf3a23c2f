//! A session that sends its copies to another host: every frame once, as tshark reads it and detectors would.

use std::time::Duration;

use super::{Report, six};
use crate::capture::Capture;
use crate::error::{Result, expect};
use crate::lab::plan::{COLLECTOR_ADDRESS, MGMT, VLAN, VM_PROFILE};
use crate::lab::{Lab, wait};
use crate::sensor::{Sensor, check};
use crate::traffic::{self, Burst};

const SESSION: u32 = 20;
const UDP: Burst = Burst { from_port: 40_011, to_port: 40_012, count: 500, payload: 900 };

/// 500 datagrams between two VMs of a host, seen by a capture on the management network.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let [vm1, vm2, ..] = six(lab)?;
    let folder = lab.plan.folder("log").join("erspan");
    let capture = Capture::on(&lab.plan.collector_netns(), MGMT, &folder, "ip proto 47")?;
    let console = lab.console();
    console.configure(&[
        format!("monitor session {SESSION} type erspan-source"),
        format!("source port-profile {VM_PROFILE} both"),
        format!("destination ip {COLLECTOR_ADDRESS}"),
        format!("erspan-id {SESSION}"),
        format!("filter bpf \"udp dst port {}\"", UDP.to_port),
        "no shut".to_owned(),
    ])?;
    traffic::udp(&vm1, &vm2, UDP)?;
    let copied = wait("the copies", Duration::from_secs(5), || {
        let shown = console.show(&format!("show monitor session {SESSION} | json"))?;
        Ok(shown.contains(&format!("\"copied\":\"{}\"", UDP.count)).then_some(()))
    });
    let packets = capture.stop()?;
    report.check("ERSPAN: the session counts a copy of every datagram", || copied);
    report.check("ERSPAN: every datagram once, numbered without a gap, in its VLAN", || {
        let ours = format!("erspan.spanid == {SESSION} && erspan.version == 1 && erspan.vlan == {VLAN}");
        let numbers = packets.values("udp.port==40012,data", &ours, "gre.sequence_number")?;
        let numbers: Vec<u32> = numbers.iter().filter_map(|n| n.parse().ok()).collect();
        let in_a_row = numbers.windows(2).all(|pair| pair[0].wrapping_add(1) == pair[1]);
        expect(numbers.len() == UDP.count as usize && in_a_row, || format!("{} copies: {numbers:?}", numbers.len()))
    });
    for sensor in [Sensor::Suricata, Sensor::Zeek] {
        report.check(&format!("ERSPAN: {sensor:?}'s rules read every copy"), || {
            let judged = check(sensor, packets.path(), true)?;
            expect(judged.is_clean() && judged.read == u64::from(UDP.count), || judged.to_string())
        });
    }
    console.configure(&[format!("no monitor session {SESSION}")]).map(drop)
}
