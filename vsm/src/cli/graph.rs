//! Commands compiled: one graph per mode, which the parser, `?` and Tab walk.
//!
//! ```text
//!   "show { vlan | mac } [<id:num:1-9>]"
//!        show         ┌─ vlan ─┐        ┌─ <id> ─┐
//!    (0) ────▶ (1) ···┤        ├··▶ (4) ┤        ├··▶ (6) accepts
//!                     └─ mac ──┘        └········┘          ··· without a token
//! ```
//!
//! The start state of a mode's graph is shared by all its commands, every other state belongs to one command. A loop
//! takes at least one word, so walking ends with the typed line. `no` has its own graphs. Built once, then only read.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::tree::{Command, Mode};

/// The type of an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `word`
    Word,
    /// `word80`
    Word80,
    /// `secret`
    Secret,
    /// `quoted`
    Quoted,
    /// `release`
    Release,
    /// `line`
    Line,
    /// `num:LOW-HIGH`
    Number(u32, u32),
    /// `vlan`
    Vlan,
    /// `vlans`
    Vlans,
    /// `if`
    Interface,
    /// `ifs`
    Interfaces,
    /// `ip`
    Ip,
    /// `ip6`
    Ip6,
    /// `prefix`
    Prefix,
    /// An IPv6 address and the length of its prefix.
    Prefix6,
    /// `mac`
    Mac,
    /// `hex16`
    Hex16,
    /// `port`
    Port,
}

/// What a step of a command consumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token {
    /// A keyword.
    Word(&'static str),
    /// A keyword that is kept as the argument `name`.
    Choice {
        /// Name of the argument.
        name: &'static str,
        /// The keyword.
        word: &'static str,
    },
    /// An argument.
    Argument {
        /// Its name.
        name: &'static str,
        /// Its type.
        kind: Kind,
    },
}

/// A step of a command.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    /// What it consumes.
    pub token: Token,
    /// Index of the command that it belongs to.
    pub command: usize,
    /// State behind it.
    pub to: usize,
}

#[derive(Clone, Debug, Default)]
struct State {
    free: Vec<usize>,
    edges: Vec<Edge>,
    accepts: Option<usize>,
}

/// All commands of a mode.
#[derive(Clone, Debug)]
pub struct Graph {
    states: Vec<State>,
    /// By state: the steps that can follow, and the command that is complete there.
    reached: Vec<(Vec<Edge>, Option<usize>)>,
}

impl Graph {
    fn new() -> Self {
        Graph { states: vec![State::default()], reached: Vec::new() }
    }

    fn add(&mut self) -> usize {
        self.states.push(State::default());
        self.states.len() - 1
    }

    fn build(&mut self, node: &Node, from: usize, command: usize) -> usize {
        match node {
            Node::Token(token) => {
                let to = self.add();
                self.states[from].edges.push(Edge { token: *token, command, to });
                to
            }
            Node::Sequence(nodes) => nodes.iter().fold(from, |at, node| self.build(node, at, command)),
            Node::OneOf(nodes) => {
                let exit = self.add();
                for node in nodes {
                    let entry = self.add();
                    self.states[from].free.push(entry);
                    let end = self.build(node, entry, command);
                    self.states[end].free.push(exit);
                }
                exit
            }
            Node::Repeated(node) => {
                // A round takes at least one word, so walking ends with the line.
                let entry = self.add();
                self.states[from].free.push(entry);
                let end = self.build(node, entry, command);
                self.states[end].free.push(entry);
                entry
            }
            Node::Optional(node) => {
                let exit = self.build(&Node::OneOf(vec![Node::clone(node)]), from, command);
                self.states[from].free.push(exit);
                exit
            }
        }
    }

    /// `state` and every state that is reached from it without a token.
    fn closure(&self, state: usize) -> Vec<usize> {
        let mut seen = vec![state];
        let mut next = 0;
        while let Some(&at) = seen.get(next) {
            next += 1;
            for &to in self.states.get(at).map(|s| s.free.as_slice()).unwrap_or_default() {
                if !seen.contains(&to) {
                    seen.push(to);
                }
            }
        }
        seen
    }

