//! The server, with OpenSSH's own client at the other end. Without that client there is nothing to test, and the tests
//! say so.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::config::model::Model;
use crate::config::role::{NETWORK_ADMIN, NETWORK_OPERATOR};
use crate::config::user::User;
use crate::mgmt::runtime::Runtime;

const PASSWORD: &str = "correct|horse-7";

struct World {
    folder: tempfile::TempDir,
    handle: Handle,
    runtime: Runtime,
    server: Server,
}

fn has_client() -> bool {
    let has = |program| Command::new(program).arg("-V").stderr(Stdio::null()).status().is_ok();
    let is_there = has("ssh");
    if !is_there {
        eprintln!("skipped: OpenSSH's client is not installed");
    }
    is_there
}

fn world(most: usize, minute: Duration) -> Option<World> {
    if !has_client() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let secret = crate::aaa::secret::hash("", PASSWORD).unwrap();
    let user = |role| User::of(role, Some(secret.clone()));
    let mut model = Model::default();
    model.users.insert("admin".into(), user(NETWORK_ADMIN));
    model.users.insert("ops".into(), user(NETWORK_OPERATOR));
    model.users.insert("keyless".into(), User { secret: None, ..user(NETWORK_ADMIN) });
    let handle = Handle::detached(model);
    let ssh = Ssh { listen: ([127, 0, 0, 1], 0).into(), admin_password_file: None, host_keys: vec![HostKey::Ed25519] };
    let sessions = Sessions::with_minute(handle.clone(), most, minute);
    let state_dir = folder.path().join("state");
    let (server, task) = open_with(&ssh, &state_dir, handle.clone(), Failures::default(), sessions).unwrap();
    let runtime = Runtime::start(vec![task]).unwrap();
    let askpass = folder.path().join("askpass");
    fs::write(&askpass, "#!/bin/sh\nprintf '%s\\n' \"$PASSWORD\"\n").unwrap();
    fs::set_permissions(&askpass, fs::Permissions::from_mode(0o700)).unwrap();
    Some(World { folder, handle, runtime, server })
}

fn usual() -> Option<World> {
    world(SESSIONS_MAX, Duration::from_secs(60))
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The client's command line, for a user with a password.
    fn ssh(&self, user: &str, password: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["30", "ssh", "-F", "/dev/null", "-p", &self.server.address().port().to_string(), "-l", user]);
        let known = format!("UserKnownHostsFile={}", self.path("known").display());
        for option in ["StrictHostKeyChecking=accept-new", &known, "IdentityAgent=none", "LogLevel=INFO"] {
            command.args(["-o", option]);
        }
        command.env("SSH_ASKPASS", self.path("askpass")).env("SSH_ASKPASS_REQUIRE", "force").env("PASSWORD", password);
        command.args(["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"]);
        command.stdin(Stdio::null());
        command
    }

    /// Runs one command line by the exec channel: what is printed, what is complained of, and the exit status.
    fn exec(&self, user: &str, line: &str) -> (String, String, i32) {
        finish(self.ssh(user, PASSWORD).args(["127.0.0.1", line]))
    }

    fn logged(&self, text: &str) -> usize {
        self.handle.log().last(usize::MAX).iter().filter(|line| line.contains(text)).count()
    }
}

