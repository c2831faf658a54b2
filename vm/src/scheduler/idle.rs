//! Tracks which workers are asleep, and decides which one to wake when there is work.
//!
//! At most one worker at a time is woken to search for work, and only if no other worker is already
//! searching. The searching worker either finds the work, or looks again after it has announced
//! that it is giving up. This is a protocol between three parties, and every step is sequentially
//! consistent:
//!
//! - a thread that makes work available publishes the work first, then reads how many workers are
//!   searching and how many are parked;
//! - a worker that is about to park announces this first, then looks for published work;
//! - a worker that stops searching because it found work announces this first, then checks whether
//!   there is more work.
//!
//! Of any two such parties, the one that announces its step later sees the other's announcement.
//! The workers can therefore never all be asleep while there is work left.
//!
//! Other threads can run tasks too. They are counted, but they neither search nor sleep here.

use super::sync::{AtomicUsize, Mutex, Ordering, fence, lock};

/// Which of a scheduler's workers are searching for work, and which are asleep.
#[derive(Debug)]
pub(super) struct Idle {
    /// The number of workers searching for work, including workers that were woken to search and
    /// have not started yet.
    searching: AtomicUsize,
    /// The length of `sleepers`, stored separately so that it can be read without taking the lock,
    /// plus [`LENT`] for each thread that is not a worker and is running a task. Both are in one
    /// number, so that a single load shows whether anything is running.
    parked: AtomicUsize,
    /// The workers that are parked or about to park and have not been picked to be woken. The last
    /// worker in the list fell asleep most recently, so its caches are the warmest.
    sleepers: Mutex<Vec<usize>>,
}

/// What a thread that is not a worker adds to the number of parked workers while it runs a task.
const LENT: usize = 1 << (usize::BITS / 2);

impl Idle {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            searching: AtomicUsize::new(0),
            parked: AtomicUsize::new(0),
            sleepers: Mutex::new(Vec::with_capacity(workers)),
        }
    }

    /// Returns the number of workers in the list of sleepers.
    pub(super) fn parked(&self) -> usize {
        self.parked.load(Ordering::SeqCst) % LENT
    }

    /// Returns whether exactly `workers` workers are asleep and no other thread is running a task.
    pub(super) fn is_at_rest(&self, workers: usize) -> bool {
        self.parked.load(Ordering::SeqCst) == workers
    }

    /// Counts the calling thread, which is not a worker, as running a task.
    pub(super) fn start_lending(&self) {
        self.parked.fetch_add(LENT, Ordering::SeqCst);
    }

    /// Ends what [`start_lending`](Self::start_lending) started.
    pub(super) fn end_lending(&self) {
        self.parked.fetch_sub(LENT, Ordering::SeqCst);
    }

    /// Counts the calling worker as searching.
    pub(super) fn start_search(&self) {
        self.searching.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends a successful search. Returns whether the calling worker was the last one searching, in
    /// which case it must check whether there is work for another worker.
    pub(super) fn end_search(&self) -> bool {
        let last = self.searching.fetch_sub(1, Ordering::SeqCst) == 1;
        fence(Ordering::SeqCst);
        last
    }

    /// Ends an unsuccessful search, and adds the worker to the sleepers.
    ///
    /// The caller must look for work again before it sleeps.
    pub(super) fn fall_asleep(&self, worker: usize) {
        let mut sleepers = lock(&self.sleepers);
        sleepers.push(worker);
        self.parked.fetch_add(1, Ordering::SeqCst);
        self.searching.fetch_sub(1, Ordering::SeqCst);
        drop(sleepers);
        fence(Ordering::SeqCst);
    }

    /// Removes the calling worker from the sleepers and counts it as searching again.
    ///
    /// Returns false if the worker was picked to be woken in the meantime. In that case, it is
    /// already counted as searching, and will be woken.
    pub(super) fn cancel_sleep(&self, worker: usize) -> bool {
        let mut sleepers = lock(&self.sleepers);
        let Some(position) = sleepers.iter().position(|&sleeper| sleeper == worker) else {
            return false;
        };
        sleepers.remove(position);
        self.mark_searching();
        true
    }

    /// Picks a sleeping worker to wake for newly published work, unless a worker is already
    /// searching.
    ///
    /// The picked worker is then counted as searching, and the caller must wake it.
    pub(super) fn pick_sleeper(&self) -> Option<usize> {
        fence(Ordering::SeqCst);
        if self.searching.load(Ordering::SeqCst) > 0 || self.parked() == 0 {
            return None;
        }
        let mut sleepers = lock(&self.sleepers);
        // Another thread may have picked a sleeper in the meantime.
        if self.searching.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let worker = sleepers.pop()?;
        self.mark_searching();
        Some(worker)
    }

    /// Counts one worker as searching instead of parked. The caller must hold the lock.
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
    fn one_worker_is_picked_at_a_time_starting_with_the_last_to_fall_asleep() {
        let idle = asleep(3);
        assert_eq!(idle.pick_sleeper(), Some(2));
        assert_eq!(idle.pick_sleeper(), None);
        assert!(idle.end_search());
        assert_eq!(idle.pick_sleeper(), Some(1));
        assert_eq!(idle.parked(), 1);
    }

    #[test]
    fn no_worker_is_picked_when_none_is_asleep() {
        assert_eq!(asleep(0).pick_sleeper(), None);
    }

    #[test]
    fn a_lent_thread_disturbs_the_rest_and_not_the_count_of_sleepers() {
        let idle = asleep(2);
        assert!(idle.is_at_rest(2));
        idle.start_lending();
        idle.start_lending();
        assert!(!idle.is_at_rest(2));
        assert_eq!(idle.parked(), 2);
        assert_eq!(idle.pick_sleeper(), Some(1));
        idle.end_lending();
        idle.end_lending();
        assert_eq!(idle.parked(), 1);
        assert!(idle.is_at_rest(1));
    }

    #[test]
    fn a_picked_worker_cannot_cancel_its_sleep() {
        let idle = asleep(2);
        assert_eq!(idle.pick_sleeper(), Some(1));
        assert!(!idle.cancel_sleep(1));
        assert!(idle.cancel_sleep(0));
        assert_eq!(idle.parked(), 0);
        assert!(!idle.end_search());
        assert!(idle.end_search());
    }
}
