//! Lines that people and programs sit at: the console, and the virtual terminals of SSH. Pure.

/// Minutes without a keystroke after which a session is closed, unless configured.
pub const EXEC_TIMEOUT_MIN: u32 = 30;
/// Most sessions that `session-limit` can allow; as many as the SSH server carries.
pub const VTY_SESSIONS_MAX: u16 = 256;

/// What is configured of the lines.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lines {
    /// `line console` / `exec-timeout`, minutes; 0 never.
    pub console_timeout_min: Option<u32>,
    /// `line vty` / `exec-timeout`, minutes; 0 never.
    pub vty_timeout_min: Option<u32>,
    /// `line vty` / `session-limit`
    pub vty_sessions: Option<u16>,
}

impl Lines {
    /// Minutes without a keystroke after which a session of the line is closed; 0 never.
    pub fn timeout_min(&self, is_vty: bool) -> u32 {
        let own = if is_vty { self.vty_timeout_min } else { self.console_timeout_min };
        own.unwrap_or(EXEC_TIMEOUT_MIN)
    }

    /// Their lines of a configuration, with how deep they stand; with `all` the defaults too.
    pub fn text(&self, all: bool) -> Vec<(usize, String)> {
        let mut lines = Vec::new();
        let default = all.then_some(EXEC_TIMEOUT_MIN);
        let timeout = |own: Option<u32>| own.or(default).map(|minutes| (1, format!("exec-timeout {minutes}")));
        let limit = self.vty_sessions.or(all.then_some(VTY_SESSIONS_MAX));
        let limit = limit.map(|sessions| (1, format!("session-limit {sessions}")));
        let blocks = [
            ("line console", [None, timeout(self.console_timeout_min)]),
            ("line vty", [limit, timeout(self.vty_timeout_min)]),
        ];
        for (head, inside) in blocks {
            let inside: Vec<_> = inside.into_iter().flatten().collect();
            if !inside.is_empty() {
                lines.push((0, head.to_owned()));
                lines.extend(inside);
            }
        }
        lines
    }
}
