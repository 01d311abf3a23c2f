//! Who may come in with a password: the one place that SSH and HTTPS ask.
//!
//! Servers are asked first, if the configuration says so. A server that says no is believed; when none answers, the
//! switch's own users count, unless that is switched off. A password is tried on the caller's thread and takes its time;
//! the callers bound how many are tried at once, and here is bounded how many of them are computed with at once.

use std::net::IpAddr;
use std::sync::{Condvar, Mutex, PoisonError};

use super::radius::packet::{Answer, Login};
use super::tacacs::packet::{Right, Who};
use super::{radius, secret, tacacs};
use crate::cli::cmd::role;
use crate::cli::logins::Visitor;
use crate::config::aaa::{Protocol, Target};
use crate::config::model::Model;
use crate::config::role::{NETWORK_ADMIN, NETWORK_OPERATOR};
use crate::supervisor::Handle;

/// Passwords that are computed with at once: each takes 19 MiB and a core.
const HASHING_MAX: usize = 2;
/// Most characters of a name that servers are asked for.
const NAME_MAX: usize = 64;

/// What servers have said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Let in with these roles.
    Granted(Vec<String>),
    /// Not let in.
    Refused,
    /// None has answered.
    Silent,
}

/// Tries a password; the visitor it lets in, or `None`. `from` is where he comes from.
pub fn password(handle: &Handle, user: &str, password: &str, from: IpAddr) -> Option<Visitor> {
    let model = handle.model();
    let login = &model.aaa.login;
    let visitor = |granted| Visitor { user: Some(user.to_owned()), from: Some(from), granted, ..Visitor::default() };
    if login.groups.is_empty() {
        return is_local(&model, user, password).then(|| visitor(None));
    }
    match remote(handle, &login.groups, user, password, from) {
        Verdict::Granted(roles) => Some(visitor(Some(roles))),
        Verdict::Refused => None,
        Verdict::Silent => {
            let is_asked = login.local || !model.aaa.is_strict;
            let then = if is_asked { "the local users count" } else { "nobody is let in" };
            handle.log().write("AAA", 3, "SERVERS_SILENT", &format!("No server has answered to a login; {then}"));
            (is_asked && is_local(&model, user, password)).then(|| visitor(None))
        }
    }
}

fn is_local(model: &Model, user: &str, password: &str) -> bool {
    static HASHING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());
    let (count, freed) = &HASHING;
    let hash = model.users.get(user).and_then(|user| user.secret.clone());
    let busy = count.lock().unwrap_or_else(PoisonError::into_inner);
    let mut busy = freed.wait_while(busy, |busy| *busy >= HASHING_MAX).unwrap_or_else(PoisonError::into_inner);
    *busy += 1;
    drop(busy);
    let is_right = secret::is_password(hash.as_deref(), password);
    *count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    freed.notify_one();
    is_right
}

/// Asks the servers of the groups.
pub fn remote(handle: &Handle, groups: &[String], user: &str, password: &str, from: IpAddr) -> Verdict {
    let model = handle.model();
    let is_name = (1..=NAME_MAX).contains(&user.len()) && user.chars().all(|c| !c.is_control() && !c.is_whitespace());
    if !is_name {
        return Verdict::Refused;
    }
    let from = from.to_string();
    let login = Login { user, password, from: &from, switch: &model.hostname };
    let answer =
        handle.servers().ask(&model.aaa, groups, |target: &Target, deadline, statistics| match target.protocol {
            Protocol::Radius => radius::ask(target, &login, model.aaa.takes_unsigned, deadline, statistics),
            Protocol::Tacacs => {
                let who = Who { user, port: "login", from: &from };
                let (is_ascii, kept) = (model.aaa.asks_in_ascii, handle.servers().kept());
                tacacs::login(target, &who, password, is_ascii, kept, deadline, statistics)
            }
        });
    match answer {
        None => Verdict::Silent,
        Some(Answer::Reject) => Verdict::Refused,
        Some(Answer::Accept { roles, administers }) => granted(&model, roles, administers),
    }
}

/// The roles that are there of those that a server gives; else what its other words say; else to look.
fn granted(model: &Model, mut roles: Vec<String>, administers: bool) -> Verdict {
    roles.retain(|name| role::exists(model, name).is_ok());
    match () {
        () if !roles.is_empty() => Verdict::Granted(roles),
        () if administers => Verdict::Granted(vec![NETWORK_ADMIN.to_owned()]),
        () if model.aaa.no_default_role => Verdict::Refused,
        () => Verdict::Granted(vec![NETWORK_OPERATOR.to_owned()]),
    }
}

/// Asks the servers of the groups whether a user may type a line, which is in full spelling; `None`: none has answered.
pub fn may(handle: &Handle, groups: &[String], user: &str, place: &str, line: &str) -> Option<bool> {
    let model = handle.model();
    let (from, port) = place.split_once('@').unwrap_or(("", place));
    let who = Who { user, port, from };
    let arguments = tacacs::packet::command(line);
    let kept = handle.servers().kept();
    let right = handle.servers().ask(&model.aaa, groups, |target, deadline, statistics| {
        tacacs::may(target, &who, &arguments, kept, deadline, statistics)
    });
    right.map(|right| matches!(right, Right::Pass(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::User;

    #[test]
    fn the_right_password_lets_its_user_in() {
        let mut model = Model::default();
        let secret = secret::hash("ops", "a-good-secret").unwrap();
        model.users.insert("ops".into(), User { secret: Some(secret), ..User::default() });
        model.users.insert("nobody".into(), User::default());
        let handle = Handle::detached(model);
        let from = IpAddr::from([192, 0, 2, 7]);
        let visitor = password(&handle, "ops", "a-good-secret", from).unwrap();
        assert_eq!((visitor.user.as_deref(), visitor.from, visitor.pid), (Some("ops"), Some(from), None));
        for (user, secret) in [("ops", "another-secret"), ("nobody", "a-good-secret"), ("stranger", "a-good-secret")] {
            assert_eq!(password(&handle, user, secret, from), None);
        }
    }

    #[test]
    fn roles_that_a_server_gives() {
        let mut model = Model::default();
        let granted = |model: &Model, roles: &[&str], administers| {
            granted(model, roles.iter().map(|r| (*r).to_owned()).collect(), administers)
        };
        let just = |role: &str| Verdict::Granted(vec![role.to_owned()]);
        assert_eq!(granted(&model, &["vdc-admin", "server-admin"], true), just("server-admin"));
        assert_eq!(granted(&model, &["vdc-admin"], true), just(NETWORK_ADMIN));
        assert_eq!(granted(&model, &["vdc-admin"], false), just(NETWORK_OPERATOR));
        model.aaa.no_default_role = true;
        assert_eq!(granted(&model, &["vdc-admin"], false), Verdict::Refused);
    }
}
