//! The table of promises, which is built from the benches' records and merged into a Markdown file.

use crate::records::Record;
use crate::setup::Setup;
use std::fmt::Write;

/// A bench's report and, if it failed, the reason.
#[derive(Clone, Debug)]
pub struct Report {
    /// The bench's name.
    pub bench: String,
    /// The bench's records, in order.
    pub records: Vec<Record>,
    /// Why the bench failed, if it did.
    pub failure: Option<String>,
}

const HEAD: &str = "| promise | bar | figure | verdict | machine | commit | command |\n|---|---|---|---|---|---|---|\n";

impl Report {
    /// Returns the bench's lines in the table.
    fn lines(&self, setup: &Setup) -> String {
        let mut lines = String::new();
        let mut promise = self.bench.as_str();
        let mut add = |promise: &str, what: &str, bar: &str, figure: &str, verdict: &str| {
            let cells = [promise, bar, figure, verdict, &setup.machine, &setup.commit].map(cell);
            let [promise, bar, figure, verdict, machine, commit] = &cells;
            let what = if what.is_empty() {
                String::new()
            } else {
                format!(": {}", cell(what))
            };
            let command = command(&self.bench);
            let _ = writeln!(
                lines,
                "| {promise}{what} | {bar} | {figure} | {verdict} | {machine} | {commit} | {command} |"
            );
        };
        for record in &self.records {
            match record {
                Record::Promise(sentence) => promise = sentence,
                Record::Row {
                    what,
                    bar,
                    figure,
                    verdict,
                } => add(promise, what, bar, figure, verdict),
                Record::Measured { .. }
                | Record::Point { .. }
                | Record::Note { .. }
                | Record::Table(_) => {}
            }
        }
        if let Some(failure) = &self.failure {
            add(promise, "", "–", "–", &format!("failed: {failure}"));
        }
        lines
    }
}

/// Returns the command that repeats a bench's measurements, as shown in the table.
fn command(bench: &str) -> String {
    format!("`./x bench {bench}`")
}

/// Escapes a string so that it stays within its table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Returns a table of the given reports.
pub fn table(reports: &[Report], setup: &Setup) -> String {
    let lines: String = reports.iter().map(|report| report.lines(setup)).collect();
    format!("{HEAD}{lines}")
}

/// Returns the file with the lines of the reported benches replaced and all others kept. Lines for
/// new benches go last. Tables of explanatory figures are replaced entirely.
///
/// # Errors
///
/// Fails if a marker is missing. The file needs `<!-- promises -->` with `<!-- end of promises
/// -->`, and a similar pair for each bench that reports a table.
pub fn merge(file: &str, reports: &[Report], setup: &Setup) -> Result<String, String> {
    let mut promises = between(file, "promises")?.trim_matches('\n').to_string();
    for report in reports {
        let (command, new) = (command(&report.bench), report.lines(setup));
        // If a bench has no promised figure, its line in the table is handwritten and is kept.
        if new.is_empty() {
            continue;
        }
        let mut is_placed = false;
        let mut merged = String::new();
        for line in promises.lines() {
            if !line.contains(&command) {
                merged.push_str(line);
                merged.push('\n');
            } else if !std::mem::replace(&mut is_placed, true) {
                merged.push_str(&new);
            }
        }
        if !is_placed {
            merged.push_str(&new);
        }
        promises = merged;
    }
    let mut file = replace(file, "promises", &promises)?;
    for report in reports {
        for record in &report.records {
            if let Record::Table(lines) = record {
                file = replace(&file, &report.bench, &format!("{}\n", lines.join("\n")))?;
            }
        }
    }
    Ok(file)
}

fn markers(name: &str) -> (String, String) {
    (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->"),
    )
}

/// Returns where the text between a pair of markers starts and ends.
fn span(file: &str, name: &str) -> Result<(usize, usize), String> {
    let (begin, end) = markers(name);
    let missing = |marker: &str| format!("the file has no line `{}`", marker.trim());
    let start = file.find(&begin).ok_or_else(|| missing(&begin))? + begin.len();
    let length = file[start..].find(&end).ok_or_else(|| missing(&end))?;
    Ok((start, start + length))
}

fn between<'a>(file: &'a str, name: &str) -> Result<&'a str, String> {
    let (start, end) = span(file, name)?;
    Ok(&file[start..end])
}

fn replace(file: &str, name: &str, with: &str) -> Result<String, String> {
    let (start, end) = span(file, name)?;
    Ok(format!("{}\n{with}\n{}", &file[..start], &file[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup() -> Setup {
        Setup {
            machine: "here".into(),
            commit: "abc".into(),
        }
    }

    fn report(bench: &str, figure: &str) -> Report {
        let row = Record::Row {
            what: "one".into(),
            bar: "≤ 1".into(),
            figure: figure.into(),
            verdict: "met".into(),
        };
        Report {
            bench: bench.into(),
            records: vec![Record::Promise("it is fast".into()), row],
            failure: None,
        }
    }

    const FILE: &str = "before\n<!-- promises -->\n\n| head |\n|---|\n| old | `./x bench a` |\n| old too | `./x bench a` |\n\
                        | stays | `./x bench b` |\n\n<!-- end of promises -->\nafter\n";

    #[test]
    fn lines_of_a_bench_that_ran_are_replaced_and_other_lines_are_kept() {
        let silent = Report {
            bench: "b".into(),
            records: vec![Record::Promise("it is fast".into())],
            failure: None,
        };
        let merged = merge(
            FILE,
            &[report("a", "5 | 6"), silent, report("c", "7")],
            &setup(),
        )
        .expect("the file has the markers");
        let expected = "before\n<!-- promises -->\n\n| head |\n|---|\n\
                        | it is fast: one | ≤ 1 | 5 \\| 6 | met | here | abc | `./x bench a` |\n\
                        | stays | `./x bench b` |\n\
                        | it is fast: one | ≤ 1 | 7 | met | here | abc | `./x bench c` |\n\n<!-- end of promises -->\nafter\n";
        assert_eq!(merged, expected);
        assert_eq!(
            merge(&merged, &[report("c", "7")], &setup()).expect("the markers are kept"),
            merged
        );
    }

    #[test]
    fn a_failed_bench_has_a_line_that_reports_the_failure() {
        let mut report = report("a", "5");
        report.failure = Some("the bench took more than 300 s".into());
        let table = table(&[report], &setup());
        assert!(
            table.contains("| it is fast | – | – | failed: the bench took more than 300 s |"),
            "{table}"
        );
    }

    #[test]
    fn a_table_is_put_between_its_own_markers_or_refused() {
        let mut report = report("a", "5");
        report
            .records
            .push(Record::Table(vec!["| x |".into(), "|---|".into()]));
        let refused =
            merge(FILE, &[report.clone()], &setup()).expect_err("the file has no markers");
        assert_eq!(refused, "the file has no line `<!-- a -->`");
        let file = format!("{FILE}<!-- a -->\nold\n<!-- end of a -->\n");
        let merged = merge(&file, &[report], &setup()).expect("the file has the markers");
        assert!(
            merged.ends_with("<!-- a -->\n\n| x |\n|---|\n\n<!-- end of a -->\n"),
            "{merged}"
        );
    }
}
