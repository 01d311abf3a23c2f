//! RADIUS packets (RFC 2865), no I/O: a request is written, an answer is read and held against the request.
//!
//! An answer is good when its identifier and its Response Authenticator fit the request, and its Message-Authenticator
//! (RFC 3579) fits both. The latter is what stops forged answers (CVE-2024-3596, "BlastRADIUS"): the Response
//! Authenticator is MD5 over text that somebody on the way can choose. So it stands first in requests and is required in
//! answers, unless the administrator has a server that can't.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};

/// Most octets of a packet.
pub const LENGTH_MAX: usize = 4096;
/// Octets before the attributes.
const HEAD: usize = 20;
/// Most octets of a password.
pub const PASSWORD_MAX: usize = 128;
/// Most octets of an attribute's value.
const VALUE_MAX: usize = 253;

const ACCESS_REQUEST: u8 = 1;
const ACCESS_ACCEPT: u8 = 2;
const ACCESS_REJECT: u8 = 3;
const ACCESS_CHALLENGE: u8 = 11;

const USER_NAME: u8 = 1;
const USER_PASSWORD: u8 = 2;
const SERVICE_TYPE: u8 = 6;
const VENDOR_SPECIFIC: u8 = 26;
const CALLING_STATION_ID: u8 = 31;
const NAS_IDENTIFIER: u8 = 32;
const NAS_PORT_TYPE: u8 = 61;
const MESSAGE_AUTHENTICATOR: u8 = 80;

/// `Service-Type` Administrative.
const ADMINISTRATIVE: u32 = 6;
/// Vendor Cisco, and its attribute `Cisco-AVPair`.
const CISCO: [u8; 4] = 9u32.to_be_bytes();
const CISCO_AVPAIR: u8 = 1;

/// Who wants to come in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    /// Name.
    pub user: &'a str,
    /// Password.
    pub password: &'a str,
    /// From where.
    pub from: &'a str,
    /// Name of the switch.
    pub switch: &'a str,
}

/// What a server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Let in; the roles that were given, and whether as an administrator.
    Accept {
        /// `shell:roles`
        roles: Vec<String>,
        /// `Service-Type` Administrative, or `shell:priv-lvl=15`.
        administers: bool,
    },
    /// Not let in.
    Reject,
}

/// Why an answer is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bad {
    /// It is to another request, or not from who has the key.
    Unmatched,
    /// It has no Message-Authenticator.
    Unsigned,
    /// It is cut short, or contradicts itself.
    Malformed,
}

/// A request as it is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The octets.
    pub octets: Vec<u8>,
    authenticator: [u8; 16],
}

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut digest = Md5::new();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize().into()
}

/// RFC 2865, 5.2: blocks of 16, each hidden by a hash over the one before.
fn hide(password: &[u8], key: &[u8], authenticator: &[u8; 16]) -> Vec<u8> {
    let mut padded = password.to_vec();
    padded.resize(password.len().max(1).next_multiple_of(16), 0);
    let mut hidden: Vec<u8> = Vec::with_capacity(padded.len());
    let mut before = *authenticator;
    for block in padded.chunks(16) {
        let mask = md5(&[key, &before]);
        block.iter().zip(mask).zip(&mut before).for_each(|((octet, mask), next)| *next = octet ^ mask);
        hidden.extend(before);
    }
    hidden
}

fn signature(key: &[u8], parts: &[&[u8]]) -> Hmac<Md5> {
    // A key of any length will do.
    let mut mac = Hmac::<Md5>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()));
    parts.iter().for_each(|part| mac.update(part));
    mac
}

impl Request {
    /// A request; identifier and authenticator are random. `None`: name or password are too long.
    pub fn new(login: &Login<'_>, key: &str, identifier: u8, authenticator: [u8; 16]) -> Option<Self> {
        let fits = login.user.len() <= VALUE_MAX && login.password.len() <= PASSWORD_MAX && !login.user.is_empty();
        if !fits {
            return None;
        }
        let mut attributes: Vec<u8> = vec![MESSAGE_AUTHENTICATOR, 18];
        attributes.extend([0; 16]);
        let mut put = |kind: u8, value: &[u8]| {
            let value = value.get(..VALUE_MAX).unwrap_or(value);
            attributes.extend([kind, value.len() as u8 + 2]);
            attributes.extend(value);
        };
        put(USER_NAME, login.user.as_bytes());
        put(USER_PASSWORD, &hide(login.password.as_bytes(), key.as_bytes(), &authenticator));
        put(NAS_IDENTIFIER, login.switch.as_bytes());
        put(CALLING_STATION_ID, login.from.as_bytes());
        // Virtual: no port of ours.
        put(NAS_PORT_TYPE, &5u32.to_be_bytes());
        let length = (HEAD + attributes.len()) as u16;
        let mut octets = vec![ACCESS_REQUEST, identifier];
        octets.extend(length.to_be_bytes());
        octets.extend(authenticator);
        octets.extend(attributes);
        let signed: [u8; 16] = signature(key.as_bytes(), &[&octets]).finalize().into_bytes().into();
        octets[HEAD + 2..HEAD + 18].copy_from_slice(&signed);
        Some(Request { octets, authenticator })
    }

