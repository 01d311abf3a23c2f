//! The lab's snmpd: it speaks SNMP for the switch, which is its subagent, and is reached from outside of the lab.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Lab;
use super::plan::{Plan, VSM_ADDRESS};
use crate::error::{Result, Tried};
use crate::netns;

/// Who may read.
pub const COMMUNITY: &str = "public";
/// Askers at a time. Each run of a tool is another one.
const ASKERS_MAX: usize = 512;
/// Silence after which an asker is forgotten.
const SILENCE: Duration = Duration::from_secs(10);

/// Where snmpd answers, in the namespace of the VSM.
pub fn address() -> SocketAddr {
    SocketAddr::from((VSM_ADDRESS, 161))
}

/// `snmpd.conf`. The interfaces of the namespace are left to the switch, whose they are not.
pub fn config(plan: &Plan) -> String {
    format!(
        "agentAddress udp:{}\nmaster agentx\nagentXSocket {}\nrocommunity {COMMUNITY}\ndontLogTCPWrappersConnects yes\n\
         trap2sink 127.0.0.1:16200 {COMMUNITY}\n\
         sysDescr Cisco NX-OS(tm) n1000v, Software (n1000v), Version {}\nsysObjectID 1.3.6.1.4.1.32473.1.2\n\
         sysName switch\nsysLocation lab\nsysContact nobody\nsysServices 2\n",
        address(),
        plan.agentx_socket().display(),
        env!("CARGO_PKG_VERSION"),
    )
}

impl Lab {
    /// Starts snmpd, and what makes it reachable from here.
    pub fn start_snmp(&mut self) -> Result<()> {
        let plan = self.plan.clone();
        let folder = plan.folder("snmp");
        fs::create_dir_all(&folder).tried(format!("{}", folder.display()))?;
        let path = folder.join("snmpd.conf");
        fs::write(&path, config(&plan)).tried(format!("{}", path.display()))?;
        // The community is a secret as any other.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).tried(format!("{}", path.display()))?;
        // What snmpd keeps is called snmpd.conf too.
        let kept = format!("SNMP_PERSISTENT_DIR={}", folder.join("state").display());
        let argv =
            ["env", &kept, "MIBS=", "snmpd", "-f", "-C", "-c", &path.display().to_string(), "-Lo", "-I", MODULES];
        self.start("snmpd", &plan.vsm_netns(), &argv, &plan.log("snmpd"))?;
        let (binary, log) = (self.binary("lab"), plan.log("relay-udp"));
        let outside = format!("/proc/{}/ns/net", std::process::id());
        let (to, told) = (address().to_string(), plan.snmp_file().display().to_string());
        let argv = [&*binary, "relay-udp", "--outside", &outside, "--to", &to, "--told", &told];
        self.start("relay-udp", &plan.vsm_netns(), &argv, &log)
    }
}

/// What of snmpd itself runs: the switch answers for interfaces, bridge and entities.
const MODULES: &str = "system_mib,sysORTable,snmp_mib,vacm_context,vacm_vars,vacm_conf,usmConf,usmUser,usmStats,snmpEngine,\
    agentx_config,snmpv3mibs,setSerialNo,notification,target,targetSpinLock,snmpTargetAddrEntry,snmpTargetParamsEntry";

/// Passes datagrams on until the process is ended, as [`super::relay::run`] does with connections.
///
/// # Errors
/// It can't listen, or can't say where.
pub fn relay(outside: &Path, to: SocketAddr, told: &Path) -> Result<()> {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).tried("listening on 127.0.0.1");
    let near = Arc::new(netns::within_at(outside, bind)?);
    let address = near.local_addr().tried("own address")?;
    let new = told.with_extension("new");
    fs::write(&new, address.to_string()).tried(format!("{}", new.display()))?;
    fs::rename(&new, told).tried(format!("{}", told.display()))?;
    let mut askers: HashMap<SocketAddr, (Arc<UdpSocket>, Instant)> = HashMap::new();
    let mut buffer = [0; 65_536];
    loop {
        let (length, from) = match near.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) => {
                eprintln!("lab: {address}: {error}");
                continue;
            }
        };
        askers.retain(|_, (_, heard)| heard.elapsed() < SILENCE);
        if !askers.contains_key(&from) && askers.len() >= ASKERS_MAX {
            eprintln!("lab: {address}: more than {ASKERS_MAX} askers");
            continue;
        }
        let far = match askers.get(&from) {
            Some((far, _)) => far.clone(),
            None => match asker(near.clone(), from, to) {
                Ok(far) => far,
                Err(error) => {
                    eprintln!("lab: {to}: {error}");
                    continue;
                }
            },
        };
        // The first attempt may only tell that an earlier datagram came back.
        if let Err(error) = far.send(&buffer[..length]).or_else(|_| far.send(&buffer[..length])) {
            eprintln!("lab: {to}: {error}");
        }
        askers.insert(from, (far, Instant::now()));
    }
}

/// A socket for an asker; a thread passes the answers back until there were none for some time.
fn asker(near: Arc<UdpSocket>, from: SocketAddr, to: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    let far = Arc::new(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?);
    far.connect(to)?;
    far.set_read_timeout(Some(SILENCE * 2))?;
    let answers = far.clone();
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        loop {
            match answers.recv(&mut buffer) {
                Ok(length) => drop(near.send_to(&buffer[..length], from)),
                // The switch was away for a moment.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    });
    Ok(far)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_pass_both_ways() {
        let far = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("bound"));
        let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        let own = client.local_addr().expect("address");
        let passed = asker(near, own, far.local_addr().expect("address")).expect("asker");
        passed.send(b"question").expect("sent");
        let mut buffer = [0; 64];
        let (length, from) = far.recv_from(&mut buffer).expect("received");
        assert_eq!(&buffer[..length], b"question");
        far.send_to(b"answer", from).expect("sent");
        let length = client.recv(&mut buffer).expect("received");
        assert_eq!(&buffer[..length], b"answer");
    }
}
