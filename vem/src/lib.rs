//! The agent of a host: devices, threads, the session to the supervisor, the last good configuration, flow export.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod agent;
pub mod answer;
pub mod apply;
pub mod args;
pub mod attach;
pub mod bootstrap;
pub mod enroll;
pub mod export;
pub mod headless;
pub mod hostport;
pub mod identity;
pub mod link;
pub mod local;
pub mod log;
