//! Bounded pipes: bytes or messages in order, from whoever writes to whoever reads.
//!
//! Streams flow through pipes where mailboxes are the wrong tool: the captured output of a program,
//! its input, the bodies of requests. A pipe knows no processes; a writer that is faster than the
//! readers waits, and so does a reader that is faster than the writers.

mod bytes;
mod messages;
mod state;
mod wait_queue;

pub use bytes::{Pipe, PipeReader, PipeWriter};
pub use messages::{MessagePipe, MessageReader, MessageWriter, Part, PipeEnd};
pub use state::PipeClosed;
pub(crate) use wait_queue::{WaitQueue, WaitQueues, Waiter, lock, poll_once};
