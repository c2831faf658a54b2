//! Comms. A comm carries the bytes that a spark and its runner write to each other, and owns the
//! process or task that ends with it.

use crate::kill_on_drop::KillOnDrop;
use lunatic_vm::{MessagePipe, MessageReader, MessageWriter, PipeEnd, Process};
use tokio::task::JoinSet;

/// How many bytes, and how many message boundaries, one side may be ahead of the other. Each
/// function that a spark runs can occupy this much host memory per direction.
const BYTES: usize = 64 << 10;
const MESSAGES: usize = 1024;

/// The pipe ends held by one side of a comm.
pub(super) type CommPipes = (MessageReader, MessageWriter);

/// Creates the pipes for both sides of a comm.
pub(super) fn comm_pair() -> (CommPipes, CommPipes) {
    let (to_one, one_reads) = MessagePipe::bounded(BYTES, MESSAGES);
    let (to_other, other_reads) = MessagePipe::bounded(BYTES, MESSAGES);
    ((one_reads, to_other), (other_reads, to_one))
}

/// A spark's side of a comm.
pub(super) struct Comm {
    pub(super) reader: MessageReader,
    pub(super) writer: MessageWriter,
    peer: Peer,
}

/// What is on the other side of a comm.
enum Peer {
    /// The gateway or function that runs this spark.
    Runner,
    /// A function that this spark runs: its name and its process.
    Function(String, KillOnDrop),
    /// A host task that this spark runs.
    Host(#[expect(dead_code, reason = "the task is aborted when this is dropped")] JoinSet<()>),
    /// Nothing, because the function could not be run. Modules built for Embly do not learn this
    /// until they read.
    Nothing(String),
}

impl Comm {
    fn new((reader, writer): CommPipes, peer: Peer) -> Comm {
        Comm {
            reader,
            writer,
            peer,
        }
    }

    /// Creates a spark's comm to its runner.
    pub(super) fn to_runner(pipes: CommPipes) -> Comm {
        Comm::new(pipes, Peer::Runner)
    }

    /// Creates a runner's comm to a function. Dropping the comm kills the process.
    pub(super) fn to_function(pipes: CommPipes, name: &str, process: Process) -> Comm {
        Comm::new(
            pipes,
            Peer::Function(name.to_string(), KillOnDrop::new(process)),
        )
    }

    /// Creates a runner's comm to a host task. Dropping the comm aborts the task.
    pub(super) fn to_host(pipes: CommPipes, task: JoinSet<()>) -> Comm {
        Comm::new(pipes, Peer::Host(task))
    }

    /// Creates a runner's comm to a function that could not be run.
    pub(super) fn to_nothing(why: String) -> Comm {
        let (pipes, _) = comm_pair();
        Comm::new(pipes, Peer::Nothing(why))
    }

    /// Returns `Ok` if the other side ended its output normally, and otherwise why it failed.
    pub(super) async fn ended(&self, end: PipeEnd) -> Result<(), String> {
        match (end, &self.peer) {
            (PipeEnd::Failed(why), Peer::Function(name, _)) => {
                Err(format!("the function `{name}` failed: {why}"))
            }
            (PipeEnd::Failed(why), _) => Err(why.to_string()),
            (_, Peer::Nothing(why)) => Err(why.clone()),
            (PipeEnd::Gone, Peer::Function(name, guard)) => match guard.process().exited().await {
                exit if exit.is_normal() => Ok(()),
                exit => Err(format!("the function `{name}` {exit}")),
            },
            (PipeEnd::Finished | PipeEnd::Gone, _) => Ok(()),
        }
    }
}
