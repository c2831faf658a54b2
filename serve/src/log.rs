//! A function's log: the output of its processes and the reasons why requests failed.
//!
//! The newest lines are kept, the oldest are dropped, and nothing ever blocks on the log. Output
//! arrives through the machine's journal, which is also limited in size, and is collected when a
//! request ends and when the log is read. A log that nobody reads therefore costs very little, and
//! a guest that writes endlessly wastes only its own time.

mod budget;

use crate::request_id::RequestId;
use crate::{Failure, Name};
use async_io::Timer;
use budget::Budget;
use lunatic_vm::{Event, Exit, ExitKind, Journal, JournalEntry, Pid, Trap, printable};
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// The maximum amount of output in the journal that has not been collected, in bytes.
const JOURNAL_CAPACITY: usize = 64 << 10;

/// The maximum size of a log, in bytes, including the per-line overhead.
const CAPACITY: usize = 256 << 10;

/// A line's overhead in addition to its text, in bytes.
const LINE_OVERHEAD: usize = 128;

/// The maximum length of a line, in bytes. Longer lines are split.
const MAX_LINE: usize = 4 << 10;

/// The maximum rate of logged output, in bytes per second. Also the maximum burst, in bytes.
const RATE: u64 = 1 << 20;

/// The maximum number of processes whose requests are remembered.
const MAX_ASSIGNMENTS: usize = 1024;

/// The maximum number of lines queued for a follower.
const QUEUE_CAPACITY: usize = 1024;

/// How long a follower waits before collecting lines, so that heavy output arrives in large
/// batches.
const BATCH_DELAY: Duration = Duration::from_millis(20);

/// The maximum number of frames logged for a trap.
const MAX_FRAMES: usize = 20;

/// The log of a function and all of its versions. Cheap to clone; all clones refer to the same log.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    journal: Journal,
    state: Mutex<State>,
    /// Notified of new lines.
    grown: Notify,
}

/// A line in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When the line was collected, which may be slightly after it was written.
    #[serde(serialize_with = "as_text")]
    pub time: SystemTime,
    /// The function's name.
    #[serde(serialize_with = "as_name")]
    pub function: Name,
    /// The function's version.
    pub version: u64,
    /// The process's pid.
    #[serde(serialize_with = "as_pid")]
    pub process: Option<Pid>,
    /// The id of the request that the process was serving. Not known if the process was spawned by
    /// another process.
    pub request: Option<String>,
    /// Where the line comes from.
    pub kind: LineKind,
    /// The text, with control characters escaped so that it cannot control a terminal.
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
    /// A note from the log itself about omitted output.
    Note,
}

/// The lines and the known processes, as plain data.
struct State {
    function: Name,
    lines: VecDeque<Arc<Line>>,
    size: usize,
    /// The version that is serving.
    version: u64,
    assignments: Assignments,
    budget: Budget,
    /// The number of omitted bytes of output that have not been reported yet.
    left_out: u64,
    /// The number of bytes that the journal had lost as of the last collection.
    journal_lost: u64,
    followers: Vec<Weak<Mutex<Queue>>>,
    /// Set when the function has been removed, after which there are no more lines.
    is_closed: bool,
}

/// The requests of the most recent processes.
#[derive(Default)]
struct Assignments {
    by_process: HashMap<Pid, Assignment>,
    order: VecDeque<Pid>,
}

/// The request that a process is working on.
#[derive(Clone, Copy)]
struct Assignment {
    version: u64,
    request: RequestId,
    /// Whether the process's failure is logged when the request ends.
    reported_by_request: bool,
}

/// Lines that a follower has yet to read.
#[derive(Default)]
struct Queue {
    lines: VecDeque<Arc<Line>>,
    lost: u64,
}

/// Reads a log as it grows.
pub struct Follower {
    log: Log,
    queue: Arc<Mutex<Queue>>,
}

impl Log {
    pub(crate) fn new(function: &Name) -> Log {
        let state = State {
            function: function.clone(),
            lines: VecDeque::new(),
            size: 0,
            version: 0,
            assignments: Assignments::default(),
            budget: Budget::new(RATE, Instant::now()),
            left_out: 0,
            journal_lost: 0,
            followers: Vec::new(),
            is_closed: false,
        };
        let inner = Inner {
            journal: Journal::bounded(JOURNAL_CAPACITY),
            state: Mutex::new(state),
            grown: Notify::new(),
        };
        Log(Arc::new(inner))
    }

