//! The line editor, without I/O: octets in, octets to echo out, and what the person wants.
//!
//! It draws with nothing but characters, blanks and backspaces, so that a client that only knows a teletype (and every
//! program that drives the switch) sees exactly what it typed. Lines that are wider than the terminal can be typed and
//! run, but editing in their middle is drawn on the last row only. One cell per character is assumed.

use std::collections::VecDeque;

/// Longest line, characters.
pub const LINE_MAX: usize = 4096;
/// Lines that are remembered.
pub const HISTORY_MAX: usize = 100;

const BELL: u8 = 0x07;
const BACKSPACE: u8 = 0x08;

/// What the person wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Enter: run this line.
    Line(String),
    /// `?`: say what can follow [`Editor::before_cursor`], then redraw.
    Help,
    /// Tab: complete [`Editor::before_cursor`] with [`Editor::insert`].
    Complete,
    /// Ctrl-C: the line is abandoned.
    Interrupt,
    /// Ctrl-Z: back to EXEC mode.
    End,
    /// Ctrl-D on an empty line.
    Close,
    /// Ctrl-R: write the prompt and the line anew.
    Redisplay,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Escape {
    No,
    Begun,
    /// Behind `ESC [` or `ESC O`, with the digits so far.
    Sequence(u8),
}

/// The editor of one session.
#[derive(Debug)]
pub struct Editor {
    text: Vec<char>,
    cursor: usize,
    history: VecDeque<String>,
    /// Place in the history, from the newest, while the person walks through it; and what stood on the line before.
    recalled: Option<usize>,
    draft: Vec<char>,
    killed: Vec<char>,
    escape: Escape,
    utf8: Vec<u8>,
    after_cr: bool,
    literal: bool,
}

impl Default for Editor {
    fn default() -> Self {
        Editor {
            text: Vec::new(),
            cursor: 0,
            history: VecDeque::new(),
            recalled: None,
            draft: Vec::new(),
            killed: Vec::new(),
            escape: Escape::No,
            utf8: Vec::new(),
            after_cr: false,
            literal: false,
        }
    }
}

impl Editor {
    /// The line up to the cursor.
    pub fn before_cursor(&self) -> String {
        self.text.iter().take(self.cursor).collect()
    }

    /// Draws the line behind a prompt that was just written.
    pub fn redraw(&self, out: &mut Vec<u8>) {
        put(&self.text, out);
        out.extend(std::iter::repeat_n(BACKSPACE, self.text.len() - self.cursor));
    }

    /// Types `text` at the cursor.
    pub fn insert(&mut self, text: &str, out: &mut Vec<u8>) {
        for c in text.chars() {
            self.type_char(c, out);
        }
    }

    /// One octet from the person; what is to be shown is appended to `out`.
    pub fn push(&mut self, byte: u8, out: &mut Vec<u8>) -> Option<Event> {
        let after_cr = std::mem::take(&mut self.after_cr);
        if std::mem::take(&mut self.literal) && (b' '..0x7f).contains(&byte) {
            self.type_char(byte.into(), out);
            return None;
        }
        match (self.escape, byte) {
            (Escape::No, 0x1b) => self.escape = Escape::Begun,
            (Escape::No, _) => return self.control(byte, after_cr, out),
            (Escape::Begun, _) => {
                self.escape = if matches!(byte, b'[' | b'O') { Escape::Sequence(0) } else { Escape::No };
                match byte {
                    b'b' => self.move_to(self.word_before(), out),
                    b'f' => self.move_to(self.word_behind(), out),
                    _ => {}
                }
            }
            (Escape::Sequence(_), b'0'..=b'9' | b';') => self.escape = Escape::Sequence(byte),
            (Escape::Sequence(digit), _) => {
                self.escape = Escape::No;
                match (byte, digit) {
                    (b'A', _) => self.recall(true, out),
                    (b'B', _) => self.recall(false, out),
                    (b'C', _) => self.move_to(self.cursor + 1, out),
                    (b'D', _) => self.move_to(self.cursor.saturating_sub(1), out),
                    (b'H', _) | (b'~', b'1' | b'7') => self.move_to(0, out),
                    (b'F', _) | (b'~', b'4' | b'8') => self.move_to(self.text.len(), out),
                    (b'~', b'3') => self.cut(self.cursor, self.cursor + 1, out),
                    _ => {}
                }
            }
        }
        None
    }

