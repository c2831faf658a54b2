//! Shares a limited number of places among owners, who take turns, so that each owner gets places
//! even if another asks for many. The code in this module never waits or wakes anything.

use std::collections::{HashMap, VecDeque};
use std::num::NonZero;

/// The owner of requests that have no particular owner. It may hold all places.
pub const ANYBODY: u64 = u64::MAX;

/// The places, and the requests waiting for them. Owners are identified by number. If there are
/// several places, no owner except [`ANYBODY`] can hold all of them, and waiting owners take turns.
#[derive(Debug)]
pub struct Turns<T> {
    free: usize,
    /// The maximum number of places that one owner can hold.
    each: usize,
    /// The number of places that each owner holds. No entry is 0.
    taken: HashMap<u64, usize>,
    /// Each owner's waiting requests, in order of arrival. No queue is empty, and the first queue
    /// is served next.
    waiting: VecDeque<(u64, VecDeque<T>)>,
}

impl<T> Turns<T> {
    /// Creates the given number of free places. An owner can hold at most three quarters of them.
    pub fn new(places: NonZero<usize>) -> Turns<T> {
        Turns {
            free: places.get(),
            each: (places.get() * 3 / 4).max(1),
            taken: HashMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Takes a place for an owner. Returns false if the owner has to wait.
    pub fn take(&mut self, owner: u64) -> bool {
        // Requests that are already waiting come first.
        let can = self.can_take(owner) && self.waiting(owner) == 0;
        if can {
            self.count(owner);
        }
        can
    }

    /// Queues a request that has to wait for a place, after [`take`](Turns::take) returned false.
    pub fn wait(&mut self, owner: u64, what: T) {
        match self.waiting.iter_mut().find(|(other, _)| *other == owner) {
            Some((_, queue)) => queue.push_back(what),
            None => self.waiting.push_back((owner, VecDeque::from([what]))),
        }
    }

    /// Returns how many of an owner's requests are waiting for places.
    pub fn waiting(&self, owner: u64) -> usize {
        let queue = self.waiting.iter().find(|(other, _)| *other == owner);
        queue.map_or(0, |(_, queue)| queue.len())
    }

    /// Gives a place back. If a waiting request now gets it, returns the request and its owner.
    pub fn give_back(&mut self, owner: u64) -> Option<(u64, T)> {
        self.free += 1;
        if let Some(taken) = self.taken.get_mut(&owner) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(&owner);
            }
        }
        let next = (0..self.waiting.len()).find(|&queue| self.can_take(self.waiting[queue].0))?;
        let (owner, mut queue) = self.waiting.remove(next)?;
        let what = queue.pop_front()?;
        if !queue.is_empty() {
            self.waiting.push_back((owner, queue));
        }
        self.count(owner);
        Some((owner, what))
    }

    /// Removes an owner's waiting requests for which `is_gone` returns true.
    pub fn remove(&mut self, owner: u64, is_gone: impl Fn(&T) -> bool) {
        if let Some((_, queue)) = self.waiting.iter_mut().find(|(other, _)| *other == owner) {
            queue.retain(|what| !is_gone(what));
        }
        self.waiting.retain(|(_, queue)| !queue.is_empty());
    }

    fn can_take(&self, owner: u64) -> bool {
        let taken = self.taken.get(&owner).copied().unwrap_or(0);
        self.free > 0 && (taken < self.each || owner == ANYBODY)
    }

    fn count(&mut self, owner: u64) {
        self.free -= 1;
        *self.taken.entry(owner).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(places: usize) -> Turns<&'static str> {
        Turns::new(NonZero::new(places).expect("the tests use at least one place"))
    }

    #[test]
    fn an_owner_that_asks_for_everything_leaves_places_for_others() {
        let mut turns = turns(4);
        assert_eq!(
            [(); 5].map(|()| turns.take(1)),
            [true, true, true, false, false]
        );
        assert!(
            turns.take(2) && !turns.take(2),
            "the fourth place is the last one"
        );
    }

    #[test]
    fn requests_without_an_owner_may_hold_all_places() {
        let mut turns = turns(4);
        assert!((0..4).all(|_| turns.take(ANYBODY)) && !turns.take(ANYBODY));
    }

    #[test]
    fn waiting_owners_take_turns() {
        let mut turns = turns(1);
        assert!(turns.take(1));
        for (owner, what) in [(1, "a"), (1, "b"), (1, "c"), (2, "d"), (2, "e"), (3, "f")] {
            assert!(!turns.take(owner));
            turns.wait(owner, what);
        }
        let mut owner = 1;
        let mut order = Vec::new();
        while let Some((next, what)) = turns.give_back(owner) {
            owner = next;
            order.push(what);
        }
        assert_eq!(order, ["a", "d", "f", "b", "e", "c"]);
        assert!(turns.take(3), "the place is free again");
    }

    #[test]
    fn a_removed_request_gets_no_place() {
        let mut turns = turns(1);
        assert!(turns.take(1));
        for what in ["a", "b"] {
            turns.wait(2, what);
        }
        turns.remove(2, |what| *what == "a");
        turns.remove(3, |_| true);
        assert_eq!((turns.waiting(2), turns.give_back(1)), (1, Some((2, "b"))));
        assert_eq!(turns.give_back(2), None);
        assert!(turns.taken.is_empty() && turns.waiting.is_empty());
    }

    #[test]
    fn waiting_requests_go_before_new_ones() {
        let mut turns = turns(2);
        assert!(turns.take(1) && !turns.take(1));
        turns.wait(1, "first");
        assert_eq!(turns.give_back(1), Some((1, "first")));
        turns.wait(1, "second");
        assert!(!turns.take(1));
    }
}
