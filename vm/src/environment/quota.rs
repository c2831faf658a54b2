//! An environment's limits, and what its processes use in total.
//!
//! Usage in an environment that a process created also counts in its creator's environment, so a
//! process gains nothing by creating environments.

use super::descriptors::Descriptors;
use super::limits::Limits;
use crate::tally::Tally;
use event_listener::{Event, EventListener};
use lunatic_abi::{FUEL_PER_UNIT, Limit};
use lunatic_process::{LimitReached, Purse};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of one environment.
#[derive(Debug)]
pub(crate) struct Quota {
    limits: Limits,
    used: [AtomicU64; Limit::ALL.len()],
    /// The amounts that every process changes, see [`often`].
    often: Tally<2>,
    /// The fuel burned. Amounts of less than a unit accumulate here.
    fuel: AtomicU64,
    /// Notified when a socket or another descriptor is released, here or in any other environment
    /// under the same outermost one.
    socket_freed: Arc<Event>,
    /// How many environments enclose this one.
    depth: u32,
    /// The counters of the environment that encloses this one.
    outer: Option<Arc<Quota>>,
    /// The descriptors shared by the machine's programs. `Some` if this is a program's outermost
    /// environment.
    descriptors: Option<Arc<Descriptors>>,
}

impl Quota {
    pub(crate) fn new(limits: Limits, outer: Option<Arc<Quota>>) -> Quota {
        let depth = outer.as_ref().map_or(0, |outer| outer.depth + 1);
        let socket_freed = outer
            .as_ref()
            .map_or_else(Arc::default, |outer| outer.socket_freed.clone());
        let used = std::array::from_fn(|_| AtomicU64::new(0));
        Quota {
            limits,
            used,
            often: Tally::default(),
            fuel: AtomicU64::new(0),
            socket_freed,
            depth,
            outer,
            descriptors: None,
        }
    }

    /// Creates the counters of a program's outermost environment.
    pub(crate) fn of_program(limits: Limits, descriptors: Arc<Descriptors>) -> Quota {
        Quota {
            descriptors: Some(descriptors),
            ..Quota::new(limits, None)
        }
    }

    /// Returns the limits of this environment.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns how many environments enclose this one.
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    /// Counts the fuel burned, here and in all enclosing environments. Fuel beyond a limit is
    /// counted too, because it has already been burned.
    ///
    /// # Errors
    ///
    /// If a limit is exceeded.
    pub(crate) fn burn(&self, fuel: u64) -> Result<(), LimitReached> {
        let burned = self
            .fuel
            .fetch_add(fuel, Ordering::Relaxed)
            .saturating_add(fuel);
        let outside = self.outer.as_ref().map_or(Ok(()), |outer| outer.burn(fuel));
        let allowed = self.limits.get(Limit::TotalCompute);
        if burned > allowed.saturating_mul(FUEL_PER_UNIT) {
            let wanted = Some(burned.div_ceil(FUEL_PER_UNIT));
            return Err(LimitReached {
                limit: Limit::TotalCompute,
                allowed,
                wanted,
            });
        }
        outside
    }

    /// Checks that more fuel may be burned, here and in all enclosing environments.
    pub(crate) fn check_compute(&self) -> Result<(), LimitReached> {
        let allowed = self.limits.get(Limit::TotalCompute);
        if self.fuel.load(Ordering::Relaxed) >= allowed.saturating_mul(FUEL_PER_UNIT) {
            return Err(LimitReached {
                limit: Limit::TotalCompute,
                allowed,
                wanted: None,
            });
        }
        self.outer
            .as_ref()
            .map_or(Ok(()), |outer| outer.check_compute())
    }

    /// Returns how much more fuel may be burned, here and in all enclosing environments.
    pub(crate) fn compute_left(&self) -> u64 {
        let left = |quota: &Quota| {
            let allowed = quota
                .limits
                .get(Limit::TotalCompute)
                .saturating_mul(FUEL_PER_UNIT);
            allowed.saturating_sub(quota.fuel.load(Ordering::Relaxed))
        };
        self.outwards()
            .map(left)
            .min()
            .expect("the iterator begins with this quota")
    }

    /// Charges an amount to this environment and all enclosing environments, or to none of them if
    /// a limit would be exceeded. A socket also counts as a descriptor.
    pub(crate) fn charge(&self, limit: Limit, amount: u64) -> Result<(), LimitReached> {
        if limit != Limit::Sockets {
            return self.charge_outwards(limit, amount);
        }
        self.charge_outwards(Limit::Descriptors, amount)?;
        self.charge_outwards(limit, amount)
            .inspect_err(|_| self.release_outwards(Limit::Descriptors, amount))
    }

