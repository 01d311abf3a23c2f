//! TACACS+ packets (RFC 8907), no I/O: requests are written, answers are read.
//!
//! The body is hidden with MD5 over the shared key. That hides, and proves nothing: an answer under another key is
//! rubbish that mostly contradicts itself, so every length is held against the whole. Whoever can change packets on the
//! way can change an answer; RFC 8907, 10 says so, and wants the way to be protected.

use md5::{Digest, Md5};

/// Octets of a header.
pub const HEAD: usize = 12;
/// Most octets of an answer's body.
pub const BODY_MAX: usize = 16 << 10;
/// Most octets of an argument.
const ARGUMENT_MAX: usize = 255;
/// Octets of a word that are sent in one argument.
const PIECE: usize = 200;

const MAJOR: u8 = 0xc0;
const UNENCRYPTED: u8 = 1;
/// The connection is kept for the next question.
pub const SINGLE: u8 = 4;

/// What a packet is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Who somebody is.
    Authentication = 1,
    /// What he may do.
    Authorization = 2,
    /// What he has done.
    Accounting = 3,
}

/// A header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the packet is about.
    pub kind: Kind,
    /// Minor version: 1 for PAP.
    pub minor: u8,
    /// Odd from us, even from the server.
    pub sequence: u8,
    /// Flags.
    pub flags: u8,
    /// The same in all packets of a question.
    pub session: u32,
}

/// Why an answer is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bad {
    /// It is to another question.
    Unmatched,
    /// It contradicts itself; most likely the key is another.
    Malformed,
}

/// Hides a body, and brings a hidden one back.
fn hide(header: &Header, key: &[u8], body: &mut [u8]) {
    let mut before: Option<[u8; 16]> = None;
    for block in body.chunks_mut(16) {
        let mut digest = Md5::new();
        digest.update(header.session.to_be_bytes());
        digest.update(key);
        digest.update([MAJOR | header.minor, header.sequence]);
        if let Some(before) = before {
            digest.update(before);
        }
        let mask: [u8; 16] = digest.finalize().into();
        block.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
        before = Some(mask);
    }
}

impl Header {
    /// The packet with this body.
    pub fn packet(&self, key: &str, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![MAJOR | self.minor, self.kind as u8, self.sequence, self.flags];
        packet.extend(self.session.to_be_bytes());
        packet.extend((body.len() as u32).to_be_bytes());
        packet.extend(body);
        hide(self, key.as_bytes(), &mut packet[HEAD..]);
        packet
    }

    /// Reads the header of the answer to a packet with this one; its flags, and the length of its body.
    ///
    /// # Errors
    /// It is no answer to that packet.
    pub fn answered(&self, head: &[u8; HEAD]) -> Result<(u8, usize), Bad> {
        let session = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        if head[1] != self.kind as u8 || head[2] != self.sequence.wrapping_add(1) || session != self.session {
            return Err(Bad::Unmatched);
        }
        let length = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
        // The minor version is ours, and nothing is taken in clear text.
        let is_sound = head[0] == MAJOR | self.minor && head[3] & UNENCRYPTED == 0;
        if is_sound && (1..=BODY_MAX).contains(&length) { Ok((head[3], length)) } else { Err(Bad::Malformed) }
    }

    /// Brings the body of the answer back.
    pub fn reveal(&self, key: &str, body: &mut [u8]) {
        hide(&Header { sequence: self.sequence.wrapping_add(1), ..*self }, key.as_bytes(), body);
    }
}

/// Who asks, or of whom is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Who<'a> {
    /// Name.
    pub user: &'a str,
    /// Line: `pts/3`.
    pub port: &'a str,
    /// From where.
    pub from: &'a str,
}

impl Who<'_> {
    fn fields(&self) -> [&[u8]; 3] {
        [self.user, self.port, self.from].map(|text| text.as_bytes().get(..255).unwrap_or(text.as_bytes()))
    }
}

