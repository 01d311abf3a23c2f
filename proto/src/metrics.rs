//! Figures for Prometheus, in its text format 0.0.4: the page, and the families that supervisor and agents share.
//!
//! A [`Family`] is a name with its help and type. Whoever is asked puts rows into a [`Page`] in any order; the page writes
//! them family by family, as the format wants it. Names follow the conventions: base units, `_total` behind what only
//! rises. No I/O; the numbers come from counters that exist.

mod process;
mod shared;

pub use process::{PROCESS, Process};
pub use shared::{Place, SHARED, cache, exporters, ports, sessions};

use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// Content type of a page.
pub const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether figures only rise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// They do, from a start on.
    Counter,
    /// They go up and down.
    Gauge,
}

/// A name with what it stands for.
#[derive(PartialEq, Eq, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// What it is, one line.
    pub help: &'static str,
}

impl Family {
    /// What only rises.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Family { name, kind: Kind::Counter, help }
    }

    /// What goes up and down.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Family { name, kind: Kind::Gauge, help }
    }
}

/// A page in the making.
#[derive(Default)]
pub struct Page {
    families: BTreeMap<&'static str, (&'static Family, String)>,
}

impl Page {
    /// A row of a family.
    pub fn put(&mut self, family: &'static Family, labels: &[(&str, &str)], value: impl fmt::Display) {
        let (_, rows) = self.families.entry(family.name).or_insert((family, String::new()));
        rows.push_str(family.name);
        // An empty label is none.
        let mut before = '{';
        for (key, text) in labels.iter().filter(|(_, text)| !text.is_empty()) {
            let _ = write!(rows, "{before}{key}=\"{}\"", Escaped(text));
            before = ',';
        }
        let end = if before == ',' { "}" } else { "" };
        let _ = writeln!(rows, "{end} {value}");
    }
}

/// The page as it is sent.
impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (family, rows) in self.families.values() {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let Family { name, help, .. } = family;
            write!(f, "# HELP {name} {help}\n# TYPE {name} {kind}\n{rows}")?;
        }
        Ok(())
    }
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => f.write_char('?')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static UP: Family = Family::gauge("x_up", "Whether it is up");
    static SEEN: Family = Family::counter("x_seen_total", "How many were seen");

    #[test]
    fn rows_stand_with_their_family() {
        let mut page = Page::default();
        page.put(&UP, &[("host", "a\"b\\c\nd\r"), ("module", "")], 1);
        page.put(&SEEN, &[], u64::MAX);
        page.put(&UP, &[("host", "é"), ("module", "3")], 0.5);
        let wanted = "# HELP x_seen_total How many were seen\n# TYPE x_seen_total counter\nx_seen_total 18446744073709551615\n\
                      # HELP x_up Whether it is up\n# TYPE x_up gauge\nx_up{host=\"a\\\"b\\\\c\\nd?\"} 1\nx_up{host=\"é\",module=\"3\"} 0.5\n";
        assert_eq!(page.to_string(), wanted);
    }

    #[test]
    fn names_keep_to_the_conventions() {
        let mut names: Vec<&str> = Vec::new();
        for family in SHARED.iter().chain(&PROCESS) {
            assert_eq!(family.kind == Kind::Counter, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", family.name);
            assert!(!family.help.is_empty() && !family.help.contains(['\n', '\\']), "{}", family.name);
            names.push(family.name);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
