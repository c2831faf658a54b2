//! How allowances are granted, used and collected.
//!
//! What was granted is always what is in use plus the allowances, except while the lock is held.

use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use crossbeam_utils::CachePadded;

/// The amounts of several kinds that were granted: what is in use, and all allowances.
pub(super) struct Granted<const KINDS: usize> {
    amounts: [AtomicU64; KINDS],
    /// The number of amounts that were taken without an allowance.
    taken: AtomicU64,
    /// Held while anything moves between an allowance and `amounts`. A refusal therefore cannot
    /// overlook what is on its way.
    moving: Mutex<()>,
}

/// What the threads of one part may take without asking.
pub(super) struct Allowance<const KINDS: usize>(CachePadded<[AtomicU64; KINDS]>);

/// How many times an amount is granted in advance.
const ADVANCE: u64 = 32;

/// A tally is busy once this many amounts have been taken.
const BUSY: u64 = 256;

fn zeros<const KINDS: usize>() -> [AtomicU64; KINDS] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl<const KINDS: usize> Default for Granted<KINDS> {
    fn default() -> Granted<KINDS> {
        Granted {
            amounts: zeros(),
            taken: AtomicU64::new(0),
            moving: Mutex::new(()),
        }
    }
}

impl<const KINDS: usize> Default for Allowance<KINDS> {
    fn default() -> Allowance<KINDS> {
        Allowance(CachePadded::new(zeros()))
    }
}

// Relaxed ordering suffices in this file: each amount only has to be correct by itself, and moves
// are ordered by the lock.

/// Subtracts an amount, unless there is less.
fn subtract(from: &AtomicU64, amount: u64) -> bool {
    let less = |held: u64| held.checked_sub(amount);
    from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

impl<const KINDS: usize> Granted<KINDS> {
    /// Takes an amount out of an allowance. If it does not suffice, grants more, and if that would
    /// exceed the limit, collects all allowances. Returns the amount in use if it is too much.
    pub(super) fn take(
        &self,
        all: &[Allowance<KINDS>],
        own: &Allowance<KINDS>,
        kind: usize,
        amount: u64,
        limit: u64,
    ) -> Result<(), u64> {
        if subtract(&own.0[kind], amount) {
            return Ok(());
        }
        let _moving = self.lock();
        let more = amount.saturating_mul(ADVANCE - 1);
        if self
            .take_directly(kind, amount.saturating_add(more), limit)
            .is_ok()
        {
            own.0[kind].fetch_add(more, Ordering::Relaxed);
            return Ok(());
        }
        if self.take_directly(kind, amount, limit).is_ok() {
            return Ok(());
        }
        for allowance in all {
            let unused = allowance.0[kind].swap(0, Ordering::Relaxed);
            self.give_back_directly(kind, unused);
        }
        self.take_directly(kind, amount, limit)
    }

    /// Gives an amount back to an allowance, and returns part of the allowance if it is large.
    pub(super) fn give_back(&self, own: &Allowance<KINDS>, kind: usize, amount: u64) {
        let before = own.0[kind].fetch_add(amount, Ordering::Relaxed);
        let surplus = amount.saturating_mul(ADVANCE);
        if before > surplus.saturating_mul(2) {
            let _moving = self.lock();
            if subtract(&own.0[kind], surplus) {
                self.give_back_directly(kind, surplus);
            }
        }
    }

    /// Takes an amount without an allowance. Returns the amount granted if it is too much.
    pub(super) fn take_directly(&self, kind: usize, amount: u64, limit: u64) -> Result<(), u64> {
        let more = |granted: u64| granted.checked_add(amount).filter(|&sum| sum <= limit);
        self.amounts[kind]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map(drop)
    }

    pub(super) fn give_back_directly(&self, kind: usize, amount: u64) {
        let before = self.amounts[kind].fetch_sub(amount, Ordering::Relaxed);
        debug_assert!(before >= amount, "{amount} given back, {before} granted");
    }

    /// Counts an amount that was taken without an allowance. Returns whether there were many.
    pub(super) fn is_busy(&self) -> bool {
        self.taken.fetch_add(1, Ordering::Relaxed) >= BUSY
    }

    pub(super) fn load(&self, kind: usize) -> u64 {
        self.amounts[kind].load(Ordering::Relaxed)
    }

    /// Returns the amount in use.
    pub(super) fn used(&self, all: &[Allowance<KINDS>], kind: usize) -> u64 {
        let _moving = self.lock();
        let unused = |allowance: &Allowance<KINDS>| allowance.0[kind].load(Ordering::Relaxed);
        self.load(kind).saturating_sub(all.iter().map(unused).sum())
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.moving
            .lock()
            .expect("no code panics while it holds this lock")
    }
}
