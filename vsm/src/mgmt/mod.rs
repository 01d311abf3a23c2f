//! Servers for administrators who are not at the console: SSH.
//!
//! They run on one thread of their own, a tokio runtime that is single-threaded, and only here is there tokio. Nothing of
//! the switch is done on that thread: a session has a thread of its own ([`crate::cli::sessions`]), a password is tried on
//! one of two others. So a busy client delays other clients, never the supervisor.

pub mod ssh;
