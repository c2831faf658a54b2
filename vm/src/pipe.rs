//! The bounded pipe: bytes from some who write to some who read.
//!
//! It is what streams flow through where a mailbox is the wrong thing: a program's captured output, its input, bodies of
//! requests. It has no messages and no processes, only bytes in order; who writes faster than others read waits, and so does
//! who reads before others write.

mod line;
mod messages;

pub(crate) use line::{Line, Lines, Turn, lock};
pub use messages::{End, MessagePipe, MessageReader, MessageWriter, Part};

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// A bounded pipe of bytes; [`Pipe::bounded`] makes its two ends.
///
/// ```
/// use lunatic_vm::{Pipe, Stdio, Vm};
///
/// let vm = Vm::builder().build()?;
/// let (writer, reader) = Pipe::bounded(64 << 10);
/// let mut config = vm.config();
/// config.allow("wasi_snapshot_preview1").stdout(Stdio::Pipe(writer.clone()));
/// let environment = vm.environment(config);
/// let module = vm.module("hello", br#"
///     (module
///         (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
///         (memory (export "memory") 1)
///         (data (i32.const 0) "\08\00\00\00\05\00\00\00hello")
///         (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
/// "#)?;
/// let process = environment.spawn(&module, "_start", &[])?;
/// let mut output = Vec::new();
/// vm.block_on(async {
///     process.exited().await;
///     // The environment keeps an end of its own, for processes that are yet to come. There are none.
///     writer.close();
///     reader.read_to_end(&mut output).await;
/// });
/// assert_eq!(output, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Pipe {}

impl Pipe {
    /// Makes a pipe that holds at most so many bytes, at least one.
    ///
    /// Both ends can be cloned. When the last writer is gone, readers get what is left and then the end; when the last
    /// reader is gone, writes fail.
    pub fn bounded(capacity: usize) -> (PipeWriter, PipeReader) {
        let buffer = Buffer {
            bytes: VecDeque::new(),
            capacity: capacity.max(1),
            is_closed: false,
        };
        let state = State {
            buffer,
            writers: 1,
            readers: 1,
            room: Line::default(),
            content: Line::default(),
        };
        let state = Arc::new(Mutex::new(state));
        (PipeWriter(state.clone()), PipeReader(state))
    }
}

/// The pipe is closed: nobody reads what is written from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pipe is closed: nobody reads from it")]
pub struct PipeClosed;

/// What a pipe holds: plain data.
#[derive(Debug)]
struct Buffer {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Set when there will be no more bytes, or nobody to take them.
    is_closed: bool,
}

impl Buffer {
    /// Takes bytes; `None` is "not now". What fits into an empty pipe is taken whole or not yet.
    fn write(&mut self, bytes: &[u8]) -> Option<Result<usize, PipeClosed>> {
        if self.is_closed {
            return Some(Err(PipeClosed));
        }
        let wanted = bytes.len().min(self.capacity);
        if self.capacity - self.bytes.len() < wanted {
            return None;
        }
        self.bytes.extend(&bytes[..wanted]);
        Some(Ok(wanted))
    }

    /// Gives bytes; `None` is "not now", zero is the end.
    fn read(&mut self, into: &mut [u8]) -> Option<usize> {
        if !self.is_readable() && !into.is_empty() {
            return None;
        }
        let count = into.len().min(self.bytes.len());
        for (place, byte) in into.iter_mut().zip(self.bytes.drain(..count)) {
            *place = byte;
        }
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = VecDeque::new();
        }
        Some(count)
    }

    fn is_readable(&self) -> bool {
        self.is_closed || !self.bytes.is_empty()
    }
}

/// An empty pipe keeps no more memory than this, in bytes.
const KEPT: usize = 4 << 10;

#[derive(Debug)]
struct State {
    buffer: Buffer,
    writers: usize,
    readers: usize,
    /// Who waits until they can write, and who until they can read.
    room: Line,
    content: Line,
}

#[derive(Clone, Copy)]
enum Side {
    Room,
    Content,
}

impl Lines for State {
    type What = Side;

    fn line(&mut self, side: Side) -> &mut Line {
        match side {
            Side::Room => &mut self.room,
            Side::Content => &mut self.content,
        }
    }
}

impl State {
    fn close(&mut self) -> [Option<Waker>; 2] {
        self.buffer.is_closed = true;
        // Each who is through wakes the next, so that all learn of it.
        [self.room.first(), self.content.first()]
    }
}

fn close_if(state: &Mutex<State>, condition: impl FnOnce(&mut State) -> bool) {
    let mut state = lock(state);
    if !condition(&mut state) {
        return;
    }
    let wakers = state.close();
    drop(state);
    wakers.into_iter().flatten().for_each(Waker::wake);
}

/// The end of a pipe that bytes go into.
pub struct PipeWriter(Arc<Mutex<State>>);

