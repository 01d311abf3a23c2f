//! `show environment`, `show license`, `show hosts`: what a switch in a case has, and where names come from.
//!
//! The switch has no case: power supplies, fans and sensors are those of hosts that it does not own, so their tables are
//! empty. No licence is needed. Names are looked up by the supervisor's machine, with its resolver.

use super::exec;
use super::version::Machine;
use crate::cli::render::{Output, leaves, object, table_list};
use crate::cli::tree::Command;

const WORDS: &[(&str, &str)] = &[
    ("environment", "Power supplies, fans, sensors"),
    ("power", "Power supplies"),
    ("fan", "Fans"),
    ("temperature", "Sensors"),
    ("license", "Licences"),
    ("host-id", "Identity of the supervisor's machine"),
    ("usage", "Licences that are in use"),
    ("hosts", "Domain and name servers"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec(
            "show environment [ power | fan | temperature ]",
            "Display power supplies, fans and sensors",
            WORDS,
            |_, args| {
                let part = ["power", "fan", "temperature"].into_iter().find(|part| args.has(part));
                Ok(environment(part))
            },
        ),
        exec("show license host-id", "Display the identity of the supervisor's machine", WORDS, |_, _| {
            let board = Machine::read().board;
            Ok(Output::with_json(
                format!("License hostid: VDH={board}\n"),
                leaves([("host_id", format!("VDH={board}"))]),
            ))
        }),
        exec("show license usage", "Display licences: none is needed", WORDS, |_, _| Ok(licences())),
        exec("show hosts", "Display domain and name servers", WORDS, |_, _| {
            Ok(hosts(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()))
        }),
    ]
}

/// Tables without rows.
pub fn environment(part: Option<&str>) -> Output {
    let power = "Power Supply:\n\
        Power                              Actual        Total\n\
        Supply    Model                    Output     Capacity    Status\n\
        \x20                                (Watts )     (Watts )\n\
        -------  -------------------  -----------  -----------  --------------\n";
    let dashes = "-".repeat(66);
    let fan = format!("Fan:\n{dashes}\n{:<16}{:<21}{:<11}{}\n{dashes}\n", "Fan", "Model", "Hw", "Status");
    let header = format!(
        "{:<9}{:<14}{:<14}{:<13}{:<12}{}",
        "Module", "Sensor", "MajorThresh", "MinorThres", "CurTemp", "Status"
    );
    let temperature = format!(
        "Temperature:\n{dashes}\n{header}\n{:<23}{:<14}{:<13}{}\n{dashes}\n",
        "", "(Celsius)", "(Celsius)", "(Celsius)",
    );
    let none = || object::<String>([]);
    // Ansible takes the table of power supplies for granted.
    let supplies = table_list("psinfo", Vec::new());
    let parts = [
        ("power", power.to_owned(), "powersup", supplies),
        ("fan", fan, "fandetails", none()),
        ("temperature", temperature, "tempinfo", none()),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|(name, ..)| part.is_none_or(|part| part == *name)).collect();
    let text = parts.iter().map(|(_, text, ..)| text.clone()).collect::<Vec<_>>().join("\n");
    Output::with_json(text, object(parts.into_iter().map(|(_, _, key, json)| (key, json))))
}

/// A table without rows.
pub fn licences() -> Output {
    let dashes = "-".repeat(80);
    let header = format!("{:<29}{:<5}{:<6}{:<7}{:<12}{}", "Feature", "Ins", "Lic", "Status", "Expiry Date", "Comments");
    Output::with_json(format!("{header}\n{:<34}Count\n{dashes}\n{dashes}\n", ""), object::<String>([]))
}

/// What the resolver's file says.
pub fn hosts(resolver: &str) -> Output {
    let words = |name: &str| -> Vec<&str> {
        let lines = resolver
            .lines()
            .map(|line| line.split_whitespace())
            .filter_map(|mut words| (words.next() == Some(name)).then_some(words));
        lines.flatten().collect()
    };
    // The last line wins, and of a search list its first domain.
    let last = resolver.lines().rfind(|line| line.starts_with("domain") || line.starts_with("search"));
    let domain = last.and_then(|line| line.split_whitespace().nth(1)).map(|name| name.trim_end_matches('.'));
    let domain = domain.filter(|name| !name.is_empty());
    let servers = words("nameserver");
    let mut text = format!("DNS lookup {}\n", if servers.is_empty() { "disabled" } else { "enabled" });
    if let Some(domain) = domain {
        text.push_str(&format!("Default domain for vrf:management is {domain}\n"));
    }
    if !servers.is_empty() {
        text.push_str(&format!("Name servers for vrf:management are {}\n", servers.join(" ")));
    }
    text.push_str(&format!("\n{:<24}{}\n", "Host", "Address"));
    let json = leaves([
        ("dns_lookup", if servers.is_empty() { "disabled" } else { "enabled" }.to_owned()),
        ("defaultdomains", domain.unwrap_or_default().to_owned()),
        ("nameservers", servers.join(" ")),
    ]);
    Output::with_json(text, json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        sample::check("environment", &environment(None));
        sample::check("environment_temperature", &environment(Some("temperature")));
        sample::check("license_usage", &licences());
        let resolver = "# by hand\ndomain old.example\nsearch lab.example. example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n";
        sample::check("hosts", &hosts(resolver));
        assert_eq!(hosts("").text, "DNS lookup disabled\n\nHost                    Address\n");
    }
}
