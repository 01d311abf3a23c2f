//! The dialects over a detached switch, and the server with a client of our own at the other end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use super::*;
use crate::config::model::Model;
use crate::config::role::{NETWORK_ADMIN, NETWORK_OPERATOR};
use crate::config::user::User;
use crate::mgmt::limits::{ATTEMPTS_MAX, HTTP};
use crate::mgmt::runtime::Runtime;
use crate::module::authority;

const PASSWORD: &str = "correct|horse-7";

fn model() -> Model {
    let secret = crate::aaa::secret::hash("", PASSWORD).unwrap();
    let user = |role| User::of(role, Some(secret.clone()));
    let mut model = Model { hostname: "n1".into(), ..Model::default() };
    model.users.insert("admin".into(), user(NETWORK_ADMIN));
    model.users.insert("ops".into(), user(NETWORK_OPERATOR));
    model
}

fn said_by(handle: &Handle, user: &str, body: &str, is_rpc: bool) -> (u16, Value) {
    let visitor = Visitor { user: Some(user.into()), from: Some([192, 0, 2, 7].into()), ..Visitor::default() };
    let (status, _, text) = respond(body.as_bytes(), is_rpc, || Engine::new(handle.clone(), visitor));
    (status.as_u16(), serde_json::from_str(&text).unwrap())
}

fn rpc(handle: &Handle, user: &str, method: &str, commands: &[&str]) -> (u16, Value) {
    let one = |(id, cmd): (usize, &&str)| json!({"jsonrpc": "2.0", "method": method, "params": {"cmd": cmd, "version": 1}, "id": id + 1});
    let all: Vec<Value> = commands.iter().enumerate().map(one).collect();
    said_by(handle, user, &Value::Array(all).to_string(), true)
}

fn ins(handle: &Handle, user: &str, kind: &str, input: &str) -> (u16, Value) {
    let body = json!({"ins_api": {"version": "1.0", "type": kind, "chunk": "0", "sid": "1", "input": input, "output_format": "json"}});
    let (status, mut answer) = said_by(handle, user, &body.to_string(), false);
    (status, answer["ins_api"]["outputs"]["output"].take())
}

#[test]
fn json_rpc_shows_in_each_form() {
    let handle = Handle::detached(model());
    let hostname = json!({"hostname": "n1"});
    let (status, answer) = rpc(&handle, "ops", "cli", &["show hostname", "show vlan brief"]);
    assert_eq!((status, &answer[0]), (200, &json!({"jsonrpc": "2.0", "result": {"body": hostname}, "id": 1})));
    assert!(answer[1]["result"]["body"]["TABLE_vlanbriefxbrief"]["ROW_vlanbriefxbrief"].is_object());
    let (_, answer) = rpc(&handle, "ops", "cli_array", &["show vlan brief"]);
    assert!(answer[0]["result"]["body"][0]["TABLE_vlanbriefxbrief"][0]["ROW_vlanbriefxbrief"][0].is_object());
    let (_, answer) = rpc(&handle, "ops", "cli_ascii", &["show hostname", "show version | include system:"]);
    assert_eq!(answer[0]["result"], json!({"msg": "n1\n"}));
    assert!(answer[1]["result"]["msg"].as_str().unwrap().starts_with("  system:"));
    let (_, answer) = rpc(&handle, "ops", "cli", &["show hostname | json", "show version | no-more"]);
    assert_eq!(answer[0]["result"]["body"], hostname);
    assert!(answer[1]["result"]["body"]["sys_ver_str"].is_string());
    // A single object is answered by one; ids are kept.
    for id in [json!("a"), json!(7), json!(null)] {
        let one = json!({"jsonrpc": "2.0", "method": "cli", "params": {"cmd": "show hostname"}, "id": id});
        let (_, answer) = said_by(&handle, "ops", &one.to_string(), true);
        assert_eq!(answer, json!({"jsonrpc": "2.0", "result": {"body": hostname}, "id": id}));
    }
    assert!(handle.logins().open().is_empty());
}