    /// Reads what has come from the server.
    ///
    /// # Errors
    /// It is no answer to this request; another may still come.
    pub fn read(&self, octets: &[u8], key: &str, takes_unsigned: bool) -> Result<Answer, Bad> {
        let key = key.as_bytes();
        let head = octets.get(..HEAD).ok_or(Bad::Malformed)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        // Octets beyond the length are padding.
        let attributes = octets.get(HEAD..length).ok_or(Bad::Malformed)?;
        let is_fitting =
            head[1] == self.octets[1] && head[4..] == md5(&[&head[..4], &self.authenticator, attributes, key]);
        if !is_fitting {
            return Err(Bad::Unmatched);
        }
        let found = split(attributes)?;
        let signed: Vec<&Attribute<'_>> = found.iter().filter(|a| a.kind == MESSAGE_AUTHENTICATOR).collect();
        match signed.as_slice() {
            [] if takes_unsigned => {}
            [] => return Err(Bad::Unsigned),
            [one] if one.value.len() == 16 => {
                let (before, after) = (&attributes[..one.at], attributes.get(one.at + 16..).unwrap_or_default());
                let signed = signature(key, &[&head[..4], &self.authenticator, before, &[0; 16], after]);
                signed.verify_slice(one.value).map_err(|_| Bad::Unmatched)?;
            }
            _ => return Err(Bad::Malformed),
        }
        match head[0] {
            ACCESS_ACCEPT => Ok(grant(&found)),
            // Nobody is there to answer a challenge.
            ACCESS_REJECT | ACCESS_CHALLENGE => Ok(Answer::Reject),
            _ => Err(Bad::Malformed),
        }
    }
}

struct Attribute<'a> {
    kind: u8,
    value: &'a [u8],
    /// Where the value is.
    at: usize,
}

fn split(mut rest: &[u8]) -> Result<Vec<Attribute<'_>>, Bad> {
    let mut found = Vec::new();
    let whole = rest.len();
    while let [kind, length, ..] = *rest {
        let value = rest.get(2..usize::from(length)).ok_or(Bad::Malformed)?;
        found.push(Attribute { kind, value, at: whole - rest.len() + 2 });
        rest = &rest[usize::from(length)..];
    }
    if rest.is_empty() { Ok(found) } else { Err(Bad::Malformed) }
}

