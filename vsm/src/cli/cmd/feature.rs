//! What other switches of the kind let one choose, and this one does not: each may be said, and only as it is.
//!
//! A configuration that was printed by a switch can so be pasted back whole.

use crate::cli::render::Output;
use crate::cli::tree::{Args, Command, Error, Mode, Run};

const WORDS: &[(&str, &str)] = &[
    ("feature", "Features that are switched on"),
    ("netflow", "Flow export; always on"),
    ("system", "Settings of the system"),
    ("default", "What an interface is unless configured"),
    ("switchport", "Every interface is a switch port"),
    ("shutdown", "Ports without a profile are shut in any case"),
    ("version", "Release that a pasted configuration is from"),
    ("release", "Release, such as 0.1.0; it changes nothing"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let config = |syntax, help, no, run: Run| Command { modes: &[Mode::Config], syntax, help, words: WORDS, no, run };
    let netflow = "feature netflow";
    let switchport = "system default switchport";
    let shut = "system default switchport shutdown";
    vec![
        config(netflow, "Flow export is always on; 'no' is refused", Some(netflow), |_, args| {
            always(args, "netflow is always enabled")
        }),
        config(switchport, "Every interface is a switch port; 'no' is refused", Some(switchport), |_, args| {
            always(args, "every interface is a switch port")
        }),
        config(shut, "Only 'no' is accepted: ports say it themselves", Some(shut), |_, args| {
            let why = "each port-profile and interface says 'shutdown' or 'no shutdown' itself";
            if args.negated { Ok(Output::none()) } else { Err(Error::Refused(why.to_owned())) }
        }),
        config("version <release:release>", "Release of a pasted configuration; it changes nothing", None, |_, _| {
            Ok(Output::none())
        }),
    ]
}

fn always(args: &Args, why: &str) -> Result<Output, Error> {
    // `default` in front of a command is the first of its words, and here the same as to say it.
    match args.negated && args.words.first() != Some(&"default") {
        true => Err(Error::Refused(why.to_owned())),
        false => Ok(Output::none()),
    }
}