/// Beginning of a login; with the password, by PAP. `None`: the password is too long.
pub fn start(who: &Who<'_>, password: Option<&str>) -> Option<Vec<u8>> {
    let fields = who.fields();
    let data = password.unwrap_or_default().as_bytes();
    let length = u8::try_from(data.len()).ok()?;
    // Login, privilege 1, PAP or ASCII, service login.
    let mut body = vec![1, 1, if password.is_some() { 2 } else { 1 }, 1];
    body.extend(fields.map(|field| field.len() as u8));
    body.push(length);
    fields.iter().for_each(|field| body.extend(*field));
    body.extend(data);
    Some(body)
}

/// What the server has asked for, in an ASCII login.
pub fn go_on(text: &str) -> Option<Vec<u8>> {
    let length = u16::try_from(text.len()).ok()?;
    let mut body = length.to_be_bytes().to_vec();
    body.extend([0, 0, 0]);
    body.extend(text.as_bytes());
    Some(body)
}

/// What a server says to a login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Login {
    /// Let in.
    Pass,
    /// Not let in.
    Fail,
    /// It wants the name.
    User,
    /// It wants the password.
    Password,
    /// It can't say.
    Error,
}

fn long(body: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?])))
}

/// Reads an answer to a login.
///
/// # Errors
/// It is none.
pub fn login(body: &[u8]) -> Result<Login, Bad> {
    let length = || Some(6 + long(body, 2)? + long(body, 4)?);
    if length() != Some(body.len()) {
        return Err(Bad::Malformed);
    }
    match body[0] {
        1 => Ok(Login::Pass),
        2 => Ok(Login::Fail),
        4 => Ok(Login::User),
        5 => Ok(Login::Password),
        // Data, a new beginning, another server: nobody is there to answer.
        3 | 6 | 7 | 0x21 => Ok(Login::Error),
        _ => Err(Bad::Malformed),
    }
}

/// May he? `None`: there are too many arguments.
pub fn may(who: &Who<'_>, method: u8, arguments: &[String]) -> Option<Vec<u8>> {
    request(&[method, 1, 1, 1], who, arguments)
}

/// He has. `flags`: 2 begin, 4 end.
pub fn has(who: &Who<'_>, flags: u8, method: u8, arguments: &[String]) -> Option<Vec<u8>> {
    request(&[flags, method, 1, 1, 1], who, arguments)
}

fn request(head: &[u8], who: &Who<'_>, arguments: &[String]) -> Option<Vec<u8>> {
    let fields = who.fields();
    let mut body = head.to_vec();
    body.extend(fields.map(|field| field.len() as u8));
    body.push(u8::try_from(arguments.len()).ok()?);
    let cut = |argument: &String| argument.as_bytes().get(..ARGUMENT_MAX).unwrap_or(argument.as_bytes()).to_vec();
    let arguments: Vec<Vec<u8>> = arguments.iter().map(cut).collect();
    body.extend(arguments.iter().map(|argument| argument.len() as u8));
    fields.iter().for_each(|field| body.extend(*field));
    arguments.iter().for_each(|argument| body.extend(argument));
    Some(body)
}

/// The arguments of a command: a word each, long ones in pieces, and `<cr>` at the end.
pub fn command(line: &str) -> Vec<String> {
    let mut arguments = vec!["service=shell".to_owned()];
    let mut name = "cmd=";
    for word in line.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        // A letter is at most four octets.
        for piece in letters.chunks(PIECE / 4) {
            arguments.push(format!("{name}{}", piece.iter().collect::<String>()));
            name = "cmd-arg=";
        }
    }
    arguments.push("cmd-arg=<cr>".to_owned());
    arguments
}

/// What a server says to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Right {
    /// He may, and this is granted.
    Pass(Vec<String>),
    /// He may not.
    Fail,
    /// It can't say.
    Error,
}

