//! All living processes of a machine, by pid.

use super::{Pid, Process};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard};

/// So many parts with a lock each keep the cores out of each other's way.
const SHARDS: usize = 64;

/// The part of the table that is behind one lock.
type Shard = HashMap<Pid, Process, BuildHasherDefault<AsItIs>>;

pub(crate) struct Table {
    shards: [Mutex<Shard>; SHARDS],
}

/// Takes a pid as its own hash. Pids are spread evenly over all their bits by a key that no guest knows, and a pid that a
/// guest made up is looked for and never inserted.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a pid is one number");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        // The lowest bits chose the shard and are the same for all in it.
        self.0.rotate_right(SHARDS.trailing_zeros())
    }
}

impl Table {
    pub(crate) fn new() -> Table {
        Table {
            shards: std::array::from_fn(|_| Mutex::new(Shard::default())),
        }
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

    fn shard(&self, pid: Pid) -> MutexGuard<'_, Shard> {
        lock(&self.shards[pid.number() as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard
        .lock()
        .expect("nothing panics while it holds a part of the table")
}
