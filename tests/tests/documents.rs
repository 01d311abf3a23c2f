//! The documents name what the code has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proto::metrics::{Family, PROCESS, SHARED};
use vem::metrics::page::AGENT;
use vswitch::verdict::DropReason;

#[test]
fn limits_name_every_drop_reason_with_its_meaning() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/limits.md");
    let text = fs::read_to_string(path).expect("docs/limits.md");
    let rows: Vec<&str> = text.lines().filter(|l| l.starts_with("| `")).collect();
    for reason in DropReason::ALL {
        let row = format!("| `{}` | {} |", reason.name(), reason.text());
        assert!(rows.contains(&row.as_str()), "docs/limits.md lacks the line\n{row}");
    }
    assert_eq!(rows.len(), DropReason::COUNT, "docs/limits.md names a reason that does not exist");
}

/// Every metric that the supervisor and the agents have.
fn metrics() -> BTreeSet<&'static str> {
    let of = |families: &'static [Family]| families.iter().map(|family| family.name);
    let all = of(&SHARED).chain(of(&PROCESS)).chain(of(&vsm::mgmt::metrics::SUPERVISOR)).chain(of(&AGENT));
    all.collect()
}

/// The words of a text that are names of metrics.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("vswitch_") || word.starts_with("process_")).collect()
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grafana/vswitch.json");
    let dashboard: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path).expect("the dashboard")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("id")), "{}", panel["title"]);
        assert!(panel["gridPos"]["w"].is_u64() && panel["type"].is_string(), "{}", panel["title"]);
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty());
        for target in targets {
            let asked = named(target["expr"].as_str().expect("expr"));
            assert!(!asked.is_empty(), "{target}");
            assert!(asked.is_subset(&metrics()), "{target}");
        }
    }
    assert!(dashboard["schemaVersion"].is_u64() && dashboard["uid"].is_string() && panels.len() > 10);
    let variables = dashboard["templating"]["list"].to_string();
    assert!(named(&variables).is_subset(&metrics()) && variables.contains("label_values"));
}

#[test]
fn the_page_on_metrics_names_each() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = fs::read_to_string(path).expect("docs/metrics.md");
    let rows: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|n| n.contains('_'))
        .collect();
    assert_eq!(rows, metrics());
}
