//! The page: who talks to whom, in a browser.
//!
//! ```text
//!   GET /            ─▶ index.html ─▶ style.css, app.js ─▶ talk.js (rows to conversations), draw.js (hosts as pictures)
//!   POST /ins        ◀─ app.js, every 3 s, with the user's name and password: show commands as any client sends them
//! ```
//!
//! It is served where NX-API is ([`super::nxapi`]). The files are part of the program and the same for everybody, so they
//! are given without a login; what is drawn comes from show commands, under the rights of whoever logs in. Nothing is
//! loaded from elsewhere, and the browser is told to refuse it ([`POLICY`]). Passwords stay in the script's memory: there
//! is no cookie, so no other site can ask in the user's name.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};

use super::http::{Answer, reply};

/// What a browser may load and do.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, content type, text.
const FILES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    ("/page/style.css", "text/css; charset=utf-8", include_str!("style.css")),
    ("/page/app.js", "text/javascript; charset=utf-8", include_str!("app.js")),
    ("/page/talk.js", "text/javascript; charset=utf-8", include_str!("talk.js")),
    ("/page/draw.js", "text/javascript; charset=utf-8", include_str!("draw.js")),
];

/// The file at `path`, if the page has one there.
pub fn file(path: &str) -> Option<Answer> {
    let (_, kind, text) = FILES.iter().find(|(at, _, _)| *at == path)?;
    let mut answer = reply(StatusCode::OK, kind, *text);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // A new version of the switch has a new page.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::graph::Tree;
    use crate::cli::parse::parse;
    use crate::cli::tree::Mode;

    /// Whatever a file loads is another of them, and every command that it asks for is one.
    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for (path, _, text) in FILES {
            for (marker, quote) in
                [("src=\"", '"'), ("href=\"", '"'), ("from \"", '"'), ("fetch(\"", '"'), ("url(", ')')]
            {
                for found in text.split(marker).skip(1) {
                    let target = found.split(quote).next().unwrap_or_default();
                    let target = target.strip_prefix("./").map_or(target.to_owned(), |name| format!("/page/{name}"));
                    let is_ours =
                        FILES.iter().any(|(at, _, _)| *at == target) || target == "/ins" || target == "data:,";
                    assert!(is_ours, "{path} loads {target}");
                }
            }
            assert!(!text.replace("http://www.w3.org/2000/svg", "").contains("://"), "{path} names an address");
        }
    }

    #[test]
    fn every_command_that_it_asks_for_is_understood() {
        let script = include_str!("app.js");
        let commands = script.split_once("const COMMANDS = {").unwrap().1.split_once("};").unwrap().0;
        let mut count = 0;
        for line in commands.lines().filter_map(|line| line.split_once(": ")) {
            let command = line.1.trim_matches([',', '"', '`', ' ']).replace("${FLOWS}", "1000");
            assert!(matches!(parse(Tree::shared(), Mode::Exec, &command), Ok(Some(_))), "{command}");
            count += 1;
        }
        assert_eq!(count, 8);
    }
}