    /// Follows the ways without a token once and for all.
    fn finish(&mut self) {
        let reach = |state: usize| {
            let closure = self.closure(state);
            let mut edges: Vec<Edge> = closure.iter().flat_map(|at| self.states[*at].edges.iter().copied()).collect();
            edges.sort_by_key(|edge| edge.command);
            (edges, closure.iter().filter_map(|at| self.states[*at].accepts).min())
        };
        self.reached = (0..self.states.len()).map(reach).collect();
    }

    /// The steps that can follow, in the order of declaration.
    pub fn edges(&self, state: usize) -> &[Edge] {
        self.reached.get(state).map(|(edges, _)| edges.as_slice()).unwrap_or_default()
    }

    /// The command that is complete here.
    pub fn accepts(&self, state: usize) -> Option<usize> {
        self.reached.get(state).and_then(|(_, accepts)| *accepts)
    }
}

/// A syntax string that can't be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax '{syntax}': {what}")]
pub struct Malformed {
    /// The string.
    pub syntax: &'static str,
    /// What is wrong with it.
    pub what: String,
}

/// All commands of the switch.
pub struct Tree {
    /// The declarations.
    pub commands: Vec<Command>,
    graphs: BTreeMap<(Mode, bool), Graph>,
}

impl Tree {
    /// Compiles the commands.
    pub fn new(commands: Vec<Command>) -> Result<Self, Malformed> {
        let mut graphs: BTreeMap<(Mode, bool), Graph> = BTreeMap::new();
        for (index, command) in commands.iter().enumerate() {
            let forms = [(false, Some(command.syntax)), (true, command.no)];
            for (negated, syntax) in forms.into_iter().filter_map(|(n, s)| Some((n, s?))) {
                let node = parse_syntax(syntax).map_err(|what| Malformed { syntax, what })?;
                for mode in command.modes {
                    let graph = graphs.entry((*mode, negated)).or_insert_with(Graph::new);
                    let end = graph.build(&node, 0, index);
                    graph.states[end].accepts = Some(index);
                }
            }
        }
        graphs.values_mut().for_each(Graph::finish);
        Ok(Tree { commands, graphs })
    }

    /// The tree of this switch.
    ///
    /// # Panics
    /// When a declaration in [`super::cmd`] is malformed, which every test of the command line would show.
    pub fn shared() -> &'static Tree {
        static TREE: LazyLock<Tree> = LazyLock::new(|| match Tree::new(super::cmd::all()) {
            Ok(tree) => tree,
            Err(error) => panic!("{error}"),
        });
        &TREE
    }

    /// The commands of a mode, plain or behind `no`.
    pub fn graph(&self, mode: Mode, negated: bool) -> Option<&Graph> {
        self.graphs.get(&(mode, negated))
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Node {
    Token(Token),
    Sequence(Vec<Node>),
    OneOf(Vec<Node>),
    Optional(Box<Node>),
    Repeated(Box<Node>),
}

impl Node {
    /// Every way through it takes a word.
    fn takes_a_word(&self) -> bool {
        match self {
            Node::Token(_) => true,
            Node::Sequence(nodes) => nodes.iter().any(Node::takes_a_word),
            Node::OneOf(nodes) => nodes.iter().all(Node::takes_a_word),
            Node::Optional(_) | Node::Repeated(_) => false,
        }
    }
}

fn parse_syntax(syntax: &'static str) -> Result<Node, String> {
    let lexemes = lex(syntax)?;
    let mut at = 0;
    let node = alternatives(&lexemes, &mut at)?;
    match lexemes.get(at) {
        None if matches!(node, Node::OneOf(_)) => Err("'|' outside brackets".into()),
        None => Ok(node),
        Some(lexeme) => Err(format!("stray '{lexeme}'")),
    }
}

fn lex(syntax: &'static str) -> Result<Vec<&'static str>, String> {
    let mut lexemes = Vec::new();
    let mut rest = syntax.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '[' | ']' | '{' | '}' | '|' | '*' => 1,
            '<' => rest.find('>').ok_or("'<' without '>'")? + 1,
            _ => rest.find(|c: char| c.is_whitespace() || "[]{}|<>".contains(c)).unwrap_or(rest.len()),
        };
        if end == 0 {
            return Err(format!("stray '{first}'"));
        }
        lexemes.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    Ok(lexemes)
}

fn alternatives(lexemes: &[&'static str], at: &mut usize) -> Result<Node, String> {
    let mut nodes = vec![sequence(lexemes, at)?];
    while lexemes.get(*at) == Some(&"|") {
        *at += 1;
        nodes.push(sequence(lexemes, at)?);
    }
    Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::OneOf(nodes) })
}

