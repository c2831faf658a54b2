//! The scheduler's clock: it beats while something runs and stands still when nothing does.
//!
//! On each beat it calls the embedder, which advances the epoch of its engines so that guests
//! yield. It does not keep wall-clock time.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use super::contain::contain;
use super::sync::{AtomicBool, AtomicU64, Ordering, Parker, Unparker, fence};

/// The time between two beats, unless configured otherwise.
pub(super) const DEFAULT_PERIOD: Duration = Duration::from_millis(1);

/// How the clock beats, and how the time used by tasks is measured.
#[derive(Debug)]
pub(super) enum Timing {
    /// A thread beats once per period, and time is measured. So a task that runs for less than a
    /// beat is charged for what it used, and cannot escape by waiting just before each beat.
    /// Elapsed time is measured; measuring CPU time would cost a system call each time.
    Measured { start: Instant, period: Duration },
    /// The clock beats only when told to. A beat lasts one period, so that nothing depends on how
    /// fast the machine is.
    Manual,
}

/// The hook that is called on every beat.
pub(super) type BeatHook = Box<dyn Fn() + Send + Sync>;

/// The clock as seen by all threads except the ticker's.
pub(super) struct Clock {
    timing: Timing,
    hook: BeatHook,
    /// Beats since the scheduler was made.
    beats: AtomicU64,
    /// Set while the ticker's thread sleeps without a timeout, or is about to; written only by that
    /// thread.
    asleep: AtomicBool,
    /// Set once, when no worker is left.
    stopped: AtomicBool,
    unparker: Unparker,
}

impl Clock {
    pub(super) fn new(timing: Timing, hook: BeatHook, unparker: Unparker) -> Self {
        Self {
            timing,
            hook,
            beats: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            unparker,
        }
    }

    /// Returns the time from one beat to the next, in nanoseconds.
    pub(super) fn period(&self) -> u64 {
        nanoseconds(match self.timing {
            Timing::Measured { period, .. } => period,
            Timing::Manual => DEFAULT_PERIOD,
        })
    }

    /// Returns the time used to charge groups, in nanoseconds from an arbitrary start.
    pub(super) fn now(&self) -> u64 {
        match self.timing {
            Timing::Measured { start, .. } => nanoseconds(start.elapsed()),
            Timing::Manual => self.beats().saturating_mul(self.period()),
        }
    }

    /// Returns the number of beats so far.
    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Counts a beat and calls the hook; if the hook panics, the panic is logged and goes no
    /// further.
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
        contain("the beat of a scheduler", AssertUnwindSafe(&self.hook));
    }

    /// Returns whether the clock will not beat by itself until it is roused.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.timing, Timing::Manual) || self.is_asleep()
    }

    fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::SeqCst)
    }

    /// Wakes the ticker's thread if it sleeps. Any code that takes a worker from the sleepers calls
    /// this.
    ///
    /// Costs a fence and a load, once per worker that becomes active, never per task. The load
    /// comes after the store that made the worker active, while the ticker stores `asleep` before
    /// it reads who is active: with a fence in between on both sides, at least one sees the other.
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

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Sleeps, on the ticker's thread, as long as the scheduler is idle.
    pub(super) fn sleep_while(&self, is_idle: impl Fn() -> bool, parker: &Parker) {
        while is_idle() && !self.is_stopped() {
            self.asleep.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if is_idle() && !self.is_stopped() {
                parker.park();
            }
            self.asleep.store(false, Ordering::SeqCst);
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Clock")
            .field("beats", &self.beats)
            .field("asleep", &self.asleep)
            .finish_non_exhaustive()
    }
}
