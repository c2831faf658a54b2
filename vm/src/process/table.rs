//! All living processes of a machine, by pid.

use super::{Pid, Process};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

/// So many parts with a lock each keep the cores out of each other's way.
const SHARDS: usize = 64;

pub(crate) struct Table {
    shards: [Mutex<HashMap<Pid, Process>>; SHARDS],
}

impl Table {
    pub(crate) fn new() -> Table {
        Table { shards: std::array::from_fn(|_| Mutex::new(HashMap::new())) }
    }

    pub(crate) fn insert(&self, process: Process) {
        let before = self.shard(process.pid()).insert(process.pid(), process);
        debug_assert!(before.is_none(), "a pid is not given twice");
    }

    pub(crate) fn remove(&self, pid: Pid) {
        let removed = self.shard(pid).remove(&pid);
        // The last handle to a process may be this one; dropping it drops its environment, which need not happen locked.
        drop(removed);
    }

    pub(crate) fn get(&self, pid: Pid) -> Option<Process> {
        self.shard(pid).get(&pid).cloned()
    }

    /// Returns the processes that are alive, shard by shard: not a picture of one moment.
    pub(crate) fn all(&self) -> Vec<Process> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(lock(shard).values().cloned());
        }
        all
    }

    fn shard(&self, pid: Pid) -> MutexGuard<'_, HashMap<Pid, Process>> {
        // Pids are spread evenly over all their bits.
        lock(&self.shards[pid.number() as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<HashMap<Pid, Process>>) -> MutexGuard<'_, HashMap<Pid, Process>> {
    shard.lock().expect("nothing panics while it holds a part of the table")
}
