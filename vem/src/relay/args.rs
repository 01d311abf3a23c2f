//! The command line of `flow-relay`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Reliable, encrypted transport of flow records: takes what exporters send by UDP, keeps it while the other end is away,
/// and delivers it once, in order, to the collectors.
#[derive(Parser)]
#[command(name = "flow-relay", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Take datagrams from exporters, send them to a receiver
    Send(Run),
    /// Take datagrams from senders, send them to collectors
    Receive(Run),
    /// Print how a daemon of this host is, as JSON
    Status(Ask),
    /// Have the sender of this host connect now
    Retry {
        /// Directory of its socket
        #[arg(long, value_name = "DIR", default_value = "/run/flow-relay")]
        runtime_dir: PathBuf,
    },
    /// Make a key file
    Key {
        /// Where
        file: PathBuf,
    },
}

/// How a daemon runs.
#[derive(clap::Args)]
pub struct Run {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/flow-relay.toml")]
    pub config: PathBuf,
    /// Without TLS: everybody on the way can read and forge what is sent
    #[arg(long)]
    pub insecure: bool,
    /// Check the configuration and the keys, and end
    #[arg(long)]
    pub check: bool,
}

/// Which daemon is asked.
#[derive(clap::Args)]
pub struct Ask {
    /// Directory of its socket
    #[arg(long, value_name = "DIR", default_value = "/run/flow-relay")]
    pub runtime_dir: PathBuf,
    /// Of the receiver, not of the sender
    #[arg(long)]
    pub receiver: bool,
}
