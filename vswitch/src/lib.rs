//! The dataplane of a distributed virtual switch.

pub mod account;
pub mod bridge;
pub mod config;
pub mod control;
pub mod egress;
pub mod flow;
pub mod frame;
pub mod ingress;
pub mod observe;
pub mod offload;
pub mod parse;
pub mod port;
pub mod snapshot;
pub mod table;
pub mod time;
pub mod verdict;
pub mod wire;
pub mod worker;
