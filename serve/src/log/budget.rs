//! A rate limit. Unused budget accumulates for up to one second.

use std::time::Instant;

/// A rate and the amount that is left. The budget does not have its own clock.
#[derive(Debug)]
pub(super) struct Budget {
    /// The amount per second.
    rate: u64,
    left: u64,
    since: Instant,
}

impl Budget {
    /// Creates a full budget.
    pub(super) fn new(rate: u64, now: Instant) -> Budget {
        Budget {
            rate,
            left: rate,
            since: now,
        }
    }

    /// Takes an amount. If less is left, takes nothing and returns false.
    pub(super) fn takes(&mut self, amount: u64, now: Instant) -> bool {
        self.refill(now);
        let Some(left) = self.left.checked_sub(amount) else {
            return false;
        };
        self.left = left;
        true
    }

    fn refill(&mut self, now: Instant) {
        let passed = now
            .saturating_duration_since(self.since)
            .as_micros()
            .min(1_000_000);
        let gained = self.rate * u64::try_from(passed).expect("the refill is limited to a second")
            / 1_000_000;
        // Time too short to gain anything counts toward the next refill.
        if gained > 0 {
            self.left = self.rate.min(self.left + gained);
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_budget_is_spent_and_refilled() {
        let begin = Instant::now();
        let mut budget = Budget::new(100, begin);
        assert!(budget.takes(60, begin));
        assert!(!budget.takes(60, begin));
        assert!(budget.takes(40, begin));
        assert!(!budget.takes(1, begin + Duration::from_millis(9)));
        assert!(budget.takes(50, begin + Duration::from_millis(500)));
        assert!(!budget.takes(101, begin + Duration::from_secs(60)));
        assert!(budget.takes(100, begin + Duration::from_secs(60)));
    }
}
