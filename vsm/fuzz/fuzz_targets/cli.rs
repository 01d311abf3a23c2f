//! Any octets at a terminal: the line editor, the parser, the commands, the filters and the pager.
//!
//! The first octet sizes the window and says in how large pieces the rest arrives. Whatever is typed, what comes out is
//! text that a teletype knows, and the same however the octets are cut; and the configuration that it has led to reads
//! back as itself.
#![no_main]

use vsm::cli::session::Session;
use vsm::cli::terminal::Terminal;
use vsm::config::model::Model;
use vsm::config::running::{self, Part};
use vsm::config::startup;
use vsm::supervisor::Handle;

/// What is shown, and the configuration at the end.
fn type_in(octets: &[u8], piece: usize, length: usize) -> (Vec<u8>, Handle) {
    let handle = Handle::detached(Model::default());
    let mut out = Vec::new();
    let mut session = Session::new(handle.clone());
    session.set(|settings| settings.length = length);
    let mut terminal = Terminal::new(session, &mut out);
    for keys in octets.chunks(piece.max(1)) {
        terminal.receive(keys, &mut out);
    }
    (out, handle)
}

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    let Some((first, keys)) = octets.split_first() else { return };
    let length = usize::from(first & 31);
    // Octets that hash a password take long and show nothing.
    if keys.windows(8).any(|w| w.eq_ignore_ascii_case(b"password")) {
        return;
    }
    let (out, handle) = type_in(keys, 1 + usize::from(first >> 5) * 7, length);
    let text = std::str::from_utf8(&out).expect("text");
    assert!(!text.contains('\u{1b}'), "an escape sequence");
    let model = handle.model();
    let body = running::body(&model, &Part::Whole);
    let again = startup::load(&body).unwrap_or_else(|errors| panic!("{errors:?} in\n{body}"));
    assert_eq!(running::body(&again, &Part::Whole), body);
});
