//! `?` and Tab.

use proto::name::{ETHERNET_PORT_MAX, VETHERNET_MAX};

use super::argument::pieces;
use super::graph::{Edge, Kind, Token, Tree};
use super::parse::{Walk, abbreviates, is_no};
use super::pipe;
use super::service;
use super::tree::{Command, Error, Mode};

/// A word that can follow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The keyword, or the form of an argument, such as `<1-4094>` or `WORD`.
    pub word: String,
    /// What it means.
    pub help: String,
    /// It can be typed as it stands.
    pub keyword: bool,
}

/// Whether somebody might type a command: what he may not is not offered.
pub type Might<'a> = &'a dyn Fn(&Command) -> bool;

/// What can follow `line`, which ends at the cursor; and whether the command is complete as it is.
pub fn candidates(tree: &Tree, mode: Mode, line: &str, might: Might<'_>) -> (Vec<Candidate>, bool) {
    // A description may hold a bar.
    if let Some((command, filter)) = pipe::split(line).filter(|_| !is_complete(tree, mode, line)) {
        let known = !candidates(tree, mode, command, might).0.is_empty() || is_complete(tree, mode, command);
        return (if known { pipe::candidates(filter) } else { Vec::new() }, false);
    }
    let mut words = pieces(line);
    let partial = match line.ends_with(char::is_whitespace) {
        true => "",
        false => words.pop().map(|piece| piece.text).unwrap_or_default(),
    };
    let negated = words.first().is_some_and(|piece| is_no(piece.text));
    let words = if negated { words.split_off(1) } else { words };
    let mut found: Vec<Candidate> = Vec::new();
    let mut complete = false;
    for around in mode.chain() {
        // An empty line lists what the mode is for and what works everywhere, not the whole configuration.
        let is_inside = !matches!(mode, Mode::Config | Mode::ConfigSession);
        let is_noise = words.is_empty() && partial.is_empty() && around == Mode::Config && is_inside;
        let Some(graph) = tree.graph(around, negated).filter(|_| !is_noise) else { continue };
        let walk = Walk::new(graph, line, &words);
        for thread in &walk.threads {
            complete |= graph.accepts(thread.state).is_some() && !words.is_empty();
            let edges = graph.edges(thread.state).iter().filter(|edge| might(&tree.commands[edge.command]));
            found.extend(edges.flat_map(|edge| offers(tree, edge)));
        }
        found.extend(walk.unnumbered.iter().map(|(word, edge)| number_offer(tree, word, edge)));
    }
    if words.is_empty() && !negated && !matches!(mode, Mode::Exec | Mode::Vem) {
        found.push(Candidate { word: "no".into(), help: "Negate a command or set its defaults".into(), keyword: true });
    }
    found.retain(|candidate| match candidate.keyword {
        true => partial.is_empty() || abbreviates(partial, &candidate.word),
        false => partial.is_empty(),
    });
    found.sort_by(|a, b| (!a.keyword, &a.word).cmp(&(!b.keyword, &b.word)));
    found.dedup_by(|a, b| a.word == b.word);
    (found, complete && partial.is_empty())
}

fn is_complete(tree: &Tree, mode: Mode, command: &str) -> bool {
    matches!(super::parse::parse(tree, mode, command), Ok(Some(_)))
}

fn explain(tree: &Tree, edge: &Edge, name: &str) -> String {
    let command = &tree.commands[edge.command];
    let own = command.words.iter().find(|(word, _)| *word == name).map(|(_, help)| (*help).to_owned());
    own.or_else(|| super::words::explain(name).map(str::to_owned)).unwrap_or_else(|| command.help.to_owned())
}

fn offers(tree: &Tree, edge: &Edge) -> Vec<Candidate> {
    let offer = |word: String, help: String, keyword| vec![Candidate { word, help, keyword }];
    let (name, kind) = match edge.token {
        Token::Word(word) => return offer(word.to_owned(), explain(tree, edge, word), true),
        Token::Choice { name, word } => {
            let command = &tree.commands[edge.command];
            let named = command.words.iter().any(|(w, _)| *w == word) || super::words::explain(word).is_some();
            return offer(word.to_owned(), explain(tree, edge, if named { word } else { name }), true);
        }
        Token::Argument { name, kind } => (name, kind),
    };
    let help = explain(tree, edge, name);
    let form = match kind {
        Kind::Word | Kind::Word80 | Kind::Secret | Kind::Release => "WORD".to_owned(),
        Kind::Line => "LINE".to_owned(),
        Kind::Quoted => "\"TEXT\"".to_owned(),
        Kind::Number(low, high) => format!("<{low}-{high}>"),
        Kind::Vlan => "<1-4094>".to_owned(),
        Kind::Vlans => "<1-4094>[,-]".to_owned(),
        Kind::Ip => "A.B.C.D".to_owned(),
        Kind::Ip6 => "A:B::C:D".to_owned(),
        Kind::Prefix => "A.B.C.D/LEN".to_owned(),
        Kind::Prefix6 => "A:B::C:D/LEN".to_owned(),
        Kind::Mac => "E.E.E".to_owned(),
        Kind::Hex16 => "<0x0-0xffff>".to_owned(),
        Kind::Port => {
            let named = |(name, port): (&str, u16)| Candidate {
                word: name.to_owned(),
                help: format!("Port {port}"),
                keyword: true,
            };
            let number = Candidate { word: "<0-65535>".to_owned(), help, keyword: false };
            return service::all().map(named).chain([number]).collect();
        }
        Kind::Interface | Kind::Interfaces => {
            let words = [("ethernet", "Uplink of a module"), ("vethernet", "Card of a VM")];
            return words
                .into_iter()
                .map(|(word, help)| Candidate { word: word.to_owned(), help: help.to_owned(), keyword: true })
                .collect();
        }
    };
    offer(form, help, false)
}