/// Reads an answer to [`may`].
///
/// # Errors
/// It is none.
pub fn right(body: &[u8]) -> Result<Right, Bad> {
    let parse = || {
        let count = usize::from(*body.get(1)?);
        let lengths = body.get(6..6 + count)?;
        let mut at = 6 + count + long(body, 2)? + long(body, 4)?;
        let mut arguments = Vec::new();
        for length in lengths {
            let argument = body.get(at..at + usize::from(*length))?;
            arguments.push(String::from_utf8_lossy(argument).into_owned());
            at += argument.len();
        }
        (at == body.len()).then_some((body[0], arguments))
    };
    match parse().ok_or(Bad::Malformed)? {
        (1 | 2, arguments) => Ok(Right::Pass(arguments)),
        (0x10, _) => Ok(Right::Fail),
        (0x11 | 0x21, _) => Ok(Right::Error),
        _ => Err(Bad::Malformed),
    }
}

/// Reads an answer to [`has`]: it was written down.
///
/// # Errors
/// It is none.
pub fn written(body: &[u8]) -> Result<bool, Bad> {
    let length = || Some(5 + long(body, 0)? + long(body, 2)?);
    match (length() == Some(body.len()), body.get(4)) {
        (true, Some(1)) => Ok(true),
        (true, Some(2 | 0x21)) => Ok(false),
        _ => Err(Bad::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tacacs_plus_protocol as judge;

    use super::*;

    const KEY: &str = "tac-key";
    const WHO: Who<'_> = Who { user: "alice", port: "pts/3", from: "192.0.2.7" };

    fn header(kind: Kind, minor: u8) -> Header {
        Header { kind, minor, sequence: 1, flags: SINGLE, session: 0xdead_beef }
    }

    fn theirs(minor: judge::MinorVersion) -> judge::HeaderInfo {
        let version = judge::Version::new(judge::MajorVersion::RFC8907, minor);
        judge::HeaderInfo::new(version, 1, judge::PacketFlags::SINGLE_CONNECTION, 0xdead_beef)
    }

    fn context(kind: judge::AuthenticationType) -> judge::AuthenticationContext {
        judge::AuthenticationContext {
            privilege_level: judge::PrivilegeLevel::new(1).unwrap(),
            authentication_type: kind,
            service: judge::AuthenticationService::Login,
        }
    }

    fn user() -> judge::UserInformation<'static> {
        judge::UserInformation::new(WHO.user, WHO.port.try_into().unwrap(), WHO.from.try_into().unwrap()).unwrap()
    }

    /// Octet by octet what another implementation writes.
    #[test]
    fn requests_are_as_others_write_them() {
        use judge::authentication::{Action, Continue, ContinueFlags, PacketData, Start};
        let mut buffer = [0; 512];
        let data = PacketData::try_from(&b"wonder|land-1"[..]).unwrap();
        let pap = Start::new(Action::Login, context(judge::AuthenticationType::Pap), user(), Some(data)).unwrap();
        let length = judge::Packet::new(theirs(judge::MinorVersion::V1), pap).serialize(KEY, &mut buffer).unwrap();
        let ours = header(Kind::Authentication, 1).packet(KEY, &start(&WHO, Some("wonder|land-1")).unwrap());
        assert_eq!(ours, &buffer[..length]);
        let go = Continue::new(Some(b"secret"), None, ContinueFlags::empty()).unwrap();
        let length = judge::Packet::new(theirs(judge::MinorVersion::Default), go).serialize(KEY, &mut buffer).unwrap();
        assert_eq!(header(Kind::Authentication, 0).packet(KEY, &go_on("secret").unwrap()), &buffer[..length]);
        let argument = |name: &'static str, value: &'static str| {
            judge::Argument::new(name.try_into().unwrap(), value.try_into().unwrap(), true).unwrap()
        };
        let list = [
            argument("service", "shell"),
            argument("cmd", "show"),
            argument("cmd-arg", "clock"),
            argument("cmd-arg", "<cr>"),
        ];
        let arguments = judge::Arguments::new(&list).unwrap();
        let method = judge::AuthenticationMethod::TacacsPlus;
        let login = context(judge::AuthenticationType::Ascii);
        let question = judge::authorization::Request::new(method, login, user(), arguments);
        let length =
            judge::Packet::new(theirs(judge::MinorVersion::Default), question).serialize(KEY, &mut buffer).unwrap();
        let ours = may(&WHO, 6, &command("show clock")).unwrap();
        assert_eq!(header(Kind::Authorization, 0).packet(KEY, &ours), &buffer[..length]);
        let arguments = judge::Arguments::new(&list).unwrap();
        let report =
            judge::accounting::Request::new(judge::accounting::Flags::StopRecord, method, login, user(), arguments);
        let length =
            judge::Packet::new(theirs(judge::MinorVersion::Default), report).serialize(KEY, &mut buffer).unwrap();
        let ours = has(&WHO, 4, 6, &command("show clock")).unwrap();
        assert_eq!(header(Kind::Accounting, 0).packet(KEY, &ours), &buffer[..length]);
    }

    #[test]
    fn answers() {
        assert_eq!(login(&[1, 0, 0, 0, 0, 0]), Ok(Login::Pass));
        assert_eq!(login(&[5, 1, 0, 2, 0, 0, b'P', b'?']), Ok(Login::Password));
        assert_eq!(login(&[9, 0, 0, 0, 0, 0]), Err(Bad::Malformed));
        let text = b"shell:roles=\"a b\"";
        let body = [&[1, 1, 0, 1, 0, 0, text.len() as u8][..], b"m", text].concat();
        assert_eq!(right(&body), Ok(Right::Pass(vec!["shell:roles=\"a b\"".into()])));
        assert_eq!(right(&[0x10, 0, 0, 0, 0, 0]), Ok(Right::Fail));
        assert_eq!(written(&[0, 0, 0, 0, 1]), Ok(true));
        assert_eq!(written(&[0, 0, 0, 0, 2]), Ok(false));
        for length in 0..body.len() {
            assert_eq!(right(&body[..length]), Err(Bad::Malformed));
        }
    }

    #[test]
    fn a_header_fits_its_question_only() {
        let ours = header(Kind::Authorization, 0);
        let good = [0xc0, 2, 2, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 6];
        assert_eq!(ours.answered(&good), Ok((0, 6)));
        let with = |at: usize, octet: u8| {
            let mut bad = good;
            bad[at] = octet;
            ours.answered(&bad)
        };
        assert_eq!(
            (with(1, 1), with(2, 4), with(7, 0)),
            (Err(Bad::Unmatched), Err(Bad::Unmatched), Err(Bad::Unmatched))
        );
        assert_eq!(
            (with(0, 0xc1), with(3, 1), with(11, 0), with(8, 1)),
            (Err(Bad::Malformed), Err(Bad::Malformed), Err(Bad::Malformed), Err(Bad::Malformed))
        );
    }

    #[test]
    fn a_command_is_sent_whole() {
        assert_eq!(command("no vlan 10"), ["service=shell", "cmd=no", "cmd-arg=vlan", "cmd-arg=10", "cmd-arg=<cr>"]);
        let long = format!("username a sshkey {}", "é".repeat(500));
        let sent = command(&long);
        assert!(sent.iter().all(|argument| argument.len() <= ARGUMENT_MAX));
        assert_eq!(sent.iter().map(|argument| argument.matches('é').count()).sum::<usize>(), 500);
        assert_eq!(may(&WHO, 6, &command(&"w ".repeat(300))), None);
    }

    proptest! {
        #[test]
        fn no_octets_of_a_server_end_the_switch(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (login(&body), right(&body), written(&body));
        }
    }
}
