//! Figures for Prometheus: `GET /metrics`, without TLS and without a login.
//!
//! ```text
//!   GET /metrics ─▶ page of the last second, or a thread that asks the modules ─▶ [collect]
//! ```
//!
//! What is asked of a module are counters that it has; the frame path does nothing for it. A page serves everybody who
//! asks within [`FRESH`], so that the modules are asked once a second at most, by however many. Where strangers may
//! reach the address is the administrator's choice: the page holds names of hosts and VMs and counts, and nothing secret.

mod collect;

pub use collect::SUPERVISOR;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, StatusCode};
use proto::metrics::KIND;
use tokio::sync::{Mutex, oneshot};

use super::http::{self, Answer, Site, Visit, refuse, reply};
use super::runtime::Task;
use crate::bootstrap::Metrics;
use crate::supervisor::Handle;

/// How long a page serves.
const FRESH: Duration = Duration::from_secs(1);

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address.
    #[error("metrics on {0}: {1}")]
    Listen(SocketAddr, io::Error),
}

/// Listens; the task serves. The address is returned with it.
///
/// # Errors
/// See [`Error`].
pub fn open(metrics: &Metrics, handle: Handle) -> Result<(SocketAddr, Task), Error> {
    let wrong = |e| Error::Listen(metrics.listen, e);
    let listener = TcpListener::bind(metrics.listen).map_err(wrong)?;
    listener.set_nonblocking(true).map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    let site = Arc::new(Figures { handle, page: Mutex::new(None) });
    Ok((address, Box::pin(http::serve(listener, None, site))))
}

struct Figures {
    handle: Handle,
    /// The last page, and when it was made. Who finds it held waits for the next.
    page: Mutex<Option<(Instant, Bytes)>>,
}

impl Site for Figures {
    async fn answer(&self, request: Request<Incoming>, visit: &Visit) -> Answer {
        if request.uri().path() != "/metrics" {
            return refuse(StatusCode::NOT_FOUND, "404: the figures are at /metrics");
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut answer = refuse(StatusCode::METHOD_NOT_ALLOWED, "405: figures are asked for by GET");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        visit.welcome();
        match self.page().await {
            Some(page) => reply(StatusCode::OK, KIND, page),
            None => refuse(StatusCode::INTERNAL_SERVER_ERROR, "500: the figures can not be collected"),
        }
    }
}

impl Figures {
    async fn page(&self) -> Option<Bytes> {
        let mut last = self.page.lock().await;
        if let Some((_, page)) = last.as_ref().filter(|(made, _)| made.elapsed() < FRESH) {
            return Some(page.clone());
        }
        let (tell, told) = oneshot::channel();
        let handle = self.handle.clone();
        let collect = move || drop(tell.send(collect::page(&handle)));
        std::thread::Builder::new().name("metrics".into()).spawn(collect).ok()?;
        let page = Bytes::from(told.await.ok()?);
        *last = Some((Instant::now(), page.clone()));
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::mgmt::runtime::Runtime;

    fn ask(address: SocketAddr, text: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn a_page_is_served_and_nothing_else() {
        let handle = Handle::detached(sample::model()).with_inventory(sample::inventory());
        let (address, task) = open(&Metrics { listen: ([127, 0, 0, 1], 0).into() }, handle).unwrap();
        let _runtime = Runtime::start(vec![task]).unwrap();
        let get = |path: &str| ask(address, &format!("GET {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n"));
        let page = get("/metrics");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(page.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        assert!(page.contains("\nvswitch_module_up{host=\"host1\",module=\"3\"} 1\n"), "{page}");
        assert!(ask(address, "GET /metrics HTTP/1.0\r\n\r\n").contains("\nprocess_resident_memory_bytes "));
        assert!(get("/").starts_with("HTTP/1.1 404 "));
        let posted =
            ask(address, "POST /metrics HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
        assert!(!ask(address, "\0\0\0\r\n\r\n").starts_with("HTTP/1.1 200"));
    }
}
