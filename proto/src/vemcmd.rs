//! What a VEM shows of itself: the one list of its `show` commands, for the agent that answers them and for the
//! supervisor that offers them under `module N execute vemcmd` and `attach vem N`.
//!
//! A command is a few words and at most one number behind them. Words may be shortened as long as they are unique at
//! their place; a word in full goes before one that it only begins.

/// Most octets of an answer; the agent cuts what is longer at a line's end and says so.
pub const TEXT_MAX: usize = 1 << 20;

/// The number behind the words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Number {
    /// None.
    No,
    /// May be left out; from 1 to 10000.
    Count,
    /// A VLAN, 1-4094.
    Vlan,
}

/// A command behind `show`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Show {
    /// Its words.
    pub words: &'static str,
    /// The number behind them.
    pub number: Number,
    /// What it shows.
    pub help: &'static str,
}

const fn show(words: &'static str, help: &'static str) -> Show {
    Show { words, number: Number::No, help }
}

/// All of them.
pub const SHOWS: &[Show] = &[
    show("access-lists", "matches per rule"),
    show("acl", "access lists and their rules"),
    show("acl pinst", "access lists by port"),
    show("card", "this module: identity, session to the supervisor, configuration that runs"),
    show("drops", "dropped frames by port and reason, and the last of them"),
    show("exporters", "flow exporters and the flow cache"),
    Show { words: "flows", number: Number::Count, help: "the flow cache, largest first" },
    show("heap", "memory of the agent's process"),
    show("l2 all", "the MAC address table"),
    Show { words: "l2", number: Number::Vlan, help: "the MAC address table of a VLAN" },
    show("limits", "what the tables hold and can hold"),
    show("mac", "the MAC address table"),
    show("monitor", "monitor sessions"),
    show("netflow interface", "flow monitors by port"),
    show("netflow monitor", "flow monitors"),
    show("netflow stats", "flow exporters and the flow cache"),
    show("packets", "frames by port and kind"),
    show("pd-port", "uplinks and their devices"),
    show("port", "ports: interface, state, device"),
    show("port vlans", "ports and their VLANs"),
    show("port-drops", "dropped frames by port and direction"),
    show("port-drops egress", "frames that could not leave, by port"),
    show("port-drops ingress", "dropped frames by the port that they came from"),
    show("portmac", "ports and the addresses of their cards"),
    show("ports", "ports, their states and counters"),
    show("profile", "port profiles that this module knows"),
    show("span", "monitor sessions with sources and destinations"),
    show("stats", "octets, frames and rates by port"),
    show("trunk", "trunk ports and their VLANs"),
    show("vhost", "vhost-user ports: socket, guest, what was negotiated, errors"),
    show("vlan", "VLANs and their ports"),
    show("vsm uptime", "the session to the supervisor"),
    show("workers", "the dataplane's threads: core, load, ports, and how they rest"),
];

/// A command that was typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Which.
    pub show: &'static Show,
    /// The number behind it.
    pub number: Option<u32>,
}

/// Reads `show WORDS [NUMBER]`.
///
/// # Errors
/// It is none of [`SHOWS`]; in English, without the list.
pub fn parse(typed: &str) -> Result<Asked, String> {
    let mut pieces = typed.split_whitespace();
    let first = pieces.next().unwrap_or_default();
    if first.is_empty() || !"show".starts_with(first) {
        return Err("only 'show' commands are answered here".to_owned());
    }
    let mut fitting: Vec<&'static Show> = SHOWS.iter().collect();
    let mut at = 0;
    for piece in pieces.by_ref() {
        let word = |show: &Show| show.words.split(' ').nth(at);
        let mut next: Vec<&'static Show> =
            fitting.iter().copied().filter(|show| word(show).is_some_and(|word| word.starts_with(piece))).collect();
        if next.iter().any(|show| word(show) == Some(piece)) {
            next.retain(|show| word(show) == Some(piece));
        }
        if next.is_empty() {
            return number(&fitting, at, piece, pieces);
        }
        let first = next.first().and_then(|show| word(show));
        if next.iter().any(|show| word(show) != first) {
            return Err(format!("'{piece}' is ambiguous"));
        }
        (fitting, at) = (next, at + 1);
    }
    let whole =
        fitting.iter().find(|show| at > 0 && show.words.split(' ').count() == at && show.number != Number::Vlan);
    match whole {
        Some(show) => Ok(Asked { show, number: None }),
        None if at == 0 => Err("what is to be shown?".to_owned()),
        None => Err("something is missing at the end".to_owned()),
    }
}