    fn control(&mut self, byte: u8, after_cr: bool, out: &mut Vec<u8>) -> Option<Event> {
        if !self.utf8.is_empty() && !(0x80..0xc0).contains(&byte) {
            self.utf8.clear();
        }
        match byte {
            b'\n' if after_cr => {}
            b'\r' | b'\n' => {
                self.after_cr = byte == b'\r';
                return Some(self.enter(out));
            }
            b'\t' => return Some(Event::Complete),
            b'?' => {
                out.extend(b"?\r\n");
                return Some(Event::Help);
            }
            0x01 => self.move_to(0, out),
            0x02 => self.move_to(self.cursor.saturating_sub(1), out),
            0x03 => {
                out.extend(b"^C\r\n");
                self.clear();
                return Some(Event::Interrupt);
            }
            0x04 if self.text.is_empty() => return Some(Event::Close),
            0x04 => self.cut(self.cursor, self.cursor + 1, out),
            0x05 => self.move_to(self.text.len(), out),
            0x06 => self.move_to(self.cursor + 1, out),
            0x08 | 0x7f if self.cursor == 0 => out.push(BELL),
            0x08 | 0x7f => self.cut(self.cursor - 1, self.cursor, out),
            0x0b => self.kill(self.cursor, self.text.len(), out),
            0x0c | 0x12 => return Some(Event::Redisplay),
            0x0e => self.recall(false, out),
            0x10 => self.recall(true, out),
            0x15 => self.kill(0, self.cursor, out),
            0x16 => self.literal = true,
            0x17 => self.kill(self.word_before(), self.cursor, out),
            0x19 => {
                let killed: String = self.killed.iter().collect();
                self.insert(&killed, out);
            }
            0x1a => {
                out.extend(b"\r\n");
                self.clear();
                return Some(Event::End);
            }
            b' '..0x7f => self.type_char(byte.into(), out),
            0x80.. => self.multibyte(byte, out),
            _ => {}
        }
        None
    }

    fn multibyte(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.utf8.push(byte);
        match std::str::from_utf8(&self.utf8) {
            Ok(text) => {
                let text = text.to_owned();
                self.utf8.clear();
                self.insert(&text, out);
            }
            Err(error) if error.error_len().is_some() => self.utf8.clear(),
            Err(_) => {}
        }
    }

    fn enter(&mut self, out: &mut Vec<u8>) -> Event {
        out.extend(b"\r\n");
        let line: String = self.text.iter().collect();
        if !line.trim().is_empty() && self.history.front() != Some(&line) {
            self.history.push_front(line.clone());
            self.history.truncate(HISTORY_MAX);
        }
        self.clear();
        Event::Line(line)
    }

    fn clear(&mut self) {
        self.text.clear();
        self.cursor = 0;
        self.recalled = None;
    }

    fn type_char(&mut self, c: char, out: &mut Vec<u8>) {
        if self.text.len() >= LINE_MAX || c.is_control() {
            return out.push(BELL);
        }
        self.text.insert(self.cursor, c);
        put(&self.text[self.cursor..], out);
        self.cursor += 1;
        out.extend(std::iter::repeat_n(BACKSPACE, self.text.len() - self.cursor));
    }

    fn move_to(&mut self, to: usize, out: &mut Vec<u8>) {
        let to = to.min(self.text.len());
        if to < self.cursor {
            out.extend(std::iter::repeat_n(BACKSPACE, self.cursor - to));
        } else {
            put(&self.text[self.cursor..to], out);
        }
        self.cursor = to;
    }

    /// Takes out the characters `from..to` and leaves the cursor at `from`.
    fn cut(&mut self, from: usize, to: usize, out: &mut Vec<u8>) {
        let to = to.min(self.text.len());
        let from = from.min(to);
        self.move_to(from, out);
        self.text.drain(from..to);
        put(&self.text[from..], out);
        out.extend(std::iter::repeat_n(b' ', to - from));
        out.extend(std::iter::repeat_n(BACKSPACE, self.text.len() - from + to - from));
    }

    fn kill(&mut self, from: usize, to: usize, out: &mut Vec<u8>) {
        self.killed = self.text.get(from..to).unwrap_or_default().to_vec();
        self.cut(from, to, out);
    }

    fn word_before(&self) -> usize {
        let before: Vec<char> = self.text.iter().take(self.cursor).copied().collect();
        let blanks = before.iter().rev().take_while(|c| c.is_whitespace()).count();
        let word = before.iter().rev().skip(blanks).take_while(|c| !c.is_whitespace()).count();
        self.cursor - blanks - word
    }

    fn word_behind(&self) -> usize {
        let behind: Vec<char> = self.text.iter().skip(self.cursor).copied().collect();
        let blanks = behind.iter().take_while(|c| c.is_whitespace()).count();
        self.cursor + blanks + behind.iter().skip(blanks).take_while(|c| !c.is_whitespace()).count()
    }

    fn recall(&mut self, older: bool, out: &mut Vec<u8>) {
        let to = match (self.recalled, older) {
            (None, true) => Some(0),
            (Some(at), true) => Some(at + 1),
            (Some(0) | None, false) => None,
            (Some(at), false) => Some(at - 1),
        };
        let line: Vec<char> = match to {
            Some(at) => match self.history.get(at) {
                Some(line) => line.chars().collect(),
                None => return out.push(BELL),
            },
            None if self.recalled.is_none() => return out.push(BELL),
            None => std::mem::take(&mut self.draft),
        };
        if self.recalled.is_none() {
            self.draft = self.text.clone();
        }
        self.recalled = to;
        self.cut(0, self.text.len(), out);
        self.text = line;
        self.move_to(self.text.len(), out);
    }
}

