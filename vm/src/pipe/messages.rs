//! The bounded message pipe, which carries bytes in order and marks where messages end.
//!
//! To exchange messages of any length in pieces, two sides use a pair of these pipes.

use super::state::{Condition, KEPT_WHEN_EMPTY, PipeClosed, State};
use super::wait_queue::{lock, poll_once};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// A bounded message pipe. [`MessagePipe::bounded`] creates its two ends.
///
/// ```
/// use lunatic_vm::{MessagePipe, Part, PipeEnd, Vm};
///
/// let vm = Vm::builder().build()?;
/// let (writer, reader) = MessagePipe::bounded(64 << 10, 16);
/// vm.block_on(async {
///     writer.write_all(b"one").await?;
///     writer.end_message().await?;
///     writer.write_all(b"two").await?;
///     drop(writer);
///     let mut buffer = [0; 16];
///     assert_eq!(reader.read(&mut buffer).await, Part::Bytes(3));
///     assert_eq!(reader.read(&mut buffer).await, Part::EndOfMessage);
///     assert_eq!(reader.read(&mut buffer).await, Part::Bytes(3));
///     assert_eq!(reader.read(&mut buffer).await, Part::End(PipeEnd::Gone));
///     Ok::<(), lunatic_vm::PipeClosed>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum MessagePipe {}

impl MessagePipe {
    /// Creates a pipe that holds at most `bytes` bytes and the ends of at most `messages` messages.
    /// A capacity of 0 is treated as 1.
    ///
    /// When the writer is dropped, the reader gets the remaining contents and then the end of the
    /// pipe. When the reader is dropped, writes fail.
    pub fn bounded(bytes: usize, messages: usize) -> (MessageWriter, MessageReader) {
        let state = State::new(Buffer {
            bytes: VecDeque::new(),
            capacity: bytes.max(1),
            ends: VecDeque::new(),
            max_ends: messages.max(1),
            written: 0,
            read: 0,
            end: None,
            is_read: true,
        });
        (MessageWriter(state.clone()), MessageReader(state))
    }
}

/// The result of reading from a message pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The number of bytes read, which belong to one message.
    Bytes(usize),
    /// The message has ended. The bytes that follow belong to the next message.
    EndOfMessage,
    /// The pipe has ended: no more bytes or messages will follow.
    End(PipeEnd),
}

/// How a message pipe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PipeEnd {
    /// The writer declared that it had finished.
    Finished,
    /// The writer was dropped without declaring that it had finished.
    Gone,
    /// The writer failed, for this reason.
    Failed(Arc<str>),
}

/// The contents of a message pipe, as plain data.
struct Buffer {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Where messages end, counted in bytes since the pipe was created. Ends that have been read
    /// are removed.
    ends: VecDeque<u64>,
    max_ends: usize,
    written: u64,
    read: u64,
    /// Set when nothing more will be written.
    end: Option<PipeEnd>,
    /// Whether the reader still exists.
    is_read: bool,
}

impl Buffer {
    fn is_closed(&self) -> bool {
        self.end.is_some() || !self.is_read
    }

    /// Returns whether enough of a `length`-byte write would fit to make the write worthwhile.
    fn has_room(&self, length: usize) -> bool {
        // At least a quarter of the pipe must be free, so that a reader that takes single bytes
        // does not wake the writer for each one.
        let least = length.min((self.capacity / 4).max(1));
        self.capacity - self.bytes.len() >= least
    }

    /// Accepts as many bytes as there is room for, or returns `None` if there is too little room.
    fn write(&mut self, bytes: &[u8]) -> Option<Result<usize, PipeClosed>> {
        if self.is_closed() {
            return Some(Err(PipeClosed));
        }
        if !self.has_room(bytes.len()) {
            return None;
        }
        let count = bytes.len().min(self.capacity - self.bytes.len());
        self.bytes.extend(&bytes[..count]);
        self.written += count as u64;
        Some(Ok(count))
    }

    /// Ends the message being written, or returns `None` if the pipe already holds the maximum
    /// number of ends.
    fn end_message(&mut self) -> Option<Result<(), PipeClosed>> {
        if self.is_closed() {
            return Some(Err(PipeClosed));
        }
        if self.ends.len() >= self.max_ends {
            return None;
        }
        self.ends.push_back(self.written);
        Some(Ok(()))
    }

