//! The log of a function: what its processes wrote, and why requests were not answered.
//!
//! It is for whoever looks: the newest lines are kept, the oldest go, and nobody waits for it. What processes write comes in
//! through the machine's journal, which is bounded itself, and is looked at when a request ends and when somebody reads. So
//! a log that nobody reads costs next to nothing, and a guest that writes without end costs its own time.

mod budget;

use crate::ticket::{RequestId, Ticket};
use crate::{Failure, Name};
use async_io::Timer;
use budget::Budget;
use lunatic_vm::{Entry, Event, ExitKind, Journal, Pid, printable};
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// Bytes of output that wait until somebody looks.
const WAITING: usize = 64 << 10;

/// Bytes that a log keeps, its lines' own size included.
const KEPT: usize = 256 << 10;

/// What a line takes beside its text.
const OVERHEAD: usize = 128;

/// The longest line. What is longer is cut into several.
const LONGEST: usize = 4 << 10;

/// Bytes of output that are looked at in a second, and at once.
const RATE: u64 = 1 << 20;

/// Processes of which it is known what they serve.
const SERVING: usize = 1024;

/// Lines that wait for one who follows.
const FOLLOWED: usize = 1024;

/// How long one who follows waits for more, before he looks: a flood is seen in large pieces.
const PAUSE: Duration = Duration::from_millis(20);

/// Frames of a trap that are told.
const FRAMES: usize = 20;

/// The log of one function, over all its versions. Cheap to clone: all clones are the same log.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    journal: Journal,
    book: Mutex<Book>,
    /// Told of every line.
    grown: Notify,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When it was noticed, which may be a little after it was written.
    #[serde(serialize_with = "as_text")]
    pub time: SystemTime,
    /// The function.
    #[serde(serialize_with = "as_name")]
    pub function: Name,
    /// Its version.
    pub version: u64,
    /// The process, by its pid.
    #[serde(serialize_with = "as_pid")]
    pub process: Option<Pid>,
    /// The request that the process served; a process may also have been started by another, and is not known then.
    pub request: Option<String>,
    /// Where it comes from.
    pub kind: LineKind,
    /// What it says. It holds no control characters, so that it cannot steer a terminal.
    pub text: String,
}

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LineKind {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
    /// A request that was not answered, or a process that failed.
    Failure,
    /// The log itself: something was left out.
    Note,
}

/// The lines, and what is known of the processes: plain data.
struct Book {
    function: Name,
    lines: VecDeque<Arc<Line>>,
    size: usize,
    /// The version that serves.
    version: u64,
    serving: Serving,
    budget: Budget,
    /// Bytes of output that were left out and not told of yet.
    left_out: u64,
    /// What the journal had lost when it was looked at last.
    journal_lost: u64,
    followers: Vec<Weak<Mutex<Queue>>>,
    /// Set when there is no function any longer: nothing more will come.
    is_closed: bool,
}

/// What processes serve, of the newest ones.
#[derive(Default)]
struct Serving {
    of: HashMap<Pid, Served>,
    order: VecDeque<Pid>,
}

/// What a process serves.
#[derive(Clone, Copy)]
struct Served {
    version: u64,
    request: RequestId,
    /// Whether the end of the request tells how the process ended.
    is_told: bool,
}

/// What waits for one who follows.
#[derive(Default)]
struct Queue {
    lines: VecDeque<Arc<Line>>,
    lost: u64,
}

/// Reads a log as it grows. Dropping it ends that.
pub struct Follower {
    log: Log,
    queue: Arc<Mutex<Queue>>,
}

impl Log {
    pub(crate) fn new(function: &Name) -> Log {
        let book = Book {
            function: function.clone(),
            lines: VecDeque::new(),
            size: 0,
            version: 0,
            serving: Serving::default(),
            budget: Budget::new(RATE, Instant::now()),
            left_out: 0,
            journal_lost: 0,
            followers: Vec::new(),
            is_closed: false,
        };
        let inner = Inner {
            journal: Journal::bounded(WAITING),
            book: Mutex::new(book),
            grown: Notify::new(),
        };
        Log(Arc::new(inner))
    }

    /// Returns what the function's environments note down in.
    pub(crate) fn journal(&self) -> &Journal {
        &self.0.journal
    }

    /// Takes note of which version serves: what comes from a process that nothing is known of is counted as its.
    pub(crate) fn replaced(&self, version: u64) {
        self.collect();
        lock(&self.0.book).version = version;
    }

    /// Takes note of what a process serves, so that its lines tell. The newest note about a process counts.
    pub(crate) fn serves(&self, process: Pid, version: u64, request: RequestId) {
        lock(&self.0.book).serving.add(
            process,
            Served {
                version,
                request,
                is_told: true,
            },
        );
    }

