//! A bench's output: its promise and one line per figure.

use crate::depth::Depth;
use crate::figures::{Figures, number};
use crate::records::{Record, record};
use crate::setup::Setup;
use std::fmt::Write;

/// Prints what a bench measures, on which computer and at which commit.
pub fn promise(sentence: &str) -> Depth {
    let depth = Depth::of_this_run();
    let Setup { machine, commit } = Setup::current();
    let note = depth.choose("full", "quick: the figures are meaningless");
    println!("\n{sentence}\n  {machine}; commit {commit}; {note}");
    record(&Record::Promise(sentence.to_string()));
    depth
}

/// The bar that a figure must reach.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// At most this much.
    AtMost(f64),
    /// At least this much.
    AtLeast(f64),
    /// At most this many times the first peer's figure.
    AtMostTimes(f64),
    /// At least this many times the first peer's figure.
    AtLeastTimes(f64),
    /// No bar. The figure is shown to explain another row.
    None,
}

/// A row: our figure, the peers' figures, the bar, and whether it is met.
pub struct Row<'a> {
    what: &'a str,
    unit: &'a str,
    ours: &'a Figures,
    quantile: f64,
    peers: Vec<(&'a str, &'a Figures)>,
}

impl<'a> Row<'a> {
    /// Starts a row. Its figure is the median of the rounds, shown with the minimum and the
    /// maximum.
    pub fn new(what: &'a str, unit: &'a str, ours: &'a Figures) -> Row<'a> {
        Row {
            what,
            unit,
            ours,
            quantile: 0.5,
            peers: Vec::new(),
        }
    }

    /// Uses the 99th percentile as the figure instead of the median.
    pub fn ninety_ninth(self) -> Row<'a> {
        self.at(0.99)
    }

    /// Uses the quantile for a fraction as the figure instead of the median.
    pub fn at(mut self, fraction: f64) -> Row<'a> {
        self.quantile = fraction;
        self
    }

    /// Adds a peer, which has no figures if it is not installed on this computer. A relative bar
    /// refers to the first peer added.
    pub fn beside(mut self, name: &'a str, peer: &'a Figures) -> Row<'a> {
        self.peers.push((name, peer));
        self
    }

    /// Prints and records the row.
    pub fn print(self, bar: Bar) {
        let mut figure = self.ours.show(self.quantile, self.unit);
        let ours = self.ours.quantile(self.quantile);
        record(&Record::Measured {
            what: self.what.to_string(),
            unit: self.unit.to_string(),
            figure: ours,
        });
        for (name, peer) in &self.peers {
            if peer.is_empty() {
                let _ = write!(figure, " · {name} is not installed");
                continue;
            }
            let times = number(ours / peer.quantile(self.quantile));
            let _ = write!(
                figure,
                " · {name} {}: {times} ×",
                peer.show(self.quantile, self.unit)
            );
        }
        let first = self.peers.first().filter(|(_, peer)| !peer.is_empty());
        let times = first.map(|(_, peer)| ours / peer.quantile(self.quantile));
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
            None => format!("open: {peer} is not installed"),
        };
        finish(self.what, wanted, figure, verdict);
    }
}

/// Prints and records a row for something that cannot be measured on this computer, with the
/// reason.
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
    record(&Record::Row {
        what: what.to_string(),
        bar,
        figure,
        verdict,
    });
}
