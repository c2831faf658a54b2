//! Runs benches one after another, each with a time limit, and prints a table of their figures.
//!
//! `lunatic-bench [--write] [--raise] [BENCH…]`; `./x bench` builds and runs it. With `--write`,
//! the table goes into `benches/README.md`, the curves go into `benches/curves/`, and each figure
//! that has changed is appended to `benches/history.csv`.
//!
//! `lunatic-bench ab OLD NEW BENCH [PAIRS]`, or `./x ab`, compares two commits.

use lunatic_benches::charts::{Curves, draw};
use lunatic_benches::records::{self, Chart, Record};
use lunatic_benches::tables::{Report, merge, table};
use lunatic_benches::{RAISE, Setup, ab, benches, history, meters};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// If more than this fraction of the computer's CPU time is in use before the first bench starts, a
/// warning is printed.
const QUIET: f64 = 0.05;

/// The time limit for a bench. A bench that exceeds it is killed.
const TIMEOUT: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == "ab" => ab::compare(rest),
        _ => all(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn all(arguments: Vec<String>) -> Result<(), String> {
    let (flags, names): (Vec<String>, Vec<String>) = arguments
        .into_iter()
        .partition(|argument| argument.starts_with('-'));
    if let Some(unknown) = flags
        .iter()
        .find(|flag| !matches!(flag.as_str(), "--write" | RAISE))
    {
        return Err(format!(
            "unknown flag `{unknown}`; the flags are `--write` and `{RAISE}`"
        ));
    }
    let start = Instant::now();
    println!("compiling the benches");
    let benches = benches(&names)?;

    let busy = meters::busy();
    if busy > QUIET {
        println!(
            "other programs are using {:.0}% of this computer: only the ratios are meaningful, and only roughly",
            busy * 100.0
        );
    }

    let mut reports = Vec::new();
    for (number, (name, path)) in benches.iter().enumerate() {
        let elapsed = start.elapsed().as_secs();
        println!(
            "\n[{}/{}] {name}, {} min {} s so far",
            number + 1,
            benches.len(),
            elapsed / 60,
            elapsed % 60
        );
        reports.push(run(name, path, &flags)?);
    }

    let setup = Setup::current();
    println!("\n{}", table(&reports, &setup));
    if flags.iter().any(|flag| flag == "--write") {
        write(&reports, &setup)
            .map_err(|error| format!("the table and the curves cannot be written: {error}"))?;
    }
    let failed: Vec<_> = reports
        .iter()
        .filter(|report| report.failure.is_some())
        .map(|report| &*report.bench)
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "polls because the standard library cannot wait for a child with a timeout"
)]
/// Runs a bench until it exits or exceeds its time limit.
fn run(name: &str, path: &Path, flags: &[String]) -> Result<Report, String> {
    let records = path.with_extension("records");
    // An earlier run may have left a file behind.
    let _ = fs::remove_file(&records);
    let mut command = Command::new(path);
    command
        .arg("--bench")
        .args(flags.iter().filter(|flag| *flag == RAISE));
    command
        .env(records::VARIABLE, &records)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut child = command
        .spawn()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let start = Instant::now();
    let failure = loop {
        match child
            .try_wait()
            .map_err(|error| format!("{name}: {error}"))?
        {
            Some(status) if status.success() => break None,
            Some(status) => break Some(status.to_string()),
            None if start.elapsed() < TIMEOUT => sleep(Duration::from_millis(50)),
            None => {
                // The child may already have exited.
                let _ = child.kill();
                let _ = child.wait();
                break Some(format!("the bench took more than {} s", TIMEOUT.as_secs()));
            }
        }
    };
    if let Some(failure) = &failure {
        println!("  failed: {failure}");
    }
    // If a bench failed immediately, the file does not exist.
    let records = records::read(&fs::read_to_string(&records).unwrap_or_default());
    Ok(Report {
        bench: name.to_string(),
        records,
        failure,
    })
}

/// Writes the table to the README and a file for each chart.
fn write(reports: &[Report], setup: &Setup) -> Result<(), String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = directory.join("README.md");
    let text = fs::read_to_string(&readme).map_err(|error| error.to_string())?;
    fs::write(&readme, merge(&text, reports, setup)?).map_err(|error| error.to_string())?;

    let mut charts: BTreeMap<Chart, Curves> = BTreeMap::new();
    for record in reports.iter().flat_map(|report| &report.records) {
        match record {
            Record::Point {
                chart,
                series,
                x,
                y,
            } => {
                let curves = charts.entry(chart.clone()).or_default();
                curves
                    .series
                    .entry(series.clone())
                    .or_default()
                    .push((*x, *y));
            }
            Record::Note { chart, text } => {
                charts
                    .entry(chart.clone())
                    .or_default()
                    .notes
                    .push(text.clone());
            }
            Record::Promise(_)
            | Record::Row { .. }
            | Record::Measured { .. }
            | Record::Table(_) => {}
        }
    }
    let kept = directory.join("history.csv");
    let text = fs::read_to_string(&kept).unwrap_or_default();
    let added = history::added(&text, reports, &setup.commit);
    fs::write(&kept, text + &added).map_err(|error| error.to_string())?;

    let directory = directory.join("curves");
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    for (chart, mut curves) in charts {
        curves
            .notes
            .push(format!("{}, commit {}", setup.machine, setup.commit));
        let path = directory.join(&chart.file).with_extension("svg");
        fs::write(path, draw(&chart, &curves)).map_err(|error| error.to_string())?;
    }
    Ok(())
}
