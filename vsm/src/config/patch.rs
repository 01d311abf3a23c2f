//! What to type to make one configuration into another.
//!
//! The two texts are compared block by block. First everything that goes is taken back, from the last line to the
//! first; then everything that comes is typed, from the first to the last. In a configuration text what is referred to
//! stands before what refers to it, so nothing is ever taken away while it is used, or used before it is there.

use proto::vlan::VlanSet;

use super::model::Model;
use super::role::NETWORK_ADMIN;
use super::running::{Part, body};
use super::startup::Line;

/// Lines that say one thing: typing such a line with another value replaces it, so it is not taken back first. Names and
/// identities that nothing else may have are not among them, as they may be on their way from one block to another.
const REPLACED: &[&str] = &[
    "hostname ",
    "description ",
    "filter vlan ",
    "filter access-group ",
    "filter bpf ",
    "sampling ",
    "flow as-file ",
    "erspan-id ",
    "destination ip ",
    "origin ip-address ",
    "source ip ",
    "ip ttl ",
    "ip dscp ",
    "header-type ",
    "switchport mode ",
    "switchport access vlan ",
    "switchport trunk native vlan ",
    "switchport trunk allowed vlan ",
    "mtu ",
    "domain id ",
    "transport udp ",
    "dscp ",
    "timeout active ",
    "timeout inactive ",
    "match filter access-list ",
    "match filter bpf ",
    "mode ",
    "cache entries ",
    "sndbuf ",
    "rate-limit ",
    "template data timeout ",
    "template data packets ",
    "option interface-table timeout ",
    "option sampler-table timeout ",
    "option exporter-stats timeout ",
    "mac address-table aging-time ",
    "exec-timeout ",
    "session-limit ",
    "logging console ",
    "logging monitor ",
    "logging logfile ",
    "logging timestamp ",
    "radius-server key ",
    "radius-server timeout ",
    "radius-server retransmit ",
    "radius-server deadtime ",
    "tacacs-server key ",
    "tacacs-server timeout ",
    "tacacs-server deadtime ",
    "deadtime ",
];

/// Lines whose `no` says something too; `default` says that nothing is said.
const SWITCHED: &[&str] = &["logging console", "logging monitor", "logging logfile"];

#[derive(PartialEq, Eq, Debug, Default)]
struct Block<'a> {
    line: &'a str,
    inside: Vec<Block<'a>>,
}

/// The lines, indented as a configuration text is; none when the configurations are equal.
pub fn patch(from: &Model, to: &Model) -> Vec<String> {
    let [before, after] = [from, to].map(|model| body(model, &Part::Whole));
    let [before, after] = [&before, &after].map(|text| blocks(text));
    // A role goes when no user has it any more.
    let is_gone = |block: &Block<'_>| block.line.starts_with("role name ") && find(&after, block.line).is_none();
    let (roles_gone, before): (Vec<_>, Vec<_>) = before.into_iter().partition(is_gone);
    let is_user = |block: &Block<'_>| block.line.starts_with("username ");
    let (users_before, before): (Vec<_>, Vec<_>) = before.into_iter().partition(is_user);
    let (users_after, after): (Vec<_>, Vec<_>) = after.into_iter().partition(is_user);
    let vlans = |model: &Model| model.vlans.keys().copied().collect::<VlanSet>();
    let without = |these: VlanSet, those: &VlanSet| these.iter().filter(|id| !those.contains(*id)).collect::<VlanSet>();
    let gone = without(vlans(from), &vlans(to));
    let new = without(vlans(to), &vlans(from));
    let stays = |block: &Block<'_>| !block.line.strip_prefix("vlan ").is_some_and(|id| is_in(id, &gone));
    let before: Vec<Block<'_>> = before.into_iter().filter(stays).collect();
    let mut lines = Vec::new();
    take_back(&before, &after, 0, &mut lines);
    lines.extend((!gone.is_empty()).then(|| format!("no vlan {gone}")));
    lines.extend((!new.is_empty()).then(|| format!("vlan {new}")));
    add(&before, &after, 0, &mut lines);
    users(&users_before, &users_after, &mut lines);
    lines.extend(roles_gone.iter().map(|role| format!("no {}", role.line)));
    lines
}

