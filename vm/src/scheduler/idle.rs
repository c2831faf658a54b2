//! Which workers sleep, and which one to wake.
//!
//! At most one worker at a time is woken to search, and none while another is searching: the
//! searching worker will find the work, or look once more after it has announced that it is giving
//! up. This is a protocol between three parties, every step of which is sequentially consistent:
//!
//! - a thread that makes work available first publishes it, then reads which workers are searching
//!   and which are parked;
//! - a worker that parks first announces this, then looks for published work;
//! - a worker that stops searching because it found work first announces this, then checks whether
//!   there is more.
//!
//! Of two such steps, the second always sees the first, so no work is left while all workers sleep.

use super::sync::{AtomicUsize, Mutex, Ordering, fence, lock};

/// The sleeping workers of one scheduler.
#[derive(Debug)]
pub(super) struct Idle {
    /// The number of workers looking for work, including workers that were woken for this and have
    /// not started yet.
    searching: AtomicUsize,
    /// The length of `sleepers`, to be read without the lock.
    parked: AtomicUsize,
    /// Workers that are parked, or about to be, and have not been picked. The most recent one has
    /// the warmest caches.
    sleepers: Mutex<Vec<usize>>,
}

impl Idle {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            searching: AtomicUsize::new(0),
            parked: AtomicUsize::new(0),
            sleepers: Mutex::new(Vec::with_capacity(workers)),
        }
    }

    /// Returns the number of sleeping workers.
    pub(super) fn parked(&self) -> usize {
        self.parked.load(Ordering::SeqCst)
    }

    /// Counts the calling worker as searching.
    pub(super) fn start_search(&self) {
        self.searching.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends a successful search. Returns whether the caller was the last to search; it must then
    /// check whether there is work for another worker.
    pub(super) fn end_search(&self) -> bool {
        let last = self.searching.fetch_sub(1, Ordering::SeqCst) == 1;
        fence(Ordering::SeqCst);
        last
    }

    /// Ends a search that found nothing and adds the worker to the sleepers.
    ///
    /// The caller must look for work once more before it sleeps.
    pub(super) fn fall_asleep(&self, worker: usize) {
        let mut sleepers = lock(&self.sleepers);
        sleepers.push(worker);
        self.parked.fetch_add(1, Ordering::SeqCst);
        self.searching.fetch_sub(1, Ordering::SeqCst);
        drop(sleepers);
        fence(Ordering::SeqCst);
    }

    /// Removes the calling worker from the sleepers; it is searching again.
    ///
    /// Returns false if it was picked in the meantime: then it is already counted as searching, and
    /// the wake-up is on its way.
    pub(super) fn cancel_sleep(&self, worker: usize) -> bool {
        let mut sleepers = lock(&self.sleepers);
        let Some(position) = sleepers.iter().position(|&sleeper| sleeper == worker) else {
            return false;
        };
        sleepers.remove(position);
        self.mark_searching();
        true
    }

    /// Picks a sleeper to wake for newly published work, unless a worker is already searching.
    ///
    /// The picked worker counts as searching from here on; the caller must wake it.
    pub(super) fn pick_sleeper(&self) -> Option<usize> {
        fence(Ordering::SeqCst);
        if self.searching.load(Ordering::SeqCst) > 0 || self.parked() == 0 {
            return None;
        }
        let mut sleepers = lock(&self.sleepers);
        // Another caller may have been faster.
        if self.searching.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let worker = sleepers.pop()?;
        self.mark_searching();
        Some(worker)
    }

    /// Moves one worker from parked to searching, under the lock.
    fn mark_searching(&self) {
        self.searching.fetch_add(1, Ordering::SeqCst);
        self.parked.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asleep(workers: usize) -> Idle {
        let idle = Idle::new(workers);
        for worker in 0..workers {
            idle.start_search();
            idle.fall_asleep(worker);
        }
        idle
    }

    #[test]
    fn one_worker_is_picked_at_a_time_and_the_warmest_first() {
        let idle = asleep(3);
        assert_eq!(idle.pick_sleeper(), Some(2));
        assert_eq!(idle.pick_sleeper(), None);
        assert!(idle.end_search());
        assert_eq!(idle.pick_sleeper(), Some(1));
        assert_eq!(idle.parked(), 1);
    }

    #[test]
    fn nobody_is_picked_when_nobody_sleeps() {
        assert_eq!(asleep(0).pick_sleeper(), None);
    }

    #[test]
    fn a_worker_that_was_picked_cannot_cancel_its_sleep() {
        let idle = asleep(2);
        assert_eq!(idle.pick_sleeper(), Some(1));
        assert!(!idle.cancel_sleep(1));
        assert!(idle.cancel_sleep(0));
        assert_eq!(idle.parked(), 0);
        assert!(!idle.end_search());
        assert!(idle.end_search());
    }
}