    fn charge_outwards(&self, limit: Limit, amount: u64) -> Result<(), LimitReached> {
        if amount == 0 {
            return Ok(());
        }
        for (charged, quota) in self.outwards().enumerate() {
            if let Err(reached) = quota.charge_here(limit, amount) {
                for quota in self.outwards().take(charged) {
                    quota.release_here(limit, amount);
                }
                return Err(reached);
            }
        }
        Ok(())
    }

    /// Returns the counters of the whole program.
    pub(crate) fn outermost(&self) -> &Quota {
        self.outwards()
            .last()
            .expect("the iterator begins with this quota")
    }

    /// Returns the size of the processes' memories plus what the host holds for the processes, in
    /// bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.used(Limit::TotalMemory) + self.used(Limit::TotalHostMemory)
    }

    /// Returns this quota and the enclosing quotas.
    fn outwards(&self) -> impl Iterator<Item = &Quota> {
        std::iter::successors(Some(self), |quota| quota.outer.as_deref())
    }

    fn charge_here(&self, limit: Limit, amount: u64) -> Result<(), LimitReached> {
        let allowed = self.limits.get(limit);
        if let Some(kind) = often(limit) {
            let taken = self.often.take(kind, amount, allowed);
            return taken.map_err(|used| LimitReached {
                limit,
                allowed,
                wanted: Some(used.saturating_add(amount)),
            });
        }
        // Relaxed, here and below: each counter only has to be correct by itself.
        let counted =
            self.used[limit as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(amount).filter(|&sum| sum <= allowed)
            });
        let too_much = |used: u64| LimitReached {
            limit,
            allowed,
            wanted: Some(used.saturating_add(amount)),
        };
        let before = counted.map_err(too_much)?;
        if limit == Limit::Descriptors
            && let Some(descriptors) = &self.descriptors
        {
            let held = before + amount;
            descriptors.take(amount, held).map_err(|allowed| {
                self.used[limit as usize].fetch_sub(amount, Ordering::Relaxed);
                LimitReached {
                    limit,
                    allowed,
                    wanted: None,
                }
            })?;
        }
        Ok(())
    }

    fn release_here(&self, limit: Limit, amount: u64) {
        if let Some(kind) = often(limit) {
            self.often.give_back(kind, amount);
            return;
        }
        let before = self.used[limit as usize].fetch_sub(amount, Ordering::Relaxed);
        debug_assert!(
            before >= amount,
            "{limit:?}: {amount} released, {before} in use"
        );
        if limit == Limit::Descriptors
            && let Some(descriptors) = &self.descriptors
        {
            descriptors.give_back(amount);
        }
    }

    /// Releases an amount.
    pub(crate) fn release(&self, limit: Limit, amount: u64) {
        self.release_outwards(limit, amount);
        if limit == Limit::Sockets {
            self.release_outwards(Limit::Descriptors, amount);
        }
        if matches!(limit, Limit::Sockets | Limit::Descriptors) {
            // Wake all listeners, because there is no telling which environment each one is waiting
            // for.
            self.socket_freed.notify(usize::MAX);
        }
    }

    fn release_outwards(&self, limit: Limit, amount: u64) {
        if amount == 0 {
            return;
        }
        for quota in self.outwards() {
            quota.release_here(limit, amount);
        }
    }

    /// Returns a listener for the next release of a socket or another descriptor.
    pub(crate) fn socket_freed(&self) -> EventListener {
        self.socket_freed.listen()
    }

    /// Returns how much is in use.
    pub(crate) fn used(&self, limit: Limit) -> u64 {
        if limit == Limit::TotalCompute {
            return self.fuel.load(Ordering::Relaxed) / FUEL_PER_UNIT;
        }
        match often(limit) {
            Some(kind) => self.often.used(kind),
            None => self.used[limit as usize].load(Ordering::Relaxed),
        }
    }

    /// Charges an amount until the returned permit is dropped.
    pub(crate) fn permit(
        self: &Arc<Quota>,
        limit: Limit,
        amount: u64,
    ) -> Result<Permit, LimitReached> {
        self.charge(limit, amount)?;
        Ok(Permit {
            quota: self.clone(),
            limit,
            amount,
        })
    }
}

/// Returns the position of a limit among those that every spawn and every death change.
fn often(limit: Limit) -> Option<usize> {
    match limit {
        Limit::Processes => Some(0),
        Limit::TotalMemory => Some(1),
        _ => None,
    }
}

