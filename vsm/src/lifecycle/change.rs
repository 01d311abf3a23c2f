//! Whole configurations and whole texts as changes of the running one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

use super::trial::Running;
use crate::config::model::Model;
use crate::config::replace::replace;
use crate::config::startup::{Line, apply, first_of};
use crate::module::registry::Inventory;
use crate::supervisor::{Change, EditError, Handle};

/// The running configuration was another when the change was to be made.
const OVERTAKEN: &str = "Somebody else changes the configuration at the same time";
/// How often a text is applied anew because somebody else was faster.
const ATTEMPTS: usize = 5;
/// Pause before the next attempt to bring a configuration back.
const PAUSE: Duration = Duration::from_secs(10);

impl Handle {
    /// Puts a configuration in place of the running one; returns warnings.
    ///
    /// # Errors
    /// As [`Handle::edit`].
    pub fn replace(&self, next: Model) -> Result<Vec<String>, EditError> {
        self.edit(self.replacement(next))
    }

    fn replacement(&self, next: Model) -> Change {
        let handle = self.clone();
        Box::new(move |model| {
            // It is published before a change is made, so it knows every card that has an interface in `model`.
            let stay = replace(model, next, &handle.inventory());
            let names: Vec<String> = stay.iter().take(5).map(ToString::to_string).collect();
            let more = if stay.len() > names.len() { ", ..." } else { "" };
            let warning = || format!("{}{more}: kept with the profile alone, as the card is known", names.join(", "));
            Ok(stay.first().map(|_| warning()).into_iter().collect())
        })
    }

    /// What would become of the running configuration by the lines.
    ///
    /// # Errors
    /// The first line that is wrong, and why.
    pub fn foresee(&self, lines: &[Line]) -> Result<Model, String> {
        self.outcome(&self.model(), lines)
    }

    fn outcome(&self, base: &Model, lines: &[Line]) -> Result<Model, String> {
        apply(base.clone(), Inventory::clone(&self.inventory()), lines).map_err(|errors| first_of(&errors))
    }

    /// Applies the lines to the running configuration, all or none; returns warnings.
    ///
    /// # Errors
    /// The first line that is wrong, or as [`Handle::edit`].
    pub fn merge(&self, lines: &[Line]) -> Result<Vec<String>, String> {
        self.merge_then(lines, |_| ())
    }

    /// As [`Handle::merge`]; `first` is told what runs, immediately before it is replaced.
    ///
    /// Lines are applied on the caller's thread, as a long text would keep the supervisor's from its modules. So somebody
    /// else may be faster, and then they are applied anew.
    fn merge_then(
        &self,
        lines: &[Line],
        first: impl Fn(&Arc<Model>) + Clone + Send + 'static,
    ) -> Result<Vec<String>, String> {
        for _ in 0..ATTEMPTS {
            let base = self.model();
            let next = self.outcome(&base, lines)?;
            let first = first.clone();
            let outcome = self.edit(Box::new(move |model| {
                if *model != *base {
                    return Err(OVERTAKEN.to_owned());
                }
                first(&base);
                *model = next;
                Ok(Vec::new())
            }));
            match outcome {
                Err(EditError::Refused(why)) if why == OVERTAKEN => {}
                other => return other.map_err(|error| error.to_string()),
            }
        }
        Err(OVERTAKEN.to_owned())
    }

