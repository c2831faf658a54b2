//! A program's journal, which records what each process wrote and how processes failed.
//!
//! A journal is meant for reports that are made after a program has run, such as those of a test
//! runner. It is not a log: nothing is formatted, and no process ever waits for the journal. When
//! the journal is full, the oldest entries are dropped first, because the reason for a failure is
//! usually in the newest entries.

use crate::console::Stream;
use crate::pipe::lock;
use event_listener::{Event as Signal, listener};
use lunatic_process::{Exit, Pid, Trap};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// A bounded record of what happens in a program. Enabled with
/// [`Config::journal`](crate::Config::journal). Cloning is cheap, and all clones refer to the same
/// journal.
///
/// ```
/// use lunatic_vm::{Event, Journal, Vm};
///
/// let vm = Vm::builder().build()?;
/// let journal = Journal::bounded(64 << 10);
/// let mut config = vm.config();
/// config.journal(&journal);
/// let module = vm.module("trap", br#"(module (func (export "trap") unreachable))"#)?;
/// let process = vm.environment(config).spawn(&module, "trap", &[])?;
/// vm.block_on(process.exited());
/// let [entry] = &journal.take()[..] else { panic!("there is exactly one entry") };
/// assert_eq!((entry.pid, &*entry.process), (process.pid(), "trap"));
/// assert!(matches!(&entry.event, Event::Failed(exit) if exit.trap().is_some()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    book: Mutex<Book>,
    /// Notified when an entry is added.
    filled: Signal,
    /// Whether standard output is recorded too.
    keeps_output: bool,
}

/// A journal entry.
#[derive(Clone, Debug)]
pub struct JournalEntry {
    /// The process that the event is about.
    pub pid: Pid,
    /// What that process runs; see [`Process::name`](crate::Process::name).
    pub process: Arc<str>,
    /// What happened.
    pub event: Event,
}

/// What happened to a process.
#[derive(Clone, Debug)]
pub enum Event {
    /// The process wrote these bytes to its standard output.
    Output(Vec<u8>),
    /// The process wrote these bytes to its standard error.
    Error(Vec<u8>),
    /// The process did not end normally.
    Failed(Exit),
}

/// How many bytes each entry counts for in addition to the bytes written, so that the byte limit
/// also bounds the number of entries.
const OVERHEAD: usize = 256;

/// The entries and their total size, as plain data.
#[derive(Debug)]
struct Book {
    entries: VecDeque<JournalEntry>,
    size: usize,
    capacity: usize,
    /// How many bytes of output were dropped to make room.
    lost: u64,
}

impl Event {
    fn size(&self) -> usize {
        match self {
            Event::Output(bytes) | Event::Error(bytes) => bytes.len(),
            Event::Failed(exit) => exit.trap().map_or(0, Trap::size),
        }
    }

    fn written(stream: Stream, bytes: &[u8]) -> Event {
        match stream {
            Stream::Output => Event::Output(bytes.to_vec()),
            Stream::Error => Event::Error(bytes.to_vec()),
        }
    }
}

impl Book {
    /// Records what a process wrote. Appends to the newest entry if that entry is for the same
    /// process and stream.
    fn write(&mut self, pid: Pid, process: &str, stream: Stream, bytes: &[u8]) {
        let last = self.entries.back_mut().filter(|last| last.pid == pid);
        match (last.map(|last| &mut last.event), stream) {
            (Some(Event::Output(written)), Stream::Output)
            | (Some(Event::Error(written)), Stream::Error)
                if written.len() + bytes.len() <= MAX_JOINED =>
            {
                written.extend(bytes);
                self.size += bytes.len();
                self.make_room();
            }
            _ => self.add(pid, process, Event::written(stream, bytes)),
        }
    }

    fn add(&mut self, pid: Pid, process: &str, event: Event) {
        self.size += OVERHEAD + event.size();
        self.entries.push_back(JournalEntry {
            pid,
            process: process.into(),
            event,
        });
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.size > self.capacity && self.entries.len() > 1 {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.size -= OVERHEAD + oldest.event.size();
            self.lost += oldest.event.size() as u64;
        }
    }
}

/// The maximum length in bytes of an entry that joins several writes. This keeps the loss small
/// when an entry is dropped.
const MAX_JOINED: usize = 16 << 10;