    /// Takes note of what a process works for that another one serves: its own end is not told otherwise.
    pub(crate) fn works_for(&self, process: Pid, version: u64, request: RequestId) {
        lock(&self.0.book).serving.add(
            process,
            Served {
                version,
                request,
                is_told: false,
            },
        );
    }

    /// Takes note that nothing more will come.
    pub(crate) fn close(&self) {
        self.collect();
        lock(&self.0.book).is_closed = true;
        self.0.grown.notify_waiters();
    }

    /// Tells why a request was not answered.
    pub(crate) fn failed(&self, ticket: &Ticket, version: u64, failure: &Failure) {
        self.collect();
        let process = ticket.process().map(|process| process.pid());
        let request = Some(ticket.id);
        let mut book = lock(&self.0.book);
        book.tell(
            version,
            process,
            request,
            LineKind::Failure,
            &failure.to_string(),
        );
        for frame in frames(failure) {
            book.tell(version, process, request, LineKind::Failure, &frame);
        }
        drop(book);
        self.0.grown.notify_waiters();
    }

    /// Looks at what processes wrote since the last time.
    pub(crate) fn collect(&self) {
        // The book is held meanwhile, or two who look at the same time would mix up the order.
        let mut book = lock(&self.0.book);
        let entries = self.0.journal.take();
        let has_grown = book.collect(entries, self.0.journal.lost(), Instant::now());
        drop(book);
        if has_grown {
            self.0.grown.notify_waiters();
        }
    }

    /// Returns the lines that are kept, the oldest first.
    pub fn lines(&self) -> Vec<Arc<Line>> {
        self.collect();
        lock(&self.0.book).lines.iter().cloned().collect()
    }

    /// Returns the lines that are kept, and what reads those that come after them.
    pub fn follow(&self) -> (Vec<Arc<Line>>, Follower) {
        self.collect();
        let queue = Arc::default();
        let mut book = lock(&self.0.book);
        book.followers.push(Arc::downgrade(&queue));
        let kept = book.lines.iter().cloned().collect();
        drop(book);
        (
            kept,
            Follower {
                log: self.clone(),
                queue,
            },
        )
    }
}

impl Follower {
    /// Waits for the next lines; `None` says that the function is gone. Where the reader is too slow, the oldest are left
    /// out, and a note says how many. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Vec<Arc<Line>>> {
        let log = self.log.clone();
        loop {
            // Before the look: a line that comes after it wakes this one.
            let grown = log.0.grown.notified();
            log.collect();
            let is_closed = lock(&log.0.book).is_closed;
            let lines = self.take();
            if !lines.is_empty() {
                return Some(lines);
            }
            if is_closed {
                return None;
            }
            tokio::select! {
                () = grown => {}
                () = log.0.journal.filled() => drop(Timer::after(PAUSE).await),
            }
        }
    }

    fn take(&mut self) -> Vec<Arc<Line>> {
        let mut queue = lock(&self.queue);
        let lost = std::mem::take(&mut queue.lost);
        let mut lines: Vec<_> = queue.lines.drain(..).collect();
        drop(queue);
        if lost > 0
            && let Some(first) = lines.first()
        {
            let text =
                format!("{lost} lines were left out here: they came faster than they were read");
            let note = Line {
                kind: LineKind::Note,
                process: None,
                request: None,
                text,
                ..Line::clone(first)
            };
            lines.insert(0, Arc::new(note));
        }
        lines
    }
}

impl Book {
    /// Turns what processes wrote into lines, and returns whether there are any.
    fn collect(&mut self, entries: Vec<Entry>, lost: u64, now: Instant) -> bool {
        self.left_out += lost - self.journal_lost;
        self.journal_lost = lost;
        let mut has_grown = false;
        for entry in entries {
            let (kind, bytes) = match &entry.event {
                Event::Output(bytes) => (LineKind::Output, bytes),
                Event::Error(bytes) => (LineKind::Error, bytes),
                Event::Failed(exit) => {
                    // Of a process that serves a request, the request's end tells; and who is killed was not to go on.
                    let is_told = self
                        .serving
                        .of
                        .get(&entry.pid)
                        .is_some_and(|served| served.is_told)
                        || matches!(exit.kind(), ExitKind::Killed | ExitKind::LinkDied);
                    if !is_told {
                        let (version, request) = self.served_by(entry.pid);
                        let text = format!("process `{}` {exit}", entry.process);
                        self.tell(version, Some(entry.pid), request, LineKind::Failure, &text);
                        has_grown = true;
                    }
                    continue;
                }
            };
            if !self.budget.takes(bytes.len() as u64, now) {
                self.left_out += bytes.len() as u64;
                continue;
            }
            let (version, request) = self.served_by(entry.pid);
            self.tell_what_is_left_out(version);
            for piece in pieces(&String::from_utf8_lossy(bytes)) {
                self.tell(version, Some(entry.pid), request, kind, piece);
                has_grown = true;
            }
        }
        has_grown
    }

