//! Commands parse as the tree says, in every order of their options and with every word shortened as far as it stays
//! unique; one letter less is ambiguous.
//!
//! The oracle walks the graph of a mode by itself: it chooses steps at random, writes a word for each, and knows from the
//! steps that were open at a place which shorter forms a word has there. What it does not know, such as which of two
//! arguments takes a number, it leaves to the full spelling: both spellings must come to the same.

use std::collections::BTreeSet;

use vsm::cli::graph::{Edge, Graph, Kind, Token, Tree};
use vsm::cli::parse::parse;
use vsm::cli::tree::{Error, Mode};

/// Commands that are typed.
const CASES: usize = 5_000;
/// Words of a command; loops end here.
const WORDS_MAX: usize = 24;

/// A generator of numbers (xorshift64*), so that a failure is found again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// Where a command can begin.
fn places(tree: &Tree) -> Vec<(Mode, bool, &Graph)> {
    let modes: BTreeSet<Mode> = tree.commands.iter().flat_map(|command| command.modes.iter().copied()).collect();
    let both = modes.into_iter().flat_map(|mode| [(mode, false), (mode, true)]);
    both.filter_map(|(mode, negated)| Some((mode, negated, tree.graph(mode, negated)?))).collect()
}

fn keyword(edge: &Edge) -> Option<&'static str> {
    match edge.token {
        Token::Word(word) | Token::Choice { word, .. } => Some(word),
        Token::Argument { .. } => None,
    }
}

/// A text for an argument, which begins no keyword.
fn argument(kind: Kind, random: &mut Random) -> String {
    let text = match kind {
        Kind::Word | Kind::Word80 | Kind::Line => "zq9",
        Kind::Secret => "zq|secret9",
        Kind::Quoted => "\"zq9 | x\"",
        Kind::Release => "0.1.0",
        Kind::Number(low, high) => return (low as usize + random.below((high - low) as usize + 1)).to_string(),
        Kind::Vlan => "7",
        Kind::Vlans => "3-5,7",
        Kind::Interface => "veth3",
        Kind::Interfaces => "veth1-3,eth3/1",
        Kind::Ip => "192.0.2.1",
        Kind::Ip6 => "2001:db8::1",
        Kind::Prefix => "192.0.2.0/24",
        Kind::Prefix6 => "2001:db8::/32",
        Kind::Mac => "0200.0000.0001",
        Kind::Hex16 => "0x86dd",
        Kind::Port => "4711",
    };
    text.to_owned()
}

/// A word of a command: in full, and in the forms that the open steps leave it.
struct Typed {
    full: String,
    /// The shortest form that is unique, and the next shorter one; nothing is known about arguments.
    unique: Option<String>,
    ambiguous: Option<String>,
}

/// Forms of `word` among the steps that are open.
fn typed(word: &'static str, open: &[Edge], is_sure: bool) -> Typed {
    let rivals: BTreeSet<&str> = open.iter().filter_map(keyword).filter(|other| *other != word).collect();
    let has_arguments = open.iter().any(|edge| keyword(edge).is_none());
    let begins = |rival: &&str, length: usize| {
        rival.get(..length).is_some_and(|start| start.eq_ignore_ascii_case(&word[..length]))
    };
    let unique_at = (1..word.len()).find(|length| !rivals.iter().any(|rival| begins(rival, *length)));
    let unique = unique_at.filter(|_| !has_arguments).map(|length| word[..length].to_owned());
    let shorter = unique_at.unwrap_or(word.len()).checked_sub(1).filter(|length| *length > 0);
    let is_word =
        |length: usize| open.iter().filter_map(keyword).any(|other| other.eq_ignore_ascii_case(&word[..length]));
    let ambiguous = shorter.filter(|length| is_sure && !has_arguments && !is_word(*length));
    Typed { full: word.to_owned(), unique, ambiguous: ambiguous.map(|length| word[..length].to_owned()) }
}

