//! The clock of the machine: it beats while something runs and sleeps when nothing does.
//!
//! A beat tells the embedder (who advances the epoch of his engine, so that guests yield) and looks
//! after tasks that wait in a queue while a worker sleeps. The ticker keeps no wall time for
//! anybody.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use super::contain::contain;
use super::crew::Crew;
use super::sync::{AtomicBool, AtomicU64, Ordering, Parker, Unparker, fence};

/// By what time is counted that tasks use.
///
/// Where the clock beats by itself, time is measured, so that a task that runs for less than a beat is charged for what it
/// used, and cannot look innocent by waiting just before each beat. It is the time that passed and not what the thread
/// computed, which would be a system call each time. Where the clock beats by hand a beat is a period long, and nothing
/// depends on how fast the machine is.
#[derive(Debug)]
pub(super) enum Clock {
    Measured { start: Instant, period: Duration },
    ByHand,
}

/// The time between two beats unless the builder is told otherwise.
pub(super) const DEFAULT_PERIOD: Duration = Duration::from_millis(1);

impl Clock {
    pub(super) fn ticks_by_itself(&self) -> bool {
        matches!(self, Clock::Measured { .. })
    }

    /// Returns the time from one beat to the next, in nanoseconds.
    pub(super) fn period(&self) -> u64 {
        let period = match self {
            Clock::Measured { period, .. } => *period,
            Clock::ByHand => DEFAULT_PERIOD,
        };
        nanoseconds(period)
    }

    /// Returns the time since some beginning, in nanoseconds.
    pub(super) fn now(&self, ticker: &Ticker) -> u64 {
        match self {
            Clock::Measured { start, .. } => nanoseconds(start.elapsed()),
            Clock::ByHand => ticker.beats().saturating_mul(self.period()),
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// What is called on every beat.
pub(super) type Beat = Box<dyn Fn() + Send + Sync>;

/// The clock as seen by everybody else.
pub(super) struct Ticker {
    hook: Beat,
    /// Beats since the scheduler was made.
    beats: AtomicU64,
    /// Set while the ticker's thread sleeps without an end, or is about to; only that thread writes
    /// it.
    asleep: AtomicBool,
    /// Set once, when no worker is left.
    stopped: AtomicBool,
    unparker: Unparker,
}

impl Ticker {
    pub(super) fn new(hook: Beat, unparker: Unparker) -> Self {
        Self {
            hook,
            beats: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            unparker,
        }
    }

    /// Says how often the clock has beaten.
    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Counts a beat and tells the embedder; a panic of his is logged and goes no further.
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
        contain("the beat of a scheduler", AssertUnwindSafe(&self.hook));
    }

    /// Says whether the ticker's thread sleeps until somebody rouses it.
    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::SeqCst)
    }

    /// Wakes the ticker's thread if it sleeps. Whoever takes a worker from the sleepers calls this.
    ///
    /// Costs a fence and a load, and that only when a worker becomes active, never per task. The
    /// load comes after the store that made the worker active, while the ticker stores `asleep`
    /// before it reads who is active: with a fence between on both sides, one of the two sees the
    /// other.
    pub(super) fn rouse(&self) {
        fence(Ordering::SeqCst);
        if self.is_asleep() {
            self.unparker.unpark();
        }
    }

    /// Ends the ticker's thread.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.unparker.unpark();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Sleeps as long as every worker does.
    pub(super) fn sleep_through_idleness<T>(&self, crew: &Crew<T>, parker: &Parker) {
        while crew.everybody_sleeps() && !self.is_stopped() {
            self.asleep.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if crew.everybody_sleeps() && !self.is_stopped() {
                parker.park();
            }
            self.asleep.store(false, Ordering::SeqCst);
        }
    }
}

impl fmt::Debug for Ticker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Ticker")
            .field("beats", &self.beats)
            .field("asleep", &self.asleep)
            .finish_non_exhaustive()
    }
}

/// The body of the ticker's thread.
pub(super) fn tick<T>(crew: &Crew<T>, parker: &Parker, period: Duration) {
    let ticker = &crew.ticker;
    while !ticker.is_stopped() {
        ticker.sleep_through_idleness(crew, parker);
        let mut deadlines = Deadlines::new(period, Instant::now());
        while !ticker.is_stopped() && !crew.everybody_sleeps() {
            // A wake-up that came too late for a sleep ends this wait early: go on waiting.
            if parker.park_deadline(deadlines.next) && Instant::now() < deadlines.next {
                continue;
            }
            if ticker.is_stopped() || crew.everybody_sleeps() {
                break;
            }
            crew.beat();
            deadlines.advance(Instant::now());
        }
    }
}

/// When to beat: every period, without drift, and once after a stall rather than once for each
/// beat that was missed.
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
    fn a_stalled_ticker_beats_once_and_starts_afresh() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(milliseconds(10), start);
        deadlines.advance(start + milliseconds(5_000));
        assert_eq!(deadlines.next, start + milliseconds(5_010));
    }
}
