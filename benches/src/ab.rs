//! Compares two commits by running a bench of each in turns.
//!
//! On a computer that also does other work, the figures of one commit vary more than the difference
//! between two commits. The ratio of two runs that follow each other directly varies much less, and
//! its median over many pairs varies less still.

use crate::figures::number;
use crate::programs::{bench_in, check_bench, target};
use crate::records::{self, Record};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The environment variable that makes a bench take our own measurement once and leave out its
/// peers.
pub const ALONE: &str = "LUNATIC_BENCH_ALONE";

/// The number of pairs, unless specified.
const PAIRS: usize = 30;

/// Compares the commits named by the first two arguments, and prints the ratios of each figure in
/// the bench named by the third. `.` stands for the working copy. The fourth argument is the number
/// of pairs.
///
/// # Errors
///
/// Fails if an argument is invalid, or if a bench does not compile or fails.
pub fn compare(arguments: &[String]) -> Result<(), String> {
    const USAGE: &str =
        "name two commits (`.` is the working copy), a bench and, optionally, the number of pairs";
    let (old, new, bench, pairs) = match arguments {
        [old, new, bench] => (old, new, bench, PAIRS),
        [old, new, bench, pairs] => {
            let pairs = pairs.parse().ok().filter(|&pairs| pairs > 0);
            (old, new, bench, pairs.ok_or(USAGE)?)
        }
        _ => return Err(USAGE.to_string()),
    };
    check_bench(bench)?;
    let directories = [checked_out(old)?, checked_out(new)?];
    let programs = directories.map(|directory| bench_in(&directory, bench));

    let mut runs = [Vec::new(), Vec::new()];
    for pair in 0..pairs {
        // Each commit goes first in every other pair.
        for side in [pair % 2, 1 - pair % 2] {
            runs[side].push(measure(&programs[side])?);
        }
        print!("\r{} of {pairs} pairs", pair + 1);
        // Progress that cannot be shown is not worth failing for.
        let _ = std::io::Write::flush(&mut std::io::stdout());
    }
    println!("\n{bench}: `{new}` divided by `{old}`, with the 95% interval of the median");
    let [old, new] = &runs;
    for (position, (what, unit, _)) in old[0].iter().enumerate() {
        let figures = |runs: &[Vec<Measured>]| -> Option<Vec<f64>> {
            let figure = |run: &Vec<Measured>| {
                let (other, _, figure) = run.get(position)?;
                (other == what).then_some(*figure)
            };
            runs.iter().map(figure).collect()
        };
        let Some((old, new)) = figures(old).zip(figures(new)) else {
            println!("  {what}: not measured by both");
            continue;
        };
        let ratios = old.iter().zip(&new).map(|(old, new)| new / old);
        let Interval { low, median, high } = Interval::of(ratios.collect());
        println!(
            "  {what}: {median:.3} ({low:.3}–{high:.3}), {} and {} {unit}",
            number(Interval::of(old).median),
            number(Interval::of(new).median),
        );
    }
    Ok(())
}

/// What was measured, its unit and the figure.
type Measured = (String, String, f64);

/// A median, and the interval that contains the median of all possible pairs in 95% of the
/// comparisons.
#[derive(Debug, PartialEq)]
struct Interval {
    low: f64,
    median: f64,
    high: f64,
}

impl Interval {
    /// Computes the interval from order statistics, which assume nothing about how the values are
    /// distributed. With fewer than six values, it is the whole range.
    fn of(mut values: Vec<f64>) -> Interval {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let half = (count as f64 - 1.96 * (count as f64).sqrt()) / 2.0;
        let below = half.max(0.0).floor() as usize;
        Interval {
            low: values[below],
            median: f64::midpoint(values[(count - 1) / 2], values[count / 2]),
            high: values[count - 1 - below],
        }
    }
}

/// Returns a directory that contains a commit.
fn checked_out(commit: &str) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if commit == "." {
        return Ok(root);
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(&root)
            .args(arguments)
            .output()
            .map_err(|error| format!("git could not be started: {error}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_string())
        }
    };
    let revision = format!("{commit}^{{commit}}");
    let hash = git(&["rev-parse", "--verify", "--short=12", &revision])
        .map_err(|error| format!("`{commit}` is not a commit of this repository: {error}"))?;
    let directory = target().join("ab").join(&hash);
    if !directory.exists() {
        let path = directory.to_string_lossy();
        git(&["worktree", "add", "--detach", "--force", &path, &hash])?;
    }
    Ok(directory)
}

/// Runs a bench and returns its figures.
fn measure(program: &Path) -> Result<Vec<Measured>, String> {
    let path = program.with_extension("records");
    // An earlier run may have left a file behind.
    let _ = fs::remove_file(&path);
    let status = Command::new(program)
        .arg("--bench")
        .env(ALONE, "1")
        .env(records::VARIABLE, &path)
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if !status.success() {
        return Err(format!("{} failed: {status}", program.display()));
    }
    let records = records::read(&fs::read_to_string(&path).unwrap_or_default());
    let measured: Vec<Measured> = records
        .into_iter()
        .filter_map(|record| match record {
            Record::Measured { what, unit, figure } => Some((what, unit, figure)),
            _ => None,
        })
        .collect();
    if measured.is_empty() {
        return Err(format!(
            "{} recorded no figures; commits before `./x ab` cannot be compared with it",
            program.display()
        ));
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_median_consists_of_order_statistics() {
        let count_up = |to: u32| (1..=to).rev().map(f64::from).collect();
        let check = |to, low, median, high| {
            let expected = Interval { low, median, high };
            assert_eq!(Interval::of(count_up(to)), expected, "{to}");
        };
        check(1, 1.0, 1.0, 1.0);
        check(2, 1.0, 1.5, 2.0);
        check(5, 1.0, 3.0, 5.0);
        check(10, 2.0, 5.5, 9.0);
        check(30, 10.0, 15.5, 21.0);
        check(100, 41.0, 50.5, 60.0);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let refused = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            compare(&arguments).expect_err("the arguments are invalid")
        };
        for arguments in [
            &["."][..],
            &[".", ".", "ping", "0"],
            &[".", ".", "a", "1", "2"],
        ] {
            assert!(refused(arguments).starts_with("name two commits"));
        }
        assert!(refused(&["no-such-commit", ".", "ping"]).contains("no-such-commit"));
        assert!(refused(&[".", ".", "no-such-bench"]).contains("no bench is named"));
    }
}
