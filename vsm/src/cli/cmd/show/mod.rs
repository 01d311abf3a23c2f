//! The `show` and `clear` commands, a file per feature.
//!
//! Each command gathers (the model, the inventory, what the modules answer) and then renders by a pure function, so that
//! the tests need no modules: what they render is under `tests/show/`, where parsers of other projects can be tried on it.

pub mod aaa;
pub mod accounting;
pub mod acl;
pub mod audit;
pub mod checkpoint;
pub mod clear;
pub mod configuration;
pub mod draft;
pub mod drops;
pub mod environment;
pub mod feature;
pub mod flow;
pub mod flow_cache;
pub mod flow_reconciliation;
mod flow_seen;
pub mod flow_store;
pub mod flow_top;
pub mod gather;
pub mod history;
pub mod impact;
pub mod interface;
pub mod interface_table;
pub mod link;
pub mod log;
pub mod mac;
pub mod module;
pub mod monitor;
pub mod neighbors;
pub mod ntp;
pub mod nxapi;
pub mod port_profile;
pub mod resources;
pub mod role;
pub mod routed;
pub mod sampler;
pub mod snmp;
pub mod ssh;
pub mod svs;
pub mod tech_support;
pub mod terminal;
pub mod trunk;
pub mod user_account;
pub mod users;
pub mod version;
pub mod vlan;

#[cfg(test)]
pub mod sample;

use super::by_file;
use crate::cli::tree::{Command, Mode, Run};

/// The commands of each file of this folder, with its name.
pub fn files() -> Vec<(&'static str, Vec<Command>)> {
    by_file![
        aaa::commands(),
        accounting::commands(),
        acl::commands(),
        audit::commands(),
        checkpoint::commands(),
        clear::commands(),
        configuration::commands(),
        draft::commands(),
        drops::commands(),
        environment::commands(),
        feature::commands(),
        flow::commands(),
        flow_cache::commands(),
        flow_reconciliation::commands(),
        flow_store::commands(),
        flow_top::commands(),
        history::commands(),
        interface::commands(),
        interface_table::commands(),
        link::commands(),
        log::commands(),
        mac::commands(),
        module::commands(),
        monitor::commands(),
        neighbors::commands(),
        ntp::commands(),
        nxapi::commands(),
        port_profile::commands(),
        resources::commands(),
        role::commands(),
        routed::commands(),
        sampler::commands(),
        snmp::commands(),
        ssh::commands(),
        svs::commands(),
        tech_support::commands(),
        terminal::commands(),
        user_account::commands(),
        users::commands(),
        version::commands(),
        vlan::commands(),
    ]
}

/// An EXEC command that has no `no`.
fn exec(syntax: &'static str, help: &'static str, words: &'static [(&'static str, &'static str)], run: Run) -> Command {
    Command { modes: &[Mode::Exec], syntax, help, words, no: None, run }
}
