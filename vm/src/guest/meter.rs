//! Measures how much of its limits a guest has used.

use crate::environment::{Limits, Share};
use crate::module::{Requirements, TABLE_ELEMENT};
use lunatic_abi::{FUEL_PER_UNIT, Limit};
use lunatic_process::LimitReached;
use std::fmt;

/// The maximum compute, in units, that a process is given in one portion if its environment counts
/// compute. A portion lasts for several slices, so the scheduler can still recognize a process that
/// computes without a pause.
const MAX_PORTION: u64 = 100;

/// Returns the size of a guest's fuel portions if its environment's processes may compute `total`
/// units altogether. Returns `None` if compute is unlimited.
pub(crate) fn portion(total: u64) -> Option<u64> {
    (total != u64::MAX).then(|| (total / 4).clamp(1, MAX_PORTION) * FUEL_PER_UNIT)
}

/// The limit that terminated a guest, as the error that stops its code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rejected(pub(crate) LimitReached);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Rejected {}

/// A guest's share of its environment's limits on its own memory (`TotalMemory`) and on what the
/// host holds for its instance (`TotalHostMemory`). The share is released with the guest's store.
pub(crate) type MemoryShare = Share<2>;

/// A quantity that only grows while a guest runs, and its limit for one process.
#[derive(Debug)]
struct Growing {
    limit: Limit,
    allowed: u64,
    used: u64,
}

impl Growing {
    fn new(limits: &Limits, limit: Limit) -> Growing {
        Growing {
            limit,
            allowed: limits.get(limit),
            used: 0,
        }
    }

    /// Returns what the quantity would be after some growth.
    fn after(&self, growth: usize) -> Result<u64, LimitReached> {
        let wanted = self.used.saturating_add(growth as u64);
        if wanted <= self.allowed {
            return Ok(wanted);
        }
        Err(LimitReached {
            limit: self.limit,
            allowed: self.allowed,
            wanted: Some(wanted),
        })
    }
}

/// Counts a guest's memory, tables and compute against its environment's limits.
#[derive(Debug)]
pub(crate) struct Meter {
    /// The total size of all memories, in bytes.
    memory: Growing,
    /// The total number of elements in all tables.
    table_elements: Growing,
    /// What the environment counts. The memory that the module declares has been counted since the
    /// spawn.
    share: MemoryShare,
    permitted: u64,
    /// The table elements that the environment counts as host memory.
    permitted_elements: u64,
    /// The most recent growth that was refused since the guest last waited.
    refused: Option<LimitReached>,
    /// The fuel that the guest was last given.
    given: u64,
    /// The fuel that remained when compute was last counted.
    fuel: u64,
}

impl Meter {
    /// Starts counting from what the guest's module declares, which the share already covers.
    pub(crate) fn new(share: MemoryShare, declared: &Requirements) -> Meter {
        let limits = share.quota().limits();
        Meter {
            memory: Growing::new(limits, Limit::Memory),
            table_elements: Growing::new(limits, Limit::TableElements),
            permitted: declared.memory,
            permitted_elements: declared.table_elements,
            refused: None,
            given: 0,
            fuel: 0,
            share,
        }
    }

    /// Counts a guest's initial memory and tables if no new instance is created for the guest. The
    /// limits were checked when the guest was spawned.
    pub(crate) fn begin_with(&mut self, memory: u64, table_elements: u64) {
        self.memory.used = memory;
        self.table_elements.used = table_elements;
    }

    /// Returns the most recent growth that was refused since the guest last waited.
    pub(crate) fn refused(&self) -> Option<LimitReached> {
        self.refused
    }

    pub(crate) fn forget_refusal(&mut self) {
        self.refused = None;
    }

    pub(crate) fn remember_refusal(&mut self, refused: Option<LimitReached>) {
        self.refused = refused;
    }

