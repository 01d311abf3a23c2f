//! `show version`, `show clock`, `show hostname`
//!
//! The layout of `show version` is what clients recognise an NX-OS switch by; what it says is true of this machine.

use std::time::SystemTime;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::exec;
use super::gather::long_time;
use crate::cli::render::{Output, leaves};
use crate::cli::tree::Command;

/// The line that clients look for.
const FAMILY: &str = "Cisco Nexus Operating System (NX-OS) Software";
/// The model, in the form that clients look for: `cisco MODEL Chassis`.
const CHASSIS: &str = "cisco Nexus 1000V Chassis (\"Virtual Supervisor Module\")";

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show version", "Display the version of the software", &[], |session, _| {
            Ok(version(&session.hostname(), &Machine::read()))
        }),
        exec("show clock", "Display the time", &[("clock", "The time")], |_, _| Ok(clock(SystemTime::now()))),
        exec("show hostname", "Display the name of the switch", &[("hostname", "Name of the switch")], |session, _| {
            let name = session.hostname();
            Ok(Output::with_json(format!("{name}\n"), leaves([("hostname", name)])))
        }),
    ]
}

/// What the machine is; a figure that can't be read is 0 or `unknown`.
pub struct Machine {
    /// Text of the processor.
    pub processor: String,
    /// Memory, kB.
    pub memory_kb: u64,
    /// Room of the file system that the supervisor runs from, kB.
    pub disk_kb: u64,
    /// Eleven digits and capitals made from the machine's identity.
    pub board: String,
    /// The program.
    pub image: String,
    /// Seconds since the kernel started.
    pub uptime_s: u64,
}

impl Machine {
    /// Reads `/proc` and `/etc/machine-id`.
    pub fn read() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
        };
        let memory = field(&file("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let image = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
        let disk = rustix::fs::statvfs(if image.is_empty() { "/" } else { image.as_str() });
        let digest = Sha256::digest(format!("vsm board {}", file("/etc/machine-id").trim()));
        let board: String = digest.iter().take(6).map(|octet| format!("{octet:02X}")).collect();
        Machine {
            processor: field(&file("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            memory_kb: memory.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0),
            disk_kb: disk.map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize) / 1024),
            board: board.chars().take(11).collect(),
            image: image.replace(char::is_whitespace, "_"),
            uptime_s: file("/proc/uptime").split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0),
        }
    }
}

/// The version.
pub fn version(hostname: &str, machine: &Machine) -> Output {
    let version = env!("CARGO_PKG_VERSION");
    let Machine { processor, memory_kb, disk_kb, board, image, uptime_s } = machine;
    let text = format!(
        "{FAMILY}\n\
         A distributed virtual switch with the command line of that system; Apache License 2.0\n\
         \n\
         Software\n  \
           loader:    version unavailable [last: loader version not available]\n  \
           kickstart: version {version}\n  \
           system:    version {version}\n  \
           kickstart image file is: {image}\n  \
           system image file is:    {image}\n\
         \n\n\
         Hardware\n  \
           {CHASSIS}\n  \
           {processor} with {memory_kb} kB of memory.\n  \
           Processor Board ID {board}\n\
         \n  \
           Device name: {hostname}\n  \
           bootflash: {disk_kb} kB\n\
         \n\
         Kernel uptime is {}\n\
         \n  \
           Reason: Unknown\n",
        long_time(*uptime_s),
    );
    let json = leaves([
        ("header_str", FAMILY.to_owned()),
        ("kickstart_ver_str", version.to_owned()),
        ("sys_ver_str", version.to_owned()),
        ("isan_file_name", image.clone()),
        ("kick_file_name", image.clone()),
        ("chassis_id", "Nexus 1000V Chassis".to_owned()),
        ("module_id", "Virtual Supervisor Module".to_owned()),
        ("cpu_name", processor.clone()),
        ("memory", memory_kb.to_string()),
        ("mem_type", "kB".to_owned()),
        ("proc_board_id", board.clone()),
        ("host_name", hostname.to_owned()),
        ("bootflash_size", disk_kb.to_string()),
        ("kern_uptm_days", (uptime_s / 86_400).to_string()),
        ("kern_uptm_hrs", (uptime_s / 3600 % 24).to_string()),
        ("kern_uptm_mins", (uptime_s / 60 % 60).to_string()),
        ("kern_uptm_secs", (uptime_s % 60).to_string()),
        ("rr_reason", "Unknown".to_owned()),
        ("manufacturer", "NA".to_owned()),
    ]);
    Output::with_json(text, json)
}

/// `01:02:03.000 UTC Sat Nov 21 2026`
pub fn clock(now: SystemTime) -> Output {
    let t = OffsetDateTime::from(now);
    let (day, month) = (t.weekday().to_string(), t.month().to_string());
    let time = format!(
        "{:02}:{:02}:{:02}.{:03} UTC {day:.3} {month:.3} {} {}",
        t.hour(),
        t.minute(),
        t.second(),
        t.millisecond(),
        t.day(),
        t.year(),
    );
    Output::with_json(format!("{time}\n"), leaves([("simple_time", time)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let machine = Machine {
            processor: "Some CPU @ 2.00GHz".into(),
            memory_kb: 4_000_000,
            disk_kb: 20_000_000,
            board: "0123456789A".into(),
            image: "/usr/bin/vsm".into(),
            uptime_s: 90_062,
        };
        sample::check("version", &version("n1000v", &machine));
        sample::check("clock", &clock(sample::now()));
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read();
        assert!(machine.memory_kb > 0 && machine.uptime_s > 0 && machine.disk_kb > 0);
        assert!(machine.board.len() == 11 && !machine.image.is_empty());
    }
}
