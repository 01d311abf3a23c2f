//! `show vrf`, `show ip ...`, `show ipv6 ...`: the switch forwards by MAC addresses, so it has no addresses, neighbours or
//! routes of its own. There are the two contexts that every NX-OS switch has; `management` holds `mgmt0`, which is the
//! supervisor's way to its collectors and belongs to its host.

use super::exec;
use crate::cli::render::{Output, Table, leaves, merged, object, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};

const WORDS: &[(&str, &str)] = &[
    ("ip", "IPv4"),
    ("ipv6", "IPv6"),
    ("arp", "Neighbours of the switch itself"),
    ("interface", "Interfaces"),
    ("neighbor", "Neighbours of the switch itself"),
    ("route", "Routes"),
    ("brief", "A line per interface"),
    ("detail", "In full"),
    ("vrf", "Contexts"),
    ("context", "Name of the context, or all"),
    ("all", "Every context"),
    ("default", "The context of the switch"),
    ("management", "The context of mgmt0"),
];

/// The contexts, with their numbers.
const CONTEXTS: [(&str, u8); 2] = [("default", 1), ("management", 2)];

/// Keys of JSON that NX-OS has for a table of a context.
type Keys = (&'static str, &'static str);

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show vrf [<context=all|default|management>]", "Display contexts", WORDS, |_, args| {
            Ok(contexts(&wanted(args, "all")))
        }),
        exec("show vrf [<context=all|default|management>] detail", "Display contexts in full", WORDS, |_, args| {
            Ok(details(&wanted(args, "all")))
        }),
        exec(
            "show vrf [<context=all|default|management>] interface",
            "Display interfaces of contexts",
            WORDS,
            |_, args| Ok(members(&wanted(args, "all"))),
        ),
        exec(
            "show ip arp [detail] [vrf <context=all|default|management>]",
            "Display neighbours of the switch itself",
            WORDS,
            arp,
        ),
        exec(
            "show ip interface [brief] [vrf <context=all|default|management>]",
            "Display addresses of the switch itself",
            WORDS,
            |_, args| {
                let header = if args.has("brief") {
                    format!("{:<21}{:<16}{}\n", "Interface", "IP Address", "Interface Status")
                } else {
                    String::new()
                };
                // The number of the context is left out where no context is named, which parsers rely on.
                let is_named = args.has("vrf") || args.has("brief");
                let number = |id: u8| if is_named { format!("({id})") } else { String::new() };
                let title = |name: &str, id| format!("IP Interface Status for VRF \"{name}\"{}\n{header}", number(id));
                Ok(per_context(args, title))
            },
        ),
        exec(
            "show ipv6 interface [brief] [vrf <context=all|default|management>]",
            "Display IPv6 addresses of the switch itself",
            WORDS,
            // NAPALM takes any line for one of an interface.
            |_, _| Ok(Output::with_json("", object::<String>([]))),
        ),
        exec(
            "show ipv6 neighbor [vrf <context=all|default|management>]",
            "Display IPv6 neighbours of the switch itself",
            WORDS,
            |_, args| {
                let header = "Address         Age       MAC Address     Pref Source     Interface\n";
                let title =
                    |name: &str| format!("IPv6 Adjacency Table for VRF {name}\nTotal number of entries: 0\n{header}");
                Ok(per_context(args, |name, _| title(name)))
            },
        ),
        exec(
            "show ip route [vrf <context=all|default|management>]",
            "Display routes of the switch itself",
            WORDS,
            |_, args| {
                let legend = "'*' denotes best ucast next-hop\n'**' denotes best mcast next-hop\n\
                              '[x/y]' denotes [preference/metric]\n'%<string>' in via output denotes VRF <string>\n";
                Ok(per_context(args, |name, _| format!("IP Route Table for VRF \"{name}\"\n{legend}")))
            },
        ),
    ]
}

/// The contexts that the command names.
fn wanted(args: &Args, when_not_named: &str) -> Vec<(&'static str, u8)> {
    let name = args.text("context").unwrap_or(when_not_named);
    CONTEXTS.into_iter().filter(|(context, _)| name == "all" || name == *context).collect()
}

/// The title of an empty table for each context; without a name that of `default`, as on NX-OS.
fn per_context(args: &Args, title: impl Fn(&str, u8) -> String) -> Output {
    let texts: Vec<String> = wanted(args, "default").into_iter().map(|(name, id)| title(name, id)).collect();
    Output::with_json(texts.join("\n"), object::<String>([]))
}

