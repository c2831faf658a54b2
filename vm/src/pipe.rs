//! Bounded pipes, which carry bytes or messages in order from writers to readers.
//!
//! Pipes carry streams for which mailboxes are unsuitable, such as a program's input, its captured
//! output and request bodies. Pipes do not depend on processes. A writer waits while the pipe is
//! full, and a reader waits while it is empty.

mod bytes;
mod messages;
mod state;
mod wait_queue;

pub use bytes::{Pipe, PipeReader, PipeWriter};
pub use messages::{MessagePipe, MessageReader, MessageWriter, Part, PipeEnd};
pub use state::PipeClosed;
pub(crate) use wait_queue::{WaitQueue, WaitQueues, Waiter, lock, poll_once};
