//! Process identifiers.
//!
//! A pid is never reused during the lifetime of a machine and cannot be guessed. Processes are
//! numbered from 1, and each number is passed through a keyed permutation. Pids therefore work as
//! capabilities: a process that is granted `kill` or `send` cannot find other processes by trying
//! one pid after another.

use super::sync::{AtomicU64, Ordering};
use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// Identifies a process, even after its death. `0` does not identify any process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub(crate) u64);

impl Pid {
    /// Returns the pid as guests see it.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Returns the pid with the given number. A process with this pid need not exist.
    pub const fn from_number(number: u64) -> Pid {
        Pid(number)
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{:x}>", self.0)
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A source of new pids.
pub struct PidSource {
    last: Padded,
    key: RandomState,
}

/// A number on its own cache lines, so that changing it does not make other cores read the machine's
/// other state again.
#[repr(align(128))]
struct Padded(AtomicU64);

const HALF: u32 = 31;
const HALF_MASK: u64 = (1 << HALF) - 1;

impl PidSource {
    /// Creates a source with its own key.
    #[allow(
        clippy::new_without_default,
        reason = "every source has a different key"
    )]
    pub fn new() -> PidSource {
        PidSource {
            last: Padded(AtomicU64::new(0)),
            key: RandomState::new(),
        }
    }

    /// Returns a pid that has never been returned before.
    pub fn next(&self) -> Pid {
        // Relaxed: the number only has to be unique.
        let number = self.last.0.fetch_add(1, Ordering::Relaxed) + 1;
        match self.permute(number) {
            // 0 is not a valid pid. The permutation maps exactly one number to 0, which is skipped.
            0 => self.next(),
            sealed => Pid(sealed),
        }
    }

    /// Returns an identifier for a process that does not reveal its pid and cannot be used to
    /// address the process. It is a keyed hash of the pid in the form of a random UUID, and is
    /// always the same for the same pid.
    pub fn uuid(&self, pid: Pid) -> u128 {
        let half = |half: u64| u128::from(self.key.hash_one(("uuid", half, pid.0)));
        let bits = half(0) << 64 | half(1);
        // Version 4 and the variant of RFC 9562.
        bits & !(0xf << 76 | 0b11 << 62) | 4 << 76 | 0b10 << 62
    }

    /// Returns a pid's position in the order in which pids were issued. The younger of two
    /// processes has the greater position.
    pub fn order(&self, pid: Pid) -> u64 {
        let (mut left, mut right) = (pid.0 >> HALF & HALF_MASK, pid.0 & HALF_MASK);
        for round in (0..4u64).rev() {
            (left, right) = (right ^ (self.key.hash_one((round, left)) & HALF_MASK), left);
        }
        left << HALF | right
    }

    /// Permutes 62-bit numbers: a Feistel network of four rounds over a keyed pseudo-random
    /// function, which Luby and Rackoff ("How to construct pseudorandom permutations", 1988) showed
    /// to be a pseudo-random permutation.
    fn permute(&self, number: u64) -> u64 {
        let (mut left, mut right) = (number >> HALF & HALF_MASK, number & HALF_MASK);
        for round in 0..4u64 {
            (left, right) = (
                right,
                left ^ (self.key.hash_one((round, right)) & HALF_MASK),
            );
        }
        left << HALF | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_pid_is_issued_twice_and_none_is_zero() {
        let source = PidSource::new();
        let pids: HashSet<Pid> = (0..100_000).map(|_| source.next()).collect();
        assert_eq!(pids.len(), 100_000);
        assert!(pids.iter().all(|pid| pid.0 != 0 && pid.0 < 1 << 62));
    }

    #[test]
    fn the_permutation_is_reversible() {
        let source = PidSource::new();
        for number in [0, 1, 2, 77, 1 << 31, (1 << 62) - 1] {
            let sealed = Pid(source.permute(number));
            assert_eq!(source.order(sealed), number);
        }
    }

    #[test]
    fn a_uuid_is_stable_and_differs_between_pids() {
        let source = PidSource::new();
        let pids: Vec<Pid> = (0..1_000).map(|_| source.next()).collect();
        let uuids: HashSet<u128> = pids.iter().map(|&pid| source.uuid(pid)).collect();
        assert_eq!(uuids.len(), pids.len());
        assert!(pids.iter().all(|&pid| uuids.contains(&source.uuid(pid))));
        assert!(
            uuids
                .iter()
                .all(|uuid| uuid >> 76 & 0xf == 4 && uuid >> 62 & 0b11 == 0b10)
        );
    }

    #[test]
    fn two_machines_issue_different_pids() {
        let one: Vec<Pid> = {
            let source = PidSource::new();
            (0..8).map(|_| source.next()).collect()
        };
        let other: Vec<Pid> = {
            let source = PidSource::new();
            (0..8).map(|_| source.next()).collect()
        };
        assert_ne!(one, other);
    }
}
