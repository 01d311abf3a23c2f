//! A port that a guest reaches by vhost-user: the Unix socket between the agent and QEMU.
//!
//! ```text
//!   role server   the agent listens at the path, QEMU connects      chardev socket,path=P,reconnect=1
//!   role client   QEMU listens at the path, the agent connects      chardev socket,path=P,server=on,wait=off
//! ```
//!
//! Whoever can connect to the socket is the VM: a listening socket belongs to the agent's user and is open to its group
//! ([`MODE`]) until `owner` and `mode` say otherwise. Pure: nothing here touches the disk.

use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::Request;
use crate::attach::Error;

/// Longest path of a Unix socket, octets (`sun_path` without its end).
pub const PATH_MAX: usize = 107;
/// Most queue pairs of a card.
pub const QUEUES_MAX: u16 = 8;
/// Rights of a listening socket when none are asked for.
pub const MODE: u32 = 0o660;

/// What the agent does at the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Role {
    /// The agent listens, QEMU connects.
    #[default]
    #[n(0)]
    Server,
    /// QEMU listens, the agent connects.
    #[n(1)]
    Client,
}

impl Role {
    /// `server`, `client`
    pub fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Client => "client",
        }
    }
}

/// User and group that a listening socket is given to, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Owner {
    /// User.
    #[n(0)]
    pub user: u32,
    /// Group.
    #[n(1)]
    pub group: u32,
}

/// The socket of a vhost-user port.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct VhostUser {
    /// Its absolute path.
    #[n(0)]
    pub path: String,
    /// Who listens.
    #[n(1)]
    pub role: Role,
    /// Queue pairs that the guest may use, 1-[`QUEUES_MAX`].
    #[n(2)]
    pub queues: u16,
    /// Rights of a listening socket.
    #[n(3)]
    pub mode: u32,
    /// Whom a listening socket is given to; `None` leaves it with the agent's user.
    #[n(4)]
    pub owner: Option<Owner>,
}

impl VhostUser {
    /// The socket that a request of kind `vhost-user` asks for.
    ///
    /// # Errors
    /// A word is missing, out of its range, or has no meaning in this role.
    pub fn check(request: &Request) -> Result<VhostUser, Error> {
        let word = |text: String| Error::Word(text);
        let path =
            request.path.as_deref().ok_or_else(|| word("a vhost-user port needs the path of its socket".into()))?;
        let role = request.role.unwrap_or_default();
        if role == Role::Client && (request.mode.is_some() || request.owner.is_some()) {
            return Err(word("'mode' and 'owner' are for a socket that the agent makes (role server)".into()));
        }
        let queues = request.queues.unwrap_or(1);
        if !(1..=QUEUES_MAX).contains(&queues) {
            return Err(word(format!("{queues} queues: a card has 1-{QUEUES_MAX}")));
        }
        Ok(VhostUser {
            path: check_path(path)?,
            role,
            queues,
            mode: request.mode.as_deref().map_or(Ok(MODE), parse_mode)?,
            owner: request.owner.as_deref().map(parse_owner).transpose()?,
        })
    }

    /// A request of another kind has none of these words.
    ///
    /// # Errors
    /// It has one.
    pub fn check_absent(request: &Request) -> Result<(), Error> {
        let Request { path, role, queues, mode, owner, .. } = request;
        let given = [path.is_some(), role.is_some(), queues.is_some(), mode.is_some(), owner.is_some()];
        let names = ["path", "role", "queues", "mode", "owner"];
        match names.iter().zip(given).find(|(_, given)| *given) {
            Some((name, _)) => Err(Error::Word(format!("'{name}' is for kind vhost-user only"))),
            None => Ok(()),
        }
    }

    /// For the dataplane.
    pub fn settings(&self) -> vswitch::port::vhost::Settings {
        vswitch::port::vhost::Settings {
            path: PathBuf::from(&self.path),
            role: match self.role {
                Role::Server => vswitch::port::vhost::Role::Server,
                Role::Client => vswitch::port::vhost::Role::Client,
            },
            queue_pairs: self.queues,
            mode: Some(self.mode),
            owner: self.owner.map(|owner| (owner.user, owner.group)),
        }
    }
}

/// An absolute path of a file that fits into a socket's address and leads nowhere else than it says.
fn check_path(text: &str) -> Result<String, Error> {
    let refuse = |why: &str| Err(Error::Word(format!("socket '{text}' {why}")));
    let path = Path::new(text);
    match () {
        () if text.len() > PATH_MAX => refuse(&format!("has {} octets, {PATH_MAX} are possible", text.len())),
        () if text.bytes().any(|b| b.is_ascii_control()) => refuse("has a control character in its path"),
        () if !path.is_absolute() => refuse("is not an absolute path"),
        () if text.ends_with('/') || path.file_name().is_none() => refuse("is not the path of a file"),
        () if path.components().any(|part| part == std::path::Component::ParentDir) => refuse("has '..' in its path"),
        () => Ok(text.to_owned()),
    }
}