#[test]
fn json_rpc_configures_in_one_stack_of_modes() {
    let handle = Handle::detached(model());
    let lines = ["vlan 20", "name web", "no vlan 1", "show vlan id 20 | include web"];
    let (status, answer) = rpc(&handle, "admin", "cli", &lines[..2]);
    assert_eq!((status, &answer[0]["result"], &answer[1]["result"]), (200, &Value::Null, &Value::Null));
    assert!(handle.model().vlans.values().any(|vlan| vlan.own_name.as_deref() == Some("web")));
    let recorded = rpc(&handle, "admin", "cli_ascii", &["show accounting log"]).1.to_string();
    assert!(
        recorded.contains("192.0.2.7@nxapi:user=admin:cmd=configure terminal ; vlan 20 ; name web (SUCCESS)"),
        "{recorded}"
    );
    // Behind a failure nothing is carried out: it might be meant for what was not entered.
    let (status, answer) = rpc(&handle, "admin", "cli", &["vlan 21", "frob", "name lost", "show hostname"]);
    assert_eq!((status, answer[0]["result"].clone()), (500, Value::Null));
    let error = &answer[1]["error"];
    assert_eq!((&error["code"], &error["message"]), (&json!(-32602), &json!("Invalid params")));
    assert!(error["data"]["msg"].as_str().unwrap().contains("% Invalid command at '^' marker."));
    assert_eq!((&answer[2]["error"]["code"], &answer[3]["error"]["code"]), (&json!(-32000), &json!(-32000)));
    assert!(handle.model().vlans.values().all(|vlan| vlan.own_name.as_deref() != Some("lost")));
    // What only shows stops nothing, and who asks for it goes on.
    let (status, answer) = rpc(&handle, "admin", "cli", &["show vlan id 99", "show hostname"]);
    assert_eq!((status, &answer[1]["result"]["body"]["hostname"]), (500, &json!("n1")));
    let go_on = json!([
        {"jsonrpc": "2.0", "method": "cli", "params": {"cmd": "frob"}, "rollback": "continue-on-error", "id": 1},
        {"jsonrpc": "2.0", "method": "cli", "params": {"cmd": "vlan 22"}, "id": 2},
    ]);
    assert_eq!(said_by(&handle, "admin", &go_on.to_string(), true).1[1]["result"], Value::Null);
    // Warnings are not lost, and what EXEC mode does is done.
    let (_, answer) = rpc(
        &handle,
        "admin",
        "cli",
        &["configure terminal", "hostname n2", "end", "copy running-config startup-config", "vlan 23"],
    );
    assert!(answer[3]["result"]["msg"].as_str().unwrap().contains("omplete"), "{answer}");
    assert_eq!((handle.model().hostname.as_str(), &answer[4]["result"]), ("n2", &Value::Null));
}

#[test]
fn json_rpc_names_what_is_wrong() {
    let handle = Handle::detached(model());
    let code = |body: &str| {
        let (status, answer) = said_by(&handle, "admin", body, true);
        let answer = if answer.is_array() { answer[0].clone() } else { answer };
        assert!(answer["error"]["data"]["msg"].is_string() && answer["result"].is_null(), "{body}: {answer}");
        (status, answer["error"]["code"].as_i64().unwrap())
    };
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for bad in ["", "{", "[1", "\u{0}", "{\"a\":\"\\ud800\"}", deep.as_str()] {
        assert_eq!(code(bad), (400, -32700), "{bad:.20}");
    }
    for bad in ["[]", "7", "null", "\"x\""] {
        assert_eq!(code(bad), (400, -32600), "{bad}");
    }
    for bad in [json!([7]), json!([{}]), json!([{"jsonrpc": "1.0", "method": "cli"}]), json!([{"jsonrpc": "2.0"}])] {
        assert_eq!(code(&bad.to_string()), (500, -32600), "{bad}");
    }
    assert_eq!(
        code(&json!([{"jsonrpc": "2.0", "method": "bash", "params": {"cmd": "id"}}]).to_string()),
        (500, -32601)
    );
    let long = "x".repeat(100_000);
    let cmd = |cmd: Value| json!([{"jsonrpc": "2.0", "method": "cli", "params": {"cmd": cmd}, "id": 1}]).to_string();
    for bad in [json!(""), json!(" "), json!(7), json!("show hostname\nshow version"), json!("a\u{0}b"), json!(long)] {
        assert_eq!(code(&cmd(bad.clone())), (500, -32602), "{bad:.20}");
    }
    assert_eq!(code(&json!([{"jsonrpc": "2.0", "method": "cli"}]).to_string()), (500, -32602));
    let back =
        json!([{"jsonrpc": "2.0", "method": "cli", "params": {"cmd": "vlan 9"}, "rollback": "rollback-on-error"}]);
    assert_eq!(code(&back.to_string()), (500, -32602));
    let (_, answer) = rpc(&handle, "admin", "cli", &["show running-config"]);
    assert_eq!(answer[0]["error"]["data"]["msg"], "Structured output unsupported\n");
    let many = vec!["show hostname"; engine::COMMANDS_MAX + 1];
    assert_eq!(rpc(&handle, "admin", "cli", &many).0, 400);
}

