//! The words and the messages that the supervisor (VSM) and the agents (VEMs) share.
//!
//! ```text
//!            words                              messages                    session
//!  addr  name  vlan  acl  flow   ──▶  config  report  query  msg   ──▶   bytes ⇄ events
//! ```
//!
//! * **Words** are small value types whose invalid values cannot be built: a [`addr::VlanId`] is 1-4094, a
//!   [`name::IfName`] parses what an NX-OS hand types. The dataplane library uses the words and nothing else of this crate.
//! * **Messages** are numbered-field CBOR (minicbor). A field number is never reused and a field added later is optional,
//!   so every message ever shipped stays decodable; the files under `golden/` prove it.
//! * The **session** turns bytes into messages and back, keeps the heartbeat, and never touches a socket or a clock.
//!
//! No I/O, no clock, no unsafe: everything here is a pure function of its arguments.
#![forbid(unsafe_code)]

pub mod acl;
pub mod addr;
pub mod capture;
pub mod codec;
pub mod config;
pub mod flow;
pub mod metrics;
pub mod msg;
pub mod name;
pub mod passage;
pub mod query;
pub mod report;
pub mod session;
pub mod token;
pub mod vemcmd;
pub mod vlan;
