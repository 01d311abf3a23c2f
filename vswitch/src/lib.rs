//! The dataplane of a distributed virtual switch: frames in, frames out, time as an argument.
//!
//! ```text
//!  port/rx ─▶ parse ─▶ flow lookup ──hit─────────────────────────▶ account ─▶ rewrite ─▶ port/tx
//!  64 frames  one pass     │                                   ▲   counters    vlan      once per port
//!                          └miss▶ ingress ─▶ bridge ─▶ egress ─┘   meter                 and batch
//!                                 state      learn     vlan
//!                                 vlan       lookup    isolate     observe: mirror, drop samples
//!                                 acl        flood     acl, mtu
//! ```
//!
//! * The **judges** (`ingress`, `bridge`, `egress`) are pure functions of a parsed frame, the [`snapshot::Snapshot`] and
//!   the MAC table. They run when a flow is new or its generation is stale; what they said is kept in the flow entry.
//!   Run on every frame, without the cache, they are the cache's oracle.
//! * What has state per frame (counters, meter) is in `account` and `flow` and runs on every frame.
//! * `observe` looks at frames and never touches them.
//!
//! Threads: one or more [`worker::Worker`]s, each with its own buffers, flows, counters and a handle of every port. They share
//! the MAC table, which one of them writes and the others read without a lock. [`control::Control`] talks to them by
//! messages and by one pointer, the current snapshot. On the road there is no allocation, no lock, no log line, and no system call but `rx` and `tx`.
//!
//! What it never does: read a clock below the worker's edge, speak a control protocol, know a name, or trust a length that
//! a guest wrote.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod account;
pub mod bridge;
pub mod coalesce;
pub mod config;
pub mod control;
mod current;
pub mod egress;
pub mod emit;
mod exchange;
pub mod flow;
pub mod frame;
pub mod ingress;
mod job;
pub mod judge;
pub mod observe;
pub mod offload;
pub mod parse;
pub mod plan;
pub mod port;
mod readiness;
pub mod road;
pub mod snapshot;
mod socket;
mod sync;
pub mod table;
pub mod time;
pub mod verdict;
pub mod wire;
pub mod worker;
