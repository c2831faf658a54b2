//! Who sleeps, and whom to wake.
//!
//! At most one worker at a time is woken to search, and while one searches nobody is woken: it will
//! find the work, or look once more after it announced that it gives up. This is a protocol between
//! three parties, and every step of it is sequentially consistent:
//!
//! - who makes work available first publishes it, then reads who searches and who is parked;
//! - who parks first announces it, then looks for published work;
//! - who stops searching because it found something first says so, then looks whether there is
//!   more.
//!
//! Whichever of two such steps comes second sees the other, so no work is left with everybody
//! asleep.

use super::sync::{AtomicUsize, Mutex, Ordering, fence, lock};

/// The sleeping workers of one scheduler.
#[derive(Debug)]
pub(super) struct Idle {
    /// Workers that look for work, among them those that were woken for that and have not started
    /// yet.
    searching: AtomicUsize,
    /// The length of `sleepers`, for those who do not hold the lock.
    parked: AtomicUsize,
    /// Workers that are parked, or about to be, and that nobody has called; the last in is the
    /// warmest.
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

    /// Says how many workers sleep.
    pub(super) fn parked(&self) -> usize {
        self.parked.load(Ordering::SeqCst)
    }

    /// Counts the calling worker among those that search.
    pub(super) fn start_search(&self) {
        self.searching.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends a successful search; answers whether the caller was the last to search, who must then
    /// see whether there is work for one more.
    pub(super) fn end_search(&self) -> bool {
        let last = self.searching.fetch_sub(1, Ordering::SeqCst) == 1;
        fence(Ordering::SeqCst);
        last
    }

    /// Ends a search that found nothing and enters the worker among the sleepers.
    ///
    /// The caller must look for work once more before it sleeps.
    pub(super) fn lie_down(&self, worker: usize) {
        let mut sleepers = lock(&self.sleepers);
        sleepers.push(worker);
        self.parked.fetch_add(1, Ordering::SeqCst);
        self.searching.fetch_sub(1, Ordering::SeqCst);
        drop(sleepers);
        fence(Ordering::SeqCst);
    }

    /// Takes the calling worker back from the sleepers, searching again.
    ///
    /// Answers false if somebody has called it in the meantime: then it is counted already, and the
    /// wake-up is on its way.
    pub(super) fn get_up(&self, worker: usize) -> bool {
        let mut sleepers = lock(&self.sleepers);
        let Some(position) = sleepers.iter().position(|&sleeper| sleeper == worker) else {
            return false;
        };
        sleepers.remove(position);
        self.rise();
        true
    }

    /// Chooses a sleeper to wake for work that was just published, unless somebody searches
    /// already.
    ///
    /// The chosen worker counts as searching from here on; the caller must wake it.
    pub(super) fn call_one(&self) -> Option<usize> {
        fence(Ordering::SeqCst);
        if self.searching.load(Ordering::SeqCst) > 0 || self.parked() == 0 {
            return None;
        }
        let mut sleepers = lock(&self.sleepers);
        // Another caller may have been here first.
        if self.searching.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let worker = sleepers.pop()?;
        self.rise();
        Some(worker)
    }

    /// Moves one from parked to searching, under the lock.
    fn rise(&self) {
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
            idle.lie_down(worker);
        }
        idle
    }

    #[test]
    fn one_worker_is_called_at_a_time_and_the_warmest_first() {
        let idle = asleep(3);
        assert_eq!(idle.call_one(), Some(2));
        assert_eq!(idle.call_one(), None);
        assert!(idle.end_search());
        assert_eq!(idle.call_one(), Some(1));
        assert_eq!(idle.parked(), 1);
    }

    #[test]
    fn nobody_is_called_when_nobody_sleeps() {
        assert_eq!(asleep(0).call_one(), None);
    }

    #[test]
    fn a_worker_that_was_called_cannot_get_up_by_itself() {
        let idle = asleep(2);
        assert_eq!(idle.call_one(), Some(1));
        assert!(!idle.get_up(1));
        assert!(idle.get_up(0));
        assert_eq!(idle.parked(), 0);
        assert!(!idle.end_search());
        assert!(idle.end_search());
    }
}
