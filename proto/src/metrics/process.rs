//! The process itself, under the names that every exporter gives it.

use super::{Family, Page};

/// The families.
pub static PROCESS: [Family; 5] = [
    Family::counter(
        "process_cpu_seconds_total",
        "Processor time that the process has used, of user and system together",
    ),
    Family::gauge("process_resident_memory_bytes", "Memory of the process that is not swapped out"),
    Family::gauge("process_threads", "Threads of the process"),
    Family::gauge("process_open_fds", "Open file descriptors of the process"),
    Family::gauge("process_start_time_seconds", "When the process was started, in seconds since 1970"),
];

/// Ticks of a second in `/proc`, the same on every Linux.
const TICKS: f64 = 100.0;

/// What the system says of a process.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Process {
    /// Processor time.
    pub cpu_s: f64,
    /// Memory that is not swapped out.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Seconds since 1970.
    pub started_s: f64,
}

impl Process {
    /// Reads the texts of `/proc/self/stat` and `/proc/self/status`; what is not there is 0.
    pub fn parse(stat: &str, status: &str) -> Self {
        // The name of the program may hold anything; behind its last parenthesis come numbers, the third of all first.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident_kb = resident.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
        Process {
            cpu_s: (field(14) + field(15)) as f64 / TICKS,
            resident_bytes: resident_kb * 1024,
            threads: field(20),
            ..Process::default()
        }
    }

    /// Puts the rows.
    pub fn put(&self, page: &mut Page) {
        let [cpu, resident, threads, open_fds, started] = &PROCESS;
        page.put(cpu, &[], self.cpu_s);
        page.put(resident, &[], self.resident_bytes);
        page.put(threads, &[], self.threads);
        page.put(open_fds, &[], self.open_fds);
        page.put(started, &[], self.started_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_the_kernel() {
        let stat =
            "41 (a ) b) S 1 41 41 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 7 0 12345 1000000 250 18446744073709551615";
        let process = Process::parse(stat, "Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t7\n");
        assert_eq!((process.cpu_s, process.resident_bytes, process.threads), (2.0, 1_263_616, 7));
        assert_eq!(Process::parse("", ""), Process::default());
        assert_eq!(Process::parse("1 (x) S", "VmRSS: x"), Process::default());
    }
}