/// A line of a user.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said<'a> {
    /// Password and first role.
    User,
    /// Another role.
    Role(&'a str),
    Key,
}

fn said(line: &str) -> (&str, Said<'_>) {
    let mut words = line.split(' ').skip(1);
    let name = words.next().unwrap_or_default();
    match (words.next(), words.next()) {
        (Some("role"), Some(role)) => (name, Said::Role(role)),
        (Some("sshkey"), _) => (name, Said::Key),
        _ => (name, Said::User),
    }
}

/// The roles of a user.
fn roles_of<'a>(lines: &[Block<'a>], user: &str) -> Vec<&'a str> {
    let own = lines.iter().map(|block| block.line).filter(|line| said(line).0 == user);
    own.filter_map(|line| match said(line).1 {
        Said::Key => None,
        Said::Role(role) => Some(role),
        Said::User => line.rsplit(' ').next(),
    })
    .collect()
}

/// The lines of a patch as they are typed: each in the mode that its indentation says.
pub fn indented(lines: &[String]) -> Vec<Line> {
    let typed = |line: &String| {
        let text = line.trim_start();
        Line { depth: Some((line.len() - text.len()) / 2), text: text.to_owned() }
    };
    lines.iter().map(typed).collect()
}

/// Who comes, administrators first, then who goes: at no time is there nobody who may administer the switch, if there is one
/// before and after. A role that is typed is added, so what a user has too much is taken back.
fn users(before: &[Block<'_>], after: &[Block<'_>], lines: &mut Vec<String>) {
    let is_admin = |line: &&str| roles_of(after, said(line).0).contains(&NETWORK_ADMIN);
    let new = || after.iter().map(|block| block.line).filter(|line| find(before, line).is_none());
    lines.extend(new().filter(is_admin).map(str::to_owned));
    lines.extend(new().filter(|line| !is_admin(line)).map(str::to_owned));
    for block in before {
        let (user, what) = said(block.line);
        let stays = |what: Said<'_>| after.iter().any(|b| said(b.line) == (user, what));
        match what {
            Said::User if !stays(Said::User) => lines.push(format!("no username {user}")),
            Said::User => {
                let has = roles_of(after, user);
                let gone = roles_of(before, user).into_iter().filter(|role| !has.contains(role));
                lines.extend(gone.map(|role| format!("no username {user} role {role}")));
            }
            Said::Key if stays(Said::User) && !stays(Said::Key) => lines.push(format!("no username {user} sshkey")),
            _ => {}
        }
    }
}

fn is_in(id: &str, set: &VlanSet) -> bool {
    id.parse::<u16>().ok().and_then(proto::addr::VlanId::new).is_some_and(|id| set.contains(id))
}

/// The blocks of a text, but for the list of its VLANs, which is compared by number.
fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut lines = text.lines().filter(|line| !line.is_empty()).peekable();
    let mut found = inside(&mut lines, 0);
    if let Some(at) = found.iter().position(|block| block.line.starts_with("vlan ")) {
        found.remove(at);
    }
    found
}

fn inside<'a>(lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, depth: usize) -> Vec<Block<'a>> {
    let mut found: Vec<Block<'a>> = Vec::new();
    while let Some(line) = lines.peek() {
        let text = line.trim_start();
        let at = (line.len() - text.len()) / 2;
        match (at > depth, found.last_mut()) {
            _ if at < depth => break,
            (true, Some(last)) => last.inside = inside(lines, depth + 1),
            _ => {
                found.push(Block { line: text, inside: Vec::new() });
                lines.next();
            }
        }
    }
    found
}

fn find<'a, 'b>(blocks: &'a [Block<'b>], line: &str) -> Option<&'a Block<'b>> {
    blocks.iter().find(|block| block.line == line)
}

/// Lines that are tried one after the other: where they differ, all that follow are typed anew.
const ORDERED: &str = "aggregate ";

