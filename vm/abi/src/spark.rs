//! The functions with which a spark reads and writes: rows of the host that serves functions rather
//! than of the machine.
//!
//! A *comm* is a number: 0 is the comm to the caller of this spark, and `run` returns the others.
//! Messages of bytes go through it in both directions; each side waits while the other falls
//! behind.
//!
//! A result below zero is the negative of an [`Errno`](crate::Errno); `why` returns a sentence
//! about it.

use crate::{HostFunction, rows};

/// Calls `$project!` with the functions of sparks, written like the rows of
/// [`for_each_host_function!`](crate::for_each_host_function).
#[macro_export]
macro_rules! for_each_spark_function {
    ($project:path) => {
        $project! {
            /// What sparks read and write.
            "lunatic::spark" as spark {
                /// Reads bytes of one message and returns how many, at least one; 0 at the end of
                /// the message. Once everything has been read and the other side has ended, returns
                /// `BrokenPipe` if it ended well and `Other` if it failed.
                wait read(comm: U64, buffer: Buffer) -> I64;
                /// Writes all of the bytes as part of a message and returns 0; `BrokenPipe` if the
                /// other side no longer reads.
                wait write(comm: U64, data: Bytes) -> I64;
                /// Ends the message being written, which may be empty, and returns 0; `BrokenPipe`
                /// as `write` does.
                wait end(comm: U64) -> I64;
                /// Tells the other side that nothing more will be written. It can still be read
                /// from.
                now finish(comm: U64);
                /// Runs a function of the project by its name and returns the comm to it. The
                /// message is sent as the first one unless it is empty.
                wait run(name: Text, message: Bytes) -> I64;
                /// Waits until one of several comms can be read from without waiting and returns
                /// its position in the list; `TimedOut` if none can in time.
                wait wait(comms: Words, timeout: Millis) -> I64;
                /// Closes a comm. The function on its other side is killed unless it has ended.
                now close(comm: U64);
                /// Declares that this spark fails, and why. Its caller is told once everything
                /// written has been read. Ends nothing by itself.
                now fail(text: Bytes);
                /// Copies the sentence of the last failure, as much as fits, and returns its
                /// length.
                now why(buffer: Buffer) -> U32;
            }
        }
    };
}

/// Every function of sparks, in the order of the table.
pub const SPARK_FUNCTIONS: &[HostFunction] = {
    for_each_spark_function!(rows);
    ROWS
};
