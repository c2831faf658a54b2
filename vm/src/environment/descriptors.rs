//! The operating system descriptors that the machine's programs share.
//!
//! Guests cannot take all descriptors. A few are reserved for the machine itself, so that a program
//! at the limit is refused another file or socket while everything else keeps working. A single
//! program cannot take all descriptors that guests may have.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The number of descriptors that are reserved for the machine and its host program: for compiled
/// code, certificates, polling, and connections that are accepted and then refused.
const RESERVED: u64 = 64;

/// The number that is assumed if the number of descriptors is unlimited or unknown.
const UNLIMITED: u64 = 1 << 30;

/// The descriptors that guests hold.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// The maximum number of descriptors that guests may hold.
    most: u64,
    /// The lowest descriptor number that guests may not get.
    reserved_from: u64,
    held: AtomicU64,
    /// Set once it has been logged that no descriptors are left.
    is_logged: AtomicBool,
}

impl Descriptors {
    /// Lets guests hold at most this many descriptors. The default is the number that the operating
    /// system allows, minus the reserve.
    pub(crate) fn new(most: Option<u64>) -> Descriptors {
        let allowed = allowed();
        let reserved_from = allowed - RESERVED.min(allowed / 4);
        Descriptors {
            most: most.unwrap_or(u64::MAX).min(reserved_from),
            reserved_from,
            held: AtomicU64::new(0),
            is_logged: AtomicBool::new(false),
        }
    }

    /// Takes descriptors for a program, which will then hold `of_program` of them. If the
    /// descriptors cannot be taken, the error is the maximum number that guests may hold.
    ///
    /// The last quarter is only for programs that hold less than a quarter, so that a program that
    /// takes all it can get leaves some descriptors to other programs.
    pub(super) fn take(&self, count: u64, of_program: u64) -> Result<(), u64> {
        // Relaxed, because the count is independent of other data.
        let held = self.held.fetch_add(count, Ordering::Relaxed) + count;
        let quarter = self.most / 4;
        let has_room = held <= self.most
            && (of_program <= quarter || held <= self.most - quarter)
            && lowest_free().is_none_or(|lowest| lowest + count <= self.reserved_from);
        if has_room || count == 0 {
            return Ok(());
        }
        self.give_back(count);
        if !self.is_logged.swap(true, Ordering::Relaxed) {
            log::warn!(
                "a program was refused a file or socket: {} descriptors are left for programs, of \
                 the {} that the operating system allows (`ulimit -n`)",
                self.most.saturating_sub(self.held.load(Ordering::Relaxed)),
                allowed()
            );
        }
        Err(self.most)
    }

    pub(super) fn give_back(&self, count: u64) {
        self.held.fetch_sub(count, Ordering::Relaxed);
    }
}

/// Raises the number of descriptors that this process may have open to the maximum that it may set
/// (`ulimit -Hn`), as servers usually do, and returns this number.
///
/// A program should call this before it builds a machine. A program that uses `select` must not
/// call this, because `select` cannot handle descriptors of 1,024 and above.
pub fn raise_descriptor_limit() -> u64 {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // If this fails, the machine has fewer descriptors.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    allowed()
}

/// Returns how many descriptors the operating system allows this process.
fn allowed() -> u64 {
    #[cfg(unix)]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current.unwrap_or(UNLIMITED).min(UNLIMITED)
    }
    #[cfg(not(unix))]
    UNLIMITED
}

/// Returns the number that the next descriptor will get. A new descriptor gets the lowest free
/// number, so the result is at most the number of open descriptors.
fn lowest_free() -> Option<u64> {
    #[cfg(unix)]
    {
        use std::os::fd::AsRawFd;
        // Any open descriptor can be duplicated for this. If standard error is closed, no
        // descriptor is known to be open, and there is no result.
        match rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 0) {
            Ok(copy) => u64::try_from(copy.as_raw_fd()).ok(),
            Err(rustix::io::Errno::MFILE) => Some(u64::MAX / 2),
            Err(_) => None,
        }
    }
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_quarter_is_left_to_programs_that_hold_little() {
        let descriptors = Descriptors::new(Some(8));
        for held in 1..=6 {
            descriptors
                .take(1, held)
                .expect("three quarters are available to every program");
        }
        assert_eq!(
            descriptors.take(1, 7),
            Err(8),
            "the program already holds too many"
        );
        descriptors
            .take(1, 1)
            .expect("another program may take a descriptor");
        descriptors
            .take(1, 2)
            .expect("the program may hold a quarter");
        assert_eq!(descriptors.take(1, 1), Err(8), "all descriptors are taken");
        descriptors.give_back(2);
        descriptors
            .take(2, 2)
            .expect("two descriptors were released");
    }
}
