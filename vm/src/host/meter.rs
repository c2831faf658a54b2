//! What one guest has used of its limits.

use crate::environment::{Limits, Permit, Quota};
use crate::process::LimitReached;
use lunatic_abi::Limit;
use std::fmt;
use std::sync::Arc;
use wasmtime::ResourceLimiter;

/// A limit that ended a guest, as the error that stops its code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rejected(pub(crate) LimitReached);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Rejected {}

/// Counts a guest's memory, tables and compute against its environment's bounds.
#[derive(Debug)]
pub(crate) struct Meter {
    /// The environment's bounds for one process.
    most_memory: u64,
    most_table_elements: u64,
    quota: Arc<Quota>,
    /// Bytes of all memories, elements of all tables.
    memory: u64,
    table_elements: u64,
    /// The bytes of memory that the environment counts. The module's declared ones were counted by the spawn.
    permit: Permit,
    permitted: u64,
    /// The last growth that was refused since the guest waited.
    refused: Option<LimitReached>,
    /// Fuel that the guest was given last.
    given: u64,
    /// Fuel that was left when compute was counted last.
    fuel: u64,
}

impl Meter {
    pub(super) fn new(limits: &Limits, quota: Arc<Quota>, permit: Permit, permitted: u64) -> Meter {
        let (most_memory, most_table_elements) =
            (limits.get(Limit::Memory), limits.get(Limit::TableElements));
        Meter {
            most_memory,
            most_table_elements,
            quota,
            memory: 0,
            table_elements: 0,
            permit,
            permitted,
            refused: None,
            given: 0,
            fuel: 0,
        }
    }

    /// Takes note of what the guest has from the beginning, where no instance is made for it. Its spawn has looked whether
    /// it may.
    pub(super) fn begin_with(&mut self, memory: u64, table_elements: u64) {
        self.memory = memory;
        self.table_elements = table_elements;
    }

    /// Returns the last growth that was refused since the guest waited.
    pub(super) fn refused(&self) -> Option<LimitReached> {
        self.refused
    }

    pub(super) fn forget_refusal(&mut self) {
        self.refused = None;
    }

    pub(super) fn remember_refusal(&mut self, refused: Option<LimitReached>) {
        self.refused = refused;
    }

    /// Returns how many bytes of memory the guest has.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// Takes note that the guest has so much fuel from now on.
    pub(crate) fn fuel_given(&mut self, fuel: u64) {
        self.given = fuel;
        self.fuel = fuel;
    }

    /// Returns how much of what the guest was given last it has used, where so much is left.
    pub(crate) fn fuel_used(&self, left: u64) -> u64 {
        self.given.saturating_sub(left)
    }

    /// Counts what was computed since the last time towards the environment's total.
    pub(crate) fn charge_compute(&mut self, fuel: u64) -> Result<(), LimitReached> {
        let burned = self.fuel.saturating_sub(fuel);
        self.fuel = fuel;
        self.quota.burn(burned)
    }

    fn grow_memory(&mut self, growth: u64) -> Result<(), LimitReached> {
        let wanted = self.memory.saturating_add(growth);
        let allowed = self.most_memory;
        if wanted > allowed {
            return Err(LimitReached {
                limit: Limit::Memory,
                allowed,
                wanted: Some(wanted),
            });
        }
        if wanted > self.permitted {
            self.permit.grow(wanted - self.permitted)?;
            self.permitted = wanted;
        }
        self.memory = wanted;
        Ok(())
    }

    fn grow_table(&mut self, growth: u64) -> Result<(), LimitReached> {
        let wanted = self.table_elements.saturating_add(growth);
        let allowed = self.most_table_elements;
        if wanted > allowed {
            return Err(LimitReached {
                limit: Limit::TableElements,
                allowed,
                wanted: Some(wanted),
            });
        }
        self.table_elements = wanted;
        Ok(())
    }

    fn note(&mut self, grown: Result<(), LimitReached>) -> bool {
        self.refused = grown.err();
        grown.is_ok()
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The module's own bound, which is no limit of the environment's.
            return Ok(false);
        }
        let grown = self.grow_memory((desired - current) as u64);
        Ok(self.note(grown))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let grown = self.grow_table((desired - current) as u64);
        Ok(self.note(grown))
    }

    fn instances(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lunatic_abi::FUEL_PER_UNIT;

    fn meter(limit: Limit, bound: u64) -> Meter {
        let mut limits = Limits::default();
        limits.set(limit, bound);
        let quota = Arc::new(Quota::new(limits, None));
        let permit = quota.permit(Limit::TotalMemory, 0).expect("nothing fits");
        Meter::new(&limits, quota, permit, 0)
    }

    #[test]
    fn t021_all_memories_count_together() {
        let mut meter = meter(Limit::Memory, 100);
        assert!(meter.memory_growing(0, 60, None).expect("it answers"));
        assert!(!meter.memory_growing(0, 60, None).expect("it answers"));
        assert_eq!(
            meter.refused(),
            Some(LimitReached {
                limit: Limit::Memory,
                allowed: 100,
                wanted: Some(120)
            })
        );
        assert!(meter.memory_growing(0, 40, None).expect("it answers"));
        assert_eq!((meter.memory(), meter.refused()), (100, None));
    }

    #[test]
    fn what_a_guest_has_counts_for_its_environment_until_it_ends() {
        let mut meter = meter(Limit::TotalMemory, 100);
        let quota = meter.quota.clone();
        assert!(meter.memory_growing(0, 70, None).expect("it answers"));
        assert!(!meter.memory_growing(70, 101, None).expect("it answers"));
        assert_eq!(quota.used(Limit::TotalMemory), 70);
        drop(meter);
        assert_eq!(quota.used(Limit::TotalMemory), 0);
    }

    #[test]
    fn compute_is_counted_and_loses_nothing() {
        let mut meter = meter(Limit::TotalCompute, 2);
        meter.fuel_given(10 * FUEL_PER_UNIT);
        for left in [95, 90, 85, 80] {
            let fuel = left * FUEL_PER_UNIT / 10;
            meter.charge_compute(fuel).expect("2 units are allowed");
        }
        let reached = meter
            .charge_compute(7 * FUEL_PER_UNIT)
            .expect_err("3 units are too many");
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