fn number_offer(tree: &Tree, word: &str, edge: &Edge) -> Candidate {
    let name = match edge.token {
        Token::Argument { name, .. } => name,
        Token::Word(word) | Token::Choice { word, .. } => word,
    };
    let word = match word {
        "ethernet" => format!("<3-66>/<1-{ETHERNET_PORT_MAX}>"),
        "mgmt" => "<0-0>".to_owned(),
        _ => format!("<1-{VETHERNET_MAX}>"),
    };
    Candidate { word, help: explain(tree, edge, name), keyword: false }
}

/// The text that `?` prints behind `line`.
///
/// # Errors
/// Nothing can: the column of what is wrong with the line.
pub fn help(tree: &Tree, mode: Mode, line: &str, might: Might<'_>) -> Result<String, usize> {
    let (candidates, complete) = candidates(tree, mode, line, might);
    if candidates.is_empty() && !complete {
        return Err(match super::parse::parse(tree, mode, line) {
            Err(Error::At { column, .. }) => column,
            _ => pieces(line).last().map_or(0, |piece| piece.column),
        });
    }
    let width = candidates.iter().map(|c| c.word.len()).max().unwrap_or(0).max(4);
    let mut text = String::new();
    if complete {
        text.push_str("  <CR>\n");
    }
    for Candidate { word, help, .. } in candidates {
        text.push_str(&format!("  {word:width$}  {help}\n"));
    }
    if complete && pieces(line).first().is_some_and(|piece| abbreviates(piece.text, "show")) {
        text.push_str(&format!("  {:width$}  Filter the output\n", "|"));
    }
    Ok(text)
}

/// What Tab adds to `line`: the rest of the word that is meant, as far as it is clear.
pub fn completion(tree: &Tree, mode: Mode, line: &str, might: Might<'_>) -> Option<String> {
    if line.trim().is_empty() {
        return None;
    }
    let partial = line.rsplit(char::is_whitespace).next()?;
    let (found, is_complete) = candidates(tree, mode, line, might);
    // Behind a blank only what must follow is typed.
    if partial.is_empty() && (is_complete || found.len() != 1) {
        return None;
    }
    let keywords: Vec<String> = found.into_iter().filter(|c| c.keyword).map(|c| c.word).collect();
    let first = keywords.first()?;
    let shared = keywords.iter().fold(first.len(), |length, word| {
        let same = word.bytes().zip(first.bytes()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
        length.min(same)
    });
    let rest = first.get(partial.len()..shared)?.to_owned();
    let blank = if keywords.len() == 1 { " " } else { "" };
    Some(rest + blank).filter(|rest| !rest.is_empty())
}

/// The words among which Tab can't choose, a line each; empty when there is no choice.
pub fn choice(tree: &Tree, mode: Mode, line: &str, might: Might<'_>) -> String {
    if line.trim().is_empty() {
        return String::new();
    }
    let keywords: Vec<String> =
        candidates(tree, mode, line, might).0.into_iter().filter(|c| c.keyword).map(|c| c.word).collect();
    if keywords.len() < 2 { String::new() } else { keywords.iter().map(|word| format!("  {word}\n")).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(mode: Mode, line: &str) -> Vec<String> {
        candidates(Tree::shared(), mode, line, &|_| true).0.into_iter().map(|c| c.word).collect()
    }

    #[test]
    fn question_mark_lists_what_follows() {
        assert_eq!(words(Mode::Exec, "sho"), ["show"]);
        assert_eq!(words(Mode::Exec, "terminal length "), ["<0-511>"]);
        assert_eq!(words(Mode::Exec, "conf t"), ["terminal"]);
        assert!(words(Mode::Exec, "show module xx ").is_empty());
        assert!(words(Mode::Interface, "description one | c").is_empty());
        assert_eq!(words(Mode::Exec, "show terminal | inc"), ["include"]);
        let at = |line| help(Tree::shared(), Mode::Exec, line, &|_| true).unwrap_err();
        assert_eq!((at("show frob "), at("show mod zz"), at("frob")), (5, 9, 0));
        let help = help(Tree::shared(), Mode::Exec, "terminal ", &|_| true).unwrap();
        assert!(help.contains("  length           "), "{help}");
        assert!(words(Mode::IpAcl, "permit tcp any any eq ").contains(&"<0-65535>".to_owned()));
        assert_eq!(words(Mode::IpAcl, "permit tcp any any eq te"), ["telnet"]);
        assert!(words(Mode::Config, "").contains(&"no".to_owned()));
    }

    #[test]
    fn tab_adds_what_is_clear() {
        let tab = |line| completion(Tree::shared(), Mode::Exec, line, &|_| true);
        assert_eq!(tab("conf"), Some("igure ".into()));
        assert_eq!(tab("sh"), Some("ow ".into()));
        assert_eq!(tab("terminal w"), Some("idth ".into()));
        assert_eq!((tab("zz"), tab(""), tab("show "), tab("show zz v")), (None, None, None, None));
        assert_eq!((tab("rollback "), tab("configure ")), (Some("running-config ".into()), None));
        let options = |line| choice(Tree::shared(), Mode::Exec, line, &|_| true);
        assert_eq!(options("show mac a"), "  access-lists\n  address-table\n");
        assert_eq!((options(""), options("conf")), (String::new(), String::new()));
    }
}
