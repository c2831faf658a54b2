//! Decides when to restart something that failed. This module is plain data and never reads a
//! clock.
//!
//! The limit is Erlang's, from the chapter "Maximum Restart Intensity" of OTP's *Supervisor
//! Behaviour*: if more than `restarts` restarts occur `within` a period, the supervisor gives up.
//! Delays between restarts are an addition.
//!
//! The caller passes in the time, measured from an origin of its choice.

use alloc::collections::VecDeque;
use core::time::Duration;

/// The number of restarts allowed within a period. After one more failure, the supervisor gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// Erlang's `intensity` (`MaxR`).
    pub restarts: usize,
    /// Erlang's `period` (`MaxT`).
    pub within: Duration,
}

/// The delay before each restart. By default, restarts are not delayed.
///
/// ```
/// use core::time::Duration;
/// use lunatic_abi::restart::Backoff;
///
/// let [first, most] = [100, 300].map(Duration::from_millis);
/// let backoff = Backoff { immediate: 1, first, most };
/// let delays = [0, 1, 2, 3].map(|failures| backoff.delay(failures).as_millis());
/// assert_eq!(delays, [0, 100, 200, 300]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// The number of consecutive restarts that are not delayed.
    pub immediate: u32,
    /// The first delay. Each subsequent delay is twice as long.
    pub first: Duration,
    /// The maximum delay.
    pub most: Duration,
}

impl Backoff {
    /// Returns the delay before the restart that follows `failures` earlier failures.
    pub fn delay(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(self.immediate) else {
            return Duration::ZERO;
        };
        let times = 2u32.saturating_pow(doublings);
        self.first.saturating_mul(times).min(self.most)
    }
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Restart after a delay.
    Restart {
        /// The delay.
        after: Duration,
    },
    /// Give up after too many failures.
    GiveUp,
}

/// Failures within the last period, which determine whether and when the next restart happens.
#[derive(Clone, Debug)]
pub struct Restarts {
    intensity: Intensity,
    backoff: Backoff,
    recent: VecDeque<Duration>,
}

impl Restarts {
    /// Creates an empty record.
    pub fn new(intensity: Intensity, backoff: Backoff) -> Self {
        Self {
            intensity,
            backoff,
            recent: VecDeque::new(),
        }
    }

    /// Counts a failure and decides what to do. The delay grows with the number of failures within
    /// the period.
    pub fn on_failure(&mut self, now: Duration) -> Decision {
        let is_old = |&then: &Duration| now.saturating_sub(then) > self.intensity.within;
        while self.recent.front().is_some_and(is_old) {
            self.recent.pop_front();
        }
        let earlier = self.recent.len();
        self.recent.push_back(now);
        if earlier >= self.intensity.restarts {
            return Decision::GiveUp;
        }
        let after = self
            .backoff
            .delay(u32::try_from(earlier).unwrap_or(u32::MAX));
        Decision::Restart { after }
    }
}

/// The number of consecutive failures after short runs. A streak delays restarts but never causes
/// the supervisor to give up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak(u32);

impl Streak {
    /// Counts a failure and returns the delay before the restart. A failure after a long run starts
    /// a new streak.
    pub fn on_failure(&mut self, had_run_for_long: bool, backoff: &Backoff) -> Duration {
        let failures = if had_run_for_long { 0 } else { self.0 };
        self.0 = failures.saturating_add(1);
        backoff.delay(failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        immediate: 1,
        first: Duration::from_millis(100),
        most: Duration::from_millis(300),
    };

    fn restarts(restarts: usize) -> Restarts {
        let within = Duration::from_secs(10);
        Restarts::new(Intensity { restarts, within }, BACKOFF)
    }

    fn after(milliseconds: u64) -> Decision {
        Decision::Restart {
            after: Duration::from_millis(milliseconds),
        }
    }

    #[test]
    fn delays_double_up_to_the_maximum_and_one_failure_too_many_ends_the_restarts() {
        let mut restarts = restarts(5);
        let decisions =
            [0, 1, 2, 3, 4, 10].map(|now| restarts.on_failure(Duration::from_secs(now)));
        let expected = [after(0), after(100), after(200), after(300), after(300)];
        assert_eq!(decisions[..5], expected);
        assert_eq!(decisions[5], Decision::GiveUp);
    }

    #[test]
    fn failures_before_the_period_do_not_count() {
        let mut restarts = restarts(1);
        for round in 0..100 {
            let now = Duration::from_secs(11 * round);
            assert_eq!(restarts.on_failure(now), after(0));
        }
        assert!(restarts.recent.len() <= 2);
    }

    #[test]
    fn nothing_is_restarted_if_no_restart_is_allowed() {
        assert_eq!(restarts(0).on_failure(Duration::ZERO), Decision::GiveUp);
    }

    #[test]
    fn a_streak_ends_after_a_long_run() {
        let mut streak = Streak::default();
        let mut delay =
            |had_run_for_long| streak.on_failure(had_run_for_long, &BACKOFF).as_millis();
        assert_eq!([false; 4].map(&mut delay), [0, 100, 200, 300]);
        assert!(
            (0..100).all(|_| delay(false) == 300),
            "the delay must not overflow"
        );
        assert_eq!([true, false, true].map(delay), [0, 100, 0]);
    }

    #[test]
    fn without_a_backoff_restarts_are_not_delayed() {
        let mut streak = Streak::default();
        assert!((0..100).all(|_| streak.on_failure(false, &Backoff::default()).is_zero()));
    }
}
