//! Counts what is in use against limits, without making cores wait for each other.
//!
//! A counter that all workers change travels from core to core with every change. A [`Tally`]
//! therefore grants each thread an allowance in advance, out of which it takes and into which it
//! gives back, so that it usually changes only its own memory. The limits are exact nevertheless:
//! before a tally refuses anything, it collects all allowances.

mod allowances;
mod sync;

use allowances::{Allowance, Granted};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of parts that threads are distributed over.
pub(crate) const PARTS: usize = 8;

/// The amounts in use of several kinds of things.
#[derive(Default)]
pub(crate) struct Tally<const KINDS: usize> {
    granted: Granted<KINDS>,
    /// Created once the tally is busy. Most tallies never are.
    allowances: OnceLock<Box<[Allowance<KINDS>; PARTS]>>,
}

impl<const KINDS: usize> Tally<KINDS> {
    /// Takes an amount of one kind, unless more than `limit` would then be in use.
    ///
    /// # Errors
    ///
    /// Returns the amount that is in use.
    pub(crate) fn take(&self, kind: usize, amount: u64, limit: u64) -> Result<(), u64> {
        if let Some(allowances) = self.allowances.get() {
            let own = &allowances[own_part()];
            return self.granted.take(&allowances[..], own, kind, amount, limit);
        }
        let taken = self.granted.take_directly(kind, amount, limit);
        if taken.is_err() {
            // Allowances that were granted in the meantime may not be in use.
            if let Some(allowances) = self.allowances.get() {
                let own = &allowances[own_part()];
                return self.granted.take(&allowances[..], own, kind, amount, limit);
            }
        } else if self.granted.is_busy() {
            self.allowances.get_or_init(Box::default);
        }
        taken
    }

    /// Gives back an amount that was taken.
    pub(crate) fn give_back(&self, kind: usize, amount: u64) {
        match self.allowances.get() {
            Some(allowances) => {
                let own = &allowances[own_part()];
                self.granted.give_back(own, kind, amount);
            }
            None => self.granted.give_back_directly(kind, amount),
        }
    }

    /// Returns the amount of one kind that is in use. While other threads take and give back, the
    /// result is approximate.
    pub(crate) fn used(&self, kind: usize) -> u64 {
        let allowances = self.allowances.get();
        let allowances = allowances.map_or(&[][..], |allowances| &allowances[..]);
        self.granted.used(allowances, kind)
    }

    /// Returns an amount that is at least the amount in use, without reading other threads'
    /// allowances.
    pub(crate) fn used_at_most(&self, kind: usize) -> u64 {
        self.granted.load(kind)
    }
}

impl<const KINDS: usize> fmt::Debug for Tally<KINDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used: [u64; KINDS] = std::array::from_fn(|kind| self.used(kind));
        f.debug_tuple("Tally").field(&used).finish()
    }
}

/// Returns the part that the current thread uses.
pub(crate) fn own_part() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % PARTS;
    }
    OWN.with(|own| *own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    /// Makes a tally busy.
    fn busy(limit: u64) -> Tally<2> {
        let tally = Tally::default();
        while tally.allowances.get().is_none() {
            tally.take(1, 1, limit).expect("the limit is high enough");
            tally.give_back(1, 1);
        }
        tally
    }

    #[test]
    fn exactly_as_much_as_the_limit_allows_is_taken() {
        for tally in [Tally::default(), busy(100)] {
            for _ in 0..100 {
                tally.take(0, 3, 300).expect("300 are allowed");
            }
            assert_eq!(tally.take(0, 1, 300), Err(300));
            tally.give_back(0, 3);
            assert_eq!(tally.take(0, 4, 300), Err(297));
            tally.take(0, 3, 300).expect("3 were given back");
            assert_eq!((tally.used(0), tally.used(1)), (300, 0));
        }
    }

    #[test]
    fn what_other_threads_do_not_use_is_not_withheld() {
        let tally = &busy(10);
        thread::scope(|scope| {
            for _ in 0..2 * PARTS {
                let other = scope.spawn(|| {
                    for _ in 0..10 {
                        tally.take(0, 1, 10).expect("nothing is in use");
                    }
                    (0..10).for_each(|_| tally.give_back(0, 1));
                });
                other.join().expect("the thread does not panic");
                tally.take(0, 10, 10).expect("nothing is in use");
                tally.give_back(0, 10);
            }
        });
        assert_eq!(tally.used(0), 0);
    }

    #[test]
    fn threads_that_take_at_the_same_time_share_exactly_the_limit() {
        const LIMIT: u64 = 1_000;
        let (tally, start) = (&Tally::<1>::default(), &Barrier::new(4));
        let taken: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        (0..LIMIT)
                            .filter(|_| tally.take(0, 1, LIMIT).is_ok())
                            .count() as u64
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("the thread does not panic"))
                .sum()
        });
        assert_eq!((taken, tally.used(0)), (LIMIT, LIMIT));
    }
}