    fn served_by(&self, process: Pid) -> (u64, Option<RequestId>) {
        match self.serving.of.get(&process) {
            Some(served) => (served.version, Some(served.request)),
            None => (self.version, None),
        }
    }

    fn tell_what_is_left_out(&mut self, version: u64) {
        let bytes = std::mem::take(&mut self.left_out);
        if bytes > 0 {
            let text = format!(
                "{bytes} bytes of output were left out here: more was written than is kept"
            );
            self.tell(version, None, None, LineKind::Note, &text);
        }
    }

    fn tell(
        &mut self,
        version: u64,
        process: Option<Pid>,
        request: Option<RequestId>,
        kind: LineKind,
        text: &str,
    ) {
        let text = printable(text).replace('\n', "\\n");
        let (time, function) = (SystemTime::now(), self.function.clone());
        let request = request.map(|request| request.to_string());
        self.add(Arc::new(Line {
            time,
            function,
            version,
            process,
            request,
            kind,
            text,
        }));
    }

    fn add(&mut self, line: Arc<Line>) {
        self.followers.retain(|follower| match follower.upgrade() {
            Some(queue) => {
                lock(&queue).add(line.clone());
                true
            }
            None => false,
        });
        self.size += OVERHEAD + line.text.len();
        self.lines.push_back(line);
        while self.size > KEPT {
            let Some(oldest) = self.lines.pop_front() else {
                return;
            };
            self.size -= OVERHEAD + oldest.text.len();
        }
    }
}

impl Serving {
    fn add(&mut self, process: Pid, served: Served) {
        if self.of.insert(process, served).is_some() {
            return;
        }
        self.order.push_back(process);
        if self.order.len() > SERVING
            && let Some(oldest) = self.order.pop_front()
        {
            self.of.remove(&oldest);
        }
    }
}

impl Queue {
    fn add(&mut self, line: Arc<Line>) {
        if self.lines.len() == FOLLOWED {
            self.lines.pop_front();
            self.lost += 1;
        }
        self.lines.push_back(line);
    }
}

/// Cuts what was written into lines, and long lines into several.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| {
        let mut rest = Some(line);
        std::iter::from_fn(move || {
            let line = rest.take()?;
            if line.len() <= LONGEST {
                return Some(line);
            }
            let (piece, remaining) = line.split_at(line.floor_char_boundary(LONGEST));
            rest = Some(remaining);
            Some(piece)
        })
    })
}

/// Returns where a function trapped, a line for each frame.
fn frames(failure: &Failure) -> impl Iterator<Item = String> {
    let exit = match failure {
        Failure::Ended(exit) | Failure::Limit(exit) => exit.trap(),
        _ => None,
    };
    exit.into_iter()
        .flat_map(|trap| &trap.frames)
        .take(FRAMES)
        .map(|frame| match frame.offset {
            Some(offset) => format!("  at {} (byte {offset:#x} of the module)", frame.function),
            None => format!("  at {}", frame.function),
        })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked left the lines as they were, or one more.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn timestamp(time: SystemTime) -> String {
    // A clock that stands before the year -9999 or after 9999 has no better text.
    jiff::Timestamp::try_from(time).map_or_else(|_| "?".to_string(), |time| format!("{time:.3}"))
}

fn as_text<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*time))
}

fn as_name<S: serde::Serializer>(name: &Name, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

fn as_pid<S: serde::Serializer>(pid: &Option<Pid>, serializer: S) -> Result<S::Ok, S::Error> {
    pid.map(|pid| pid.to_string()).serialize(serializer)
}

/// `2026-01-31T12:00:00.000Z hello v3 <2a> output: what it wrote`
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} v{} ",
            timestamp(self.time),
            self.function,
            self.version
        )?;
        if let Some(process) = self.process {
            write!(f, "{process} ")?;
        }
        if let Some(request) = &self.request {
            write!(f, "{request} ")?;
        }
        write!(f, "{}: {}", self.kind, self.text)
    }
}

