//! The machine and the versions that figures belong to.

use serde::{Deserialize, Serialize};

use crate::command::Run;

/// Packages whose version decides a figure.
const PACKAGES: [&str; 5] = ["openvswitch-switch", "openvswitch-switch-dpdk", "dpdk-dev", "fprobe", "iperf3"];

/// Where and with what something was measured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Cores.
    pub cores: usize,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Kernel.
    pub kernel: String,
    /// Compiler.
    pub compiler: String,
    /// Commit of this tree; with `+` when there are changes.
    pub commit: String,
    /// Day, UTC.
    pub day: String,
    /// Peers and generators with their versions.
    pub packages: Vec<String>,
    /// Runnable threads per core when the part began, as the load average of a minute says.
    pub load: String,
}

/// What a program prints, or that it is not known.
fn said(words: &str) -> String {
    Run::new(words).text().map_or_else(|_| "unknown".to_owned(), |t| t.trim().to_owned())
}

/// The rest of the first line that starts with `key`.
fn field(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find(|l| l.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

impl Machine {
    /// This one, now.
    pub fn here() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: u64 = memory.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let changed = if said("git status --porcelain").is_empty() { "" } else { "+" };
        let version = |package: &&str| {
            let text = Run::new("dpkg-query -W -f ${Version}").arg(*package).text().ok()?;
            Some(format!("{package} {}", text.trim())).filter(|_| !text.trim().is_empty())
        };
        Machine {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kib / 1024,
            kernel: said("uname -r"),
            compiler: said("rustc --version"),
            commit: said("git rev-parse --short HEAD") + changed,
            day: said("date -u +%F"),
            packages: PACKAGES.iter().filter_map(version).collect(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields() {
        let text = "processor\t: 0\nmodel name\t: A B C\nMemTotal:       24000 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A B C"));
        assert_eq!(field(text, "MemTotal").as_deref(), Some("24000 kB"));
        assert_eq!(field(text, "absent"), None);
    }
}
