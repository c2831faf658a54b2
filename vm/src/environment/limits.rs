//! The limits of an environment, by name.

use lunatic_abi::Limit;

/// The limits of an environment. See [`Limit`] for each limit's unit and for whether it applies per
/// process or per environment. [`u64::MAX`] means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits([u64; Limit::ALL.len()]);

const MIB: u64 = 1 << 20;

impl Default for Limits {
    /// Limits that an ordinary program does not reach and that keep a hostile program from harming
    /// other programs.
    fn default() -> Limits {
        let mut limits = Limits([u64::MAX; Limit::ALL.len()]);
        for (limit, value) in [
            (Limit::Memory, 256 * MIB),
            (Limit::TableElements, 100_000),
            (Limit::Processes, 1_000_000),
            (Limit::MailboxMessages, 100_000),
            (Limit::MailboxBytes, 64 * MIB),
            (Limit::MessageBytes, 16 * MIB),
            (Limit::Timers, 10_000),
            (Limit::Names, 10_000),
            (Limit::Sockets, 1_024),
            (Limit::Files, 256),
            (Limit::Handles, 10_000),
            (Limit::Metrics, 1_000),
            (Limit::HostMemory, 64 * MIB),
            (Limit::TotalHostMemory, 1_024 * MIB),
            (Limit::Descriptors, 10_000),
        ] {
            limits.set(limit, value);
        }
        limits
    }
}

impl Limits {
    /// Returns a limit.
    pub fn get(&self, limit: Limit) -> u64 {
        self.0[limit as usize]
    }

    /// Sets a limit.
    pub fn set(&mut self, limit: Limit, value: u64) {
        self.0[limit as usize] = value;
    }

    /// Returns the lower of each pair of limits, because a child's limits must not exceed its
    /// creator's.
    pub(crate) fn within(&self, outer: &Limits) -> Limits {
        Limits(std::array::from_fn(|index| {
            self.0[index].min(outer.0[index])
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_limits_are_at_most_its_creators() {
        let mut outer = Limits::default();
        outer.set(Limit::Memory, 100);
        let mut inner = Limits::default();
        inner.set(Limit::Memory, 200);
        inner.set(Limit::Compute, 5);
        let both = inner.within(&outer);
        assert_eq!(
            (both.get(Limit::Memory), both.get(Limit::Compute)),
            (100, 5)
        );
    }

    #[test]
    fn limits_are_numbered_without_gaps() {
        for (index, &limit) in Limit::ALL.iter().enumerate() {
            assert_eq!(limit as usize, index);
        }
    }
}
