//! All living processes of a machine by pid, and the links, monitors and ends that pass between
//! them.

use super::cell::ProcessCell;
use super::exit::{Exit, MAX_REASON};
use super::pid::Pid;
use super::signal::Signal;
use super::sync::{Arc, Mutex, MutexGuard};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The number of shards of the table. Each shard has a lock of its own, which reduces contention
/// between cores.
const SHARDS: usize = 64;

/// A part of the table behind one lock.
type Shard<T> = HashMap<Pid, Arc<T>, BuildHasherDefault<PidHasher>>;

/// The living processes. `T` is what a machine keeps for each process, including the
/// [`ProcessCell`].
pub struct Table<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
}

/// Uses a pid as its own hash. The permutation, whose key no guest knows, spreads pids evenly over
/// all their bits. A pid that a guest made up is only looked up and never inserted.
#[derive(Default)]
struct PidHasher(u64);

impl Hasher for PidHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a pid is one number");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        // The lowest bits select the shard, so they are the same for all pids in a shard.
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

    /// Returns the processes that are alive. The shards are visited one after another, so the
    /// result is not an atomic snapshot.
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

    /// Sends a signal and returns whether a living process received it.
    pub fn signal(&self, pid: Pid, signal: Signal) -> bool {
        self.get(pid)
            .is_some_and(|process| (*process).as_ref().signal(signal))
    }

    /// Links a process, which must be the one that is running, with another process. A process that
    /// does not exist is treated as having just died.
    pub fn link(&self, process: &ProcessCell, pid: Pid, tag: i64) {
        if self.links_with_nobody(process, pid, tag) {
            process.signal(Signal::LinkDied {
                pid,
                exit: Exit::NoProcess,
            });
        }
    }

    /// Links a process, which must be the one that is running, with another process if that process
    /// is alive.
    pub fn link_with_living(&self, process: &ProcessCell, pid: Pid, tag: i64) {
        if self.links_with_nobody(process, pid, tag) {
            process.forget_link(pid);
        }
    }

    /// Links two processes. Returns true if the process with this pid does not exist, so that only
    /// one side of the link remains.
    ///
    /// The side of `process` is linked first. Otherwise, if the other process died between the two
    /// steps, its failure would find `process` not yet linked.
    fn links_with_nobody(&self, process: &ProcessCell, pid: Pid, tag: i64) -> bool {
        if pid == process.pid() {
            return false;
        }
        let is_new = process.remember_link(pid, tag);
        let is_there = self.signal(
            pid,
            Signal::Link {
                pid: process.pid(),
                tag,
            },
        );
        // If the dead process was already linked, its own notice, which contains the reason of its
        // death, has not arrived yet.
        !is_there && is_new
    }

    /// Ends the link between a process and another process.
    pub fn unlink(&self, process: &ProcessCell, pid: Pid) {
        process.forget_link(pid);
        self.signal(pid, Signal::Unlink { pid: process.pid() });
    }

    /// Makes a process monitor another process. A tag of 0 means no tag.
    pub fn monitor(&self, process: &ProcessCell, pid: Pid, tag: i64) {
        if process.remember_monitor(pid, tag)
            && !self.signal(pid, Signal::Monitor { pid: process.pid() })
        {
            process.no_process(pid, tag);
        }
    }

    /// Ends a monitor. Returns true if the process had not yet been notified and now never will be.
    pub fn stop_monitoring(&self, process: &ProcessCell, pid: Pid, tag: i64) -> bool {
        let (was_there, is_watching) = process.forget_monitor(pid, tag);
        if was_there && !is_watching {
            self.signal(pid, Signal::StopMonitoring { pid: process.pid() });
        }
        was_there
    }

    /// Ends a process. The process dies and is removed from the table, and `release` releases
    /// everything else that the process held. Only then are other processes notified. `release`
    /// gets the reason and the number of pieces of mail that the process received during its life.
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
