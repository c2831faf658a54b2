//! All live processes in a machine, by pid, and the links, monitors and death notices between them.

use super::cell::ProcessCell;
use super::exit::{Exit, LimitReached, MAX_REASON};
use super::links::ExitNotices;
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
    shards: [Padded<Mutex<Shard<T>>>; SHARDS],
}

/// Keeps shards on separate cache lines, of which processors fetch two at a time.
#[repr(align(128))]
struct Padded<T>(T);

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
            shards: std::array::from_fn(|_| Padded(Mutex::new(Shard::default()))),
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
        for Padded(shard) in &self.shards {
            all.extend(lock(shard).values().cloned());
        }
        all
    }

    fn shard(&self, pid: Pid) -> MutexGuard<'_, Shard<T>> {
        lock(&self.shards[pid.number() as usize % SHARDS].0)
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
    /// The same as for [`Table::link`].
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

    /// Links two processes. Returns true if there is no process `pid`, in which case only one side
    /// of the link remains.
    ///
    /// `process`'s side is linked first. Otherwise, if the other process died between the two
    /// steps, `process` would not be linked yet and would not be notified.
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

    /// Removes a monitor. Returns true if `process` had not been notified yet and now never will
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
        let mut notices = self.remove(process, exit, release);
        self.tell(&mut notices, usize::MAX);
        notices.settle(process);
    }

    /// Ends a process like [`Table::finish`], but does not notify other processes yet. Returns what
    /// remains to be done.
    pub fn remove(
        &self,
        process: &ProcessCell,
        exit: Exit,
        release: impl FnOnce(&Exit, u64),
    ) -> Notices {
        let pid = process.pid();
        let (left, mailbox) = process.die(&exit);
        let mail = mailbox.next_sequence();
        drop(mailbox);
        let removed = self.shard(pid).remove(&pid);
        // This is dropped after the table's lock is released, because it may be the last handle to
        // the process.
        drop(removed);
        release(&exit, mail);
        Notices { pid, exit, left }
    }

    /// Notifies at most `most` processes. Returns whether there may be more to notify.
    pub fn tell(&self, notices: &mut Notices, most: usize) -> bool {
        let Notices { pid, exit, left } = notices;
        let pid = *pid;
        let link_died = Signal::LinkDied {
            pid,
            exit: exit.clone(),
        };
        let process_died = Signal::ProcessDied {
            pid,
            exit: exit.told(MAX_REASON),
        };
        let mut room = most;
        for (pids, signal) in [
            (&mut left.links, link_died),
            (&mut left.watchers, process_died),
            (&mut left.unlinked, Signal::Unlink { pid }),
            (&mut left.watched, Signal::StopMonitoring { pid }),
        ] {
            let rest = pids.len().saturating_sub(room);
            room -= pids.len() - rest;
            for pid in pids.drain(rest..) {
                self.signal(pid, signal.clone());
            }
        }
        room == 0
    }
}

/// The processes that have not yet been notified that a process has ended.
#[derive(Debug)]
pub struct Notices {
    pid: Pid,
    exit: Exit,
    left: ExitNotices,
}

impl Notices {
    /// Notifies the tasks that are waiting for the process to end, now that all processes have been
    /// notified.
    pub fn settle(self, process: &ProcessCell) {
        process.settle(self.exit);
    }
}

fn lock<T>(shard: &Mutex<Shard<T>>) -> MutexGuard<'_, Shard<T>> {
    shard
        .lock()
        .expect("no code panics while it holds this lock")
}

#[cfg(test)]
mod tests {
    use super::super::mailbox::{MailboxLimits, Wanted};
    use super::*;

    #[test]
    fn many_processes_are_notified_of_a_death_in_portions() {
        const COUNT: u64 = 1_000;

        let limits = MailboxLimits {
            message_bytes: 100,
            messages: 100,
            bytes: 100,
        };
        let table: Table<ProcessCell> = Table::default();
        let new = |number| {
            let process = Arc::new(ProcessCell::new(Pid::from_number(number), limits));
            table.insert(process.clone());
            process
        };
        let dying = new(1);
        let watchers: Vec<_> = (2..2 + COUNT).map(new).collect();
        for watcher in &watchers {
            table.monitor(watcher, dying.pid(), 0);
        }
        let mut notices = table.remove(&dying, Exit::Killed, |_, _| {});
        let told = || {
            let told = |watcher: &&Arc<ProcessCell>| watcher.mailbox_size().0 == 1;
            watchers.iter().filter(told).count()
        };
        for portion in 1..=3 {
            assert!(table.tell(&mut notices, 300));
            assert_eq!(told(), portion * 300);
        }
        assert!(!table.tell(&mut notices, 300));
        assert!(!table.tell(&mut notices, 300), "all are notified");
        notices.settle(&dying);
        assert!(dying.exit().is_some());
        for watcher in watchers {
            assert!(watcher.receive(&Wanted::Any, 0, false).is_some());
            assert!(watcher.receive(&Wanted::Any, 0, false).is_none());
        }
    }
}
