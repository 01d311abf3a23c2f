//! A record as a line, and the chain of lines.
//!
//! ```text
//!   HASH ⇥ number ⇥ seconds since 1970 ⇥ kind ⇥ from where ⇥ user ⇥ outcome ⇥ what
//! ```
//!
//! The hash is SHA-256 over the hash of the record before and the rest of the line. A file begins with a record that says
//! what it goes on from, so that the files that are kept can be checked when older ones are gone. Whoever may write the
//! files can make a chain anew from some record on: then its last hash is another than the one that was noted elsewhere.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Characters of a hash.
const HASH_LENGTH: usize = 64;
/// Words before the hash that a file goes on from.
const GOES_ON: &str = "goes on from ";

/// What a record is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A file begins.
    File,
    /// The log was cleared, and the file begins.
    Clear,
    /// A session begins.
    Start,
    /// A command.
    Update,
    /// A session ends.
    Stop,
    /// Somebody was not let in.
    Login,
    /// What the log says of itself.
    Log,
}

impl Kind {
    const ALL: [Kind; 7] = [Kind::File, Kind::Clear, Kind::Start, Kind::Update, Kind::Stop, Kind::Login, Kind::Log];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Clear => "clear",
            Kind::Start => "start",
            Kind::Update => "update",
            Kind::Stop => "stop",
            Kind::Login => "login",
            Kind::Log => "log",
        }
    }

    /// It is the first of its file.
    pub fn begins_file(self) -> bool {
        matches!(self, Kind::File | Kind::Clear)
    }
}

/// A record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its number; none is left out.
    pub number: u64,
    /// When, seconds since 1970.
    pub at: u64,
    /// What it is about.
    pub kind: Kind,
    /// From where: `192.0.2.7@pts/3`, `console/0`.
    pub id: String,
    /// Who.
    pub user: String,
    /// `SUCCESS`, `FAILURE`, `DENIED` or nothing.
    pub outcome: String,
    /// What.
    pub text: String,
}

/// The end of a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Number of the last record, 0 before the first.
    pub number: u64,
    /// Its hash.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Head { number: 0, hash: "0".repeat(HASH_LENGTH) }
    }
}

impl Head {
    /// The line of the next record, without its end, and the head behind it. Its number is given here.
    pub fn add(&self, record: &Record) -> (String, Head) {
        let Record { at, kind, id, user, outcome, text, .. } = record;
        let number = self.number + 1;
        let rest = format!("{number}\t{at}\t{}\t{id}\t{user}\t{outcome}\t{text}", kind.name());
        let hash = hash(&self.hash, &rest);
        (format!("{hash}\t{rest}"), Head { number, hash })
    }

    /// What the first record of a file says.
    pub fn goes_on(&self) -> String {
        format!("{GOES_ON}{}", self.hash)
    }
}

fn hash(before: &str, rest: &str) -> String {
    let digest = Sha256::new().chain_update(before).chain_update("\n").chain_update(rest).finalize();
    digest.iter().fold(String::with_capacity(HASH_LENGTH), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// Reads a line: the hash that it claims, and the record.
pub fn read(line: &str) -> Option<(Head, Record)> {
    let (hash, rest) = line.split_once('\t')?;
    let fits = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if hash.len() != HASH_LENGTH || !hash.chars().all(fits) {
        return None;
    }
    let fields: Vec<&str> = rest.splitn(7, '\t').collect();
    let [number, at, kind, id, user, outcome, text] = fields.as_slice() else { return None };
    let record = Record {
        number: number.parse().ok()?,
        at: at.parse().ok()?,
        kind: Kind::ALL.into_iter().find(|known| known.name() == *kind)?,
        id: (*id).to_owned(),
        user: (*user).to_owned(),
        outcome: (*outcome).to_owned(),
        text: (*text).to_owned(),
    };
    Some((Head { number: record.number, hash: hash.to_owned() }, record))
}

/// A line that does not follow from the one before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Number that the record should have.
    pub number: u64,
    /// What is wrong.
    pub why: &'static str,
}

/// Follows a chain, line by line, from the oldest on.
#[derive(Default)]
pub struct Follow {
    head: Option<Head>,
}

impl Follow {
    /// The last record so far.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The next line.
    ///
    /// # Errors
    /// It does not follow; then there is no use in going on.
    pub fn next(&mut self, line: &str, begins_file: bool) -> Result<(), Broken> {
        let expected = self.head.as_ref().map_or(0, |head| head.number + 1);
        let broken = |why| Broken { number: expected, why };
        let (head, record) = read(line).ok_or(broken("is no record"))?;
        let broken = |why| Broken { number: if expected == 0 { record.number } else { expected }, why };
        if record.kind.begins_file() != begins_file {
            return Err(broken(if begins_file { "was before it, and is gone" } else { "is put in" }));
        }
        if expected != 0 && record.number != expected {
            return Err(broken("is missing"));
        }
        let claimed = record.text.strip_prefix(GOES_ON).filter(|_| begins_file);
        let before = match (&self.head, claimed) {
            (Some(head), Some(claimed)) if head.hash != claimed => return Err(broken("goes on from another record")),
            (Some(head), _) => head.hash.as_str(),
            (None, Some(claimed)) => claimed,
            (None, None) => return Err(broken("does not say what it goes on from")),
        };
        let rest = line.split_once('\t').map_or("", |(_, rest)| rest);
        if hash(before, rest) != head.hash {
            return Err(broken("was changed"));
        }
        self.head = Some(head);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, text: &str) -> Record {
        let user = "admin".to_owned();
        Record { number: 0, at: 7, kind, id: "console/0".into(), user, outcome: "SUCCESS".into(), text: text.into() }
    }

    fn lines() -> Vec<String> {
        let mut head = Head::default();
        let first = record(Kind::File, &head.goes_on());
        let mut lines = Vec::new();
        for record in [first].into_iter().chain((1..5).map(|n| record(Kind::Update, &format!("vlan {n}\tx")))) {
            let (line, next) = head.add(&record);
            assert_eq!(read(&line).map(|(head, r)| (head, r.text)), Some((next.clone(), record.text)));
            lines.push(line);
            head = next;
        }
        lines
    }

    fn first_broken(lines: &[String]) -> Option<u64> {
        let mut follow = Follow::default();
        lines.iter().enumerate().find_map(|(at, line)| follow.next(line, at == 0).err()).map(|broken| broken.number)
    }

    #[test]
    fn every_change_is_found_where_it_is() {
        let good = lines();
        assert_eq!(first_broken(&good), None);
        for at in 0..good.len() {
            for octet in 0..good[at].len() {
                let mut bad = good.clone();
                let mut octets = bad[at].clone().into_bytes();
                octets[octet] ^= 1;
                bad[at] = String::from_utf8(octets).unwrap();
                let found = first_broken(&bad);
                // The first of a file may name another number or hash; then it is the next one that does not follow.
                assert!(found.is_some(), "octet {octet} of line {at}");
                assert!(at == 0 || found == Some(at as u64 + 1), "octet {octet} of line {at}: {found:?}");
            }
        }
        for at in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad.remove(at);
            assert_eq!(first_broken(&bad), Some(at as u64 + 1 + u64::from(at == 0)));
            let mut bad = good.clone();
            bad.swap(at, at + 1);
            assert!(first_broken(&bad).is_some());
        }
    }
}
