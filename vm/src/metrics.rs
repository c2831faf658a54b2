//! Metrics of the VM and its programs, which Prometheus can scrape.
//!
//! Each metric belongs to a program. If two programs use the same name, there are two metrics with
//! different `environment` labels. A program's metrics disappear when it ends. Samples are
//! aggregated rather than stored, so guests can increase memory use only by using more names, and
//! the number of names is limited.

mod metric;
mod text;

pub(crate) use metric::Update;

use crate::environment::{Permit, Quota};
use crate::tally::{PARTS, own_part};
use crossbeam_utils::CachePadded;
use lunatic_abi::{ExitKind, Limit};
use lunatic_process::Exit;
use metric::Metric;
use prometheus_client::metrics::MetricType;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use text::{OwnMetric, Page, Values};

/// The name prefix of the VM's own metrics. Programs cannot use this prefix.
const OWN_NAMES: &str = "lunatic_machine_";

/// The maximum number of metrics across all of a VM's programs.
const MAX_NAMED: u64 = 10_000;

/// The size of a metric, excluding its name, in bytes.
const METRIC: u64 = 512;

/// The metrics of a VM.
pub(crate) struct Metrics {
    /// What each part of the threads has counted. Workers do not contend for them.
    counts: [CachePadded<Counts>; PARTS],
    /// The highest total of messages and death notices reported so far.
    mail_reported: AtomicU64,
    /// The number of metrics that programs have created.
    named: Arc<AtomicU64>,
    programs: Mutex<Vec<Weak<Named>>>,
}

/// What happened to processes, as counted by some of the threads.
#[derive(Debug, Default)]
struct Counts {
    /// The number of processes spawned.
    appeared: AtomicU64,
    /// The number of processes that have ended, for each kind of exit.
    ended: [AtomicU64; ExitKind::ALL.len()],
    /// The number of messages and death notices received by processes that have ended.
    mail_of_the_dead: AtomicU64,
}

