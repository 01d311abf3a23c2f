//! Who asks: HTTP's Basic, tried as any password is.
//!
//! A client sends its password with every request, and trying one takes its time by design. So one that was right is
//! remembered for [`REMEMBERED`], by a keyed hash of it, of the user and of the address; every change of the configuration
//! (users among it) makes all be forgotten. What was wrong is never remembered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, WWW_AUTHENTICATE};
use sha2::Sha256;

use crate::aaa::login;
use crate::cli::logins::{Service, Visitor};
use crate::config::model::Model;
use crate::mgmt::http::{Answer, Visit, refuse};
use crate::mgmt::limits::Failures;
use crate::module::authority;
use crate::supervisor::Handle;

/// How long a right password is remembered, from when it was tried.
pub const REMEMBERED: Duration = Duration::from_secs(30);
/// Most that are remembered.
const REMEMBERED_MAX: usize = 64;
/// A login is logged again when the last line about that user and address is this old.
const LOGGED: Duration = Duration::from_secs(600);
/// A login that fails is answered this late.
const REJECTION_TIME: Duration = Duration::from_millis(500);

type Mark = [u8; 32];

/// The one at the door.
pub struct Doorkeeper {
    handle: Handle,
    failures: Failures,
    key: [u8; 64],
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// The configuration that all of them were let in under.
    model: Option<Arc<Model>>,
    known: HashMap<Mark, (Visitor, Instant)>,
    logged: HashMap<(String, IpAddr), Instant>,
}

impl Memory {
    fn recall(&mut self, mark: &Mark, model: &Arc<Model>, now: Instant) -> Option<Visitor> {
        self.keep(model, now);
        self.known.get(mark).map(|(visitor, _)| visitor.clone())
    }

    fn remember(&mut self, mark: Mark, visitor: Visitor, model: &Arc<Model>, now: Instant) {
        self.keep(model, now);
        if self.known.len() < REMEMBERED_MAX {
            self.known.insert(mark, (visitor, now));
        }
    }

    fn keep(&mut self, model: &Arc<Model>, now: Instant) {
        if !self.model.as_ref().is_some_and(|known| Arc::ptr_eq(known, model)) {
            self.known.clear();
            self.model = Some(model.clone());
        }
        self.known.retain(|_, (_, since)| now.saturating_duration_since(*since) < REMEMBERED);
    }

    fn is_news(&mut self, user: &str, from: IpAddr, now: Instant) -> bool {
        self.logged.retain(|_, at| now.saturating_duration_since(*at) < LOGGED);
        let is_new = !self.logged.contains_key(&(user.to_owned(), from));
        if is_new && self.logged.len() < REMEMBERED_MAX {
            self.logged.insert((user.to_owned(), from), now);
        }
        is_new
    }
}

impl Doorkeeper {
    /// Knows nobody yet.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(handle: Handle, failures: Failures) -> std::io::Result<Self> {
        let mut key = [0; 64];
        let random = authority::provider().secure_random.fill(&mut key);
        random.map_err(|_| std::io::Error::other("no random numbers"))?;
        Ok(Doorkeeper { handle, failures, key, memory: Mutex::default() })
    }

    /// Lets the sender of a request in, or says why not.
    ///
    /// # Errors
    /// The answer to give him.
    pub async fn admit(&self, header: Option<&HeaderValue>, visit: &Visit) -> Result<Visitor, Answer> {
        let Some((user, password)) = header.and_then(credentials) else {
            return Err(refused(false));
        };
        let mark = self.mark(&user, &password, visit.from);
        // Taken before the password is tried: a change meanwhile makes what is remembered worthless.
        let model = self.handle.model();
        if let Some(visitor) = self.memory().recall(&mark, &model, Instant::now()) {
            visit.welcome();
            return Ok(visitor);
        }
        let (handle, name, from) = (self.handle.clone(), user.clone(), visit.from);
        let tried = tokio::task::spawn_blocking(move || login::password(&handle, &name, &password, from));
        let tried = tried.await.unwrap_or(None);
        self.handle.logins().tell(Service::Nxapi, tried.is_some());
        match tried {
            Some(visitor) => {
                let mut memory = self.memory();
                memory.remember(mark, visitor.clone(), &model, Instant::now());
                if memory.is_news(&user, from, Instant::now()) {
                    self.handle.log().write("NXAPI", 6, "LOGIN", &format!("User {user} logged in from {from}"));
                }
                visit.welcome();
                Ok(visitor)
            }
            None => {
                self.handle.login_failed(&format!("{from}@nxapi"), &user, "password");
                self.failures.log(self.handle.log(), "NXAPI", &user, from, "password");
                let too_many = visit.fail();
                tokio::time::sleep(REJECTION_TIME).await;
                Err(refused(too_many))
            }
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        // Every entry stands for itself, so what a panicked task left is sound.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, user: &str, password: &str, from: IpAddr) -> Mark {
        let mut hash = Hmac::<Sha256>::new(&self.key.into());
        for part in [user, password, &from.to_string()] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().into_bytes().into()
    }
}

/// User and password of `Basic ...`.
fn credentials(header: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = header.to_str().ok()?.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn refused(is_last: bool) -> Answer {
    let mut answer = refuse(StatusCode::UNAUTHORIZED, "401 Unauthorized");
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Secure Zone\""));
    if is_last {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_read_and_nothing_else() {
        let read = |text: &str| credentials(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("Basic YWRtaW46YTpi"), Some(("admin".into(), "a:b".into())));
        assert_eq!(read("basic  YWRtaW46 "), Some(("admin".into(), String::new())));
        for bad in ["", "Basic", "Basic !", "Basic YWRtaW4=", "Bearer YWRtaW46YTpi", "Basic //4=", "Basic AAAA"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_remembered_is_forgotten() {
        let (model, now) = (Arc::new(Model::default()), Instant::now());
        let visitor = Visitor { user: Some("ops".into()), ..Visitor::default() };
        let mut memory = Memory::default();
        memory.remember([1; 32], visitor.clone(), &model, now);
        assert_eq!(memory.recall(&[1; 32], &model, now + REMEMBERED / 2), Some(visitor.clone()));
        assert_eq!(memory.recall(&[2; 32], &model, now), None);
        assert_eq!(memory.recall(&[1; 32], &model, now + REMEMBERED), None, "by time, though it was asked for between");
        memory.remember([1; 32], visitor.clone(), &model, now);
        assert_eq!(memory.recall(&[1; 32], &Arc::new(Model::default()), now), None, "by a change");
        (0..=u8::MAX).for_each(|n| memory.remember([n; 32], visitor.clone(), &model, now));
        assert_eq!(memory.known.len(), REMEMBERED_MAX);
        assert!(memory.is_news("ops", [192, 0, 2, 1].into(), now));
        assert!(!memory.is_news("ops", [192, 0, 2, 1].into(), now));
        assert!(memory.is_news("ops", [192, 0, 2, 1].into(), now + LOGGED));
    }
}
