//! The text format of Prometheus, version 0.0.4.

use super::{BUCKETS, Metric};
use lunatic_abi::ExitKind;
use std::fmt::Write;

/// What stands under one name, of each program that has it.
#[derive(Default)]
pub(super) struct Family {
    metrics: Vec<(u64, Metric)>,
}

impl Family {
    pub(super) fn add(&mut self, environment: u64, metric: Metric) {
        self.metrics.push((environment, metric));
    }

    pub(super) fn write(&self, text: &mut String, name: &str) {
        let mut kinds = self.metrics.iter().map(|(_, metric)| kind(metric));
        // Programs need not agree what a name is. A name has one type or none, and with two nothing of the page is read.
        if let Some(first) = kinds.next()
            && kinds.all(|kind| kind == first)
        {
            let _ = writeln!(text, "# TYPE {name} {first}");
        }
        for (environment, metric) in &self.metrics {
            write_metric(text, name, *environment, metric);
        }
    }
}

fn kind(metric: &Metric) -> &'static str {
    match metric {
        Metric::Counter(_) => "counter",
        Metric::Gauge(_) => "gauge",
        Metric::Histogram(_) => "histogram",
    }
}

fn write_metric(text: &mut String, name: &str, environment: u64, metric: &Metric) {
    let label = format!("environment=\"{environment}\"");
    // A string takes everything that is written to it.
    let _ = match metric {
        Metric::Counter(count) => writeln!(text, "{name}{{{label}}} {count}"),
        Metric::Gauge(value) => writeln!(text, "{name}{{{label}}} {}", number(*value)),
        Metric::Histogram(histogram) => {
            let mut below = 0;
            for (end, count) in BUCKETS.iter().zip(&histogram.counts) {
                below += count;
                let _ = writeln!(
                    text,
                    "{name}_bucket{{{label},le=\"{}\"}} {below}",
                    number(*end)
                );
            }
            let _ = writeln!(
                text,
                "{name}_bucket{{{label},le=\"+Inf\"}} {}",
                histogram.count
            );
            let _ = writeln!(text, "{name}_sum{{{label}}} {}", number(histogram.sum));
            writeln!(text, "{name}_count{{{label}}} {}", histogram.count)
        }
    };
}

/// Writes one of the machine's own metrics: its values, each with a label's name and value, or without.
pub(super) fn write_own<'a>(
    text: &mut String,
    prefix: &str,
    name: &str,
    kind: &str,
    about: &str,
    values: impl IntoIterator<Item = (&'a str, &'a str, u64)>,
) {
    let _ = writeln!(
        text,
        "# HELP {prefix}{name} {about}\n# TYPE {prefix}{name} {kind}"
    );
    for (label, of, value) in values {
        let label = if label.is_empty() {
            String::new()
        } else {
            format!("{{{label}=\"{of}\"}}")
        };
        let _ = writeln!(text, "{prefix}{name}{label} {value}");
    }
}

/// Returns the label of a way to end.
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

fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        // With an exponent where it is long.
        _ => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Update;

    fn written(metrics: &[(u64, Update)]) -> String {
        let mut family = Family::default();
        for &(environment, update) in metrics {
            let mut metric = Metric::of(update);
            assert!(metric.update(update));
            family.add(environment, metric);
        }
        let mut text = String::new();
        family.write(&mut text, "x");
        text
    }

    #[test]
    fn programs_that_agree_share_a_type() {
        let text = written(&[(0, Update::CounterBy(3)), (7, Update::CounterTo(4))]);
        assert_eq!(
            text,
            "# TYPE x counter\nx{environment=\"0\"} 3\nx{environment=\"7\"} 4\n"
        );
    }

    #[test]
    fn programs_that_do_not_agree_spoil_nothing() {
        let text = written(&[(0, Update::CounterBy(3)), (7, Update::GaugeTo(0.5))]);
        assert_eq!(text, "x{environment=\"0\"} 3\nx{environment=\"7\"} 0.5\n");
    }

    #[test]
    fn buckets_count_all_that_is_below_their_end() {
        let text = written(&[(1, Update::Sample(0.3))]);
        for line in [
            "# TYPE x histogram",
            "x_bucket{environment=\"1\",le=\"0.25\"} 0",
            "x_bucket{environment=\"1\",le=\"0.5\"} 1",
            "x_bucket{environment=\"1\",le=\"1000000.0\"} 1",
            "x_bucket{environment=\"1\",le=\"+Inf\"} 1",
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
    fn numbers_are_written_as_prometheus_reads_them() {
        for (value, expected) in [
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (1e300, "1e300"),
            (-0.5, "-0.5"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}
