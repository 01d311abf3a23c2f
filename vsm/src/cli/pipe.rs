//! Output filters: `COMMAND | FILTER [ | FILTER ]...`.
//!
//! A pattern is an extended regular expression, bare or in quotes; quoted it may hold `|`. Filters work on text line by
//! line; `json` comes first and makes the text that the others work on. An empty result prints nothing.

use regex::{Regex, RegexBuilder};

use super::complete::Candidate;
use super::parse::abbreviates;
use super::render::Output;
use super::tree::Error;

/// A filter.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Lines that match.
    Grep(Grep),
    /// From the first line that matches.
    Begin(Regex),
    /// Top-level lines that match, each with the indented lines below it.
    Section(Regex),
    /// How many lines.
    Count,
    /// What differs from the output of the same line before; it is the session that knows it.
    Diff {
        /// Where the word stands: up to here the line must be the same.
        column: usize,
    },
    /// Structured output, at this column of the line.
    Json {
        /// Over several lines.
        pretty: bool,
        /// Where the word stands, for the error of a command that has no structured form.
        column: usize,
    },
    /// No `--More--`.
    NoMore,
    /// The first lines.
    Head(usize),
    /// The last lines.
    Last(usize),
}

/// Which lines `grep`, `include` and `exclude` print, and how.
#[derive(Clone, Debug)]
pub struct Grep {
    pattern: Regex,
    /// Lines that don't match.
    invert: bool,
    /// Their number only.
    count: bool,
    /// Each with its line number.
    numbers: bool,
    /// Lines around each.
    prev: usize,
    next: usize,
}

impl Grep {
    fn of(pattern: Regex, invert: bool) -> Self {
        Grep { pattern, invert, count: false, numbers: false, prev: 0, next: 0 }
    }

    fn run(&self, text: &str) -> String {
        let lines: Vec<&str> = text.lines().collect();
        let is_hit = |line: &&str| self.pattern.is_match(line) != self.invert;
        if self.count {
            return format!("{}\n", lines.iter().copied().filter(|line| is_hit(line)).count());
        }
        let mut shown = vec![false; lines.len()];
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| is_hit(line)) {
            let end = lines.len().min(at.saturating_add(self.next).saturating_add(1));
            shown[at.saturating_sub(self.prev)..end].fill(true);
        }
        let found = lines.iter().zip(shown).enumerate().filter(|(_, (_, shown))| *shown);
        let line = |(number, (line, _)): (usize, (&&str, bool))| match self.numbers {
            true => format!("{}:{line}\n", number + 1),
            false => format!("{line}\n"),
        };
        found.map(line).collect()
    }
}

const FILTERS: [(&str, &str); 13] = [
    ("begin", "Begin with the line that matches"),
    ("count", "Count number of lines"),
    ("diff", "Show difference between current and previous invocation of the same line"),
    ("egrep", "Egrep - print lines matching a pattern"),
    ("exclude", "Exclude lines that match"),
    ("grep", "Grep - print lines matching a pattern"),
    ("head", "Display first lines"),
    ("include", "Include lines that match"),
    ("json", "Output in json format"),
    ("json-pretty", "Output in json pretty print format"),
    ("last", "Display last lines"),
    ("no-more", "Turn-off pagination for command output"),
    ("section", "Show lines that include the pattern as well as the subsequent lines that are more indented"),
];

/// Words that mean `|` filters to `?`.
pub fn candidates(stages: &str) -> Vec<Candidate> {
    let last = split_stages(stages).pop().map(|(_, text)| text).unwrap_or_default();
    let word = last.trim_start();
    let offer = |(word, help): (&str, &str)| Candidate { word: word.into(), help: help.into(), keyword: true };
    match word.split_once(char::is_whitespace) {
        None => FILTERS.into_iter().filter(|(f, _)| word.is_empty() || abbreviates(word, f)).map(offer).collect(),
        Some(_) => vec![Candidate { word: "WORD".into(), help: "Regular expression".into(), keyword: false }],
    }
}

/// The command and its filters, when there is an unquoted `|`.
pub fn split(line: &str) -> Option<(&str, &str)> {
    let at = unquoted_bar(line)?;
    Some((&line[..at], &line[at + 1..]))
}

/// The line without filters and file.
pub fn command(line: &str) -> &str {
    let line = to_file(line).map_or(line, |(line, _)| line);
    split(line).map_or(line, |(command, _)| command)
}

