//! The bounded byte pipe.

use super::state::{Condition, KEPT_WHEN_EMPTY, PipeClosed, State};
use super::wait_queue::{lock, poll_once};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// A bounded byte pipe. [`Pipe::bounded`] creates its two ends.
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
///     // The environment keeps a writer for future processes, but none will be spawned here.
///     writer.close();
///     reader.read_to_end(&mut output).await;
/// });
/// assert_eq!(output, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Pipe {}

impl Pipe {
    /// Creates a pipe that holds at most `capacity` bytes, or one byte if `capacity` is 0.
    ///
    /// Both ends can be cloned. When the last writer is dropped, readers get the remaining bytes
    /// and then end-of-stream. When the last reader is dropped, writes fail.
    pub fn bounded(capacity: usize) -> (PipeWriter, PipeReader) {
        let state = State::new(Buffer {
            bytes: VecDeque::new(),
            capacity: capacity.max(1),
            writers: 1,
            readers: 1,
            is_closed: false,
        });
        (PipeWriter(state.clone()), PipeReader(state))
    }
}

/// The contents of a pipe, as plain data.
struct Buffer {
    bytes: VecDeque<u8>,
    capacity: usize,
    writers: usize,
    readers: usize,
    /// Set when no more bytes will be written or read.
    is_closed: bool,
}

impl Buffer {
    /// Accepts bytes, or returns `None` if there is no room yet. If the bytes would fit into an
    /// empty pipe, they are accepted all at once or not at all.
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

    /// Returns bytes, or `None` if there are none yet. Zero means the end of the stream.
    fn read(&mut self, into: &mut [u8]) -> Option<usize> {
        if !self.is_readable() && !into.is_empty() {
            return None;
        }
        let count = into.len().min(self.bytes.len());
        for (slot, byte) in into.iter_mut().zip(self.bytes.drain(..count)) {
            *slot = byte;
        }
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_WHEN_EMPTY {
            self.bytes = VecDeque::new();
        }
        Some(count)
    }

    fn is_readable(&self) -> bool {
        self.is_closed || !self.bytes.is_empty()
    }

    /// Closes the pipe. Returns true, to report that the buffer has changed.
    fn close(&mut self) -> bool {
        self.is_closed = true;
        true
    }
}

/// The write end of a byte pipe.
#[derive(Debug)]
pub struct PipeWriter(Arc<Mutex<State<Buffer>>>);

impl PipeWriter {
    /// Writes bytes and returns how many were written: all of them, or as many as the pipe can hold
    /// if there are more than that.
    ///
    /// Waits until there is room for all of these bytes. A write that fits into the pipe is
    /// therefore never interleaved with another writer's bytes. Writers are served in the order
    /// they started waiting. If the future is dropped early, nothing has been written.
    ///
    /// # Errors
    ///
    /// [`PipeClosed`] if there are no readers left.
    pub async fn write(&self, bytes: &[u8]) -> Result<usize, PipeClosed> {
        State::transfer(&self.0, Condition::Room, |buffer| buffer.write(bytes)).await
    }

    /// Writes all bytes, in pieces if there are more than the pipe holds. If the future is dropped
    /// early, some of the pieces may already have been written.
    ///
    /// # Errors
    ///
    /// [`PipeClosed`] if there are no readers left.
    pub async fn write_all(&self, mut bytes: &[u8]) -> Result<(), PipeClosed> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Ends the stream for all writers: readers get what is left in the pipe and then
    /// end-of-stream.
    pub fn close(&self) {
        State::change(&self.0, Buffer::close);
    }

    /// Writes like [`PipeWriter::write`], but returns `None` instead of waiting.
    pub fn try_write(&self, bytes: &[u8]) -> Option<Result<usize, PipeClosed>> {
        poll_once(self.write(bytes))
    }
}

/// The read end of a byte pipe.
#[derive(Debug)]
pub struct PipeReader(Arc<Mutex<State<Buffer>>>);

impl PipeReader {
    /// Reads as many available bytes as fit into `into`, and returns how many were read. Zero means
    /// the end of the stream (or that `into` is empty).
    ///
    /// Waits until there is something to read. Readers are served in the order they started
    /// waiting, and each byte goes to one reader. If the future is dropped early, nothing has been
    /// read.
    pub async fn read(&self, into: &mut [u8]) -> usize {
        State::transfer(&self.0, Condition::Content, |buffer| buffer.read(into)).await
    }

    /// Reads to the end of the stream and returns the number of bytes read. If the future is
    /// dropped early, the bytes read so far are in `into`.
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

