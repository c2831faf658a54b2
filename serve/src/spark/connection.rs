//! Connections served by sparks.

use super::comm::comm_pair;
use super::process;
use super::state::SpawnOptions;
use crate::kill_on_drop::KillOnDrop;
use crate::request_info::RequestInfo;
use crate::{Failure, Functions, Spark, Version};
use lunatic_vm::{MessageReader, MessageWriter, Part, PipeClosed, PipeEnd, Process};
use std::sync::Arc;

/// A connection served by a spark.
pub(crate) struct Connection {
    // Dropped before the comm. If the comm ended first, the process could still exit normally.
    process: KillOnDrop,
    reader: MessageReader,
    writer: MessageWriter,
}

/// Has a spark serve a connection. The spark reads what is written to the connection as one
/// message, which ends when [`Connection::finish`] is called. Dropping the connection kills the
/// process.
///
/// # Errors
///
/// Fails if there is no room for a process, or if it cannot be created.
pub(crate) fn connect(
    functions: &Functions,
    version: &Arc<Version>,
    spark: &Spark,
    info: &RequestInfo,
) -> Result<Connection, Failure> {
    let ((reader, writer), pipes) = comm_pair();
    let options = SpawnOptions::for_request(info.id);
    let process = process::start(version, spark, functions.downgrade(), pipes, options)
        .map_err(Failure::of_spawn)?;
    info.served_by(&process);
    Ok(Connection {
        process: KillOnDrop::new(process),
        reader,
        writer,
    })
}

impl Connection {
    /// Returns the process serving the connection.
    pub(crate) fn process(&self) -> &Process {
        self.process.process()
    }

    /// Reads bytes that the spark writes: as many as are available, but at least one. Returns zero
    /// at the end, when the spark has exited normally or has signalled that it has finished.
    /// Message boundaries are skipped.
    ///
    /// Waits until there is something to read. If the future is dropped early, nothing has been
    /// read.
    ///
    /// # Errors
    ///
    /// Returns how the spark ended, unless it exited normally.
    pub(crate) async fn read(&self, into: &mut [u8]) -> Result<usize, Failure> {
        read_bytes(&self.reader, self.process(), into).await
    }

    /// Writes bytes for the spark to read. Waits while the spark is too far behind. If the future
    /// is dropped early, some of the bytes may already have been written.
    ///
    /// # Errors
    ///
    /// Fails if the spark has stopped reading because it has ended or closed its comm.
    pub(crate) async fn write_all(&self, bytes: &[u8]) -> Result<(), PipeClosed> {
        self.writer.write_all(bytes).await
    }

    /// Tells the spark that there will be no more bytes. The spark can continue writing.
    pub(crate) fn finish(&self) {
        self.writer.finish();
    }
}

/// Reads bytes that a spark writes. Like [`Connection::read`].
pub(super) async fn read_bytes(
    reader: &MessageReader,
    process: &Process,
    into: &mut [u8],
) -> Result<usize, Failure> {
    let end = loop {
        match reader.read(into).await {
            Part::Bytes(count) => return Ok(count),
            Part::EndOfMessage => (),
            Part::End(end) => break end,
        }
    };
    match end {
        PipeEnd::Finished => Ok(0),
        PipeEnd::Failed(why) => Err(Failure::Failed(why.to_string())),
        PipeEnd::Gone => match process.exited().await {
            exit if exit.is_normal() => Ok(0),
            exit => Err(Failure::of_exit(exit)),
        },
    }
}
