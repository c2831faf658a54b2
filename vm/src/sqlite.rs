//! Guest databases.
//!
//! A [`Connection`] is a process's handle to a database. Operations that may wait for a disk or a
//! query run on threads for blocking work, of which each program can use only a limited number at a
//! time. The process waits for the operation. If the process ends in the meantime, the query is
//! stopped and the database is closed on that thread. The modules `rules`, `database` and `heap`
//! determine what SQL may do and what SQLite may consume. The module `vfs` ensures that SQLite
//! accesses only the opened database's files.

mod control;
mod database;
mod functions;
mod heap;
mod parameters;
mod patterns;
mod rules;
mod vfs;
mod weight;
mod work;

pub(crate) use database::{Database, Location, MAX_LIST, MAX_SQL, Permits, Step};
pub(crate) use heap::Held;

use crate::environment::HostMemory;
use crate::pauses::Pauses;
use crate::unblock::unblock;
use async_channel::{Receiver, Sender};
use async_lock::Semaphore;
use control::Control;
use database::{SMALL, Sql};
use heap::Heap;
use rusqlite::ffi;
use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};
use work::Phase;

/// The maximum number of calls that one program's processes can run concurrently. Further calls
/// wait their turn.
const MAX_CONCURRENT_CALLS: usize = 16;

/// The minimum and maximum delay before a call to a locked database is retried.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// The error from a failed SQLite call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SqlError {
    /// SQLite's extended result code.
    pub(crate) code: i32,
    pub(crate) message: String,
}

/// The maximum length of an error message, in bytes. Messages can quote names chosen by the guest.
const MAX_MESSAGE: usize = 2048;

impl SqlError {
    fn new(code: i32, message: impl Into<String>) -> SqlError {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
            message.shrink_to_fit();
        }
        SqlError { code, message }
    }

    /// Returns the error for a guest that reads or binds more in one call than could ever make
    /// sense.
    pub(crate) fn too_large(what: &str) -> SqlError {
        SqlError::new(
            ffi::SQLITE_TOOBIG,
            format!("{what} can have at most {MAX_LIST} bytes; handle fewer values at once"),
        )
    }

    fn no_statement() -> SqlError {
        SqlError::new(ffi::SQLITE_MISUSE, "the statement has been released")
    }

    pub(crate) fn too_long() -> SqlError {
        SqlError::new(
            ffi::SQLITE_TOOBIG,
            format!("an SQL string can have at most {MAX_SQL} bytes"),
        )
    }

    /// Returns SQLite's primary result code, which is never 0, 100 or 101.
    pub(crate) fn primary(&self) -> u32 {
        (self.code & 0xff).cast_unsigned()
    }

    /// Returns whether another connection has locked the database and may yet unlock it.
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

/// Limits how many calls one program's processes run concurrently.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Turns {
        Turns(Arc::new(Semaphore::new(MAX_CONCURRENT_CALLS)))
    }
}

/// State shared by all of a process's connections: SQLite's memory, the limit on concurrent calls,
/// and the notification that the last connection has closed.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    heap: Arc<Heap>,
    turns: Turns,
    closing: Sender<Infallible>,
}

impl Account {
    /// Creates an account, and a channel that is closed once the last connection is closed and the
    /// account is dropped. SQLite's memory is limited like the process's own memory and counts as
    /// held by the host for the process.
    pub(crate) fn new(
        memory: u64,
        held: &HostMemory,
        turns: &Turns,
    ) -> (Account, Receiver<Infallible>) {
        let (closing, closed) = async_channel::bounded(1);
        let account = Account {
            heap: Heap::new(memory, held),
            turns: turns.clone(),
            closing,
        };
        (account, closed)
    }
}

/// Stops the work on the other thread when dropped. `mem::forget` disarms the guard once that work
/// has ended.
struct StopOnDrop<'a>(&'a Control);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A database on another thread. The field order ensures that the database is closed before the
/// notification is sent.
struct Lent {
    database: Database,
    closing: Sender<Infallible>,
}

/// Values that a guest reads or binds.
pub(crate) struct Values {
    pub(crate) bytes: Vec<u8>,
    _held: Held,
}

impl Values {
    pub(crate) fn new(bytes: Vec<u8>, held: Held) -> Values {
        Values { bytes, _held: held }
    }
}

/// A process's handle to a database.
pub(crate) struct Connection {
    /// `None` while another thread is working with the database.
    database: Option<Database>,
    control: Arc<Control>,
    heap: Arc<Heap>,
    turns: Turns,
    /// The error from the most recent call that failed.
    failed: Option<SqlError>,
    /// Held until the database is closed.
    closing: Sender<Infallible>,
}

