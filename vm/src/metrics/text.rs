//! The page that Prometheus scrapes, in version 0.0.4 of its text format.
//!
//! `prometheus_client` writes OpenMetrics, which differs from this format in only one respect: a
//! counter `x` has a sample named `x_total`. Here, every metric keeps the name that its program
//! chose. A counter is therefore encoded like a gauge, but declared as type `counter`.

use super::metric::{BUCKETS, Metric};
use lunatic_abi::ExitKind;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;

/// A snapshot of all metrics.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) own: Vec<OwnMetric>,
    /// The metrics by name. Each metric is paired with the environment of the program that created
    /// it.
    pub(super) programs: BTreeMap<Box<str>, Vec<(u64, Metric)>>,
}

/// One of the VM's own metrics.
#[derive(Debug)]
pub(super) struct OwnMetric {
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    pub(super) help: &'static str,
    pub(super) values: Values,
}

/// A single value, or one value per label value.
#[derive(Debug)]
pub(super) enum Values {
    One(u64),
    Labelled(&'static str, Vec<(String, u64)>),
}

impl Page {
    /// Writes the page.
    pub(super) fn into_text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode_registry(&mut text, &registry).expect("writing to a string never fails");
        text
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for OwnMetric {
            name,
            kind,
            help,
            values,
        } in &self.own
        {
            let mut metric = encoder.encode_descriptor(name, help, None, *kind)?;
            match values {
                Values::One(value) => metric.encode_gauge(value)?,
                Values::Labelled(label, values) => {
                    for (of, value) in values {
                        metric
                            .encode_family(&[(*label, of.as_str())])?
                            .encode_gauge(value)?;
                    }
                }
            }
        }
        for (name, metrics) in &self.programs {
            let help = "Reported by guest programs.";
            let mut family = encoder.encode_descriptor(name, help, None, kind(metrics))?;
            for (environment, metric) in metrics {
                let labels = [("environment", *environment)];
                encode(metric, family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Returns the type to report for metrics that share a name. The format allows only one type for
/// each name, so if programs disagree, this is the most general type.
fn kind(metrics: &[(u64, Metric)]) -> MetricType {
    let is_all = |is: fn(&Metric) -> bool| metrics.iter().all(|(_, metric)| is(metric));
    if is_all(|metric| matches!(metric, Metric::Counter(_))) {
        MetricType::Counter
    } else if is_all(|metric| matches!(metric, Metric::Histogram(_))) {
        MetricType::Histogram
    } else {
        MetricType::Gauge
    }
}

fn encode(metric: &Metric, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    match metric {
        Metric::Counter(count) => encoder.encode_gauge(count),
        Metric::Gauge(value) => encoder.encode_gauge(value),
        Metric::Histogram(histogram) => {
            let counts = &histogram.counts;
            let above = histogram.count - counts.iter().sum::<u64>();
            let buckets: Vec<(f64, u64)> = BUCKETS
                .into_iter()
                .zip(counts.iter().copied())
                .chain([(f64::INFINITY, above)])
                .collect();
            encoder.encode_histogram::<NoLabelSet>(histogram.sum, histogram.count, &buckets, None)
        }
    }
}

/// Returns the label value for a kind of exit.
pub(super) fn reason(kind: ExitKind) -> &'static str {
    match kind {
        ExitKind::Normal => "normal",
        ExitKind::Status => "status",
        ExitKind::Trapped => "trapped",
        ExitKind::Killed => "killed",
        ExitKind::Limit => "limit",
        ExitKind::LinkDied => "link_died",
        ExitKind::NoProcess => "no_process",
        _ => "fault",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::metric::Update;

    fn written(metrics: &[(u64, Update)]) -> String {
        let metric = |&(environment, update)| {
            let mut metric = Metric::of(update);
            assert!(metric.update(update));
            (environment, metric)
        };
        let metrics = metrics.iter().map(metric).collect();
        let page = Page {
            own: Vec::new(),
            programs: [("x".into(), metrics)].into(),
        };
        page.into_text()
    }

    #[test]
    fn programs_that_use_the_same_type_share_it() {
        let text = written(&[(0, Update::CounterBy(3)), (7, Update::CounterTo(4))]);
        assert_eq!(
            text,
            "# HELP x Reported by guest programs.\n# TYPE x counter\nx{environment=\"0\"} 3\nx{environment=\"7\"} 4\n"
        );
    }

    #[test]
    fn programs_that_use_different_types_get_a_valid_page() {
        let text = written(&[(0, Update::CounterBy(3)), (7, Update::GaugeTo(0.5))]);
        assert_eq!(
            text,
            "# HELP x Reported by guest programs.\n# TYPE x gauge\nx{environment=\"0\"} 3\nx{environment=\"7\"} 0.5\n"
        );
        let text = written(&[(0, Update::CounterBy(3)), (7, Update::Sample(0.5))]);
        assert_eq!(text.matches("# TYPE").count(), 1, "{text}");
    }

    #[test]
    fn each_bucket_counts_all_samples_up_to_its_bound() {
        let text = written(&[(1, Update::Sample(0.3))]);
        for line in [
            "# TYPE x histogram",
            "x_bucket{le=\"0.25\",environment=\"1\"} 0",
            "x_bucket{le=\"0.5\",environment=\"1\"} 1",
            "x_bucket{le=\"1000000.0\",environment=\"1\"} 1",
            "x_bucket{le=\"+Inf\",environment=\"1\"} 1",
            "x_sum{environment=\"1\"} 0.3",
            "x_count{environment=\"1\"} 1",
        ] {
            assert!(
                text.lines().any(|known| known == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn numbers_are_written_in_the_form_that_prometheus_reads() {
        for (value, expected) in [
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (1e300, "1e300"),
            (-0.5, "-0.5"),
        ] {
            let text = written(&[(0, Update::GaugeTo(value))]);
            assert_eq!(
                text.lines().last(),
                Some(format!("x{{environment=\"0\"}} {expected}").as_str())
            );
        }
    }
}
