//! Runs benches one after the other, each for a bounded time, and prints the table of what they found out.
//!
//! `lunatic-bench [--write] [--raise] [BENCH…]`; `./x bench` compiles and starts it. With `--write` the table goes into
//! `benches/README.md` and the curves into `benches/curves/`.

use lunatic_benches::pictures::{Curves, draw};
use lunatic_benches::records::{self, Picture, Record};
use lunatic_benches::tables::{Place, Told, merge, table};
use lunatic_benches::{RAISE, benches, commit, meters, place};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A machine that is busier than this, before anything is measured, is not for measuring.
const QUIET: f64 = 0.05;

/// A bench that takes longer is ended.
const LIMIT: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    match all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn all() -> Result<(), String> {
    let (flags, names): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with('-'));
    if let Some(unknown) = flags
        .iter()
        .find(|flag| !matches!(flag.as_str(), "--write" | RAISE))
    {
        return Err(format!(
            "`{unknown}` is no flag; there are `--write` and `{RAISE}`"
        ));
    }
    let start = Instant::now();
    println!("compiling the benches");
    let benches = benches(&names)?;

    let busy = meters::busy();
    if busy > QUIET {
        println!(
            "others use {:.0} % of this machine: only the ratios mean something, and they not much",
            busy * 100.0
        );
    }

    let mut told = Vec::new();
    for (number, (name, path)) in benches.iter().enumerate() {
        let elapsed = start.elapsed().as_secs();
        println!(
            "\n[{}/{}] {name}, {} min {} s so far",
            number + 1,
            benches.len(),
            elapsed / 60,
            elapsed % 60
        );
        told.push(run(name, path, &flags)?);
    }

    let place = Place {
        machine: place(),
        commit: commit(),
    };
    println!("\n{}", table(&told, &place));
    if flags.iter().any(|flag| flag == "--write") {
        write(&told, &place)
            .map_err(|error| format!("the table and the curves cannot be written: {error}"))?;
    }
    let failed: Vec<_> = told
        .iter()
        .filter(|told| told.failure.is_some())
        .map(|told| &*told.bench)
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")))
    }
}

/// Runs a bench to its end, or to the end of its time.
fn run(name: &str, path: &Path, flags: &[String]) -> Result<Told, String> {
    let records = path.with_extension("records");
    // There is one from an earlier run, or none.
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
            None if start.elapsed() < LIMIT => sleep(Duration::from_millis(50)),
            None => {
                // It may have come to its end just now.
                let _ = child.kill();
                let _ = child.wait();
                break Some(format!("it took more than {} s", LIMIT.as_secs()));
            }
        }
    };
    if let Some(failure) = &failure {
        println!("  failed: {failure}");
    }
    // A bench that failed at once has told nothing.
    let records = records::read(&fs::read_to_string(&records).unwrap_or_default());
    Ok(Told {
        bench: name.to_string(),
        records,
        failure,
    })
}

/// Writes the table into the README, and a file for each picture.
fn write(told: &[Told], place: &Place) -> Result<(), String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = directory.join("README.md");
    let text = fs::read_to_string(&readme).map_err(|error| error.to_string())?;
    fs::write(&readme, merge(&text, told, place)?).map_err(|error| error.to_string())?;

    let mut pictures: BTreeMap<Picture, Curves> = BTreeMap::new();
    for record in told.iter().flat_map(|told| &told.records) {
        match record {
            Record::Point {
                picture,
                series,
                x,
                y,
            } => {
                let curves = pictures.entry(picture.clone()).or_default();
                curves
                    .series
                    .entry(series.clone())
                    .or_default()
                    .push((*x, *y));
            }
            Record::Note { picture, text } => {
                pictures
                    .entry(picture.clone())
                    .or_default()
                    .notes
                    .push(text.clone());
            }
            Record::Promise(_) | Record::Row { .. } | Record::Table(_) => {}
        }
    }
    let directory = directory.join("curves");
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    for (picture, mut curves) in pictures {
        curves
            .notes
            .push(format!("{}, commit {}", place.machine, place.commit));
        let path = directory.join(&picture.file).with_extension("svg");
        fs::write(path, draw(&picture, &curves)).map_err(|error| error.to_string())?;
    }
    Ok(())
}
