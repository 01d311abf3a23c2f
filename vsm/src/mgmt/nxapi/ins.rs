//! The dialect of `ins_api`: commands in one text, separated by ` ;`.
//!
//! ```text
//!   {"ins_api":{"version":"1.0","type":"cli_show","chunk":"0","sid":"1","input":"show hostname","output_format":"json"}}
//!   {"ins_api":{"type":"cli_show","version":"1.0","sid":"eoc","outputs":{"output":{"input":"show hostname",
//!               "msg":"Success","code":"200","body":{"hostname":"switch"}}}}}
//! ```
//!
//! One command gives an object, several a list. HTTP's status is 200 whatever comes of the commands, each has a code of
//! its own; a request that can't be read is 400. XML is not spoken.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::engine::{After, COMMANDS_MAX, Engine, Failure, Form, Outcome, Scope};

/// Content type of the answers.
pub const KIND: &str = "application/json";

/// What a request asks.
#[derive(PartialEq, Eq, Debug)]
struct Request<'a> {
    kind: &'a str,
    version: String,
    form: Form,
    scope: Scope,
    after: After,
    commands: Vec<&'a str>,
}

fn parse(request: &Value) -> Result<Request<'_>, (u16, String)> {
    let wrong = |why: &str| (400, format!("Request message is invalid: {why}"));
    let fields = request.get("ins_api").filter(|fields| fields.is_object()).ok_or_else(|| wrong("no ins_api"))?;
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    // Numbers are also written as such.
    let written = |key: &str| fields.get(key).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    let kind = text("type").ok_or_else(|| wrong("no type"))?;
    let (form, scope) = match kind {
        "cli_show" => (Form::Structured, Scope::Shows),
        "cli_show_array" => (Form::Lists, Scope::Shows),
        "cli_show_ascii" => (Form::Text, Scope::Shows),
        "cli_conf" => (Form::Structured, Scope::Configures),
        _ => return Err(wrong("type is cli_show, cli_show_array, cli_show_ascii or cli_conf")),
    };
    if !matches!(text("output_format"), Some("json") | None) {
        return Err(wrong("output_format is json; XML is not spoken"));
    }
    if !matches!(written("chunk").as_deref(), Some("0") | None) {
        return Err(wrong("chunk is 0; answers are not cut"));
    }
    let after = text("rollback").map_or(Some(After::Stop), After::parse);
    let after = after.ok_or_else(|| wrong("rollback is stop-on-error or continue-on-error; checkpoints roll back"))?;
    let input = text("input").ok_or_else(|| wrong("no input"))?;
    let commands: Vec<&str> = input.split(" ;").map(str::trim).filter(|command| !command.is_empty()).collect();
    match commands.len() {
        0 => Err((400, "No input command".to_owned())),
        1..=COMMANDS_MAX => {
            let version = written("version").unwrap_or_else(|| "1.0".to_owned());
            Ok(Request { kind, version, form, scope, after, commands })
        }
        _ => Err((413, format!("Request message is invalid: more than {COMMANDS_MAX} commands"))),
    }
}

/// What is answered to a request that can't be read.
pub fn invalid(code: u16, why: &str) -> (StatusCode, Value) {
    let output = json!({ "code": code.to_string(), "msg": why });
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    (status, json!({ "ins_api": { "outputs": { "output": output } } }))
}

/// Answers a request.
pub fn answer(request: &Value, engine: &mut Engine) -> (StatusCode, Value) {
    let Request { kind, version, form, scope, after, commands } = match parse(request) {
        Ok(request) => request,
        Err((code, why)) => return invalid(code, &why),
    };
    engine.set_after(after);
    let mut outputs: Vec<Value> = commands.iter().map(|command| output(command, form, scope, engine)).collect();
    let outputs = if outputs.len() == 1 { outputs.remove(0) } else { Value::Array(outputs) };
    let answer = json!({ "type": kind, "version": version, "sid": "eoc", "outputs": { "output": outputs } });
    (StatusCode::OK, json!({ "ins_api": answer }))
}

fn output(command: &str, form: Form, scope: Scope, engine: &mut Engine) -> Value {
    match engine.run(command, form, scope) {
        Ok(outcome) => {
            let body = match outcome {
                Outcome::Shown(body) => body,
                Outcome::Done(text) if text.is_empty() => json!({}),
                Outcome::Done(text) => Value::String(text),
            };
            json!({ "input": command, "msg": "Success", "code": "200", "body": body })
        }
        Err(failure) => {
            let (code, message) = match &failure {
                Failure::Refused(_) | Failure::NoLine => ("400", "Input CLI command error".to_owned()),
                Failure::Denied(_) => ("401", "Permission denied".to_owned()),
                Failure::Unstructured | Failure::NoConfiguration | Failure::NoShow => ("501", failure.to_string()),
                Failure::Skipped => ("500", "Backend processing error".to_owned()),
                Failure::TooMuch => ("413", "Response size is too large".to_owned()),
            };
            json!({ "input": command, "msg": message, "code": code, "clierror": format!("{failure}\n") })
        }
    }
}