impl PipeWriter {
    /// Writes bytes and returns how many: all of them, or the pipe's capacity where they are more.
    ///
    /// Waits until there is room for them at once, so that what fits into the pipe is never torn apart by another writer.
    /// Writers get their turn in the order in which they asked. A future that is dropped early has written nothing.
    ///
    /// # Errors
    ///
    /// [`PipeClosed`], where nobody reads any more.
    pub async fn write(&self, bytes: &[u8]) -> Result<usize, PipeClosed> {
        Turn::new(&self.0, Side::Room)
            .take(|state| {
                state
                    .buffer
                    .write(bytes)
                    .map(|written| (written, state.content.first()))
            })
            .await
    }

    /// Writes all bytes, in pieces where they are more than the pipe holds. A future that is dropped early has written
    /// whole pieces from the front.
    ///
    /// # Errors
    ///
    /// [`PipeClosed`], where nobody reads any more.
    pub async fn write_all(&self, mut bytes: &[u8]) -> Result<(), PipeClosed> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Ends the stream for all writers: readers get what is in the pipe and then the end.
    pub fn close(&self) {
        close_if(&self.0, |_| true);
    }

    /// Writes as [`PipeWriter::write`] does if that need not wait; `None` is "not now".
    pub fn try_write(&self, bytes: &[u8]) -> Option<Result<usize, PipeClosed>> {
        poll_once(self.write(bytes))
    }
}

/// The end of a pipe that bytes come out of.
pub struct PipeReader(Arc<Mutex<State>>);

impl PipeReader {
    /// Reads what there is, at most as much as the buffer holds, and returns how much; zero is the end of the stream (or an
    /// empty buffer).
    ///
    /// Waits until there is something. Readers get their turn in the order in which they asked; each byte goes to one of
    /// them. A future that is dropped early has taken nothing.
    pub async fn read(&self, into: &mut [u8]) -> usize {
        Turn::new(&self.0, Side::Content)
            .take(|state| {
                state
                    .buffer
                    .read(into)
                    .map(|count| (count, state.room.first()))
            })
            .await
    }

