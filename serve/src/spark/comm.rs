//! A comm: what a spark and its runner write to each other, and what hangs on it.

use super::Birth;
use crate::Version;
use lunatic_vm::{End, MessagePipe, MessageReader, MessageWriter, Process};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::AbortHandle;

/// How many bytes, and how many ends of messages, one side may be ahead of the other. They are the host's memory: a spark can
/// have so much for each function that it runs, in each direction.
const BYTES: usize = 64 << 10;
const MESSAGES: usize = 1024;

/// Kills a process when it is dropped: nobody waits any more for what it does.
#[derive(Debug)]
pub(crate) struct Leash(Process);

impl Leash {
    /// Ties a process to whoever keeps this.
    pub(crate) fn new(process: Process) -> Leash {
        Leash(process)
    }

    /// Returns the process.
    pub(crate) fn process(&self) -> &Process {
        &self.0
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// A spark's or a runner's side of a comm.
pub(super) struct Side {
    pub(super) reader: MessageReader,
    pub(super) writer: MessageWriter,
    behind: Behind,
}

/// Who is on the other side.
enum Behind {
    /// Whoever runs this spark.
    Runner,
    /// A function that this spark runs, by its name.
    Function(String, Leash),
    /// Something of the host's that this spark runs.
    Host(Task),
}

/// Something of the host's, which is given up when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The two ends that one side has.
pub(super) type Ends = (MessageReader, MessageWriter);

/// Makes a comm: the ends of the one side, and of the other.
pub(super) fn comm() -> (Ends, Ends) {
    let (to_one, one_reads) = MessagePipe::bounded(BYTES, MESSAGES);
    let (to_other, other_reads) = MessagePipe::bounded(BYTES, MESSAGES);
    ((one_reads, to_other), (other_reads, to_one))
}

impl Side {
    /// The side of a spark, towards its runner.
    pub(super) fn to_runner((reader, writer): Ends) -> Side {
        Side { reader, writer, behind: Behind::Runner }
    }

    /// The side of a runner, towards a function.
    pub(super) fn to_function((reader, writer): Ends, name: &str, process: Process) -> Side {
        Side { reader, writer, behind: Behind::Function(name.to_string(), Leash::new(process)) }
    }

    /// The side of a runner, towards something of the host's.
    pub(super) fn to_host((reader, writer): Ends, task: AbortHandle) -> Side {
        Side { reader, writer, behind: Behind::Host(Task(task)) }
    }

    /// Says what the end of what the other side wrote means: nothing, or that it failed, and why.
    pub(super) async fn ended(&self, end: End) -> Result<(), String> {
        match (end, &self.behind) {
            (End::Failed(why), Behind::Function(name, _)) => Err(format!("the function `{name}` failed: {why}")),
            (End::Failed(why), _) => Err(why.to_string()),
            (End::Gone, Behind::Function(name, leash)) => match leash.process().exited().await {
                exit if exit.is_normal() => Ok(()),
                exit => Err(format!("the function `{name}` {exit}")),
            },
            (End::Finished | End::Gone, _) => Ok(()),
        }
    }
}

/// What the host functions of a spark work on.
#[derive(Default)]
pub(super) struct Running {
    /// The version that it is a process of; `None` in a process that is no function's.
    version: Option<Arc<Version>>,
    birth: Birth,
    /// The comm to the runner is number 0.
    comms: BTreeMap<u64, Arc<Side>>,
    next: u64,
}

impl Running {
    /// What a process begins with.
    pub(super) fn new(version: Arc<Version>, ends: Ends, birth: Birth) -> Running {
        let comms = BTreeMap::from([(0, Arc::new(Side::to_runner(ends)))]);
        Running { version: Some(version), birth, comms, next: 1 }
    }
}
