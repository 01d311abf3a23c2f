//! Reliable transport of flow records: `flow-relay`, and the same in the agent.
//!
//! ```text
//!  exporter ─UDP─▶ send: inbox ─▶ queue ─▶ spool          receive: stream ─▶ outbox ─UDP─▶ collectors
//!                           └──────▶ sender ── TLS, frames ──▶ session ──┘
//!                                          ◀── acknowledged numbers ──
//! ```
//!
//! Each datagram gets a number, is kept by the sender until the receiver acknowledges it, and is delivered to each
//! collector once, in the order of the numbers. [`sender`], [`receiver`], [`queue`] and [`wire`] are sans-I/O: octets, numbers and
//! times in, octets out. [`spool`] is files; [`daemon`] has the sockets.
//!
//! Where something can die, and what finds it again:
//!
//! | between | is found in |
//! |---|---|
//! | the socket and the spool | the inbox, in memory that outlives the process |
//! | the spool and the receiver | the spool: it is trimmed by acknowledgements only |
//! | the receiver and the collector's socket | the outbox: the kernel notes the delivery in the call that makes it |
//! | the delivery and its acknowledgement | the outbox; the sender asks for it when it connects |
//!
//! What is not covered: a machine that dies (up to a second of datagrams in the sender's memory, up to 100 ms of deliveries
//! that come again), a collector that has a datagram in its socket and dies, and datagrams that a socket without a reader drops.

pub mod args;
pub mod backoff;
pub mod channel;
pub mod collector;
pub mod config;
pub mod daemon;
pub mod key;
pub mod queue;
pub mod receiver;
pub mod sender;
pub mod session;
pub mod spool;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod wire;
