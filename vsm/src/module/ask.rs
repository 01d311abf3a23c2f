//! Questions that wait for their answers.
//!
//! Pure but for the reply channels. A question ends when everybody has answered or gone, or after [`ANSWER_MS`]; who has
//! not answered by then is in the result with an error, so that no module is silently missing from a table.

use std::collections::BTreeMap;

use crossbeam::channel::Sender;
use proto::report::Answer;

/// Milliseconds that modules have to answer.
pub const ANSWER_MS: u64 = 2000;

/// Answers by slot.
pub type Answers = Vec<(u8, Result<Answer, String>)>;

/// The questions that are open.
#[derive(Default)]
pub struct Asks {
    open: BTreeMap<u64, Ask>,
    last: u64,
}

struct Ask {
    answers: BTreeMap<u8, Option<Result<Answer, String>>>,
    deadline_ms: u64,
    reply: Sender<Answers>,
}

impl Asks {
    /// Opens a question to these modules; its id goes out with it.
    pub fn begin(&mut self, slots: &[u8], reply: Sender<Answers>, now_ms: u64) -> u64 {
        self.last += 1;
        let answers = slots.iter().map(|slot| (*slot, None)).collect();
        self.open.insert(self.last, Ask { answers, deadline_ms: now_ms + ANSWER_MS, reply });
        self.end(|ask| ask.is_complete());
        self.last
    }

    /// A module has answered. Answers that nobody has asked it for are dropped.
    pub fn answer(&mut self, id: u64, slot: u8, answer: Result<Answer, String>) {
        if let Some(place @ None) = self.open.get_mut(&id).and_then(|ask| ask.answers.get_mut(&slot)) {
            *place = Some(answer);
            self.end(|ask| ask.is_complete());
        }
    }

    /// A module has gone.
    pub fn lost(&mut self, slot: u8) {
        for ask in self.open.values_mut() {
            if let Some(place @ None) = ask.answers.get_mut(&slot) {
                *place = Some(Err(format!("module {slot} was lost")));
            }
        }
        self.end(|ask| ask.is_complete());
    }

    /// Time has passed.
    pub fn on_time(&mut self, now_ms: u64) {
        self.end(|ask| now_ms >= ask.deadline_ms);
    }

    /// When [`Asks::on_time`] has something to do.
    pub fn due_ms(&self) -> Option<u64> {
        self.open.values().map(|ask| ask.deadline_ms).min()
    }

    fn end(&mut self, is_over: impl Fn(&Ask) -> bool) {
        let over: Vec<u64> = self.open.iter().filter(|(_, ask)| is_over(ask)).map(|(id, _)| *id).collect();
        for ask in over.iter().filter_map(|id| self.open.remove(id)) {
            let silent = |slot: u8| Err(format!("module {slot} did not answer within {} seconds", ANSWER_MS / 1000));
            let answers = ask.answers.into_iter().map(|(slot, answer)| (slot, answer.unwrap_or_else(|| silent(slot))));
            // Who asked may have gone.
            let _ = ask.reply.send(answers.collect());
        }
    }
}

impl Ask {
    fn is_complete(&self) -> bool {
        self.answers.values().all(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::bounded;

    use super::*;

    #[test]
    fn all_answers_end_a_question() {
        let (mut asks, (reply, answers)) = (Asks::default(), bounded(1));
        let id = asks.begin(&[3, 4], reply, 0);
        asks.answer(id, 4, Ok(Answer::Done));
        asks.answer(id, 4, Ok(Answer::Macs(Vec::new())));
        asks.answer(id, 5, Ok(Answer::Done));
        asks.answer(id + 1, 3, Ok(Answer::Done));
        assert!(answers.is_empty());
        asks.answer(id, 3, Ok(Answer::Failed("no".into())));
        assert_eq!(answers.try_recv(), Ok(vec![(3, Ok(Answer::Failed("no".into()))), (4, Ok(Answer::Done))]));
        assert_eq!(asks.due_ms(), None);
    }

    #[test]
    fn the_lost_and_the_silent_are_named() {
        let (mut asks, (reply, answers)) = (Asks::default(), bounded(1));
        asks.begin(&[3, 4], reply, 0);
        asks.lost(3);
        asks.on_time(ANSWER_MS - 1);
        assert!(answers.is_empty());
        asks.on_time(ANSWER_MS);
        let got = answers.try_recv().unwrap();
        assert_eq!(got[0].1, Err("module 3 was lost".to_owned()));
        assert!(got[1].1.as_ref().is_err_and(|e| e.contains("did not answer")));
    }

    #[test]
    fn nobody_to_ask_answers_at_once() {
        let (mut asks, (reply, answers)) = (Asks::default(), bounded(1));
        asks.begin(&[], reply, 0);
        assert_eq!(answers.try_recv(), Ok(Vec::new()));
    }
}