#[test]
fn an_operator_looks_and_is_told_no_secrets() {
    let handle = Handle::detached(model());
    let (status, answer) = rpc(&handle, "ops", "cli", &["vlan 20"]);
    assert_eq!((status, &answer[0]["error"]["data"]["msg"]), (500, &json!("% Permission denied for the role\n")));
    assert_eq!(ins(&handle, "ops", "cli_conf", "vlan 20 ;name x").1[0]["code"], "401");
    assert_eq!(handle.model().vlans.len(), 1);
    let text = |user| rpc(&handle, user, "cli_ascii", &["show running-config"]).1.to_string();
    assert!(text("admin").contains("argon2id") && !text("ops").contains("argon2"));
    // A user who is gone has nothing to look for, whatever he knows.
    assert_eq!(rpc(&handle, "gone", "cli_ascii", &["show running-config"]).0, 500);
}

#[test]
fn ins_api_shows_and_configures() {
    let handle = Handle::detached(model());
    let (status, output) = ins(&handle, "ops", "cli_show", "show hostname");
    assert_eq!(
        (status, output),
        (200, json!({"input": "show hostname", "msg": "Success", "code": "200", "body": {"hostname": "n1"}}))
    );
    let (_, output) = ins(&handle, "ops", "cli_show", "show hostname ;show vlan brief");
    assert!(output[1]["body"]["TABLE_vlanbriefxbrief"].is_object() && output.as_array().unwrap().len() == 2);
    assert_eq!(ins(&handle, "ops", "cli_show_array", "show hostname").1["body"][0]["hostname"], "n1");
    assert_eq!(ins(&handle, "ops", "cli_show_ascii", "show hostname").1["body"], "n1\n");
    let (_, output) = ins(&handle, "admin", "cli_conf", "vlan 20 ;name web ; exit");
    assert!(output.as_array().unwrap().iter().all(|one| one["code"] == "200" && one["body"] == json!({})), "{output}");
    assert!(handle.model().vlans.values().any(|vlan| vlan.own_name.as_deref() == Some("web")));
    let (_, output) = ins(&handle, "admin", "cli_conf", "vlan 20 ;frob ;name lost");
    let codes: Vec<&str> = output.as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["200", "400", "500"]);
    assert!(output[1]["clierror"].as_str().unwrap().contains("% Invalid command"), "{output}");
}

#[test]
fn ins_api_names_what_is_wrong() {
    let handle = Handle::detached(model());
    for (kind, input, code, message) in [
        ("cli_show", "show running-config", "501", "Structured output unsupported"),
        ("cli_show", "vlan 20", "501", "Show mode does not allow configuration"),
        ("cli_conf", "show hostname", "501", "Configuration mode does not allow show"),
        ("cli_show_ascii", "show frob", "400", "Input CLI command error"),
    ] {
        let (status, output) = ins(&handle, "admin", kind, input);
        assert_eq!((status, &output["code"], &output["msg"]), (200, &json!(code), &json!(message)), "{input}");
    }
    assert_eq!(handle.model().vlans.len(), 1);
    for (kind, input, what) in [("cli_show", " ; ", "No input command"), ("bash", "id", "type is cli_show")] {
        let (status, output) = ins(&handle, "admin", kind, input);
        assert!(status == 400 && output["msg"].as_str().unwrap().contains(what), "{output}");
    }
    let with = |fields: Value| {
        let mut all = json!({"version": 1, "type": "cli_show", "input": "show hostname"});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        said_by(&handle, "admin", &json!({ "ins_api": all }).to_string(), false).0
    };
    assert_eq!((with(json!({})), with(json!({"chunk": 0}))), (200, 200));
    for bad in [json!({"output_format": "xml"}), json!({"chunk": "1"}), json!({"input": 7}), json!({"type": null})] {
        assert_eq!(with(bad.clone()), 400, "{bad}");
    }
    let (status, answer) = said_by(&handle, "admin", "<?xml version=\"1.0\"?><ins_api/>", false);
    assert!(status == 415 && answer.to_string().contains("XML is not spoken"), "{answer}");
    for bad in ["{", "", "{\"ins_api\":"] {
        assert_eq!(said_by(&handle, "admin", bad, false).0, 400);
    }
    assert_eq!(said_by(&handle, "admin", "{\"ins_api\":7}", false).0, 400);
}

struct World {
    _runtime: Runtime,
    folder: tempfile::TempDir,
    handle: Handle,
    server: Server,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let handle = Handle::detached(model());
    let nxapi = Nxapi { listen: ([127, 0, 0, 1], 0).into(), certificate: None, key: None };
    let (server, task) = open(&nxapi, folder.path(), handle.clone(), Failures::default()).unwrap();
    World { _runtime: Runtime::start(vec![task]).unwrap(), folder, handle, server }
}

