//! Tests a program's metrics.

use lunatic::metrics;

pub fn metrics_are_accepted() {
    metrics::counter("orders", 5);
    metrics::increment_counter("orders");
    metrics::gauge("queue", 1.5);
    metrics::increment_gauge("queue", 2.0);
    metrics::decrement_gauge("queue", 0.5);
    metrics::histogram("seconds", 0.25);
    println!("taken");
}
