//! Tables and trees, as NX-OS text or JSON.

/// What a command prints: text, and the same as JSON where it is a table.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Output {
    /// NX-OS text, lines ended by `\n`; empty prints nothing.
    pub text: String,
    /// What `| json` prints; every leaf is a string, as on NX-OS. `None`: the command has no JSON form.
    pub json: Option<serde_json::Value>,
}

impl Output {
    /// Prints nothing.
    pub fn none() -> Self {
        Output::default()
    }

    /// Text without a JSON form.
    pub fn text(text: impl Into<String>) -> Self {
        Output { text: text.into(), json: None }
    }
}
