//! The dialect of JSON-RPC 2.0: one object, or an array of them, each with one command.
//!
//! ```text
//!   [{"jsonrpc":"2.0","method":"cli","params":{"cmd":"show hostname","version":1},"id":1}]
//!   [{"jsonrpc":"2.0","result":{"body":{"hostname":"switch"}},"id":1}]
//! ```
//!
//! `cli` gives JSON, `cli_array` the same in which tables and rows are lists, `cli_ascii` text. A command that configures
//! gives `null`, or what it warned of. HTTP's status is 500 when a command has failed, as on NX-OS.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::engine::{After, COMMANDS_MAX, Engine, Failure, Form, Outcome, Scope};

/// Content type of the answers.
pub const KIND: &str = "application/json-rpc";

/// An error, as the specification numbers it.
struct Fault {
    code: i32,
    message: &'static str,
    /// What exactly.
    detail: Option<String>,
}

impl Fault {
    fn new(code: i32, message: &'static str, detail: impl Into<Option<String>>) -> Self {
        Fault { code, message, detail: detail.into() }
    }

    fn request(detail: &str) -> Self {
        Fault::new(-32600, "Invalid request", detail.to_owned())
    }

    fn params(detail: impl Into<String>) -> Self {
        Fault::new(-32602, "Invalid params", detail.into())
    }

    fn response(self, id: Value) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(detail) = self.detail {
            error["data"] = json!({ "msg": detail });
        }
        json!({ "jsonrpc": "2.0", "error": error, "id": id })
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Skipped | Failure::TooMuch => Fault::new(-32000, "Server error", failure.to_string()),
            other => Fault::params(format!("{other}\n")),
        }
    }
}

/// What is answered to a body that is no JSON.
pub fn unreadable(why: &str) -> (StatusCode, Value) {
    let fault = Fault::new(-32700, "Parse error", why.to_owned());
    (StatusCode::BAD_REQUEST, fault.response(Value::Null))
}

/// Answers a request.
pub fn answer(request: Value, engine: &mut Engine) -> (StatusCode, Value) {
    let bad = |fault: Fault| (StatusCode::BAD_REQUEST, fault.response(Value::Null));
    let all: Vec<Value> = match request {
        Value::Array(all) if all.is_empty() => return bad(Fault::request("an empty array")),
        Value::Array(all) if all.len() > COMMANDS_MAX => {
            return bad(Fault::request(&format!("more than {COMMANDS_MAX} commands")));
        }
        Value::Array(all) => all,
        one @ Value::Object(_) => {
            let (succeeds, response) = respond(&one, engine);
            return (status(succeeds), response);
        }
        _ => return bad(Fault::request("neither an object nor an array")),
    };
    let answers: Vec<(bool, Value)> = all.iter().map(|one| respond(one, engine)).collect();
    let succeed = answers.iter().all(|(succeeds, _)| *succeeds);
    (status(succeed), Value::Array(answers.into_iter().map(|(_, response)| response).collect()))
}

fn status(succeeds: bool) -> StatusCode {
    if succeeds { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}

fn respond(one: &Value, engine: &mut Engine) -> (bool, Value) {
    let id = one.get("id").filter(|id| !id.is_object() && !id.is_array()).cloned().unwrap_or_default();
    match call(one, engine) {
        Ok(result) => (true, json!({ "jsonrpc": "2.0", "result": result, "id": id })),
        Err(fault) => (false, fault.response(id)),
    }
}

fn call(one: &Value, engine: &mut Engine) -> Result<Value, Fault> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    if !one.is_object() || text(one, "jsonrpc").as_deref() != Some("2.0") {
        return Err(Fault::request("it is no object with \"jsonrpc\": \"2.0\""));
    }
    let form = match text(one, "method").as_deref() {
        Some("cli") => Form::Structured,
        Some("cli_array") => Form::Lists,
        Some("cli_ascii") => Form::Text,
        Some(_) => return Err(Fault::new(-32601, "Method not found", "cli, cli_array or cli_ascii".to_owned())),
        None => return Err(Fault::request("no method")),
    };
    let params = one.get("params").ok_or_else(|| Fault::params("no params"))?;
    let command = text(params, "cmd").filter(|c| !c.trim().is_empty()).ok_or_else(|| Fault::params("no cmd"))?;
    if let Some(after) = one.get("rollback").or_else(|| params.get("rollback")) {
        let known = after.as_str().and_then(After::parse);
        let wrong = "rollback is stop-on-error or continue-on-error; checkpoints roll back";
        engine.set_after(known.ok_or_else(|| Fault::params(wrong))?);
    }
    Ok(match engine.run(&command, form, Scope::All)? {
        Outcome::Shown(text @ Value::String(_)) => json!({ "msg": text }),
        Outcome::Shown(body) => json!({ "body": body }),
        Outcome::Done(text) if text.is_empty() => Value::Null,
        Outcome::Done(text) => json!({ "msg": text }),
    })
}
