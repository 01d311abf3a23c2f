//! The agent of a host: devices, threads, the session to the supervisor, the last good configuration, flow export.
//!
//! ```text
//!   vem.toml ─▶ bootstrap ─▶ agent ──┬── link ⇄ supervisor (TLS)          enroll: token ─▶ certificate
//!                                    ├── local ⇄ vem attach, detach, ports, cmd
//!                                    ├── watches ◀ netlink
//!                                    └── switch ──┬── request, attach     what is asked for, what is attached
//!                                                 ├── headless            what was last good, on disk
//!                                                 ├── apply, numbers      names to numbers: the dataplane's configuration
//!                                                 ├── hostport            taps, netdevs, the host kept silent
//!                                                 ├── answer, header, rates, show
//!                                                 └── export ─▶ collectors
//! ```
//!
//! The dataplane runs in its own thread and needs none of this to forward. A supervisor that is away changes nothing but
//! that no new configuration comes; so does a restart of the agent, because what was last good is on the disk before it
//! runs. The agent needs root, or the capabilities for network administration.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod agent;
pub mod answer;
pub mod applied;
pub mod apply;
pub mod args;
pub mod attach;
pub mod bootstrap;
pub mod capture;
pub mod enroll;
pub mod export;
pub mod header;
pub mod headless;
pub mod hostport;
pub mod identity;
pub mod link;
pub mod local;
pub mod log;
pub mod metrics;
pub mod numbers;
pub mod overload;
pub mod rates;
pub mod relay;
pub mod request;
pub mod show;
pub mod stored;
pub mod switch;
pub mod watches;
pub mod why;
pub mod workers;
