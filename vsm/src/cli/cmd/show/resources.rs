//! `show system resources`, `show system uptime`, `show processes`: the supervisor's machine, and its own threads.

use std::time::SystemTime;

use super::exec;
use super::version::Machine;
use crate::cli::render::{Output, Table, leaves, merged, table};
use crate::cli::tree::Command;
use crate::load::{Load, Share, Thread};

const WORDS: &[(&str, &str)] = &[
    ("system", "The supervisor's machine"),
    ("resources", "Processors and memory"),
    ("uptime", "Time since the start"),
    ("redundancy", "Supervisors"),
    ("status", "State of each"),
    ("processes", "Threads of the supervisor"),
    ("cpu", "Time of the processors"),
    ("memory", "Memory of the supervisor"),
    ("sort", "Busiest first"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show system resources", "Display processors and memory", WORDS, |session, _| {
            Ok(resources(&Resources::read(session.handle.load())))
        }),
        exec("show system uptime", "Display how long the supervisor and its machine run", WORDS, |session, _| {
            Ok(uptime(session.handle.facts().started, Machine::read().uptime_s, SystemTime::now()))
        }),
        exec("show [system] redundancy status", "Display the supervisors", WORDS, |session, _| {
            let since = uptime(session.handle.facts().started, Machine::read().uptime_s, SystemTime::now());
            Ok(redundancy(&since))
        }),
        exec("show processes", "Display the threads of the supervisor", WORDS, |session, _| {
            Ok(threads(&session.handle.load().threads()))
        }),
        exec("show processes cpu [sort]", "Display time of the processors", WORDS, |session, args| {
            let mut threads = session.handle.load().threads();
            if args.has("sort") {
                threads.sort_by(|a, b| b.2.total_cmp(&a.2));
            }
            let shares = [1, 5, 60, 300].map(|seconds| session.handle.load().share(seconds));
            Ok(cpu(&threads, shares))
        }),
        exec("show processes memory", "Display memory of the supervisor", WORDS, |_, _| {
            Ok(memory(std::process::id(), &std::fs::read_to_string("/proc/self/status").unwrap_or_default()))
        }),
    ]
}

/// The machine's load and memory.
pub struct Resources {
    /// Load average over 1, 5 and 15 minutes.
    pub average: [String; 3],
    /// Processes of the machine.
    pub processes: u64,
    /// Those that run.
    pub running: u64,
    /// All processors together.
    pub share: Share,
    /// Each processor.
    pub each: Vec<Share>,
    /// Memory, kB.
    pub memory_kb: u64,
    /// What programs could get of it, kB.
    pub free_kb: u64,
    /// Address space of the kernel, all and what is free of it, kB.
    pub vmalloc_kb: [u64; 2],
    /// Memory that the kernel has lent to buffers and to its cache, kB.
    pub buffers_kb: [u64; 2],
}

/// The number behind `name` of a file of `NAME: number`.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

impl Resources {
    /// Reads `/proc`.
    pub fn read(load: &Load) -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let average = file("/proc/loadavg");
        let mut words = average.split_whitespace().map(str::to_owned);
        let mut next = || words.next().unwrap_or_else(|| "0.00".to_owned());
        let average = [next(), next(), next()];
        let tasks = next();
        let (running, processes) = tasks.split_once('/').unwrap_or_default();
        let memory = file("/proc/meminfo");
        Resources {
            average,
            processes: processes.parse().unwrap_or(0),
            running: running.parse().unwrap_or(0),
            share: load.share(1),
            each: load.each(),
            memory_kb: field(&memory, "MemTotal"),
            free_kb: field(&memory, "MemAvailable"),
            vmalloc_kb: {
                let total = field(&memory, "VmallocTotal");
                [total, total.saturating_sub(field(&memory, "VmallocUsed"))]
            },
            buffers_kb: ["Buffers", "Cached"].map(|name| field(&memory, name)),
        }
    }

    /// The word for how full the memory is, with the thresholds of NX-OS.
    fn status(&self) -> &'static str {
        match (self.memory_kb - self.free_kb.min(self.memory_kb)) * 100 / self.memory_kb.max(1) {
            0..85 => "OK",
            85..90 => "Minor",
            90..95 => "Severe",
            _ => "Critical",
        }
    }
}

