//! The bytes that the host holds for guests outside the guests' own memories.
//!
//! Everything that a guest makes the host keep, such as handles, messages being written, compiled
//! modules, exit reasons, names and database rows, is charged to an account before it is stored. A
//! process's account counts toward its environment and all enclosing environments. Data that
//! outlives its process is charged to an environment's account. A [`Charge`] lasts as long as the
//! data that it pays for.

use super::quota::Quota;
use lunatic_abi::Limit;
use lunatic_process::LimitReached;
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// The account of a process or an environment. Cheap to clone. All clones refer to the same
/// account.
///
/// ```
/// use lunatic_vm::{Limit, Vm};
///
/// let vm = Vm::builder().build()?;
/// let mut config = vm.config();
/// config.limit(Limit::TotalHostMemory, 100_000);
/// let environment = vm.environment(config);
/// let account = environment.host_memory();
/// let mut charge = account.charge(60_000)?;
/// assert!(charge.grow(60_000).is_err() && account.charge(60_000).is_err());
/// charge.shrink(30_000);
/// assert_eq!(account.used(), 30_000);
/// drop(charge);
/// assert_eq!(environment.used(Limit::TotalHostMemory), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct HostMemory(Arc<Account>);

/// Returns an upper bound on the host memory that a component's resource takes up in addition to
/// its entry in the table, in bytes, or `None` if the function does not know the resource's type.
pub type ResourceSize = fn(&(dyn Any + Send)) -> Option<u64>;

struct Account {
    quota: Arc<Quota>,
    /// The maximum that can be charged to this account.
    allowed: u64,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// The sum of all charges.
    used: u64,
    /// The part of the sum that the environment counts. It exceeds the sum by less than two
    /// portions, or falls short of it by at most [`INCLUDED`].
    counted: u64,
}

/// How many bytes of an account its environment does not count. An ordinary process holds less than
/// this, and therefore never touches the counters that all processes share. The limit on processes
/// bounds the total.
const INCLUDED: u64 = 4 << 10;

/// An account is charged to its environment in portions of this size, so that small charges rarely
/// touch the shared counters.
const PORTION: u64 = 16 << 10;

/// Returns how many of an account's bytes the environment has to count.
fn owed(used: u64) -> u64 {
    used.saturating_sub(INCLUDED)
}

impl HostMemory {
    /// Creates the account of a process.
    pub(crate) fn of_process(quota: &Arc<Quota>) -> HostMemory {
        HostMemory::new(quota, quota.limits().get(Limit::HostMemory))
    }

    /// Creates an account for what the host holds for an environment, not counting its processes.
    pub(crate) fn of_environment(quota: &Arc<Quota>) -> HostMemory {
        HostMemory::new(quota, u64::MAX)
    }

    fn new(quota: &Arc<Quota>, allowed: u64) -> HostMemory {
        HostMemory(Arc::new(Account {
            quota: quota.clone(),
            allowed,
            book: Mutex::default(),
        }))
    }

