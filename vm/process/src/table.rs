//! All live processes in a machine, by pid, and the links, monitors and death notices that pass
//! between them.

use super::cell::ProcessCell;
use super::exit::{Exit, LimitReached, MAX_REASON};
use super::pid::Pid;
use super::signal::Signal;
use super::sync::{Arc, Mutex, MutexGuard};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The number of shards in the table. Each has its own lock, which reduces contention between
/// cores.
const SHARDS: usize = 64;

/// The part of the table behind one lock.
type Shard<T> = HashMap<Pid, Arc<T>, BuildHasherDefault<PidHasher>>;

/// The live processes. `T` is what a machine stores for each process, including the
/// [`ProcessCell`].
pub struct Table<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
}

/// Uses a pid as its own hash. Pids come from a keyed permutation, whose key no guest knows, so
/// their bits are already evenly distributed. A pid that a guest made up is only looked up, never
/// inserted.
#[derive(Default)]
struct PidHasher(u64);

impl Hasher for PidHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a pid hashes itself as a single u64");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        // The lowest bits select the shard, so they are the same for all pids in it.
        self.0.rotate_right(SHARDS.trailing_zeros())
    }
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            shards: std::array::from_fn(|_| Mutex::new(Shard::default())),
        }
    }
}

impl<T: AsRef<ProcessCell>> Table<T> {
    /// Adds a process.
    pub fn insert(&self, process: Arc<T>) {
        let pid = (*process).as_ref().pid();
        let before = self.shard(pid).insert(pid, process);
        debug_assert!(before.is_none(), "a pid is never issued twice");
    }

    /// Finds a process.
    pub fn get(&self, pid: Pid) -> Option<Arc<T>> {
        self.shard(pid).get(&pid).cloned()
    }

    /// Returns all live processes. The shards are visited one after another, so the result is not
    /// an atomic snapshot.
    pub fn all(&self) -> Vec<Arc<T>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(lock(shard).values().cloned());
        }
        all
    }

    fn shard(&self, pid: Pid) -> MutexGuard<'_, Shard<T>> {
        lock(&self.shards[pid.number() as usize % SHARDS])
    }

    /// Sends a signal and returns whether a live process received it.
    pub fn signal(&self, pid: Pid, signal: Signal) -> bool {
        self.get(pid)
            .is_some_and(|process| (*process).as_ref().signal(signal))
    }

    /// Links `process`, which must be the currently running one, to another process. If the latter
    /// does not exist, it is treated as having just died.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] if the environment of `process` cannot pay for the other side of the link.
    pub fn link(&self, process: &ProcessCell, pid: Pid, tag: i64) -> Result<(), LimitReached> {
        if self.links_with_nobody(process, pid, tag)? {
            process.signal(Signal::LinkDied {
                pid,
                exit: Exit::NoProcess,
            });
        }
        Ok(())
    }

    /// Links `process`, which must be the currently running one, to another process if the latter
    /// is alive.
    ///
    /// # Errors
    ///
    /// As for [`Table::link`].
    pub fn link_with_living(
        &self,
        process: &ProcessCell,
        pid: Pid,
        tag: i64,
    ) -> Result<(), LimitReached> {
        if self.links_with_nobody(process, pid, tag)? {
            process.forget_link(pid);
        }
        Ok(())
    }

    /// Links two processes. Returns true if there is no process with this pid, in which case only
    /// one side of the link remains.
    ///
    /// `process`'s side is linked first. Otherwise, if the other process died between the two
    /// steps, its failure would find `process` not yet linked.
    fn links_with_nobody(
        &self,
        process: &ProcessCell,
        pid: Pid,
        tag: i64,
    ) -> Result<bool, LimitReached> {
        if pid == process.pid() {
            return Ok(false);
        }
        let paid = process.pay_for_link()?;
        let is_new = process.remember_link(pid, tag);
        let is_there = self
            .get(pid)
            .is_some_and(|other| (*other).as_ref().accept_link(process.pid(), tag, paid));
        // If the dead process was already linked, its own notice, which contains the reason for its
        // death, has not arrived yet.
        Ok(!is_there && is_new)
    }

    /// Removes the link between two processes.
    pub fn unlink(&self, process: &ProcessCell, pid: Pid) {
        process.forget_link(pid);
        self.signal(pid, Signal::Unlink { pid: process.pid() });
    }

    /// Makes `process` monitor another process. A tag of 0 means no tag.
    pub fn monitor(&self, process: &ProcessCell, pid: Pid, tag: i64) {
        if process.remember_monitor(pid, tag)
            && !self.signal(pid, Signal::Monitor { pid: process.pid() })
        {
            process.no_process(pid, tag);
        }
    }

    /// Removes a monitor. Returns true if `process` had not yet been notified and now never will
    /// be.
    pub fn stop_monitoring(&self, process: &ProcessCell, pid: Pid, tag: i64) -> bool {
        let (was_there, is_watching) = process.forget_monitor(pid, tag);
        if was_there && !is_watching {
            self.signal(pid, Signal::StopMonitoring { pid: process.pid() });
        }
        was_there
    }

    /// Ends a process. The process dies and is removed from the table, and `release` releases
    /// everything else that it held. Only then are other processes notified. `release` is passed
    /// the exit reason and the number of messages and death notices that the process received over
    /// its lifetime.
    pub fn finish(&self, process: &ProcessCell, exit: Exit, release: impl FnOnce(&Exit, u64)) {
        let pid = process.pid();
        let (notices, mailbox) = process.die(&exit);
        let mail = mailbox.next_sequence();
        drop(mailbox);
        let removed = self.shard(pid).remove(&pid);
        // This is dropped after the table's lock is released, because it may be the last handle to
        // the process.
        drop(removed);
        release(&exit, mail);
        let tell = |pids: Vec<Pid>, signal: Signal| {
            for pid in pids {
                self.signal(pid, signal.clone());
            }
        };
        let link_died = Signal::LinkDied {
            pid,
            exit: exit.clone(),
        };
        let process_died = Signal::ProcessDied {
            pid,
            exit: exit.told(MAX_REASON),
        };
        tell(notices.links, link_died);
        tell(notices.watchers, process_died);
        tell(notices.unlinked, Signal::Unlink { pid });
        tell(notices.watched, Signal::StopMonitoring { pid });
        process.settle(exit);
    }
}

fn lock<T>(shard: &Mutex<Shard<T>>) -> MutexGuard<'_, Shard<T>> {
    shard
        .lock()
        .expect("no code panics while it holds this lock")
}
