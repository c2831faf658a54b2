//! What programs and the machine count, for whoever collects it.
//!
//! A program's metrics belong to it: two programs that use one name have two metrics, told apart by the label `environment`,
//! and what a program named goes with it. Nothing is kept of a sample but that it was counted, so that the only thing that
//! guests can grow is the number of names, which is bounded.

mod text;

use crate::environment::{Environment, Permit};
use crate::process::{Exit, Process};
use lunatic_abi::{ExitKind, Limit};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use text::Family;

/// What the names of the machine's own metrics begin with, and no program's.
const OWN_NAMES: &str = "lunatic_machine_";

/// So many metrics the programs of a machine can name together.
const MAX_NAMED: u64 = 10_000;

/// The metrics of a machine.
pub(crate) struct Metrics {
    /// Processes that there were, and of those that ended how many did so in which way.
    appeared: AtomicU64,
    ended: [AtomicU64; ExitKind::ALL.len()],
    /// Mail that processes got which have ended, and the most that was told of all.
    mail_of_the_dead: AtomicU64,
    mail_told: AtomicU64,
    /// Metrics that programs have named.
    named: Arc<AtomicU64>,
    programs: Mutex<Vec<Weak<Named>>>,
}

/// The metrics that one program has named.
#[derive(Debug)]
pub(crate) struct Named {
    /// The number of the program's environment.
    environment: u64,
    /// How many all programs have named.
    in_all: Arc<AtomicU64>,
    metrics: Mutex<HashMap<Box<str>, Entry>>,
    /// Updates that were left out.
    left_out: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    metric: Metric,
    /// Its place in the quota of the environment that named it first.
    _permit: Permit,
}

/// What stands under a name.
#[derive(Clone, Debug)]
enum Metric {
    Counter(u64),
    Gauge(f64),
    Histogram(Box<Histogram>),
}

/// The upper ends of a histogram's buckets. Seconds, milliseconds and bytes all find some that tell them apart.
const BUCKETS: [f64; 31] = [
    1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 2.5e-1, 5e-1, 1e0, 2.5e0,
    5e0, 1e1, 2.5e1, 5e1, 1e2, 2.5e2, 5e2, 1e3, 2.5e3, 5e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 1e6,
];

/// How samples are spread.
#[derive(Clone, Debug)]
struct Histogram {
    /// How many lie in each bucket and not in the one before.
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

/// A change of a metric, which also says what kind of metric it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Update {
    /// A counter counts so many from now on.
    CounterTo(u64),
    /// A counter counts so many more.
    CounterBy(u64),
    GaugeTo(f64),
    GaugeBy(f64),
    /// A histogram gets a sample.
    Sample(f64),
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        Metrics {
            appeared: AtomicU64::new(0),
            ended: std::array::from_fn(|_| AtomicU64::new(0)),
            mail_of_the_dead: AtomicU64::new(0),
            mail_told: AtomicU64::new(0),
            named: Arc::default(),
            programs: Mutex::default(),
        }
    }

    /// A process appeared.
    pub(crate) fn appeared(&self) {
        // Relaxed, here and below: each count is read by itself.
        self.appeared.fetch_add(1, Ordering::Relaxed);
    }

    /// A process ended that got so much mail in its life.
    pub(crate) fn ended(&self, exit: &Exit, mail: u64) {
        self.ended[exit.kind() as usize].fetch_add(1, Ordering::Relaxed);
        self.mail_of_the_dead.fetch_add(mail, Ordering::Relaxed);
    }

    /// Makes the metrics of a program.
    pub(crate) fn of_program(&self, environment: u64) -> Arc<Named> {
        let named = Arc::new(Named {
            environment,
            in_all: self.named.clone(),
            metrics: Mutex::default(),
            left_out: AtomicU64::new(0),
        });
        let mut programs = lock(&self.programs);
        programs.retain(|program| program.strong_count() > 0);
        programs.push(Arc::downgrade(&named));
        named
    }

    /// Writes everything in the text format of Prometheus.
    pub(crate) fn text(&self, processes: &[Process]) -> String {
        let programs: Vec<Arc<Named>> = lock(&self.programs)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let mut families: BTreeMap<Box<str>, Family> = BTreeMap::new();
        for program in &programs {
            for (name, entry) in lock(&program.metrics).iter() {
                families
                    .entry(name.clone())
                    .or_default()
                    .add(program.environment, entry.metric.clone());
            }
        }
        let mut text = String::new();
        self.write_own(&mut text, processes, &programs);
        for (name, family) in families {
            family.write(&mut text, &name);
        }
        text
    }

    fn write_own(&self, text: &mut String, processes: &[Process], programs: &[Arc<Named>]) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        text::write_own(
            text,
            OWN_NAMES,
            "processes",
            "gauge",
            "Processes alive.",
            [("", "", processes.len() as u64)],
        );
        let appeared = [("", "", load(&self.appeared))];
        text::write_own(
            text,
            OWN_NAMES,
            "processes_spawned_total",
            "counter",
            "Processes that there were.",
            appeared,
        );
        let ended = ExitKind::ALL.iter().map(|&kind| {
            (
                "reason",
                text::reason(kind),
                load(&self.ended[kind as usize]),
            )
        });
        text::write_own(
            text,
            OWN_NAMES,
            "processes_ended_total",
            "counter",
            "Processes that ended, and how.",
            ended,
        );
        // A process that ends while this adds up may be missed, and a counter must not go back.
        let dead = load(&self.mail_of_the_dead);
        let mail = dead + processes.iter().map(Process::mail_received).sum::<u64>();
        let mail = mail.max(self.mail_told.fetch_max(mail, Ordering::Relaxed));
        let about = "Messages, and ends of other processes, that were put into mailboxes.";
        text::write_own(
            text,
            OWN_NAMES,
            "mail_total",
            "counter",
            about,
            [("", "", mail)],
        );
        let numbers: Vec<(String, u64)> = programs
            .iter()
            .map(|program| (program.environment.to_string(), load(&program.left_out)))
            .collect();
        let left_out = numbers
            .iter()
            .map(|(number, count)| ("environment", number.as_str(), *count));
        let about = "Updates of programs' metrics that were left out: of too many names, or of one as two kinds.";
        text::write_own(
            text,
            OWN_NAMES,
            "metrics_left_out_total",
            "counter",
            about,
            left_out,
        );
    }
}

