//! From a typed line to a command and its arguments.
//!
//! At every word the best kind of match decides: a keyword in full, then an argument with a form of its own (number,
//! address, interface), then an abbreviated keyword, which must stand for one keyword only, then a free word. Commands
//! of the mode are tried first, then those of the modes around it; when no mode fits, the error that lies furthest to
//! the right is the one that helps.

use super::argument::{self, Piece, Reading, pieces};
use super::graph::{Edge, Graph, Kind, Token, Tree};
use super::tree::{Args, Command, Error, Mode, Value};

use proto::name::IfName;

/// What stands for a secret.
pub const MASK: &str = "********";

/// A command that was recognised.
#[derive(Clone)]
pub struct Parsed<'t> {
    /// The command.
    pub command: &'t Command,
    /// Its arguments.
    pub args: Args,
    /// The mode that it belongs to; one around the current mode means that the current one is left.
    pub mode: Mode,
}

impl Parsed<'_> {
    /// The line in full spelling with its secrets: it is told from others by its words alone.
    pub fn with_secrets(&self) -> String {
        let is_secret = |name: &str| self.command.syntax.contains(&format!("<{name}:secret>"));
        let mut secrets = self.args.values.iter().filter(|(name, _)| is_secret(name));
        let words = self.args.spelled.iter().map(|word| match (word == MASK, secrets.by_ref()) {
            (true, secrets) => match secrets.next() {
                Some((_, Value::Text(secret))) => secret.clone(),
                _ => word.clone(),
            },
            _ => word.clone(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// It holds a secret.
    pub fn has_secrets(&self) -> bool {
        self.args.spelled.iter().any(|word| word == MASK)
    }

    /// Where it belongs on the stack of modes: a session's own commands belong to `(config)`.
    pub fn home(&self) -> Mode {
        if self.mode == Mode::ConfigSession { Mode::Config } else { self.mode }
    }
}

/// Reads a line; `None` is an empty line or a comment.
pub fn parse<'t>(tree: &'t Tree, mode: Mode, line: &str) -> Result<Option<Parsed<'t>>, Error> {
    let found = pieces(line);
    let Some(first) = found.first().filter(|piece| !piece.text.starts_with('!')) else { return Ok(None) };
    if let Some(column) = line.chars().position(|c| c.is_control() && c != '\t') {
        return Err(Error::At { column, what: "Invalid character".into() });
    }
    let (negated, words) = if is_no(first.text) { (true, &found[1..]) } else { (false, &found[..]) };
    let mut best: Option<(Parsed<'t>, Option<&'static str>)> = None;
    let mut error = Failure { column: first.column, what: "Invalid command".into(), keyword: None };
    for mode in mode.chain() {
        let Some(graph) = tree.graph(mode, negated) else { continue };
        let walk = Walk::new(graph, line, words);
        match (walk.finish(graph, line), &best) {
            (Ok(thread), None) => {
                let mut args = Args { negated, ..thread.args };
                if negated {
                    args.spelled.insert(0, first.text.to_ascii_lowercase());
                }
                if first.text.eq_ignore_ascii_case("default") {
                    args.words.insert(0, "default");
                }
                let parsed = Parsed { command: &tree.commands[thread.command], args, mode };
                best = Some((parsed, thread.abbreviated));
            }
            // `sh` alone in interface mode may be `shutdown` or the beginning of `show ...`.
            (Err(Failure { keyword: Some(other), .. }), Some((_, Some(keyword))))
                if words.len() == 1 && other != *keyword =>
            {
                return Err(ambiguous(words[0].column));
            }
            (Err(failure), None) => {
                // A word that may be two things here is not what an outer mode would have made of it.
                let is_unclear = error.what == "Ambiguous command";
                let further = failure.column > error.column && !is_unclear;
                if further || (failure.column == error.column && error.what == "Invalid command") {
                    error = failure;
                }
            }
            _ => {}
        }
    }
    match best {
        Some((parsed, _)) => Ok(Some(parsed)),
        None => Err(Error::At { column: error.column, what: error.what }),
    }
}

/// The line is about taking something back.
pub fn is_no(word: &str) -> bool {
    word.eq_ignore_ascii_case("no") || word.eq_ignore_ascii_case("default")
}

fn ambiguous(column: usize) -> Error {
    Error::At { column, what: "Ambiguous command".into() }
}

/// Why a graph does not fit the line.
struct Failure {
    column: usize,
    what: String,
    /// The keyword that the first word stands for, when the line is only too short.
    keyword: Option<&'static str>,
}

/// A way through the graph.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Where it is.
    pub state: usize,
    /// The command that it is on, once it has taken a step.
    pub command: usize,
    args: Args,
    /// The first keyword, in full, when it was abbreviated.
    abbreviated: Option<&'static str>,
}

