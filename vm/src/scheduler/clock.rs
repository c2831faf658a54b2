//! The scheduler's clock, which beats while any worker is awake and stops while all workers sleep.
//!
//! On each beat, the clock calls a hook, with which the embedder advances its engines' epoch so
//! that guests yield. The clock does not keep wall-clock time.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use super::contain::contain;
use super::sync::{AtomicBool, AtomicU64, Ordering, Parker, Unparker, fence};

/// The time between two beats, unless configured otherwise.
pub(super) const DEFAULT_PERIOD: Duration = Duration::from_millis(1);

/// What drives the clock, and how the time used by tasks is measured.
#[derive(Debug)]
pub(super) enum Timing {
    /// A thread makes the clock beat once per period, and the time that tasks use is measured. A
    /// task that runs for less than a beat is therefore charged for the time it used, and cannot
    /// avoid the charge by going to sleep just before each beat. This is elapsed time, because
    /// measuring CPU time would cost a system call each time.
    Measured { start: Instant, period: Duration },
    /// The clock beats only when [`Clock::beat`] is called. Each beat counts as one period, so
    /// results do not depend on the speed of the computer.
    Manual,
}

/// The hook that is called on every beat.
pub(super) type BeatHook = Box<dyn Fn() + Send + Sync>;

/// The clock, shared by all threads of a scheduler.
pub(super) struct Clock {
    timing: Timing,
    hook: BeatHook,
    /// The number of beats since the scheduler was created.
    beats: AtomicU64,
    /// Set while the ticker thread is sleeping, or about to sleep, without a timeout. Written only
    /// by that thread.
    asleep: AtomicBool,
    /// Set once there are no workers left.
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

    /// Returns the current time in nanoseconds since an arbitrary origin. Groups are charged
    /// according to this time.
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

    /// Counts a beat and calls the hook. If the hook panics, the panic is logged and not
    /// propagated.
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
        contain("the beat of a scheduler", AssertUnwindSafe(&self.hook));
    }

    /// Returns whether the clock is at rest, meaning that it does not beat on its own until it is
    /// roused.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.timing, Timing::Manual) || self.is_asleep()
    }

    fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::SeqCst)
    }

    /// Wakes the ticker thread if it is asleep. All code that removes a worker from the list of
    /// sleepers, or lets another thread run a task, must call this method.
    ///
    /// This costs a fence and a load each time a thread becomes active, but workers have no
    /// per-task cost. The load comes after the store that made the thread active, and the ticker
    /// stores `asleep` before it reads which threads are active. Both sides have a fence in
    /// between, so at least one of the two threads sees the other's store.
    pub(super) fn rouse(&self) {
        fence(Ordering::SeqCst);
        if self.is_asleep() {
            self.unparker.unpark();
        }
    }

    /// Tells the ticker thread to exit.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.unparker.unpark();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Sleeps while the scheduler is idle. Called only on the ticker thread.
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