    /// Charges bytes until the charge is dropped.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] if the process or an enclosing environment would exceed its limit.
    pub fn charge(&self, bytes: u64) -> Result<Charge, LimitReached> {
        let mut charge = self.nothing();
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// Returns a charge of zero bytes, which can grow.
    pub fn nothing(&self) -> Charge {
        Charge {
            account: self.clone(),
            bytes: 0,
        }
    }

    /// Returns the sum of all charges, in bytes.
    pub fn used(&self) -> u64 {
        self.book().used
    }

    fn add(&self, bytes: u64) -> Result<(), LimitReached> {
        let Account { quota, allowed, .. } = &*self.0;
        let mut book = self.book();
        let wanted = book.used.saturating_add(bytes);
        if wanted > *allowed {
            return Err(LimitReached {
                limit: Limit::HostMemory,
                allowed: *allowed,
                wanted: Some(wanted),
            });
        }
        let missing = owed(wanted).saturating_sub(book.counted);
        if missing > 0 {
            let portions = missing.next_multiple_of(PORTION);
            // Near the limit, only the missing bytes are charged.
            book.counted += match quota.charge(Limit::TotalHostMemory, portions) {
                Ok(()) => portions,
                Err(_) => quota
                    .charge(Limit::TotalHostMemory, missing)
                    .map(|()| missing)?,
            };
        }
        book.used = wanted;
        Ok(())
    }

    fn release(&self, bytes: u64) {
        let mut book = self.book();
        book.used -= bytes;
        let owed = owed(book.used);
        let spare = book.counted - owed;
        // One portion is kept, so that an account whose sum fluctuates around a boundary does not
        // touch the shared counters each time.
        let kept = if owed == 0 { 0 } else { PORTION };
        if spare >= 2 * PORTION || owed == 0 {
            book.counted -= spare - kept;
            self.0.quota.release(Limit::TotalHostMemory, spare - kept);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0
            .book
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

impl fmt::Debug for HostMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostMemory({} bytes)", self.used())
    }
}

/// Bytes that count as held for a guest until this value is dropped. A charge is stored with the
/// value that it pays for and moves along with it.
#[derive(Debug)]
pub struct Charge {
    account: HostMemory,
    bytes: u64,
}

impl Charge {
    /// Returns how many bytes are charged.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Charges more bytes.
    ///
    /// # Errors
    ///
    /// Like [`HostMemory::charge`]. On failure, the charge is unchanged.
    pub fn grow(&mut self, bytes: u64) -> Result<(), LimitReached> {
        self.account.add(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Releases `bytes` bytes, or all of them if fewer are charged.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.account.release(bytes);
        self.bytes -= bytes;
    }

    /// Changes the charge to `bytes` bytes.
    ///
    /// # Errors
    ///
    /// Like [`HostMemory::charge`]. On failure, the charge is unchanged.
    pub fn resize(&mut self, bytes: u64) -> Result<(), LimitReached> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow(more),
            None => {
                self.shrink(self.bytes - bytes);
                Ok(())
            }
        }
    }

    /// Moves the charge to another account, for a value that changes owners.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] if the other account has no room. In that case, the charge does not move.
    pub fn move_to(&mut self, account: &HostMemory) -> Result<(), LimitReached> {
        *self = account.charge(self.bytes)?;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::Limits;
    use super::*;

    fn quota(of_process: u64, total: u64, outer: Option<Arc<Quota>>) -> Arc<Quota> {
        let mut limits = Limits::default();
        limits.set(Limit::HostMemory, of_process);
        limits.set(Limit::TotalHostMemory, total);
        Arc::new(Quota::new(limits, outer))
    }

    fn total(quota: &Quota) -> u64 {
        quota.used(Limit::TotalHostMemory)
    }

    #[test]
    fn the_charges_of_a_process_count_in_every_environment_around_it() {
        let outer = quota(u64::MAX, 1 << 20, None);
        let inner = quota(u64::MAX, u64::MAX, Some(outer.clone()));
        let (one, other) = (
            HostMemory::of_process(&inner),
            HostMemory::of_process(&outer),
        );
        let charge = one.charge(600_000).expect("600 kB fit in 1 MiB");
        assert!(total(&inner) >= 600_000 - INCLUDED && total(&outer) == total(&inner));
        let reached = other.charge(600_000).expect_err("1.2 MB exceeds 1 MiB");
        assert_eq!(reached.limit, Limit::TotalHostMemory);
        drop(charge);
        other
            .charge(600_000)
            .expect("the first charge was released");
        assert_eq!((total(&inner), total(&outer)), (0, 0));
    }

    #[test]
    fn a_process_has_its_own_limit() {
        let quota = quota(10_000, u64::MAX, None);
        let account = HostMemory::of_process(&quota);
        let mut charge = account.charge(9_000).expect("9 kB is less than 10 kB");
        let reached = charge
            .grow(1_001)
            .expect_err("10,001 bytes is one more than the limit");
        assert_eq!(
            (reached.limit, reached.wanted),
            (Limit::HostMemory, Some(10_001))
        );
        assert_eq!((charge.bytes(), account.used()), (9_000, 9_000));
        charge
            .resize(10_000)
            .expect("10,000 bytes is exactly the limit");
        HostMemory::of_process(&quota)
            .charge(10_000)
            .expect("another process has its own account");
        HostMemory::of_environment(&quota)
            .charge(20_000)
            .expect("an environment's own account has only the total limit");
    }

    #[test]
    fn nothing_is_counted_twice_or_lost_however_a_charge_changes() {
        let quota = quota(u64::MAX, u64::MAX, None);
        let accounts = [0, 1].map(|_| HostMemory::of_process(&quota));
        let mut charges = Vec::new();
        for step in 0..2_000u64 {
            let account = &accounts[step as usize % 2];
            match step % 7 {
                0..3 => charges.push(
                    account
                        .charge(step * 37 % 50_000)
                        .expect("there is no limit"),
                ),
                3 => _ = charges.pop(),
                4 => {
                    let index = step as usize % charges.len();
                    charges[index].shrink(step * 13 % 9_000);
                }
                5 => charges[0]
                    .resize(step * 11 % 70_000)
                    .expect("there is no limit"),
                _ => charges[1].move_to(account).expect("there is no limit"),
            }
            let held: u64 = charges.iter().map(Charge::bytes).sum();
            assert_eq!(accounts.iter().map(HostMemory::used).sum::<u64>(), held);
            assert!(total(&quota) <= held + 4 * PORTION, "{}", total(&quota));
            assert!(total(&quota) + 2 * INCLUDED >= held, "{}", total(&quota));
        }
        charges.clear();
        assert_eq!(total(&quota), 0);
    }

    #[test]
    fn a_total_limit_can_be_used_to_the_last_byte() {
        let quota = quota(u64::MAX, PORTION, None);
        let account = HostMemory::of_process(&quota);
        let _all = account
            .charge(PORTION + INCLUDED)
            .expect("the total limit and the included bytes are available");
        account.charge(1).expect_err("the limit is reached");
    }
}
