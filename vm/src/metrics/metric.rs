//! Metric values, as plain data.

/// A metric's value.
#[derive(Clone, Debug)]
pub(super) enum Metric {
    Counter(u64),
    Gauge(f64),
    Histogram(Box<Histogram>),
}

/// The upper bounds of a histogram's buckets. They are suitable for seconds, milliseconds and
/// bytes.
pub(super) const BUCKETS: [f64; 31] = [
    1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 2.5e-1, 5e-1, 1e0, 2.5e0,
    5e0, 1e1, 2.5e1, 5e1, 1e2, 2.5e2, 5e2, 1e3, 2.5e3, 5e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 1e6,
];

/// A distribution of samples.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    /// The number of samples in each bucket. Not cumulative.
    pub(super) counts: [u64; BUCKETS.len()],
    pub(super) count: u64,
    pub(super) sum: f64,
}

/// An update to a metric. If the metric is new, this determines its kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Update {
    /// Sets a counter.
    CounterTo(u64),
    /// Adds to a counter.
    CounterBy(u64),
    /// Sets a gauge.
    GaugeTo(f64),
    /// Adds to a gauge.
    GaugeBy(f64),
    /// Adds a sample to a histogram.
    Sample(f64),
}

impl Metric {
    /// Creates a metric of the kind that an update requires, with its initial value.
    pub(super) fn of(update: Update) -> Metric {
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

    /// Applies an update. Returns false if it is for a different kind of metric.
    pub(super) fn update(&mut self, update: Update) -> bool {
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
        // NaN, and samples above all bounds, are not in any bucket.
        if let Some(bucket) = BUCKETS.iter().position(|&end| sample <= end) {
            self.counts[bucket] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_counted_in_its_bucket() {
        let mut metric = Metric::of(Update::Sample(0.0));
        for sample in [0.0, 1.0, 1.1, 1e9, f64::NAN, -5.0] {
            assert!(metric.update(Update::Sample(sample)));
        }
        let Metric::Histogram(histogram) = metric else {
            panic!("a metric created for a sample is a histogram")
        };
        let at = |end: f64| {
            histogram.counts[BUCKETS
                .iter()
                .position(|&bucket| bucket == end)
                .expect("the bound is in the list of buckets")]
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
