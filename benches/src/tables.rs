//! The table of promises: made from what benches told, and put into a file of Markdown beside what stood there.

use crate::records::Record;
use std::fmt::Write;

/// What one bench told, or why it told nothing.
#[derive(Clone, Debug)]
pub struct Told {
    /// The bench's name.
    pub bench: String,
    /// In its order.
    pub records: Vec<Record>,
    /// Why it did not come to its end, if it did not.
    pub failure: Option<String>,
}

/// Where something was measured.
#[derive(Clone, Debug)]
pub struct Place {
    /// The machine.
    pub machine: String,
    /// The commit.
    pub commit: String,
}

const HEAD: &str = "| promise | bar | figure | verdict | machine | commit | command |\n|---|---|---|---|---|---|---|\n";

impl Told {
    /// Returns the bench's lines of the table.
    fn lines(&self, place: &Place) -> String {
        let mut lines = String::new();
        let mut promise = self.bench.as_str();
        let mut add = |promise: &str, what: &str, bar: &str, figure: &str, verdict: &str| {
            let cells = [promise, bar, figure, verdict, &place.machine, &place.commit].map(cell);
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
                Record::Point { .. } | Record::Note { .. } | Record::Table(_) => {}
            }
        }
        if let Some(failure) = &self.failure {
            add(promise, "", "–", "–", &format!("failed: {failure}"));
        }
        lines
    }
}

/// Returns the command that measures a bench's figures again, as it stands in the table.
fn command(bench: &str) -> String {
    format!("`./x bench {bench}`")
}

/// Keeps a text from ending its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Returns the table of what was told.
pub fn table(told: &[Told], place: &Place) -> String {
    let lines: String = told.iter().map(|told| told.lines(place)).collect();
    format!("{HEAD}{lines}")
}

/// Returns the file with the lines of the benches that told something in place of the lines that these had; all others
/// stay. Benches without lines come last. Beside them, the tables of figures that explain others are replaced whole.
///
/// # Errors
///
/// A pair of markers that is not in the file: `<!-- promises -->` and `<!-- end of promises -->`, and such a pair with
/// the name of each bench that told a table.
pub fn merge(file: &str, told: &[Told], place: &Place) -> Result<String, String> {
    let mut promises = between(file, "promises")?.trim_matches('\n').to_string();
    for told in told {
        let (command, new) = (command(&told.bench), told.lines(place));
        // It has no figure that was promised; what stands there was written by hand.
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
    for told in told {
        for record in &told.records {
            if let Record::Table(lines) = record {
                file = replace(&file, &told.bench, &format!("{}\n", lines.join("\n")))?;
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

/// Returns where in a file what stands between a pair of markers begins and ends.
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

    fn place() -> Place {
        Place {
            machine: "here".into(),
            commit: "abc".into(),
        }
    }

    fn told(bench: &str, figure: &str) -> Told {
        let row = Record::Row {
            what: "one".into(),
            bar: "≤ 1".into(),
            figure: figure.into(),
            verdict: "met".into(),
        };
        Told {
            bench: bench.into(),
            records: vec![Record::Promise("it is fast".into()), row],
            failure: None,
        }
    }

    const FILE: &str = "before\n<!-- promises -->\n\n| head |\n|---|\n| old | `./x bench a` |\n| old too | `./x bench a` |\n\
                        | stays | `./x bench b` |\n\n<!-- end of promises -->\nafter\n";

    #[test]
    fn lines_of_a_bench_that_ran_are_replaced_and_the_others_stay() {
        let silent = Told {
            bench: "b".into(),
            records: vec![Record::Promise("it is fast".into())],
            failure: None,
        };
        let merged = merge(
            FILE,
            &[told("a", "5 | 6"), silent, told("c", "7")],
            &place(),
        )
        .expect("the markers are there");
        let expected = "before\n<!-- promises -->\n\n| head |\n|---|\n\
                        | it is fast: one | ≤ 1 | 5 \\| 6 | met | here | abc | `./x bench a` |\n\
                        | stays | `./x bench b` |\n\
                        | it is fast: one | ≤ 1 | 7 | met | here | abc | `./x bench c` |\n\n<!-- end of promises -->\nafter\n";
        assert_eq!(merged, expected);
        assert_eq!(
            merge(&merged, &[told("c", "7")], &place()).expect("so they are again"),
            merged
        );
    }

    #[test]
    fn a_bench_that_failed_has_a_line_that_says_so() {
        let mut told = told("a", "5");
        told.failure = Some("it took more than 300 s".into());
        let table = table(&[told], &place());
        assert!(
            table.contains("| it is fast | – | – | failed: it took more than 300 s |"),
            "{table}"
        );
    }

    #[test]
    fn a_table_goes_between_its_own_markers_or_is_refused() {
        let mut told = told("a", "5");
        told.records
            .push(Record::Table(vec!["| x |".into(), "|---|".into()]));
        let refused = merge(FILE, &[told.clone()], &place()).expect_err("it has no markers");
        assert_eq!(refused, "the file has no line `<!-- a -->`");
        let file = format!("{FILE}<!-- a -->\nold\n<!-- end of a -->\n");
        let merged = merge(&file, &[told], &place()).expect("now it has");
        assert!(
            merged.ends_with("<!-- a -->\n\n| x |\n|---|\n\n<!-- end of a -->\n"),
            "{merged}"
        );
    }
}
