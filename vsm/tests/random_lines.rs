//! Whatever is typed, the command line answers: no line and no key ends it.

use proptest::prelude::*;
use vsm::cli::graph::Tree;
use vsm::cli::session::Session;
use vsm::cli::terminal::Terminal;
use vsm::config::model::Model;
use vsm::supervisor::Handle;

/// Every keyword of every command, as far as it can be cut out of the syntax.
fn keywords() -> Vec<String> {
    let mut words: Vec<String> = Tree::shared()
        .commands
        .iter()
        .flat_map(|command| command.syntax.split(|c: char| c.is_whitespace() || "[]{}|<>=:*".contains(c)))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    words.sort();
    words.dedup();
    words
}

const ARGUMENTS: [&str; 30] = [
    "1",
    "10",
    "4094",
    "4095",
    "99999999999",
    "1-5,7",
    "10,",
    "veth1",
    "veth 1",
    "eth3/1",
    "veth1-4,eth3/1",
    "ethernet",
    "10.0.0.1",
    "10.0.0.0/8",
    "0.255.0.254",
    "0200.0000.0001",
    "0x86dd",
    "any",
    "host",
    "web",
    "x",
    "no",
    "default",
    "|",
    "json",
    "'a|b'",
    "\"",
    "include",
    "(",
    "é",
];

fn line() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        6 => proptest::sample::select(keywords()),
        3 => proptest::sample::select(keywords()).prop_flat_map(|word| {
            let length = word.chars().count();
            (1..=length).prop_map(move |n| word.chars().take(n).collect())
        }),
        4 => proptest::sample::select(ARGUMENTS.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ];
    proptest::collection::vec(word, 0..8).prop_map(|words| words.join(" "))
}

/// The beginnings of real commands, so that the handlers are reached too.
fn command() -> impl Strategy<Value = String> {
    let syntaxes: Vec<&'static str> = Tree::shared().commands.iter().map(|command| command.syntax).collect();
    let start = proptest::sample::select(syntaxes).prop_map(|syntax| {
        let plain = syntax.split(['[', '{', '<']).next().unwrap_or_default();
        plain.trim().to_owned()
    });
    let negation = prop_oneof![4 => Just(""), 1 => Just("no "), 1 => Just("default ")];
    (negation, start, line()).prop_map(|(no, start, rest)| format!("{no}{start} {rest}"))
}

fn modes() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "end",
        "configure terminal",
        "interface veth1",
        "vlan 10",
        "ip access-list a",
        "mac access-list m",
        "port-profile type vethernet web",
        "flow exporter e",
        "flow monitor f",
        "flow record r",
        "monitor session 1",
        "svs-domain",
        "vem 3",
        "interface veth1-3",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn lines(script in proptest::collection::vec(prop_oneof![line(), command(), modes().prop_map(str::to_owned)], 1..30)) {
        let mut session = Session::new(Handle::detached(Model::default()));
        session.run_line("configure terminal");
        for line in script {
            let text = session.run_line(&line);
            prop_assert!(text.is_empty() || text.ends_with('\n'));
            let is_error = text.lines().any(|line| line.starts_with("% ") || line.starts_with("ERROR: "));
            prop_assert_eq!(session.has_failed(), is_error, "{}: {}", line, text);
        }
    }

    #[test]
    fn keys(script in proptest::collection::vec(prop_oneof![
        3 => line().prop_map(String::into_bytes),
        2 => command().prop_map(String::into_bytes),
        2 => proptest::collection::vec(any::<u8>(), 0..6),
        3 => proptest::sample::select(vec![
            &b"\r"[..], b"\n", b"\r\n", b"?", b"\t", b"\x01", b"\x02", b"\x05", b"\x10", b"\x0e", b"\x15", b"\x17", b"\x1a", b"\x1b[A", b"\x1b[D", b"\x7f",
        ]).prop_map(<[u8]>::to_vec),
    ], 0..60), length in 0usize..30) {
        let mut out = Vec::new();
        let mut session = Session::new(Handle::detached(Model::default()));
        session.set(|settings| settings.length = length);
        let mut terminal = Terminal::new(session, &mut out);
        for keys in script {
            terminal.receive(&keys, &mut out);
        }
        // Nothing that a teletype does not know, whatever was typed.
        prop_assert!(!out.contains(&0x1b));
        prop_assert!(std::str::from_utf8(&out).is_ok());
    }
}
