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
    /// Lines that match, or with `invert` those that don't; with `count` only how many, with `numbers` numbered.
    Grep {
        /// What is looked for.
        pattern: Regex,
        /// Lines that don't match.
        invert: bool,
        /// Their number only.
        count: bool,
        /// Each with its line number.
        numbers: bool,
    },
    /// From the first line that matches.
    Begin(Regex),
    /// Top-level lines that match, each with the indented lines below it.
    Section(Regex),
    /// How many lines.
    Count,
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

const FILTERS: [(&str, &str); 12] = [
    ("begin", "Begin with the line that matches"),
    ("count", "Count number of lines"),
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

fn unquoted_bar(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '|') => return Some(at),
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
    let pattern = |text: &str| read_pattern(text, false).map_err(|what| at(rest_at, &what));
    let grep = |pattern, invert| Filter::Grep { pattern, invert, count: false, numbers: false };
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
    let (mut invert, mut count, mut numbers, mut any_case) = (false, false, false, false);
    while let Some((option, more)) = rest.split_once(char::is_whitespace) {
        match option {
            "-v" | "invert-match" => invert = true,
            "-c" | "count" => count = true,
            "-n" | "line-number" => numbers = true,
            "-i" | "ignore-case" => any_case = true,
            _ => break,
        }
        rest = more.trim_start();
    }
    Ok(Filter::Grep { pattern: read_pattern(rest, any_case)?, invert, count, numbers })
}

fn read_pattern(text: &str, any_case: bool) -> Result<Regex, String> {
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
    let mut builder = RegexBuilder::new(bare);
    builder.case_insensitive(any_case).size_limit(1 << 20);
    builder.build().map_err(|_| "Invalid regular expression".to_owned())
}

/// Runs the filters over what a command printed.
pub fn apply(output: Output, filters: &[Filter]) -> Result<String, Error> {
    let Output { mut text, mut json } = output;
    for filter in filters {
        text = match filter {
            Filter::Json { pretty, column } => match (json.take(), text.is_empty()) {
                (Some(value), _) if *pretty => format!("{value:#}\n"),
                (Some(value), _) => format!("{value}\n"),
                (None, true) => String::new(),
                (None, false) => return Err(Error::At { column: *column, what: "Invalid command".into() }),
            },
            _ => run(filter, &text),
        };
        json = None;
    }
    Ok(text)
}

fn run(filter: &Filter, text: &str) -> String {
    let ended = |lines: Vec<&str>| lines.into_iter().flat_map(|line| [line, "\n"]).collect::<String>();
    match filter {
        Filter::Grep { pattern, invert, count, numbers } => {
            let hits = text.lines().enumerate().filter(|(_, line)| pattern.is_match(line) != *invert);
            match (count, numbers) {
                (true, _) => format!("{}\n", hits.count()),
                (_, true) => hits.map(|(n, line)| format!("{}:{line}\n", n + 1)).collect(),
                _ => ended(hits.map(|(_, line)| line).collect()),
            }
        }
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
        Filter::NoMore | Filter::Json { .. } => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "interface Vethernet1\n  no shutdown\n  mtu 1500\n\nip access-list a\n  10 permit ip any any\nvlan 1\n";

    fn filtered(filters: &str) -> String {
        let output = Output { text: TEXT.into(), json: Some(serde_json::json!({"a": "b"})) };
        apply(output, &parse(filters, 0).unwrap()).unwrap()
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
        assert_eq!(filtered("include nothing-like-it"), "");
        assert_eq!(filtered("json"), "{\"a\":\"b\"}\n");
        assert_eq!(filtered("json-pretty | inc a"), "  \"a\": \"b\"\n");
    }

    #[test]
    fn bad_filters_are_pointed_at() {
        assert_eq!(bad(" frob"), (11, "Invalid command".into()));
        assert_eq!(bad(" "), (11, "Incomplete command".into()));
        assert_eq!(bad(" e x"), (11, "Ambiguous command".into()));
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
    fn bars_in_quotes_do_not_split() {
        assert_eq!(split("show x | inc 'a|b' | count"), Some(("show x ", " inc 'a|b' | count")));
        assert_eq!(split("show x"), None);
        assert_eq!(split("inc it's | count"), Some(("inc it's ", " count")));
    }
}