/// The line of `other` that is the same as this one of `own`.
fn find_same<'a, 'b>(own: &[Block<'_>], other: &'a [Block<'b>], line: &str) -> Option<&'a Block<'b>> {
    let ordered = |blocks: &[Block<'_>]| -> Vec<String> {
        let lines = blocks.iter().map(|block| block.line).filter(|line| line.starts_with(ORDERED));
        lines.map(str::to_owned).collect()
    };
    if line.starts_with(ORDERED) {
        let (own, other) = (ordered(own), ordered(other));
        let common = own.iter().zip(&other).take_while(|(own, other)| own == other).count();
        if own.iter().position(|own| own == line)? >= common {
            return None;
        }
    }
    find(other, line)
}

fn push(lines: &mut Vec<String>, depth: usize, line: &str) {
    lines.push(format!("{}{line}", "  ".repeat(depth)));
}

fn take_back(before: &[Block<'_>], after: &[Block<'_>], depth: usize, lines: &mut Vec<String>) {
    for block in before.iter().rev() {
        let same = find_same(before, after, block.line);
        // These can't be taken back, only what they hold.
        // What runs is stopped before what does not is started: only so many run at a time.
        if depth == 1 && block.line == "no shut" && find(after, "shut").is_some() {
            push(lines, depth, "shut");
            continue;
        }
        let is_frame = depth == 0 && FRAMES.iter().any(|frame| block.line.starts_with(frame));
        if same.is_none() && !is_frame {
            if !is_replaced(block.line, after) {
                push(lines, depth, &negated(block.line));
            }
            continue;
        }
        let mut inner = Vec::new();
        take_back(&block.inside, same.map(|same| same.inside.as_slice()).unwrap_or_default(), depth + 1, &mut inner);
        if !inner.is_empty() {
            push(lines, depth, block.line);
            lines.append(&mut inner);
        }
    }
}

fn add(before: &[Block<'_>], after: &[Block<'_>], depth: usize, lines: &mut Vec<String>) {
    for block in after {
        let same = find_same(after, before, block.line);
        let mut inner = Vec::new();
        add(same.map(|same| same.inside.as_slice()).unwrap_or_default(), &block.inside, depth + 1, &mut inner);
        if same.is_none() || !inner.is_empty() {
            push(lines, depth, block.line);
            lines.append(&mut inner);
        }
    }
}

/// Another line of the block takes the place of this one by itself.
fn is_replaced(line: &str, after: &[Block<'_>]) -> bool {
    let word = REPLACED.iter().find(|word| line.starts_with(**word));
    let other = line.strip_prefix("no ").map_or_else(|| format!("no {line}"), str::to_owned);
    find(after, &other).is_some() || word.is_some_and(|word| after.iter().any(|block| block.line.starts_with(word)))
}

/// Heads of blocks that are always there.
const FRAMES: &[&str] = &["svs-domain", "vlan ", "line "];

/// Lines that name what is applied to one way of a port.
const APPLIED: &[&str] = &["ip port access-group ", "mac port access-group ", "ip flow monitor "];

fn negated(line: &str) -> String {
    // Without the name: a list that is called `in` would be taken for the way.
    if let Some(head) = APPLIED.iter().find(|head| line.starts_with(**head)) {
        // What comes behind the way is taken back with it.
        return format!("no {head}{}", line.split(' ').nth(4).unwrap_or_default());
    }
    if let Some((head, _)) = line.split_once("filter bpf ") {
        return format!("no {head}filter bpf");
    }
    if line.starts_with("mode ") {
        return "no mode".to_owned();
    }
    if line.starts_with("header-type ") {
        return "no header-type".to_owned();
    }
    if let Some(head) = SWITCHED.iter().find(|head| line.starts_with(**head)) {
        return format!("default {head}");
    }
    // Neither the key nor what else is said of a server.
    for command in ["radius-server", "tacacs-server"] {
        let own = line.strip_prefix(command).map(|rest| rest.split(' ').skip(1).collect::<Vec<_>>());
        match own.as_deref() {
            Some(["key", ..]) => return format!("no {command} key"),
            Some(["host", host, ..]) => return format!("no {command} host {host}"),
            _ => {}
        }
    }
    let line =
        line.split_once(" type ").filter(|_| line.starts_with("monitor session ")).map_or(line, |(head, _)| head);
    // `shutdown` and `no shutdown` both say something; `default` says that nothing is said.
    match line.strip_prefix("no ").unwrap_or(line) {
        word if word != line || line == "shutdown" => format!("default {word}"),
        _ => format!("no {line}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::session::Session;
    use crate::config::random;
    use crate::config::startup::load;
    use crate::supervisor::Handle;

    fn between(from: &str, to: &str) -> Vec<String> {
        patch(&load(from).unwrap(), &load(to).unwrap())
    }

    #[test]
    fn nothing_used_goes_first_and_nothing_comes_late() {
        let from = "hostname a\nvlan 10,20\nvlan 10\n name web\nip access-list x\n 10 permit ip any any\n\
                    port-profile web\n ip port access-group x in\n no shutdown\n state enabled\n\
                    interface veth1\n inherit port-profile web\n";
        let to = "hostname b\nvlan 20,30\nip access-list x\n 10 deny ip any any\nport-profile web\n shutdown\n\
                  switchport access vlan 30\ninterface veth1\n";
        assert_eq!(
            between(from, to),
            [
                "interface Vethernet1",
                "  no inherit port-profile web",
                "port-profile type vethernet web",
                "  no state enabled",
                "  no ip port access-group in",
                "ip access-list x",
                "  no 10 permit ip any any",
                "no vlan 10",
                "vlan 30",
                "hostname b",
                "ip access-list x",
                "  10 deny ip any any",
                "port-profile type vethernet web",
                "  switchport access vlan 30",
                "  shutdown",
            ]
        );
        assert!(between(from, from).is_empty());
    }

    #[test]
    fn rules_that_are_tried_in_order_come_back_in_order() {
        let monitor = |rules: &[&str]| {
            let rules: String = rules.iter().map(|rule| format!(" aggregate {rule}\n")).collect();
            format!("flow monitor m\n{rules}")
        };
        let [a, b, c] = ["port 80-89 to 80", "address 10.0.0.0/8 to 16", "port 1-1000 to 1"];
        let lines = between(&monitor(&[a, b, c]), &monitor(&[a, c, b]));
        let expected = [
            "flow monitor m",
            "  no aggregate port 1-1000 to 1",
            "  no aggregate address 10.0.0.0/8 to 16",
            "flow monitor m",
            "  aggregate port 1-1000 to 1",
            "  aggregate address 10.0.0.0/8 to 16",
        ];
        assert_eq!(lines, expected);
        assert_eq!(
            between(&monitor(&[a]), &monitor(&[a, b])),
            ["flow monitor m", "  aggregate address 10.0.0.0/8 to 16"]
        );
        assert!(between(&monitor(&[a, b]), &monitor(&[a, b])).is_empty());
    }

    /// The lines of every block in one order: a list that is filled anew may have another.
    fn sorted(model: &Model) -> Vec<String> {
        let text = body(model, &Part::Whole);
        let mut head = String::new();
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            if !line.starts_with(' ') {
                line.clone_into(&mut head);
            }
            lines.push(format!("{head}: {line}"));
        }
        lines.sort();
        lines
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn typing_the_patch_makes_the_one_into_the_other(from in random::model(), to in random::model()) {
            let handle = Handle::detached(from.clone());
            let mut session = Session::new(handle.clone());
            session.run_line("configure terminal");
            for line in patch(&from, &to) {
                let printed = session.run_line(line.trim_start());
                // An interface may inherit from a profile that is not there, which a command line can't say anew while
                // the profile that goes is still used; and a host may hold the number of another in between.
                prop_assume!(!printed.contains("is used by") && !printed.contains("belongs to host"));
                // Nor does a command line take the last administrator away.
                prop_assume!(!printed.contains("No network-admin"));
                prop_assert!(!session.has_failed(), "{}: {}", line, printed);
            }
            prop_assert_eq!(sorted(&handle.model()), sorted(&to));
        }
    }
}
