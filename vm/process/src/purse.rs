//! Charges a process's environment for the process's mail.
//!
//! A [`Ledger`] is plain data that records how much of a process's mail is paid for. Payments are
//! made in large portions, so a process that exchanges small messages pays only once.

use super::exit::LimitReached;
use std::fmt;
use std::sync::Arc;

/// Pays for the memory occupied by waiting mail. Implemented by a process's environment.
pub trait Purse: Send + Sync {
    /// Pays for a number of bytes. This is called while a process's lock is held, so
    /// implementations must not take any locks.
    ///
    /// # Errors
    ///
    /// Returns [`LimitReached`], and pays nothing, if there is not enough left.
    fn pay(&self, bytes: u64) -> Result<(), LimitReached>;

    /// Refunds the payment for a number of bytes.
    fn refund(&self, bytes: u64);
}

/// The number of bytes of mail that each process may have for free.
const INCLUDED: u64 = 4 << 10;

/// The size of the portions in which mail is paid for.
const PORTION: u64 = 16 << 10;

/// Records how much of a process's mail is paid for.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    paid: u64,
}

impl Ledger {
    /// Pays for mail of this total weight, unless it is already paid for.
    pub(crate) fn afford(
        &mut self,
        weight: u64,
        purse: Option<&dyn Purse>,
    ) -> Result<(), LimitReached> {
        let missing = weight.saturating_sub(INCLUDED).saturating_sub(self.paid);
        let Some(purse) = purse.filter(|_| missing > 0) else {
            return Ok(());
        };
        let portions = missing.next_multiple_of(PORTION);
        self.paid += match purse.pay(portions) {
            Ok(()) => portions,
            // Near the limit, pay for only the missing bytes instead of a whole portion.
            Err(_) => purse.pay(missing).map(|()| missing)?,
        };
        Ok(())
    }

    /// Refunds the payment for bytes beyond this total weight, except for a portion that will
    /// probably be needed again.
    pub(crate) fn settle(&mut self, weight: u64, purse: Option<&dyn Purse>) {
        let spare = self.paid.saturating_sub(weight.saturating_sub(INCLUDED));
        if spare >= 2 * PORTION {
            self.give_back(spare - PORTION, purse);
        }
    }

    /// Refunds all payments.
    pub(crate) fn close(&mut self, purse: Option<&dyn Purse>) {
        self.give_back(self.paid, purse);
    }

    fn give_back(&mut self, bytes: u64, purse: Option<&dyn Purse>) {
        if let Some(purse) = purse.filter(|_| bytes > 0) {
            self.paid -= bytes;
            purse.refund(bytes);
        }
    }
}

/// Bytes that are paid for until this value is dropped.
pub struct Paid {
    purse: Option<Arc<dyn Purse>>,
    bytes: u64,
}

impl Paid {
    /// Pays for the given number of bytes. Without a purse, they are free.
    pub(crate) fn new(purse: Option<&Arc<dyn Purse>>, bytes: u64) -> Result<Paid, LimitReached> {
        if let Some(purse) = purse {
            purse.pay(bytes)?;
        }
        let purse = purse.cloned();
        Ok(Paid { purse, bytes })
    }

