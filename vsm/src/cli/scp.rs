//! Files of `bootflash:` by SCP: the far end of `scp -t` and `scp -f`, which clients start on an SSH channel.
//!
//! The protocol is that of rcp. Who sends announces a file by `C0644 SIZE NAME`, waits for an octet 0, sends the octets and
//! a 0, and waits again; 1 and a line are a complaint. There are no folders, so directories are refused. A file is kept
//! once all of it is there, in one piece.
//!
//! Whoever may administer the switch may copy both ways, as files may hold configurations with their secrets. Limits:
//! [`FILE_MAX`] octets a file, [`HEADER_MAX`] a line; the stream bounds the time.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::cmd::source::file_name;
use super::session::Session;
use super::tree::Error;
use crate::aaa::accounting::Event;
use crate::aaa::accounting::chain::Kind;

/// Most octets of a file that is sent to the switch.
pub const FILE_MAX: usize = 16 << 20;
/// Most octets of a line of the protocol.
const HEADER_MAX: u64 = 1024;

/// What `scp` on the other side asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The client sends.
    pub is_upload: bool,
    /// The client wants the times of files.
    pub with_times: bool,
    /// The file, as the client wrote it.
    pub path: String,
}

/// The request, when the commands of a channel are those of `scp`.
pub fn request(command: &str) -> Option<Request> {
    let rest = command.trim().strip_prefix("scp ")?;
    let mut request = Request { is_upload: false, with_times: false, path: String::new() };
    let (mut has_way, mut is_over) = (false, false);
    for word in words(rest) {
        match word.as_str() {
            "--" if !is_over => is_over = true,
            flags if flags.starts_with('-') && !is_over && request.path.is_empty() => {
                has_way |= flags.contains(['t', 'f']);
                request.is_upload |= flags.contains('t');
                request.with_times |= flags.contains('p');
            }
            _ => request.path = word,
        }
    }
    has_way.then_some(request)
}

/// Words of a line, without the quotes in which clients put names for a shell.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Copies; `false` when it was refused, which the client has been told.
///
/// # Errors
/// The stream.
pub fn copy(session: &Session, request: &Request, mut stream: impl Read + Write) -> io::Result<bool> {
    let done = match session.is_admin() {
        false => Err(Refusal::Said("Permission denied for the role".to_owned())),
        true if request.is_upload => receive(session, &request.path, &mut stream),
        true => send(session, request, &mut stream),
    };
    if request.is_upload || done.is_err() {
        let outcome = match &done {
            Ok(()) => "SUCCESS",
            Err(_) if !session.is_admin() => "DENIED",
            Err(_) => "FAILURE",
        };
        let path = format!("{:.100}", request.path.replace(char::is_control, "?"));
        let text = if request.is_upload { format!("copy scp: {path}") } else { format!("copy {path} scp:") };
        session.handle.account(&Event {
            kind: Kind::Update,
            id: &session.seat(),
            user: session.who(),
            outcome,
            text: &text,
        });
    }
    match done {
        Ok(()) => Ok(true),
        Err(Refusal::Stream(error)) => Err(error),
        Err(Refusal::Said(why)) => {
            stream.write_all(format!("\x01scp: {why}\n").as_bytes())?;
            Ok(false)
        }
    }
}

/// Why a file was not copied.
enum Refusal {
    /// The client is told.
    Said(String),
    /// The client is gone.
    Stream(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::Stream(error)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Said(error.to_string().trim_start_matches("ERROR: ").to_owned())
    }
}

fn receive(session: &Session, path: &str, stream: &mut (impl Read + Write)) -> Result<(), Refusal> {
    stream.write_all(&[0])?;
    let mut reader = BufReader::new(stream);
    loop {
        let Some(line) = line(&mut reader)? else { return Ok(()) };
        match line.chars().next() {
            Some('T') => reader.get_mut().write_all(&[0])?,
            Some('C') => {
                let (size, name) = announced(&line)?;
                // The name of the target, or of the source when that is the whole of bootflash:
                let target = match path.strip_prefix("bootflash:").unwrap_or(path).trim_matches('/') {
                    "" | "." => name,
                    _ => path,
                };
                let target = file_name(target)?;
                reader.get_mut().write_all(&[0])?;
                let mut octets = vec![0; size];
                reader.read_exact(&mut octets)?;
                let mut end = [0];
                reader.read_exact(&mut end)?;
                if end != [0] {
                    return Err(Refusal::Said("the file was not sent whole".to_owned()));
                }
                let files = &session.handle.lifecycle().files;
                files.write_octets(&target, &octets, SystemTime::now()).map_err(|e| Refusal::Said(e.to_string()))?;
                reader.get_mut().write_all(&[0])?;
            }
            Some('D') => return Err(Refusal::Said("there are no folders in bootflash:".to_owned())),
            Some('\u{1}' | '\u{2}') => return Err(Refusal::Said("given up".to_owned())),
            _ => return Err(Refusal::Said("unknown line of the protocol".to_owned())),
        }
    }
}

