//! The host functions that sparks use to read and write. They are provided by the function server,
//! not by the machine.
//!
//! A *comm* is a number that identifies a connection. Comm 0 connects to the spark's caller, and
//! `run` returns new comms. Byte messages pass in both directions, and a side that gets ahead waits
//! for the other.
//!
//! A negative result is a negated [`Errno`](crate::Errno), and `why` returns a description of the
//! failure.

use crate::{HostFunction, rows};

/// Calls `$project!` with the spark functions, in the same format as the rows of
/// [`for_each_host_function!`](crate::for_each_host_function).
#[macro_export]
macro_rules! for_each_spark_function {
    ($project:path) => {
        $project! {
            /// Communication between sparks.
            "lunatic::spark" as spark {
                /// Reads bytes from the current message and returns the number read, which is 0
                /// only at the end of the message. Once everything has been read and the other side
                /// has exited, returns `BrokenPipe` if it succeeded or `Other` if it failed.
                wait read(comm: U64, buffer: Buffer) -> I64;
                /// Writes all of the bytes as part of a message. Returns 0, or `BrokenPipe` if the
                /// other side no longer reads.
                wait write(comm: U64, data: Bytes) -> I64;
                /// Ends the message being written, which may be empty. Returns 0, or `BrokenPipe`
                /// if the other side no longer reads.
                wait end(comm: U64) -> I64;
                /// Tells the other side that nothing more will be written. The comm can still be
                /// read.
                now finish(comm: U64);
                /// Runs one of the project's functions by name and returns a comm to it. If
                /// `message` is not empty, it is sent as the first message.
                wait run(name: Text, message: Bytes) -> I64;
                /// Waits until one of several comms can be read without blocking, and returns its
                /// position in the list. Returns `TimedOut` if none becomes readable in time.
                wait wait(comms: Words, timeout: Millis) -> I64;
                /// Closes a comm. If the function on the other side is still running, it is killed.
                now close(comm: U64);
                /// Declares that this spark has failed, and why. The caller learns of the failure
                /// once it has read everything that was written. This call does not terminate the
                /// spark.
                now fail(text: Bytes);
                /// Copies as much of the description of the last failure as fits, and returns its
                /// full length.
                now why(buffer: Buffer) -> U32;
            }
        }
    };
}

/// All spark functions, in the order of the table.
pub const SPARK_FUNCTIONS: &[HostFunction] = {
    for_each_spark_function!(rows);
    ROWS
};