    /// Pays for more bytes.
    pub(crate) fn add(&mut self, bytes: u64) -> Result<(), LimitReached> {
        if let Some(purse) = &self.purse {
            purse.pay(bytes)?;
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Paid {
    fn drop(&mut self) {
        if let Some(purse) = &self.purse {
            purse.refund(self.bytes);
        }
    }
}

impl fmt::Debug for Paid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Paid({})", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sync::{AtomicU64, Ordering};
    use super::*;
    use lunatic_abi::Limit;

    struct Bounded(AtomicU64, u64);

    impl Purse for Bounded {
        fn pay(&self, bytes: u64) -> Result<(), LimitReached> {
            let paid = self.0.load(Ordering::Relaxed) + bytes;
            if paid > self.1 {
                return Err(LimitReached {
                    limit: Limit::TotalHostMemory,
                    allowed: self.1,
                    wanted: Some(paid),
                });
            }
            self.0.store(paid, Ordering::Relaxed);
            Ok(())
        }

        fn refund(&self, bytes: u64) {
            self.0.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    #[test]
    fn mail_is_paid_for_in_portions_to_the_last_byte_and_refunded() {
        let purse = Bounded(AtomicU64::new(0), 3 * PORTION + 1);
        let paid = || purse.0.load(Ordering::Relaxed);
        let mut ledger = Ledger::default();
        for weight in [INCLUDED, INCLUDED + 1, INCLUDED + PORTION] {
            ledger.afford(weight, Some(&purse)).expect("there is room");
            assert_eq!(paid(), if weight == INCLUDED { 0 } else { PORTION });
        }
        let all = INCLUDED + 3 * PORTION + 1;
        ledger
            .afford(all, Some(&purse))
            .expect("the charge is exactly the limit");
        ledger
            .afford(all + 1, Some(&purse))
            .expect_err("the charge exceeds the limit by one byte");
        ledger.settle(INCLUDED + 2 * PORTION, Some(&purse));
        assert_eq!(
            paid(),
            3 * PORTION + 1,
            "only the missing bytes are paid for"
        );
        ledger.settle(0, Some(&purse));
        assert_eq!(paid(), PORTION);
        ledger.close(Some(&purse));
        assert_eq!(paid(), 0);
    }

    #[test]
    fn a_process_pays_for_the_links_that_it_makes_until_their_notices_are_read() {
        use super::super::cell::ProcessCell;
        use super::super::exit::Exit;
        use super::super::mailbox::{Mail, MailboxLimits, Wanted};
        use super::super::pid::Pid;
        use super::super::state::END_BYTES;
        use super::super::table::Table;
        use std::sync::Arc;

        let limits = MailboxLimits {
            message_bytes: 100,
            messages: 100,
            bytes: 100,
        };
        let attacker = Arc::new(Bounded(AtomicU64::new(0), 2_000 * END_BYTES));
        let paid = || attacker.0.load(Ordering::Relaxed);
        let nothing = Arc::new(Bounded(AtomicU64::new(0), 0));
        let table: Table<ProcessCell> = Table::default();
        let victim = ProcessCell::new(Pid::from_number(1), limits).paid_by(nothing);
        let victim = Arc::new(victim);
        victim.set_notified(true);
        table.insert(victim.clone());
        let all = (2..2_002).map(|number| {
            let linked = ProcessCell::new(Pid::from_number(number), limits);
            let linked = Arc::new(linked.paid_by(attacker.clone()));
            table.insert(linked.clone());
            let link = table.link(&linked, victim.pid(), 0);
            link.expect("the attacker can pay for this link");
            linked
        });
        let all: Vec<_> = all.collect();
        assert_eq!(paid(), 2_000 * END_BYTES);
        let another = ProcessCell::new(Pid::from_number(1 << 20), limits);
        let another = another.paid_by(attacker.clone());
        table
            .link(&another, victim.pid(), 0)
            .expect_err("the attacker can pay for no more links");
        victim
            .room_for_end()
            .expect("the victim has no link of its own");
        for linked in all {
            table.finish(&linked, Exit::Killed, |_, _| {});
        }
        victim
            .room_for_end()
            .expect("the victim had no link of its own");
        assert_eq!(paid(), 2_000 * END_BYTES);
        while let Some(mail) = victim.receive(&Wanted::Any, 0, false) {
            assert!(matches!(mail, Mail::LinkDied { paid: Some(_), .. }));
        }
        assert_eq!(paid(), 0);
    }

    #[test]
    fn a_death_is_reported_even_if_its_reason_cannot_be_paid_for() {
        use super::super::cell::ProcessCell;
        use super::super::exit::{Exit, Trap};
        use super::super::mailbox::{Mail, MailboxLimits, Wanted};
        use super::super::pid::Pid;
        use super::super::table::Table;
        use std::sync::Arc;

        let limits = MailboxLimits {
            message_bytes: 100,
            messages: 100,
            bytes: 100,
        };
        let purse = Arc::new(Bounded(AtomicU64::new(0), PORTION));
        let table: Table<ProcessCell> = Table::default();
        let watcher = ProcessCell::new(Pid::from_number(1), limits).paid_by(purse.clone());
        let watcher = Arc::new(watcher);
        table.insert(watcher.clone());
        let mut told = Vec::new();
        let all = (2..22).map(|number| {
            let dying = Arc::new(ProcessCell::new(Pid::from_number(number), limits));
            table.insert(dying.clone());
            watcher.room_for_end().expect("notices are small");
            table.monitor(&watcher, dying.pid(), 0);
            dying
        });
        for dying in all.collect::<Vec<_>>() {
            let trap = Trap::new("x".repeat(5_000), Vec::new(), None);
            table.finish(&dying, Exit::Trapped(Arc::new(trap)), |_, _| {});
        }
        while let Some(mail) = watcher.receive(&Wanted::Any, 0, false) {
            let Mail::ProcessDied { exit, .. } = mail else {
                panic!("{mail:?}");
            };
            told.push(exit.text_length());
        }
        assert_eq!(told.len(), 20);
        assert!((2_000..2_100).contains(&told[0]), "{told:?}");
        assert!((100..200).contains(&told[19]), "{told:?}");
        table.finish(&watcher, Exit::Normal, |_, _| {});
        assert_eq!(purse.0.load(Ordering::Relaxed), 0);
    }
}
