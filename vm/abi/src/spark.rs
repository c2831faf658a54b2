//! The functions with which a spark reads and writes. They are rows of the host that serves
//! functions, not of the machine.
//!
//! A *comm* is a number that stands for a connection: 0 is the comm to the caller of this spark,
//! and `run` returns further comms. Messages of bytes pass in both directions, and each side waits
//! while the other side falls behind.
//!
//! A result below zero is a negated [`Errno`](crate::Errno), and `why` returns a sentence about the
//! failure.

use crate::{HostFunction, rows};

/// Calls `$project!` with the functions of sparks, in the same form as the rows of
/// [`for_each_host_function!`](crate::for_each_host_function).
#[macro_export]
macro_rules! for_each_spark_function {
    ($project:path) => {
        $project! {
            /// Reading and writing by sparks.
            "lunatic::spark" as spark {
                /// Reads bytes of one message and returns how many, at least one; 0 at the end of
                /// the message. Once everything has been read and the other side has ended, returns
                /// `BrokenPipe` if that side ended successfully and `Other` if it failed.
                wait read(comm: U64, buffer: Buffer) -> I64;
                /// Writes all of the bytes as part of a message and returns 0; `BrokenPipe` if the
                /// other side no longer reads.
                wait write(comm: U64, data: Bytes) -> I64;
                /// Ends the message being written, which may be empty, and returns 0; `BrokenPipe`
                /// under the same condition as `write`.
                wait end(comm: U64) -> I64;
                /// Tells the other side that nothing more will be written. Reading is still
                /// possible.
                now finish(comm: U64);
                /// Runs a function of the project by its name and returns the comm to the function.
                /// Unless the message is empty, it is sent as the first message.
                wait run(name: Text, message: Bytes) -> I64;
                /// Waits until one of several comms can be read from without waiting and returns
                /// its position in the list; `TimedOut` if no comm can be read from in time.
                wait wait(comms: Words, timeout: Millis) -> I64;
                /// Closes a comm. The function on the other side is killed unless it has ended.
                now close(comm: U64);
                /// Declares that this spark fails, and why. The caller is told once it has read
                /// everything that was written. This call ends nothing by itself.
                now fail(text: Bytes);
                /// Copies the sentence of the last failure, as much as fits, and returns its
                /// length.
                now why(buffer: Buffer) -> U32;
            }
        }
    };
}

/// All functions of sparks, in the order of the table.
pub const SPARK_FUNCTIONS: &[HostFunction] = {
    for_each_spark_function!(rows);
    ROWS
};
