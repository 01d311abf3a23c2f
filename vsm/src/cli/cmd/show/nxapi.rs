//! `show nxapi`

use time::OffsetDateTime;

use super::exec;
use crate::cli::render::{Output, leaves};
use crate::cli::tree::Command;
use crate::supervisor::NxapiFacts;

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![exec("show nxapi", "Display whether there is NX-API, and where", &[("nxapi", "NX-API")], |session, _| {
        Ok(nxapi(session.handle.nxapi().as_deref()))
    })]
}

/// The server is configured at start, in `vsm.toml`.
pub fn nxapi(facts: Option<&NxapiFacts>) -> Output {
    let Some(facts) = facts else {
        return Output::with_json("nxapi disabled\n", leaves([("operation_status", "nxapi disabled")]));
    };
    let NxapiFacts { listen, fingerprint, expires } = facts;
    let expires = OffsetDateTime::from(*expires).date();
    let text = format!(
        "nxapi enabled\nHTTPS Listen on {listen}\nCertificate Information:\n    SHA-256 fingerprint: {fingerprint}\n    \
         Expires: {expires}\n"
    );
    let cells = [
        ("operation_status", "nxapi enabled".to_owned()),
        ("https_address", listen.ip().to_string()),
        ("https_port", listen.port().to_string()),
        ("cert_fingerprint", fingerprint.clone()),
        ("cert_expires", expires.to_string()),
    ];
    Output::with_json(text, leaves(cells))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let fingerprint = (0..32).map(|n| format!("{n:02X}")).collect::<Vec<_>>().join(":");
        let facts = NxapiFacts { listen: ([192, 0, 2, 1], 443).into(), fingerprint, expires: sample::now() };
        sample::check("nxapi", &nxapi(Some(&facts)));
        assert_eq!(nxapi(None).text, "nxapi disabled\n");
    }
}
