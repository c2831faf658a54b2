//! The body of the ticker thread, which drives the clock.

use std::time::{Duration, Instant};

use super::pool::WorkerPool;
use super::sync::Parker;
use super::task::{Task, discard};

/// Makes the clock beat once per period while any worker is awake. Returns when the clock is
/// stopped.
pub(super) fn tick(pool: &WorkerPool<Task>, parker: &Parker, period: Duration) {
    let clock = &pool.clock;
    while !clock.is_stopped() {
        pool.sleep_through_idleness(parker);
        let mut deadlines = Deadlines::new(period, Instant::now());
        while !clock.is_stopped() && !pool.all_asleep() {
            // A wake-up that was meant for an earlier sleep can end this wait early. If so, keep
            // waiting.
            if parker.park_deadline(deadlines.next) && Instant::now() < deadlines.next {
                continue;
            }
            if clock.is_stopped() || pool.all_asleep() {
                break;
            }
            discard(pool.beat());
            deadlines.advance(Instant::now());
        }
    }
}

/// The times when the clock beats. Beats come once per period and do not drift. After a stall, the
/// clock beats once rather than catching up on missed beats.
struct Deadlines {
    period: Duration,
    next: Instant,
}

impl Deadlines {
    fn new(period: Duration, now: Instant) -> Self {
        Self {
            period,
            next: now + period,
        }
    }

    fn advance(&mut self, now: Instant) {
        self.next += self.period;
        if self.next <= now {
            self.next = now + self.period;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn deadlines_do_not_drift_when_a_beat_is_a_little_late() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(milliseconds(10), start);
        deadlines.advance(start + milliseconds(13));
        assert_eq!(deadlines.next, start + milliseconds(20));
        deadlines.advance(start + milliseconds(29));
        assert_eq!(deadlines.next, start + milliseconds(30));
    }

    #[test]
    fn a_stalled_ticker_beats_once_and_schedules_the_next_beat_from_then() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(milliseconds(10), start);
        deadlines.advance(start + milliseconds(5_000));
        assert_eq!(deadlines.next, start + milliseconds(5_010));
    }
}
