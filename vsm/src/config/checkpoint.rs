//! Checkpoints: configurations that are kept under a name.
//!
//! A checkpoint is a configuration text under a head of comments that says who kept it and when, so that the file is
//! all there is to it, and can be read like any other configuration.

/// Most checkpoints.
pub const CHECKPOINTS_MAX: usize = 10;
/// Most characters of a description.
pub const DESCRIPTION_MAX: usize = 80;

const HEAD: &str = "!Checkpoint: ";
const DESCRIPTION: &str = "!Description: ";

/// A checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Its name.
    pub name: String,
    /// Who kept it.
    pub by: String,
    /// When, seconds since 1970.
    pub at_s: u64,
    /// What for.
    pub description: Option<String>,
    /// The configuration.
    pub text: String,
}

impl Checkpoint {
    /// The file.
    pub fn file(&self) -> String {
        let description = self.description.iter().map(|text| format!("{DESCRIPTION}{text}\n")).collect::<String>();
        format!("{HEAD}{} {}\n{description}{}", self.at_s, self.by, self.text)
    }

    /// Reads a file; `None` when it has no such head.
    pub fn read(name: &str, file: &str) -> Option<Self> {
        let (head, rest) = file.strip_prefix(HEAD)?.split_once('\n')?;
        let (at_s, by) = head.split_once(' ')?;
        let described = rest.strip_prefix(DESCRIPTION).and_then(|rest| rest.split_once('\n'));
        Some(Checkpoint {
            name: name.to_owned(),
            by: by.to_owned(),
            at_s: at_s.parse().ok()?,
            description: described.map(|(description, _)| description.to_owned()),
            text: described.map_or(rest, |(_, rest)| rest).to_owned(),
        })
    }
}

/// A person may give a checkpoint this name.
///
/// # Errors
/// `show checkpoint` would take it for one of its own words, or it is the system's.
pub fn check_name(name: &str) -> Result<(), String> {
    let typed = name.to_ascii_lowercase();
    if let Some(word) = ["all", "summary"].iter().find(|word| word.starts_with(&typed)) {
        return Err(format!("'{name}' would be taken for '{word}'"));
    }
    match name.starts_with("system") {
        true => Err("Names that begin with 'system' are the system's".to_owned()),
        false => Ok(()),
    }
}

/// The first of `user-checkpoint-1`, `-2`, … that is not taken.
pub fn free_name(is_taken: impl Fn(&str) -> bool) -> Option<String> {
    (1..=CHECKPOINTS_MAX).map(|n| format!("user-checkpoint-{n}")).find(|name| !is_taken(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back() {
        for description in [None, Some("before the move".to_owned())] {
            let (name, by) = ("stable".to_owned(), "admin".to_owned());
            let kept = Checkpoint { name, by, at_s: 5, description, text: "!Time: x\n\nhostname a\n".into() };
            assert_eq!(Checkpoint::read("stable", &kept.file()), Some(kept));
        }
        for foreign in ["", "hostname a\n", "!Checkpoint: x admin\n", "!Checkpoint: 5\n", "!Checkpoint: 5 admin"] {
            assert_eq!(Checkpoint::read("x", foreign), None, "{foreign}");
        }
    }

    #[test]
    fn names() {
        for bad in ["all", "a", "Sum", "summary", "system-fm"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert_eq!(check_name("stable"), Ok(()));
        assert_eq!(free_name(|name| name.ends_with('1')).as_deref(), Some("user-checkpoint-2"));
        assert_eq!(free_name(|_| true), None);
    }
}
