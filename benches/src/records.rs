//! What a bench tells whoever runs all of them, beside what it prints: one JSON object a line, in a file of its own.

use crate::rows::Depth;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// The variable that names the file; without it nobody is told.
pub const VARIABLE: &str = "LUNATIC_BENCH_RECORDS";

/// One thing that a bench found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// What the bench measures; what follows belongs to it.
    Promise(String),
    /// A figure that was promised.
    Row {
        /// Of what.
        what: String,
        /// What it has to reach, as text.
        bar: String,
        /// What was measured, as text, with what ran beside.
        figure: String,
        /// Whether the bar is reached, or why nobody knows.
        verdict: String,
    },
    /// A point of a curve.
    Point {
        /// Which picture it is drawn in.
        picture: Picture,
        /// Which curve it belongs to.
        series: String,
        /// To the right, positive.
        x: f64,
        /// Upwards, positive.
        y: f64,
    },
    /// Something to say below a picture: why a curve ends, for example.
    Note {
        /// Which picture.
        picture: Picture,
        /// What to say.
        text: String,
    },
    /// A table of figures that explain others, in lines of Markdown.
    Table(Vec<String>),
}

/// A picture and its axes. Both are logarithmic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Picture {
    /// The name of its file, without what follows the dot.
    pub file: String,
    /// What it shows.
    pub title: String,
    /// What goes to the right.
    pub x: String,
    /// What goes upwards.
    pub y: String,
}

impl Picture {
    /// Names a picture and its axes.
    pub fn new(file: &str, title: &str, x: &str, y: &str) -> Picture {
        Picture {
            file: file.into(),
            title: title.into(),
            x: x.into(),
            y: y.into(),
        }
    }

    /// Tells a point of a curve.
    pub fn point(&self, series: &str, x: f64, y: f64) {
        tell(&Record::Point {
            picture: self.clone(),
            series: series.into(),
            x,
            y,
        });
    }

    /// Tells something to say below the picture.
    pub fn note(&self, text: &str) {
        tell(&Record::Note {
            picture: self.clone(),
            text: text.into(),
        });
    }
}

/// Tells a record to whoever runs all benches; nobody, if this one runs alone or only to see that it runs.
///
/// # Panics
///
/// Where the file cannot be written to.
pub fn tell(record: &Record) {
    let Some(path) = std::env::var_os(VARIABLE) else {
        return;
    };
    if Depth::of_this_run() == Depth::Quick {
        return;
    }
    let line = serde_json::to_string(record).expect("it consists of texts and finite numbers");
    let file = OpenOptions::new().append(true).create(true).open(&path);
    let written = file.and_then(|mut file| writeln!(file, "{line}"));
    written.unwrap_or_else(|error| panic!("{}: {error}", Path::new(&path).display()));
}

/// Reads what a bench told; a bench that was ended may have left half a line, which is left out.
pub fn read(text: &str) -> Vec<Record> {
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_and_half_a_line_is_left_out() {
        let point = Record::Point {
            picture: Picture::new("a", "b", "c", "d"),
            series: "e".into(),
            x: 1.5,
            y: 2.0,
        };
        let line = serde_json::to_string(&point).expect("it is plain");
        assert_eq!(
            read(&format!("{line}\n{}", &line[..line.len() / 2])),
            [point]
        );
    }
}