/// Mail counts toward its receiver's environment.
impl Purse for Quota {
    fn pay(&self, bytes: u64) -> Result<(), LimitReached> {
        self.charge(Limit::TotalHostMemory, bytes)
    }

    fn refund(&self, bytes: u64) {
        self.release(Limit::TotalHostMemory, bytes);
    }
}

/// An amount that counts as in use until the permit is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    quota: Arc<Quota>,
    limit: Limit,
    amount: u64,
}

impl Permit {
    /// Returns whether the permit counts toward this quota.
    pub(crate) fn is_of(&self, quota: &Arc<Quota>) -> bool {
        Arc::ptr_eq(&self.quota, quota)
    }

    /// Changes the amount of the permit.
    pub(crate) fn resize(&mut self, amount: u64) -> Result<(), LimitReached> {
        match amount.checked_sub(self.amount) {
            Some(more) => self.grow(more)?,
            None => {
                self.quota.release(self.limit, self.amount - amount);
                self.amount = amount;
            }
        }
        Ok(())
    }

    /// Increases the amount.
    pub(crate) fn grow(&mut self, amount: u64) -> Result<(), LimitReached> {
        self.quota.charge(self.limit, amount)?;
        self.amount += amount;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.quota.release(self.limit, self.amount);
    }
}

/// A reference to a quota with its own count of references, for a group of processes.
///
/// Cloning an `Arc<Quota>` writes to memory that all workers use. Processes that have the same
/// parent share an anchor instead, whose count is usually written by one worker.
pub(crate) type QuotaAnchor = Arc<Arc<Quota>>;

/// What one process uses of several limits, until the share is dropped.
#[derive(Debug)]
pub(crate) struct Share<const LIMITS: usize> {
    quota: QuotaAnchor,
    amounts: [(Limit, u64); LIMITS],
}

impl<const LIMITS: usize> Share<LIMITS> {
    /// Charges all of the amounts, or none of them if a limit would be exceeded.
    pub(crate) fn new(
        quota: &QuotaAnchor,
        amounts: [(Limit, u64); LIMITS],
    ) -> Result<Share<LIMITS>, LimitReached> {
        let mut share = Share {
            quota: quota.clone(),
            amounts: amounts.map(|(limit, _)| (limit, 0)),
        };
        // If a limit is reached, dropping the share releases what was charged before.
        for (limit, amount) in amounts {
            share.grow(limit, amount)?;
        }
        Ok(share)
    }

    /// Increases one of the amounts.
    pub(crate) fn grow(&mut self, limit: Limit, more: u64) -> Result<(), LimitReached> {
        let (_, amount) = self
            .amounts
            .iter_mut()
            .find(|(other, _)| *other == limit)
            .expect("a share grows only in the limits that it was created with");
        self.quota.charge(limit, more)?;
        *amount += more;
        Ok(())
    }

    /// Returns the quota that the share counts toward.
    pub(crate) fn quota(&self) -> &QuotaAnchor {
        &self.quota
    }
}