fn arp(_: &mut Session, args: &Args) -> Result<Output, Error> {
    let whose = match args.text("context") {
        Some("all") => "for all contexts".to_owned(),
        Some(name) => format!("for context {name}"),
        None => "for context default".to_owned(),
    };
    // Parsers of the long form know no static entries.
    let detail = args.has("detail");
    let fixed = if detail { "" } else { "       D - Static Adjacencies attached to down interface\n" };
    let text = format!(
        "\nFlags: * - Adjacencies learnt on non-active FHRP router\n       + - Adjacencies synced via CFSoE\n       \
         # - Adjacencies Throttled for Glean\n{fixed}\n\
         IP ARP Table {whose}\nTotal number of entries: 0\n{:<16}{:<10}{:<16}{}\n",
        "Address",
        "Age",
        "MAC Address",
        if detail { "Interface         Physical Interface" } else { "Interface" },
    );
    let rows = wanted(args, "default").into_iter();
    let rows = rows.map(|(name, _)| leaves([("vrf-name-out", name), ("cnt-total", "0")])).collect();
    Ok(Output::with_json(text, table("vrf", rows)))
}

/// Name, number, state.
fn contexts(contexts: &[(&str, u8)]) -> Output {
    let mut text = format!("{:<35}{:<7}{:<8}{}\n", "VRF-Name", "VRF-ID", "State", "Reason");
    let mut rows = Vec::new();
    for (name, id) in contexts {
        text.push_str(&format!("{name:<35}{id:>6} {:<8}--\n", "Up"));
        rows.push(leaves([
            ("vrf_name", (*name).to_owned()),
            ("vrf_id", id.to_string()),
            ("vrf_state", "Up".to_owned()),
            ("vrf_reason", "--".to_owned()),
        ]));
    }
    Output::with_json(text, table("vrf", rows))
}

fn details(contexts: &[(&str, u8)]) -> Output {
    let (tables, rows): (Vec<String>, Vec<_>) = contexts
        .iter()
        .map(|(name, id)| {
            let ids = [("IPv6", format!("0x8{id:07x}")), ("IPv4", format!("0x{id:08x}"))];
            let lines =
                ids.iter().map(|(af, table)| format!("    Table-ID: {table}, AF: {af}, Fwd-ID: {table}, State: Up\n"));
            let text = format!(
                "VRF-Name: {name}, VRF-ID: {id}, State: Up\n    VPNID: unknown\n    RD: 0:0\n    \
                 Max Routes: 0  Mid-Threshold: 0\n{}",
                lines.collect::<String>(),
            );
            let keys: [Keys; 4] = [("vrf_state", "Up"), ("vpnid", "unknown"), ("rd", "0:0"), ("max_routes", "0")];
            let tib = |(af, table): &(&str, String)| {
                leaves([("tib_id", table.as_str()), ("tib_af", af), ("tib_nonce", table.as_str()), ("tib_state", "Up")])
            };
            let json = merged([
                leaves([("vrf_name", (*name).to_owned()), ("vrf_id", id.to_string())]),
                leaves(keys),
                leaves([("mid_threshold", "0")]),
                table("tib", ids.iter().map(tib).collect()),
            ]);
            (text, json)
        })
        .unzip();
    Output::with_json(tables.join("\n"), table("vrf", rows))
}

fn members(contexts: &[(&str, u8)]) -> Output {
    let mut table = Table::new("if");
    let mut text = format!("{:<26}{:<32}{:<8}{}\n", "Interface", "VRF-Name", "VRF-ID", "Site-of-Origin");
    table = table.left("", "if_name", 0).left("", "vrf_name", 0).left("", "vrf_id", 0).left("", "soo", 0);
    for (name, id) in contexts.iter().filter(|(name, _)| *name == "management") {
        text.push_str(&format!("{:<26}{name:<32}{id:>6}  --\n", "mgmt0"));
        table.row(["mgmt0", name, &id.to_string(), "--"]);
    }
    Output::with_json(text, table.json())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::cli::session::Session;
    use crate::config::model::Model;
    use crate::supervisor::Handle;

    #[test]
    fn rendered() {
        sample::check("vrf", &contexts(&CONTEXTS));
        sample::check("vrf_detail", &details(&CONTEXTS));
        sample::check("vrf_interface", &members(&CONTEXTS));
    }

    #[test]
    fn contexts_are_chosen_by_name() {
        let mut session = Session::new(Handle::detached(Model::default()));
        let mut count = |line: &str, what: &str| session.run_line(line).matches(what).count();
        assert_eq!(count("show ip interface brief", "VRF \""), 1);
        assert_eq!(count("show ip interface brief vrf all", "VRF \""), 2);
        assert_eq!(count("show ip interface vrf man", "VRF \"management\"(2)"), 1);
        assert_eq!(count("show vrf default interface", "mgmt0"), 0);
        assert_eq!(count("show ip arp vrf all", "Address         Age       MAC Address     Interface"), 1);
    }
}