    /// Returns how many bytes of memory the guest has.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.used
    }

    /// Starts counting from the amount of fuel that the guest was given.
    pub(crate) fn fuel_given(&mut self, fuel: u64) {
        self.given = fuel;
        self.fuel = fuel;
    }

    /// Returns how much of the most recently given fuel the guest has used, if `left` remains.
    pub(crate) fn fuel_used(&self, left: u64) -> u64 {
        self.given.saturating_sub(left)
    }

    /// Charges the environment for the compute used since the last call.
    pub(crate) fn charge_compute(&mut self, fuel: u64) -> Result<(), LimitReached> {
        let burned = self.fuel.saturating_sub(fuel);
        self.fuel = fuel;
        self.share.quota().burn(burned)
    }

    fn grow_memory(&mut self, growth: usize) -> Result<(), LimitReached> {
        let wanted = self.memory.after(growth)?;
        if wanted > self.permitted {
            let more = wanted - self.permitted;
            self.share.grow(Limit::TotalMemory, more)?;
            self.permitted = wanted;
        }
        self.memory.used = wanted;
        Ok(())
    }

    fn grow_table(&mut self, growth: usize) -> Result<(), LimitReached> {
        let wanted = self.table_elements.after(growth)?;
        if wanted > self.permitted_elements {
            let more = (wanted - self.permitted_elements) * TABLE_ELEMENT;
            self.share.grow(Limit::TotalHostMemory, more)?;
            self.permitted_elements = wanted;
        }
        self.table_elements.used = wanted;
        Ok(())
    }

    /// Lets a memory grow from `current` to `desired` bytes, unless a limit or the module's own
    /// maximum would be exceeded. That maximum is not one of the environment's limits.
    pub(super) fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> bool {
        self.growing((current, desired, maximum), Meter::grow_memory)
    }

    /// Like [`Meter::memory_growing`], but for a table and its elements.
    pub(super) fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> bool {
        self.growing((current, desired, maximum), Meter::grow_table)
    }

    fn growing(
        &mut self,
        (current, desired, maximum): (usize, usize, Option<usize>),
        grow: fn(&mut Meter, usize) -> Result<(), LimitReached>,
    ) -> bool {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        self.refused = grow(self, desired - current).err();
        self.refused.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Quota;
    use std::sync::Arc;

    fn meter(limit: Limit, bound: u64) -> Meter {
        let mut limits = Limits::default();
        limits.set(limit, bound);
        let quota = Arc::new(Arc::new(Quota::new(limits, None)));
        let nothing = [(Limit::TotalMemory, 0), (Limit::TotalHostMemory, 0)];
        let share = Share::new(&quota, nothing).expect("a share of zero bytes always fits");
        Meter::new(share, &Requirements::default())
    }

    #[test]
    fn t021_all_memories_are_counted_together() {
        let mut meter = meter(Limit::Memory, 100);
        assert!(meter.memory_growing(0, 60, None));
        assert!(!meter.memory_growing(0, 60, None));
        assert_eq!(
            meter.refused(),
            Some(LimitReached {
                limit: Limit::Memory,
                allowed: 100,
                wanted: Some(120)
            })
        );
        assert!(meter.memory_growing(0, 40, None));
        assert_eq!((meter.memory(), meter.refused()), (100, None));
    }

    #[test]
    fn a_guest_counts_toward_its_environment_until_it_ends() {
        let mut meter = meter(Limit::TotalMemory, 100);
        let quota = meter.share.quota().clone();
        assert!(meter.memory_growing(0, 70, None));
        assert!(!meter.memory_growing(70, 101, None));
        assert_eq!(quota.used(Limit::TotalMemory), 70);
        drop(meter);
        assert_eq!(quota.used(Limit::TotalMemory), 0);
    }

    #[test]
    fn compute_is_counted_exactly() {
        let mut meter = meter(Limit::TotalCompute, 2);
        meter.fuel_given(10 * FUEL_PER_UNIT);
        for left in [95, 90, 85, 80] {
            let fuel = left * FUEL_PER_UNIT / 10;
            meter.charge_compute(fuel).expect("2 units are allowed");
        }
        let reached = meter
            .charge_compute(7 * FUEL_PER_UNIT)
            .expect_err("3 units exceed the limit of 2");
        assert_eq!(
            reached,
            LimitReached {
                limit: Limit::TotalCompute,
                allowed: 2,
                wanted: Some(3)
            }
        );
    }
}
