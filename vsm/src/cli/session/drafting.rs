//! A session in a configuration session: its commands are tried on a copy and collected.

use super::{Draft, Session, Subject};
use crate::cli::parse::Parsed;
use crate::cli::render::Output;
use crate::cli::tree::{Error, Mode};
use crate::config::startup::{Line, apply};
use crate::lifecycle::drafts::Claim;
use crate::module::registry::Inventory;
use crate::supervisor::Handle;

impl Session {
    /// Enters a configuration session. Its commands so far are typed anew into a copy of the running configuration;
    /// what is wrong with them by now is said, and left to whoever enters.
    pub fn enter_draft(&mut self, claim: Claim) -> Vec<String> {
        let lines = self.handle.lifecycle().drafts.get(claim.name()).map(|draft| draft.lines).unwrap_or_default();
        let model = self.handle.model();
        let inventory = Inventory::clone(&self.handle.inventory());
        let (model, wrong) = match apply(model.as_ref().clone(), inventory.clone(), &lines) {
            Ok(model) => (model, Vec::new()),
            Err(errors) => (model.as_ref().clone(), errors.iter().map(ToString::to_string).collect()),
        };
        self.end();
        self.enter(Mode::Config, Subject::None);
        self.draft = Some(Draft { claim, shadow: Handle::shadow(model, inventory) });
        wrong
    }

    /// The configuration session whose commands are collected.
    pub fn draft(&self) -> Option<&str> {
        self.draft.as_ref().map(|draft| draft.claim.name())
    }

    /// Tries the command on the copy; a good one is added to the configuration session.
    pub(super) fn collect(
        &mut self,
        parsed: &Parsed<'static>,
        line: &str,
        draft: &str,
        shadow: Handle,
    ) -> Result<Output, Error> {
        let depth = self.depth();
        let life = self.handle.lifecycle();
        if life.trial.is_of(draft) {
            return Err(Error::Refused("The commit waits for its confirmation: 'commit' or 'abort'".to_owned()));
        }
        life.drafts.make_room().map_err(Error::Refused)?;
        let own = std::mem::replace(&mut self.handle, shadow);
        let result = (parsed.command.run)(self, &parsed.args);
        self.handle = own;
        if result.is_ok() {
            // Spelled in full, so that whoever may not see the secret is not shown it.
            let text = if parsed.has_secrets() { parsed.with_secrets() } else { line.trim().to_owned() };
            self.handle.lifecycle().drafts.add(draft, Line { depth: Some(depth), text });
        }
        result
    }
}
