//! What a bench prints: its promise, and one line a figure.

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
        if has("--bench") && !has("--test") { Depth::Full } else { Depth::Quick }
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
    println!("  {}, {}", place(), depth.choose("full", "quick: the figures mean nothing"));
    depth
}

/// Names the machine, the commit and the profile.
fn place() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let git = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let commit = git.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let checks = if cfg!(debug_assertions) { "with" } else { "without" };
    format!("{cores} cores, Linux {}, commit {}, {checks} debug assertions", kernel.trim(), commit.trim())
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

    /// Returns the figure which that part of all does not exceed.
    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1).expect("a row has at least one round");
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
        format!("{value} {unit} ({}–{})", number(self.quantile(0.0)), number(self.quantile(1.0)))
    }
}

/// Writes a number with the digits that can matter.
fn number(value: f64) -> String {
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
    /// At most so many times the peer's.
    AtMostTimes(f64),
    /// At least so many times the peer's.
    AtLeastTimes(f64),
    /// Nothing: it is told because it explains another row.
    None,
}

/// A figure of ours, a peer's, what was promised, and whether that is kept.
pub struct Row<'a> {
    what: &'a str,
    unit: &'a str,
    ours: &'a Figures,
    part: f64,
    peer: Option<(&'a str, &'a Figures)>,
}

impl<'a> Row<'a> {
    /// Begins a row. The middle round counts; the least and the greatest are shown.
    pub fn new(what: &'a str, unit: &'a str, ours: &'a Figures) -> Row<'a> {
        Row { what, unit, ours, part: 0.5, peer: None }
    }

    /// Lets the figure count that 99 of 100 do not exceed.
    pub fn ninety_ninth(mut self) -> Row<'a> {
        self.part = 0.99;
        self
    }

    /// Sets what ran beside; nothing where the peer is missing here.
    pub fn beside(mut self, name: &'a str, peer: &'a Figures) -> Row<'a> {
        self.peer = Some((name, peer));
        self
    }

    /// Prints the row.
    pub fn print(self, bar: Bar) {
        let mut line = format!("  {}: {}", self.what, self.ours.show(self.part, self.unit));
        let ours = self.ours.quantile(self.part);
        let mut ratio = None;
        match self.peer {
            Some((name, peer)) if peer.0.is_empty() => {
                let _ = write!(line, " · {name} is missing here");
            }
            Some((name, peer)) => {
                let times = ours / peer.quantile(self.part);
                ratio = Some(times);
                let _ = write!(line, " · {name} {} · {} ×", peer.show(self.part, self.unit), number(times));
            }
            None => {}
        }
        let (wanted, is_met) = match bar {
            Bar::AtMost(most) => (format!("≤ {} {}", number(most), self.unit), Some(ours <= most)),
            Bar::AtLeast(least) => (format!("≥ {} {}", number(least), self.unit), Some(ours >= least)),
            Bar::AtMostTimes(most) => (format!("≤ {most} ×"), ratio.map(|times| times <= most)),
            Bar::AtLeastTimes(least) => (format!("≥ {least} ×"), ratio.map(|times| times >= least)),
            Bar::None => {
                println!("{line}");
                return;
            }
        };
        let verdict = match is_met {
            Some(true) => "met",
            Some(false) => "not met",
            None => "open: nothing to compare with",
        };
        println!("{line} · bar {wanted} · {verdict}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_round_counts_and_the_worst_of_a_hundred_does_not() {
        let figures: Figures = (1..=100).rev().map(f64::from).collect();
        assert_eq!((figures.median(), figures.quantile(0.98), figures.least()), (51.0, 99.0, 1.0));
        assert_eq!(Figures::from_iter([7.0]).quantile(0.99), 7.0);
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let written: Vec<String> = [0.5, 12.34, 999.6, 1_234_567.0, -1_234.0].into_iter().map(number).collect();
        assert_eq!(written, ["0.50", "12.3", "1,000", "1,234,567", "-1,234"]);
    }
}
