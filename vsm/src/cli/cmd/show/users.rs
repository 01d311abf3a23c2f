//! `show users`

use std::collections::BTreeMap;
use std::time::SystemTime;

use time::OffsetDateTime;

use super::exec;
use crate::cli::logins::Login;
use crate::cli::render::{Output, leaves, table};
use crate::cli::tree::Command;
use crate::config::user::ADMIN;

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![exec("show users", "Display who has a session", &[("users", "Sessions")], |session, _| {
        Ok(users(&session.handle.logins().open(), session.login(), std::process::id(), SystemTime::now()))
    })]
}

/// The sessions; whoever reaches the console is the administrator. The asking one has a `*`. A
/// session by the network is a thread of the supervisor.
pub fn users(open: &BTreeMap<u64, Login>, own: Option<u64>, supervisor: u32, now: SystemTime) -> Output {
    let mut text = format!("{:<8} {:<12} {:<12} {:<12} {:>4} COMMENT\n", "NAME", "LINE", "TIME", "IDLE", "PID");
    let mut rows = Vec::new();
    for (id, login) in open {
        let visitor = &login.visitor;
        let user = visitor.user.as_deref().unwrap_or(ADMIN);
        let line = format!("{}/{id}", if visitor.from.is_some() { "pts" } else { "console" });
        let at = OffsetDateTime::from(login.since);
        let month = at.month().to_string();
        let since = format!("{month:.3} {:2} {:02}:{:02}", at.day(), at.hour(), at.minute());
        let idle = match now.duration_since(login.typed).map_or(0, |idle| idle.as_secs() / 60) {
            0 => ".".to_owned(),
            minutes => format!("{:02}:{:02}", minutes / 60, minutes % 60),
        };
        let pid = visitor.pid.unwrap_or(supervisor).to_string();
        let from = visitor.from.map(|from| format!("({from}) session={}", login.service.name())).unwrap_or_default();
        let mark = if own == Some(*id) { "*" } else { "" };
        let comment: String =
            [from.as_str(), mark].iter().filter(|part| !part.is_empty()).map(|p| format!(" {p}")).collect();
        text.push_str(&format!("{user:<8} {line:<12} {since:<12} {idle:<12} {pid:>4}{comment}\n"));
        let (user, own) = (user.to_owned(), from);
        rows.push(leaves([
            ("user", user),
            ("line", line),
            ("time", since),
            ("idle", idle),
            ("pid", pid),
            ("p_comment", own),
        ]));
    }
    Output::with_json(text, table("users", rows))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::cli::logins::{Service, Visitor};

    #[test]
    fn rendered() {
        let now = sample::now();
        let before = |minutes: u64| now - Duration::from_secs(60 * minutes);
        let console = |pid| Visitor { pid: Some(pid), ..Visitor::default() };
        let ssh = Visitor { user: Some("ops".into()), from: Some([192, 0, 2, 7].into()), ..Visitor::default() };
        let open = [
            (0, Login { visitor: console(4811), service: Service::Console, since: before(90), typed: before(75) }),
            (2, Login { visitor: console(4823), service: Service::Console, since: before(5), typed: now }),
            (3, Login { visitor: ssh, service: Service::Ssh, since: before(4), typed: before(2) }),
        ];
        sample::check("users", &users(&open.into_iter().collect(), Some(2), 4711, now));
    }
}
