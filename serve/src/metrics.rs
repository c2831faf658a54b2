//! Metrics about functions, for Prometheus.
//!
//! The only label values are the names of at most [`FUNCTIONS`] functions and the outcomes that
//! [`Failure::outcome`] can return. Text from clients or guests never becomes a label.

use crate::{Failure, Name};
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{
    EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder, MetricEncoder,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// The maximum number of functions that have their own metrics. All others are counted as one.
const FUNCTIONS: usize = 1000;

/// The upper bounds of the latency buckets, in seconds.
const SECONDS: [f64; 16] = [
    1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 2.5e-1, 5e-1, 1e0, 2.5e0,
    1e1, 3e1,
];

/// The upper bounds of the memory buckets, in bytes: 64 KiB to 1 GiB.
const BYTES: [f64; 8] = [
    65536.0,
    262144.0,
    1048576.0,
    4194304.0,
    16777216.0,
    67108864.0,
    268435456.0,
    1073741824.0,
];

/// The metrics of all functions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    families: Families,
    /// The functions with their own metrics.
    known: Mutex<BTreeMap<Name, Weak<FunctionMetrics>>>,
}

type Histograms = Family<Function, Histogram, fn() -> Histogram>;

struct Families {
    requests: Family<Outcome, Total>,
    latency: Histograms,
    running: Family<Function, Gauge>,
    memory: Histograms,
    instructions: Family<Function, Total>,
    deploys: Family<Deploy, Total>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Function {
    function: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    function: Label,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Deploy {
    outcome: &'static str,
}

/// A function's name, or `None` for all functions that do not have their own metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Label(Option<Name>);

/// A counter whose samples are named like the counter itself, as required by version 0.0.4 of
/// Prometheus's text format. In OpenMetrics, sample names have a suffix.
#[derive(Clone, Debug, Default)]
struct Total(Counter);

/// A function's metrics. They are removed when the function is removed.
pub(crate) struct FunctionMetrics {
    metrics: Metrics,
    label: Label,
    latency: Histogram,
    running: Gauge,
    memory: Histogram,
    instructions: Total,
    /// Requests by outcome, for outcomes that have occurred.
    requests: Mutex<BTreeMap<&'static str, Total>>,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let families = Families {
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            running: Family::default(),
            memory: Family::new_with_constructor(|| Histogram::new(BYTES)),
            instructions: Family::default(),
            deploys: Family::default(),
        };
        let mut registry = Registry::with_prefix("lunatic_function");
        let help = "Requests that ended, by outcome";
        registry.register("requests_total", help, families.requests.clone());
        let help = "Time from a request to the end of its response";
        registry.register("request_seconds", help, families.latency.clone());
        let help = "Requests being served";
        registry.register("running", help, families.running.clone());
        let help =
            "Memory of a spark's process at its end, or of a component's instance after a request";
        registry.register("memory_bytes", help, families.memory.clone());
        let help = "Instructions executed, where compute is limited";
        registry.register("instructions_total", help, families.instructions.clone());
        let help = "Versions that were deployed or refused, by outcome";
        registry.register("deploys_total", help, families.deploys.clone());
        Metrics(Arc::new(Inner {
            registry,
            families,
            known: Mutex::default(),
        }))
    }

    /// Returns a function's metrics.
    pub(crate) fn of(&self, name: &Name) -> Arc<FunctionMetrics> {
        // The lock is held until all metrics exist, because another function with the same name may
        // be dropping its own.
        let mut known = self.known();
        if let Some(metrics) = known.get(name).and_then(Weak::upgrade) {
            return metrics;
        }
        let has_own = known.len() < FUNCTIONS || known.contains_key(name);
        let label = Label(has_own.then(|| name.clone()));
        let function = Function {
            function: label.clone(),
        };
        let families = &self.0.families;
        let metrics = Arc::new(FunctionMetrics {
            metrics: self.clone(),
            latency: families.latency.get_or_create_owned(&function),
            running: families.running.get_or_create_owned(&function),
            memory: families.memory.get_or_create_owned(&function),
            instructions: families.instructions.get_or_create_owned(&function),
            requests: Mutex::default(),
            label,
        });
        if has_own {
            known.insert(name.clone(), Arc::downgrade(&metrics));
        }
        metrics
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Name, Weak<FunctionMetrics>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a deploy.
    pub(crate) fn deployed(&self, outcome: &'static str) {
        self.0
            .families
            .deploys
            .get_or_create(&Deploy { outcome })
            .0
            .inc();
    }

    /// Returns all metrics in Prometheus's text format, version 0.0.4.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        encode_registry(&mut text, &self.0.registry).expect("writing to a string cannot fail");
        text
    }
}

