//! A report as a picture: for each metric the bars of its subjects, medians with the range of the rounds.

use std::path::{Path, PathBuf};

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::{Report, Row, figure, median, with_unit};
use crate::error::{Error, Result};

const WIDTH: u32 = 920;
const LEFT: i32 = 400;
const RIGHT: i32 = 150;
const BAR: i32 = 14;
const STEP: i32 = 20;
const TITLE: i32 = 34;
const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const PEER: RGBColor = RGBColor(0x9a, 0x9a, 0x9a);
const RANGE: RGBColor = RGBColor(0x20, 0x20, 0x20);

/// Draws a report into a folder; `None` when there is nothing to draw.
pub fn draw(report: &Report, folder: &Path) -> Result<Option<PathBuf>> {
    if report.rows.is_empty() {
        return Ok(None);
    }
    let path = folder.join(format!("{}.svg", report.part));
    let failed = |e: String| Error::State(format!("{}: {e}", path.display()));
    std::fs::create_dir_all(folder).map_err(|e| failed(e.to_string()))?;
    let metrics = report.names(|r| &r.metric);
    let height = metrics.len() as i32 * TITLE + report.rows.len() as i32 * STEP + STEP;
    let root = SVGBackend::new(&path, (WIDTH, height as u32)).into_drawing_area();
    let drawn = (|| {
        root.fill(&WHITE)?;
        let mut top = 0;
        for metric in metrics {
            let rows: Vec<&Row> = report.rows.iter().filter(|r| r.metric == metric).collect();
            let title = with_unit(metric, rows.first().map_or("", |r| &r.unit));
            root.draw(&Text::new(title, (8, top + 10), ("sans-serif", 15).into_font().color(&BLACK)))?;
            top += TITLE;
            let most = rows.iter().flat_map(|r| &r.values).copied().fold(0.0, f64::max);
            for row in rows {
                bar(&root, row, most, top)?;
                top += STEP;
            }
        }
        root.present()
    })();
    drawn.map_err(|e| failed(e.to_string()))?;
    drop(root);
    Ok(Some(path))
}

type Drawn<'a> = std::result::Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn bar<'a>(root: &DrawingArea<SVGBackend<'a>, plotters::coord::Shift>, row: &Row, most: f64, top: i32) -> Drawn<'a> {
    let scale = f64::from(WIDTH as i32 - LEFT - RIGHT) / if most > 0.0 { most } else { 1.0 };
    let at = |value: f64| LEFT + (value.max(0.0) * scale) as i32;
    let middle = median(&row.values).unwrap_or(0.0);
    let low = row.values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = row.values.iter().copied().fold(0.0, f64::max);
    // Subjects of ours are named so; rows without a peer are all ours.
    let peer = ["Open vSwitch", "bare", "fprobe"].iter().any(|name| row.subject.starts_with(name));
    let color = if peer { PEER } else { OURS };
    let font = |pos| ("sans-serif", 12).into_font().color(&BLACK).pos(pos);
    let line = top + BAR / 2;
    root.draw(&Text::new(row.subject.clone(), (LEFT - 8, line), font(Pos::new(HPos::Right, VPos::Center))))?;
    root.draw(&Rectangle::new([(LEFT, top), (at(middle), top + BAR)], color.filled()))?;
    if row.values.len() > 1 {
        root.draw(&PathElement::new([(at(low), line), (at(high), line)], RANGE.stroke_width(1)))?;
    }
    let value = (at(middle.max(high)) + 6, line);
    root.draw(&Text::new(figure(middle), value, font(Pos::new(HPos::Left, VPos::Center))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_in_the_picture() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut report = Report::new("tap");
        assert_eq!(draw(&report, folder.path()).expect("nothing to draw"), None);
        for (subject, value) in [("bare loop", 2.0), ("VEM, everything on", 3.5), ("nothing", 0.0)] {
            report.add(subject, "rate", "Mpps", value);
            report.add(subject, "rate", "Mpps", value + 0.1);
        }
        let path = draw(&report, folder.path()).expect("drawn").expect("a picture");
        let text = std::fs::read_to_string(path).expect("readable");
        for wanted in ["bare loop", "VEM, everything on", "rate Mpps", "3.55"] {
            assert!(text.contains(wanted), "{wanted}");
        }
    }
}
