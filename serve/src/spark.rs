//! Sparks: modules that read and write bytes.
//!
//! A spark is run by something, a gateway or another spark, and has a comm to it: messages of bytes both ways. It can run
//! other functions of its project by name, each in a process and an environment of its own, and has a comm to each. Modules
//! built for Embly see the same comms through the functions that Embly had, and a program that knows nothing of all this
//! reads its standard input and writes its standard output.

mod calls;
mod comm;
mod command;
mod embly;
mod exchange;
mod outside;
mod running;
mod wire;

pub(crate) use comm::Leash;
pub(crate) use exchange::answer;

use crate::ticket::{RequestId, Ticket};
use crate::{Failure, Version};
use comm::{Ends, Running, comm};
use lunatic_vm::{
    End, Exit, Host, Live, MessageReader, MessageWriter, Module, Part, PipeClosed, Process,
    SpawnError, Val, ValType,
};
use std::sync::Arc;

/// A module that reads and writes bytes.
#[derive(Clone, Debug)]
pub struct Spark {
    module: Module,
    entry: Entry,
}

/// How a module begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    function: &'static str,
    /// How many numbers it takes, which are all zero.
    parameters: usize,
    /// Whether it knows of no comm, and has its standard streams instead.
    is_command: bool,
}

/// What a module is, by what it imports and exports.
#[derive(Debug)]
pub(crate) enum Kind {
    /// It reads and writes bytes.
    Spark(Spark),
    /// It is a program of the machine, which talks by messages.
    Program,
    /// It exports nothing to begin with.
    Nothing,
}

/// Says what a module is.
///
/// What imports the functions of comms is a spark, whatever else it imports: a spark in Rust is linked with all of the guest
/// library. What does not and imports others of the machine is a program.
pub(crate) fn kind(module: &Module) -> Kind {
    let has_comms = module
        .imports()
        .any(|(namespace, name)| is_of_comms(namespace, name));
    let Some(entry) = Entry::of(module, !has_comms) else {
        return Kind::Nothing;
    };
    let is_program = !has_comms
        && module
            .imports()
            .any(|(namespace, _)| namespace.starts_with("lunatic::"));
    if is_program {
        Kind::Program
    } else {
        Kind::Spark(Spark {
            module: module.clone(),
            entry,
        })
    }
}

/// Whether an import is one of the functions by which a spark reads and writes.
fn is_of_comms(namespace: &str, name: &str) -> bool {
    match namespace {
        "lunatic::spark" | "embly" => true,
        "env" => ["_read", "_write", "_spawn"].contains(&name),
        _ => false,
    }
}

impl Entry {
    /// Finds how a module begins: with `_start`, or with a `main` that takes nothing or a count and an address, as C has it.
    fn of(module: &Module, is_command: bool) -> Option<Entry> {
        ["_start", "main"].into_iter().find_map(|function| {
            let ty = module.function(function)?;
            let parameters = ty.params().len();
            let fits =
                [0, 2].contains(&parameters) && ty.params().all(|ty| matches!(ty, ValType::I32));
            fits.then_some(Entry {
                function,
                parameters,
                is_command,
            })
        })
    }
}

impl Spark {
    /// Returns the module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Begins a process of a version, whose comm has these ends.
    fn start(
        &self,
        version: &Arc<Version>,
        ends: Ends,
        birth: Birth,
    ) -> Result<Process, SpawnError> {
        let (entry, owner, metrics) = (self.entry, version.clone(), version.metrics().clone());
        let process =
            version
                .environment()
                .drive(&self.module, version.name().as_str(), move |live| {
                    Box::pin(async move {
                        let exit = if entry.is_command {
                            command::run(live, entry, ends).await
                        } else {
                            *live.guest().extension::<Running>() = Running::new(owner, ends, birth);
                            run(live, entry).await
                        };
                        metrics.had_memory(live.memory_size());
                        metrics.computed(live.instructions_used());
                        exit
                    })
                })?;
        if let Some(request) = birth.request {
            version
                .log()
                .works_for(process.pid(), version.number(), request);
        }
        Ok(process)
    }
}

/// What a process of a spark begins with, beside its comm.
#[derive(Clone, Copy, Debug, Default)]
struct Birth {
    /// The request that it serves, in whatever depth.
    request: Option<RequestId>,
    /// How many functions ran each other until this one was run.
    depth: u32,
}

/// Runs a spark to its end.
async fn run(live: &mut Live, entry: Entry) -> Exit {
    let parameters = vec![Val::I32(0); entry.parameters];
    match live.call(entry.function, &parameters).await {
        Ok(results) => match results.first() {
            // What a `main` returns is its status.
            Some(Val::I32(status)) if *status != 0 => Exit::Status(*status),
            _ => Exit::Normal,
        },
        Err(error) => error.into_exit(),
    }
}

/// Adds what sparks import.
pub(crate) fn add_to_host(host: &mut Host) {
    calls::add_to_host(host);
    embly::add_to_host(host);
}

/// A connection that a spark serves.
pub(crate) struct Connection {
    // Dropped before the comm, whose end would let the process end well.
    leash: Leash,
    reader: MessageReader,
    writer: MessageWriter,
}

/// Has a spark serve a connection. What the connection's side writes is what the spark reads; it comes as one message, which
/// ends when the connection's side has finished. The process is killed when the connection is dropped.
///
/// # Errors
///
/// Where there is no room for a process, or it cannot be made.
pub(crate) fn connect(
    version: &Arc<Version>,
    spark: &Spark,
    ticket: &Ticket,
) -> Result<Connection, Failure> {
    let ((reader, writer), ends) = comm();
    let birth = Birth {
        request: Some(ticket.id),
        depth: 0,
    };
    let process = spark
        .start(version, ends, birth)
        .map_err(Failure::of_spawn)?;
    ticket.served_by(&process);
    Ok(Connection {
        reader,
        writer,
        leash: Leash::new(process),
    })
}

impl Connection {
    /// Returns the process that serves it.
    pub(crate) fn process(&self) -> &Process {
        self.leash.process()
    }

    /// Reads what the spark writes: as much as there is, at least one byte; zero is the end, when the spark has ended well or
    /// has said that it had finished. Ends of its messages are passed over.
    ///
    /// Waits until there is something. A future that is dropped early has taken nothing.
    ///
    /// # Errors
    ///
    /// How the spark ended, where that was otherwise than well.
    pub(crate) async fn read(&self, into: &mut [u8]) -> Result<usize, Failure> {
        let end = loop {
            match self.reader.read(into).await {
                Part::Bytes(count) => return Ok(count),
                Part::EndOfMessage => (),
                Part::End(end) => break end,
            }
        };
        match end {
            End::Finished => Ok(0),
            End::Failed(why) => Err(Failure::Failed(why.to_string())),
            End::Gone => match self.process().exited().await {
                exit if exit.is_normal() => Ok(0),
                exit => Err(Failure::of_exit(exit)),
            },
        }
    }

    /// Writes bytes for the spark to read. Waits while it is behind. A future that is dropped early has written some from the
    /// front.
    ///
    /// # Errors
    ///
    /// Where it reads no more, because it has ended or closed its comm.
    pub(crate) async fn write_all(&self, bytes: &[u8]) -> Result<(), PipeClosed> {
        self.writer.write_all(bytes).await
    }

    /// Tells the spark that nothing more will come. It can go on writing.
    pub(crate) fn finish(&self) {
        self.writer.finish();
    }
}

#[cfg(test)]
mod tests;