impl Journal {
    /// Creates an empty journal that holds at most about `capacity` bytes.
    pub fn bounded(capacity: usize) -> Journal {
        Journal::new(capacity, true)
    }

    /// Creates a journal that does not record standard output.
    pub fn of_errors(capacity: usize) -> Journal {
        Journal::new(capacity, false)
    }

    fn new(capacity: usize, keeps_output: bool) -> Journal {
        let book = Book {
            entries: VecDeque::new(),
            size: 0,
            capacity,
            lost: 0,
        };
        Journal(Arc::new(Inner {
            book: Mutex::new(book),
            filled: Signal::new(),
            keeps_output,
        }))
    }

    /// Takes all entries, in the order the events happened.
    pub fn take(&self) -> Vec<JournalEntry> {
        let mut book = lock(&self.0.book);
        book.size = 0;
        std::mem::take(&mut book.entries).into()
    }

    /// Waits until there is an entry to take. Dropping the future loses nothing, and any number of
    /// tasks can wait.
    ///
    /// ```
    /// # use lunatic_vm::{Journal, Vm};
    /// # let vm = Vm::builder().build()?;
    /// # let journal = Journal::bounded(64 << 10);
    /// # let mut config = vm.config();
    /// # config.journal(&journal);
    /// # let module = vm.module("trap", br#"(module (func (export "trap") unreachable))"#)?;
    /// vm.environment(config).spawn(&module, "trap", &[])?;
    /// vm.block_on(journal.filled());
    /// assert_eq!(journal.take().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn filled(&self) {
        loop {
            // The listener is created before the check, so that an entry added after the check
            // wakes this task.
            listener!(self.0.filled => filled);
            if !lock(&self.0.book).entries.is_empty() {
                return;
            }
            filled.await;
        }
    }

    /// Returns how many bytes of output have been lost because they did not fit.
    pub fn lost(&self) -> u64 {
        lock(&self.0.book).lost
    }

    pub(crate) fn wrote(&self, pid: Pid, process: &str, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Output && !self.0.keeps_output {
            return;
        }
        lock(&self.0.book).write(pid, process, stream, bytes);
        self.0.filled.notify(usize::MAX);
    }

    pub(crate) fn ended(&self, pid: Pid, process: &str, exit: &Exit) {
        if !exit.is_normal() {
            lock(&self.0.book).add(pid, process, Event::Failed(exit.clone()));
            self.0.filled.notify(usize::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(journal: &Journal) -> Vec<(u64, String)> {
        let text = |entry: JournalEntry| match entry.event {
            Event::Output(bytes) => format!("out {}", String::from_utf8_lossy(&bytes)),
            Event::Error(bytes) => format!("err {}", String::from_utf8_lossy(&bytes)),
            Event::Failed(exit) => exit.to_string(),
        };
        journal
            .take()
            .into_iter()
            .map(|entry| (entry.pid.number(), text(entry)))
            .collect()
    }

    #[test]
    fn consecutive_writes_of_a_process_are_one_entry() {
        let journal = Journal::bounded(10_000);
        let write = |pid, stream, text: &str| {
            lock(&journal.0.book).write(Pid::from_number(pid), "p", stream, text.as_bytes())
        };
        write(1, Stream::Output, "a");
        write(1, Stream::Output, "b");
        write(1, Stream::Error, "c");
        write(2, Stream::Error, "d");
        write(1, Stream::Error, "e");
        let expected = [(1, "out ab"), (1, "err c"), (2, "err d"), (1, "err e")];
        assert_eq!(
            texts(&journal),
            expected.map(|(pid, text)| (pid, text.to_string()))
        );
        assert!(journal.take().is_empty());
    }

    #[test]
    fn the_oldest_entry_is_dropped_first_and_counted() {
        let journal = Journal::bounded(3 * OVERHEAD);
        for pid in 1..=4 {
            lock(&journal.0.book).write(Pid::from_number(pid), "p", Stream::Output, b"12345");
        }
        assert_eq!(texts(&journal).first(), Some(&(3, "out 12345".to_string())));
        assert_eq!(journal.lost(), 10);
        // The last entry is kept, no matter how large it is.
        lock(&journal.0.book).write(
            Pid::from_number(5),
            "p",
            Stream::Output,
            &[b'x'; 10 * OVERHEAD],
        );
        assert_eq!(journal.take().len(), 1);
    }
}