    /// Returns the journal for the function's environments.
    pub(crate) fn journal(&self) -> &Journal {
        &self.0.journal
    }

    /// Sets the version that is serving. Output from unknown processes is attributed to it.
    pub(crate) fn replaced(&self, version: u64) {
        self.collect();
        lock(&self.0.state).version = version;
    }

    /// Records which request a process now serves.
    pub(crate) fn serves(&self, process: Pid, version: u64, request: RequestId) {
        self.assign(process, version, request, true);
    }

    /// Records that a process is working on a request that another process serves. The process's
    /// own failure is logged when it exits.
    pub(crate) fn works_for(&self, process: Pid, version: u64, request: RequestId) {
        self.assign(process, version, request, false);
    }

    fn assign(&self, process: Pid, version: u64, request: RequestId, reported_by_request: bool) {
        let assignment = Assignment {
            version,
            request,
            reported_by_request,
        };
        lock(&self.0.state).assignments.add(process, assignment);
    }

    /// Closes the log. There will be no more lines.
    pub(crate) fn close(&self) {
        self.collect();
        lock(&self.0.state).is_closed = true;
        self.0.grown.notify_waiters();
    }

    /// Logs why a request was not answered.
    pub(crate) fn failed(
        &self,
        request: RequestId,
        process: Option<Pid>,
        version: u64,
        failure: &Failure,
    ) {
        self.collect();
        let request = Some(request);
        let mut state = lock(&self.0.state);
        state.record(
            version,
            process,
            request,
            LineKind::Failure,
            &failure.to_string(),
        );
        drop(state);
        self.0.grown.notify_waiters();
        let Some(exit) = trapped(failure).cloned() else {
            return;
        };
        // Reading a module's names takes milliseconds, or longer if the module is large, so it
        // happens on another thread if there is a runtime.
        let log = self.clone();
        let write = move || {
            let frames: Vec<String> = frames(&exit).collect();
            let mut state = lock(&log.0.state);
            for frame in frames {
                state.record(version, process, request, LineKind::Failure, &frame);
            }
            drop(state);
            log.0.grown.notify_waiters();
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(write)),
            Err(_) => write(),
        }
    }

    /// Logs what processes have written since the last call.
    pub(crate) fn collect(&self) {
        // Hold the lock throughout, so that concurrent collections preserve the order.
        let mut state = lock(&self.0.state);
        let entries = self.0.journal.take();
        let has_grown = state.collect(entries, self.0.journal.lost(), Instant::now());
        drop(state);
        if has_grown {
            self.0.grown.notify_waiters();
        }
    }

    /// Returns the lines that have been kept, oldest first.
    pub fn lines(&self) -> Vec<Arc<Line>> {
        self.collect();
        lock(&self.0.state).lines.iter().cloned().collect()
    }

    /// Returns the lines that have been kept, and a follower for all later ones.
    pub fn follow(&self) -> (Vec<Arc<Line>>, Follower) {
        self.collect();
        let queue = Arc::default();
        let mut state = lock(&self.0.state);
        state.followers.push(Arc::downgrade(&queue));
        let kept = state.lines.iter().cloned().collect();
        drop(state);
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
    /// Waits for the next lines. Returns `None` once the function has been removed. If the reader
    /// is too slow, the oldest lines are dropped, and a note says how many. Dropping the future
    /// does not lose any lines.
    pub async fn next(&mut self) -> Option<Vec<Arc<Line>>> {
        let log = self.log.clone();
        loop {
            // The notification is created before collecting, so that later lines wake this
            // follower.
            let grown = log.0.grown.notified();
            log.collect();
            let is_closed = lock(&log.0.state).is_closed;
            let lines = self.take();
            if !lines.is_empty() {
                return Some(lines);
            }
            if is_closed {
                return None;
            }
            tokio::select! {
                () = grown => {}
                () = log.0.journal.filled() => drop(Timer::after(BATCH_DELAY).await),
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
            let what = match lost {
                1 => "1 line was".to_string(),
                _ => format!("{lost} lines were"),
            };
            let text =
                format!("{what} left out here because lines arrived faster than they were read");
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

impl State {
    /// Converts journal entries into lines. Returns whether there were any.
    fn collect(&mut self, entries: Vec<JournalEntry>, lost: u64, now: Instant) -> bool {
        self.left_out += lost - self.journal_lost;
        self.journal_lost = lost;
        let mut has_grown = false;
        for entry in entries {
            let (kind, bytes) = match &entry.event {
                Event::Output(bytes) => (LineKind::Output, bytes),
                Event::Error(bytes) => (LineKind::Error, bytes),
                Event::Failed(exit) => {
                    // If the process serves a request, its failure is logged when the request ends.
                    // Kills are intentional and not logged.
                    let is_reported = self
                        .assignments
                        .by_process
                        .get(&entry.pid)
                        .is_some_and(|assignment| assignment.reported_by_request)
                        || matches!(exit.kind(), ExitKind::Killed | ExitKind::LinkDied);
                    if !is_reported {
                        let (version, request) = self.served_by(entry.pid);
                        let text = format!("process `{}` {exit}", entry.process);
                        self.record(version, Some(entry.pid), request, LineKind::Failure, &text);
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
            self.note_what_is_left_out(version);
            for piece in pieces(&String::from_utf8_lossy(bytes)) {
                self.record(version, Some(entry.pid), request, kind, piece);
                has_grown = true;
            }
        }
        has_grown
    }

    fn served_by(&self, process: Pid) -> (u64, Option<RequestId>) {
        match self.assignments.by_process.get(&process) {
            Some(assignment) => (assignment.version, Some(assignment.request)),
            None => (self.version, None),
        }
    }

    fn note_what_is_left_out(&mut self, version: u64) {
        let bytes = std::mem::take(&mut self.left_out);
        if bytes > 0 {
            let text = format!(
                "{bytes} bytes of output were left out here because more was written than is kept"
            );
            self.record(version, None, None, LineKind::Note, &text);
        }
    }

    fn record(
        &mut self,
        version: u64,
        process: Option<Pid>,
        request: Option<RequestId>,
        kind: LineKind,
        text: &str,
    ) {
        let text = printable(text).into_owned();
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
        self.size += LINE_OVERHEAD + line.text.len();
        self.lines.push_back(line);
        while self.size > CAPACITY {
            let Some(oldest) = self.lines.pop_front() else {
                return;
            };
            self.size -= LINE_OVERHEAD + oldest.text.len();
        }
    }
}

impl Assignments {
    fn add(&mut self, process: Pid, assignment: Assignment) {
        if self.by_process.insert(process, assignment).is_some() {
            return;
        }
        self.order.push_back(process);
        if self.order.len() > MAX_ASSIGNMENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_process.remove(&oldest);
        }
    }
}

impl Queue {
    fn add(&mut self, line: Arc<Line>) {
        if self.lines.len() == QUEUE_CAPACITY {
            self.lines.pop_front();
            self.lost += 1;
        }
        self.lines.push_back(line);
    }
}

/// Splits output into lines, and splits lines that are too long.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| {
        let mut rest = Some(line);
        std::iter::from_fn(move || {
            let line = rest.take()?;
            if line.len() <= MAX_LINE {
                return Some(line);
            }
            let (piece, remaining) = line.split_at(line.floor_char_boundary(MAX_LINE));
            rest = Some(remaining);
            Some(piece)
        })
    })
}

/// Returns the process's exit if the failure is a trap.
fn trapped(failure: &Failure) -> Option<&Exit> {
    match failure {
        Failure::Ended(exit) | Failure::Limit(exit) => exit.trap().map(|_| exit),
        _ => None,
    }
}

/// Returns a trap's backtrace, one line per frame.
fn frames(exit: &Exit) -> impl Iterator<Item = String> {
    let frames = exit.trap().map(Trap::frames).unwrap_or_default();
    frames
        .into_iter()
        .take(MAX_FRAMES)
        .map(|frame| match frame.offset {
            Some(offset) => format!("  at {} (byte {offset:#x} of the module)", frame.function),
            None => format!("  at {}", frame.function),
        })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves the state consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn timestamp(time: SystemTime) -> String {
    // The time is out of range only if the clock is before the year -9999 or after the year 9999.
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
        Log::new(&Name::new("f").expect("`f` is a valid name"))
    }

    fn output(pid: u64, bytes: &[u8]) -> JournalEntry {
        JournalEntry {
            pid: Pid::from_number(pid),
            process: "_start".into(),
            event: Event::Output(bytes.to_vec()),
        }
    }

    fn texts(lines: &[Arc<Line>]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn t097_output_becomes_lines_without_control_characters() {
        let log = log();
        let written = b"one\r\ntwo \x1b[2J\xff\n\nend";
        lock(&log.0.state).collect(vec![output(1, written)], 0, Instant::now());
        assert_eq!(
            texts(&log.lines()),
            ["one", "two \\u{1b}[2J\u{fffd}", "", "end"]
        );
    }

    #[test]
    fn t097_an_endless_line_is_split() {
        let text = "é".repeat(3 * MAX_LINE);
        let lengths: Vec<_> = pieces(&text).map(str::len).collect();
        assert_eq!(lengths.iter().sum::<usize>(), text.len());
        assert!(
            lengths.iter().all(|length| *length <= MAX_LINE),
            "{lengths:?}"
        );
    }

    #[test]
    fn t181_a_flood_of_output_is_limited_and_reported() {
        let log = log();
        let now = Instant::now();
        let piece = vec![b'x'; JOURNAL_CAPACITY];
        for _ in 0..100 {
            lock(&log.0.state).collect(vec![output(1, &piece)], 0, now);
        }
        let kept: usize = log.lines().iter().map(|line| line.text.len()).sum();
        assert!(kept <= CAPACITY, "{kept} bytes are kept");
        let later = now + Duration::from_secs(1);
        lock(&log.0.state).collect(vec![output(1, b"after it")], 0, later);
        let lines = log.lines();
        let [.., note, last] = &lines[..] else {
            panic!("there are at least two lines")
        };
        assert_eq!(note.kind, LineKind::Note);
        let left_out = 100 * JOURNAL_CAPACITY as u64 - RATE;
        assert!(
            note.text.starts_with(&format!("{left_out} bytes")),
            "{}",
            note.text
        );
        assert_eq!(last.text, "after it");
    }

    #[test]
    fn a_line_names_the_request_that_its_process_serves() {
        let log = log();
        let request = RequestId::next();
        log.replaced(7);
        log.serves(Pid::from_number(1), 6, request);
        lock(&log.0.state).collect(
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
    fn a_failure_that_no_request_reports_is_logged() {
        let log = log();
        let (serves, works) = (Pid::from_number(1), Pid::from_number(2));
        log.serves(serves, 1, RequestId::next());
        log.works_for(works, 1, RequestId::next());
        let entry = |pid, exit| JournalEntry {
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
        lock(&log.0.state).collect(entries, 0, Instant::now());
        let expected = [
            "process `run` exited with status 2",
            "process `run` exited with status 3",
        ];
        assert_eq!(texts(&log.lines()), expected);
    }

    #[test]
    fn the_number_of_assignments_is_limited() {
        let mut assignments = Assignments::default();
        for pid in 0..2 * MAX_ASSIGNMENTS as u64 {
            for version in [1, 2] {
                assignments.add(
                    Pid::from_number(pid),
                    Assignment {
                        version,
                        request: RequestId::next(),
                        reported_by_request: true,
                    },
                );
            }
        }
        assert_eq!(
            (assignments.by_process.len(), assignments.order.len()),
            (MAX_ASSIGNMENTS, MAX_ASSIGNMENTS)
        );
    }

    #[test]
    fn a_follower_that_does_not_read_loses_the_oldest_lines_and_learns_how_many() {
        let log = log();
        let (kept, mut follower) = log.follow();
        assert!(kept.is_empty());
        for number in 0..QUEUE_CAPACITY + 10 {
            lock(&log.0.state).record(1, None, None, LineKind::Output, &number.to_string());
        }
        let lines = follower.take();
        assert_eq!(lines.len(), QUEUE_CAPACITY + 1);
        assert!(lines[0].text.starts_with("10 lines"), "{}", lines[0].text);
        assert_eq!(lines[1].text, "10");
    }

    #[test]
    fn a_dropped_follower_is_forgotten() {
        let log = log();
        drop(log.follow());
        lock(&log.0.state).record(1, None, None, LineKind::Output, "x");
        assert!(lock(&log.0.state).followers.is_empty());
    }
}