/// Walks from the start to where a command is complete.
fn walk(graph: &Graph, random: &mut Random) -> Option<(Vec<Typed>, usize)> {
    let mut words: Vec<Typed> = Vec::new();
    let (mut at, mut open) = (0, vec![0]);
    // Until an argument is typed it is known which steps are open.
    let mut is_sure = true;
    while words.len() < WORDS_MAX {
        let edges = graph.edges(at);
        if let Some(command) = graph.accepts(at).filter(|_| !words.is_empty())
            && (edges.is_empty() || random.below(3) == 0)
        {
            return Some((words, command));
        }
        if edges.is_empty() {
            return None;
        }
        let chosen = edges[random.below(edges.len())];
        let all: Vec<Edge> = open.iter().flat_map(|state| graph.edges(*state).iter().copied()).collect();
        let fits: Vec<Edge> = match (keyword(&chosen), chosen.token) {
            (Some(word), _) => {
                words.push(typed(word, &all, is_sure));
                all.into_iter().filter(|edge| keyword(edge).is_some_and(|k| k.eq_ignore_ascii_case(word))).collect()
            }
            (None, Token::Argument { kind, .. }) => {
                is_sure = false;
                words.push(Typed { full: argument(kind, random), unique: None, ambiguous: None });
                all.into_iter().filter(|edge| keyword(edge).is_none()).collect()
            }
            _ => return None,
        };
        (at, open) = (chosen.to, fits.into_iter().map(|edge| edge.to).collect());
        if matches!(chosen.token, Token::Argument { kind: Kind::Line, .. }) {
            return graph.accepts(at).map(|command| (words, command));
        }
    }
    None
}

fn line(negated: bool, words: impl IntoIterator<Item = String>) -> String {
    negated.then(|| "no".to_owned()).into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

#[test]
fn shortened_commands_parse_as_the_tree_says() {
    let tree = Tree::shared();
    let places = places(tree);
    let mut random = Random(0x5eed_0004);
    let (mut shortened, mut unclear, mut commands) = (0, 0, BTreeSet::new());
    let mut done = 0;
    while done < CASES {
        let (mode, negated, graph) = places[random.below(places.len())];
        let Some((words, command)) = walk(graph, &mut random) else { continue };
        done += 1;
        let full = line(negated, words.iter().map(|word| word.full.clone()));
        let read = |text: &str| parse(tree, mode, text).map(|parsed| parsed.expect("a command"));
        let expected = read(&full).unwrap_or_else(|error| panic!("{mode:?}: '{full}': {error}"));
        let declared = &tree.commands[command];
        assert_eq!((expected.mode, expected.command.syntax), (mode, declared.syntax), "'{full}'");
        commands.insert((mode, negated, declared.syntax));
        // A single word may be one of an outer mode as well; there the whole word is asked for.
        if words.len() == 1 {
            continue;
        }
        let short = line(
            negated,
            words
                .iter()
                .map(|word| word.unique.clone().filter(|_| random.below(4) > 0).unwrap_or_else(|| word.full.clone())),
        );
        let parsed = read(&short).unwrap_or_else(|error| panic!("{mode:?}: '{short}' for '{full}': {error}"));
        assert_eq!(
            (parsed.mode, parsed.command.syntax, &parsed.args),
            (mode, declared.syntax, &expected.args),
            "{short}"
        );
        shortened += usize::from(short != full);
        let candidates: Vec<usize> = (0..words.len()).filter(|i| words[*i].ambiguous.is_some()).collect();
        if candidates.is_empty() {
            continue;
        }
        let at = candidates[random.below(candidates.len())];
        let text = line(
            negated,
            words.iter().enumerate().map(|(i, word)| match &word.ambiguous {
                Some(short) if i == at => short.clone(),
                _ => word.full.clone(),
            }),
        );
        match parse(tree, mode, &text).map(|parsed| parsed.map(|parsed| parsed.mode)) {
            Err(Error::At { what, .. }) => assert_eq!(what, "Ambiguous command", "{mode:?}: '{text}' of '{full}'"),
            // A command of an outer mode that goes on like this is meant then.
            Ok(Some(other)) => assert_ne!(other, mode, "'{text}' of '{full}'"),
            other => panic!("'{text}' of '{full}': {other:?}"),
        }
        unclear += 1;
    }
    println!("{done} commands, {} different ones; {shortened} shortened, {unclear} too far", commands.len());
    assert!(shortened > CASES / 2 && unclear > CASES / 5, "{shortened}, {unclear}");
}
