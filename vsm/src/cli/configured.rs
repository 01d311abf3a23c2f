//! Tells the log who has configured the switch, once for each visit of the configuration mode.

use crate::config::user::ADMIN;
use crate::supervisor::Handle;

/// What a session remembers for it. It tells when the mode is left, and when the session ends in it.
pub struct Configured {
    handle: Handle,
    login: Option<u64>,
    user: Option<String>,
    has_changed: bool,
}

impl Configured {
    /// Nothing was configured yet.
    pub fn new(handle: Handle, login: Option<u64>, user: Option<String>) -> Self {
        Configured { handle, login, user, has_changed: false }
    }

    /// A configuration command was carried out.
    pub fn mark(&mut self) {
        self.has_changed = true;
    }

    /// The configuration mode is left.
    pub fn tell(&mut self) {
        // What nobody sits at is a text that is read, such as the startup configuration.
        let (true, Some(login)) = (std::mem::take(&mut self.has_changed), self.login) else { return };
        let from = self.handle.logins().open().get(&login).and_then(|login| login.visitor.from);
        let user = self.user.as_deref().unwrap_or(ADMIN);
        let text = match from {
            Some(from) => format!("Configured from vty by {user} on {from}@pts/{login}"),
            None => format!("Configured from console by {user} on console"),
        };
        self.handle.log().write("VSHD", 5, "VSHD_SYSLOG_CONFIG_I", &text);
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        self.tell();
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use crate::cli::logins::Visitor;
    use crate::cli::session::Session;
    use crate::config::model::Model;
    use crate::supervisor::Handle;

    #[test]
    fn each_visit_is_told_once() {
        let handle = Handle::detached(Model::default());
        let told = || handle.log().last(99).iter().filter(|line| line.contains("VSHD_SYSLOG_CONFIG_I")).count();
        let mut console =
            Session::of(handle.clone(), handle.logins().begin(Visitor::default(), SystemTime::now()), None);
        for line in ["configure terminal", "end", "configure terminal", "frob", "show version", "exit"] {
            console.run_line(line);
        }
        assert_eq!(told(), 0);
        for line in ["configure terminal", "vlan 10", "name a", "vlan 11", "end", "show version"] {
            console.run_line(line);
        }
        assert_eq!(told(), 1);
        assert!(handle.log().last(1)[0].ends_with(": Configured from console by admin on console"));
        let visitor = Visitor { from: Some([192, 0, 2, 7].into()), ..Visitor::default() };
        let login = handle.logins().begin(visitor, SystemTime::now());
        let mut ssh = Session::of(handle.clone(), login, None);
        ssh.run_line("configure terminal");
        ssh.run_line("vlan 12");
        drop(ssh);
        assert!(handle.log().last(1)[0].ends_with(": Configured from vty by admin on 192.0.2.7@pts/1"));
        let mut startup = Session::new(handle.clone());
        startup.run_line("configure terminal");
        startup.run_line("vlan 13");
        drop(startup);
        assert_eq!(told(), 2);
    }
}
