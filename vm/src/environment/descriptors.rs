//! The descriptors of the operating system that the machine's programs share.
//!
//! Guests cannot take all of them: a few stay for the machine itself, so that a program at the
//! limit is refused another file or socket, and everything else goes on. And one program cannot
//! take all of what guests may have.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The number of descriptors that guests leave to the machine and its host program: for compiled
/// code, certificates, the control of polling, and accepted connections that are then refused.
const RESERVED: u64 = 64;

/// What a process of the operating system may have open if it is not limited, or is unknown.
const UNLIMITED: u64 = 1 << 30;

/// The descriptors that guests hold.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// How many descriptors guests may hold.
    most: u64,
    /// The lowest number of a descriptor that guests may not get.
    reserved_from: u64,
    held: AtomicU64,
    /// Set once it has been logged that there are no more.
    is_logged: AtomicBool,
}

impl Descriptors {
    /// Shares at most this many; by default, as many as the operating system allows, except a few.
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

    /// Takes descriptors for a program that will then hold `of_program`. If that is impossible,
    /// returns how many guests may hold.
    ///
    /// The last quarter is only for programs that hold less than a quarter, so that a program that
    /// takes all it can get leaves something to the others.
    pub(super) fn take(&self, count: u64, of_program: u64) -> Result<(), u64> {
        // Relaxed: the count stands alone.
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
                "a program was refused a file or socket: {} descriptors are left to programs, of {} that \
                 the operating system allows (`ulimit -n`)",
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

/// Raises the number of descriptors that this process may have open to the most that it may set
/// (`ulimit -Hn`), as servers do, and returns how many that is.
///
/// A program of its own should call this before it builds a machine. Code that uses `select` with
/// descriptors of 1,024 and more must not.
pub fn raise_descriptor_limit() -> u64 {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // Without the raise, the machine has fewer.
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

/// Returns the number that the next descriptor will get. Descriptors are numbered from 0 without
/// gaps as far as possible, so it is at most the number of those that are open.
fn lowest_free() -> Option<u64> {
    #[cfg(unix)]
    {
        use std::os::fd::AsRawFd;
        // Any open descriptor can be duplicated. Without standard input, output and error there is
        // none that is certainly open, and no answer.
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
                .expect("three quarters are anyone's");
        }
        assert_eq!(descriptors.take(1, 7), Err(8), "it holds too many already");
        descriptors.take(1, 1).expect("another program");
        descriptors.take(1, 2).expect("a quarter is its own");
        assert_eq!(descriptors.take(1, 1), Err(8), "all are taken");
        descriptors.give_back(2);
        descriptors.take(2, 2).expect("two came back");
    }
}
