//! The commands: grammar and handlers, a file per feature; what a feature shows is in `show`.

pub mod acl;
pub mod checkpoint;
pub mod draft;
pub mod feature;
pub mod files;
pub mod flow;
pub mod flow_monitor;
pub mod interface;
pub mod mac;
pub mod monitor;
pub mod port;
pub mod profile;
pub mod rule;
pub mod session;
pub mod show;
pub mod source;
pub mod svs;
pub mod system;
pub mod target;
pub mod user;
pub mod vlan;

use super::tree::Command;

/// All commands.
pub fn all() -> Vec<Command> {
    [
        session::commands(),
        system::commands(),
        files::commands(),
        checkpoint::commands(),
        draft::commands(),
        user::commands(),
        feature::commands(),
        vlan::commands(),
        profile::commands(),
        interface::commands(),
        port::commands(),
        acl::commands(),
        mac::commands(),
        flow::commands(),
        monitor::commands(),
        svs::commands(),
        show::commands(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
