//! The command line of `vsm`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The supervisor of a distributed virtual switch.
#[derive(Parser, Debug)]
#[command(name = "vsm", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Runs the supervisor in the foreground until SIGTERM or SIGINT
    Run {
        /// Configuration file (vsm.toml)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Opens the console of a running supervisor
    Cli {
        /// Socket of the supervisor (cli_socket of vsm.toml)
        #[arg(long, value_name = "PATH", default_value = crate::bootstrap::CLI_SOCKET)]
        socket: PathBuf,
        /// Commands to run instead of a dialogue, separated by " ; "
        #[arg(short = 'c', value_name = "COMMANDS")]
        commands: Option<String>,
    },
    /// Prints a one-time join token for a host: treat it as a password
    Enroll {
        /// Configuration file (vsm.toml)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The only host that may use the token
        #[arg(long, value_name = "NAME")]
        host: Option<String>,
        /// Minutes until the token is worth nothing
        #[arg(long, value_name = "MINUTES", default_value_t = 60)]
        ttl: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_forms() {
        use clap::CommandFactory;
        Args::command().debug_assert();
        let parse = |line: &str| Args::try_parse_from(line.split(' ')).map(|args| args.command);
        assert!(matches!(parse("vsm run --config f"), Ok(Command::Run { .. })));
        assert!(matches!(parse("vsm cli"), Ok(Command::Cli { commands: None, .. })));
        assert!(matches!(parse("vsm cli --socket s -c show"), Ok(Command::Cli { commands: Some(_), .. })));
        assert!(matches!(parse("vsm enroll --config f --host h --ttl 5"), Ok(Command::Enroll { ttl: 5, .. })));
        assert!(parse("vsm enroll").is_err());
        assert!(parse("vsm run --config f --colour").is_err());
    }
}