    /// Reads to the end of the stream; returns how many bytes that were. What was read before the future was dropped is in
    /// `into`.
    pub async fn read_to_end(&self, into: &mut Vec<u8>) -> usize {
        let before = into.len();
        let mut piece = [0; 4096];
        loop {
            match self.read(&mut piece).await {
                0 => return into.len() - before,
                count => into.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// Waits until a read would not wait, and takes nothing. To wait for one of several pipes, race these.
    pub async fn readable(&self) {
        Turn::new(&self.0, Side::Content)
            .take(|state| state.buffer.is_readable().then_some(((), None)))
            .await;
    }

    /// Whether the stream has ended and everything was read.
    pub fn is_at_end(&self) -> bool {
        let state = lock(&self.0);
        state.buffer.is_closed && state.buffer.bytes.is_empty()
    }

    /// Reads as [`PipeReader::read`] does if that need not wait; `None` is "not now".
    pub fn try_read(&self, into: &mut [u8]) -> Option<usize> {
        poll_once(self.read(into))
    }
}

/// Returns what a future comes to if that need not wait.
pub(crate) fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

impl Clone for PipeWriter {
    fn clone(&self) -> PipeWriter {
        lock(&self.0).writers += 1;
        PipeWriter(self.0.clone())
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        close_if(&self.0, |state| {
            state.writers -= 1;
            state.writers == 0
        });
    }
}

impl Clone for PipeReader {
    fn clone(&self) -> PipeReader {
        lock(&self.0).readers += 1;
        PipeReader(self.0.clone())
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        close_if(&self.0, |state| {
            state.readers -= 1;
            state.readers == 0
        });
    }
}

impl fmt::Debug for PipeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeWriter").finish_non_exhaustive()
    }
}

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeReader").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use futures_lite::future::{block_on, or, zip};
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake};

    /// Counts how often a waker is called.
    #[derive(Default)]
    pub(crate) struct Count(AtomicUsize);

    impl Count {
        pub(crate) fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn counter() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (count.clone(), count.into())
    }

    fn is_pending(future: impl Future) -> bool {
        poll_once(future).is_none()
    }

    #[test]
    fn bytes_come_out_in_order_and_then_the_end() {
        let (writer, reader) = Pipe::bounded(3);
        let all: Vec<u8> = (0..=255).collect();
        let mut read = Vec::new();
        block_on(zip(
            async {
                writer.write_all(&all).await.expect("somebody reads");
                drop(writer);
            },
            reader.read_to_end(&mut read),
        ));
        assert_eq!(read, all);
        assert!(reader.is_at_end());
    }

    #[test]
    fn a_full_pipe_makes_the_writer_wait() {
        let (writer, reader) = Pipe::bounded(4);
        assert_eq!(writer.try_write(b"abc"), Some(Ok(3)));
        let mut write = pin!(writer.write(b"de"));
        let (woken, waker) = counter();
        assert!(
            write
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        let mut buffer = [0; 1];
        assert_eq!(reader.try_read(&mut buffer), Some(1));
        assert_eq!(woken.count(), 1);
        assert_eq!(block_on(write), Ok(2));
        let mut rest = [0; 8];
        assert_eq!(reader.try_read(&mut rest), Some(4));
        assert_eq!(&rest[..4], b"bcde");
    }

    #[test]
    fn what_fits_is_not_torn_apart() {
        let (writer, reader) = Pipe::bounded(4);
        assert_eq!(writer.try_write(b"ab"), Some(Ok(2)));
        assert!(writer.try_write(b"cde").is_none(), "two of three would fit");
        assert_eq!(reader.try_read(&mut [0; 1]), Some(1));
        assert_eq!(writer.try_write(b"cde"), Some(Ok(3)));
    }

    #[test]
    fn more_than_fits_is_written_in_pieces() {
        let (writer, _reader) = Pipe::bounded(4);
        assert_eq!(writer.try_write(b"abcdef"), Some(Ok(4)));
        assert!(writer.try_write(b"ef").is_none());
    }

    #[test]
    fn a_write_without_a_reader_fails() {
        let (writer, reader) = Pipe::bounded(1);
        let other = reader.clone();
        drop(reader);
        assert_eq!(writer.try_write(b"a"), Some(Ok(1)));
        let mut write = pin!(writer.write(b"b"));
        assert!(
            write
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        drop(other);
        assert_eq!(block_on(write), Err(PipeClosed));
    }

    #[test]
    fn the_end_comes_with_the_last_writer() {
        let (writer, reader) = Pipe::bounded(4);
        let other = writer.clone();
        drop(writer);
        assert!(is_pending(reader.readable()));
        block_on(other.write_all(b"a")).expect("somebody reads");
        drop(other);
        let mut buffer = [0; 4];
        assert_eq!(reader.try_read(&mut buffer), Some(1));
        assert_eq!(reader.try_read(&mut buffer), Some(0));
    }

    #[test]
    fn closing_ends_the_stream_for_all_writers() {
        let (writer, reader) = Pipe::bounded(4);
        let other = writer.clone();
        assert_eq!(other.try_write(b"ab"), Some(Ok(2)));
        writer.close();
        assert_eq!(other.try_write(b"c"), Some(Err(PipeClosed)));
        let mut read = Vec::new();
        assert_eq!(block_on(reader.read_to_end(&mut read)), 2);
    }

    #[test]
    fn a_read_that_is_given_up_loses_nothing() {
        let (writer, reader) = Pipe::bounded(4);
        for round in 0..3 {
            let mut buffer = [0; 1];
            let mut read = Box::pin(reader.read(&mut buffer));
            assert!(
                read.as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                    .is_pending()
            );
            assert_eq!(writer.try_write(&[round]), Some(Ok(1)));
            // It was woken, and is dropped before it is polled again.
            drop(read);
            let mut next = [0; 1];
            assert_eq!(reader.try_read(&mut next), Some(1));
            assert_eq!(next, [round]);
        }
    }

    #[test]
    fn a_write_that_is_given_up_has_written_nothing() {
        let (writer, reader) = Pipe::bounded(2);
        assert_eq!(writer.try_write(b"ab"), Some(Ok(2)));
        assert!(is_pending(writer.write(b"cd")));
        let mut buffer = [0; 8];
        assert_eq!(reader.try_read(&mut buffer), Some(2));
        assert!(reader.try_read(&mut buffer).is_none());
    }

    #[test]
    fn a_reader_that_gives_up_lets_the_next_one_have_the_byte() {
        let (writer, reader) = Pipe::bounded(2);
        let (mut one, mut two) = ([0; 1], [0; 1]);
        let mut first = Box::pin(reader.read(&mut one));
        let mut second = Box::pin(reader.read(&mut two));
        let (woken, waker) = counter();
        assert!(
            first
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert!(
            second
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        assert_eq!(writer.try_write(b"a"), Some(Ok(1)));
        assert_eq!(woken.count(), 0, "it is the first one's");
        drop(first);
        assert_eq!(woken.count(), 1);
        assert_eq!(
            second.as_mut().poll(&mut Context::from_waker(&waker)),
            Poll::Ready(1)
        );
    }

    #[test]
    fn several_pipes_can_be_waited_for() {
        let (_quiet_writer, quiet) = Pipe::bounded(1);
        let (writer, busy) = Pipe::bounded(1);
        assert_eq!(writer.try_write(b"x"), Some(Ok(1)));
        let which = or(
            async {
                quiet.readable().await;
                1
            },
            async {
                busy.readable().await;
                2
            },
        );
        assert_eq!(block_on(which), 2);
        assert_eq!(busy.try_read(&mut [0; 1]), Some(1), "waiting took nothing");
    }

    #[test]
    fn bytes_cross_threads_under_pressure() {
        let (writer, reader) = Pipe::bounded(7);
        let threads: Vec<_> = (0..4)
            .map(|number: u8| {
                let writer = writer.clone();
                std::thread::spawn(move || {
                    for _ in 0..1000 {
                        block_on(writer.write_all(&[number; 3])).expect("somebody reads");
                    }
                })
            })
            .collect();
        drop(writer);
        let mut read = Vec::new();
        assert_eq!(block_on(reader.read_to_end(&mut read)), 12_000);
        assert!(
            read.chunks(3).all(|piece| piece == [piece[0]; 3]),
            "a write was torn apart"
        );
        for thread in threads {
            thread.join().expect("it wrote everything");
        }
    }
}
