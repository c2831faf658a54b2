//! The records that a bench writes for the program that runs all benches, in addition to its
//! output. They are stored in a file with one JSON object per line.

use crate::depth::Depth;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// The environment variable that names the file. If it is not set, nothing is recorded.
pub const VARIABLE: &str = "LUNATIC_BENCH_RECORDS";

/// A single result from a bench.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// What the bench measures. The records that follow belong to this promise.
    Promise(String),
    /// A figure that was promised.
    Row {
        /// What was measured.
        what: String,
        /// The bar that the figure must reach, as text.
        bar: String,
        /// The figure and its peers' figures, as text.
        figure: String,
        /// Whether the figure reaches the bar, or the reason why that is unknown.
        verdict: String,
    },
    /// Our figure in a row, as a number, whether or not a bar was promised for it.
    Measured {
        /// What was measured.
        what: String,
        /// The unit.
        unit: String,
        /// The figure, in this unit.
        figure: f64,
    },
    /// A point on a curve.
    Point {
        /// The chart in which the point is drawn.
        chart: Chart,
        /// The curve that the point belongs to.
        series: String,
        /// The horizontal coordinate, which is positive.
        x: f64,
        /// The vertical coordinate, which is positive.
        y: f64,
    },
    /// A line of text below a chart, for example why a curve ends.
    Note {
        /// The chart.
        chart: Chart,
        /// The text.
        text: String,
    },
    /// A table of explanatory figures, as lines of Markdown.
    Table(Vec<String>),
}

/// A chart and its axes, both of them logarithmic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Chart {
    /// The name of the chart's file, without the extension.
    pub file: String,
    /// What the chart shows.
    pub title: String,
    /// The horizontal axis label.
    pub x: String,
    /// The vertical axis label.
    pub y: String,
}

impl Chart {
    /// Describes a chart and its axes.
    pub fn new(file: &str, title: &str, x: &str, y: &str) -> Chart {
        Chart {
            file: file.into(),
            title: title.into(),
            x: x.into(),
            y: y.into(),
        }
    }

    /// Records a point on a curve.
    pub fn point(&self, series: &str, x: f64, y: f64) {
        record(&Record::Point {
            chart: self.clone(),
            series: series.into(),
            x,
            y,
        });
    }

    /// Records a line of text below the chart.
    pub fn note(&self, text: &str) {
        record(&Record::Note {
            chart: self.clone(),
            text: text.into(),
        });
    }
}

/// Records a result for the program that runs all benches. Does nothing if this bench runs on its
/// own or this is a quick run.
///
/// # Panics
///
/// Panics if the file cannot be written.
pub fn record(record: &Record) {
    let Some(path) = std::env::var_os(VARIABLE) else {
        return;
    };
    if Depth::of_this_run() == Depth::Quick {
        return;
    }
    let line =
        serde_json::to_string(record).expect("strings and finite numbers can be converted to JSON");
    let file = OpenOptions::new().append(true).create(true).open(&path);
    let written = file.and_then(|mut file| writeln!(file, "{line}"));
    written.unwrap_or_else(|error| panic!("{}: {error}", Path::new(&path).display()));
}

/// Parses a bench's records. Skips any line that is incomplete because the bench was killed.
pub fn read(text: &str) -> Vec<Record> {
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back_and_half_a_line_is_left_out() {
        let point = Record::Point {
            chart: Chart::new("a", "b", "c", "d"),
            series: "e".into(),
            x: 1.5,
            y: 2.0,
        };
        let line = serde_json::to_string(&point)
            .expect("strings and finite numbers can be converted to JSON");
        assert_eq!(
            read(&format!("{line}\n{}", &line[..line.len() / 2])),
            [point]
        );
    }
}