impl Named {
    /// Changes a metric, which is made where there is none of this name; leaves it out where there are too many, or where the
    /// name is that of another kind.
    pub(crate) fn update(&self, environment: &Environment, name: &str, update: Update) {
        let name = plain(name);
        let mut metrics = lock(&self.metrics);
        let is_done = match metrics.get_mut(name.as_ref()) {
            Some(entry) => entry.metric.update(update),
            None => match self.admit(environment, &name) {
                Some(permit) => {
                    let mut metric = Metric::of(update);
                    metric.update(update);
                    metrics.insert(
                        name.as_ref().into(),
                        Entry {
                            metric,
                            _permit: permit,
                        },
                    );
                    true
                }
                None => false,
            },
        };
        if !is_done {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a new name, if there is room for one.
    fn admit(&self, environment: &Environment, name: &str) -> Option<Permit> {
        if name.starts_with(OWN_NAMES) {
            return None;
        }
        let permit = environment.quota().permit(Limit::Metrics, 1).ok()?;
        let more = |named: u64| (named < MAX_NAMED).then_some(named + 1);
        self.in_all
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(permit)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.in_all
            .fetch_sub(lock(&self.metrics).len() as u64, Ordering::Relaxed);
    }
}

impl Metric {
    /// Makes the metric that an update is one of, as it is before it.
    fn of(update: Update) -> Metric {
        match update {
            Update::CounterTo(_) | Update::CounterBy(_) => Metric::Counter(0),
            Update::GaugeTo(_) | Update::GaugeBy(_) => Metric::Gauge(0.0),
            Update::Sample(_) => Metric::Histogram(Box::new(Histogram {
                counts: [0; BUCKETS.len()],
                count: 0,
                sum: 0.0,
            })),
        }
    }

    /// Changes it; says whether the update is one for this kind.
    fn update(&mut self, update: Update) -> bool {
        match (self, update) {
            (Metric::Counter(counter), Update::CounterTo(value)) => *counter = value,
            (Metric::Counter(counter), Update::CounterBy(more)) => {
                *counter = counter.saturating_add(more)
            }
            (Metric::Gauge(gauge), Update::GaugeTo(value)) => *gauge = value,
            (Metric::Gauge(gauge), Update::GaugeBy(more)) => *gauge += more,
            (Metric::Histogram(histogram), Update::Sample(sample)) => histogram.add(sample),
            _ => return false,
        }
        true
    }
}

impl Histogram {
    fn add(&mut self, sample: f64) {
        self.count = self.count.saturating_add(1);
        self.sum += sample;
        // What is greater than all of them, or no number, is in none.
        if let Some(bucket) = BUCKETS.iter().position(|&end| sample <= end) {
            self.counts[bucket] += 1;
        }
    }
}

/// Makes a name one of Prometheus's: letters, digits, `_` and `:`, not beginning with a digit. Anything else becomes `_`, so
/// that names which differ only there are one.
fn plain(name: &str) -> Cow<'_, str> {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    let begins_well = name.starts_with(is_letter);
    if begins_well && name.chars().all(|c| is_letter(c) || c.is_ascii_digit()) {
        return name.into();
    }
    let mut plain = String::with_capacity(name.len() + 1);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        plain.push('_');
    }
    plain.extend(name.chars().map(|c| {
        if is_letter(c) || c.is_ascii_digit() {
            c
        } else {
            '_'
        }
    }));
    plain.into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds metrics")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_prometheus_reads() {
        for (name, expected) in [
            ("requests_total", "requests_total"),
            ("job:rate", "job:rate"),
            ("http.requests-total", "http_requests_total"),
            ("3xx", "_3xx"),
            ("ä b\n{x=\"y\"} 1", "__b__x__y___1"),
        ] {
            assert_eq!(plain(name), expected);
        }
    }

    #[test]
    fn a_sample_is_counted_in_its_bucket() {
        let mut metric = Metric::of(Update::Sample(0.0));
        for sample in [0.0, 1.0, 1.1, 1e9, f64::NAN, -5.0] {
            assert!(metric.update(Update::Sample(sample)));
        }
        let Metric::Histogram(histogram) = metric else {
            panic!("a sample makes a histogram")
        };
        let at = |end: f64| {
            histogram.counts[BUCKETS
                .iter()
                .position(|&bucket| bucket == end)
                .expect("it is one")]
        };
        assert_eq!((histogram.count, at(1e-4), at(1.0), at(2.5)), (6, 2, 1, 1));
        assert!(BUCKETS.is_sorted());
    }

    #[test]
    fn a_metric_keeps_its_kind() {
        let mut counter = Metric::of(Update::CounterBy(1));
        assert!(
            counter.update(Update::CounterBy(u64::MAX)) && counter.update(Update::CounterBy(1))
        );
        assert!(matches!(counter, Metric::Counter(u64::MAX)));
        assert!(!counter.update(Update::GaugeTo(1.0)) && !counter.update(Update::Sample(1.0)));
        assert!(matches!(counter, Metric::Counter(u64::MAX)));
    }
}
