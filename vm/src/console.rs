//! The console: this operating system process's standard streams, shared by all programs.
//!
//! Workers never read from or write to a terminal. Output to both streams goes through one bounded
//! queue, which preserves the order of writes, and is written by a dedicated thread. Programs that
//! get too far ahead of this thread have to wait. Another thread reads input into a pipe. Each
//! thread starts on first use and sleeps while there is nothing to do.
//!
//! Nothing is dropped, filtered or truncated: bytes come out as they went in. A program may write
//! anything to its user's terminal; only guest text inside the VM's own messages is escaped.

use crate::pipe::{Pipe, PipeReader, WaitQueue, WaitQueues, Waiter, lock};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::task::Waker;
use std::time::Duration;

/// The maximum number of bytes waiting to be written.
const CAPACITY: usize = 256 << 10;
/// The maximum number of bytes combined into one write.
const PIECE: usize = 64 << 10;

/// The maximum number of input bytes that are read ahead.
const READ_AHEAD: usize = 4 << 10;

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

/// Why a stream no longer accepts bytes. An operating system error is stored by number, because it
/// is reported many times and [`io::Error`] cannot be cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamFailed {
    number: Option<i32>,
    kind: io::ErrorKind,
}

impl From<&io::Error> for StreamFailed {
    fn from(error: &io::Error) -> StreamFailed {
        StreamFailed {
            number: error.raw_os_error(),
            kind: error.kind(),
        }
    }
}

impl From<StreamFailed> for io::Error {
    fn from(failed: StreamFailed) -> io::Error {
        failed
            .number
            .map_or_else(|| failed.kind.into(), io::Error::from_raw_os_error)
    }
}

/// The queue between the processes and the writer thread, as plain data.
#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<(Stream, Vec<u8>)>,
    /// How many bytes have been accepted so far.
    taken: u64,
    /// How many of the accepted bytes have been written or could not be written.
    done: u64,
    failed: [Option<StreamFailed>; 2],
}

impl Queue {
    /// Accepts all bytes, or returns `None` if there is no room for them yet. `bytes` must not be
    /// longer than the queue's capacity.
    fn push(&mut self, stream: Stream, bytes: &[u8]) -> Option<Result<(), StreamFailed>> {
        if let Some(failed) = self.failed[stream as usize] {
            return Some(Err(failed));
        }
        if (self.taken - self.done) as usize + bytes.len() > CAPACITY {
            return None;
        }
        self.taken += bytes.len() as u64;
        match self.pieces.back_mut() {
            Some((last, piece)) if *last == stream && piece.len() + bytes.len() <= PIECE => {
                piece.extend(bytes)
            }
            _ => self.pieces.push_back((stream, bytes.to_vec())),
        }
        Some(Ok(()))
    }

    /// Returns the next piece to write.
    fn next(&mut self) -> Option<(Stream, Vec<u8>)> {
        self.pieces.pop_front()
    }

    /// Records that a piece was written, or why it could not be written.
    fn wrote(&mut self, stream: Stream, length: usize, result: io::Result<()>) {
        self.done += length as u64;
        if let Err(error) = result {
            self.failed[stream as usize] = Some((&error).into());
        }
    }
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    has_thread: bool,
    /// The writers that are waiting for room in the queue.
    room: WaitQueue,
    /// The callers that are waiting until the accepted bytes have been written.
    flushing: WaitQueue,
}

#[derive(Clone, Copy)]
enum Condition {
    Room,
    Flushed,
}

impl WaitQueues for State {
    type Condition = Condition;

    fn queue(&mut self, condition: Condition) -> &mut WaitQueue {
        match condition {
            Condition::Room => &mut self.room,
            Condition::Flushed => &mut self.flushing,
        }
    }
}

/// Where the thread writes to: the process's two streams, or a substitute in tests.
type Sink = Box<dyn FnMut(Stream, &[u8]) -> io::Result<()> + Send>;

/// The output queue and its thread.
pub(crate) struct Console {
    state: Mutex<State>,
    /// Wakes the writer thread.
    work: Condvar,
    open: fn() -> Sink,
}

