//! `show logging`

use super::exec;
use crate::cli::render::{Output, leaves, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};

/// Lines that `show logging` prints when no number is given.
const LINES: usize = 100;

const WORDS: &[(&str, &str)] = &[("lines", "Lines"), ("logfile", "Everything that is kept")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![exec("show logging [ last <lines:num:1-9999> | logfile ]", "Display the log, newest lines last", WORDS, show)]
}

fn show(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let lines = match (args.number("lines"), args.has("logfile")) {
        (Some(lines), _) => lines as usize,
        (None, true) => usize::MAX,
        (None, false) => LINES,
    };
    let lines = session.handle.log().last(lines);
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    Ok(Output::with_json(text, table("logging", lines.into_iter().map(|line| leaves([("line", line)])).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Model;
    use crate::supervisor::Handle;

    #[test]
    fn the_newest_lines() {
        let mut session = Session::new(Handle::detached(Model::default()));
        for n in 0..200 {
            session.handle.log().write("TEST", 5, "LINE", &n.to_string());
        }
        let last = session.run_line("show logging last 2");
        assert!(last.lines().count() == 2 && last.ends_with("%TEST-5-LINE: 199\n"), "{last}");
        assert_eq!(session.run_line("show logging | count"), "100\n");
        assert_eq!(session.run_line("show logging logfile | inc 'LINE: 1$'").lines().count(), 1);
    }
}
