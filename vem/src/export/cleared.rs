//! Counts of exporters since somebody cleared them.
//!
//! The counters themselves go on: metrics and the statistics that collectors get must not fall. What is shown is the difference.

use std::collections::BTreeMap;

use proto::report::ExporterRow;

/// The counts that exporters had when they were cleared, by exporter and destination.
#[derive(Debug, Default)]
pub struct Cleared(BTreeMap<(String, String), ExporterRow>);

impl Cleared {
    /// The exporter of that name, or all, counts from here.
    pub fn clear(&mut self, rows: Vec<ExporterRow>, name: Option<&str>) {
        self.0.retain(|key, _| rows.iter().any(|row| key_of(row) == *key));
        let wanted = rows.into_iter().filter(|row| name.is_none_or(|name| row.name == name));
        self.0.extend(wanted.map(|row| (key_of(&row), row)));
    }

    /// What has been counted since.
    pub fn since(&self, mut rows: Vec<ExporterRow>) -> Vec<ExporterRow> {
        for row in &mut rows {
            if let Some(then) = self.0.get(&key_of(row))
                && let Some(since) = difference(row, then)
            {
                *row = since;
            }
        }
        rows
    }
}

fn key_of(row: &ExporterRow) -> (String, String) {
    (row.name.clone(), row.destination.clone())
}

/// `None` when the counters are others: a destination that went and came again counts from zero.
fn difference(now: &ExporterRow, then: &ExporterRow) -> Option<ExporterRow> {
    let errors = match (now.errors, then.errors) {
        (Some(now), Some(then)) => Some(now.checked_sub(then)?),
        (errors, _) => errors,
    };
    Some(ExporterRow {
        datagrams: now.datagrams.checked_sub(then.datagrams)?,
        records: now.records.checked_sub(then.records)?,
        templates: now.templates.checked_sub(then.templates)?,
        octets: now.octets.checked_sub(then.octets)?,
        failed_datagrams: now.failed_datagrams.checked_sub(then.failed_datagrams)?,
        failed_records: now.failed_records.checked_sub(then.failed_records)?,
        not_exportable: now.not_exportable.checked_sub(then.not_exportable)?,
        last_error: now.last_error.clone().filter(|error| errors != Some(0) || then.last_error.as_ref() != Some(error)),
        errors,
        ..now.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, datagrams: u64) -> ExporterRow {
        let (errors, last_error) = (Some(datagrams / 10), Some("refused".to_owned()));
        ExporterRow {
            name: name.into(),
            destination: "d".into(),
            datagrams,
            errors,
            last_error,
            ..ExporterRow::default()
        }
    }

    fn shown(cleared: &Cleared, rows: [ExporterRow; 2]) -> Vec<(u64, Option<u64>, bool)> {
        let rows = cleared.since(rows.into()).into_iter();
        rows.map(|row| (row.datagrams, row.errors, row.last_error.is_some())).collect()
    }

    #[test]
    fn one_or_all_count_from_zero_and_the_others_go_on() {
        let mut cleared = Cleared::default();
        cleared.clear(vec![row("a", 20), row("b", 30)], Some("a"));
        assert_eq!(shown(&cleared, [row("a", 25), row("b", 31)]), [(5, Some(0), false), (31, Some(3), true)]);
        assert_eq!(shown(&cleared, [row("a", 30), row("b", 31)])[0], (10, Some(1), true));
        cleared.clear(vec![row("a", 30), row("b", 31)], None);
        assert_eq!(shown(&cleared, [row("a", 30), row("b", 35)]), [(0, Some(0), false), (4, Some(0), false)]);
    }

    #[test]
    fn a_destination_that_came_again_counts_what_it_has() {
        let mut cleared = Cleared::default();
        cleared.clear(vec![row("a", 20), row("b", 30)], None);
        assert_eq!(shown(&cleared, [row("a", 3), row("b", 30)]), [(3, Some(0), true), (0, Some(0), false)]);
        cleared.clear(Vec::new(), None);
        assert!(cleared.0.is_empty(), "nothing is kept of what is gone");
    }
}