    /// Waits until a read would return immediately. Reads nothing itself. To wait for any of
    /// several pipes, race their futures.
    pub async fn readable(&self) {
        State::until(&self.0, Condition::Content, Buffer::is_readable).await;
    }

    /// Returns whether the stream has ended and everything has been read.
    pub fn is_at_end(&self) -> bool {
        let state = lock(&self.0);
        state.buffer.is_closed && state.buffer.bytes.is_empty()
    }

    /// Reads like [`PipeReader::read`], but returns `None` instead of waiting.
    pub fn try_read(&self, into: &mut [u8]) -> Option<usize> {
        poll_once(self.read(into))
    }
}

impl Clone for PipeWriter {
    fn clone(&self) -> PipeWriter {
        lock(&self.0).buffer.writers += 1;
        PipeWriter(self.0.clone())
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        State::change(&self.0, |buffer| {
            buffer.writers -= 1;
            buffer.writers == 0 && buffer.close()
        });
    }
}

impl Clone for PipeReader {
    fn clone(&self) -> PipeReader {
        lock(&self.0).buffer.readers += 1;
        PipeReader(self.0.clone())
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        State::change(&self.0, |buffer| {
            buffer.readers -= 1;
            buffer.readers == 0 && buffer.close()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::wait_queue::tests::counter;
    use super::*;
    use futures_lite::future::{block_on, or, zip};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn is_pending(future: impl Future) -> bool {
        poll_once(future).is_none()
    }

    #[test]
    fn bytes_come_out_in_order_and_then_the_stream_ends() {
        let (writer, reader) = Pipe::bounded(3);
        let all: Vec<u8> = (0..=255).collect();
        let mut read = Vec::new();
        block_on(zip(
            async {
                writer.write_all(&all).await.expect("the reader is alive");
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
    fn a_write_that_fits_is_not_interleaved() {
        let (writer, reader) = Pipe::bounded(4);
        assert_eq!(writer.try_write(b"ab"), Some(Ok(2)));
        assert!(
            writer.try_write(b"cde").is_none(),
            "only two of the three bytes would fit"
        );
        assert_eq!(reader.try_read(&mut [0; 1]), Some(1));
        assert_eq!(writer.try_write(b"cde"), Some(Ok(3)));
    }

    #[test]
    fn a_write_that_exceeds_the_capacity_is_written_in_pieces() {
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
    fn the_stream_ends_with_the_last_writer() {
        let (writer, reader) = Pipe::bounded(4);
        let other = writer.clone();
        drop(writer);
        assert!(is_pending(reader.readable()));
        block_on(other.write_all(b"a")).expect("the reader is alive");
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
    fn a_cancelled_read_loses_nothing() {
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
            // The future was woken, and is dropped before it is polled again.
            drop(read);
            let mut next = [0; 1];
            assert_eq!(reader.try_read(&mut next), Some(1));
            assert_eq!(next, [round]);
        }
    }

    #[test]
    fn a_cancelled_write_has_written_nothing() {
        let (writer, reader) = Pipe::bounded(2);
        assert_eq!(writer.try_write(b"ab"), Some(Ok(2)));
        assert!(is_pending(writer.write(b"cd")));
        let mut buffer = [0; 8];
        assert_eq!(reader.try_read(&mut buffer), Some(2));
        assert!(reader.try_read(&mut buffer).is_none());
    }

    #[test]
    fn a_cancelled_read_leaves_the_byte_for_the_next_reader() {
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
        assert_eq!(woken.count(), 0, "the byte belongs to the first reader");
        drop(first);
        assert_eq!(woken.count(), 1);
        assert_eq!(
            second.as_mut().poll(&mut Context::from_waker(&waker)),
            Poll::Ready(1)
        );
    }

    #[test]
    fn a_reader_can_wait_for_several_pipes() {
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
        assert_eq!(
            busy.try_read(&mut [0; 1]),
            Some(1),
            "`readable` must not read anything"
        );
    }

    #[test]
    fn bytes_cross_threads_under_pressure() {
        let (writer, reader) = Pipe::bounded(7);
        let threads: Vec<_> = (0..4)
            .map(|number: u8| {
                let writer = writer.clone();
                std::thread::spawn(move || {
                    for _ in 0..1000 {
                        block_on(writer.write_all(&[number; 3])).expect("the reader is alive");
                    }
                })
            })
            .collect();
        drop(writer);
        let mut read = Vec::new();
        assert_eq!(block_on(reader.read_to_end(&mut read)), 12_000);
        assert!(
            read.chunks(3).all(|piece| piece == [piece[0]; 3]),
            "writes were interleaved"
        );
        for thread in threads {
            thread.join().expect("the writer did not panic");
        }
    }
}