fn finish(command: &mut Command) -> (String, String, i32) {
    let output = command.output().unwrap();
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

/// A session at a terminal, which begins with the prompt.
fn shell(world: &World) -> Child {
    let mut command = world.ssh("admin", PASSWORD);
    command.args(["-tt", "127.0.0.1"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut prompt = [0; 10];
    child.stdout.as_mut().unwrap().read_exact(&mut prompt).unwrap();
    assert_eq!(&prompt, b"\r\nswitch# ");
    child
}

#[test]
fn commands_print_and_have_an_exit_status() {
    let Some(world) = usual() else { return };
    let (text, _, status) = world.exec("admin", "show version");
    assert!(text.contains("system:") && !text.contains('#') && !text.contains('\r'), "{text}");
    assert_eq!(status, 0);
    let (text, _, status) = world.exec("admin", "conf t ; vlan 20 ; name web ; end ; show vlan id 20 | include web");
    assert!(text.contains("web") && status == 0, "{text}");
    let (text, _, status) = world.exec("admin", "show frob");
    assert_eq!((text.as_str(), status), ("     ^\n% Invalid command at '^' marker.\n", 1));
    let (text, _, status) = finish(world.ssh("admin", PASSWORD).args(["-tt", "127.0.0.1", "show hostname"]));
    assert_eq!((text.as_str(), status), ("switch\r\n", 0));
    let (_, said, status) = finish(world.ssh("admin", PASSWORD).args(["-s", "127.0.0.1", "sftp"]));
    assert!(said.contains("subsystem request failed") && status != 0, "{said}");
    assert_eq!(world.logged("%SSH-6-LOGIN: User admin logged in from 127.0.0.1 by password"), 5);
}

#[test]
fn a_terminal_is_the_consoles() {
    let Some(world) = usual() else { return };
    let mut child = shell(&world);
    // Everything is typed ahead, with each kind of line end.
    let typed =
        "terminal width 511\nterminal length 0\r\nshow hostname\rconfigure terminal\nhostname n1\nend\n\0\nexit\n";
    child.stdin.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let want = "terminal width 511\nswitch# terminal length 0\nswitch# show hostname\nswitch\nswitch# configure terminal\n\
                Enter configuration commands, one per line.  End with CNTL/Z.\nswitch(config)# hostname n1\n\
                n1(config)# end\nn1# \nn1# exit\n";
    assert_eq!(text.replace("\r\n", "\n"), want);
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_window_has_the_size_of_the_clients() {
    let Some(world) = usual() else { return };
    let port = world.server.address().port();
    let known = world.path("known");
    let ssh = format!(
        "stty rows 5 cols 100; ssh -F /dev/null -p {port} -l admin -o StrictHostKeyChecking=accept-new -o \
         UserKnownHostsFile={} -o PubkeyAuthentication=no -o IdentityAgent=none 127.0.0.1",
        known.display()
    );
    let mut command = world.ssh("admin", PASSWORD);
    let environment: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.unwrap().to_owned())).collect();
    command = Command::new("timeout");
    command.args(["30", "script", "-qec", &ssh, "/dev/null"]).envs(environment);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return };
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains("# ") {
        let count = stdout.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    stdin.write_all(b"show terminal\rexit\r").unwrap();
    stdout.read_to_string(&mut text).unwrap();
    assert!(text.contains("Length: 5 lines, Width: 100 columns"), "{text}");
}

#[test]
fn who_does_not_know_the_password_stays_outside() {
    let Some(world) = usual() else { return };
    for (user, password) in [("admin", "wrong"), ("admin", ""), ("nobody", PASSWORD), ("keyless", ""), ("keyless", "!")]
    {
        let (text, said, status) = finish(world.ssh(user, password).args(["127.0.0.1", "show version"]));
        assert_eq!((text.as_str(), status), ("", 255), "{user}");
        assert!(said.contains("Permission denied"), "{said}");
    }
    assert_eq!(world.logged("%SSH-4-LOGIN_FAILED: Login of 'nobody' from 127.0.0.1 by password failed"), 1);
    // The attempts of a connection are counted.
    let many = world.ssh("admin", "wrong");
    let before = world.logged("LOGIN_FAILED");
    let mut command = Command::new("timeout");
    command.args(many_prompts(&many)).envs(many.get_envs().map(|(k, v)| (k, v.unwrap()))).stdin(Stdio::null());
    let (_, said, status) = finish(command.arg("127.0.0.1"));
    assert_eq!(status, 255, "{said}");
    assert_eq!(world.logged("LOGIN_FAILED") - before, limits::ATTEMPTS_MAX - 1, "{said}");
}

/// The arguments with twenty prompts in place of one.
fn many_prompts(command: &Command) -> Vec<String> {
    let text = |argument: &std::ffi::OsStr| argument.to_string_lossy().into_owned();
    let swap = |a: String| if a == "NumberOfPasswordPrompts=1" { "NumberOfPasswordPrompts=20".to_owned() } else { a };
    command.get_args().map(text).map(swap).collect()
}

fn keygen(path: &Path, kind: &str, bits: &str) -> String {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-b", bits, "-N", "", "-C", "a comment", "-f"]).arg(path);
    assert!(command.status().unwrap().success());
    fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned()
}

#[test]
fn a_key_lets_its_user_in() {
    let Some(world) = usual() else { return };
    let with_key = |user: &str, key: &Path| {
        let mut command = world.ssh(user, "wrong");
        let arguments: Vec<String> = command
            .get_args()
            .map(|a| a.to_string_lossy().replace("PubkeyAuthentication=no", "IdentitiesOnly=yes"))
            .collect();
        command = Command::new("timeout");
        command.args(arguments).arg("-i").arg(key).args([
            "-o",
            "PasswordAuthentication=no",
            "127.0.0.1",
            "show hostname",
        ]);
        finish(command.stdin(Stdio::null()))
    };
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256"), ("rsa", "2048")] {
        let path = world.path(kind);
        let public = keygen(&path, kind, bits);
        assert_eq!(with_key("keyless", &path).2, 255, "{kind}");
        let mut session = crate::cli::session::Session::new(world.handle.clone());
        session.run_line("configure terminal");
        let printed = session.run_line(&format!("username keyless sshkey {public}"));
        assert!(!session.has_failed(), "{printed}");
        assert_eq!((with_key("keyless", &path).0, with_key("ops", &path).2), ("switch\n".to_owned(), 255), "{kind}");
    }
    assert_eq!(world.logged("User keyless logged in from 127.0.0.1 by publickey"), 3);
}

#[test]
fn an_operator_looks_and_changes_nothing() {
    let Some(world) = usual() else { return };
    let (text, _, status) = world.exec("ops", "configure terminal ; vlan 30");
    assert_eq!(status, 1);
    assert!(text.starts_with("% Permission denied for the role\n"), "{text}");
    assert!(world.handle.model().vlans.len() == 1);
    let (text, _, status) = world.exec("ops", "show running-config | include username");
    assert!(status == 0 && text.contains("username ops password 5 ******** role network-operator"), "{text}");
    assert!(!text.contains("argon2"), "{text}");
    let (text, _, _) = world.exec("admin", "show running-config | include username");
    assert!(text.contains("username ops password 5 $argon2id$"), "{text}");
    let (text, _, _) = world.exec("ops", "show users");
    assert!(text.lines().any(|line| line.starts_with("ops ") && line.ends_with("(127.0.0.1) session=ssh *")), "{text}");
}

#[test]
fn there_is_an_end_to_sessions_and_to_silence() {
    let Some(world) = world(1, Duration::from_millis(200)) else { return };
    let mut child = shell(&world);
    let (text, _, status) = world.exec("admin", "show version");
    assert_eq!((text.as_str(), status), ("ERROR: too many sessions\r\n", 1));
    // Half an hour of silence, with minutes of 0.2 s.
    let begun = Instant::now();
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(child.wait().unwrap().success());
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(world.exec("admin", "show hostname").0, "switch\n");
}

#[test]
fn strangers_are_few() {
    let Some(world) = usual() else { return };
    let connect = || {
        let stream = TcpStream::connect(world.server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    };
    let greeting = |mut stream: &TcpStream| {
        let mut octets = [0; 9];
        stream.read(&mut octets).unwrap_or(0)
    };
    let waiting: Vec<TcpStream> = (0..limits::SSH.waiting_of_address).map(|_| connect()).collect();
    assert!(waiting.iter().all(|stream| greeting(stream) == 9));
    assert_eq!(greeting(&connect()), 0, "one more is closed without a word");
    drop(waiting);
    let begun = Instant::now();
    while world.exec("admin", "show hostname").0 != "switch\n" {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn stopping_ends_the_sessions() {
    let Some(world) = usual() else { return };
    let mut child = shell(&world);
    assert!(world.handle.ssh().is_some());
    drop(world.runtime);
    drop(world.server);
    assert!(!child.wait().unwrap().success());
    assert!(world.handle.ssh().is_none());
}

/// A commit that locks its own author out comes back by itself, and so does he.
#[test]
fn a_trial_that_cuts_its_own_session_ends_in_time() {
    let Some(world) = usual() else { return };
    let patience = Duration::from_secs(3);
    let mut child = shell(&world);
    let typed = "configure session own\nusername spare password A-secret-7 role network-admin\nno username admin\n";
    child.stdin.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
    let begun = Instant::now();
    while world.handle.lifecycle().drafts.get("own").is_none_or(|draft| draft.lines.len() < 2) {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    let committed = Instant::now();
    // Minutes at the prompt.
    world.handle.commit("own", Some(patience)).unwrap();
    child.stdin.as_mut().unwrap().write_all(b"show hostname\n").unwrap();
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert!(rest.contains("% Permission denied for the role") && child.wait().unwrap().success(), "{rest}");
    assert_eq!(world.exec("admin", "show hostname").2, 255, "nobody of that name");
    while world.handle.lifecycle().trial.waiting().is_some() {
        assert!(committed.elapsed() < 5 * patience);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(committed.elapsed() >= patience);
    assert_eq!(world.exec("admin", "show hostname"), ("switch\n".into(), String::new(), 0));
    assert_eq!(world.logged("COMMIT_REVERTED"), 1);
}