/// What the words so far leave is a number and the end.
fn number<'a>(
    fitting: &[&'static Show],
    at: usize,
    piece: &str,
    mut behind: impl Iterator<Item = &'a str>,
) -> Result<Asked, String> {
    let takes = |show: &&&'static Show| show.number != Number::No && show.words.split(' ').count() == at;
    let Some(show) = fitting.iter().find(takes) else {
        let is_whole = at > 0 && fitting.iter().any(|show| show.words.split(' ').count() == at);
        return Err(if is_whole { "too many words".to_owned() } else { format!("'{piece}' is not known") });
    };
    let (range, what) = match show.number {
        Number::Vlan => (1..=4094, "a VLAN is a number from 1 to 4094"),
        _ => (1..=10_000, "a count is a number from 1 to 10000"),
    };
    let number = piece.parse().ok().filter(|n| range.contains(n)).ok_or(what)?;
    match behind.next() {
        None => Ok(Asked { show, number: Some(number) }),
        Some(_) => Err("too many words".to_owned()),
    }
}

/// The list, a line for each command.
pub fn help() -> String {
    let line = |show: &Show| {
        let number = match show.number {
            Number::No => "",
            Number::Count => " [COUNT]",
            Number::Vlan => " VLAN",
        };
        format!("  show {:<20}{}\n", format!("{}{number}", show.words), show.help)
    };
    SHOWS.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(typed: &str) -> Result<(&'static str, Option<u32>), String> {
        parse(typed).map(|asked| (asked.show.words, asked.number))
    }

    #[test]
    fn words_may_be_shortened() {
        for show in SHOWS.iter().filter(|show| show.number != Number::Vlan) {
            assert_eq!(words(&format!("show {}", show.words)), Ok((show.words, None)));
        }
        assert_eq!(words("sh f"), Ok(("flows", None)));
        assert_eq!(words("show f 7"), Ok(("flows", Some(7))));
        assert_eq!(words("show port"), Ok(("port", None)), "in full it is not ambiguous");
        assert_eq!(words("show port v"), Ok(("port vlans", None)));
        assert_eq!(words("show port-drops in"), Ok(("port-drops ingress", None)));
        assert_eq!(words("show l2 10"), Ok(("l2", Some(10))));
        assert_eq!(words("show l a"), Err("'l' is ambiguous".into()));
        assert_eq!(words("show l2 all"), Ok(("l2 all", None)));
        assert_eq!(words("show vs up"), Ok(("vsm uptime", None)));
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        for (typed, why) in [
            ("", "only 'show' commands are answered here"),
            ("clear counters", "only 'show' commands are answered here"),
            ("show", "what is to be shown?"),
            ("show x", "'x' is not known"),
            ("show po", "'po' is ambiguous"),
            ("show card x", "too many words"),
            ("show l2", "something is missing at the end"),
            ("show l2 0", "a VLAN is a number from 1 to 4094"),
            ("show l2 4095", "a VLAN is a number from 1 to 4094"),
            ("show l2 10 x", "too many words"),
            ("show flows x", "a count is a number from 1 to 10000"),
            ("show netflow", "something is missing at the end"),
            ("show vsm x", "'x' is not known"),
        ] {
            assert_eq!(words(typed), Err(why.to_owned()), "{typed}");
        }
        assert_eq!(help().lines().count(), SHOWS.len());
    }
}
