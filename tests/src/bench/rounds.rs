//! Interleaving: every subject once per round, so that what else the machine does hits all of them alike.

use std::time::{Duration, Instant};

use super::ground::Ground;
use crate::error::Result;

/// What a part needs after its last round.
const RESERVE: Duration = Duration::from_secs(15);

/// Up to `rounds` rounds: one always, and another only while the part's time is enough for one as long as the longest.
/// Returns how many there were.
pub fn run<S>(
    ground: &mut Ground,
    rounds: u32,
    subjects: &[S],
    name: impl Fn(&S) -> &str,
    mut measure: impl FnMut(&mut Ground, &S) -> Result<()>,
) -> Result<u32> {
    let mut longest = Duration::ZERO;
    for round in 1..=rounds {
        if round > 1 && ground.left() < longest + RESERVE {
            eprintln!("bench: no time for another round");
            return Ok(round - 1);
        }
        let start = Instant::now();
        for subject in subjects {
            ground.go_on()?;
            eprintln!("bench: round {round} of {rounds}: {}", name(subject));
            measure(ground, subject)?;
        }
        longest = longest.max(start.elapsed());
    }
    Ok(rounds)
}
