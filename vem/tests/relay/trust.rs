//! Who does not prove who it is gets nothing, is named in both logs, and the datagrams wait.

use std::os::unix::fs::PermissionsExt;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::place::Place;

/// The daemons with these credentials do not come together; with good ones, what waited arrives.
fn refused(place: &Place, trust: [&str; 2], words: [&str; 2], good: &str) {
    place.write(place.receiver, "", trust);
    let (receiver, sender) = (place.receiver(), place.sender());
    place.export(1..=50);
    for (log, words) in ["send.log", "receive.log"].into_iter().zip(words) {
        place.until(words, || place.logged(log).contains(words));
    }
    let status = place.status(false);
    assert_eq!((&status["acknowledged"], &status["connected"]), (&0.into(), &false.into()));
    assert!(place.collected(0).is_empty());
    drop((receiver, sender));
    place.write(place.receiver, "", [good, good]);
    let _ends = (place.receiver(), place.sender());
    assert_eq!(place.collected(50), (1..=50).collect::<Vec<_>>());
    place.until("acknowledged", || place.status(false)["acknowledged"] == 50);
}

#[test]
fn a_wrong_shared_key_is_refused_and_the_data_are_kept() {
    let place = Place::new();
    let (good, other) = (place.shared("shared.key"), place.shared("other.key"));
    let words = ["the other end has another key", "the other end does not take our key"];
    refused(&place, [&other, &good], words, &good);
}

/// An authority and what it certifies.
struct Authority<'a> {
    place: &'a Place,
    name: &'static str,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl<'a> Authority<'a> {
    fn new(place: &'a Place, name: &'static str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(place.path(&format!("{name}.pem")), issuer.pem()).unwrap();
        Authority { place, name, issuer }
    }

    /// `[trust]` of an end with a certificate of this authority.
    fn certify(&self, name: &str, expired: bool, more: &str) -> String {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |what: &str| self.place.path(&format!("{}-{name}-{expired}.{what}", self.name));
        std::fs::write(path("pem"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        std::fs::set_permissions(path("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let authority = self.place.path(&format!("{}.pem", self.name));
        let [authority, certificate, key] =
            [authority, path("pem"), path("key")].map(|path| path.display().to_string());
        format!("authority = \"{authority}\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n{more}")
    }
}

#[test]
fn certificates_of_another_authority_expired_or_of_other_names_are_refused() {
    let name = "receiver_name = \"collector1\"";
    let not_ours = "does not take our key";
    type Case = fn(&Authority<'_>, &Authority<'_>) -> [String; 2];
    let cases: [(Case, [&str; 2]); 4] = [
        (
            |ours, other| {
                [other.certify("host1", false, "receiver_name = \"collector1\""), ours.certify("collector1", false, "")]
            },
            ["UnknownIssuer", not_ours],
        ),
        (
            |ours, _| {
                [ours.certify("host1", true, "receiver_name = \"collector1\""), ours.certify("collector1", false, "")]
            },
            [not_ours, "certificate expired"],
        ),
        (
            |ours, _| {
                [ours.certify("host1", false, "receiver_name = \"collector2\""), ours.certify("collector1", false, "")]
            },
            ["not valid for name", not_ours],
        ),
        (
            |ours, _| {
                [
                    ours.certify("host1", false, "receiver_name = \"collector1\""),
                    ours.certify("collector1", false, "senders = [\"host2\"]"),
                ]
            },
            ["not among the senders", "not among the senders"],
        ),
    ];
    for (case, words) in cases {
        let place = Place::new();
        let (ours, other) = (Authority::new(&place, "ours"), Authority::new(&place, "other"));
        let [sender, receiver] = case(&ours, &other);
        place_with(&place, &ours, [&sender, &receiver], words, name);
    }
}

fn place_with(place: &Place, ours: &Authority<'_>, trust: [&str; 2], words: [&str; 2], name: &str) {
    // One certificate with both names, for either end.
    let good = ours.certify("collector1", false, name);
    refused(place, trust, words, &good);
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_its_reason() {
    let place = Place::new();
    let good = place.shared("shared.key");
    place.write(place.receiver, "", [&good, &good]);
    let check = |which: &str| {
        let output = std::process::Command::new(super::place::BINARY)
            .args([which, "--check", "--config"])
            .arg(place.path(&format!("{which}.toml")))
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check("send"), (true, String::new()));
    assert_eq!(check("receive"), (true, String::new()));
    for (extra, reason) in [
        ("spool_mib = 0", "spool_mib = 0 is outside"),
        ("colour = 1", "unknown field `colour`"),
        ("memory_mib = 5000", "memory_mib = 5000 is outside 1-4096"),
    ] {
        place.write(place.receiver, extra, [&good, &good]);
        let (success, error) = check("send");
        assert!(!success && error.contains(reason), "{error}");
    }
    place.write(place.receiver, "", ["", "authority = \"/a\""]);
    assert!(check("send").1.contains("[trust] needs either shared_key"));
    assert!(check("receive").1.contains("[trust] needs either shared_key"));
    std::fs::set_permissions(place.path("shared.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    place.write(place.receiver, "", [&good, &good]);
    assert!(check("send").1.contains("others may read or write it"));
}