/// `0660`: three or four octal digits, rights of user, group and others.
fn parse_mode(text: &str) -> Result<u32, Error> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777);
    mode.ok_or_else(|| Error::Word(format!("'{text}' is not a mode such as 0660")))
}

/// `64055:107`: user and group by number.
fn parse_owner(text: &str) -> Result<Owner, Error> {
    let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u32>().ok()).flatten();
    // The highest number means "unchanged" to the kernel.
    let known = |part: &str| number(part).filter(|n| *n != u32::MAX);
    let owner = text.split_once(':').and_then(|(user, group)| Some(Owner { user: known(user)?, group: known(group)? }));
    owner.ok_or_else(|| Error::Word(format!("'{text}' is not an owner such as 64055:107 (numbers of user and group)")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Kind;

    fn request(path: &str) -> Request {
        Request {
            profile: "web".into(),
            device: "web1".into(),
            kind: Some(Kind::VhostUser),
            path: Some(path.into()),
            ..Request::default()
        }
    }

    #[test]
    fn a_socket_has_its_defaults_and_its_words() {
        let plain = VhostUser::check(&request("/run/vem/web1.sock")).unwrap();
        assert_eq!((plain.role, plain.queues, plain.mode, plain.owner), (Role::Server, 1, 0o660, None));
        let whole = Request {
            queues: Some(8),
            mode: Some("600".into()),
            owner: Some("64055:107".into()),
            role: Some(Role::Server),
            ..request("/s")
        };
        let whole = VhostUser::check(&whole).unwrap();
        assert_eq!((whole.queues, whole.mode), (8, 0o600));
        assert_eq!(whole.settings().owner, Some((64055, 107)));
        let client = VhostUser::check(&Request { role: Some(Role::Client), ..request("/s") }).unwrap();
        assert_eq!(client.settings().role, vswitch::port::vhost::Role::Client);
        let longest = format!("/{}", "x".repeat(PATH_MAX - 1));
        assert_eq!(VhostUser::check(&request(&longest)).unwrap().path.len(), PATH_MAX);
    }

    #[test]
    fn bad_words_are_refused_by_name() {
        let client = Request { role: Some(Role::Client), ..request("/s") };
        let cases = [
            (Request { path: None, ..request("") }, "needs the path"),
            (request(""), "is not an absolute path"),
            (request("run/s"), "is not an absolute path"),
            (request("/"), "is not the path of a file"),
            (request("/run/"), "is not the path of a file"),
            (request("/run/../s"), "has '..' in its path"),
            (request("/run/a\nb"), "control character"),
            (request(&format!("/{}", "x".repeat(PATH_MAX))), "has 108 octets, 107 are possible"),
            (Request { queues: Some(0), ..request("/s") }, "0 queues"),
            (Request { queues: Some(9), ..request("/s") }, "9 queues"),
            (Request { mode: Some("0888".into()), ..request("/s") }, "not a mode"),
            (Request { mode: Some("4755".into()), ..request("/s") }, "not a mode"),
            (Request { mode: Some("+66".into()), ..request("/s") }, "not a mode"),
            (Request { owner: Some("qemu".into()), ..request("/s") }, "not an owner"),
            (Request { owner: Some("1:".into()), ..request("/s") }, "not an owner"),
            (Request { owner: Some("4294967295:1".into()), ..request("/s") }, "not an owner"),
            (Request { mode: Some("0660".into()), ..client.clone() }, "role server"),
            (Request { owner: Some("1:1".into()), ..client }, "role server"),
        ];
        for (request, wanted) in cases {
            let said = VhostUser::check(&request).unwrap_err().to_string();
            assert!(said.contains(wanted), "{said}\nwanted {wanted}");
        }
    }

    #[test]
    fn other_kinds_have_none_of_these_words() {
        let bare = Request { path: None, ..request("") };
        assert!(VhostUser::check_absent(&bare).is_ok());
        let cases = [
            (Request { path: Some("/s".into()), ..bare.clone() }, "'path'"),
            (Request { role: Some(Role::Server), ..bare.clone() }, "'role'"),
            (Request { queues: Some(1), ..bare.clone() }, "'queues'"),
            (Request { mode: Some("0660".into()), ..bare.clone() }, "'mode'"),
            (Request { owner: Some("0:0".into()), ..bare }, "'owner'"),
        ];
        for (request, name) in cases {
            assert!(VhostUser::check_absent(&request).unwrap_err().to_string().starts_with(name));
        }
    }
}