    /// Commits a configuration session, or confirms its commit. With `within` the configuration before comes back
    /// unless it is confirmed in that time.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn commit(&self, draft: &str, within: Option<Duration>) -> Result<Vec<String>, String> {
        let life = self.lifecycle();
        if life.trial.is_of(draft) {
            if within.is_some() {
                return Err("The commit waits for its confirmation already".to_owned());
            }
            life.trial.confirm(draft)?;
            life.drafts.remove(draft);
            self.note(5, "COMMIT_CONFIRMED", &format!("Commit of session {draft} was confirmed"));
            return Ok(Vec::new());
        }
        let session = life.drafts.get(draft).ok_or_else(|| format!("Session '{draft}' does not exist any more"))?;
        if session.lines.is_empty() {
            return Err(format!("Session '{draft}' holds no commands"));
        }
        let warnings = match within {
            Some(within) => self.try_out(draft, &session.lines, within)?,
            None => self.merge(&session.lines)?,
        };
        if within.is_none() {
            life.drafts.remove(draft);
        }
        self.note(5, "COMMITTED", &format!("Session {draft} was committed"));
        Ok(warnings)
    }

    fn try_out(&self, draft: &str, lines: &[Line], within: Duration) -> Result<Vec<String>, String> {
        let (end, ended) = bounded(0);
        let (handle, name) = (self.clone(), draft.to_owned());
        let outcome = self.merge_then(lines, move |before| {
            handle.lifecycle().trial.begin(Running {
                draft: name.clone(),
                before: before.clone(),
                until: SystemTime::now() + within,
                is_ending: false,
                _end: end.clone(),
            });
        });
        let warnings = outcome.inspect_err(|_| self.lifecycle().trial.end(draft))?;
        let (handle, name) = (self.clone(), draft.to_owned());
        let waiting = move || handle.await_confirmation(&name, &ended, within);
        if let Err(error) = std::thread::Builder::new().name("trial".into()).spawn(waiting) {
            self.take_back(draft, "could not be watched").map_err(|e| e.to_string())?;
            return Err(format!("The commit could not be watched: {error}"));
        }
        Ok(warnings)
    }

    /// Waits for the end of the trial, and brings the configuration back when nobody confirms.
    fn await_confirmation(&self, draft: &str, ended: &Receiver<()>, within: Duration) {
        let mut patience = within;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(patience) {
            match self.take_back(draft, "was not confirmed in time") {
                Ok(()) | Err(EditError::Stopping) => return,
                Err(error) => {
                    let text = format!("The configuration before session {draft} can not be brought back yet: {error}");
                    self.note(2, "REVERT_FAILED", &text);
                }
            }
            patience = PAUSE;
        }
    }

    fn take_back(&self, draft: &str, why: &str) -> Result<(), EditError> {
        let trial = &self.lifecycle().trial;
        let Some(before) = trial.take_back(draft) else { return Ok(()) };
        match self.edit_in_trial(self.replacement(Model::clone(&before))) {
            Ok(_) => {
                trial.end(draft);
                let text = format!("Commit of session {draft} {why}; the configuration before is back");
                self.note(4, "COMMIT_REVERTED", &text);
                Ok(())
            }
            Err(error) => {
                trial.go_on(draft);
                Err(error)
            }
        }
    }

    /// Forgets a configuration session; a commit of it that waits is taken back first.
    ///
    /// # Errors
    /// It can't be taken back; the session stays.
    pub fn abort(&self, draft: &str) -> Result<(), EditError> {
        self.take_back(draft, "was aborted")?;
        self.lifecycle().drafts.remove(draft);
        Ok(())
    }

    fn note(&self, severity: u8, mnemonic: &str, text: &str) {
        self.log().write("VSHD", severity, mnemonic, text);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::cli::session::Session;

    fn drafted() -> (Handle, Session) {
        let handle = Handle::detached(Model::default());
        let mut session = Session::new(handle.clone());
        for line in ["configure session move", "vlan 10", "name web", "hostname moved"] {
            let printed = session.run_line(line);
            assert!(!session.has_failed(), "{line}: {printed}");
        }
        (handle, session)
    }

    #[test]
    fn a_commit_that_nobody_confirms_is_taken_back_without_its_session() {
        let (handle, session) = drafted();
        let before = handle.model();
        assert_eq!(handle.commit("move", Some(Duration::from_millis(300))), Ok(Vec::new()));
        assert_eq!(handle.model().hostname, "moved");
        drop(session);
        let refused = handle.edit(Box::new(|model| {
            model.hostname.clear();
            Ok(Vec::new())
        }));
        assert!(refused.unwrap_err().to_string().contains("waits for its confirmation"));
        let patience = Instant::now() + Duration::from_secs(20);
        while handle.lifecycle().trial.waiting().is_some() && Instant::now() < patience {
            std::thread::yield_now();
        }
        assert_eq!(handle.model(), before);
        assert!(handle.log().last(9).iter().any(|line| line.contains("COMMIT_REVERTED")));
        // Its commands are there to be mended.
        assert_eq!(handle.lifecycle().drafts.get("move").unwrap().lines.len(), 3);
        assert_eq!(handle.commit("move", None), Ok(Vec::new()));
        assert_eq!(handle.model().hostname, "moved");
    }

    #[test]
    fn confirmed_it_stays_and_aborted_it_goes() {
        for confirm in [true, false] {
            let (handle, _session) = drafted();
            let before = handle.model();
            handle.commit("move", Some(Duration::from_secs(600))).unwrap();
            assert!(handle.commit("move", Some(Duration::from_secs(600))).is_err());
            match confirm {
                true => drop(handle.commit("move", None).unwrap()),
                false => handle.abort("move").unwrap(),
            }
            assert_eq!(handle.model() == before, !confirm);
            assert_eq!((handle.lifecycle().trial.waiting(), handle.lifecycle().drafts.get("move")), (None, None));
        }
    }

    #[test]
    fn a_session_with_a_line_that_fails_by_now_changes_nothing() {
        let (handle, mut session) = drafted();
        for line in ["ip access-list x", "10 permit ip any any", "no ip access-list x"] {
            session.run_line(line);
        }
        let mut other = Session::new(handle.clone());
        for line in ["configure terminal", "mac access-list x"] {
            other.run_line(line);
        }
        let before = handle.model();
        let why = handle.commit("move", None).unwrap_err();
        assert!(why.starts_with("line 4, 'ip access-list x': "), "{why}");
        assert_eq!(handle.model(), before);
    }
}