/// A file that the output goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct File<'a> {
    /// Behind what is there.
    pub append: bool,
    /// As it was typed.
    pub name: &'a str,
    /// Where the name stands, in characters.
    pub column: usize,
}

/// What stands before `> FILE` or `>> FILE`, and the file.
pub fn to_file(line: &str) -> Option<(&str, File<'_>)> {
    let mut from = 0;
    let mut last = None;
    while let Some(at) = unquoted(&line[from..], '>') {
        last = Some(from + at);
        from += at + 1;
    }
    let at = last?;
    let name = line[at + 1..].trim();
    let before = line[..at].strip_suffix('>').unwrap_or(&line[..at]);
    if name.contains(char::is_whitespace) || !before.ends_with(char::is_whitespace) {
        return None;
    }
    let column = line.chars().count() - line[at + 1..].trim_start().chars().count();
    Some((before, File { append: before.len() < at, name, column }))
}

fn unquoted_bar(text: &str) -> Option<usize> {
    unquoted(text, '|')
}

fn unquoted(text: &str, mark: char) -> Option<usize> {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, c) if c == mark => return Some(at),
            // In the middle of a word it is an apostrophe.
            (None, '"' | '\'') if before.is_whitespace() || before == '|' => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
        before = c;
    }
    None
}

fn split_stages(text: &str) -> Vec<(usize, &str)> {
    let mut stages = Vec::new();
    let mut from = 0;
    while let Some(at) = unquoted_bar(&text[from..]) {
        stages.push((from, &text[from..from + at]));
        from += at + 1;
    }
    stages.push((from, &text[from..]));
    stages
}

/// Reads what stands behind the first `|`; `column` is where that begins on the typed line, in characters.
pub fn parse(text: &str, column: usize) -> Result<Vec<Filter>, Error> {
    split_stages(text)
        .into_iter()
        .map(|(offset, stage)| {
            let blanks = stage.len() - stage.trim_start().len();
            let column = column + text[..offset + blanks].chars().count();
            parse_stage(stage.trim(), column)
        })
        .collect()
}

fn parse_stage(stage: &str, column: usize) -> Result<Filter, Error> {
    let at = |offset: usize, what: &str| Error::At {
        column: column + stage[..offset].chars().count(),
        what: what.to_owned(),
    };
    let (word, rest) = stage.split_once(char::is_whitespace).unwrap_or((stage, ""));
    let rest = rest.trim_start();
    let rest_at = stage.len() - rest.len();
    let exact = FILTERS.iter().find(|(f, _)| f.eq_ignore_ascii_case(word));
    let fits: Vec<_> = FILTERS.iter().filter(|(f, _)| abbreviates(word, f)).collect();
    let filter = match (exact, fits.as_slice()) {
        (Some((filter, _)), _) | (None, [(filter, _)]) => *filter,
        (None, []) if word.is_empty() => return Err(at(0, "Incomplete command")),
        (None, []) => return Err(at(0, "Invalid command")),
        (None, _) => return Err(at(0, "Ambiguous command")),
    };
    let pattern = |text: &str| read_pattern(text).map_err(|what| at(rest_at, &what));
    let grep = |pattern, invert| Filter::Grep(Grep::of(pattern, invert));
    let filter = match filter {
        "include" => grep(pattern(rest)?, false),
        "exclude" => grep(pattern(rest)?, true),
        "grep" | "egrep" => return parse_grep(rest).map_err(|what| at(rest_at, &what)),
        "begin" => Filter::Begin(pattern(rest)?),
        "section" => Filter::Section(pattern(rest)?),
        "head" => return lines(rest).map(Filter::Head).ok_or_else(|| at(rest_at, "Invalid number")),
        "last" => return lines(rest).map(Filter::Last).ok_or_else(|| at(rest_at, "Invalid number")),
        _ if !rest.is_empty() => return Err(at(rest_at, "Invalid command")),
        "count" => Filter::Count,
        "diff" => Filter::Diff { column },
        "no-more" => Filter::NoMore,
        json => Filter::Json { pretty: json == "json-pretty", column },
    };
    Ok(filter)
}

/// `10`, `-10`, `-n 10`, `lines 10`; ten when nothing is said.
fn lines(text: &str) -> Option<usize> {
    let text = text.trim_start_matches("lines").trim_start_matches("-n").trim_start().trim_start_matches('-');
    if text.is_empty() { Some(10) } else { text.parse().ok() }
}

