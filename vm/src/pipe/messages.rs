//! The bounded pipe of messages: bytes in order, and the places where messages end.
//!
//! It is what two sides talk through that send each other messages of any length in pieces. Like the pipe of bytes it has no
//! processes and no mailbox: who writes faster than the other reads waits, for room as for ends of messages.

use super::PipeClosed;
use super::line::{Line, Lines, Turn, lock};
use super::poll_once;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// A bounded pipe of messages; [`MessagePipe::bounded`] makes its two ends.
///
/// ```
/// use lunatic_vm::{End, MessagePipe, Part, Vm};
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
///     assert_eq!(reader.read(&mut buffer).await, Part::End(End::Gone));
///     Ok::<(), lunatic_vm::PipeClosed>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum MessagePipe {}

impl MessagePipe {
    /// Makes a pipe that holds at most so many bytes and so many ends of messages, at least one of each.
    ///
    /// When the writer is gone, the reader gets what is left and then the end; when the reader is gone, writes fail.
    pub fn bounded(bytes: usize, messages: usize) -> (MessageWriter, MessageReader) {
        let buffer = Buffer {
            bytes: VecDeque::new(),
            capacity: bytes.max(1),
            ends: VecDeque::new(),
            most_ends: messages.max(1),
            written: 0,
            read: 0,
            end: None,
            is_read: true,
        };
        let state = Arc::new(Mutex::new(State {
            buffer,
            room: Line::default(),
            content: Line::default(),
        }));
        (MessageWriter(state.clone()), MessageReader(state))
    }
}

/// What a read of a pipe of messages brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// So many bytes of a message.
    Bytes(usize),
    /// The message has ended; what comes next belongs to another.
    EndOfMessage,
    /// Nothing more will come.
    End(End),
}

/// How a pipe of messages ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The writer said that it had finished.
    Finished,
    /// The writer is gone, and said nothing.
    Gone,
    /// The writer failed, for this reason.
    Failed(Arc<str>),
}

/// What a pipe of messages holds: plain data.
#[derive(Debug)]
struct Buffer {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Where messages end, counted in bytes from the first that was ever written. Those that were read are gone.
    ends: VecDeque<u64>,
    most_ends: usize,
    written: u64,
    read: u64,
    /// Set when nothing more is written.
    end: Option<End>,
    /// Whether there is somebody to read.
    is_read: bool,
}

/// An empty pipe keeps no more memory than this, in bytes.
const KEPT: usize = 4 << 10;

impl Buffer {
    fn is_closed(&self) -> bool {
        self.end.is_some() || !self.is_read
    }

    /// Whether so many bytes, or as many of them as a write takes at least, have room.
    fn has_room(&self, length: usize) -> bool {
        // A part of the whole: a reader of single bytes is not to have the writer woken for each.
        let least = length.min((self.capacity / 4).max(1));
        self.capacity - self.bytes.len() >= least
    }

    /// Takes bytes, as many as there is room for; `None` is "not now".
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

    /// Ends the message that was being written; `None` is "not now".
    fn end_message(&mut self) -> Option<Result<(), PipeClosed>> {
        if self.is_closed() {
            return Some(Err(PipeClosed));
        }
        if self.ends.len() >= self.most_ends {
            return None;
        }
        self.ends.push_back(self.written);
        Some(Ok(()))
    }

    /// Gives what comes next; `None` is "not now".
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
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = VecDeque::new();
        }
        Some(Part::Bytes(count))
    }

    /// Takes the end of a message where nothing is left before it.
    fn pass_end(&mut self) -> bool {
        let is_there = self.ends.front() == Some(&self.read);
        if is_there {
            self.ends.pop_front();
        }
        is_there
    }

    fn is_readable(&self) -> bool {
        !self.bytes.is_empty() || !self.ends.is_empty() || self.end.is_some()
    }
}

#[derive(Debug)]
struct State {
    buffer: Buffer,
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

/// Changes the state so that everybody who waits is to look again: each who is through wakes the next.
fn change(state: &Mutex<State>, change: impl FnOnce(&mut Buffer)) {
    let mut state = lock(state);
    change(&mut state.buffer);
    let wakers = [state.room.first(), state.content.first()];
    drop(state);
    wakers.into_iter().flatten().for_each(Waker::wake);
}

/// The end of a pipe that messages go into.
pub struct MessageWriter(Arc<Mutex<State>>);

impl MessageWriter {
    /// Writes bytes of a message and returns how many: at least one, where there are any, and as many as there is room for.
    ///
    /// Waits until there is room. A future that is dropped early has written nothing.
    ///
    /// # Errors
    ///
    /// [`PipeClosed`], where nobody reads any more or the pipe was ended.
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

    /// Writes all bytes, in pieces where they are more than there is room for. A future that is dropped early has written
    /// some from the front.
    ///
    /// # Errors
    ///
    /// As [`MessageWriter::write`].
    pub async fn write_all(&self, mut bytes: &[u8]) -> Result<(), PipeClosed> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Ends the message that was being written; where nothing was written since the last end, it is an empty one.
    ///
    /// Waits while there are as many ends in the pipe as there may be. A future that is dropped early has ended nothing.
    ///
    /// # Errors
    ///
    /// As [`MessageWriter::write`].
    pub async fn end_message(&self) -> Result<(), PipeClosed> {
        Turn::new(&self.0, Side::Room)
            .take(|state| {
                state
                    .buffer
                    .end_message()
                    .map(|ended| (ended, state.content.first()))
            })
            .await
    }

    /// Waits until a write would not wait, and writes nothing.
    pub async fn writable(&self) {
        Turn::new(&self.0, Side::Room)
            .take(|state| {
                let buffer = &state.buffer;
                (buffer.is_closed() || buffer.has_room(usize::MAX)).then_some(((), None))
            })
            .await;
    }

