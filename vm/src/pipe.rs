//! Bounded pipes: ordered bytes or messages, from writers to readers.
//!
//! Pipes carry streams for which mailboxes are the wrong tool: a program's captured output, its
//! input, request bodies. A pipe knows nothing about processes; a writer that is faster than the
//! readers waits, and so does a reader that is faster than the writers.

mod bytes;
mod messages;
mod state;
mod wait_queue;

pub use bytes::{Pipe, PipeReader, PipeWriter};
pub use messages::{MessagePipe, MessageReader, MessageWriter, Part, PipeEnd};
pub use state::PipeClosed;
pub(crate) use wait_queue::{WaitQueue, WaitQueues, Waiter, lock, poll_once};