/// Options as NX-OS words or as Unix flags, then the pattern.
fn parse_grep(mut rest: &str) -> Result<Filter, String> {
    let mut any = Regex::new("").map(|pattern| Grep::of(pattern, false)).map_err(|error| error.to_string())?;
    let mut how = Match::default();
    while let Some((option, more)) = rest.split_once(char::is_whitespace) {
        let mut more = more.trim_start();
        match option {
            "-v" | "invert-match" => any.invert = true,
            "-c" | "count" => any.count = true,
            "-n" | "line-number" => any.numbers = true,
            "-i" | "ignore-case" => how.any_case = true,
            "-w" | "word-exp" => how.word = true,
            "-x" | "line-exp" => how.line = true,
            "-A" | "next" | "-B" | "prev" | "-C" => {
                let (number, behind) = more.split_once(char::is_whitespace).unwrap_or((more, ""));
                let number = number.parse::<usize>().ok().filter(|number| *number <= AROUND_MAX);
                let number = number.ok_or_else(|| format!("Invalid number, range is (0:{AROUND_MAX})"))?;
                if option != "-B" && option != "prev" {
                    any.next = number;
                }
                if option != "-A" && option != "next" {
                    any.prev = number;
                }
                more = behind.trim_start();
            }
            _ => break,
        }
        rest = more;
    }
    Ok(Filter::Grep(Grep { pattern: read(rest, how)?, ..any }))
}

/// Most lines around one that matches.
const AROUND_MAX: usize = 999;

/// How a pattern matches.
#[derive(Clone, Copy, Default)]
struct Match {
    any_case: bool,
    word: bool,
    line: bool,
}

fn read_pattern(text: &str) -> Result<Regex, String> {
    read(text, Match::default())
}

fn read(text: &str, how: Match) -> Result<Regex, String> {
    let bare = match text.chars().next() {
        None => return Err("Incomplete command".into()),
        Some(quote @ ('"' | '\'')) => {
            let inside = &text[1..];
            let end = inside.find(quote).ok_or("Invalid pattern, quote is not closed")?;
            if end + 1 != inside.len() {
                return Err("Invalid pattern, text behind the quote".into());
            }
            &inside[..end]
        }
        Some(_) => text,
    };
    let whole = match (how.line, how.word) {
        (true, _) => format!("^(?:{bare})$"),
        (_, true) => format!(r"\b(?:{bare})\b"),
        _ => bare.to_owned(),
    };
    let mut builder = RegexBuilder::new(&whole);
    builder.case_insensitive(how.any_case).size_limit(1 << 20);
    builder.build().map_err(|_| "Invalid regular expression".to_owned())
}

/// Runs the filters over what a command printed. The structured form is left when nothing but that was asked for.
pub fn apply(output: Output, filters: &[Filter]) -> Result<Output, Error> {
    let Output { mut text, json } = output;
    let is_whole = filters.iter().all(|filter| matches!(filter, Filter::Json { .. } | Filter::NoMore));
    let mut first = json.as_ref();
    for filter in filters {
        text = match filter {
            Filter::Json { pretty, column } => match (first.take(), text.is_empty()) {
                (Some(value), _) if *pretty => format!("{value:#}\n"),
                (Some(value), _) => format!("{value}\n"),
                (None, true) => String::new(),
                (None, false) => return Err(Error::At { column: *column, what: "Invalid command".into() }),
            },
            _ => run(filter, &text),
        };
        first = None;
    }
    Ok(Output { text, json: json.filter(|_| is_whole) })
}