    /// Writes as [`MessageWriter::write`] does if that need not wait; `None` is "not now".
    pub fn try_write(&self, bytes: &[u8]) -> Option<Result<usize, PipeClosed>> {
        poll_once(self.write(bytes))
    }

    /// Ends a message as [`MessageWriter::end_message`] does if that need not wait; `None` is "not now".
    pub fn try_end_message(&self) -> Option<Result<(), PipeClosed>> {
        poll_once(self.end_message())
    }

    /// Ends the pipe: the reader gets what is in it and then [`End::Finished`].
    pub fn finish(&self) {
        self.end(End::Finished);
    }

    /// Ends the pipe: the reader gets what is in it and then the reason. Where it has ended before, nothing changes.
    pub fn fail(&self, why: &str) {
        self.end(End::Failed(why.into()));
    }

    fn end(&self, end: End) {
        change(&self.0, |buffer| {
            buffer.end.get_or_insert(end);
        });
    }
}

impl Drop for MessageWriter {
    fn drop(&mut self) {
        self.end(End::Gone);
    }
}

/// The end of a pipe that messages come out of.
pub struct MessageReader(Arc<Mutex<State>>);

impl MessageReader {
    /// Reads what comes next: bytes of one message, at most as many as the buffer holds, or its end.
    ///
    /// Waits until there is something. A future that is dropped early has taken nothing. Into an empty buffer no bytes are
    /// read, at once.
    pub async fn read(&self, into: &mut [u8]) -> Part {
        Turn::new(&self.0, Side::Content)
            .take(|state| {
                state
                    .buffer
                    .read(into)
                    .map(|part| (part, state.room.first()))
            })
            .await
    }

    /// Waits until a read would not wait, and takes nothing. To wait for one of several pipes, race these.
    pub async fn readable(&self) {
        Turn::new(&self.0, Side::Content)
            .take(|state| state.buffer.is_readable().then_some(((), None)))
            .await;
    }

    /// Whether a read would not wait.
    pub fn is_readable(&self) -> bool {
        lock(&self.0).buffer.is_readable()
    }

    /// Takes the end of the message where all of it was read and its end is there; says whether that was so.
    pub fn pass_end_of_message(&self) -> bool {
        let mut is_there = false;
        change(&self.0, |buffer| is_there = buffer.pass_end());
        is_there
    }

    /// Reads as [`MessageReader::read`] does if that need not wait; `None` is "not now".
    pub fn try_read(&self, into: &mut [u8]) -> Option<Part> {
        poll_once(self.read(into))
    }
}

impl Drop for MessageReader {
    fn drop(&mut self) {
        change(&self.0, |buffer| {
            buffer.is_read = false;
            // Nobody will: it need not wait for the writer to go.
            buffer.bytes = VecDeque::new();
            buffer.ends = VecDeque::new();
        });
    }
}

impl fmt::Debug for MessageWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageWriter").finish_non_exhaustive()
    }
}

impl fmt::Debug for MessageReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReader").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::tests::counter;
    use futures_lite::future::{block_on, zip};
    use proptest::prelude::*;
    use std::pin::pin;
    use std::task::Context;

    /// Reads everything there is into messages; of one that has not ended, what there is.
    fn drain(reader: &MessageReader, messages: &mut Vec<Vec<u8>>, step: usize) -> Option<End> {
        let mut buffer = vec![0; step];
        loop {
            match reader.try_read(&mut buffer)? {
                Part::Bytes(count) => messages
                    .last_mut()
                    .expect("one is begun")
                    .extend(&buffer[..count]),
                Part::EndOfMessage => messages.push(Vec::new()),
                Part::End(end) => return Some(end),
            }
        }
    }

    #[test]
    fn messages_stay_apart_also_empty_ones() {
        let (writer, reader) = MessagePipe::bounded(16, 16);
        for message in ["one", "", "three"] {
            block_on(writer.write_all(message.as_bytes())).expect("somebody reads");
            block_on(writer.end_message()).expect("somebody reads");
        }
        block_on(writer.write_all(b"rest")).expect("somebody reads");
        drop(writer);
        let mut messages = vec![Vec::new()];
        assert_eq!(drain(&reader, &mut messages, 2), Some(End::Gone));
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
    fn the_end_says_how_it_came_about_and_stays_what_it_is() {
        type How = fn(&MessageWriter);
        let ends: [(How, End); 3] = [
            (|writer| writer.finish(), End::Finished),
            (|writer| writer.fail("why"), End::Failed("why".into())),
            (|_| (), End::Gone),
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
    fn whoever_waits_is_told_that_the_other_side_is_gone() {
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
        assert_eq!(block_on(read), Part::End(End::Gone));
    }

    #[test]
    fn what_is_given_up_loses_nothing_and_lets_the_next_one_through() {
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
        // The first was woken and never asks.
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
        fn what_comes_out_is_what_went_in(
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
                            let written = written.expect("somebody reads");
                            prop_assert!(written > 0 || bytes.is_empty());
                            wrote.last_mut().expect("one is begun").extend(&bytes[..written]);
                        }
                    }
                    Step::End => {
                        if let Some(ended) = writer.try_end_message() {
                            ended.expect("somebody reads");
                            wrote.push(Vec::new());
                        }
                    }
                    Step::Read(step) => {
                        let mut buffer = vec![0; step];
                        match reader.try_read(&mut buffer) {
                            Some(Part::Bytes(count)) => read.last_mut().expect("one is begun").extend(&buffer[..count]),
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
            prop_assert_eq!(drain(&reader, &mut read, 3), Some(End::Gone));
            prop_assert_eq!(read, wrote);
        }
    }
}