type Client = StreamOwned<ClientConnection, TcpStream>;

impl World {
    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// A client that trusts the certificate in the state directory, and nothing else.
    fn client(&self) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder.path().join(certificate::FILE)).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(authority::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), self.tcp())
    }

    fn logged(&self, text: &str) -> usize {
        self.handle.log().last(usize::MAX).iter().filter(|line| line.contains(text)).count()
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
}

fn request(user: &str, password: &str, body: &str) -> String {
    format!(
        "POST /ins HTTP/1.1\r\nHost: switch\r\nAuthorization: Basic {}\r\nContent-Type: application/json-rpc\r\nContent-Length: {}\r\n\r\n{body}",
        basic(user, password),
        body.len(),
    )
}

const SHOW: &str = r#"[{"jsonrpc":"2.0","method":"cli","params":{"cmd":"show hostname","version":1},"id":1}]"#;

/// One answer: status, head, body. A connection that ends gives status 0.
fn read(client: &mut impl Read) -> (u16, String, String) {
    let mut octets = Vec::new();
    let mut piece = [0; 4096];
    let mut want = usize::MAX;
    while octets.len() < want {
        match client.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(count) => octets.extend_from_slice(&piece[..count]),
        }
        let text = String::from_utf8_lossy(&octets).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            want = head.len() + 4 + length.and_then(|l| l.parse().ok()).unwrap_or(0);
        }
    }
    let text = String::from_utf8_lossy(&octets).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, head.to_owned(), body.to_owned())
}

fn ask(client: &mut Client, text: &str) -> (u16, String, String) {
    let _ = client.write_all(text.as_bytes());
    read(client)
}