    /// Returns the next part, or `None` if there is none yet.
    fn read(&mut self, into: &mut [u8]) -> Option<Part> {
        if into.is_empty() {
            return Some(Part::Bytes(0));
        }
        if self.pass_end() {
            return Some(Part::EndOfMessage);
        }
        if self.bytes.is_empty() {
            return self.end.clone().map(Part::End);
        }
        let of_message = match self.ends.front() {
            Some(end) => usize::try_from(end - self.read).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let count = into.len().min(self.bytes.len()).min(of_message);
        let (first, second) = self.bytes.as_slices();
        let split = count.min(first.len());
        into[..split].copy_from_slice(&first[..split]);
        into[split..count].copy_from_slice(&second[..count - split]);
        self.bytes.drain(..count);
        self.read += count as u64;
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_WHEN_EMPTY {
            self.bytes = VecDeque::new();
        }
        Some(Part::Bytes(count))
    }

    /// Removes the end of a message if no bytes are left before it, and returns whether the end was
    /// removed.
    fn pass_end(&mut self) -> bool {
        self.ends.pop_front_if(|end| *end == self.read).is_some()
    }

    fn is_readable(&self) -> bool {
        !self.bytes.is_empty() || !self.ends.is_empty() || self.end.is_some()
    }
}

/// The write end of a message pipe.
#[derive(Debug)]
pub struct MessageWriter(Arc<Mutex<State<Buffer>>>);

impl MessageWriter {
    /// Writes bytes of a message and returns how many were written: as many as there is room for,
    /// and at least one unless `bytes` is empty.
    ///
    /// Waits until there is room. If the future is dropped early, nothing has been written.
    ///
    /// # Errors
    ///
    /// [`PipeClosed`] if the reader was dropped or the pipe was ended.
    pub async fn write(&self, bytes: &[u8]) -> Result<usize, PipeClosed> {
        State::transfer(&self.0, Condition::Room, |buffer| buffer.write(bytes)).await
    }

    /// Writes all bytes, in pieces if there is not enough room for all of them. If the future is
    /// dropped early, some of the bytes may already have been written.
    ///
    /// # Errors
    ///
    /// The same errors as [`MessageWriter::write`].
    pub async fn write_all(&self, mut bytes: &[u8]) -> Result<(), PipeClosed> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Ends the message being written. The message is empty if nothing has been written since the
    /// previous message ended.
    ///
    /// Waits while the pipe holds the maximum number of ends. If the future is dropped early, the
    /// message has not been ended.
    ///
    /// # Errors
    ///
    /// The same errors as [`MessageWriter::write`].
    pub async fn end_message(&self) -> Result<(), PipeClosed> {
        State::transfer(&self.0, Condition::Room, Buffer::end_message).await
    }

    /// Waits until a write would return immediately. Writes nothing itself.
    pub async fn writable(&self) {
        let is_writable = |buffer: &Buffer| buffer.is_closed() || buffer.has_room(usize::MAX);
        State::until(&self.0, Condition::Room, is_writable).await;
    }

    /// Writes like [`MessageWriter::write`], but returns `None` instead of waiting.
    pub fn try_write(&self, bytes: &[u8]) -> Option<Result<usize, PipeClosed>> {
        poll_once(self.write(bytes))
    }

    /// Ends a message like [`MessageWriter::end_message`], but returns `None` instead of waiting.
    pub fn try_end_message(&self) -> Option<Result<(), PipeClosed>> {
        poll_once(self.end_message())
    }

    /// Ends the pipe: the reader gets the remaining contents and then [`PipeEnd::Finished`].
    pub fn finish(&self) {
        self.end(PipeEnd::Finished);
    }

    /// Ends the pipe: the reader gets the remaining contents and then the reason. Has no effect if
    /// the pipe has already ended.
    pub fn fail(&self, why: &str) {
        self.end(PipeEnd::Failed(why.into()));
    }

    fn end(&self, end: PipeEnd) {
        State::change(&self.0, |buffer| {
            buffer.end.get_or_insert(end);
            true
        });
    }
}

impl Drop for MessageWriter {
    fn drop(&mut self) {
        self.end(PipeEnd::Gone);
    }
}

/// The read end of a message pipe.
#[derive(Debug)]
pub struct MessageReader(Arc<Mutex<State<Buffer>>>);

impl MessageReader {
    /// Reads the next part: as many bytes of one message as fit into `into`, or the end of the
    /// message.
    ///
    /// Waits until there is something to read. If the future is dropped early, nothing has been
    /// read. If `into` is empty, returns zero bytes immediately.
    pub async fn read(&self, into: &mut [u8]) -> Part {
        State::transfer(&self.0, Condition::Content, |buffer| buffer.read(into)).await
    }

