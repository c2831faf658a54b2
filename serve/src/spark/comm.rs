//! A comm: what a spark and its runner write to each other, and what hangs on it.

use super::Birth;
use crate::Version;
use lunatic_vm::{Call, End, Failure, Guest, MessagePipe, MessageReader, MessageWriter, Process};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::AbortHandle;

/// How many bytes, and how many ends of messages, one side may be ahead of the other. They are the host's memory: a spark can
/// have so much for each function that it runs, in each direction.
const BYTES: usize = 64 << 10;
const MESSAGES: usize = 1024;

/// So many functions a spark can run at the same time.
pub(super) const MOST: usize = 64;

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

/// Something of the host's, which is given up when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The two ends that one side of a comm has.
pub(super) type Ends = (MessageReader, MessageWriter);

/// Makes a comm: the ends of the one side, and of the other.
pub(super) fn comm() -> (Ends, Ends) {
    let (to_one, one_reads) = MessagePipe::bounded(BYTES, MESSAGES);
    let (to_other, other_reads) = MessagePipe::bounded(BYTES, MESSAGES);
    ((one_reads, to_other), (other_reads, to_one))
}

/// A spark's side of a comm.
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
    Host(#[expect(dead_code, reason = "it is dropped with the side")] Task),
    /// Nobody: there is no such function, as modules built for Embly are told only here.
    Nobody(String),
}

impl Side {
    /// The side of a spark, towards its runner.
    pub(super) fn to_runner((reader, writer): Ends) -> Side {
        Side {
            reader,
            writer,
            behind: Behind::Runner,
        }
    }

    /// The side of a runner, towards a function.
    pub(super) fn to_function((reader, writer): Ends, name: &str, process: Process) -> Side {
        Side {
            reader,
            writer,
            behind: Behind::Function(name.to_string(), Leash::new(process)),
        }
    }

    /// The side of a runner, towards something of the host's.
    pub(super) fn to_host((reader, writer): Ends, task: AbortHandle) -> Side {
        Side {
            reader,
            writer,
            behind: Behind::Host(Task(task)),
        }
    }

    /// The side of a runner, towards what could not be run.
    pub(super) fn to_nobody(why: String) -> Side {
        let ((reader, writer), _) = comm();
        Side {
            reader,
            writer,
            behind: Behind::Nobody(why),
        }
    }

    /// Says what the end of what the other side wrote means: nothing, or that it failed, and why.
    pub(super) async fn ended(&self, end: End) -> Result<(), String> {
        match (end, &self.behind) {
            (End::Failed(why), Behind::Function(name, _)) => {
                Err(format!("the function `{name}` failed: {why}"))
            }
            (End::Failed(why), _) => Err(why.to_string()),
            (_, Behind::Nobody(why)) => Err(why.clone()),
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
    /// The sentence of the last failure.
    pub(super) why: String,
    /// Where a wait for several comms begins to look, so that none is passed by.
    pub(super) turn: usize,
}

impl Running {
    /// What a process begins with.
    pub(super) fn new(version: Arc<Version>, ends: Ends, birth: Birth) -> Running {
        let comms = BTreeMap::from([(0, Arc::new(Side::to_runner(ends)))]);
        Running {
            version: Some(version),
            birth,
            comms,
            next: 1,
            ..Running::default()
        }
    }

    /// Returns what the guest of a call has.
    pub(super) fn of<'a>(call: &'a mut Call<'_>) -> &'a mut Running {
        Running::of_guest(call.guest())
    }

    /// Returns what a guest has.
    pub(super) fn of_guest(guest: &mut Guest) -> &mut Running {
        guest.extension()
    }

    /// Returns a comm.
    ///
    /// # Errors
    ///
    /// Traps where there is none of that number.
    pub(super) fn comm(&self, number: u64) -> Result<Arc<Side>, Failure> {
        let side = self.comms.get(&number).cloned();
        side.ok_or_else(|| {
            Failure::trap(format!(
                "there is no comm with the number {number}; was it closed?"
            ))
        })
    }

    /// Returns a comm where there is one of that number.
    pub(super) fn find(&self, number: u64) -> Option<&Arc<Side>> {
        self.comms.get(&number)
    }

    /// Returns all comms, in the order of their numbers.
    pub(super) fn comms(&self) -> impl Iterator<Item = (u64, &Arc<Side>)> {
        self.comms.iter().map(|(number, side)| (*number, side))
    }

    /// Keeps a comm and returns its number, which no other of the process ever has.
    pub(super) fn keep(&mut self, side: Side) -> u64 {
        let number = self.next;
        self.next += 1;
        self.comms.insert(number, Arc::new(side));
        number
    }

    /// Whether one more function can be run.
    pub(super) fn has_room(&self) -> bool {
        self.comms.keys().filter(|number| **number != 0).count() < MOST
    }

    /// Takes a comm away.
    pub(super) fn close(&mut self, number: u64) -> Option<Arc<Side>> {
        self.comms.remove(&number)
    }

    /// Returns the version that the process runs, and how it was run.
    pub(super) fn version(&self) -> Option<(&Arc<Version>, Birth)> {
        self.version.as_ref().map(|version| (version, self.birth))
    }
}
