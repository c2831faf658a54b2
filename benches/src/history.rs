//! The history of figures: one line for each commit that changed a figure.

use crate::records::Record;
use crate::tables::Report;
use std::collections::HashMap;
use std::fmt::Write;

/// The first line of the file.
const HEAD: &str = "bench,what,unit,figure,commit\n";

/// By how much a figure has to differ from the last one to count as changed. Runs of the same
/// commit differ by about as much.
const CHANGE: f64 = 0.03;

/// Returns the lines to append to the history, given its text, for the figures that have changed.
pub fn added(history: &str, reports: &[Report], commit: &str) -> String {
    let last: HashMap<(&str, &str), f64> = history.lines().filter_map(read).collect();
    let mut lines = String::new();
    if history.is_empty() {
        lines.push_str(HEAD);
    }
    for report in reports {
        for record in &report.records {
            let Record::Measured { what, unit, figure } = record else {
                continue;
            };
            let what = what.replace(',', ";");
            let is_known = last
                .get(&(report.bench.as_str(), what.as_str()))
                .is_some_and(|before| (figure / before - 1.0).abs() < CHANGE);
            if !is_known {
                let _ = writeln!(lines, "{},{what},{unit},{figure:.3},{commit}", report.bench);
            }
        }
    }
    lines
}

fn read(line: &str) -> Option<((&str, &str), f64)> {
    let mut fields = line.split(',');
    let key = (fields.next()?, fields.next()?);
    Some((key, fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(figures: &[(&str, f64)]) -> Report {
        let measured = |&(what, figure): &(&str, f64)| Record::Measured {
            what: what.into(),
            unit: "ns".into(),
            figure,
        };
        Report {
            bench: "ping".into(),
            records: figures.iter().map(measured).collect(),
            failure: None,
        }
    }

    #[test]
    fn only_figures_that_changed_are_added() {
        let first = added(
            "",
            &[report(&[("a trip, short", 100.0), ("b", 5.0)])],
            "abc",
        );
        assert_eq!(
            first,
            "bench,what,unit,figure,commit\n\
             ping,a trip; short,ns,100.000,abc\n\
             ping,b,ns,5.000,abc\n"
        );
        let second = added(
            &first,
            &[report(&[("a trip, short", 98.0), ("b", 4.5), ("c", 1.0)])],
            "def",
        );
        assert_eq!(second, "ping,b,ns,4.500,def\nping,c,ns,1.000,def\n");
        let third = added(&(first + &second), &[report(&[("b", 5.0)])], "012");
        assert_eq!(third, "ping,b,ns,5.000,012\n");
    }
}
