//! NX-API: commands by HTTPS.
//!
//! ```text
//!   POST /ins ─▶ [auth] ─▶ body ─▶ thread of the request ─▶ [jsonrpc] or [ins] ─▶ [engine] ─▶ [Session]
//! ```
//!
//! Commands, roles, output and what is kept secret are those of the command line. Whoever asks is known before a word of
//! his is read. A request has a thread of its own while its commands run; [`RUNNING_MAX`] run at a time, and more wait.
//!
//! [`Session`]: crate::cli::session::Session

mod auth;
mod engine;
mod ins;
mod jsonrpc;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::http::{self, Answer, Site, Visit, certificate, refuse, reply};
use super::limits::Failures;
use super::page;
use super::runtime::Task;
use crate::bootstrap::Nxapi;
use crate::cli::logins::Visitor;
use crate::supervisor::{Handle, NxapiFacts};
use auth::Doorkeeper;
use engine::Engine;

/// Requests whose commands run at a time.
pub const RUNNING_MAX: usize = 8;
/// Time that a request waits for others.
const TURN_TIME: Duration = Duration::from_secs(30);
/// Octets of a request's body.
pub const BODY_MAX: usize = 1 << 20;

/// Why there is no NX-API.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] certificate::Error),
    /// The address.
    #[error("NX-API on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// Random numbers, descriptors.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// The server.
pub struct Server {
    address: SocketAddr,
    handle: Handle,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.set_nxapi(None);
    }
}

/// Listens; the task serves.
///
/// # Errors
/// See [`Error`].
pub fn open(nxapi: &Nxapi, state_dir: &Path, handle: Handle, failures: Failures) -> Result<(Server, Task), Error> {
    let name = handle.model().hostname.clone();
    let name = if name.is_empty() { "switch" } else { &name };
    let identity = certificate::open(nxapi, state_dir, name)?;
    let listener = TcpListener::bind(nxapi.listen).map_err(|e| Error::Listen(nxapi.listen, e))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let facts = NxapiFacts { listen: address, fingerprint: identity.fingerprint, expires: identity.expires.into() };
    handle.set_nxapi(Some(facts));
    let door = Doorkeeper::new(handle.clone(), failures)?;
    let site = Arc::new(Commands { handle: handle.clone(), door, turns: Arc::new(Semaphore::new(RUNNING_MAX)) });
    let tls = TlsAcceptor::from(identity.config);
    Ok((Server { address, handle }, Box::pin(http::serve(listener, Some(tls), site))))
}

/// What is served.
struct Commands {
    handle: Handle,
    door: Doorkeeper,
    turns: Arc<Semaphore>,
}

impl Site for Commands {
    async fn answer(&self, request: Request<Incoming>, visit: &Visit) -> Answer {
        if request.uri().path() != "/ins" {
            let page = if request.method() == Method::GET { page::file(request.uri().path()) } else { None };
            return page.unwrap_or_else(|| refuse(StatusCode::NOT_FOUND, "404: commands are sent to /ins"));
        }
        if request.method() != Method::POST {
            let mut answer = refuse(StatusCode::METHOD_NOT_ALLOWED, "405: commands are sent by POST");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return answer;
        }
        let visitor = match self.door.admit(request.headers().get(AUTHORIZATION), visit).await {
            Ok(visitor) => visitor,
            Err(answer) => return answer,
        };
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_rpc = kind.contains("json-rpc");
        match http::body(request, BODY_MAX).await {
            Ok(body) => self.carry_out(body, is_rpc, visitor).await,
            Err(status) => refuse(status, status.canonical_reason().unwrap_or_default()),
        }
    }
}

impl Commands {
    async fn carry_out(&self, body: Bytes, is_rpc: bool, visitor: Visitor) -> Answer {
        let Ok(Ok(turn)) = timeout(TURN_TIME, self.turns.clone().acquire_owned()).await else {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "503: too many requests");
        };
        let (tell, told) = oneshot::channel();
        let handle = self.handle.clone();
        let run = move || {
            let _ = tell.send(respond(&body, is_rpc, || Engine::new(handle, visitor)));
            drop(turn);
        };
        let began = std::thread::Builder::new().name("nxapi".into()).spawn(run);
        match (began, told.await) {
            (Ok(_), Ok((status, kind, body))) => reply(status, kind, body),
            _ => refuse(StatusCode::INTERNAL_SERVER_ERROR, "500: the commands were not carried out"),
        }
    }
}

/// The answer to a body: status, content type, text.
fn respond(body: &[u8], is_rpc: bool, engine: impl FnOnce() -> Engine) -> (StatusCode, &'static str, String) {
    let written = |kind: &'static str, (status, answer): (StatusCode, Value)| (status, kind, answer.to_string());
    if body.trim_ascii_start().starts_with(b"<") {
        let why = "Request message is invalid: XML is not spoken; send JSON-RPC, or ins_api with output_format json";
        return written(ins::KIND, ins::invalid(415, why));
    }
    match serde_json::from_slice::<Value>(body) {
        Err(error) if is_rpc => written(jsonrpc::KIND, jsonrpc::unreadable(&error.to_string())),
        Err(error) => written(ins::KIND, ins::invalid(400, &format!("Request message is invalid: {error}"))),
        Ok(request) if request.get("ins_api").is_some() => written(ins::KIND, ins::answer(&request, &mut engine())),
        Ok(request) => written(jsonrpc::KIND, jsonrpc::answer(request, &mut engine())),
    }
}