fn grant(attributes: &[Attribute<'_>]) -> Answer {
    let mut roles = Vec::new();
    let mut administers = false;
    for Attribute { kind, value, .. } in attributes {
        match *kind {
            SERVICE_TYPE => administers |= **value == ADMINISTRATIVE.to_be_bytes(),
            VENDOR_SPECIFIC if value.starts_with(&CISCO) => {
                let pairs = split(value.get(4..).unwrap_or_default()).unwrap_or_default();
                for pair in pairs.iter().filter(|pair| pair.kind == CISCO_AVPAIR) {
                    let text = String::from_utf8_lossy(pair.value);
                    roles.extend(roles_of(&text));
                    administers |= matches!(text.trim(), "shell:priv-lvl=15" | "shell:priv-lvl*15");
                }
            }
            _ => {}
        }
    }
    Answer::Accept { roles, administers }
}

/// The roles of `shell:roles="one two"`, with `=` or `*`, with or without quotation marks.
pub fn roles_of(pair: &str) -> Vec<String> {
    let rest = pair.trim().strip_prefix("shell:roles").unwrap_or_default();
    let Some(list) = rest.strip_prefix(['=', '*']) else { return Vec::new() };
    let words = list.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\\' | ','));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const KEY: &str = "xyzzy5461";

    /// An answer as a server writes it: attributes, and the place of a Message-Authenticator among them.
    pub(crate) fn answer(request: &[u8], code: u8, attributes: &[u8], is_signed: bool, key: &str) -> Vec<u8> {
        let mut attributes = attributes.to_vec();
        if is_signed {
            attributes.extend([MESSAGE_AUTHENTICATOR, 18]);
            attributes.extend([0; 16]);
        }
        let head = [&[code, request[1]][..], &((HEAD + attributes.len()) as u16).to_be_bytes()].concat();
        if is_signed {
            let signed = signature(key.as_bytes(), &[&head, &request[4..20], &attributes]).finalize().into_bytes();
            let at = attributes.len() - 16;
            attributes[at..].copy_from_slice(&signed);
        }
        let authenticator = md5(&[&head, &request[4..20], &attributes, key.as_bytes()]);
        [&head[..], &authenticator, &attributes].concat()
    }

    pub(crate) fn avpair(text: &str) -> Vec<u8> {
        let length = text.len() as u8;
        [&[VENDOR_SPECIFIC, length + 8][..], &CISCO, &[CISCO_AVPAIR, length + 2], text.as_bytes()].concat()
    }

    fn request() -> Request {
        let login = Login { user: "nemo", password: "arctangent", from: "192.0.2.7", switch: "dc1" };
        let authenticator = 0x0f40_3f94_7397_8057_bd83_d5cb_98f4_227au128.to_be_bytes();
        Request::new(&login, KEY, 0, authenticator).unwrap()
    }

    /// RFC 2865, 7.1.
    #[test]
    fn the_example_of_the_standard() {
        let hidden = hide(b"arctangent", KEY.as_bytes(), &request().authenticator);
        assert_eq!(hidden, 0x0dbe_708d_93d4_13ce_3196_e43f_782a_0aeeu128.to_be_bytes());
        assert!(request().octets.windows(16).any(|octets| octets == hidden));
        assert_eq!(request().octets[HEAD..HEAD + 2], [MESSAGE_AUTHENTICATOR, 18]);
        let mut reply = vec![2, 0, 0, 0x26];
        reply.extend(0x86fe_220e_7624_ba2a_1005_f6bf_9b55_e0b2u128.to_be_bytes());
        reply.extend([6, 6, 0, 0, 0, 1, 15, 6, 0, 0, 0, 0, 14, 6, 0xc0, 0xa8, 1, 3]);
        let request = request();
        let accept = Answer::Accept { roles: Vec::new(), administers: false };
        assert_eq!(request.read(&reply, KEY, true), Ok(accept));
        assert_eq!(request.read(&reply, KEY, false), Err(Bad::Unsigned));
        assert_eq!(request.read(&reply, "another", true), Err(Bad::Unmatched));
    }

    #[test]
    fn a_good_answer_and_every_forged_one() {
        let request = request();
        let roles = avpair("shell:roles=\"network-admin web\"");
        let good = answer(&request.octets, ACCESS_ACCEPT, &roles, true, KEY);
        let want = Answer::Accept { roles: vec!["network-admin".into(), "web".into()], administers: false };
        assert_eq!(request.read(&good, KEY, false), Ok(want.clone()));
        assert_eq!(request.read(&[&good[..], b"padding"].concat(), KEY, false), Ok(want));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(request.read(&bad, KEY, true).is_err(), "octet {at}");
            }
            assert!(request.read(&good[..at], KEY, true).is_err());
        }
        // To an older request with the same identifier.
        let login = Login { user: "nemo", password: "arctangent", from: "", switch: "" };
        let older = Request::new(&login, KEY, 0, [7; 16]).unwrap();
        assert_eq!(request.read(&answer(&older.octets, ACCESS_ACCEPT, &[], true, KEY), KEY, true), Err(Bad::Unmatched));
        let reject = answer(&request.octets, ACCESS_REJECT, &[], true, KEY);
        assert_eq!(request.read(&reject, KEY, false), Ok(Answer::Reject));
        let challenge = answer(&request.octets, ACCESS_CHALLENGE, &[], true, KEY);
        assert_eq!(request.read(&challenge, KEY, false), Ok(Answer::Reject));
        for (code, attributes) in [(5, &[][..]), (2, &[1, 1]), (2, &[1, 0]), (2, &[1]), (2, &[1, 9, 0])] {
            let bad = answer(&request.octets, code, attributes, true, KEY);
            assert!(request.read(&bad, KEY, false).is_err(), "{code} {attributes:?}");
        }
        let twice = answer(&request.octets, 2, &[80, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], true, KEY);
        assert_eq!(request.read(&twice, KEY, true), Err(Bad::Malformed));
    }

    #[test]
    fn what_a_server_grants() {
        let request = request();
        let granted = |attributes: &[u8]| {
            let octets = answer(&request.octets, ACCESS_ACCEPT, attributes, true, KEY);
            match request.read(&octets, KEY, false) {
                Ok(Answer::Accept { roles, administers }) => (roles.join(" "), administers),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(granted(&[6, 6, 0, 0, 0, 6]), (String::new(), true));
        assert_eq!(granted(&[6, 6, 0, 0, 0, 7]), (String::new(), false));
        assert_eq!(granted(&avpair("shell:priv-lvl=15")), (String::new(), true));
        assert_eq!(granted(&avpair("shell:roles*web")), ("web".into(), false));
        assert_eq!(granted(&avpair("shell:rolesweb")), (String::new(), false));
        assert_eq!(granted(&[26, 4, 0, 0]), (String::new(), false));
        assert_eq!(granted(&[26, 8, 0, 0, 0, 9, 1, 200]), (String::new(), false));
    }

    #[test]
    fn long_names_and_passwords() {
        let new = |user: usize, password: usize| {
            let (user, password) = ("u".repeat(user), "p".repeat(password));
            let login = Login { user: &user, password: &password, from: "", switch: &"s".repeat(999) };
            Request::new(&login, KEY, 1, [1; 16]).map(|request| request.octets.len())
        };
        assert!(new(253, 128).is_some_and(|length| length <= LENGTH_MAX) && new(1, 0).is_some());
        assert_eq!((new(254, 1), new(1, 129), new(0, 1)), (None, None, None));
    }
}
