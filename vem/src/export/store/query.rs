//! Flows out of a store's files.
//!
//! Files that were written before the wanted time are not opened; of the others every block is read. That takes as long as
//! there are flows, so it is bounded by time, and says so when it was too short.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use super::nfcapd::{self, BLOCK_HEADER, HEADER, Row};
use super::{CURRENT, files};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("flow-store: {0}")]
    Io(#[from] io::Error),
    /// There is too much to read.
    #[error("flow-store: there is more than can be read at once; ask for fewer minutes")]
    Late,
}

/// The `most` flows of highest `rank` that ended at or after `since_ms` and are `wanted`, and how many there were.
///
/// # Errors
/// A file can't be read, or there is too much to read before `end`.
pub fn read(
    dir: &Path,
    since_ms: u64,
    most: usize,
    end: Instant,
    rank: impl Fn(&Row) -> u64,
    wanted: impl Fn(&Row) -> bool,
) -> Result<(Vec<Row>, u64), Error> {
    let mut found = Vec::new();
    let mut matched = 0;
    let finished = files(dir).into_iter().filter(|file| file.modified_s >= since_ms / 1000);
    let paths = finished.map(|file| file.path).filter(|path| path.parent() == Some(dir));
    for path in paths.chain(std::iter::once(dir.join(CURRENT))) {
        let mut file = match File::open(&path) {
            // It may have got its name, or gone, in between.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let mut header = [0; HEADER];
        file.read_exact(&mut header)?;
        for _ in 0..nfcapd::blocks(&header).unwrap_or(0) {
            if Instant::now() > end {
                return Err(Error::Late);
            }
            let mut head = [0; BLOCK_HEADER];
            file.read_exact(&mut head)?;
            let Some(length) = nfcapd::block_length(&head) else { break };
            let mut body = vec![0; length];
            file.read_exact(&mut body)?;
            for row in nfcapd::read(&body).filter(|row| row.last_ms >= since_ms && wanted(row)) {
                matched += 1;
                found.push(row);
            }
            if found.len() > most.saturating_mul(4) {
                keep(&mut found, &rank, most);
            }
        }
    }
    keep(&mut found, &rank, most);
    Ok((found, matched))
}

fn keep(rows: &mut Vec<Row>, rank: impl Fn(&Row) -> u64, most: usize) {
    rows.sort_by_key(|row| std::cmp::Reverse(rank(row)));
    rows.truncate(most);
}
