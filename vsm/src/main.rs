//! The `vsm` binary.

use std::error::Error;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing_subscriber::EnvFilter;
use vsm::aaa::initial;
use vsm::args::{Args, Command};
use vsm::bootstrap::Bootstrap;
use vsm::cli::console;
use vsm::config::user::ADMIN;
use vsm::lifecycle::startup::{self, Start};
use vsm::mgmt;
use vsm::store;
use vsm::supervisor::Supervisor;

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Run { config } => run(&config).map(|()| ExitCode::SUCCESS),
        Command::Cli { socket, commands } => console::attach(&socket, commands).map_err(Into::into),
        Command::Enroll { config, host, ttl } => enroll(&config, host.as_deref(), ttl).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("vsm: {error}");
        ExitCode::FAILURE
    })
}

fn run(config: &Path) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // First of all, so that no moment is left in which a signal would end us in the middle of something.
    let mut signals = signals()?;
    let boot = Bootstrap::open(config)?;
    let Start { mut model, text, refused } = startup::load(&boot)?;
    let own_file = boot.ssh.as_ref().and_then(|ssh| ssh.admin_password_file.as_deref());
    if (boot.ssh.is_some() || boot.nxapi.is_some())
        && let Some(path) = initial::add(&mut model, own_file, &boot.state_dir)?
    {
        tracing::warn!("the first administrator is '{ADMIN}', with the password in {}", path.display());
    }
    let supervisor = Supervisor::start(&boot, model, text.clone())?;
    match (refused, text) {
        (Some(why), _) => {
            let text = format!("startup-config is not used: {why}. The last good one runs");
            supervisor.handle().log().write("VSHD", 2, "STARTUP_REFUSED", &text);
        }
        (None, Some(text)) => supervisor.handle().lifecycle().startup.keep_good(&text)?,
        (None, None) => {}
    }
    if let Some(directory) = boot.cli_socket.parent().filter(|p| !p.as_os_str().is_empty()) {
        store::make_directory(directory)?;
    }
    let console = console::serve(&boot.cli_socket, supervisor.handle())
        .map_err(|e| format!("{}: {e}", boot.cli_socket.display()))?;
    let snmp = boot.snmp.as_ref().map(|snmp| vsm::snmp::serve(snmp, supervisor.handle())).transpose()?;
    let management = mgmt::serve(&boot, &supervisor.handle())?;
    if let Some(listen) = supervisor.handle().facts().listen {
        tracing::info!("domain {}: agents at {listen}, console at {}", boot.domain, boot.cli_socket.display());
    }
    let failed = wait(&mut signals, &supervisor)?;
    if let Some(snmp) = snmp {
        snmp.stop();
    }
    drop(management);
    console.stop();
    supervisor.stop();
    if failed { Err("the supervisor's thread has failed".into()) } else { Ok(()) }
}

/// Octets arrive here with SIGTERM and SIGINT.
fn signals() -> std::io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(Duration::from_secs(1)))?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    Ok(ours)
}

/// Waits for a signal; `true` when the supervisor has ended by itself.
fn wait(signals: &mut UnixStream, supervisor: &Supervisor) -> std::io::Result<bool> {
    loop {
        match signals.read(&mut [0]) {
            Ok(_) => return Ok(false),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                if supervisor.has_ended() {
                    return Ok(true);
                }
            }
            Err(e) => return Err(e),
        }
    }
}

fn enroll(config: &Path, host: Option<&str>, ttl: u32) -> Result<(), Box<dyn Error>> {
    let boot = Bootstrap::open(config)?;
    println!("{}", vsm::enroll::issue(&boot, host, ttl)?);
    let whose = host.map(|h| format!("host {h}")).unwrap_or_else(|| "one host".to_owned());
    eprintln!("Good once, for {whose}, for {ttl} minutes. On the host: vem enroll --token TOKEN --config vem.toml");
    Ok(())
}
