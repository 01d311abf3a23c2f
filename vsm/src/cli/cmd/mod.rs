//! The commands: grammar and handlers, a file per feature; what a feature shows is in `show`.

pub mod aaa;
pub mod acl;
pub mod checkpoint;
pub mod debug;
pub mod draft;
pub mod erspan;
pub mod ethanalyzer;
pub mod feature;
pub mod files;
pub mod flow;
pub mod flow_exporter;
pub mod flow_meter;
pub mod flow_monitor;
pub mod flow_sampler;
pub mod golden;
pub mod interface;
pub mod line;
pub mod logging;
pub mod mac;
pub mod monitor;
pub mod port;
pub mod profile;
pub mod role;
pub mod rule;
pub mod server;
pub mod session;
pub mod show;
pub mod source;
pub mod svs;
pub mod system;
pub mod target;
pub mod trace;
pub mod user;
pub mod vemcmd;
pub mod vlan;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::tree::Command;

/// The commands of each file, with its name.
macro_rules! by_file {
    ($($file:ident::commands(),)*) => { vec![$((stringify!($file), $file::commands()),)*] };
}
use by_file;

/// All commands.
pub fn all() -> Vec<Command> {
    files().into_iter().flat_map(|(_, commands)| commands).collect()
}

fn files() -> Vec<(&'static str, Vec<Command>)> {
    let mut files = own_files();
    files.extend(show::files());
    files
}

/// Files of `show` whose feature has another name.
const NAMED: &[(&str, &str)] = &[
    ("flow_cache", "flow"),
    ("sampler", "flow"),
    ("log", "logging"),
    ("interface_table", "interface"),
    ("port_profile", "profile"),
    ("user_account", "user"),
    // A session is one feature, wherever its copies go.
    ("erspan", "monitor"),
];

static FEATURES: LazyLock<HashMap<(&'static [super::tree::Mode], &'static str), &'static str>> = LazyLock::new(|| {
    let name = |file| NAMED.iter().find(|(other, _)| *other == file).map_or(file, |(_, name)| *name);
    let of = |(file, commands): (&'static str, Vec<Command>)| {
        commands.into_iter().map(move |command| ((command.modes, command.syntax), name(file)))
    };
    files().into_iter().flat_map(of).collect()
});

/// The feature of a command, for the rules of roles: the file that declares it.
pub fn feature_of(command: &Command) -> &'static str {
    FEATURES.get(&(command.modes, command.syntax)).copied().unwrap_or_default()
}

/// The features, each with its number of commands.
pub fn features() -> std::collections::BTreeMap<&'static str, usize> {
    let mut features = std::collections::BTreeMap::new();
    FEATURES.values().for_each(|name| *features.entry(*name).or_default() += 1);
    features
}

fn own_files() -> Vec<(&'static str, Vec<Command>)> {
    by_file![
        session::commands(),
        system::commands(),
        files::commands(),
        checkpoint::commands(),
        draft::commands(),
        role::commands(),
        ethanalyzer::commands(),
        trace::commands(),
        debug::commands(),
        golden::commands(),
        user::commands(),
        logging::commands(),
        server::commands(),
        aaa::commands(),
        feature::commands(),
        vlan::commands(),
        profile::commands(),
        interface::commands(),
        port::commands(),
        acl::commands(),
        mac::commands(),
        flow::commands(),
        monitor::commands(),
        erspan::commands(),
        svs::commands(),
        line::commands(),
        vemcmd::commands(),
    ]
}
