//! A session at a terminal, without I/O: the editor, the commands and `--More--` put together.
//!
//! Octets are taken one after the other, so what is typed ahead waits until the command before it has run. Whoever owns
//! the connection (the console today) only moves octets.

use super::complete;
use super::line::{Editor, Event};
use super::pager::Pager;
use super::session::Session;
use super::tree::{Command, Mode};

/// A session at a terminal.
pub struct Terminal {
    session: Session,
    editor: Editor,
    pager: Option<Pager>,
}

impl Terminal {
    /// A terminal for a session; writes the first prompt.
    pub fn new(session: Session, out: &mut Vec<u8>) -> Self {
        let terminal = Terminal { session, editor: Editor::default(), pager: None };
        terminal.prompt(out);
        terminal
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The window has another size. A length or width that somebody has typed stays.
    pub fn resize(&mut self, before: (usize, usize), now: (usize, usize)) {
        self.session.set(|settings| {
            if settings.length == before.0 {
                settings.length = now.0;
            }
            if settings.width == before.1 {
                settings.width = now.1;
            }
        });
    }

    /// Octets that were typed; what is to be shown is appended to `out`.
    pub fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            if self.session.is_closed() {
                return;
            }
            if let Some(pager) = &mut self.pager {
                if !pager.key(*byte, out) {
                    self.pager = None;
                    self.prompt(out);
                }
                continue;
            }
            if let Some(event) = self.editor.push(*byte, out) {
                self.act(event, out);
            }
        }
    }

    /// Shows a message, such as a log line, without disturbing what is being typed.
    pub fn notify(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.pager.is_none() {
            out.extend(b"\r\n");
            lines(text, out);
            self.prompt(out);
            self.editor.redraw(out);
        }
    }

    fn prompt(&self, out: &mut Vec<u8>) {
        out.extend(self.session.prompt().as_bytes());
    }

    /// The mode whose commands the line may begin: those of a configuration session work in its sub-modes too.
    fn mode_of(&self, line: &str) -> Mode {
        let (tree, mode) = (self.session.tree(), self.session.mode());
        let is_known = || complete::candidates(tree, mode, line, &|_| true) != (Vec::new(), false);
        if self.session.draft().is_none() || is_known() { mode } else { Mode::ConfigSession }
    }

    fn act(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Line(line) => {
                let indent = self.session.prompt().chars().count();
                if let Some(live) = self.session.live_mut() {
                    live.before = std::mem::take(out);
                }
                let text = self.session.run_line_behind(&line, indent);
                if let Some(live) = self.session.live_mut() {
                    out.splice(0..0, std::mem::take(&mut live.before));
                }
                let settings = self.session.settings();
                let mut pager = Pager::new(text, settings.length, settings.width);
                if pager.start(out) && !self.session.is_closed() {
                    self.pager = Some(pager);
                    return;
                }
            }
            Event::Help => {
                let line = self.editor.before_cursor();
                let might = |command: &Command| self.session.might(command);
                let text = match complete::help(self.session.tree(), self.mode_of(&line), &line, &might) {
                    Ok(text) => text,
                    Err(column) => {
                        let indent = self.session.prompt().chars().count();
                        format!("{:1$}^\n% Invalid command at '^' marker.\n", "", indent + column)
                    }
                };
                lines(&text, out);
                self.prompt(out);
                return self.editor.redraw(out);
            }
            Event::Complete => {
                let line = self.editor.before_cursor();
                let might = |command: &Command| self.session.might(command);
                let (tree, mode) = (self.session.tree(), self.mode_of(&line));
                if let Some(rest) = complete::completion(tree, mode, &line, &might) {
                    return self.editor.insert(&rest, out);
                }
                let options = complete::choice(tree, mode, &line, &might);
                if options.is_empty() {
                    return out.push(0x07);
                }
                out.extend(b"\r\n");
                lines(&options, out);
                self.prompt(out);
                return self.editor.redraw(out);
            }
            Event::Redisplay => {
                out.extend(b"\r\n");
                self.prompt(out);
                return self.editor.redraw(out);
            }
            Event::Interrupt => {}
            Event::End => self.session.end(),
            Event::Close => {
                out.extend(b"\r\n");
                return self.session.close();
            }
        }
        if !self.session.is_closed() {
            self.prompt(out);
        }
    }
}

fn lines(text: &str, out: &mut Vec<u8>) {
    for line in text.lines() {
        out.extend(line.as_bytes());
        out.extend(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Model;
    use crate::supervisor::Handle;

    fn dialogue(typed: &[u8]) -> String {
        let mut out = Vec::new();
        let session = Session::new(Handle::detached(Model { hostname: "n1".into(), ..Model::default() }));
        let mut terminal = Terminal::new(session, &mut out);
        terminal.receive(typed, &mut out);
        String::from_utf8(out).unwrap().replace("\r\n", "\n")
    }

    #[test]
    fn prompts_errors_and_type_ahead() {
        assert_eq!(
            dialogue(b"term len 0\nconf t\nfrob x\n\x1ashow foo\n\nexit\nignored\n"),
            "n1# term len 0\n\
             n1# conf t\nEnter configuration commands, one per line.  End with CNTL/Z.\n\
             n1(config)# frob x\n            ^\n% Invalid command at '^' marker.\n\
             n1(config)# \n\
             n1# show foo\n         ^\n% Invalid command at '^' marker.\n\
             n1# \nn1# exit\n"
        );
    }

    #[test]
    fn help_and_tab_keep_the_line() {
        let text = dialogue(b"terminal length ?\x15conf\tt\x03");
        assert!(text.starts_with("n1# terminal length ?\n  <0-511>  "), "{text}");
        assert!(text.contains("\nn1# terminal length \u{8}"), "{text}");
        assert!(text.ends_with("configure t^C\nn1# "), "{text}");
    }

    #[test]
    fn a_new_size_of_the_window_does_not_undo_what_was_typed() {
        let mut out = Vec::new();
        let mut session = Session::new(Handle::detached(Model::default()));
        session.set(|settings| (settings.length, settings.width) = (24, 80));
        let mut terminal = Terminal::new(session, &mut out);
        terminal.resize((24, 80), (50, 132));
        assert_eq!((terminal.session.settings().length, terminal.session.settings().width), (50, 132));
        terminal.receive(b"terminal length 0\n", &mut out);
        terminal.resize((50, 132), (40, 100));
        assert_eq!((terminal.session.settings().length, terminal.session.settings().width), (0, 100));
    }

    #[test]
    fn long_output_stops_for_more() {
        let text = dialogue(b"term len 3\nterminal ?\nshow terminal\nq");
        assert!(text.ends_with("--More--\r        \rn1# "), "{text:?}");
    }
}