impl Console {
    /// Returns this operating system process's console.
    pub(crate) fn get() -> &'static Arc<Console> {
        static CONSOLE: OnceLock<Arc<Console>> = OnceLock::new();
        CONSOLE.get_or_init(|| Console::new(|| Box::new(write_to_process)))
    }

    fn new(open: fn() -> Sink) -> Arc<Console> {
        Arc::new(Console {
            state: Mutex::default(),
            work: Condvar::new(),
            open,
        })
    }

    /// Writes bytes, at most a few kilobytes, without interleaving them with other writes. Writers
    /// waiting for room are served in order of arrival. If the future is dropped early, nothing has
    /// been written.
    ///
    /// # Errors
    ///
    /// The error from an earlier write to the same stream.
    pub(crate) async fn write(
        self: &Arc<Console>,
        stream: Stream,
        bytes: &[u8],
    ) -> Result<(), StreamFailed> {
        debug_assert!(bytes.len() <= CAPACITY, "{} bytes never fit", bytes.len());
        let written = Waiter::new(&self.state, Condition::Room)
            .wait(|state| state.queue.push(stream, bytes).map(|pushed| (pushed, None)))
            .await;
        if written.is_ok() {
            self.wake_thread();
        }
        written
    }

    /// Waits until everything accepted so far has been written or has failed. Returns the error if
    /// standard output no longer accepts bytes.
    pub(crate) async fn flush(&self) -> Option<StreamFailed> {
        let target = lock(&self.state).queue.taken;
        let failed = |queue: &Queue| queue.failed[Stream::Output as usize];
        Waiter::new(&self.state, Condition::Flushed)
            .wait(|state| (state.queue.done >= target).then_some((failed(&state.queue), None)))
            .await
    }

    fn wake_thread(self: &Arc<Console>) {
        let mut state = lock(&self.state);
        if !state.has_thread {
            state.has_thread = true;
            let console = self.clone();
            let thread = std::thread::Builder::new().name("lunatic-console".into());
            if let Err(error) = thread.spawn(move || console.work()) {
                // Nothing can be written without the thread, so all waiters get the error.
                while let Some((stream, piece)) = state.queue.next() {
                    state
                        .queue
                        .wrote(stream, piece.len(), Err(StreamFailed::from(&error).into()));
                }
                state.has_thread = false;
                return self.wake_waiters(state);
            }
        }
        drop(state);
        self.work.notify_one();
    }

    fn wake_waiters(&self, state: MutexGuard<'_, State>) {
        let wakers: [Option<Waker>; 2] = [state.room.first(), state.flushing.first()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Runs the writer thread.
    fn work(&self) {
        let mut sink = (self.open)();
        let mut state = lock(&self.state);
        loop {
            let Some((stream, piece)) = state.queue.next() else {
                state = self
                    .work
                    .wait(state)
                    .expect("no code panics while it holds this lock");
                continue;
            };
            let failed = state.queue.failed[stream as usize];
            drop(state);
            let result = match failed {
                None => sink(stream, &piece),
                // This piece was accepted before the stream failed.
                Some(failed) => Err(failed.into()),
            };
            state = lock(&self.state);
            state.queue.wrote(stream, piece.len(), result);
            self.wake_waiters(state);
            state = lock(&self.state);
        }
    }
}

fn write_to_process(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Output => write_all(&mut io::stdout().lock(), bytes),
        Stream::Error => write_all(&mut io::stderr().lock(), bytes),
    }
}

/// Writes all bytes. If the terminal is in non-blocking mode, retries until the terminal accepts
/// them.
fn write_all(to: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) => try_again(error)?,
        }
    }
    loop {
        match to.flush() {
            Ok(()) => return Ok(()),
            Err(error) => try_again(error)?,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "some files cannot be polled")]
fn try_again(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock => {
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        }
        _ => Err(error),
    }
}

/// Returns this operating system process's standard input. Reading starts with the first call.
///
/// All readers share the standard input: each byte goes to one reader, and waiting readers are
/// served in order of arrival. If a process is killed while it is waiting, the next reader gets all
/// the input.
pub(crate) fn input() -> &'static PipeReader {
    static INPUT: OnceLock<PipeReader> = OnceLock::new();
    INPUT.get_or_init(|| read_ahead(io::stdin()))
}

