//! A comm: what a spark and its runner write to each other, and what ends with it.

use crate::kill_on_drop::KillOnDrop;
use lunatic_vm::{MessagePipe, MessageReader, MessageWriter, PipeEnd, Process};
use tokio::task::JoinSet;

/// How many bytes, and how many ends of messages, one side may be ahead of the other. This is the
/// host's memory, and a spark can take up as much for each function that it runs, in each
/// direction.
const BYTES: usize = 64 << 10;
const MESSAGES: usize = 1024;

/// The ends of the two pipes that one side of a comm has.
pub(super) type CommPipes = (MessageReader, MessageWriter);

/// Makes the pipes of a comm, for one side and for the other.
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
    /// Whatever runs this spark.
    Runner,
    /// A function that this spark runs, by its name.
    Function(String, KillOnDrop),
    /// A task of the host that this spark runs.
    Host(#[expect(dead_code, reason = "the task is aborted when this is dropped")] JoinSet<()>),
    /// Nothing: the function could not be run. Modules built for Embly learn of it only when they
    /// read.
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

    /// Makes a spark's comm to its runner.
    pub(super) fn to_runner(pipes: CommPipes) -> Comm {
        Comm::new(pipes, Peer::Runner)
    }

    /// Makes a runner's comm to a function. The process is killed with it.
    pub(super) fn to_function(pipes: CommPipes, name: &str, process: Process) -> Comm {
        Comm::new(
            pipes,
            Peer::Function(name.to_string(), KillOnDrop::new(process)),
        )
    }

    /// Makes a runner's comm to a task of the host. The task is aborted with it.
    pub(super) fn to_host(pipes: CommPipes, task: JoinSet<()>) -> Comm {
        Comm::new(pipes, Peer::Host(task))
    }

    /// Makes a runner's comm to a function that could not be run.
    pub(super) fn to_nothing(why: String) -> Comm {
        let (pipes, _) = comm_pair();
        Comm::new(pipes, Peer::Nothing(why))
    }

    /// Returns what the end of the other side's output means: nothing, or why it failed.
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
