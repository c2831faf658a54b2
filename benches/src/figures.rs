//! Figures measured over several rounds.

use crate::ab;

/// The figures from several rounds.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<f64>);

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

    /// Returns whether there are no figures because the peer is not installed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the figures in another unit.
    pub fn map(self, convert: impl Fn(f64) -> f64) -> Figures {
        self.0.into_iter().map(convert).collect()
    }

    /// Returns the quantile for a fraction: the smallest figure at or above that position.
    pub(crate) fn quantile(&self, fraction: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted
            .len()
            .checked_sub(1)
            .expect("a row has at least one round");
        sorted[(last as f64 * fraction).ceil() as usize]
    }

    /// Returns the median.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Returns the smallest figure.
    pub fn least(&self) -> f64 {
        self.quantile(0.0)
    }

    /// Formats a quantile. If there were several rounds, includes the minimum and the maximum.
    pub(crate) fn show(&self, fraction: f64, unit: &str) -> String {
        let value = number(self.quantile(fraction));
        if self.0.len() == 1 {
            return format!("{value} {unit}");
        }
        format!(
            "{value} {unit} ({}–{})",
            number(self.quantile(0.0)),
            number(self.quantile(1.0))
        )
    }
}

/// Takes several measurements alternately, round after round, so that any other load on the
/// computer affects all of them equally.
///
/// Each measurement returns its figures for one round, which are empty if it cannot be taken on
/// this computer. If [`ab::ALONE`] is set, only the first measurement, which is ours, is taken, and
/// only once.
pub fn side_by_side<const N: usize>(
    rounds: usize,
    measure: [&dyn Fn() -> Vec<f64>; N],
) -> [Figures; N] {
    let mut figures = [const { Vec::new() }; N];
    let is_alone = std::env::var_os(ab::ALONE).is_some();
    let (rounds, measured) = if is_alone { (1, 1) } else { (rounds, N) };
    for _ in 0..rounds {
        for (figures, measure) in figures.iter_mut().zip(measure).take(measured) {
            figures.extend(measure());
        }
    }
    figures.map(Figures)
}

/// Formats a number with a meaningful number of digits.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digit.is_ascii_digit() && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_round_counts_and_the_worst_of_a_hundred_does_not() {
        let figures: Figures = (1..=100).rev().map(f64::from).collect();
        assert_eq!(
            (figures.median(), figures.quantile(0.98), figures.least()),
            (51.0, 99.0, 1.0)
        );
        assert_eq!(Figures::from_iter([7.0]).quantile(0.99), 7.0);
    }

    #[test]
    fn measurements_side_by_side_take_turns() {
        let order = std::cell::RefCell::new(String::new());
        let note = |letter| order.borrow_mut().push(letter);
        let [ours, missing] = side_by_side(
            2,
            [
                &|| {
                    note('a');
                    vec![1.0]
                },
                &|| {
                    note('b');
                    Vec::new()
                },
            ],
        );
        assert_eq!(order.into_inner(), "abab");
        assert!(ours.median() == 1.0 && missing.is_empty());
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let written: Vec<String> = [0.5, 12.34, 999.6, 1_234_567.0, -1_234.0]
            .into_iter()
            .map(number)
            .collect();
        assert_eq!(written, ["0.50", "12.3", "1,000", "1,234,567", "-1,234"]);
    }
}