/// Processors and memory.
pub fn resources(is: &Resources) -> Output {
    let [one, five, fifteen] = &is.average;
    let used = is.memory_kb.saturating_sub(is.free_kb);
    let states = |share: &Share| {
        let Share { user, kernel, idle, .. } = share;
        format!("{user:.2}% user,   {kernel:.2}% kernel,   {idle:.2}% idle")
    };
    let mut text = format!(
        "Load average:   1 minute: {one}   5 minutes: {five}   15 minutes: {fifteen}\n\
         Processes   :   {} total, {} running\nCPU states  :   {}\n",
        is.processes,
        is.running,
        states(&is.share),
    );
    let mut cpus = Vec::new();
    for (id, share) in is.each.iter().enumerate() {
        text.push_str(&format!("        CPU{id} states  :   {}\n", states(share)));
        cpus.push(leaves([
            ("cpuid", id.to_string()),
            ("user", format!("{:.2}", share.user)),
            ("kernel", format!("{:.2}", share.kernel)),
            ("idle", format!("{:.2}", share.idle)),
        ]));
    }
    let ([vmalloc, vmalloc_free], [buffers, cached]) = (is.vmalloc_kb, is.buffers_kb);
    text.push_str(&format!(
        "Memory usage:   {}K total,   {used}K used,   {}K free\n\
         Kernel vmalloc:   {vmalloc}K total,   {vmalloc_free}K free\n\
         Kernel buffers:   {buffers}K Used\nKernel cached :   {cached}K Used\nCurrent memory status: {}\n",
        is.memory_kb,
        is.free_kb,
        is.status(),
    ));
    let json = leaves([
        ("load_avg_1min", one.clone()),
        ("load_avg_5min", five.clone()),
        ("load_avg_15min", fifteen.clone()),
        ("processes_total", is.processes.to_string()),
        ("processes_running", is.running.to_string()),
        ("cpu_state_user", format!("{:.2}", is.share.user)),
        ("cpu_state_kernel", format!("{:.2}", is.share.kernel)),
        ("cpu_state_idle", format!("{:.2}", is.share.idle)),
        ("memory_usage_total", is.memory_kb.to_string()),
        ("memory_usage_used", used.to_string()),
        ("memory_usage_free", is.free_kb.to_string()),
        ("vmalloc_total", vmalloc.to_string()),
        ("vmalloc_free", vmalloc_free.to_string()),
        ("kernel_buffers", buffers.to_string()),
        ("kernel_cached", cached.to_string()),
        ("current_memory_status", is.status().to_owned()),
    ]);
    Output::with_json(text, merged([json, table("cpu_usage", cpus)]))
}

/// How long they run.
pub fn uptime(started: SystemTime, kernel_s: u64, now: SystemTime) -> Output {
    let since = now.duration_since(started).map_or(0, |since| since.as_secs());
    let parts = |s: u64| [s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60].map(|n| n.to_string());
    let words = |[d, h, m, s]: &[String; 4]| format!("{d} days, {h} hours, {m} minutes, {s} seconds");
    let (system, kernel) = (parts(since), parts(kernel_s));
    let start = crate::config::running::date(started);
    let text = format!(
        "System start time:          {start}\nSystem uptime:              {}\nKernel uptime:              {}\n",
        words(&system),
        words(&kernel),
    );
    let keys = |prefix: &str| ["days", "hrs", "mins", "secs"].map(|unit| format!("{prefix}_up_{unit}"));
    let up = keys("sys").into_iter().zip(system).chain(keys("kn").into_iter().zip(kernel));
    Output::with_json(text, merged([leaves([("sys_st_time", start)]), leaves(up)]))
}

/// There is one supervisor; `since` is what `show system uptime` says.
pub fn redundancy(since: &Output) -> Output {
    let text = format!(
        "Redundancy mode\n---------------\n      administrative:   HA\n         operational:   None\n\n\
         This supervisor (sup-1)\n-----------------------\n    Redundancy state:   Active\n    \
             Supervisor state:   Active\n      Internal state:   Active with no standby\n\n\
         Other supervisor (sup-2)\n------------------------\n    Redundancy state:   Not present\n\n{}",
        since.text,
    );
    let json = leaves([
        ("rdn_mode_admin", "HA"),
        ("rdn_mode_oper", "None"),
        ("this_sup", "(sup-1)"),
        ("this_sup_rdn_state", "Active"),
        ("this_sup_sup_state", "Active"),
        ("this_sup_internal_state", "Active with no standby"),
        ("other_sup", "(sup-2)"),
        ("other_sup_rdn_state", "Not present"),
    ]);
    Output::with_json(text, merged([json, since.json.clone().unwrap_or_default()]))
}

/// What the threads do.
pub fn threads(threads: &[(u32, Thread, f64)]) -> Output {
    let mut table = Table::new("process")
        .right("PID", "pid", 5)
        .left("State", "state", 5)
        .right("PC", "pc", 8)
        .right("Start_cnt", "start_cnt", 9)
        .right("TTY", "tty", 4)
        .left("Type", "type", 4)
        .left("Process", "process", 13);
    for (id, thread, _) in threads {
        let cells = [id.to_string(), thread.state.to_string(), "-".into(), "1".into(), "-".into(), "VL".into()];
        table.row(cells.into_iter().chain([thread.name.clone()]));
    }
    table.output()
}