fn sequence(lexemes: &[&'static str], at: &mut usize) -> Result<Node, String> {
    let mut nodes = Vec::new();
    while let Some(&lexeme) = lexemes.get(*at) {
        let close = match lexeme {
            "|" | "]" | "}" => break,
            "*" => return Err("stray '*'".into()),
            "[" => "]",
            "{" => "}",
            _ => {
                nodes.push(token(lexeme)?);
                *at += 1;
                continue;
            }
        };
        *at += 1;
        let inner = alternatives(lexemes, at)?;
        if lexemes.get(*at) != Some(&close) {
            return Err(format!("'{lexeme}' without '{close}'"));
        }
        *at += 1;
        let is_repeated = lexemes.get(*at) == Some(&"*");
        nodes.push(match lexeme {
            "[" if is_repeated && inner.takes_a_word() => Node::Repeated(Box::new(inner)),
            _ if is_repeated => return Err("'*' needs '[ ]' round what takes a word".into()),
            "[" => Node::Optional(Box::new(inner)),
            _ => inner,
        });
        *at += usize::from(is_repeated);
    }
    if nodes.is_empty() { Err("nothing between brackets or bars".into()) } else { Ok(Node::Sequence(nodes)) }
}

fn token(lexeme: &'static str) -> Result<Node, String> {
    let Some(inside) = lexeme.strip_prefix('<').and_then(|l| l.strip_suffix('>')) else {
        return Ok(Node::Token(Token::Word(lexeme)));
    };
    if let Some((name, words)) = inside.split_once('=') {
        let words: Vec<&'static str> = words.split('|').map(str::trim).collect();
        if name.is_empty() || words.iter().any(|word| word.is_empty()) {
            return Err(format!("empty name or word in '{lexeme}'"));
        }
        return Ok(Node::OneOf(words.into_iter().map(|word| Node::Token(Token::Choice { name, word })).collect()));
    }
    let (name, kind) = inside.split_once(':').ok_or_else(|| format!("'{lexeme}' has no type"))?;
    if name.is_empty() {
        return Err(format!("'{lexeme}' has no name"));
    }
    let kind = match kind {
        "word" => Kind::Word,
        "word80" => Kind::Word80,
        "secret" => Kind::Secret,
        "quoted" => Kind::Quoted,
        "release" => Kind::Release,
        "line" => Kind::Line,
        "vlan" => Kind::Vlan,
        "vlans" => Kind::Vlans,
        "if" => Kind::Interface,
        "ifs" => Kind::Interfaces,
        "ip" => Kind::Ip,
        "ip6" => Kind::Ip6,
        "prefix" => Kind::Prefix,
        "prefix6" => Kind::Prefix6,
        "mac" => Kind::Mac,
        "hex16" => Kind::Hex16,
        "port" => Kind::Port,
        _ => number_kind(kind).ok_or_else(|| format!("unknown type in '{lexeme}'"))?,
    };
    Ok(Node::Token(Token::Argument { name, kind }))
}

fn number_kind(kind: &str) -> Option<Kind> {
    let (low, high) = kind.strip_prefix("num:")?.split_once('-')?;
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (low <= high).then_some(Kind::Number(low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_syntax_is_found() {
        let long = ["", "a [", "a [ b", "a ] b", "a | b", "{ a | }", "[ ]", "<x>", "<x:", "<x:thing>", "<:num:1-2>"];
        for syntax in
            long.into_iter().chain(["<x:num:5-1>", "<x=a||b>", "a > b", "{ a ]", "{ a }*", "[ [ a ] ]*", "* a"])
        {
            assert!(parse_syntax(syntax).is_err(), "{syntax}");
        }
        for syntax in
            ["a", "a-b c [<x:num:1-2>] { d | e [f] | <y=g|h> }", "[ a | b ] c", "tacacs+ <x:line>", "a [ b | c ]* d"]
        {
            assert!(parse_syntax(syntax).is_ok(), "{syntax}");
        }
    }

    #[test]
    fn the_commands_of_this_switch_compile() {
        let tree = Tree::shared();
        assert!(!tree.commands.is_empty());
        for command in &tree.commands {
            assert!(!command.help.is_empty() && !command.modes.is_empty(), "{}", command.syntax);
        }
    }
}
