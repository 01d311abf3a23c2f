//! What a command shows while it runs, for those that run long, and the key that ends them.
//!
//! A session on a stream has a [`Live`]; one without (a batch, a transcript, a line with a filter behind it) shows
//! everything at the end. Ctrl-C is looked for without taking what else was typed ahead.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use rustix::net::RecvFlags;

const CTRL_C: u8 = 0x03;

/// The stream of a session.
pub struct Live {
    stream: UnixStream,
    line_end: &'static str,
    /// Somebody can press a key.
    keys: bool,
    /// What was shown before the command and is not written yet.
    pub(super) before: Vec<u8>,
}

impl Live {
    /// For a session on `stream`, whose lines end as a terminal wants it with `crlf`; `keys`: a person types there.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn new(stream: &UnixStream, crlf: bool, keys: bool) -> io::Result<Self> {
        let line_end = if crlf { "\r\n" } else { "\n" };
        Ok(Live { stream: stream.try_clone()?, line_end, keys, before: Vec::new() })
    }

    /// Shows lines at once; `false` when nobody is there any more.
    pub fn show(&mut self, text: &str) -> bool {
        let mut octets = std::mem::take(&mut self.before);
        text.lines().for_each(|line| octets.extend([line, self.line_end].concat().as_bytes()));
        self.stream.write_all(&octets).is_ok()
    }

    /// Somebody can end a command by a key.
    pub fn has_keys(&self) -> bool {
        self.keys
    }

    /// Ctrl-C was pressed, or the person has gone. What was typed before Ctrl-C is forgotten with it.
    pub fn interrupted(&mut self) -> bool {
        if !self.keys {
            return false;
        }
        let mut ahead = [0; 4096];
        let seen = match rustix::net::recv(&self.stream, &mut ahead[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return true,
            Ok((_, count)) => ahead.get(..count).unwrap_or_default(),
            Err(error) => return error != rustix::io::Errno::AGAIN && error != rustix::io::Errno::INTR,
        };
        match seen.iter().position(|octet| *octet == CTRL_C) {
            Some(at) => {
                let _ = self.stream.read_exact(ahead.get_mut(..=at).unwrap_or_default());
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_c_is_found_and_what_is_behind_it_stays() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut live = Live::new(&ours, true, true).unwrap();
        assert!(!live.interrupted());
        theirs.write_all(b"abc").unwrap();
        assert!(!live.interrupted());
        theirs.write_all(b"d\x03show").unwrap();
        assert!(live.interrupted() && !live.interrupted());
        live.before = b"prompt# ".to_vec();
        assert!(live.show("one\ntwo\n"));
        drop((live, ours));
        let mut shown = String::new();
        let _ = theirs.read_to_string(&mut shown);
        assert_eq!(shown, "prompt# one\r\ntwo\r\n");
    }

    #[test]
    fn a_person_who_has_gone_ends_it() {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let [mut keys, mut none] = [true, false].map(|keys| Live::new(&ours, false, keys).unwrap());
        drop(theirs);
        assert!(keys.interrupted() && !none.interrupted() && !none.show("x\n"));
    }
}