/// An argument as it is spelled in full; a secret is not.
fn spelled(kind: Kind, value: &Value, typed: &str) -> String {
    match (kind, value) {
        (Kind::Secret, _) => MASK.to_owned(),
        (_, Value::Text(text)) => text.clone(),
        (_, Value::Interfaces(names)) => ranges(names),
        _ => typed.to_owned(),
    }
}

/// `Vethernet1-4,Ethernet3/1`
fn ranges(names: &[IfName]) -> String {
    let next = |name: &IfName| match *name {
        IfName::Vethernet(n) => Some((IfName::Vethernet(n + 1), n + 1)),
        IfName::Ethernet { slot, port } => Some((IfName::Ethernet { slot, port: port + 1 }, u32::from(port) + 1)),
        IfName::Mgmt0 => None,
    };
    let mut text = String::new();
    let mut rest = names.iter().peekable();
    while let Some(first) = rest.next() {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&first.to_string());
        let (mut last, mut end) = (*first, None);
        while let Some((follows, number)) = next(&last).filter(|(follows, _)| rest.peek() == Some(&follows)) {
            (last, end) = (follows, Some(number));
            rest.next();
        }
        text.extend(end.map(|end| format!("-{end}")));
    }
    text
}

/// How a word fits a step.
enum Fit {
    No,
    Exact,
    Typed(Value, usize),
    Abbreviated(&'static str),
    NeedsNumber(&'static str),
    Free(Value, usize),
    Wrong(String),
}

/// The ways that are left at the end of the words, and where the others ended.
pub struct Walk {
    /// Ways that took every word.
    pub threads: Vec<Thread>,
    /// Words of interface names whose number is still to come: the last word, and the step.
    pub unnumbered: Vec<(&'static str, Edge)>,
    failed: Option<(usize, String)>,
}

impl Walk {
    /// Walks `words` of `line` through the graph.
    pub fn new(graph: &Graph, line: &str, words: &[Piece<'_>]) -> Self {
        let start = Thread { state: 0, command: 0, args: Args::default(), abbreviated: None };
        let mut at: Vec<Vec<Thread>> = vec![Vec::new(); words.len() + 1];
        at[0].push(start);
        let mut walk = Walk { threads: Vec::new(), unnumbered: Vec::new(), failed: None };
        for (index, word) in words.iter().enumerate() {
            let threads = std::mem::take(&mut at[index]);
            let mut steps: Vec<(&Thread, Edge, Fit)> = Vec::new();
            for thread in &threads {
                for edge in graph.edges(thread.state) {
                    steps.push((thread, *edge, fit(&edge.token, line, &words[index..])));
                }
            }
            if threads.is_empty() {
                continue;
            }
            match walk.choose(index, word, steps) {
                Ok(next) => next.into_iter().for_each(|(thread, used)| at[index + used].push(thread)),
                Err(what) => walk.failed = Some((word.column, what)),
            }
        }
        walk.threads = at.pop().unwrap_or_default();
        walk
    }

    /// The ways that go on behind a word, with the number of words that each has taken.
    fn choose(
        &mut self,
        index: usize,
        word: &Piece<'_>,
        steps: Vec<(&Thread, Edge, Fit)>,
    ) -> Result<Vec<(Thread, usize)>, String> {
        let rank = |fit: &Fit| match fit {
            Fit::Exact => 0,
            Fit::Typed(..) => 1,
            Fit::Abbreviated(_) | Fit::NeedsNumber(_) => 2,
            Fit::Free(..) => 3,
            Fit::Wrong(_) => 4,
            Fit::No => 5,
        };
        let best = steps.iter().map(|(_, _, fit)| rank(fit)).min().unwrap_or(5);
        let mut next = Vec::new();
        let mut keyword: Option<&'static str> = None;
        for (thread, edge, fit) in steps.into_iter().filter(|(_, _, fit)| rank(fit) == best) {
            let mut thread = thread.clone();
            thread.state = edge.to;
            thread.command = edge.command;
            if let Fit::Abbreviated(full) | Fit::NeedsNumber(full) = fit {
                if keyword.replace(full).is_some_and(|other| !other.eq_ignore_ascii_case(full)) {
                    return Err("Ambiguous command".into());
                }
                thread.abbreviated = thread.abbreviated.or((index == 0).then_some(full));
            }
            let used = match (fit, edge.token) {
                (Fit::Wrong(what), _) => return Err(what),
                (Fit::No, _) => return Err("Invalid command".into()),
                (Fit::NeedsNumber(full), _) => {
                    self.unnumbered.push((full, edge));
                    self.failed = Some((word.column + word.text.chars().count(), "Incomplete command".into()));
                    continue;
                }
                (_, Token::Word(full)) => {
                    thread.args.words.push(full);
                    thread.args.spelled.push(full.to_owned());
                    1
                }
                (_, Token::Choice { name, word }) => {
                    thread.args.values.push((name, Value::Text(word.to_owned())));
                    thread.args.spelled.push(word.to_owned());
                    1
                }
                (Fit::Typed(value, used) | Fit::Free(value, used), Token::Argument { name, kind }) => {
                    thread.args.spelled.push(spelled(kind, &value, word.text));
                    thread.args.values.push((name, value));
                    used
                }
                _ => continue,
            };
            next.push((thread, used));
        }
        match (next.is_empty(), best) {
            (true, 5) => Err("Invalid command".into()),
            _ => Ok(next),
        }
    }

    fn finish(self, graph: &Graph, line: &str) -> Result<Thread, Failure> {
        let complete = self.threads.iter().find(|thread| graph.accepts(thread.state).is_some());
        if let Some(thread) = complete {
            let command = graph.accepts(thread.state).unwrap_or(thread.command);
            return Ok(Thread { command, ..thread.clone() });
        }
        let end = line.trim_end().chars().count();
        match (self.threads.first(), self.failed) {
            (Some(thread), _) => {
                let keyword = thread.abbreviated;
                Err(Failure { column: end, what: "Incomplete command".into(), keyword })
            }
            (None, Some((column, what))) => Err(Failure { column, what, keyword: None }),
            (None, None) => Err(Failure { column: end, what: "Incomplete command".into(), keyword: None }),
        }
    }
}

fn fit(token: &Token, line: &str, rest: &[Piece<'_>]) -> Fit {
    let text = rest.first().map(|piece| piece.text).unwrap_or_default();
    match token {
        Token::Word(word) | Token::Choice { word, .. } if word.eq_ignore_ascii_case(text) => Fit::Exact,
        Token::Word(word) | Token::Choice { word, .. } => {
            if abbreviates(text, word) {
                Fit::Abbreviated(word)
            } else {
                Fit::No
            }
        }
        Token::Argument { kind, .. } => match argument::read(*kind, line, rest) {
            Reading::No => Fit::No,
            Reading::Wrong(what) => Fit::Wrong(what),
            Reading::NeedsNumber(word) => Fit::NeedsNumber(word),
            Reading::Value(value, used) => match kind {
                Kind::Word | Kind::Word80 | Kind::Secret | Kind::Line => Fit::Free(value, used),
                _ => Fit::Typed(value, used),
            },
        },
    }
}

/// `text` is the beginning of `word`, in any case.
pub fn abbreviates(text: &str, word: &str) -> bool {
    !text.is_empty() && word.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::super::render::Output;
    use super::super::session::Session;
    use super::*;

    fn run(_: &mut Session, _: &Args) -> Result<Output, Error> {
        Ok(Output::none())
    }

    fn tree() -> Tree {
        let command = |modes: &'static [Mode], syntax, no| Command { modes, syntax, help: "x", words: &[], no, run };
        let exec: &[Mode] = &[Mode::Exec];
        let config: &[Mode] = &[Mode::Config];
        let interface: &[Mode] = &[Mode::Interface];
        Tree::new(vec![
            command(exec, "show interface [<if:if>] [{ brief | status | virtual }]", None),
            command(exec, "show vlan [ brief | id <id:vlan> ]", None),
            command(exec, "show flow [ host <host:ip> | top <top:num:1-9> | dropped ]*", None),
            command(exec, "show access-lists [<name:word>] [summary]", None),
            command(exec, "terminal length <lines:num:0-511>", Some("terminal length")),
            command(config, "vlan <vlans:vlans>", Some("vlan <vlans:vlans>")),
            command(config, "interface <ifs:ifs>", None),
            command(config, "hostname <name:word>", Some("hostname [<name:word>]")),
            command(interface, "shutdown", Some("shutdown")),
            command(interface, "switchport mode <mode=access|trunk>", None),
            command(interface, "switchport access vlan <vlan:vlan>", None),
            command(interface, "description <text:line>", Some("description [<text:line>]")),
        ])
        .unwrap()
    }

    fn good(mode: Mode, line: &str) -> (String, Args, Mode) {
        let tree = tree();
        match parse(&tree, mode, line) {
            Ok(Some(parsed)) => (parsed.command.syntax.to_owned(), parsed.args, parsed.mode),
            Ok(None) => panic!("'{line}' is empty"),
            Err(error) => panic!("'{line}': {error:?}"),
        }
    }

    fn bad(mode: Mode, line: &str) -> (usize, String) {
        match parse(&tree(), mode, line) {
            Err(Error::At { column, what }) => (column, what),
            other => panic!("'{line}': {:?}", other.map(|p| p.map(|p| p.command.syntax))),
        }
    }

    #[test]
    fn abbreviations_and_arguments() {
        assert_eq!(good(Mode::Exec, "sh int b").1.words, ["show", "interface", "brief"]);
        assert_eq!(good(Mode::Exec, "SHOW INT Veth 3 STATUS").1.interface("if").unwrap().short(), "Veth3");
        assert_eq!(good(Mode::Exec, "sh vl id 7").1.vlan("id").unwrap().get(), 7);
        let args = good(Mode::Exec, "sh flow dr top 3 host 10.0.0.1").1;
        assert!(args.has("dropped") && args.number("top") == Some(3) && args.ip("host").is_some());
        assert_eq!(good(Mode::Exec, "sh acc summary").1.text("name"), None);
        assert_eq!(good(Mode::Exec, "sh acc summary-list").1.text("name"), Some("summary-list"));
        assert_eq!(good(Mode::Interface, "sw m t").1.text("mode"), Some("trunk"));
        assert_eq!(good(Mode::Interface, "desc  Some Text!  ").1.text("text"), Some("Some Text!"));
        assert!(parse(&tree(), Mode::Exec, "  ! remark").unwrap().is_none());
        assert!(parse(&tree(), Mode::Exec, " \t").unwrap().is_none());
    }

    #[test]
    fn errors_point_at_the_word() {
        assert_eq!(bad(Mode::Exec, "show foo"), (5, "Invalid command".into()));
        assert_eq!(bad(Mode::Exec, "  frob"), (2, "Invalid command".into()));
        assert_eq!(bad(Mode::Exec, "show "), (4, "Incomplete command".into()));
        assert_eq!(bad(Mode::Exec, "show vlan id 5000"), (13, "Invalid number, range is (1:4094)".into()));
        assert_eq!(bad(Mode::Exec, "term len 512"), (9, "Invalid number, range is (0:511)".into()));
        assert_eq!(bad(Mode::Exec, "show vlan brief x"), (16, "Invalid command".into()));
        assert_eq!(bad(Mode::Interface, "s"), (0, "Ambiguous command".into()));
        assert_eq!(bad(Mode::Exec, "show interface v"), (15, "Ambiguous command".into()));
        assert_eq!(bad(Mode::Exec, "show interface e"), (16, "Incomplete command".into()));
        assert_eq!(bad(Mode::Config, "no"), (2, "Incomplete command".into()));
        assert_eq!(bad(Mode::Config, "no frob"), (3, "Invalid command".into()));
        assert_eq!(bad(Mode::Config, "hostname a\u{1b}[2J"), (10, "Invalid character".into()));
        assert_eq!(bad(Mode::Exec, "show é"), (5, "Invalid command".into()));
    }

    #[test]
    fn no_and_default() {
        let (_, args, _) = good(Mode::Interface, "no shut");
        assert!(args.negated && args.has("shutdown"));
        assert_eq!(args.line(), "no shutdown");
        let listed = good(Mode::Config, "int veth 1-4,eth3/2,veth6,eth3/1").1.line();
        assert_eq!(listed, "interface Ethernet3/1-2,Vethernet1-4,Vethernet6");
        assert_eq!(good(Mode::Exec, "SHO int Veth3 STATUS").1.line(), "show interface Vethernet3 status");
        assert_eq!(good(Mode::Interface, "desc  Some  Text! ").1.line(), "description Some  Text!");
        let (_, args, _) = good(Mode::Interface, "default description");
        assert!(args.negated && args.has("default"));
        assert!(good(Mode::Config, "no vlan 3,5").1.vlans("vlans").is_some());
    }

    #[test]
    fn a_mode_reaches_the_commands_around_it() {
        assert_eq!(good(Mode::Interface, "vlan 10").2, Mode::Config);
        assert_eq!(good(Mode::Interface, "show vlan").2, Mode::Exec);
        assert_eq!(good(Mode::Interface, "no term len").2, Mode::Exec);
        assert_eq!(bad(Mode::Exec, "vlan 10").0, 0);
        // `sh` alone might begin `show ...`; with what follows it is clear.
        assert_eq!(bad(Mode::Interface, "sh"), (0, "Ambiguous command".into()));
        assert_eq!(good(Mode::Interface, "sh vlan").2, Mode::Exec);
        assert_eq!(good(Mode::Interface, "shut").2, Mode::Interface);
        assert_eq!(bad(Mode::Interface, "show vlan x"), (10, "Invalid command".into()));
    }
}
