//! Databases of guests.
//!
//! A [`Connection`] is what a process holds of a database. Whatever may take as long as a disk or a query does is done on a
//! thread for what blocks, only so much at a time for one program; the process waits for it, and where the process ends
//! meanwhile the query is stopped and the database closed there. What SQL may do and what SQLite may take are in `rules`,
//! `database` and `heap`; that it reaches no other file is in `vfs`.

mod database;
mod functions;
mod heap;
mod rules;
mod vfs;

pub(crate) use database::{MAX_SQL, Place, Step};

use crate::environment::Quota;
use async_channel::{Receiver, Sender};
use async_io::Timer;
use async_lock::Semaphore;
use database::{Database, LOOK};
use heap::Heap;
use lunatic_process::LimitReached;
use rusqlite::ffi;
use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many calls of one program's processes run at the same time; the others wait for their turn.
const AT_ONCE: usize = 16;

/// The shortest and the longest pause before a locked database is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// What a call of SQLite's failed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SqlError {
    /// SQLite's extended result code.
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl SqlError {
    fn new(code: i32, message: impl Into<String>) -> SqlError {
        SqlError {
            code,
            message: message.into(),
        }
    }

    fn no_statement() -> SqlError {
        SqlError::new(ffi::SQLITE_MISUSE, "the statement was given back")
    }

    pub(crate) fn too_long() -> SqlError {
        SqlError::new(
            ffi::SQLITE_TOOBIG,
            format!("a text of SQL has at most {MAX_SQL} bytes"),
        )
    }

    /// Returns SQLite's primary result code, which is never 0, 100 or 101.
    pub(crate) fn primary(&self) -> u32 {
        (self.code & 0xff).cast_unsigned()
    }

    /// Whether another connection has the database locked and may let it go.
    fn is_busy(&self) -> bool {
        self.code & 0xff == ffi::SQLITE_BUSY
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<rusqlite::Error> for SqlError {
    fn from(error: rusqlite::Error) -> SqlError {
        let code = error
            .sqlite_extended_error_code()
            .unwrap_or(ffi::SQLITE_ERROR);
        SqlError::new(code, error.to_string())
    }
}

/// The turns of one program's processes.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Turns {
        Turns(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// What all connections of one process have together: the memory that SQLite takes, the turns, and who is told when the last
/// of them is closed.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    heap: Arc<Heap>,
    turns: Turns,
    closing: Sender<Infallible>,
}

impl Account {
    /// Makes an account, and what hears the end of it: it is closed when the last connection is and the account is gone.
    /// Memory is bounded as the process's own is, and counts for the environment.
    pub(crate) fn new(
        memory: u64,
        quota: &Arc<Quota>,
        turns: &Turns,
    ) -> Result<(Account, Receiver<Infallible>), LimitReached> {
        let (closing, closed) = async_channel::bounded(1);
        Ok((
            Account {
                heap: Heap::new(memory, quota)?,
                turns: turns.clone(),
                closing,
            },
            closed,
        ))
    }
}

/// How a connection and those who work with it tell each other to stop.
#[derive(Debug, Default)]
struct Control {
    /// Set where nobody waits for the answer any more.
    is_stopped: AtomicBool,
    /// How many of SQLite's instructions the call may still run; the largest number is no bound.
    allowed: AtomicU64,
    /// What a statement was refused, by the rules.
    refusal: Mutex<Option<String>>,
    /// How long a locked database is waited for, in milliseconds.
    busy_timeout: AtomicU64,
}

impl Control {
    /// Counts some more instructions; says whether it is over.
    fn is_over(&self) -> bool {
        // Relaxed: whoever stops a call waits for nothing that it wrote.
        if self.is_stopped.load(Ordering::Relaxed) {
            return true;
        }
        let left = self.allowed.load(Ordering::Relaxed);
        if left == u64::MAX {
            return false;
        }
        // Only the call itself counts, so that nothing comes between.
        let left = left.saturating_sub(LOOK);
        self.allowed.store(left, Ordering::Relaxed);
        left == 0
    }

    fn refuse(&self, what: String) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    fn take_refusal(&self) -> Option<String> {
        self.refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn set_busy_timeout(&self, milliseconds: u64) {
        self.busy_timeout.store(milliseconds, Ordering::Relaxed);
    }
}

/// Stops what runs on another thread, unless it has come to its end.
struct Stop<'a>(&'a Control);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// A database on another thread. It is closed before whoever waits for that is told: that is the order of the fields.
struct Away {
    database: Database,
    closing: Sender<Infallible>,
}

/// What a process holds of a database.
pub(crate) struct Connection {
    /// Away while it is worked with.
    database: Option<Database>,
    control: Arc<Control>,
    turns: Turns,
    /// What the last call failed with.
    failed: Option<SqlError>,
    /// Held until the database is closed.
    closing: Sender<Infallible>,
}

impl Connection {
    /// Opens a database.
    pub(crate) async fn open(place: Place, account: &Account) -> Result<Connection, SqlError> {
        let control = Arc::new(Control {
            allowed: AtomicU64::new(u64::MAX),
            ..Control::default()
        });
        let turn = account.turns.0.acquire_arc().await;
        let (heap, watched, closing) = (
            account.heap.clone(),
            control.clone(),
            account.closing.clone(),
        );
        let stop = Stop(&control);
        let opened = blocking::unblock(move || {
            let _turn = turn;
            Ok::<Away, SqlError>(Away {
                database: Database::open(place, &watched, &heap)?,
                closing,
            })
        })
        .await;
        mem::forget(stop);
        let Away { database, closing } = opened?;
        Ok(Connection {
            database: Some(database),
            control,
            turns: account.turns.clone(),
            failed: None,
            closing,
        })
    }

    /// Lets the calls that follow run so many of SQLite's instructions together.
    pub(crate) fn allow(&self, instructions: u64) {
        self.control.allowed.store(instructions, Ordering::Relaxed);
    }

    /// Returns how many of SQLite's instructions are left of those.
    pub(crate) fn allowed(&self) -> u64 {
        self.control.allowed.load(Ordering::Relaxed)
    }

    /// Works with the database on a thread for what blocks.
    ///
    /// Dropping the future stops the query there and closes the database.
    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Database) -> T + Send + 'static,
    ) -> T {
        let turn = self.turns.0.acquire_arc().await;
        let database = self
            .database
            .take()
            .expect("a process makes one call at a time");
        let mut away = Away {
            database,
            closing: self.closing.clone(),
        };
        let stop = Stop(&self.control);
        let (away, result) = blocking::unblock(move || {
            let _turn = turn;
            let result = away.database.enter(work);
            (away, result)
        })
        .await;
        mem::forget(stop);
        self.database = Some(away.database);
        result
    }

    /// Executes statements until one fails. Those before it have happened.
    pub(crate) async fn execute(&mut self, sql: &str) -> Result<(), SqlError> {
        let sql: Arc<str> = sql.into();
        let (mut done, mut patience) = (0, Patience::new(&self.control));
        loop {
            let rest = sql.clone();
            let (more, result) = self
                .work(move |database| database.execute(&rest[done..]))
                .await;
            done += more;
            if !patience.wait_after(&result).await {
                return self.note(result);
            }
        }
    }

    /// Prepares the first statement of a text, under an id. Where it is to be alone, more than one is a failure.
    pub(crate) async fn prepare(
        &mut self,
        id: u64,
        sql: &str,
        is_alone: bool,
    ) -> Result<(), SqlError> {
        let sql: Arc<str> = sql.into();
        let mut patience = Patience::new(&self.control);
        loop {
            let sql = sql.clone();
            let result = self
                .work(move |database| database.prepare(id, &sql, is_alone))
                .await;
            if !patience.wait_after(&result).await {
                return self.note(result);
            }
        }
    }

    /// Steps a statement.
    pub(crate) async fn step(&mut self, id: u64) -> Result<Step, SqlError> {
        // Begun again after it has yielded a row, it would yield that again.
        let is_begun = self.database().has_row(id);
        let mut patience = Patience::new(&self.control);
        loop {
            let result = self.work(move |database| database.step(id)).await;
            if is_begun || !patience.wait_after(&result).await {
                return self.note(result);
            }
        }
    }

    /// Takes a statement back to its beginning.
    pub(crate) async fn reset(&mut self, id: u64) {
        // What it has locked or begun to write is let go of, which is work for a disk.
        if self.database().has_row(id) {
            self.work(move |database| database.reset(id)).await;
        } else {
            self.database_mut().enter(|database| database.reset(id));
        }
    }

    /// Gives a statement back.
    pub(crate) async fn finalize(&mut self, id: u64) {
        self.reset(id).await;
        self.database_mut().enter(|database| database.finalize(id));
    }

    /// Binds a list of values.
    pub(crate) fn bind(&mut self, id: u64, list: &[u8]) -> Result<(), SqlError> {
        let bound = self
            .database_mut()
            .enter(|database| database.bind(id, list));
        self.note(bound)
    }

    /// Takes a statement back to its beginning and binds a list of values in place of those that it has.
    pub(crate) async fn bind_anew(&mut self, id: u64, list: &[u8]) -> Result<(), SqlError> {
        self.reset(id).await;
        self.database_mut()
            .enter(|database| database.forget_values(id));
        self.bind(id, list)
    }

    pub(crate) fn column_count(&self, id: u64) -> u32 {
        self.database().column_count(id)
    }

    pub(crate) fn column_name(&self, id: u64, column: u32) -> Option<String> {
        self.database().column_name(id, column)
    }

    /// Returns the list of the columns' names, as it is laid out at the boundary.
    pub(crate) fn column_names(&self, id: u64) -> Vec<u8> {
        self.database().column_names(id)
    }

    /// Returns a value of the row at hand, as it is laid out at the boundary; `NULL` where there is no row.
    pub(crate) fn column(&mut self, id: u64, column: u32) -> Option<Vec<u8>> {
        self.database_mut()
            .enter(|database| database.column(id, column))
    }

    /// Returns the list of the values of the row at hand, as it is laid out at the boundary.
    pub(crate) fn row(&mut self, id: u64) -> Vec<u8> {
        self.database_mut().enter(|database| database.row(id))
    }

    /// Returns how many rows the last statement that changes rows has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.database().changes()
    }

    pub(crate) fn last_insert_rowid(&self) -> i64 {
        self.database().last_insert_rowid()
    }

    /// Sets how long a locked database is waited for.
    pub(crate) fn set_busy_timeout(&self, milliseconds: u64) {
        self.control.set_busy_timeout(milliseconds);
    }

    /// Returns what the last call failed with.
    pub(crate) fn failed(&self) -> Option<&SqlError> {
        self.failed.as_ref()
    }

    /// Closes the database, and waits for that.
    pub(crate) async fn close(mut self) {
        if let Some(database) = self.database.take() {
            blocking::unblock(move || drop(database)).await;
        }
    }

    /// Remembers a failure that was found before SQLite was asked, as if it had been.
    pub(crate) fn fail<T>(&mut self, error: SqlError) -> Result<T, SqlError> {
        self.note(Err(error))
    }

    /// Remembers what a call failed with.
    fn note<T>(&mut self, result: Result<T, SqlError>) -> Result<T, SqlError> {
        self.failed = result.as_ref().err().cloned();
        result
    }

    fn database(&self) -> &Database {
        self.database
            .as_ref()
            .expect("a process makes one call at a time")
    }

    fn database_mut(&mut self) -> &mut Database {
        self.database
            .as_mut()
            .expect("a process makes one call at a time")
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl Drop for Connection {
    /// Closes the database on a thread for what blocks: what was not committed is undone on the disk.
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            let away = Away {
                database,
                closing: self.closing.clone(),
            };
            blocking::unblock(move || drop(away)).detach();
        }
    }
}

/// How long is waited for a database that another connection has locked. The process waits, not a thread: who is to unlock
/// the database may need the thread.
struct Patience {
    end: Option<Instant>,
    pause: Duration,
}

impl Patience {
    fn new(control: &Control) -> Patience {
        let timeout = Duration::from_millis(control.busy_timeout.load(Ordering::Relaxed));
        // A time that no clock can tell has no end.
        Patience {
            end: Instant::now().checked_add(timeout),
            pause: PAUSES.0,
        }
    }

    /// Waits where another try may help, and says whether it may.
    async fn wait_after<T>(&mut self, result: &Result<T, SqlError>) -> bool {
        let is_over = self.end.is_some_and(|end| Instant::now() >= end);
        if is_over || !result.as_ref().is_err_and(SqlError::is_busy) {
            return false;
        }
        Timer::after(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
        true
    }
}
