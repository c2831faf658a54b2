//! The operating system descriptors shared by the machine's programs.
//!
//! Guests cannot use up all descriptors. A few are reserved for the machine itself, so that when a
//! program at the limit is refused another file or socket, everything else keeps working. Nor can a
//! single program use up all the descriptors available to guests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many descriptors are reserved for the machine and its host program: for compiled code,
/// certificates, polling, and connections that are accepted and then refused.
const RESERVED: u64 = 64;

/// The number of descriptors to assume if it is unlimited or unknown.
const UNLIMITED: u64 = 1 << 30;

/// The descriptors that guests hold.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// The maximum number of descriptors that guests may hold.
    most: u64,
    /// The lowest descriptor number that guests may not get.
    reserved_from: u64,
    held: AtomicU64,
    /// Set once running out of descriptors has been logged.
    is_logged: AtomicBool,
}

impl Descriptors {
    /// Lets guests hold at most `most` descriptors. The default is the number that the operating
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

    /// Takes descriptors for a program, bringing its total to `of_program`. On failure, returns the
    /// maximum number that guests may hold.
    ///
    /// The last quarter is reserved for programs that hold at most a quarter, so a program that
    /// takes all it can get still leaves some descriptors for others.
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
                "a program was refused a file or socket: programs have {} descriptors left of \
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

/// Raises this process's limit on open descriptors to the hard limit (`ulimit -Hn`), as most
/// servers do, and returns the new limit.
///
/// Call this before building a machine. Do not call it in a program that uses `select`, which
/// cannot handle descriptors of 1,024 and above.
pub fn raise_descriptor_limit() -> u64 {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // If this fails, the machine just has fewer descriptors.
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
        // descriptor is known to be open, so the result is `None`.
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
    fn the_last_quarter_is_reserved_for_programs_that_hold_few() {
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
