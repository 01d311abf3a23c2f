//! `--More--`, without I/O.

const MORE: &str = "--More--";

/// Output that is shown a page at a time.
#[derive(Debug)]
pub struct Pager {
    text: String,
    /// Octets of the text that have been shown.
    at: usize,
    length: usize,
    width: usize,
}

impl Pager {
    /// Output for a terminal of `length` lines and `width` columns; a length of 0 shows all at once.
    pub fn new(text: String, length: usize, width: usize) -> Self {
        Pager { text, at: 0, length, width: width.max(1) }
    }

    /// Shows the first page; `true` when there is more and a key is awaited.
    pub fn start(&mut self, out: &mut Vec<u8>) -> bool {
        let rows = if self.length == 0 { usize::MAX } else { self.length.saturating_sub(1).max(1) };
        self.show(rows, out)
    }

    /// A key: Enter a line, `q` and Ctrl-C no more, everything else a page. `true` when there is still more.
    pub fn key(&mut self, byte: u8, out: &mut Vec<u8>) -> bool {
        let blank = format!("\r{:1$}\r", "", MORE.len());
        match byte {
            0 => return true,
            b'q' | b'Q' | 0x03 => self.at = self.text.len(),
            _ => {}
        }
        out.extend(blank.as_bytes());
        match byte {
            b'\r' | b'\n' => self.show(1, out),
            _ => self.show(self.length.saturating_sub(1).max(1), out),
        }
    }

    fn show(&mut self, rows: usize, out: &mut Vec<u8>) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if self.length == 0 {
            // With room for line ends of two octets: large outputs are copied once.
            out.reserve(rest.len() + rest.len() / 16);
        }
        let mut shown = 0usize;
        for line in rest.split_inclusive('\n') {
            if shown >= rows {
                out.extend(MORE.as_bytes());
                return true;
            }
            self.at += line.len();
            let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
            if self.length > 0 {
                shown += line.chars().count().div_ceil(self.width).max(1);
            }
            out.extend(line.as_bytes());
            out.extend(b"\r\n");
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_lines_and_the_end() {
        let text: String = (1..=9).map(|n| format!("{n}\n")).collect();
        let mut out = Vec::new();
        let mut pager = Pager::new(text, 4, 80);
        assert!(pager.start(&mut out));
        assert!(pager.key(b'\r', &mut out));
        assert!(pager.key(b' ', &mut out));
        assert!(!pager.key(b' ', &mut out));
        let shown = String::from_utf8(out).unwrap().replace("\r        \r", "<>").replace("\r\n", "/");
        assert_eq!(shown, "1/2/3/--More--<>4/--More--<>5/6/7/--More--<>8/9/");
    }

    #[test]
    fn quit_wrapped_and_unpaged() {
        let mut out = Vec::new();
        let mut pager = Pager::new("aaaaaaaaaa\nb\nc\nd\n".to_owned(), 4, 4);
        assert!(pager.start(&mut out));
        assert_eq!(out, b"aaaaaaaaaa\r\n--More--");
        assert!(!pager.key(b'q', &mut out));
        let mut out = Vec::new();
        assert!(!Pager::new("a\nb\n".to_owned(), 0, 80).start(&mut out));
        assert_eq!(out, b"a\r\nb\r\n");
    }
}