/// The outcome of a request that was answered, whatever its status.
const ANSWERED: &str = "answered";

impl FunctionMetrics {
    /// Counts the start of a request.
    pub(crate) fn began(&self) {
        self.running.inc();
    }

    /// Counts the end of a request.
    pub(crate) fn ended(&self, failure: Option<&Failure>, took: Duration) {
        self.running.dec();
        self.latency.observe(took.as_secs_f64());
        let outcome = failure.map_or(ANSWERED, Failure::outcome);
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = requests.entry(outcome).or_insert_with(|| {
            let outcome = Outcome {
                function: self.label.clone(),
                outcome,
            };
            self.metrics
                .0
                .families
                .requests
                .get_or_create_owned(&outcome)
        });
        counter.0.inc();
    }

    /// Records the memory used by a process, in bytes.
    pub(crate) fn had_memory(&self, bytes: usize) {
        // This is exact up to 2^53.
        self.memory.observe(bytes as f64);
    }

    /// Records the number of instructions that a request executed, if known.
    pub(crate) fn computed(&self, instructions: Option<u64>) {
        self.instructions.0.inc_by(instructions.unwrap_or(0));
    }
}

impl Drop for FunctionMetrics {
    fn drop(&mut self) {
        let Label(Some(name)) = &self.label else {
            return;
        };
        let metrics = self.metrics.clone();
        let mut known = metrics.known();
        // A new function with the same name may already be using the same counters.
        if !known
            .get(name)
            .is_some_and(|known| ptr::eq(known.as_ptr(), self))
        {
            return;
        }
        known.remove(name);
        let families = &metrics.0.families;
        let function = Function {
            function: self.label.clone(),
        };
        families.latency.remove(&function);
        families.running.remove(&function);
        families.memory.remove(&function);
        families.instructions.remove(&function);
        for outcome in self
            .requests
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
        {
            families.requests.remove(&Outcome {
                function: self.label.clone(),
                outcome,
            });
        }
    }
}

impl EncodeMetric for Total {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        // Encoded as a gauge, because `encode_counter` would append a suffix.
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Total {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        // No function can have the name used for `None`.
        self.0
            .as_ref()
            .map_or("(others)", Name::as_str)
            .encode(encoder)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect("the names below are valid")
    }

    #[test]
    fn requests_are_counted_by_function_and_outcome() {
        let metrics = Metrics::new();
        let hello = metrics.of(&name("hello"));
        for _ in 0..3 {
            hello.began();
        }
        hello.ended(None, Duration::from_millis(2));
        hello.ended(Some(&Failure::NoAnswer), Duration::from_millis(2));
        hello.had_memory(1 << 20);
        hello.computed(Some(5));
        hello.computed(None);
        metrics.deployed("deployed");
        let text = metrics.text();
        for line in [
            "# TYPE lunatic_function_requests_total counter",
            "lunatic_function_requests_total{function=\"hello\",outcome=\"answered\"} 1",
            "lunatic_function_requests_total{function=\"hello\",outcome=\"no_answer\"} 1",
            "# TYPE lunatic_function_request_seconds histogram",
            "lunatic_function_request_seconds_bucket{le=\"0.0025\",function=\"hello\"} 2",
            "lunatic_function_running{function=\"hello\"} 1",
            "lunatic_function_memory_bytes_sum{function=\"hello\"} 1048576.0",
            "lunatic_function_instructions_total{function=\"hello\"} 5",
            "lunatic_function_deploys_total{outcome=\"deployed\"} 1",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "`{line}` is not in:\n{text}"
            );
        }
    }

    #[test]
    fn the_metrics_of_a_function_disappear_with_it() {
        let metrics = Metrics::new();
        let hello = metrics.of(&name("hello"));
        hello.began();
        hello.ended(None, Duration::ZERO);
        assert!(Arc::ptr_eq(&hello, &metrics.of(&name("hello"))));
        drop(hello);
        assert!(!metrics.text().contains("hello"));
    }

    #[test]
    fn t180_the_number_of_labels_is_limited() {
        let metrics = Metrics::new();
        let functions: Vec<_> = (0..2 * FUNCTIONS)
            .map(|number| metrics.of(&name(&format!("f{number}"))))
            .collect();
        for function in &functions {
            function.began();
            function.ended(None, Duration::ZERO);
        }
        let text = metrics.text();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("lunatic_function_requests_total{"));
        assert_eq!(lines.count(), FUNCTIONS + 1);
        assert!(text.contains(&format!(
            "{{function=\"(others)\",outcome=\"answered\"}} {FUNCTIONS}"
        )));
    }
}
