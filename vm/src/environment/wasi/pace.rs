//! Decides where file system calls run: on the worker, or on a thread that may block.
//!
//! Most calls only touch the kernel's memory and take microseconds, which is less than the cost of
//! handing a call over to another thread. However, any call may have to wait for a disk. Calls are
//! therefore timed. After a call has blocked for longer than a tick, calls below the same granted
//! directory run on other threads for twenty times as long. Blocking calls thus take at most a
//! twentieth of a worker's time, and if no call blocks, all calls stay on the worker.

#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "queries how often the thread has blocked")
)]

use crate::unblock::unblock;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Records whether the calls below a directory are quick.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When calls may return to the worker, in nanoseconds on the clock of [`now`].
    away_until: AtomicU64,
}

/// A call that waits for longer than this is slow.
const TICK: Duration = Duration::from_millis(1);

/// How long calls stay off the worker after a slow call, as a multiple of the slow call's duration.
const REST: u32 = 20;

/// The maximum time that calls stay off the worker because of one slow call.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// Returns the time since this function was first called, in nanoseconds.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

impl Pace {
    /// Returns whether calls may run on the worker.
    pub(crate) fn is_quick(&self) -> bool {
        match self.away_until.load(Ordering::Relaxed) {
            0 => true,
            until => self.is_quick_at(until, now()),
        }
    }

    fn is_quick_at(&self, until: u64, now: u64) -> bool {
        if now < until {
            return false;
        }
        // This saves the next call from reading the clock. The store may overwrite the time that a
        // slow call has just recorded; the only cost is one more slow call on the worker.
        self.away_until.store(0, Ordering::Relaxed);
        true
    }

    /// Records that a call took `took` and ended at `now`.
    fn note(&self, took: Duration, now: u64) {
        if took > TICK {
            let rest = took.saturating_mul(REST).min(LONGEST_REST);
            let until = now.saturating_add(rest.as_nanos() as u64);
            self.away_until.fetch_max(until, Ordering::Relaxed);
        }
    }

    /// Runs a call on this thread, and records how long it took.
    pub(crate) fn measured<R>(&self, call: impl FnOnce() -> R) -> R {
        let (waits, start) = (waits(), Instant::now());
        let result = call();
        let took = start.elapsed();
        // If the thread was merely preempted, as happens on a busy computer, a long time does not
        // mean that the call blocked.
        if took > TICK && waits != self::waits() {
            self.note(took, now());
        }
        result
    }

    /// Runs a call on this thread if calls are quick, and otherwise on a thread that may block.
    pub(crate) async fn run<R: Send + 'static>(
        self: &Arc<Pace>,
        call: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        if self.is_quick() {
            return self.measured(call);
        }
        self.away(call).await
    }

    /// Runs a call on a thread that may block.
    pub(crate) async fn away<R: Send + 'static>(
        self: &Arc<Pace>,
        call: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        let pace = self.clone();
        unblock(move || pace.measured(call)).await
    }
}

/// Returns how often this thread has blocked.
#[cfg(target_os = "linux")]
fn waits() -> i64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the pointer refers to a `rusage`, which the call initializes if it succeeds.
    unsafe {
        match libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) {
            0 => usage.assume_init().ru_nvcsw,
            _ => 0,
        }
    }
}

/// Returns a different number at each call, because this system does not report whether a thread
/// has blocked.
#[cfg(not(target_os = "linux"))]
fn waits() -> i64 {
    use std::sync::atomic::AtomicI64;
    static CALLS: AtomicI64 = AtomicI64::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    #[test]
    fn a_slow_call_keeps_later_calls_off_the_worker_for_twenty_times_as_long() {
        let pace = Pace::default();
        let is_quick = |now| pace.is_quick_at(pace.away_until.load(Ordering::Relaxed), now);
        pace.note(Duration::from_micros(900), 0);
        assert!(is_quick(0));
        pace.note(Duration::from_millis(2), 5 * MILLISECOND);
        assert!(!is_quick(44 * MILLISECOND));
        assert!(is_quick(45 * MILLISECOND));
        pace.note(Duration::from_secs(3600), 0);
        assert!(!is_quick(9_999 * MILLISECOND));
        assert!(is_quick(10_000 * MILLISECOND));
    }

    #[test]
    fn a_quick_call_runs_where_it_is_made_and_a_call_after_a_slow_one_runs_elsewhere() {
        let pace = Arc::new(Pace::default());
        let here = std::thread::current().id();
        let there = || futures_lite::future::block_on(pace.run(|| std::thread::current().id()));
        assert_eq!(there(), here);
        pace.note(Duration::from_secs(3600), now());
        assert_ne!(there(), here);
    }

    #[test]
    fn a_call_that_waits_for_longer_than_a_tick_is_slow() {
        let pace = Pace::default();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            // Sends once the other thread has waited for a few ticks.
            let start = Instant::now();
            scope.spawn(move || {
                while start.elapsed() < 5 * TICK {
                    std::thread::yield_now();
                }
                sender.send(()).expect("the other thread is waiting");
            });
            pace.measured(|| receiver.recv().expect("the other thread sends"));
        });
        assert_ne!(pace.away_until.load(Ordering::Relaxed), 0);
    }
}
