//! What a bench prints: its promise, and one line a figure.

use crate::meters;
use crate::programs;
use crate::records::{Record, tell};
use std::fmt::Write;
use std::process::Command;

/// How long a bench takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Long enough to measure.
    Full,
    /// Just once, to see that it runs; its figures mean nothing.
    Quick,
}

impl Depth {
    /// Full under `cargo bench`, quick under `cargo test --benches` and with `--test`.
    pub fn of_this_run() -> Depth {
        let has = |flag: &str| std::env::args().any(|argument| argument == flag);
        if has("--bench") && !has("--test") {
            Depth::Full
        } else {
            Depth::Quick
        }
    }

    /// Returns one or the other.
    pub fn choose<T>(self, full: T, quick: T) -> T {
        match self {
            Depth::Full => full,
            Depth::Quick => quick,
        }
    }
}

/// States what a bench measures, and where.
pub fn promise(sentence: &str) -> Depth {
    let depth = Depth::of_this_run();
    println!("\n{sentence}");
    println!(
        "  {}; commit {}; {}",
        place(),
        commit(),
        depth.choose("full", "quick: the figures mean nothing")
    );
    tell(&Record::Promise(sentence.to_string()));
    depth
}

/// Names the machine and how this is compiled.
pub fn place() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = (meters::total_memory() as f64 / f64::from(1 << 30)).round();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    let profile = programs::profile_name();
    format!(
        "{cores} cores, {}, {memory} GiB, Linux {kernel}, profile {profile}",
        std::env::consts::ARCH
    )
}

/// Names the commit; with `-dirty` where files differ from it.
pub fn commit() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output();
    git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string())
        .unwrap_or_default()
}

/// What was measured in several rounds.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<f64>);

impl Extend<f64> for Figures {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, figures: I) {
        self.0.extend(figures);
    }
}

impl FromIterator<f64> for Figures {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Figures {
        Figures(figures.into_iter().collect())
    }
}

impl Figures {
    /// Adds a figure.
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Returns whether there is none: the peer is missing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the figure which that part of all does not exceed.
    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted
            .len()
            .checked_sub(1)
            .expect("a row has at least one round");
        sorted[(last as f64 * part).ceil() as usize]
    }

    /// Returns the middle one: half of the rounds were at least as good.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Returns the smallest.
    pub fn least(&self) -> f64 {
        self.quantile(0.0)
    }

    fn show(&self, part: f64, unit: &str) -> String {
        let value = number(self.quantile(part));
        if self.0.len() == 1 {
            return format!("{value} {unit}");
        }
        format!(
            "{value} {unit} ({}–{})",
            number(self.quantile(0.0)),
            number(self.quantile(1.0))
        )
    }
}

/// Writes a number with the digits that can matter.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && digit.is_ascii_digit() && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// What a figure has to reach.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
    /// At most so many times the first peer's.
    AtMostTimes(f64),
    /// At least so many times the first peer's.
    AtLeastTimes(f64),
    /// Nothing: it is told because it explains another row.
    None,
}

/// A figure of ours, those of peers, what was promised, and whether that is kept.
pub struct Row<'a> {
    what: &'a str,
    unit: &'a str,
    ours: &'a Figures,
    part: f64,
    peers: Vec<(&'a str, &'a Figures)>,
}

impl<'a> Row<'a> {
    /// Begins a row. The middle round counts; the least and the greatest are shown.
    pub fn new(what: &'a str, unit: &'a str, ours: &'a Figures) -> Row<'a> {
        Row {
            what,
            unit,
            ours,
            part: 0.5,
            peers: Vec::new(),
        }
    }

    /// Lets the figure count that 99 of 100 do not exceed.
    pub fn ninety_ninth(mut self) -> Row<'a> {
        self.part = 0.99;
        self
    }

    /// Adds what ran beside; nothing where the peer is missing here. A bar in times is about the first.
    pub fn beside(mut self, name: &'a str, peer: &'a Figures) -> Row<'a> {
        self.peers.push((name, peer));
        self
    }

    /// Prints the row.
    pub fn print(self, bar: Bar) {
        let mut figure = self.ours.show(self.part, self.unit);
        let ours = self.ours.quantile(self.part);
        for (name, peer) in &self.peers {
            if peer.0.is_empty() {
                let _ = write!(figure, " · {name} is missing here");
                continue;
            }
            let times = number(ours / peer.quantile(self.part));
            let _ = write!(
                figure,
                " · {name} {}: {times} ×",
                peer.show(self.part, self.unit)
            );
        }
        let first = self.peers.first().filter(|(_, peer)| !peer.0.is_empty());
        let times = first.map(|(_, peer)| ours / peer.quantile(self.part));
        let peer = self.peers.first().map_or("nothing", |(name, _)| name);
        let (wanted, is_met) = match bar {
            Bar::AtMost(most) => (
                format!("≤ {} {}", number(most), self.unit),
                Some(ours <= most),
            ),
            Bar::AtLeast(least) => (
                format!("≥ {} {}", number(least), self.unit),
                Some(ours >= least),
            ),
            Bar::AtMostTimes(most) => (
                format!("≤ {most} × {peer}"),
                times.map(|times| times <= most),
            ),
            Bar::AtLeastTimes(least) => (
                format!("≥ {least} × {peer}"),
                times.map(|times| times >= least),
            ),
            Bar::None => {
                println!("  {}: {figure}", self.what);
                return;
            }
        };
        let verdict = match is_met {
            Some(true) => "met".to_string(),
            Some(false) => "not met".to_string(),
            None => format!("open: {peer} is missing here"),
        };
        finish(self.what, wanted, figure, verdict);
    }
}

/// Prints a row of what cannot be measured here, and why.
pub fn open(what: &str, bar: &str, reason: &str) {
    finish(
        what,
        bar.to_string(),
        "–".to_string(),
        format!("open: {reason}"),
    );
}

fn finish(what: &str, bar: String, figure: String, verdict: String) {
    println!("  {what}: {figure} · bar {bar} · {verdict}");
    tell(&Record::Row {
        what: what.to_string(),
        bar,
        figure,
        verdict,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_round_counts_and_the_worst_of_a_hundred_does_not() {
        let figures: Figures = (1..=100).rev().map(f64::from).collect();
        assert_eq!(
            (figures.median(), figures.quantile(0.98), figures.least()),
            (51.0, 99.0, 1.0)
        );
        assert_eq!(Figures::from_iter([7.0]).quantile(0.99), 7.0);
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let written: Vec<String> = [0.5, 12.34, 999.6, 1_234_567.0, -1_234.0]
            .into_iter()
            .map(number)
            .collect();
        assert_eq!(written, ["0.50", "12.3", "1,000", "1,234,567", "-1,234"]);
    }
}