    /// Waits until a read would return immediately. Reads nothing itself. To wait for any of
    /// several pipes, race their futures.
    pub async fn readable(&self) {
        State::until(&self.0, Condition::Content, Buffer::is_readable).await;
    }

    /// Returns whether a read would return immediately.
    pub fn is_readable(&self) -> bool {
        lock(&self.0).buffer.is_readable()
    }

    /// Reads the end of the message if the whole message has been read and its end has been
    /// written. Returns whether the end was read.
    pub fn pass_end_of_message(&self) -> bool {
        let mut has_ended = false;
        State::change(&self.0, |buffer| {
            has_ended = buffer.pass_end();
            has_ended
        });
        has_ended
    }

    /// Reads like [`MessageReader::read`], but returns `None` instead of waiting.
    pub fn try_read(&self, into: &mut [u8]) -> Option<Part> {
        poll_once(self.read(into))
    }
}

impl Drop for MessageReader {
    fn drop(&mut self) {
        State::change(&self.0, |buffer| {
            buffer.is_read = false;
            // Nothing will read the remaining contents, so their memory is freed now rather than
            // when the writer is dropped.
            buffer.bytes = VecDeque::new();
            buffer.ends = VecDeque::new();
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::wait_queue::tests::counter;
    use super::*;
    use futures_lite::future::{block_on, zip};
    use proptest::prelude::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    /// Reads all available contents into messages. The last message may be unfinished.
    fn drain(reader: &MessageReader, messages: &mut Vec<Vec<u8>>, step: usize) -> Option<PipeEnd> {
        let mut buffer = vec![0; step];
        loop {
            match reader.try_read(&mut buffer)? {
                Part::Bytes(count) => messages
                    .last_mut()
                    .expect("the last message is never removed")
                    .extend(&buffer[..count]),
                Part::EndOfMessage => messages.push(Vec::new()),
                Part::End(end) => return Some(end),
            }
        }
    }

    #[test]
    fn messages_stay_separate_even_if_empty() {
        let (writer, reader) = MessagePipe::bounded(16, 16);
        for message in ["one", "", "three"] {
            block_on(writer.write_all(message.as_bytes())).expect("the reader is alive");
            block_on(writer.end_message()).expect("the reader is alive");
        }
        block_on(writer.write_all(b"rest")).expect("the reader is alive");
        drop(writer);
        let mut messages = vec![Vec::new()];
        assert_eq!(drain(&reader, &mut messages, 2), Some(PipeEnd::Gone));
        assert_eq!(messages, [&b"one"[..], b"", b"three", b"rest"]);
    }

    #[test]
    fn the_writer_waits_while_the_reader_is_behind() {
        let (writer, reader) = MessagePipe::bounded(4, 1);
        assert_eq!(writer.try_write(b"abcdef"), Some(Ok(4)));
        let mut write = pin!(writer.write(b"ef"));
        let (woken, waker) = counter();
        assert!(
            write
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        assert_eq!(reader.try_read(&mut [0; 1]), Some(Part::Bytes(1)));
        assert_eq!(woken.count(), 1);
        assert_eq!(block_on(write), Ok(1));
    }

    #[test]
    fn ends_of_messages_are_bounded_too() {
        let (writer, reader) = MessagePipe::bounded(4, 2);
        assert_eq!(
            [(); 3].map(|()| writer.try_end_message()),
            [Some(Ok(())), Some(Ok(())), None]
        );
        let mut end = pin!(writer.end_message());
        let (woken, waker) = counter();
        assert!(
            end.as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        assert_eq!(reader.try_read(&mut [0; 1]), Some(Part::EndOfMessage));
        assert_eq!(woken.count(), 1);
        assert_eq!(block_on(end), Ok(()));
    }

    #[test]
    fn the_end_tells_how_the_pipe_ended_and_does_not_change() {
        type How = fn(&MessageWriter);
        let ends: [(How, PipeEnd); 3] = [
            (|writer| writer.finish(), PipeEnd::Finished),
            (|writer| writer.fail("why"), PipeEnd::Failed("why".into())),
            (|_| (), PipeEnd::Gone),
        ];
        for (how, end) in ends {
            let (writer, reader) = MessagePipe::bounded(4, 1);
            assert_eq!(writer.try_write(b"a"), Some(Ok(1)));
            how(&writer);
            drop(writer);
            let mut buffer = [0; 4];
            assert_eq!(reader.try_read(&mut buffer), Some(Part::Bytes(1)));
            assert_eq!(
                [(); 2].map(|()| reader.try_read(&mut buffer)),
                [Some(Part::End(end.clone())), Some(Part::End(end))]
            );
        }
        let (writer, _reader) = MessagePipe::bounded(4, 1);
        writer.finish();
        assert_eq!(writer.try_write(b"a"), Some(Err(PipeClosed)));
        assert_eq!(writer.try_end_message(), Some(Err(PipeClosed)));
    }

    #[test]
    fn a_waiting_side_learns_that_the_other_side_is_gone() {
        let (writer, reader) = MessagePipe::bounded(1, 1);
        assert_eq!(writer.try_write(b"a"), Some(Ok(1)));
        let mut write = pin!(writer.write(b"b"));
        let mut end = pin!(async { (writer.end_message().await, writer.end_message().await) });
        let mut room = pin!(writer.writable());
        let mut context = Context::from_waker(Waker::noop());
        assert!(write.as_mut().poll(&mut context).is_pending());
        assert!(end.as_mut().poll(&mut context).is_pending());
        assert!(room.as_mut().poll(&mut context).is_pending());
        drop(reader);
        assert_eq!(
            block_on(zip(zip(write, end), room)).0,
            (Err(PipeClosed), (Err(PipeClosed), Err(PipeClosed)))
        );

        let (writer, reader) = MessagePipe::bounded(1, 1);
        let mut buffer = [0; 1];
        let mut read = pin!(reader.read(&mut buffer));
        assert!(read.as_mut().poll(&mut context).is_pending());
        drop(writer);
        assert_eq!(block_on(read), Part::End(PipeEnd::Gone));
    }

    #[test]
    fn a_cancelled_read_loses_nothing_and_lets_the_next_read_through() {
        let (writer, reader) = MessagePipe::bounded(4, 4);
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
        // The first future was woken, and is dropped before it is polled again.
        drop(first);
        assert_eq!(woken.count(), 1);
        assert_eq!(block_on(second), Part::Bytes(1));
        assert_eq!(two, *b"a");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(Vec<u8>),
        End,
        Read(usize),
        GiveUp,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12).prop_map(Step::Write),
            Just(Step::End),
            (1..9usize).prop_map(Step::Read),
            Just(Step::GiveUp),
        ]
    }

    proptest! {
        #[test]
        fn the_reader_gets_exactly_what_was_written(
            capacity in 1..10usize,
            most in 1..4usize,
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let (writer, reader) = MessagePipe::bounded(capacity, most);
            let (mut wrote, mut read) = (vec![Vec::new()], vec![Vec::new()]);
            for step in steps {
                match step {
                    Step::Write(bytes) => {
                        if let Some(written) = writer.try_write(&bytes) {
                            let written = written.expect("the reader is alive");
                            prop_assert!(written > 0 || bytes.is_empty());
                            wrote.last_mut().expect("the last message is never removed").extend(&bytes[..written]);
                        }
                    }
                    Step::End => {
                        if let Some(ended) = writer.try_end_message() {
                            ended.expect("the reader is alive");
                            wrote.push(Vec::new());
                        }
                    }
                    Step::Read(step) => {
                        let mut buffer = vec![0; step];
                        match reader.try_read(&mut buffer) {
                            Some(Part::Bytes(count)) => read.last_mut().expect("the last message is never removed").extend(&buffer[..count]),
                            Some(Part::EndOfMessage) => read.push(Vec::new()),
                            Some(Part::End(end)) => panic!("{end:?}"),
                            None => prop_assert_eq!(&read, &wrote),
                        }
                    }
                    Step::GiveUp => {
                        let mut buffer = [0; 4];
                        if reader.is_readable() {
                            drop(reader.read(&mut buffer));
                        } else {
                            prop_assert!(poll_once(reader.read(&mut buffer)).is_none());
                        }
                    }
                }
                let state = lock(&writer.0);
                prop_assert!(state.buffer.bytes.len() <= capacity && state.buffer.ends.len() <= most);
            }
            drop(writer);
            prop_assert_eq!(drain(&reader, &mut read, 3), Some(PipeEnd::Gone));
            prop_assert_eq!(read, wrote);
        }
    }
}
