//! The documents name what the code has.

use std::fs;
use std::path::Path;

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
