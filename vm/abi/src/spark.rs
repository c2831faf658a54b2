//! The functions by which a spark reads and writes: rows of the host that serves functions, not of the machine.
//!
//! A *comm* is a number: 0 is that to whoever runs this spark, and `run` gives the others. Through
//! it go messages of bytes, both ways; each side waits while the other is behind.
//!
//! A result below zero is the negative of an [`Errno`](crate::Errno), whose sentence `why` gives.

/// Calls `$project!` with the functions of sparks, written as the rows of
/// [`for_each_host_function!`](crate::for_each_host_function) are.
#[macro_export]
macro_rules! for_each_spark_function {
    ($project:path) => {
        $project! {
            /// What sparks read and write.
            "lunatic::spark" as spark {
                /// Reads bytes of one message and returns how many, at least one; 0 is the end of the message. Where the
                /// other side has ended, everything was read and it ended well, that is `BrokenPipe`; where it failed, `Other`.
                wait read(comm: U64, buffer: Buffer, length: Length) -> I64;
                /// Writes bytes of a message, all of them, and returns 0; `BrokenPipe` where the other side reads no more.
                wait write(comm: U64, data: Bytes, length: Length) -> I64;
                /// Ends the message that was written, which may be empty, and returns 0; `BrokenPipe` as `write` does.
                wait end(comm: U64) -> I64;
                /// Tells the other side that nothing more will be written. It can still be read from.
                now finish(comm: U64);
                /// Runs a function of the project by its name and returns the comm to it. The message is its first one; where
                /// it is empty, none is sent.
                wait run(name: Bytes, name_length: Length, message: Bytes, length: Length) -> I64;
                /// Waits until one of several comms can be read from without waiting and returns its place in the list;
                /// `TimedOut` where none can within the time.
                wait wait(comms: Words, count: Length, timeout: Millis) -> I64;
                /// Gives a comm up. The function on its other side is killed, unless it has ended.
                now close(comm: U64);
                /// Says that this spark fails, and why. Whoever runs it is told when everything that was written is read. It
                /// ends nothing.
                now fail(text: Bytes, length: Length);
                /// Copies the sentence of the last failure, as much as fits, and returns its length.
                now why(buffer: Buffer, length: Length) -> U32;
            }
        }
    };
}