fn read_ahead(mut from: impl Read + Send + 'static) -> PipeReader {
    let (writer, reader) = Pipe::bounded(READ_AHEAD);
    let work = move || {
        let mut piece = [0; READ_AHEAD];
        loop {
            let count = match from.read(&mut piece) {
                Ok(0) => return,
                Ok(count) => count,
                Err(error) => match try_again(error) {
                    Ok(()) => continue,
                    // A terminal that has gone away is treated as the end of the input.
                    Err(_) => return,
                },
            };
            if futures_lite::future::block_on(writer.write_all(&piece[..count])).is_err() {
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new()
        .name("lunatic-input".into())
        .spawn(work)
    {
        log::warn!("cannot start the thread that reads standard input: {error}");
    }
    reader
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_order_of_writes_is_kept_across_both_streams() {
        let mut queue = Queue::default();
        for (stream, bytes) in [
            (Stream::Output, "one"),
            (Stream::Output, "two"),
            (Stream::Error, "three"),
        ] {
            assert_eq!(queue.push(stream, bytes.as_bytes()), Some(Ok(())));
        }
        assert_eq!(queue.push(Stream::Output, b"four"), Some(Ok(())));
        assert_eq!(queue.next(), Some((Stream::Output, b"onetwo".to_vec())));
        assert_eq!(queue.next(), Some((Stream::Error, b"three".to_vec())));
        assert_eq!(queue.next(), Some((Stream::Output, b"four".to_vec())));
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn bytes_that_are_being_written_still_take_up_room() {
        let mut queue = Queue::default();
        let half = vec![b'x'; CAPACITY / 2];
        assert_eq!(queue.push(Stream::Output, &half), Some(Ok(())));
        assert_eq!(queue.push(Stream::Output, &half), Some(Ok(())));
        let (stream, piece) = queue.next().expect("two pieces are waiting");
        assert_eq!(queue.push(Stream::Error, b"x"), None);
        queue.wrote(stream, piece.len(), Ok(()));
        assert_eq!(queue.push(Stream::Error, b"x"), Some(Ok(())));
    }

    #[test]
    fn the_failure_of_one_stream_does_not_affect_the_other() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(Stream::Output, b"x"), Some(Ok(())));
        queue.next();
        queue.wrote(Stream::Output, 1, Err(io::ErrorKind::BrokenPipe.into()));
        let failed = queue
            .push(Stream::Output, b"y")
            .expect("a push to a failed stream does not wait for room")
            .expect_err("the stream failed above");
        assert_eq!(io::Error::from(failed).kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(queue.push(Stream::Error, b"z"), Some(Ok(())));
    }

    #[test]
    fn all_bytes_are_written_before_a_flush_returns() {
        static WRITTEN: AtomicUsize = AtomicUsize::new(0);
        let console = Console::new(|| {
            Box::new(|_, bytes| {
                WRITTEN.fetch_add(bytes.len(), Ordering::SeqCst);
                Ok(())
            })
        });
        let piece = [b'x'; 4096];
        // Ten times the queue's capacity, so that the writer has to wait for the thread.
        for _ in 0..10 * CAPACITY / piece.len() {
            block_on(console.write(Stream::Output, &piece)).expect("the sink accepts all bytes");
        }
        block_on(console.flush());
        assert_eq!(WRITTEN.load(Ordering::SeqCst), 10 * CAPACITY);
    }

    #[test]
    fn writes_to_a_failed_stream_do_not_wait() {
        let console = Console::new(|| Box::new(|_, _| Err(io::ErrorKind::BrokenPipe.into())));
        let piece = [b'x'; 4096];
        let failed = (0..2 * CAPACITY / piece.len())
            .find_map(|_| block_on(console.write(Stream::Output, &piece)).err());
        assert_eq!(
            failed.map(|failed| failed.kind),
            Some(io::ErrorKind::BrokenPipe)
        );
        block_on(console.flush());
    }

    #[test]
    fn input_ends_when_its_source_ends() {
        let reader = read_ahead(io::Cursor::new(vec![b'x'; 3 * READ_AHEAD]));
        let mut read = Vec::new();
        assert_eq!(block_on(reader.read_to_end(&mut read)), 3 * READ_AHEAD);
    }
}