impl Connection {
    /// Opens a database.
    pub(crate) async fn open(
        location: Location,
        account: &Account,
    ) -> Result<Connection, SqlError> {
        let control = Arc::new(Control::new());
        let turn = account.turns.0.acquire_arc().await;
        let (heap, watched, closing) = (
            account.heap.clone(),
            control.clone(),
            account.closing.clone(),
        );
        let stop = StopOnDrop(&control);
        let opened = unblock(move || {
            let _turn = turn;
            Ok::<Lent, SqlError>(Lent {
                database: Database::open(location, &watched, &heap)?,
                closing,
            })
        })
        .await;
        mem::forget(stop);
        let Lent { database, closing } = opened?;
        Ok(Connection {
            database: Some(database),
            control,
            heap: account.heap.clone(),
            turns: account.turns.clone(),
            failed: None,
            closing,
        })
    }

    /// Sets how many SQLite instructions all subsequent calls may run in total.
    pub(crate) fn allow(&self, instructions: u64) {
        self.control.allow(instructions);
    }

    /// Returns how many of the allowed instructions remain.
    pub(crate) fn allowed(&self) -> u64 {
        self.control.allowed()
    }

    /// Runs `work` with the database on a thread for blocking work.
    ///
    /// Dropping the future stops the query and closes the database.
    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Database) -> T + Send + 'static,
    ) -> T {
        let turn = self.turns.0.acquire_arc().await;
        let database = self
            .database
            .take()
            .expect("a process makes one call at a time");
        let mut lent = Lent {
            database,
            closing: self.closing.clone(),
        };
        let stop = StopOnDrop(&self.control);
        let (lent, result) = unblock(move || {
            let _turn = turn;
            let result = lent.database.enter(Phase::Running, work);
            (lent, result)
        })
        .await;
        mem::forget(stop);
        self.database = Some(lent.database);
        result
    }

    /// Executes statements until one fails. The effects of earlier statements remain.
    pub(crate) async fn execute(&mut self, sql: &str) -> Result<(), SqlError> {
        let sql = self.parsed(sql)?;
        let (mut done, mut retry) = (0, Retry::new(&self.control));
        loop {
            let sql = sql.clone();
            let (end, result) = self
                .work(move |database| database.execute(&sql, done))
                .await;
            done = end;
            if !retry.wait_after(&result).await {
                return self.note(result);
            }
        }
    }

    /// Prepares the first statement of `sql` under an id. If `is_alone` is set, a second statement
    /// is an error.
    pub(crate) async fn prepare(
        &mut self,
        id: u64,
        sql: &str,
        is_alone: bool,
    ) -> Result<(), SqlError> {
        let sql = self.parsed(sql)?;
        let mut retry = Retry::new(&self.control);
        loop {
            let sql = sql.clone();
            let result = self
                .work(move |database| database.prepare(id, &sql, is_alone))
                .await;
            if !retry.wait_after(&result).await {
                return self.note(result);
            }
        }
    }

    /// Steps a statement.
    pub(crate) async fn step(&mut self, id: u64) -> Result<Step, SqlError> {
        // Restarting the statement after it has yielded a row would yield that row again.
        let is_begun = self.database().has_row(id);
        let mut retry = Retry::new(&self.control);
        loop {
            let result = self.work(move |database| database.step(id)).await;
            if is_begun || !retry.wait_after(&result).await {
                return self.note(result);
            }
        }
    }

    /// Resets a statement to its beginning.
    pub(crate) async fn reset(&mut self, id: u64) {
        // Resetting a statement releases its locks and rolls back unfinished writes, which requires
        // disk access.
        let takes_long = self.database().has_row(id);
        self.close_with(takes_long, move |database| database.reset(id))
            .await;
    }

    /// Releases a statement.
    pub(crate) async fn finalize(&mut self, id: u64) {
        let takes_long = self.database().has_row(id) || self.database().is_large(id);
        self.close_with(takes_long, move |database| database.finalize(id))
            .await;
    }

    /// Does work that is needed even if nothing is waiting for the result any more.
    async fn close_with(
        &mut self,
        takes_long: bool,
        work: impl FnOnce(&mut Database) + Send + 'static,
    ) {
        if takes_long {
            self.work(move |database| database.enter(Phase::Closing, work))
                .await;
        } else {
            self.database_mut().enter(Phase::Closing, work);
        }
    }

    /// Binds a list of values.
    pub(crate) async fn bind(&mut self, id: u64, list: Values) -> Result<(), SqlError> {
        let Values { bytes: list, _held } = list;
        let bound = if list.len() + self.database().size_of_sql(id) <= SMALL {
            self.database_mut()
                .enter(Phase::Running, |database| database.bind(id, &list))
        } else {
            self.work(move |database| database.bind(id, &list)).await
        };
        self.note(bound)
    }

    /// Resets a statement to its beginning and replaces its bound values with those in a list.
    pub(crate) async fn bind_anew(&mut self, id: u64, list: Values) -> Result<(), SqlError> {
        self.reset(id).await;
        self.database_mut()
            .enter(Phase::Closing, |database| database.clear_values(id));
        self.bind(id, list).await
    }

    /// Returns the list of column names, in the format that guests read.
    pub(crate) async fn column_names(&mut self, id: u64) -> Result<Values, SqlError> {
        let size = self.database().size_of_names(id);
        self.values(size, move |database| database.column_names(id))
            .await
    }

    /// Returns a value of the current row, in the format that guests read, or `NULL` if there is no
    /// row. Returns `None` if there is no such column.
    pub(crate) async fn column(
        &mut self,
        id: u64,
        column: u32,
    ) -> Result<Option<Values>, SqlError> {
        if column >= self.database().column_count(id) {
            return Ok(None);
        }
        // A value is never larger than its row.
        let size = self.database().size_of_row(id).min(MAX_LIST);
        self.values(size, move |database| database.column(id, column))
            .await
            .map(Some)
    }

    /// Returns the list of the current row's values, in the format that guests read.
    pub(crate) async fn row(&mut self, id: u64) -> Result<Values, SqlError> {
        let size = self.database().size_of_row(id);
        self.values(size, move |database| database.row(id)).await
    }

    /// Reads values of at most `size` bytes.
    async fn values(
        &mut self,
        size: usize,
        read: impl FnOnce(&mut Database) -> Vec<u8> + Send + 'static,
    ) -> Result<Values, SqlError> {
        if size > MAX_LIST {
            return self.fail(SqlError::too_large("a row"));
        }
        let held = self.hold(size)?;
        let bytes = if size <= SMALL {
            self.database_mut().enter(Phase::Running, read)
        } else {
            self.work(read).await
        };
        Ok(Values::new(bytes, held))
    }

    /// Counts memory that the host is about to use for the process's databases.
    pub(crate) fn hold(&mut self, size: usize) -> Result<Held, SqlError> {
        let held = self.heap.hold(size);
        self.note(held.ok_or_else(|| SqlError::new(ffi::SQLITE_NOMEM, "out of memory")))
    }

    /// Checks an SQL string and prepares it for SQLite.
    fn parsed(&mut self, sql: &str) -> Result<Arc<Sql>, SqlError> {
        let sql = Sql::new(sql);
        self.note(sql).map(Arc::new)
    }

    /// Sets how long to wait for a locked database.
    pub(crate) fn set_busy_timeout(&self, milliseconds: u64) {
        self.control.set_busy_timeout(milliseconds);
    }

    /// Returns the error from the most recent call that failed.
    pub(crate) fn failed(&self) -> Option<&SqlError> {
        self.failed.as_ref()
    }

    /// Closes the database and waits until it is closed.
    pub(crate) async fn close(mut self) {
        if let Some(database) = self.database.take() {
            unblock(move || drop(database)).await;
        }
    }

    /// Records an error detected before SQLite was called, as if SQLite had reported it.
    pub(crate) fn fail<T>(&mut self, error: SqlError) -> Result<T, SqlError> {
        self.note(Err(error))
    }

    /// Records the error from a failed call.
    fn note<T>(&mut self, result: Result<T, SqlError>) -> Result<T, SqlError> {
        self.failed = result.as_ref().err().cloned();
        result
    }

    /// Returns the database, for calls that only read memory.
    pub(crate) fn database(&self) -> &Database {
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
    /// Closes the database on a thread for blocking work, because uncommitted changes are rolled
    /// back on disk.
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            let lent = Lent {
                database,
                closing: self.closing.clone(),
            };
            blocking::unblock(move || drop(lent)).detach();
        }
    }
}

/// Retries a call while another connection has the database locked. The process waits without
/// blocking a thread, because the other connection may need that thread to unlock the database.
struct Retry {
    end: Option<Instant>,
    pauses: Pauses,
}

impl Retry {
    fn new(control: &Control) -> Retry {
        let timeout = Duration::from_millis(control.busy_timeout());
        // A deadline beyond the clock's range is never reached.
        Retry {
            end: Instant::now().checked_add(timeout),
            pauses: Pauses::new(RETRY_DELAYS.0, RETRY_DELAYS.1),
        }
    }

    /// If a retry may help, waits for the delay and returns true.
    async fn wait_after<T>(&mut self, result: &Result<T, SqlError>) -> bool {
        let is_over = self.end.is_some_and(|end| Instant::now() >= end);
        if is_over || !result.as_ref().is_err_and(SqlError::is_busy) {
            return false;
        }
        self.pauses.pause().await;
        true
    }
}