/// The metrics that one program has created.
#[derive(Debug)]
pub(crate) struct Named {
    /// The number of the program's environment.
    environment: u64,
    /// The total number of metrics that all programs have created.
    total: Arc<AtomicU64>,
    metrics: Mutex<HashMap<Box<str>, Slot>>,
    /// The number of skipped updates.
    left_out: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    metric: Metric,
    /// Permits from the quota of the environment that first used the metric: one for the metric
    /// itself, and one for the host memory that it occupies.
    _permits: [Permit; 2],
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        Metrics {
            counts: Default::default(),
            mail_reported: AtomicU64::new(0),
            named: Arc::default(),
            programs: Mutex::default(),
        }
    }

    /// Counts a spawned process.
    pub(crate) fn appeared(&self) {
        // Relaxed ordering suffices here and below, because the counts are independent.
        let counts = &self.counts[own_part()];
        counts.appeared.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a process that has ended, along with the mail that it received.
    pub(crate) fn ended(&self, exit: &Exit, mail: u64) {
        let counts = &self.counts[own_part()];
        counts.ended[exit.kind() as usize].fetch_add(1, Ordering::Relaxed);
        counts.mail_of_the_dead.fetch_add(mail, Ordering::Relaxed);
    }

    /// Creates a program's metrics.
    pub(crate) fn of_program(&self, environment: u64) -> Arc<Named> {
        let named = Arc::new(Named {
            environment,
            total: self.named.clone(),
            metrics: Mutex::default(),
            left_out: AtomicU64::new(0),
        });
        let mut programs = lock(&self.programs);
        programs.retain(|program| program.strong_count() > 0);
        programs.push(Arc::downgrade(&named));
        named
    }

    /// Returns all metrics in Prometheus's text format. `alive` is the number of live processes,
    /// and `mail` returns how many messages and death notices they have received.
    pub(crate) fn text(&self, alive: u64, mail: impl FnOnce() -> u64) -> String {
        let programs: Vec<Arc<Named>> = lock(&self.programs)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let mut page = Page {
            own: self.own(alive, mail, &programs).into(),
            ..Page::default()
        };
        for program in &programs {
            for (name, slot) in lock(&program.metrics).iter() {
                let named = page.programs.entry(name.clone()).or_default();
                named.push((program.environment, slot.metric.clone()));
            }
        }
        page.into_text()
    }

    fn sum(&self, count: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        let counts = self.counts.iter();
        counts.map(|part| count(part).load(Ordering::Relaxed)).sum()
    }

    /// Returns the VM's own metrics.
    fn own(
        &self,
        alive: u64,
        mail: impl FnOnce() -> u64,
        programs: &[Arc<Named>],
    ) -> [OwnMetric; 5] {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let ended = ExitKind::ALL.iter().map(|&kind| {
            let count = self.sum(|counts| &counts.ended[kind as usize]);
            (text::reason(kind).to_string(), count)
        });
        // The total for ended processes is read first, so that if a process ends in between, its
        // mail is missed rather than counted twice. The reported total never decreases, because it
        // is a counter.
        let mail = self.sum(|counts| &counts.mail_of_the_dead) + mail();
        let mail = mail.max(self.mail_reported.fetch_max(mail, Ordering::Relaxed));
        let left_out = programs
            .iter()
            .map(|program| (program.environment.to_string(), load(&program.left_out)));
        let counter = |name, help, values| OwnMetric {
            name,
            kind: MetricType::Counter,
            help,
            values,
        };
        [
            OwnMetric {
                name: "lunatic_machine_processes",
                kind: MetricType::Gauge,
                help: "Live processes.",
                values: Values::One(alive),
            },
            counter(
                "lunatic_machine_processes_spawned_total",
                "Processes spawned.",
                Values::One(self.sum(|counts| &counts.appeared)),
            ),
            counter(
                "lunatic_machine_processes_ended_total",
                "Processes that ended, by reason.",
                Values::Labelled("reason", ended.collect()),
            ),
            counter(
                "lunatic_machine_mail_total",
                "Messages and death notices put into mailboxes.",
                Values::One(mail),
            ),
            counter(
                "lunatic_machine_metrics_left_out_total",
                "Metric updates skipped because there were too many names or a name was used for two kinds of metric.",
                Values::Labelled("environment", left_out.collect()),
            ),
        ]
    }
}

impl Named {
    /// Updates the metric with the given name, creating it if necessary. The update is skipped if
    /// there are too many metrics, or if the existing metric is of a different kind.
    pub(crate) fn update(&self, quota: &Arc<Quota>, name: &str, update: Update) {
        let name = plain(name);
        let mut metrics = lock(&self.metrics);
        let is_done = match metrics.get_mut(name.as_ref()) {
            Some(slot) => slot.metric.update(update),
            None => match self.admit(quota, &name) {
                Some(permits) => {
                    let mut metric = Metric::of(update);
                    metric.update(update);
                    metrics.insert(
                        name.as_ref().into(),
                        Slot {
                            metric,
                            _permits: permits,
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

    /// Counts a new metric. Returns `None` if the name is reserved or a limit has been reached.
    fn admit(&self, quota: &Arc<Quota>, name: &str) -> Option<[Permit; 2]> {
        if name.starts_with(OWN_NAMES) {
            return None;
        }
        let permits = [
            quota.permit(Limit::Metrics, 1).ok()?,
            quota
                .permit(Limit::TotalHostMemory, METRIC + name.len() as u64)
                .ok()?,
        ];
        let more = |named: u64| (named < MAX_NAMED).then_some(named + 1);
        self.total
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(permits)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.total
            .fetch_sub(lock(&self.metrics).len() as u64, Ordering::Relaxed);
    }
}

/// Makes a name valid for Prometheus. A valid name consists of letters, digits, `_` and `:`, and
/// does not begin with a digit. Any other character is replaced by `_`, so names that differ only
/// in such characters become identical.
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
    mutex
        .lock()
        .expect("no code panics while it holds this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_valid_for_prometheus() {
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
}
