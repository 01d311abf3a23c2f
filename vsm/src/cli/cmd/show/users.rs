//! `show users`

use std::collections::BTreeMap;
use std::time::SystemTime;

use time::OffsetDateTime;

use super::exec;
use crate::cli::logins::Login;
use crate::cli::render::{Output, leaves, table};
use crate::cli::tree::Command;

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![exec("show users", "Display who is at the console", &[("users", "Sessions at the console")], |session, _| {
        Ok(users(&session.handle.logins().open(), session.login(), SystemTime::now()))
    })]
}

/// The sessions; whoever reaches the console is the administrator. The asking one has a `*`.
pub fn users(open: &BTreeMap<u64, Login>, own: Option<u64>, now: SystemTime) -> Output {
    let mut text = format!("{:<8} {:<12} {:<12} {:<12} {:>4} COMMENT\n", "NAME", "LINE", "TIME", "IDLE", "PID");
    let mut rows = Vec::new();
    for (id, login) in open {
        let line = format!("console/{id}");
        let at = OffsetDateTime::from(login.since);
        let month = at.month().to_string();
        let since = format!("{month:.3} {:2} {:02}:{:02}", at.day(), at.hour(), at.minute());
        let idle = match now.duration_since(login.typed).map_or(0, |idle| idle.as_secs() / 60) {
            0 => ".".to_owned(),
            minutes => format!("{:02}:{:02}", minutes / 60, minutes % 60),
        };
        let pid = login.pid.unwrap_or(0).to_string();
        let mark = if own == Some(*id) { " *" } else { "" };
        text.push_str(&format!("{:<8} {line:<12} {since:<12} {idle:<12} {pid:>4}{mark}\n", "admin"));
        let cells = [("user", "admin".to_owned()), ("line", line), ("time", since), ("idle", idle), ("pid", pid)];
        rows.push(leaves(cells));
    }
    Output::with_json(text, table("users", rows))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let now = sample::now();
        let before = |minutes: u64| now - Duration::from_secs(60 * minutes);
        let open = [
            (0, Login { pid: Some(4811), since: before(90), typed: before(75) }),
            (2, Login { pid: Some(4823), since: before(5), typed: now }),
        ];
        sample::check("users", &users(&open.into_iter().collect(), Some(2), now));
    }
}
