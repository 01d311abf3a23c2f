//! The command line of `vem`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bootstrap::DEFAULT_SOCKET;
use crate::request::vhost::Role;
use crate::request::{Driver, Kind, Request};

/// The agent of a host of the distributed virtual switch, and its local commands.
#[derive(Debug, Parser)]
#[command(name = "vem", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent
    Run {
        /// Configuration file (vem.toml)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Attach a device as a port
    Attach(Attach),
    /// Detach a port
    Detach {
        /// Which port.
        #[command(flatten)]
        which: Which,
        /// Where the agent is.
        #[command(flatten)]
        agent: Agent,
    },
    /// Show the ports of this host
    Ports {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Where the agent is.
        #[command(flatten)]
        agent: Agent,
    },
    /// Local diagnosis, read only: vem cmd "show card"
    Cmd {
        /// The command
        #[arg(required = true)]
        words: Vec<String>,
        /// Where the agent is.
        #[command(flatten)]
        agent: Agent,
    },
    /// Obtain this host's certificate with a join token
    Enroll {
        /// Token that `vsm enroll` has printed
        #[arg(long)]
        token: String,
        /// Configuration file (vem.toml)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Where the agent is.
#[derive(Debug, Args)]
pub struct Agent {
    /// Socket of the agent
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
}

/// Which port.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// By its device
    #[arg(long, value_name = "IF")]
    pub device: Option<String>,
    /// By its card, such as web1/0
    #[arg(long, value_name = "ID")]
    pub nic: Option<String>,
}

/// A port to attach.
#[derive(Debug, Args)]
pub struct Attach {
    /// Port profile
    #[arg(long, value_name = "NAME")]
    pub profile: String,
    /// Device; for vhost-user any name
    #[arg(long, value_name = "IF")]
    pub device: String,
    /// tap: the agent makes and holds it; netdev: it exists; vhost-user: a guest's rings, by a socket [default: tap, for an
    /// uplink netdev]
    #[arg(long)]
    pub kind: Option<Kind>,
    /// What drives an existing device: packet sockets, AF_XDP, or what is best [default: auto]
    #[arg(long)]
    pub driver: Option<Driver>,
    /// A tap without offloads
    #[arg(long)]
    pub plain: bool,
    /// Network namespace that the device is (or is to be made) in: a name as in `ip netns`, or a path
    #[arg(long, value_name = "NAME|PATH")]
    pub netns: Option<String>,
    /// Name of the VM [default: the device's]
    #[arg(long, value_name = "NAME")]
    pub vm: Option<String>,
    /// Number of the VM's card [default: 0]
    #[arg(long, value_name = "N")]
    pub nic: Option<u32>,
    /// Address of the VM's card
    #[arg(long)]
    pub mac: Option<String>,
    /// The port is the uplink with this card number (1-32)
    #[arg(long, value_name = "CARD")]
    pub uplink: Option<u8>,
    /// Socket of a vhost-user port
    #[arg(long)]
    pub path: Option<String>,
    /// server: the agent listens and QEMU connects; client: the reverse [default: server]
    #[arg(long)]
    pub role: Option<Role>,
    /// Queue pairs of a vhost-user port (1-8) [default: 1]
    #[arg(long, value_name = "N")]
    pub queues: Option<u16>,
    /// Rights of the socket that the agent makes [default: 0660]
    #[arg(long, value_name = "OCTAL")]
    pub mode: Option<String>,
    /// User and group of the socket that the agent makes, by number [default: the agent's]
    #[arg(long, value_name = "UID:GID")]
    pub owner: Option<String>,
    #[command(flatten)]
    agent: Agent,
}

impl Attach {
    /// The request, and the socket it goes to.
    pub fn split(self) -> (Request, PathBuf) {
        let Attach {
            profile,
            device,
            kind,
            driver,
            plain,
            netns,
            vm,
            nic,
            mac,
            uplink,
            path,
            role,
            queues,
            mode,
            owner,
            agent,
        } = self;
        let request = Request {
            profile,
            device,
            kind,
            driver,
            plain,
            netns,
            vm,
            nic,
            mac,
            uplink,
            path,
            role,
            queues,
            mode,
            owner,
        };
        (request, agent.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let parse = |line: &str| Cli::try_parse_from(line.split_whitespace());
        assert!(
            parse("vem attach --profile p --device tap0 --kind netdev --driver xdp --vm v --nic 1 --netns n").is_ok()
        );
        assert!(parse("vem attach --profile p --device tap0 --driver dpdk").is_err());
        let guest = "vem attach --profile p --device web1 --kind vhost-user --path /s --role client --queues 2";
        assert!(parse(guest).is_ok());
        assert!(parse("vem attach --profile p --device web1 --kind vhostuser --path /s").is_err());
        assert!(parse("vem detach --device a").is_ok());
        assert!(parse("vem detach").is_err());
        assert!(parse("vem detach --device a --nic b/0").is_err());
        assert!(parse("vem attach --device a").is_err());
        assert!(parse("vem cmd show drops").is_ok());
    }
}
