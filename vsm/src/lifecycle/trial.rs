//! The commit that waits for its confirmation.
//!
//! There is one at most. What it has replaced is kept here, and comes back unless somebody confirms it in time. Until
//! then no other change is made and the running configuration is not saved: the way back must lead to exactly what was,
//! and a restart must not make lasting what nobody has confirmed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crossbeam::channel::Sender;

use crate::config::model::Model;

/// The commit, if there is one. Any thread may use it.
#[derive(Default)]
pub struct Trial(Mutex<Option<Running>>);

/// A commit that waits.
pub(super) struct Running {
    /// Its session.
    pub(super) draft: String,
    /// What ran before.
    pub(super) before: Arc<Model>,
    /// When it ends.
    pub(super) until: SystemTime,
    /// The configuration before is being brought back.
    pub(super) is_ending: bool,
    /// Whoever waits for the end notices when this is dropped.
    pub(super) _end: Sender<()>,
}

impl Trial {
    fn inner(&self) -> MutexGuard<'_, Option<Running>> {
        // Replaced as a whole, so what a panicked thread left is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Session of the commit that waits, and until when.
    pub fn waiting(&self) -> Option<(String, SystemTime)> {
        self.inner().as_ref().map(|running| (running.draft.clone(), running.until))
    }

    /// Nothing waits, so the configuration may be changed and saved.
    ///
    /// # Errors
    /// A commit waits.
    pub fn refuse(&self) -> Result<(), String> {
        match &*self.inner() {
            Some(Running { draft, .. }) => Err(format!(
                "The commit of session '{draft}' waits for its confirmation: 'configure session {draft}', then \
                 'commit' or 'abort'"
            )),
            None => Ok(()),
        }
    }

    /// The commit of this session waits.
    pub fn is_of(&self, draft: &str) -> bool {
        self.inner().as_ref().is_some_and(|running| running.draft == draft)
    }

    pub(super) fn begin(&self, running: Running) {
        *self.inner() = Some(running);
    }

    /// The commit stays, or was not made, or has been taken back.
    pub(super) fn end(&self, draft: &str) {
        self.inner().take_if(|running| running.draft == draft);
    }

    /// The commit stays.
    ///
    /// # Errors
    /// It is too late.
    pub(super) fn confirm(&self, draft: &str) -> Result<(), String> {
        let mut inner = self.inner();
        match &*inner {
            Some(running) if running.draft == draft && !running.is_ending => {
                *inner = None;
                Ok(())
            }
            _ => Err("It is too late: the configuration before comes back".to_owned()),
        }
    }

    /// What to bring back; `None` when somebody else does it, or it was confirmed. It can't be confirmed any more, until
    /// [`Trial::go_on`].
    pub(super) fn take_back(&self, draft: &str) -> Option<Arc<Model>> {
        let mut inner = self.inner();
        let running = inner.as_mut().filter(|running| running.draft == draft && !running.is_ending)?;
        running.is_ending = true;
        Some(running.before.clone())
    }

    /// It could not be brought back: the commit waits on.
    pub(super) fn go_on(&self, draft: &str) {
        if let Some(running) = self.inner().as_mut().filter(|running| running.draft == draft) {
            running.is_ending = false;
        }
    }

    /// The supervisor stops: nobody waits any more.
    pub fn stop(&self) {
        *self.inner() = None;
    }
}
