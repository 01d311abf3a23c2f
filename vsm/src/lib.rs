//! The supervisor: configuration, command line, modules, store.
#![forbid(unsafe_code)]

pub mod aaa;
pub mod args;
pub mod autonomous;
pub mod bootstrap;
pub mod capture;
pub mod cli;
pub mod config;
pub mod enroll;
pub mod folder;
pub mod history;
pub mod lifecycle;
pub mod load;
pub mod log;
pub mod mgmt;
pub mod module;
pub mod snmp;
pub mod store;
pub mod supervisor;
