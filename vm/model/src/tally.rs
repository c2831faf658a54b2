//! A case about counting against a limit.

#[path = "../../src/tally/allowances.rs"]
mod allowances;

/// Replaces `tally/sync.rs`.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(super) use loom::sync::{Mutex, MutexGuard};
}

use super::check;
use allowances::{Allowance, Granted};
use loom::sync::Arc;
use loom::thread;

/// Two threads of different parts each take one of two things, while all that is not in use is in
/// the first part's allowance. Neither thread is refused, no matter where the things are at that
/// moment, and in the end exactly two are left.
pub fn nobody_is_refused_what_is_on_its_way() {
    const LIMIT: u64 = 2;
    check(3, || {
        let tally: Arc<(Granted<1>, [Allowance<1>; 2])> = Arc::default();
        let take = |tally: &(Granted<1>, [Allowance<1>; 2]), part: usize, amount: u64| {
            let (granted, parts) = tally;
            granted.take(&parts[..], &parts[part], 0, amount, LIMIT)
        };
        let give_back = |tally: &(Granted<1>, [Allowance<1>; 2]), part: usize, amount: u64| {
            tally.0.give_back(&tally.1[part], 0, amount);
        };
        take(&tally, 0, LIMIT).expect("nothing is in use");
        give_back(&tally, 0, LIMIT);
        let other = {
            let tally = tally.clone();
            thread::spawn(move || {
                take(&tally, 0, 1).expect("at most one is in use");
                give_back(&tally, 0, 1);
            })
        };
        take(&tally, 1, 1).expect("at most one is in use");
        give_back(&tally, 1, 1);
        other.join().expect("the other thread does not panic");
        take(&tally, 1, LIMIT).expect("nothing is in use");
        take(&tally, 0, 1).expect_err("everything is in use");
    });
}