/// A line of the protocol; `None` at the end.
fn line(reader: &mut impl BufRead) -> Result<Option<String>, Refusal> {
    let mut line = Vec::new();
    reader.by_ref().take(HEADER_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    match String::from_utf8(line).ok().and_then(|line| line.strip_suffix('\n').map(str::to_owned)) {
        Some(line) => Ok(Some(line)),
        None => Err(Refusal::Said("a line of the protocol is too long or no text".to_owned())),
    }
}

/// Size and name of `C0644 SIZE NAME`.
fn announced(line: &str) -> Result<(usize, &str), Refusal> {
    let mut parts = line.splitn(3, ' ').skip(1);
    let size = parts.next().and_then(|size| size.parse::<usize>().ok());
    match (size, parts.next()) {
        (Some(size), Some(_)) if size > FILE_MAX => Err(Refusal::Said(format!("a file has at most {FILE_MAX} octets"))),
        (Some(size), Some(name)) => Ok((size, name)),
        _ => Err(Refusal::Said("unknown line of the protocol".to_owned())),
    }
}

fn send(session: &Session, request: &Request, stream: &mut (impl Read + Write)) -> Result<(), Refusal> {
    let name = file_name(&request.path)?;
    let files = &session.handle.lifecycle().files;
    let said = |error: crate::folder::Error| Refusal::Said(error.to_string());
    let octets = files.read_octets(&name).map_err(said)?;
    let octets = octets.ok_or_else(|| Refusal::Said(format!("bootflash:{name}: No such file or directory")))?;
    agreed(stream)?;
    if request.with_times {
        let entry = files.list().map_err(said)?.into_iter().find(|entry| entry.name == name);
        let time =
            entry.and_then(|entry| entry.written.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_secs());
        stream.write_all(format!("T{time} 0 {time} 0\n").as_bytes())?;
        agreed(stream)?;
    }
    // OpenSSH takes no other name than the last part of what it has asked for.
    let said = request.path.rsplit('/').next().unwrap_or(&name);
    stream.write_all(format!("C0600 {} {said}\n", octets.len()).as_bytes())?;
    agreed(stream)?;
    stream.write_all(&octets)?;
    stream.write_all(&[0])?;
    agreed(stream)
}

/// The client wants more.
fn agreed(stream: &mut impl Read) -> Result<(), Refusal> {
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    match answer {
        [0] => Ok(()),
        _ => Err(Refusal::Stream(io::Error::new(ErrorKind::ConnectionAborted, "the client has given up"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::config::model::{Model, User};
    use crate::supervisor::Handle;

    /// A client that says all at once.
    struct Client(Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Client {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Client {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.1.write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(session: &Session, command: &str, says: &[u8]) -> (Option<bool>, String) {
        let mut client = Client(Cursor::new(says.to_vec()), Vec::new());
        let done = copy(session, &request(command).unwrap(), &mut client).ok();
        (done, String::from_utf8_lossy(&client.1).into_owned())
    }

    #[test]
    fn what_clients_ask_for() {
        let of = |command| request(command).map(|r| (r.is_upload, r.with_times, r.path));
        assert_eq!(of("scp -t bootflash:a"), Some((true, false, "bootflash:a".into())));
        assert_eq!(of("scp -p -v -f -- 'bootflash:/a'"), Some((false, true, "bootflash:/a".into())));
        assert_eq!(of("scp -qpt ./b"), Some((true, true, "./b".into())));
        assert_eq!((of("scp a b"), of("show version"), of("scpx -t a")), (None, None, None));
    }

    #[test]
    fn files_come_and_go() {
        let session = Session::new(Handle::detached(Model::default()));
        let up = |command: &str, says: &[u8]| said(&session, command, says);
        assert_eq!(up("scp -t bootflash:x", b"T1 0 1 0\nC0644 3 y\nabc\0"), (Some(true), "\0\0\0\0".into()));
        assert_eq!(up("scp -t bootflash:/", b"C0644 2 z\n\xff\x00\0"), (Some(true), "\0\0\0".into()));
        let (done, text) = up("scp -pf bootflash:x", &[0; 9]);
        let (times, rest) = text.split_once('\n').unwrap();
        assert_eq!((done, times.starts_with('T'), rest), (Some(true), true, "C0600 3 bootflash:x\nabc\0"));
        assert!(up("scp -f bootflash:/x", &[0; 9]).1.starts_with("C0600 3 x\n"));
        let list = session.handle.lifecycle().files.list().unwrap();
        assert_eq!(list.iter().map(|e| (e.name.as_str(), e.octets)).collect::<Vec<_>>(), [("x", 3), ("z", 2)]);
    }

    #[test]
    fn nonsense_is_refused_and_keeps_nothing() {
        let session = Session::new(Handle::detached(Model::default()));
        for (command, says, why) in [
            ("scp -t bootflash:../x", &b"C0644 1 x\na\0"[..], "no name"),
            ("scp -t bootflash:x", b"D0755 0 x\n", "no folders"),
            ("scp -t bootflash:x", b"C0644 99999999999 x\n", "at most"),
            ("scp -t bootflash:x", b"C0644 -1 x\n", "unknown line"),
            ("scp -t bootflash:x", b"frob\n", "unknown line"),
            ("scp -t bootflash:x", b"C0644 1 x\na\x01", "not sent whole"),
            ("scp -t bootflash:x", &[b'C'; 5000], "too long"),
            ("scp -f bootflash:nothing", b"\0", "No such file"),
        ] {
            let (done, text) = said(&session, command, says);
            assert!(done == Some(false) && text.contains("\u{1}scp: ") && text.contains(why), "{why}: {text}");
        }
        // The client has gone in the middle.
        assert_eq!(said(&session, "scp -t bootflash:x", b"C0644 9 x\nabc").0, None);
        assert!(session.handle.lifecycle().files.list().unwrap().is_empty());
    }

    #[test]
    fn an_operator_copies_nothing() {
        let mut model = Model::default();
        model.users.insert("ops".into(), User::default());
        let session = Session::of(Handle::detached(model), 0, Some("ops".into()));
        assert_eq!(said(&session, "scp -t bootflash:x", b"").0, Some(false));
        assert_eq!(said(&session, "scp -f bootflash:x", b"\0").0, Some(false));
    }
}