/// Time of the threads, and how busy the machine was over the last second, five seconds, minute and five minutes.
pub fn cpu(threads: &[(u32, Thread, f64)], [one_s, five_s, one_min, five_min]: [Share; 4]) -> Output {
    let busy = |share: &Share| format!("{:.0}", 100.0 - share.idle);
    let interrupt = format!("{:.0}", five_s.interrupt);
    let mut table = Table::new("process_cpu")
        .right("PID", "pid", 5)
        .right("Runtime(ms)", "runtime", 11)
        .right("Invoked", "invoked", 8)
        .right("uSecs", "usecs", 5)
        .right("1Sec", "onesec", 6)
        .left("Process", "process", 13);
    for (id, thread, share) in threads {
        let Thread { name, runtime_ns, invoked, .. } = thread;
        let each = runtime_ns / 1000 / (*invoked).max(1);
        let numbers = [u64::from(*id), runtime_ns / 1_000_000, *invoked, each].map(|number| number.to_string());
        table.row(numbers.into_iter().chain([format!("{share:.2}%"), name.clone()]));
    }
    let text = format!(
        "CPU utilization for five seconds: {}%/{interrupt}%; one minute: {}%; five minutes: {}%\n\n{}\n\
         CPU util  :   {:.2}% user,   {:.2}% kernel,   {:.2}% idle\n",
        busy(&five_s),
        busy(&one_min),
        busy(&five_min),
        table.text(),
        one_s.user,
        one_s.kernel,
        one_s.idle,
    );
    let sum = leaves([
        ("fivesec_percent", busy(&five_s)),
        ("fivesec_intr_percent", interrupt),
        ("onemin_percent", busy(&one_min)),
        ("fivemin_percent", busy(&five_min)),
        ("user_percent", format!("{:.2}", one_s.user)),
        ("kernel_percent", format!("{:.2}", one_s.kernel)),
        ("idle_percent", format!("{:.2}", one_s.idle)),
    ]);
    Output::with_json(text, merged([table.json(), sum]))
}

/// The supervisor is one process. `MemAlloc` is what it has in memory, `MemUsed` what it may address, in octets.
pub fn memory(pid: u32, status: &str) -> Output {
    let mut table = Table::new("process_memory")
        .right("PID", "processid", 5)
        .right("MemAlloc", "mem_alloc", 10)
        .right("MemLimit", "mem_limit", 9)
        .right("MemUsed", "mem_used", 11)
        .left("StackBase/Ptr", "stack_base_ptr", 17)
        .left("Process", "process", 16);
    let octets = |name: &str| (field(status, name) * 1024).to_string();
    let name = status.lines().find_map(|line| line.strip_prefix("Name:")).unwrap_or("vsm").trim();
    let cells = [pid.to_string(), octets("VmRSS"), "0".into(), octets("VmSize"), "-".into(), name.to_owned()];
    table.row(cells);
    table.output()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::cmd::show::sample;

    fn share(user: f64, kernel: f64) -> Share {
        Share { user, kernel, interrupt: kernel / 2.0, idle: 100.0 - user - kernel }
    }

    #[test]
    fn rendered() {
        let is = Resources {
            average: ["0.34", "0.40", "0.66"].map(str::to_owned),
            processes: 901,
            running: 2,
            share: share(2.11, 11.64),
            each: vec![share(3.33, 12.22), share(1.0, 11.0)],
            memory_kb: 5_873_172,
            free_kb: 1_683_520,
            vmalloc_kb: [34_359_738_367, 34_359_700_000],
            buffers_kb: [144_876, 2_296_916],
        };
        sample::check("system_resources", &resources(&is));
        let now = sample::now();
        let since = uptime(now - Duration::from_secs(90_062), 190_000, now);
        sample::check("system_uptime", &since);
        sample::check("system_redundancy_status", &redundancy(&since));
        let thread =
            |name: &str, state, ms: u64| Thread { name: name.into(), state, runtime_ns: ms * 1_000_000, invoked: 50 };
        let all = [(4811, thread("vsm", 'S', 120), 0.0), (4812, thread("supervisor", 'R', 4762), 12.5)];
        sample::check("processes", &threads(&all));
        let shares = [share(4.0, 2.5), share(5.0, 3.0), share(1.0, 1.0), share(0.4, 0.1)];
        sample::check("processes_cpu", &cpu(&all, shares));
        let status = "Name:\tvsm\nVmSize:\t  200000 kB\nVmRSS:\t   40000 kB\n";
        sample::check("processes_memory", &memory(4811, status));
    }

    #[test]
    fn this_machine_can_be_read() {
        let is = Resources::read(&Load::default());
        assert!(is.memory_kb > is.free_kb && is.free_kb > 0 && is.processes > 0 && !is.each.is_empty());
        let full = |free_kb| Resources { memory_kb: 100, free_kb, average: Default::default(), each: vec![], ..is };
        assert_eq!([20, 12, 7, 0].map(|free| full(free).status()), ["OK", "Minor", "Severe", "Critical"]);
    }
}
