//! Reading the switch's own `show` commands, by their JSON form.

use serde_json::Value;

use crate::error::Result;
use crate::lab::Lab;

/// Every object inside `value` that has all of the keys.
pub fn rows<'a>(value: &'a Value, keys: &[&str]) -> Vec<&'a Value> {
    let mut found = Vec::new();
    match value {
        Value::Object(object) => {
            if keys.iter().all(|k| object.contains_key(*k)) {
                found.push(value);
            }
            found.extend(object.values().flat_map(|v| rows(v, keys)));
        }
        Value::Array(list) => found.extend(list.iter().flat_map(|v| rows(v, keys))),
        _ => {}
    }
    found
}

/// A leaf as text.
pub fn text(row: &Value, key: &str) -> String {
    match row.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// A leaf as a number; 0 when it is none.
pub fn number(row: &Value, key: &str) -> u64 {
    text(row, key).replace(',', "").parse().unwrap_or(0)
}

/// Frames that an interface dropped for a reason.
pub fn drops(lab: &Lab, interface: &str, reason: &str) -> Result<u64> {
    let json = lab.console().json("show drops")?;
    let short = interface.replace("Vethernet", "Veth").replace("Ethernet", "Eth");
    let fits =
        |row: &&Value| text(row, "reason") == reason && [interface, &short].contains(&text(row, "interface").as_str());
    Ok(rows(&json, &["interface", "reason", "frames"]).into_iter().filter(fits).map(|r| number(r, "frames")).sum())
}

/// The rules of an access list as they are shown, each with its matches.
pub fn rules(lab: &Lab, acl: &str) -> Result<Vec<(String, u64)>> {
    // The text form is what other tools parse: `  10 permit … [match=12]`.
    let shown = lab.console().show(&format!("show access-lists {acl}"))?;
    let rule = |line: &str| {
        let line = line.trim();
        line.starts_with(|c: char| c.is_ascii_digit()).then_some(())?;
        let (text, count) = line.rsplit_once("[match=").unwrap_or((line, "0]"));
        Some((text.trim().to_owned(), count.trim_end_matches(']').parse().ok()?))
    };
    Ok(shown.lines().filter_map(rule).collect())
}

/// Matches of the rule with that number.
pub fn matches(lab: &Lab, acl: &str, sequence: u32) -> Result<u64> {
    let number = format!("{sequence} ");
    Ok(rules(lab, acl)?.into_iter().filter(|(text, _)| text.starts_with(&number)).map(|(_, n)| n).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_rows_at_any_depth() {
        let json = serde_json::json!({"TABLE": {"ROW": [{"a": "1", "b": "x"}, {"a": "2"}]}, "a": 3, "b": 4});
        let found = rows(&json, &["a", "b"]);
        assert_eq!(found.len(), 2);
        assert_eq!(found.iter().map(|r| number(r, "a")).sum::<u64>(), 4);
        assert_eq!(text(found[1], "b"), "x");
    }
}