fn run(filter: &Filter, text: &str) -> String {
    let ended = |lines: Vec<&str>| lines.into_iter().flat_map(|line| [line, "\n"]).collect::<String>();
    match filter {
        Filter::Grep(grep) => grep.run(text),
        Filter::Begin(pattern) => ended(text.lines().skip_while(|line| !pattern.is_match(line)).collect()),
        Filter::Section(pattern) => {
            let mut inside = false;
            let keep = |line: &&str| {
                if !line.starts_with([' ', '\t']) {
                    inside = pattern.is_match(line);
                }
                inside
            };
            ended(text.lines().filter(keep).collect())
        }
        Filter::Count => format!("{}\n", text.lines().count()),
        Filter::Head(lines) => ended(text.lines().take(*lines).collect()),
        Filter::Last(lines) => {
            let all: Vec<&str> = text.lines().collect();
            ended(all[all.len().saturating_sub(*lines)..].to_vec())
        }
        Filter::NoMore | Filter::Json { .. } | Filter::Diff { .. } => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "interface Vethernet1\n  no shutdown\n  mtu 1500\n\nip access-list a\n  10 permit ip any any\nvlan 1\n";

    fn filtered(filters: &str) -> String {
        let output = Output { text: TEXT.into(), json: Some(serde_json::json!({"a": "b"})) };
        apply(output, &parse(filters, 0).unwrap()).unwrap().text
    }

    fn bad(filters: &str) -> (usize, String) {
        match parse(filters, 10) {
            Err(Error::At { column, what }) => (column, what),
            other => panic!("'{filters}': {other:?}"),
        }
    }

    #[test]
    fn filters_in_a_chain() {
        assert_eq!(filtered(" inc vlan"), "vlan 1\n");
        assert_eq!(filtered(" i 'shut|mtu' | exc mtu"), "  no shutdown\n");
        assert_eq!(filtered("sec '^ip(v6)* access-list'"), "ip access-list a\n  10 permit ip any any\n");
        assert_eq!(filtered("section ^interface | count"), "3\n");
        assert_eq!(filtered("b access | head 1"), "ip access-list a\n");
        assert_eq!(filtered("last 1"), "vlan 1\n");
        assert_eq!(filtered("grep -i VLAN"), "vlan 1\n");
        assert_eq!(filtered("egrep -n \"^vlan 1$\" | no-more"), "7:vlan 1\n");
        assert_eq!(filtered("grep count permit"), "1\n");
        assert_eq!(filtered("grep next 1 prev 1 shut"), "interface Vethernet1\n  no shutdown\n  mtu 1500\n");
        assert_eq!(filtered("egrep -n -A 9 ^vlan"), "7:vlan 1\n");
        assert_eq!(filtered("grep word-exp shut"), "");
        assert_eq!(filtered("grep line-exp 'vlan .'"), "vlan 1\n");
        assert_eq!(filtered("include nothing-like-it"), "");
        assert_eq!(filtered("json"), "{\"a\":\"b\"}\n");
        assert_eq!(filtered("json-pretty | inc a"), "  \"a\": \"b\"\n");
    }

    #[test]
    fn bad_filters_are_pointed_at() {
        assert_eq!(bad(" frob"), (11, "Invalid command".into()));
        assert_eq!(bad(" "), (11, "Incomplete command".into()));
        assert_eq!(bad(" e x"), (11, "Ambiguous command".into()));
        assert_eq!(bad(" grep next x y"), (16, "Invalid number, range is (0:999)".into()));
        assert_eq!(bad(" inc"), (14, "Incomplete command".into()));
        assert_eq!(bad(" inc a | frob"), (19, "Invalid command".into()));
        assert_eq!(bad(" inc '("), (15, "Invalid pattern, quote is not closed".into()));
        assert_eq!(bad(" inc ("), (15, "Invalid regular expression".into()));
        assert_eq!(bad(" inc a{1000}{1000}{1000}"), (15, "Invalid regular expression".into()));
        let text_only = Output::text("x\n");
        let error = apply(text_only, &parse("json", 7).unwrap()).unwrap_err();
        assert_eq!(error, Error::At { column: 7, what: "Invalid command".into() });
    }

    #[test]
    fn files_behind_a_command() {
        let of = |line| to_file(line).map(|(before, file)| (before, file.append, file.name, file.column));
        assert_eq!(of("show x > a"), Some(("show x ", false, "a", 9)));
        assert_eq!(of("show x | inc 'a > b' >> bootflash:a"), Some(("show x | inc 'a > b' ", true, "bootflash:a", 24)));
        assert_eq!(of("show x >"), Some(("show x ", false, "", 8)));
        assert_eq!((of("show x | inc a>b"), of("show x > a b"), of("show x")), (None, None, None));
        assert_eq!((command("show x | inc y > z"), command("show x > z"), command("x")), ("show x ", "show x ", "x"));
    }

    #[test]
    fn bars_in_quotes_do_not_split() {
        assert_eq!(split("show x | inc 'a|b' | count"), Some(("show x ", " inc 'a|b' | count")));
        assert_eq!(split("show x"), None);
        assert_eq!(split("inc it's | count"), Some(("inc it's ", " count")));
    }
}
