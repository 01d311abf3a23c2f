//! Where a configuration is: it runs, it is saved, or it is kept under a name.

use std::time::SystemTime;

use crate::cli::session::Session;
use crate::cli::tree::Error;
use crate::config::checkpoint::Checkpoint;
use crate::config::model::Model;
use crate::config::running::{self, Part};
use crate::config::startup::{self, first_of};
use crate::folder;

/// A configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// `running-config`
    Running,
    /// `startup-config`
    Startup,
    /// `checkpoint NAME`
    Checkpoint(String),
    /// `bootflash:NAME`
    File(String),
}

impl Source {
    /// Its name for people.
    pub fn title(&self) -> String {
        match self {
            Source::Running => "running-config".to_owned(),
            Source::Startup => "startup-config".to_owned(),
            Source::Checkpoint(name) => format!("Checkpoint {name}"),
            Source::File(name) => format!("bootflash:{name}"),
        }
    }

    /// Its text.
    ///
    /// # Errors
    /// It does not exist, or the disk.
    pub fn text(&self, session: &Session) -> Result<String, Error> {
        let life = session.handle.lifecycle();
        let text = match self {
            Source::Running => {
                let (model, now) = (session.handle.model(), SystemTime::now());
                Some(running::text(&model, &Part::Whole, "show running-config", now))
            }
            Source::Startup => life.startup.text().map(|text| String::clone(&text)),
            Source::Checkpoint(name) => checkpoint(session, name)?.map(|kept| kept.text),
            Source::File(name) => life.files.read(name).map_err(refused)?,
        };
        text.ok_or_else(|| match self {
            Source::Startup => Error::Refused("There is no startup configuration".to_owned()),
            _ => Error::Refused(format!("{} does not exist", self.title())),
        })
    }

    /// What it means.
    ///
    /// # Errors
    /// As [`Source::text`], or it has errors.
    pub fn model(&self, session: &Session) -> Result<Model, Error> {
        match self {
            Source::Running => Ok(Model::clone(&session.handle.model())),
            _ => startup::load(&self.text(session)?)
                .map_err(|errors| Error::Refused(format!("{}, {}", self.title(), first_of(&errors)))),
        }
    }
}

/// The checkpoint; one whose head is damaged is none.
///
/// # Errors
/// The name, or the disk.
pub fn checkpoint(session: &Session, name: &str) -> Result<Option<Checkpoint>, Error> {
    let file = session.handle.lifecycle().checkpoints.read(name).map_err(refused)?;
    Ok(file.and_then(|file| Checkpoint::read(name, &file)))
}

/// The name in `bootflash:NAME`; there are no folders in it.
///
/// # Errors
/// It can't be the name of a file.
pub fn file_name(text: &str) -> Result<String, Error> {
    let name = text.strip_prefix("bootflash:").unwrap_or(text);
    let name = name.strip_prefix("///").or(name.strip_prefix('/')).unwrap_or(name);
    folder::check_name(name).map_err(refused)?;
    Ok(name.to_owned())
}

/// What a folder says, for the administrator.
pub fn refused(error: folder::Error) -> Error {
    Error::Refused(error.to_string())
}