#[test]
fn a_connection_serves_request_after_request() {
    let world = world();
    let mut client = world.client();
    for _ in 0..20 {
        let (status, _, body) = ask(&mut client, &request("ops", PASSWORD, SHOW));
        assert_eq!((status, body.as_str()), (200, r#"[{"jsonrpc":"2.0","result":{"body":{"hostname":"n1"}},"id":1}]"#));
    }
    assert_eq!(world.logged("%NXAPI-6-LOGIN: User ops logged in from 127.0.0.1"), 1);
    assert_eq!(ask(&mut client, "GET /ins HTTP/1.1\r\nHost: s\r\n\r\n").0, 405);
    assert_eq!(ask(&mut client, "POST /other HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\n\r\n").0, 404);
    assert!(world.handle.nxapi().is_some());
    drop(world.server);
    assert!(world.handle.nxapi().is_none());
}

#[test]
fn who_is_not_known_is_told_nothing() {
    let world = world();
    let mut client = world.client();
    let (status, head, _) = ask(&mut client, "POST /ins HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\n\r\n");
    assert!(status == 401 && head.to_ascii_lowercase().contains("www-authenticate: basic realm="), "{head}");
    for (user, password) in [("ops", "wrong"), ("nobody", PASSWORD), ("ops", ""), ("ops\0", PASSWORD)] {
        assert_eq!(ask(&mut world.client(), &request(user, password, SHOW)).0, 401, "{user}");
    }
    assert_eq!(world.logged("%NXAPI-4-LOGIN_FAILED: Login of 'ops' from 127.0.0.1 by password failed"), 2);
    // So many attempts have a connection.
    let answers: Vec<u16> = (0..=ATTEMPTS_MAX).map(|_| ask(&mut client, &request("ops", "wrong", SHOW)).0).collect();
    assert_eq!((answers[ATTEMPTS_MAX - 1], answers[ATTEMPTS_MAX]), (401, 0));
}

#[test]
fn a_remembered_password_ends_with_its_user() {
    let world = world();
    let mut client = world.client();
    assert_eq!(ask(&mut client, &request("ops", PASSWORD, SHOW)).0, 200);
    let begun = Instant::now();
    (0..10).for_each(|_| assert_eq!(ask(&mut client, &request("ops", PASSWORD, SHOW)).0, 200));
    eprintln!("ten requests with a remembered password: {:?}", begun.elapsed());
    assert_eq!(ask(&mut client, &request("ops", "correct|horse-8", SHOW)).0, 401);
    let gone: crate::supervisor::Change = Box::new(|model| {
        model.users.remove("ops");
        Ok(Vec::new())
    });
    world.handle.edit(gone).unwrap();
    assert_eq!(ask(&mut client, &request("ops", PASSWORD, SHOW)).0, 401);
    assert_eq!(ask(&mut client, &request("admin", PASSWORD, SHOW)).0, 200);
}

#[test]
fn bodies_come_in_every_way_and_are_bounded() {
    let world = world();
    let head = |more: &str, version: &str| {
        let who = basic("ops", PASSWORD);
        format!("POST /ins HTTP/{version}\r\nHost: s\r\nAuthorization: Basic {who}\r\n{more}\r\n\r\n")
    };
    let (first, rest) = SHOW.split_at(30);
    let chunked = format!(
        "{}{:x}\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
        head("Transfer-Encoding: chunked", "1.1"),
        first.len(),
        rest.len()
    );
    assert_eq!(ask(&mut world.client(), &chunked).0, 200);
    let old = format!("{}{SHOW}", head(&format!("Content-Length: {}", SHOW.len()), "1.0"));
    assert_eq!(ask(&mut world.client(), &old).0, 200);
    assert_eq!(ask(&mut world.client(), &head("Content-Length: 1048577", "1.1")).0, 413);
    let endless = format!(
        "{}{}",
        head("Transfer-Encoding: chunked", "1.1"),
        "10000\r\n".to_owned() + &"x".repeat(65536) + "\r\n"
    );
    let mut client = world.client();
    client.write_all(endless.as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65536));
    for _ in 0..20 {
        if client.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    assert!(matches!(read(&mut client).0, 413 | 0));
    let full = "x".repeat(BODY_MAX);
    assert_eq!(
        ask(&mut world.client(), &format!("{}{full}", head(&format!("Content-Length: {BODY_MAX}"), "1.1"))).0,
        400
    );
    for bad in ["\0\0\0\0\r\n\r\n", "POST\r\n\r\n", "POST /ins HTTP/9\r\n\r\n", "\u{ff}\u{fe} / HTTP/1.1\r\n\r\n"] {
        assert!(matches!(ask(&mut world.client(), bad).0, 400 | 0 | 401), "{bad:?}");
    }
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    assert!(matches!(ask(&mut world.client(), &head(many.trim_end(), "1.1")).0, 400 | 431));
    let long = format!("X: {}", "y".repeat(64 << 10));
    assert!(matches!(ask(&mut world.client(), &head(&long, "1.1")).0, 431 | 0));
    // Invalid UTF-8 in a body is no JSON.
    let mut client = world.client();
    client.write_all(head("Content-Length: 3\r\nContent-Type: application/json-rpc", "1.1").as_bytes()).unwrap();
    client.write_all(b"\"\xff\"").unwrap();
    assert!(read(&mut client).2.contains("-32700"));
    assert_eq!(ask(&mut world.client(), &request("ops", PASSWORD, SHOW)).0, 200);
}

#[test]
fn strangers_are_few_and_the_known_come_in() {
    let world = world();
    let mut known: Vec<Client> = (0..3).map(|_| world.client()).collect();
    known.iter_mut().for_each(|client| assert_eq!(ask(client, &request("ops", PASSWORD, SHOW)).0, 200));
    // A thousand strangers from one address: few are kept, and those who are known go on.
    let strangers: Vec<TcpStream> = (0..1000).filter_map(|_| TcpStream::connect(world.server.address()).ok()).collect();
    let begun = Instant::now();
    let is_open = |mut stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        matches!(stream.read(&mut [0]), Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    };
    let mut open = strangers.iter().filter(|stream| is_open(stream)).count();
    while open > HTTP.waiting_of_address && begun.elapsed() < Duration::from_secs(20) {
        open = strangers.iter().filter(|stream| is_open(stream)).count();
    }
    assert!(open <= HTTP.waiting_of_address, "{open}");
    known.iter_mut().for_each(|client| assert_eq!(ask(client, &request("ops", PASSWORD, SHOW)).0, 200));
    drop(strangers);
    let begun = Instant::now();
    while ask(&mut world.client(), &request("ops", PASSWORD, SHOW)).0 != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn many_at_a_time_are_all_answered() {
    let world = world();
    let clients = 6;
    let barrier = Barrier::new(clients);
    std::thread::scope(|scope| {
        for n in 0..clients {
            let (world, barrier) = (&world, &barrier);
            scope.spawn(move || {
                let mut client = world.client();
                barrier.wait();
                for k in 0..10 {
                    let line = format!("vlan {}", 100 + n * 10 + k);
                    let body =
                        json!([{"jsonrpc": "2.0", "method": "cli", "params": {"cmd": line}, "id": k}]).to_string();
                    assert_eq!(ask(&mut client, &request("admin", PASSWORD, &body)).0, 200);
                }
            });
        }
    });
    assert_eq!(world.handle.model().vlans.len(), 1 + clients * 10);
}