impl<const LIMITS: usize> Drop for Share<LIMITS> {
    fn drop(&mut self) {
        for (limit, amount) in self.amounts {
            self.quota.release(limit, amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(limit: Limit, bound: u64, outer: Option<Arc<Quota>>) -> Arc<Quota> {
        let mut limits = Limits::default();
        limits.set(limit, bound);
        Arc::new(Quota::new(limits, outer))
    }

    #[test]
    fn a_permit_counts_until_it_is_dropped() {
        let quota = quota(Limit::Sockets, 2, None);
        let one = quota
            .permit(Limit::Sockets, 1)
            .expect("two sockets are allowed");
        let _two = quota
            .permit(Limit::Sockets, 1)
            .expect("two sockets are allowed");
        let reached = quota
            .permit(Limit::Sockets, 1)
            .expect_err("only two sockets are allowed");
        assert_eq!(
            reached,
            LimitReached {
                limit: Limit::Sockets,
                allowed: 2,
                wanted: Some(3)
            }
        );
        drop(one);
        let _three = quota
            .permit(Limit::Sockets, 1)
            .expect("one of the two sockets was released");
        assert_eq!(quota.used(Limit::Sockets), 2);
    }

    #[test]
    fn a_share_is_charged_as_a_whole_or_not_at_all() {
        let mut limits = Limits::default();
        limits.set(Limit::Processes, 1);
        limits.set(Limit::TotalMemory, 100);
        let quota = Arc::new(Arc::new(Quota::new(limits, None)));
        let used = || (quota.used(Limit::Processes), quota.used(Limit::TotalMemory));
        let amounts = |memory| [(Limit::Processes, 1), (Limit::TotalMemory, memory)];
        let reached = Share::new(&quota, amounts(101)).expect_err("only 100 bytes are allowed");
        assert_eq!((reached.limit, used()), (Limit::TotalMemory, (0, 0)));
        let mut share = Share::new(&quota, amounts(60)).expect("100 bytes are allowed");
        share
            .grow(Limit::TotalMemory, 41)
            .expect_err("only 40 bytes are left");
        share
            .grow(Limit::TotalMemory, 40)
            .expect("40 bytes are left");
        assert_eq!(used(), (1, 100));
        drop(share);
        assert_eq!(used(), (0, 0));
    }

    #[test]
    fn compute_beyond_the_limit_is_counted_too() {
        let bounded = |bound, outer| quota(Limit::TotalCompute, bound, outer);
        let outer = bounded(3, None);
        let inner = bounded(2, Some(outer.clone()));
        for _ in 0..4 {
            inner.burn(FUEL_PER_UNIT / 2).expect("2 units are allowed");
        }
        let reached = inner.burn(1).expect_err("only 2 units are allowed");
        assert_eq!(
            reached,
            LimitReached {
                limit: Limit::TotalCompute,
                allowed: 2,
                wanted: Some(3)
            }
        );
        inner
            .check_compute()
            .expect_err("the inner environment has no unit left");
        outer
            .check_compute()
            .expect("the outer environment has a unit left");
        outer
            .burn(2 * FUEL_PER_UNIT)
            .expect_err("fewer than 2 units were left");
        assert_eq!(
            (
                inner.used(Limit::TotalCompute),
                outer.used(Limit::TotalCompute)
            ),
            (2, 4)
        );
        let other = bounded(2, Some(outer));
        assert_eq!(
            other
                .check_compute()
                .expect_err("the outer environment has no unit left")
                .allowed,
            3
        );
    }

    #[test]
    fn a_socket_is_a_descriptor() {
        let mut limits = Limits::default();
        limits.set(Limit::Sockets, 2);
        limits.set(Limit::Descriptors, 3);
        let quota = Arc::new(Quota::of_program(
            limits,
            Arc::new(Descriptors::new(Some(100))),
        ));
        let _files = quota
            .permit(Limit::Descriptors, 2)
            .expect("three descriptors are allowed");
        let socket = quota
            .permit(Limit::Sockets, 1)
            .expect("three descriptors are allowed");
        let reached = quota
            .permit(Limit::Sockets, 1)
            .expect_err("only three descriptors are allowed");
        assert_eq!(reached.limit, Limit::Descriptors);
        assert_eq!(quota.used(Limit::Sockets), 1);
        drop(socket);
        assert_eq!(
            (quota.used(Limit::Sockets), quota.used(Limit::Descriptors)),
            (0, 2)
        );
    }

    #[test]
    fn programs_share_the_descriptors_of_the_machine() {
        let descriptors = Arc::new(Descriptors::new(Some(8)));
        let program = || Arc::new(Quota::of_program(Limits::default(), descriptors.clone()));
        let (greedy, modest) = (program(), program());
        let mut held: Vec<Permit> = Vec::new();
        while let Ok(permit) = greedy.permit(Limit::Descriptors, 1) {
            held.push(permit);
        }
        assert_eq!((held.len(), greedy.used(Limit::Descriptors)), (6, 6));
        let _own = modest
            .permit(Limit::Descriptors, 2)
            .expect("a quarter is reserved for other programs");
        held.clear();
        assert_eq!(greedy.used(Limit::Descriptors), 0);
    }

    #[test]
    fn what_is_used_inside_counts_outside() {
        let outer = quota(Limit::Sockets, 3, None);
        let inner = quota(Limit::Sockets, 10, Some(outer.clone()));
        let mut permit = inner
            .permit(Limit::Sockets, 2)
            .expect("the outer limit is 3");
        assert_eq!(permit.grow(2).expect_err("the outer limit is 3").allowed, 3);
        assert_eq!(
            (inner.used(Limit::Sockets), outer.used(Limit::Sockets)),
            (2, 2)
        );
        permit.grow(1).expect("the outer limit is 3");
        drop(permit);
        assert_eq!(
            (inner.used(Limit::Sockets), outer.used(Limit::Sockets)),
            (0, 0)
        );
    }
}
