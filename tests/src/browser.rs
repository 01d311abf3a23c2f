//! A browser without a screen: Chromium, driven by its own `chromedriver` as the WebDriver standard says (W3C).
//!
//! Keys are typed and buttons pressed as by a person: the page can't tell. The driver and its browser end with [`Browser`],
//! and both work in a folder of their own that goes with it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::command::Run;
use crate::error::{Error, Result, Tried};
use crate::process::{Process, spawn};

/// How long the driver may take to listen, and a page to show what is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser with one window.
pub struct Browser {
    driver: Process,
    at: String,
    folder: tempfile::TempDir,
}

impl Browser {
    /// Starts one with a window of that size. Certificates are not judged: the switch has made its own.
    ///
    /// # Errors
    /// There is no `chromedriver`, or it does not answer.
    pub fn start(width: u32, height: u32) -> Result<Browser> {
        let folder = tempfile::tempdir().tried("a folder for the browser")?;
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).tried("a free port")?.port();
        let log = folder.path().join("driver.log");
        let driver = spawn("chromedriver", None, &["chromedriver", &format!("--port={port}")], &log)?;
        let mut browser = Browser { driver, at: format!("http://127.0.0.1:{port}"), folder };
        let end = Instant::now() + PATIENCE;
        while browser.call("GET", "/status", None).is_err() {
            if Instant::now() > end || !browser.driver.alive() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::State(format!("chromedriver does not answer: {said}")));
            }
            thread::sleep(Duration::from_millis(100));
        }
        let profile = format!("--user-data-dir={}", browser.folder.path().join("profile").display());
        let size = format!("--window-size={width},{height}");
        // As root Chromium has no sandbox. The shared memory of a container may be too small for it.
        let args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", &profile, &size];
        let options = json!({ "acceptInsecureCerts": true, "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" } });
        let answer = browser.call("POST", "/session", Some(json!({ "capabilities": { "alwaysMatch": options } })))?;
        let id = answer["sessionId"].as_str().ok_or_else(|| Error::State(format!("no session: {answer}")))?;
        browser.at = format!("{}/session/{id}", browser.at);
        Ok(browser)
    }

    /// Sends a command of WebDriver; what it answers.
    fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let mut curl = Run::new("curl --silent --show-error --max-time 60 --request")
            .arg(method)
            .args("--header Content-Type:application/json")
            .limit(Duration::from_secs(70));
        if let Some(body) = body {
            curl = curl.arg("--data").arg(body.to_string());
        }
        let text = curl.arg(format!("{}{path}", self.at)).text()?;
        let answer: Value = serde_json::from_str(&text)
            .map_err(|e| Error::Unreadable { what: "chromedriver".to_owned(), reason: e.to_string() })?;
        match answer["value"]["error"].as_str() {
            Some(error) => Err(Error::State(format!("{path}: {error}: {}", answer["value"]["message"]))),
            None => Ok(answer["value"].clone()),
        }
    }

    /// Loads a page.
    pub fn open(&self, url: &str) -> Result<()> {
        self.call("POST", "/url", Some(json!({ "url": url }))).map(drop)
    }

    fn element(&self, selector: &str) -> Result<String> {
        let found = self.call("POST", "/element", Some(json!({ "using": "css selector", "value": selector })))?;
        let id = found.as_object().and_then(|o| o.values().next()).and_then(Value::as_str);
        id.map(str::to_owned).ok_or_else(|| Error::State(format!("no {selector}: {found}")))
    }

    /// Types a text into what the selector finds.
    pub fn type_into(&self, selector: &str, text: &str) -> Result<()> {
        let id = self.element(selector)?;
        self.call("POST", &format!("/element/{id}/value"), Some(json!({ "text": text }))).map(drop)
    }

    /// Presses what the selector finds.
    pub fn press(&self, selector: &str) -> Result<()> {
        let id = self.element(selector)?;
        self.call("POST", &format!("/element/{id}/click"), Some(json!({}))).map(drop)
    }

    /// The text that a person sees there; empty while it is hidden.
    pub fn text(&self, selector: &str) -> Result<String> {
        let id = self.element(selector)?;
        Ok(self.call("GET", &format!("/element/{id}/text"), None)?.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the text there is as wanted; the text, or an error that says what there was.
    pub fn wait_for(&self, selector: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.text(selector)?;
            if wanted(&text) {
                return Ok(text);
            }
            if Instant::now() > end {
                return Err(Error::State(format!("{selector} says {text:?}")));
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Lines of the browser's console that are errors: scripts that failed, loads that were refused.
    pub fn errors(&self) -> Result<Vec<String>> {
        let lines = self.call("POST", "/se/log", Some(json!({ "type": "browser" })))?;
        let is_error = |line: &&Value| line["level"] == "SEVERE";
        let found = lines.as_array().into_iter().flatten().filter(is_error);
        Ok(found.map(|line| line["message"].to_string()).collect())
    }

    /// Writes what the window shows as PNG.
    pub fn screenshot(&self, path: &Path) -> Result<()> {
        let encoded = self.call("GET", "/screenshot", None)?;
        let png = STANDARD.decode(encoded.as_str().unwrap_or_default());
        let png = png.map_err(|e| Error::State(format!("screenshot: {e}")))?;
        fs::write(path, png).tried(format!("{}", path.display()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser when its session ends; both are in the driver's hands.
        let _ = self.call("DELETE", "", None);
        self.driver.stop(Duration::from_secs(5));
    }
}
