//! A program's metrics, served to Prometheus by `lunatic --metrics 9100 program.wasm`.
//!
//! A metric is identified by its name. All processes in a program that use the same name share the
//! metric, which does not have to be created first. A name stands for only one kind of metric;
//! updates that use it for another kind are dropped. Updates to new names are dropped once the
//! program has as many names as its environment allows ([`Limit::Metrics`](crate::Limit), 1,000 by
//! default). Dropped updates are counted. Names consist of ASCII letters, digits, `_` and `:`; any
//! other character becomes `_`.
//!
//! ```no_run
//! use lunatic::metrics::{Counter, Gauge, Histogram};
//!
//! const REQUESTS: Counter = Counter::new("requests_total");
//! const OPEN: Gauge = Gauge::new("connections_open");
//! const SECONDS: Histogram = Histogram::new("request_seconds");
//!
//! OPEN.add(1.0);
//! REQUESTS.increment();
//! SECONDS.record(0.25);
//! OPEN.subtract(1.0);
//! ```

use crate::host;

/// A number that only goes up, such as the number of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Counter<'a>(&'a str);

/// A number that goes up and down, such as the number of open connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gauge<'a>(&'a str);

/// A distribution of samples, such as response times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Histogram<'a>(&'a str);

impl<'a> Counter<'a> {
    /// Creates a counter. The name must be 1 to 256 bytes long; using a counter with an invalid
    /// name traps.
    pub const fn new(name: &'a str) -> Self {
        Self(name)
    }

    /// Adds one.
    pub fn increment(&self) {
        host::metrics::increment_counter(self.0);
    }

    /// Sets the counter. Use this for events that are counted elsewhere.
    pub fn set(&self, count: u64) {
        host::metrics::counter(self.0, count);
    }
}

impl<'a> Gauge<'a> {
    /// Creates a gauge. The name must be 1 to 256 bytes long; using a gauge with an invalid name
    /// traps.
    pub const fn new(name: &'a str) -> Self {
        Self(name)
    }

    /// Sets the gauge.
    pub fn set(&self, value: f64) {
        host::metrics::gauge(self.0, value);
    }

    /// Adds to the gauge.
    pub fn add(&self, value: f64) {
        host::metrics::increment_gauge(self.0, value);
    }

    /// Subtracts from the gauge.
    pub fn subtract(&self, value: f64) {
        host::metrics::decrement_gauge(self.0, value);
    }
}

impl<'a> Histogram<'a> {
    /// Creates a histogram. The name must be 1 to 256 bytes long; using a histogram with an invalid
    /// name traps.
    pub const fn new(name: &'a str) -> Self {
        Self(name)
    }

    /// Adds a sample, in any unit. The buckets range from 0.0001 to 1,000,000.
    pub fn record(&self, sample: f64) {
        host::metrics::histogram(self.0, sample);
    }
}
