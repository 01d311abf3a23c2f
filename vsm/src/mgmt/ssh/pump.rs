//! Between a channel and its session: octets, both ways.
//!
//! What the client types is kept here until the session takes it, so that russh is never held up: a session that is busy
//! writing waits for russh in turn, and the two would wait for each other. The client that types ahead more than
//! [`AHEAD_MAX`] octets, and the file that it copies, loses its connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use russh::ChannelId;
use russh::server::Handle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// Octets that a client may type ahead of its session, beside the file that it copies.
pub const AHEAD_MAX: usize = 1 << 20;
/// A client that doesn't take output for this long is given up; the session is sooner.
const TAKE_TIME: Duration = Duration::from_secs(40);

/// What the client types.
pub struct Input {
    octets: UnboundedSender<Vec<u8>>,
    ahead: Arc<AtomicUsize>,
    ahead_max: usize,
}

impl Input {
    /// Passes octets on; `false` when the client is too far ahead.
    pub fn push(&self, octets: &[u8]) -> bool {
        let ahead = self.ahead.fetch_add(octets.len(), Ordering::Relaxed) + octets.len();
        // A session that has ended takes nothing more; its client will learn of that.
        let _ = self.octets.send(octets.to_vec());
        ahead <= self.ahead_max
    }

    /// The session has ended.
    pub fn is_over(&self) -> bool {
        self.octets.is_closed()
    }
}

/// The client's end of a session.
pub struct Far {
    /// The connection.
    pub client: Handle,
    /// The channel.
    pub channel: ChannelId,
    /// Becomes true when a command of the session is refused.
    pub refused: Arc<AtomicBool>,
}

/// Moves octets until the session ends, and then tells the client how it did. `held` is dropped then. The client may be
/// `ahead_max` octets ahead.
pub fn start(near: UnixStream, far: Far, ahead_max: usize, held: impl Send + 'static) -> Input {
    let (octets, typed) = unbounded_channel();
    let ahead = Arc::new(AtomicUsize::new(0));
    let (from, to) = near.into_split();
    let feeding = tokio::spawn(feed(typed, ahead.clone(), to));
    tokio::spawn(async move {
        show(from, &far).await;
        feeding.abort();
        drop(held);
    });
    Input { octets, ahead, ahead_max }
}

/// Ends when the client has nothing more to type, which the session learns.
async fn feed(mut typed: UnboundedReceiver<Vec<u8>>, ahead: Arc<AtomicUsize>, mut to: OwnedWriteHalf) {
    while let Some(octets) = typed.recv().await {
        if to.write_all(&octets).await.is_err() {
            return;
        }
        ahead.fetch_sub(octets.len(), Ordering::Relaxed);
    }
}

async fn show(mut from: OwnedReadHalf, far: &Far) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let Some(shown) = buffer.get(..count) else { return };
        if !matches!(timeout(TAKE_TIME, far.client.data(far.channel, shown.to_vec())).await, Ok(Ok(()))) {
            return;
        }
    }
    let status = u32::from(far.refused.load(Ordering::Relaxed));
    let goodbye = async {
        far.client.exit_status_request(far.channel, status).await?;
        far.client.eof(far.channel).await?;
        far.client.close(far.channel).await
    };
    // Who is gone already needs no goodbye.
    let _ = timeout(TAKE_TIME, goodbye).await;
}