fn put(text: &[char], out: &mut Vec<u8>) {
    let text: String = text.iter().collect();
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a teletype shows after these octets: one row, drawn with characters and backspaces.
    fn screen(out: &[u8]) -> String {
        let mut row: Vec<char> = Vec::new();
        let mut at = 0;
        for c in String::from_utf8(out.to_vec()).unwrap().chars() {
            match c {
                '\u{8}' => at -= 1,
                '\u{7}' => {}
                c => {
                    if at == row.len() {
                        row.push(' ');
                    }
                    row[at] = c;
                    at += 1;
                }
            }
        }
        row.iter().collect::<String>().trim_end().to_owned()
    }

    fn typed(editor: &mut Editor, bytes: &[u8]) -> (Vec<Event>, Vec<u8>) {
        let mut out = Vec::new();
        let events = bytes.iter().filter_map(|byte| editor.push(*byte, &mut out)).collect();
        (events, out)
    }

    /// The line after typing `bytes`, checked against what the screen shows.
    fn line(bytes: &[u8]) -> String {
        let mut editor = Editor::default();
        let (events, out) = typed(&mut editor, bytes);
        assert!(events.is_empty(), "{events:?}");
        let text: String = editor.text.iter().collect();
        assert_eq!(screen(&out), text.trim_end());
        text
    }

    #[test]
    fn echo_is_verbatim_and_every_line_end_counts_once() {
        let mut editor = Editor::default();
        let (events, out) = typed(&mut editor, b"show version\r\nterm len 0\nexit\r\r\n\0\n");
        let line = |text: &str| Event::Line(text.into());
        assert_eq!(events, [line("show version"), line("term len 0"), line("exit"), line(""), line("")]);
        assert_eq!(out, b"show version\r\nterm len 0\r\nexit\r\n\r\n\r\n");
    }

    #[test]
    fn editing_keys() {
        assert_eq!(line(b"shw\x02o"), "show");
        assert_eq!(line(b"how\x01s"), "show");
        assert_eq!(line(b"how\x01s\x05 x"), "show x");
        assert_eq!(line(b"show\x7f\x7f\x08"), "s");
        assert_eq!(line(b"show vlan\x17"), "show ");
        assert_eq!(line(b"show vlan\x15x"), "x");
        assert_eq!(line(b"show vlan\x01\x06\x06\x0b"), "sh");
        assert_eq!(line(b"show vlan\x17\x19\x19"), "show vlanvlan");
        assert_eq!(line(b"sxhow\x01\x06\x04"), "show");
        assert_eq!(line(b"shw\x1b[Do\x1b[C!"), "show!");
        assert_eq!(line(b"bc\x1b[Ha\x1b[Fd\x1b[1~\x1b[3~"), "bcd");
        assert_eq!(line(b"a b\x1bb\x1bbx\x1bfy"), "xay b");
        assert_eq!(line("dé\x08è".as_bytes()), "dè");
        assert_eq!(line(b"a\xff\xc3b\x16?"), "ab?");
        assert_eq!(line(b"\x7f\x1b[C\x02"), "");
    }

    #[test]
    fn history() {
        let mut editor = Editor::default();
        let (_, _) = typed(&mut editor, b"one\ntwo\ntwo\n");
        let (events, _) = typed(&mut editor, b"dra\x10\x1b[A\x10\x0e\n");
        assert_eq!(events, [Event::Line("two".into())]);
        let (events, _) = typed(&mut editor, b"draft\x10\x0e\x0e!\n");
        assert_eq!(events, [Event::Line("draft!".into())]);
    }

    #[test]
    fn wishes() {
        let mut editor = Editor::default();
        let (events, out) = typed(&mut editor, b"sh?");
        assert_eq!((events, out), (vec![Event::Help], b"sh?\r\n".to_vec()));
        assert_eq!(editor.before_cursor(), "sh");
        let mut out = Vec::new();
        editor.redraw(&mut out);
        assert_eq!(out, b"sh");
        let (events, _) = typed(&mut editor, b"\t\x03\x04\x1a\x12");
        assert_eq!(events, [Event::Complete, Event::Interrupt, Event::Close, Event::End, Event::Redisplay]);
    }

    #[test]
    fn a_line_has_an_end() {
        let mut editor = Editor::default();
        let (events, _) = typed(&mut editor, &[b'a'; LINE_MAX + 10]);
        assert!(events.is_empty());
        assert_eq!(editor.text.len(), LINE_MAX);
    }
}