impl fmt::Display for LineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LineKind::Output => "output",
            LineKind::Error => "error",
            LineKind::Failure => "failure",
            LineKind::Note => "note",
        })
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lunatic_vm::Exit;

    fn log() -> Log {
        Log::new(&Name::new("f").expect("it is a name"))
    }

    fn output(pid: u64, bytes: &[u8]) -> Entry {
        Entry {
            pid: Pid::from_number(pid),
            process: "_start".into(),
            event: Event::Output(bytes.to_vec()),
        }
    }

    fn texts(lines: &[Arc<Line>]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn t097_what_is_written_becomes_lines_that_steer_nothing() {
        let log = log();
        let written = b"one\r\ntwo \x1b[2J\xff\n\nend";
        lock(&log.0.book).collect(vec![output(1, written)], 0, Instant::now());
        assert_eq!(
            texts(&log.lines()),
            ["one", "two \\u{1b}[2J\u{fffd}", "", "end"]
        );
    }

    #[test]
    fn t097_a_line_without_an_end_is_cut() {
        let text = "é".repeat(3 * LONGEST);
        let lengths: Vec<_> = pieces(&text).map(str::len).collect();
        assert_eq!(lengths.iter().sum::<usize>(), text.len());
        assert!(
            lengths.iter().all(|length| *length <= LONGEST),
            "{lengths:?}"
        );
    }

    #[test]
    fn t181_a_flood_is_bounded_and_told_of() {
        let log = log();
        let now = Instant::now();
        let piece = vec![b'x'; WAITING];
        for _ in 0..100 {
            lock(&log.0.book).collect(vec![output(1, &piece)], 0, now);
        }
        let kept: usize = log.lines().iter().map(|line| line.text.len()).sum();
        assert!(kept <= KEPT, "{kept} bytes are kept");
        let later = now + Duration::from_secs(1);
        lock(&log.0.book).collect(vec![output(1, b"after it")], 0, later);
        let lines = log.lines();
        let [.., note, last] = &lines[..] else {
            panic!("there are lines")
        };
        assert_eq!(note.kind, LineKind::Note);
        let left_out = 100 * WAITING as u64 - RATE;
        assert!(
            note.text.starts_with(&format!("{left_out} bytes")),
            "{}",
            note.text
        );
        assert_eq!(last.text, "after it");
    }

    #[test]
    fn a_line_says_which_request_its_process_serves() {
        let log = log();
        let request = RequestId::next();
        log.replaced(7);
        log.serves(Pid::from_number(1), 6, request);
        lock(&log.0.book).collect(
            vec![output(1, b"known"), output(2, b"unknown")],
            0,
            Instant::now(),
        );
        let lines = log.lines();
        assert_eq!(
            (lines[0].version, lines[0].request.clone()),
            (6, Some(request.to_string()))
        );
        assert_eq!((lines[1].version, &lines[1].request), (7, &None));
    }

    #[test]
    fn an_end_that_nothing_else_tells_is_told() {
        let log = log();
        let (serves, works) = (Pid::from_number(1), Pid::from_number(2));
        log.serves(serves, 1, RequestId::next());
        log.works_for(works, 1, RequestId::next());
        let entry = |pid, exit| Entry {
            pid,
            process: "run".into(),
            event: Event::Failed(exit),
        };
        let entries = vec![
            entry(serves, Exit::Status(1)),
            entry(works, Exit::Status(2)),
            entry(works, Exit::Killed),
            entry(Pid::from_number(3), Exit::Status(3)),
        ];
        lock(&log.0.book).collect(entries, 0, Instant::now());
        let expected = [
            "process `run` exited with status 2",
            "process `run` exited with status 3",
        ];
        assert_eq!(texts(&log.lines()), expected);
    }

    #[test]
    fn what_is_known_of_processes_is_bounded() {
        let mut serving = Serving::default();
        for pid in 0..2 * SERVING as u64 {
            for version in [1, 2] {
                serving.add(
                    Pid::from_number(pid),
                    Served {
                        version,
                        request: RequestId::next(),
                        is_told: true,
                    },
                );
            }
        }
        assert_eq!((serving.of.len(), serving.order.len()), (SERVING, SERVING));
    }

    #[test]
    fn one_who_does_not_read_loses_the_oldest_and_is_told_how_many() {
        let log = log();
        let (kept, mut follower) = log.follow();
        assert!(kept.is_empty());
        for number in 0..FOLLOWED + 10 {
            lock(&log.0.book).tell(1, None, None, LineKind::Output, &number.to_string());
        }
        let lines = follower.take();
        assert_eq!(lines.len(), FOLLOWED + 1);
        assert!(lines[0].text.starts_with("10 lines"), "{}", lines[0].text);
        assert_eq!(lines[1].text, "10");
    }

    #[test]
    fn who_no_longer_follows_is_forgotten() {
        let log = log();
        drop(log.follow());
        lock(&log.0.book).tell(1, None, None, LineKind::Output, "x");
        assert!(lock(&log.0.book).followers.is_empty());
    }
}
