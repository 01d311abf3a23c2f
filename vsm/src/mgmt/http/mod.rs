//! HTTP/1.1 for the servers that speak it, with TLS or without.
//!
//! ```text
//!   TCP ─▶ [limits] ─▶ TLS ─▶ hyper ─▶ [Site]
//! ```
//!
//! A connection counts as waiting until its site calls [`Visit::welcome`]; see [`super::limits`]. Every step has its time:
//! the handshake, the head of a request (and the silence before it), its body, and taking the answer. HTTP/2 is not offered.

pub mod certificate;
mod stall;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::limits::{ATTEMPTS_MAX, Connected, HTTP, LOGIN_TIME, Limits};
use stall::Stalling;

/// Time for the handshake of TLS.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Time for the head of a request; a connection that is kept alive may be silent as long.
pub const HEAD_TIME: Duration = Duration::from_secs(30);
/// Time for the body of a request.
pub const BODY_TIME: Duration = Duration::from_secs(30);
/// A client that takes nothing of its answer for this long is given up.
pub const TAKE_TIME: Duration = Duration::from_secs(30);
/// Octets of a request's head.
const HEAD_MAX: usize = 16 << 10;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;

/// An answer, whole.
pub type Answer = Response<Full<Bytes>>;

/// What a server serves.
pub trait Site: Send + Sync + 'static {
    /// Answers a request.
    fn answer(&self, request: Request<Incoming>, visit: &Visit) -> impl Future<Output = Answer> + Send;
}

/// A connection, as its site sees it.
pub struct Visit {
    /// Where it comes from.
    pub from: IpAddr,
    place: Mutex<Connected>,
    welcomed: Notify,
    failures: AtomicUsize,
}

impl Visit {
    /// Whoever is there may stay.
    pub fn welcome(&self) {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).logged_in();
        self.welcomed.notify_one();
    }

    /// A login has failed; `true` when there were too many.
    pub fn fail(&self) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= ATTEMPTS_MAX
    }
}

/// Serves on a listener for ever.
pub async fn serve<S: Site>(listener: std::net::TcpListener, tls: Option<TlsAcceptor>, site: Arc<S>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("HTTP: {error}"),
    };
    let limits = Limits::new(HTTP);
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                if let Some(place) = limits.enter(peer.ip()) {
                    tokio::spawn(meet(socket, peer, place, tls.clone(), site.clone()));
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: others must close first.
                tracing::warn!("HTTP: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn meet<S: Site>(socket: TcpStream, peer: SocketAddr, place: Connected, tls: Option<TlsAcceptor>, site: Arc<S>) {
    let _ = socket.set_nodelay(true);
    let stream = Stalling::new(socket, TAKE_TIME);
    let visit = Arc::new(Visit {
        from: peer.ip(),
        place: Mutex::new(place),
        welcomed: Notify::new(),
        failures: AtomicUsize::new(0),
    });
    match tls {
        None => converse(stream, peer, visit, site).await,
        Some(tls) => match timeout(HANDSHAKE_TIME, tls.accept(stream)).await {
            Ok(Ok(stream)) => converse(stream, peer, visit, site).await,
            Ok(Err(error)) => tracing::debug!("TLS with {peer}: {error}"),
            Err(_) => tracing::debug!("TLS with {peer}: too slow"),
        },
    }
}

async fn converse<S: Site>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    peer: SocketAddr,
    visit: Arc<Visit>,
    site: Arc<S>,
) {
    let (visit, visiting) = (visit.clone(), visit);
    let service = service_fn(move |request| {
        let (site, visit) = (site.clone(), visiting.clone());
        async move { Ok::<Answer, Infallible>(site.answer(request, &visit).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = visit.welcomed.notified() => connection.await,
        () = sleep(LOGIN_TIME) => return tracing::debug!("HTTP with {peer}: no login"),
    };
    if let Err(error) = ended {
        tracing::debug!("HTTP with {peer}: {error}");
    }
}

/// The body of a request, of at most `most` octets; or the status to refuse it with.
///
/// # Errors
/// It is too large, too slow or broken.
pub async fn body(request: Request<Incoming>, most: usize) -> Result<Bytes, StatusCode> {
    let body = request.into_body();
    if body.size_hint().lower() > most as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    match timeout(BODY_TIME, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// An answer with a body.
pub fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// An answer that says what is wrong in a line of text.
pub fn refuse(status: StatusCode, why: &str) -> Answer {
    let mut answer = reply(status, "text/plain; charset=utf-8", format!("{why}\n"));
    if status == StatusCode::PAYLOAD_TOO_LARGE || status == StatusCode::REQUEST_TIMEOUT {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
