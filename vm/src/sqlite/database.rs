//! An open database and its statements, with SQLite set up for untrusted SQL.
//!
//! Functions here may take as long as a disk access and must be called on a thread for blocking
//! work, except those that only read memory, such as those that return names, counts and the
//! current row.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use super::control::{CHECK_INTERVAL, Control, PLANNER_CHECK_INTERVAL};
use super::heap::{Heap, Held};
use super::parameters::Parameters;
use super::weight::{self, Weight};
use super::work::{Phase, Work};
use super::{SqlError, functions, rules, vfs};
use crate::environment::Permit;
use lunatic_abi::sqlite::{Key, List, Value, write_length, write_text, write_value};
use rusqlite::config::DbConfig;
use rusqlite::hooks::AuthContext;
use rusqlite::limits::Limit;
use rusqlite::{OpenFlags, ffi};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::Arc;

/// The maximum length of an SQL string, in bytes.
pub(crate) const MAX_SQL: usize = 1 << 20;

/// The maximum size of a string, a blob or a table row, in bytes. Because SQL functions cannot be
/// interrupted, this also limits how long a function can take. Long statements can only use shorter
/// values, as the module `weight` determines.
pub(super) const MAX_LENGTH: i32 = 1 << 20;

/// Values for SQLite's own limits, as protection against malicious statements.
const LIMITS: [(Limit, i32); 13] = [
    (Limit::SQLITE_LIMIT_LENGTH, MAX_LENGTH),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL as i32),
    (Limit::SQLITE_LIMIT_COLUMN, 2_000),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 100),
    (Limit::SQLITE_LIMIT_VDBE_OP, 1_000_000),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 100),
    // This allows for the nameless database that `VACUUM` creates.
    (Limit::SQLITE_LIMIT_ATTACHED, 1),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 32_766),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 100),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    (Limit::SQLITE_LIMIT_PARSER_DEPTH, 200),
];

/// The maximum length of a `LIKE` or `GLOB` pattern, in bytes.
pub(super) const MAX_PATTERN: i32 = 256;

/// The maximum size of a list of values or names that a guest reads, in bytes. Expressions can make
/// a row of many values far larger than the stored data.
pub(crate) const MAX_LIST: usize = 8 << 20;

/// The maximum number of times that a step prepares a statement again because the schema keeps
/// changing.
const MAX_PREPARATIONS: u32 = 50;

/// The maximum size that is handled without leaving the worker, in bytes.
pub(super) const SMALL: usize = 64 << 10;

/// The location of a database.
#[derive(Debug)]
pub(crate) enum Location {
    /// In memory, private to this connection.
    Memory,
    /// A file in a directory.
    File {
        /// The directory. It stays open as long as the database, because all of the database's
        /// files are accessed through it.
        directory: File,
        /// The path to the file, leading through the open directory if the system supports that.
        path: PathBuf,
        /// Whether the directory may be changed.
        is_writable: bool,
        permits: Permits,
    },
}

/// The permits for the descriptors that a database in a file takes from its environment.
#[derive(Debug)]
pub(crate) struct Permits {
    /// For the file. As long as any connection of this process has a lock on the file, SQLite keeps
    /// the descriptors of closed connections open, because closing them would release the lock. The
    /// permit is held until SQLite has closed the descriptor.
    pub(crate) file: Permit,
    /// For the directory and the journal, which are closed with the connection.
    pub(crate) others: Permit,
}

/// The encoded size of a length in a list, and the maximum encoded size of a value's header or of a
/// number with its header.
const LENGTH_SIZE: usize = 8;
const MAX_HEADER: usize = 12;

/// The text of statements, NUL-terminated so that SQLite does not have to copy it.
#[derive(Debug)]
pub(super) struct Sql(String);

impl Sql {
    pub(super) fn new(text: &str) -> Result<Sql, SqlError> {
        if text.contains('\0') {
            return Err(SqlError::new(
                ffi::SQLITE_ERROR,
                "the text contains a zero byte",
            ));
        }
        Ok(Sql(format!("{text}\0")))
    }

    fn len(&self) -> usize {
        self.0.len() - 1
    }
}

/// An open database.
pub(crate) struct Database {
    /// Taken only when the database is dropped.
    inner: Option<Inner>,
    work: Arc<Work>,
}

struct Inner {
    /// The order of the fields ensures that statements are finalized before the connection is
    /// closed.
    statements: BTreeMap<u64, Statement>,
    connection: rusqlite::Connection,
    /// The directory, and the permit for it and for the journal.
    _directory: Option<(File, Permit)>,
}

/// A prepared statement.
struct Statement {
    raw: NonNull<ffi::sqlite3_stmt>,
    /// The maximum length of the values that the statement uses, in bytes.
    longest: i32,
    /// The size of the current row's value list, in bytes.
    row: Option<usize>,
    /// The size of the column name list, in bytes.
    names: usize,
    /// The sizes, in bytes, of the text and of the program that SQLite compiled from it.
    text: usize,
    memory: usize,
    /// The parameters by name. Set when a parameter is first bound by name.
    parameters: Option<(Parameters, Held)>,
}

// SAFETY: SQLite does not care which thread calls it. A statement is used only through `Database`,
// which also owns the statement's connection. Only one thread at a time holds the `Database`, and
// it lends out neither the statement nor the connection.
unsafe impl Send for Statement {}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: the statement is finalized only here, and its connection is still open, because
        // the connection follows the statements in `Inner`. The call returns the last step's error
        // again, which has already been reported.
        unsafe { ffi::sqlite3_finalize(self.raw.as_ptr()) };
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let inner = self.inner.take();
        self.work.enter(Phase::Closing, || drop(inner));
    }
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is a row.
    Row,
    /// The statement has completed.
    Done,
}

impl Database {
    pub(super) fn open(
        location: Location,
        control: &Arc<Control>,
        heap: &Arc<Heap>,
    ) -> Result<Database, SqlError> {
        let (path, is_writable, directory, permit) = match location {
            Location::Memory => (PathBuf::from(":memory:"), true, None, None),
            Location::File {
                directory,
                path,
                is_writable,
                permits: Permits { file, others },
            } => (
                path,
                is_writable,
                Some((directory, others)),
                Some(Arc::new(file)),
            ),
        };
        let work = Arc::new(Work {
            heap: heap.clone(),
            control: control.clone(),
            file: directory
                .as_ref()
                .and_then(|_| CString::new(path.as_os_str().as_encoded_bytes()).ok()),
            permit,
        });
        work.clone().enter(Phase::Running, || {
            let access = match is_writable {
                true => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
                false => OpenFlags::SQLITE_OPEN_READ_ONLY,
            };
            let name = vfs::name(is_writable)
                .map_err(|code| SqlError::new(code, "SQLite cannot access files"))?;
            // The guest must not learn the host's path.
            let cannot = |error| {
                SqlError::new(
                    SqlError::from(error).code,
                    "unable to open the database file",
                )
            };
            let connection = rusqlite::Connection::open_with_flags_and_vfs(
                path,
                access | OpenFlags::SQLITE_OPEN_NO_MUTEX,
                name,
            )
            .map_err(cannot)?;
            let inner = Inner {
                statements: BTreeMap::new(),
                connection,
                _directory: directory,
            };
            let mut database = Database {
                inner: Some(inner),
                work,
            };
            database.secure()?;
            Ok(database)
        })
    }

    /// Disables features that untrusted SQL must not have.
    fn secure(&mut self) -> Result<(), SqlError> {
        let control = self.work.control.clone();
        let connection = &mut self.inner_mut().connection;
        connection.busy_timeout(std::time::Duration::ZERO)?;
        for (limit, bound) in LIMITS {
            connection.set_limit(limit, bound)?;
        }
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        // This is SQLite's own default, but the library that builds SQLite here enables foreign
        // keys.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
        // Sorting and temporary tables stay in memory, which is limited. This pragma does not read
        // any file.
        connection.execute_batch("PRAGMA temp_store = MEMORY")?;
        // SAFETY: the connection is open. Virtual tables such as `fts5` and `rtree` cannot be
        // interrupted. SQLite adds the JSON and pragma tables again when they are first used.
        unsafe { ffi::sqlite3_drop_modules(connection.handle(), std::ptr::null_mut()) };
        functions::replace_slow_ones(connection).map_err(|code| {
            SqlError::new(code, "SQLite did not accept the replacement functions")
        })?;
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            rules::authorize(&control, &context)
        }))?;
        self.check_often::<CHECK_INTERVAL>();
        Ok(())
    }

    /// Makes SQLite check every `INTERVAL` instructions, or steps of the planner, whether it has to
    /// stop.
    fn check_often<const INTERVAL: u64>(&mut self) {
        unsafe extern "C" fn check<const INTERVAL: u64>(control: *mut c_void) -> c_int {
            // SAFETY: `check_often` passes this address, and the control outlives the connection.
            let control = unsafe { &*control.cast::<Control>() };
            c_int::from(control.check(INTERVAL))
        }
        let control = Arc::as_ptr(&self.work.control).cast_mut().cast();
        // SAFETY: the connection is open. The control is a part of `work`, which is dropped after
        // the connection.
        unsafe {
            ffi::sqlite3_progress_handler(
                self.inner_mut().connection.handle(),
                INTERVAL as c_int,
                Some(check::<INTERVAL>),
                control,
            );
        }
    }

    /// Runs `work` on behalf of the process that owns the database.
    pub(super) fn enter<T>(&mut self, phase: Phase, work: impl FnOnce(&mut Database) -> T) -> T {
        let current = self.work.clone();
        current.enter(phase, || work(self))
    }

    /// Returns whether releasing a statement takes a long time.
    pub(super) fn is_large(&self, id: u64) -> bool {
        let statement = self.inner().statements.get(&id);
        statement.is_some_and(|statement| statement.memory > SMALL)
    }

    /// Executes statements until one fails, and returns how many bytes of `sql` were processed.
    pub(super) fn execute(&mut self, sql: &Sql, from: usize) -> (usize, Result<(), SqlError>) {
        let mut done = from;
        while done < sql.len() {
            let (statement, length) = match self.parse(sql, done) {
                Ok(parsed) => parsed,
                Err(error) => return (done, Err(error)),
            };
            if let Some(mut statement) = statement {
                loop {
                    match self.advance(&mut statement) {
                        Ok(Step::Row) => {}
                        Ok(Step::Done) => break,
                        Err(error) => return (done, Err(error)),
                    }
                }
            }
            if length == 0 {
                break;
            }
            done += length;
        }
        (sql.len(), Ok(()))
    }

    /// Prepares the first statement of `sql` under an id. If `is_alone` is set, a second statement
    /// is an error.
    pub(super) fn prepare(&mut self, id: u64, sql: &Sql, is_alone: bool) -> Result<(), SqlError> {
        let mut done = 0;
        let mut found = None;
        while done < sql.len() {
            let (statement, length) = self.parse(sql, done)?;
            if statement.is_some() && found.is_some() {
                return Err(SqlError::new(
                    ffi::SQLITE_MISUSE,
                    "there is more than one statement in the text",
                ));
            }
            found = found.or(statement);
            if length == 0 || (found.is_some() && !is_alone) {
                break;
            }
            done += length;
        }
        let none = || SqlError::new(ffi::SQLITE_MISUSE, "there is no statement in the text");
        let mut statement = found.ok_or_else(none)?;
        statement.names = statement.size_of_names();
        statement.text = statement.sql().len();
        statement.memory = statement.memory();
        self.inner_mut().statements.insert(id, statement);
        Ok(())
    }

    /// Parses the first statement of `sql` after the offset `from`, and returns its length. Text
    /// that consists only of whitespace and comments contains no statement.
    fn parse(&mut self, sql: &Sql, from: usize) -> Result<(Option<Statement>, usize), SqlError> {
        let rest = &sql.0.as_bytes()[from..];
        let length = c_int::try_from(rest.len()).map_err(|_| SqlError::too_long())?;
        // Any refusal found later must belong to this statement, so an earlier refusal is
        // discarded.
        self.work.control.begin_statement();
        let (mut raw, mut tail) = (std::ptr::null_mut(), std::ptr::null());
        self.check_often::<PLANNER_CHECK_INTERVAL>();
        let code = self.enter(Phase::Preparing, |database| {
            // SAFETY: the connection is open, and the text, including its NUL byte, has the length
            // that is passed, so SQLite does not copy it. SQLite sets `tail` to an address in the
            // text or to its end, and `raw` to a statement of this connection or to NULL.
            unsafe {
                let connection = database.inner_mut().connection.handle();
                let text = rest.as_ptr().cast::<c_char>();
                ffi::sqlite3_prepare_v3(connection, text, length, 0, &raw mut raw, &raw mut tail)
            }
        });
        self.check_often::<CHECK_INTERVAL>();
        let mut statement = NonNull::new(raw).map(|raw| Statement {
            raw,
            longest: MAX_LENGTH,
            row: None,
            names: 0,
            text: 0,
            memory: 0,
            parameters: None,
        });
        if code != ffi::SQLITE_OK {
            return Err(self.error(code));
        }
        if let Some(statement) = &statement
            && self.work.control.reads_json_tree()
        {
            self.check_plan(statement)?;
        }
        if let Some(statement) = &mut statement {
            statement.longest = self.longest_value(statement)?;
        }
        let parsed = (tail as usize).saturating_sub(rest.as_ptr() as usize);
        // A statement ends at a character boundary, after a semicolon or at the end of the string.
        let end = sql.0.ceil_char_boundary(from + parsed);
        Ok((statement, end - from))
    }

    /// Rejects a statement that reads `json_tree` with a path, because SQLite would search the
    /// document once for each character of the path, without being interrupted.
    fn check_plan(&mut self, statement: &Statement) -> Result<(), SqlError> {
        /// How the query plan of a `json_tree` with a path begins.
        const WITH_PATH: &str = "VIRTUAL TABLE INDEX 3:";
        let mut has_path = false;
        let code = self.explain(statement, QUERY_PLAN, |row| {
            has_path |= row.text(3).contains(WITH_PATH);
        });
        // If the plan cannot be read, the statement is rejected too.
        if code == ffi::SQLITE_OK && !has_path {
            return Ok(());
        }
        Err(SqlError::new(
            ffi::SQLITE_AUTH,
            "`json_tree` is available only without a path; extract the part first",
        ))
    }

    /// Passes each row of an explanation of a statement to `read`, and makes the statement ordinary
    /// again. A statement that is itself an `EXPLAIN` has no rows. Returns the result code, which
    /// is `SQLITE_OK` only if all rows were read.
    fn explain(
        &mut self,
        statement: &Statement,
        mode: c_int,
        mut read: impl FnMut(&ExplanationRow),
    ) -> c_int {
        let raw = statement.raw.as_ptr();
        self.enter(Phase::Preparing, |_| {
            // SAFETY: the statement is prepared, not begun and not finalized.
            unsafe {
                if ffi::sqlite3_stmt_isexplain(raw) != 0 {
                    return ffi::SQLITE_OK;
                }
                let mut code = ffi::sqlite3_stmt_explain(raw, mode);
                if code == ffi::SQLITE_OK {
                    code = loop {
                        match ffi::sqlite3_step(raw) {
                            ffi::SQLITE_ROW => read(&ExplanationRow(raw)),
                            code => break code,
                        }
                    };
                }
                ffi::sqlite3_reset(raw);
                match code {
                    ffi::SQLITE_DONE => ffi::sqlite3_stmt_explain(raw, 0),
                    code => code,
                }
            }
        })
    }

    /// Returns the maximum length of the values that a statement uses.
    fn longest_value(&mut self, statement: &Statement) -> Result<i32, SqlError> {
        if statement.memory() <= weight::SMALL_PROGRAM {
            return Ok(MAX_LENGTH);
        }
        let mut weight = Weight::default();
        let code = self.explain(statement, PROGRAM, |row| {
            weight.add(&row.text(1), row.number(2), row.number(3), &row.text(5));
        });
        if code != ffi::SQLITE_OK {
            return Err(self.error(code));
        }
        weight.longest().ok_or_else(|| {
            let what = "string or blob too big for a statement with so many operations; split it";
            SqlError::new(ffi::SQLITE_TOOBIG, what)
        })
    }

    /// Steps a statement.
    pub(super) fn step(&mut self, id: u64) -> Result<Step, SqlError> {
        let mut statement = self
            .inner_mut()
            .statements
            .remove(&id)
            .ok_or_else(SqlError::no_statement)?;
        let step = self.advance(&mut statement);
        self.inner_mut().statements.insert(id, statement);
        step
    }

    /// Returns whether a statement has yielded a row and has not completed.
    pub(super) fn has_row(&self, id: u64) -> bool {
        self.inner()
            .statements
            .get(&id)
            .is_some_and(|statement| statement.row.is_some())
    }

    fn advance(&mut self, statement: &mut Statement) -> Result<Step, SqlError> {
        let mut preparations = 0;
        let code = loop {
            self.work.control.begin_statement();
            self.limit_length(statement.longest)?;
            self.work.control.begin_step(statement.raw);
            // SAFETY: the statement is prepared and not finalized, and its connection is open.
            let code = unsafe { ffi::sqlite3_step(statement.raw.as_ptr()) };
            let is_outdated = self.work.control.end_step();
            self.limit_length(MAX_LENGTH)?;
            if !is_outdated || preparations == MAX_PREPARATIONS {
                break code;
            }
            preparations += 1;
            self.prepare_again(statement)?;
        };
        // The size is determined here, because determining it converts the strings of a UTF-16
        // database.
        statement.row = (code == ffi::SQLITE_ROW).then(|| statement.size_of_row());
        match code {
            ffi::SQLITE_ROW => Ok(Step::Row),
            ffi::SQLITE_DONE => Ok(Step::Done),
            code => {
                let mut error = self.error(code);
                if code == ffi::SQLITE_TOOBIG && statement.longest < MAX_LENGTH {
                    error.message += &format!(
                        ": a statement with so many operations can use values of at most {} bytes; split it",
                        statement.longest
                    );
                }
                // SAFETY: as above. The call returns the step's error again and releases the locks
                // that the statement holds.
                unsafe { ffi::sqlite3_reset(statement.raw.as_ptr()) };
                Err(error)
            }
        }
    }

    fn limit_length(&self, longest: i32) -> Result<(), SqlError> {
        let connection = &self.inner().connection;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, longest)?;
        Ok(())
    }

    /// Prepares a statement again after the schema has changed. SQLite would do the same, but
    /// nothing would check what the statement does now.
    fn prepare_again(&mut self, statement: &mut Statement) -> Result<(), SqlError> {
        // SAFETY: the statement is prepared and not finalized. The result is the step's error.
        unsafe { ffi::sqlite3_reset(statement.raw.as_ptr()) };
        let sql = Sql::new(statement.sql())?;
        let (Some(mut new), _) = self.parse(&sql, 0)? else {
            return Err(SqlError::no_statement());
        };
        // SAFETY: both statements are prepared on the same connection and not finalized. They have
        // the same parameters, because they have the same text.
        let code =
            unsafe { ffi::sqlite3_transfer_bindings(statement.raw.as_ptr(), new.raw.as_ptr()) };
        if code != ffi::SQLITE_OK {
            return Err(self.error(code));
        }
        std::mem::swap(&mut statement.raw, &mut new.raw);
        statement.longest = new.longest;
        statement.names = statement.size_of_names();
        statement.memory = statement.memory();
        Ok(())
    }

    /// Resets a statement to its beginning.
    pub(super) fn reset(&mut self, id: u64) {
        if let Some(statement) = self.inner_mut().statements.get_mut(&id) {
            statement.row = None;
            // SAFETY: the statement is prepared and not finalized. The result is the last step's
            // error.
            unsafe { ffi::sqlite3_reset(statement.raw.as_ptr()) };
        }
    }

    /// Unbinds all values.
    pub(super) fn clear_values(&mut self, id: u64) {
        if let Some(statement) = self.inner().statements.get(&id) {
            // SAFETY: the statement is prepared and not finalized.
            unsafe { ffi::sqlite3_clear_bindings(statement.raw.as_ptr()) };
        }
    }

    /// Releases a statement.
    pub(super) fn finalize(&mut self, id: u64) {
        self.inner_mut().statements.remove(&id);
    }

    /// Binds a list of values in the guests' format.
    pub(super) fn bind(&mut self, id: u64, list: &[u8]) -> Result<(), SqlError> {
        let malformed = |_| SqlError::new(ffi::SQLITE_MISUSE, "the bytes are not a list of values");
        // The whole list is checked before anything is bound.
        let mut check = List::new(list).map_err(malformed)?;
        while check.binding().map_err(malformed)?.is_some() {}
        let mut list = List::new(list).map_err(malformed)?;
        let mut position = 0;
        let heap = self.work.heap.clone();
        let statements = &mut self.inner_mut().statements;
        let statement = statements.get_mut(&id).ok_or_else(SqlError::no_statement)?;
        let raw = statement.raw.as_ptr();
        let mut bound = Ok(());
        while let Some((key, value)) = list.binding().map_err(malformed)? {
            position += 1;
            bound = statement
                .number(key, position, &heap)
                .and_then(|number| bind_one(raw, number, value));
            if bound.is_err() {
                break;
            }
        }
        bound.map_err(|failed| match failed {
            Unbound::NoParameter(what) => SqlError::new(
                ffi::SQLITE_RANGE,
                format!("the statement has no parameter {what}"),
            ),
            Unbound::Code(code) => self.error(code),
        })
    }

    /// Returns how many bytes are read when values are bound, not counting the values themselves.
    pub(super) fn size_of_sql(&self, id: u64) -> usize {
        let statement = self.inner().statements.get(&id);
        statement.map_or(0, |statement| match statement.parameters {
            Some(_) => 0,
            None => statement.text,
        })
    }

    /// Returns the number of columns in a statement's rows.
    pub(crate) fn column_count(&self, id: u64) -> u32 {
        let Some(statement) = self.inner().statements.get(&id) else {
            return 0;
        };
        // SAFETY: the statement is prepared and not finalized.
        u32::try_from(unsafe { ffi::sqlite3_column_count(statement.raw.as_ptr()) }).unwrap_or(0)
    }

    /// Returns the name of a column.
    pub(crate) fn column_name(&self, id: u64, column: u32) -> Option<String> {
        let statement = self.inner().statements.get(&id)?;
        let column = c_int::try_from(column)
            .ok()
            .filter(|_| column < self.column_count(id))?;
        // SAFETY: the statement is prepared and not finalized, and the column exists. The name is
        // NULL if SQLite runs out of memory. Otherwise it is NUL-terminated and is copied before
        // any other call.
        unsafe { text_of(ffi::sqlite3_column_name(statement.raw.as_ptr(), column)) }
    }

    /// Returns the size of the column name list, in bytes.
    pub(super) fn size_of_names(&self, id: u64) -> usize {
        let statement = self.inner().statements.get(&id);
        statement.map_or(0, |statement| statement.names)
    }

    /// Returns the size of the current row's value list, in bytes.
    pub(super) fn size_of_row(&self, id: u64) -> usize {
        let statement = self.inner().statements.get(&id);
        statement.and_then(|statement| statement.row).unwrap_or(0)
    }

    /// Returns the list of column names in the guests' format.
    pub(super) fn column_names(&self, id: u64) -> Vec<u8> {
        let mut names = Vec::with_capacity(self.size_of_names(id));
        let count = self.column_count(id);
        write_length(&mut names, count as usize);
        for column in 0..count {
            write_text(
                &mut names,
                &self.column_name(id, column).unwrap_or_default(),
            );
        }
        names
    }

    /// Returns a value of the current row in the guests' format, or `NULL` if there is no row. The
    /// column must exist.
    pub(super) fn column(&self, id: u64, column: u32) -> Vec<u8> {
        let mut value = Vec::new();
        self.write_column(id, column, &mut value);
        value
    }

    /// Returns the list of the current row's values in the guests' format.
    pub(super) fn row(&self, id: u64) -> Vec<u8> {
        let mut row = Vec::with_capacity(self.size_of_row(id));
        let count = self.column_count(id);
        write_length(&mut row, count as usize);
        for column in 0..count {
            self.write_column(id, column, &mut row);
        }
        row
    }

    fn write_column(&self, id: u64, column: u32, out: &mut Vec<u8>) {
        let statement = self.inner().statements.get(&id);
        let statement = statement.filter(|statement| statement.row.is_some());
        match statement {
            Some(statement) => statement.write_column(column as c_int, out),
            None => write_value(out, Value::Null),
        }
    }

    /// Returns the number of rows changed by the last statement that could change rows.
    pub(crate) fn changes(&self) -> u64 {
        self.inner().connection.changes()
    }

    pub(crate) fn last_insert_rowid(&self) -> i64 {
        self.inner().connection.last_insert_rowid()
    }

    /// Returns the error from the last SQLite call, which returned this code.
    fn error(&self, code: c_int) -> SqlError {
        // SAFETY: the connection is open. The message is NUL-terminated and is copied immediately.
        let message = unsafe { text_of(ffi::sqlite3_errmsg(self.inner().connection.handle())) };
        let refusal = self.work.control.take_refusal();
        let code = match code {
            // The memory was refused because the statement has too many conditions.
            ffi::SQLITE_NOMEM if refusal.is_some() => ffi::SQLITE_TOOBIG,
            code => code,
        };
        SqlError {
            code,
            message: refusal
                .or(message)
                .unwrap_or_else(|| ffi::code_to_str(code).to_string()),
        }
    }

    fn inner(&self) -> &Inner {
        self.inner
            .as_ref()
            .expect("`inner` is taken only when the database is dropped")
    }

    fn inner_mut(&mut self) -> &mut Inner {
        self.inner
            .as_mut()
            .expect("`inner` is taken only when the database is dropped")
    }
}

impl Statement {
    /// Returns the statement's text.
    fn sql(&self) -> &str {
        // SAFETY: the statement is prepared and not finalized. Its text is part of a string that a
        // guest passed as UTF-8, is NUL-terminated, and lives as long as the statement.
        unsafe {
            let sql = ffi::sqlite3_sql(self.raw.as_ptr());
            if sql.is_null() {
                return "";
            }
            CStr::from_ptr(sql).to_str().unwrap_or_default()
        }
    }

    /// Returns the number of the parameter that a value is bound to.
    fn number(&mut self, key: Key<'_>, position: u64, heap: &Arc<Heap>) -> Result<u64, Unbound> {
        match key {
            Key::Position => Ok(position),
            Key::Number(number) => Ok(number),
            Key::Name(name) => {
                if self.parameters.is_none() {
                    let found = Parameters::of(self.sql());
                    let held = heap.hold(found.size());
                    let held = held.ok_or(Unbound::Code(ffi::SQLITE_NOMEM))?;
                    self.parameters = Some((found, held));
                }
                let parameters = self.parameters.as_ref();
                parameters
                    .and_then(|(parameters, _)| parameters.number(name))
                    .ok_or_else(|| {
                        let name = lunatic_process::printable(name);
                        Unbound::NoParameter(format!("`{name}`"))
                    })
            }
        }
    }

    /// Returns how much memory SQLite uses for the statement.
    fn memory(&self) -> usize {
        // SAFETY: the statement is prepared and not finalized.
        let used = unsafe {
            ffi::sqlite3_stmt_status(self.raw.as_ptr(), ffi::SQLITE_STMTSTATUS_MEMUSED, 0)
        };
        usize::try_from(used).unwrap_or(0)
    }

    fn column_count(&self) -> c_int {
        // SAFETY: the statement is prepared and not finalized.
        unsafe { ffi::sqlite3_column_count(self.raw.as_ptr()) }
    }

    fn size_of_names(&self) -> usize {
        let size = |column| {
            // SAFETY: the statement is prepared and not finalized, and the column exists. The name
            // is NULL or NUL-terminated.
            unsafe {
                let name = ffi::sqlite3_column_name(self.raw.as_ptr(), column);
                if name.is_null() {
                    return 0;
                }
                LENGTH_SIZE + CStr::from_ptr(name).count_bytes()
            }
        };
        LENGTH_SIZE + (0..self.column_count()).map(size).sum::<usize>()
    }

    /// Returns an upper bound on the size of the current row's value list.
    fn size_of_row(&self) -> usize {
        let size = |column| {
            let raw = self.raw.as_ptr();
            // SAFETY: the statement is prepared, not finalized and on a row, and the column exists.
            // The address of a string is requested before its length, and is not used after the
            // next call.
            unsafe {
                match ffi::sqlite3_column_type(raw, column) {
                    ffi::SQLITE_TEXT => {
                        let start = ffi::sqlite3_column_text(raw, column);
                        let text = bytes_of(start, ffi::sqlite3_column_bytes(raw, column));
                        match std::str::from_utf8(text) {
                            Ok(text) => MAX_HEADER + text.len(),
                            // Each byte that is not UTF-8 becomes three bytes.
                            Err(_) => MAX_HEADER + 3 * text.len(),
                        }
                    }
                    ffi::SQLITE_BLOB => {
                        let length = ffi::sqlite3_column_bytes(raw, column);
                        MAX_HEADER + usize::try_from(length).unwrap_or(0)
                    }
                    _ => MAX_HEADER,
                }
            }
        };
        MAX_HEADER + (0..self.column_count()).map(size).sum::<usize>()
    }

    /// Appends a value of the current row.
    fn write_column(&self, column: c_int, out: &mut Vec<u8>) {
        let raw = self.raw.as_ptr();
        // SAFETY: the statement is prepared and not finalized, it is on a row, and the callers pass
        // only existing columns. The address of a string or blob is requested before its length, as
        // SQLite requires. Unless it is NULL, the address is valid for that length, and it is not
        // used after the next call.
        unsafe {
            let bytes = |start: *const u8| bytes_of(start, ffi::sqlite3_column_bytes(raw, column));
            match ffi::sqlite3_column_type(raw, column) {
                ffi::SQLITE_INTEGER => {
                    write_value(out, Value::Integer(ffi::sqlite3_column_int64(raw, column)))
                }
                ffi::SQLITE_FLOAT => {
                    write_value(out, Value::Real(ffi::sqlite3_column_double(raw, column)))
                }
                ffi::SQLITE_TEXT => {
                    // In SQLite, a `TEXT` value can contain arbitrary bytes.
                    let text =
                        String::from_utf8_lossy(bytes(ffi::sqlite3_column_text(raw, column)));
                    write_value(out, Value::Text(&text));
                }
                ffi::SQLITE_BLOB => {
                    write_value(
                        out,
                        Value::Blob(bytes(ffi::sqlite3_column_blob(raw, column).cast())),
                    );
                }
                _ => write_value(out, Value::Null),
            }
        }
    }
}

/// Why a value was not bound.
enum Unbound {
    /// The statement has no such parameter.
    NoParameter(String),
    /// SQLite returned this code.
    Code(c_int),
}

/// Binds a value to the parameter with the given number.
fn bind_one(raw: *mut ffi::sqlite3_stmt, number: u64, value: Value<'_>) -> Result<(), Unbound> {
    let none = || Unbound::NoParameter(number.to_string());
    let index = c_int::try_from(number).map_err(|_| none())?;
    // SAFETY: the statement is prepared and not finalized. Blobs and strings have the length that
    // is passed, and SQLite copies them before it returns, as `SQLITE_TRANSIENT` requests. SQLite
    // rejects an index that does not exist.
    let code = unsafe {
        let copied = ffi::SQLITE_TRANSIENT();
        match value {
            Value::Null => ffi::sqlite3_bind_null(raw, index),
            Value::Integer(number) => ffi::sqlite3_bind_int64(raw, index, number),
            Value::Real(number) => ffi::sqlite3_bind_double(raw, index, number),
            Value::Blob(bytes) => ffi::sqlite3_bind_blob64(
                raw,
                index,
                bytes.as_ptr().cast(),
                bytes.len() as u64,
                copied,
            ),
            Value::Text(text) => {
                let (start, length) = (text.as_ptr().cast(), text.len() as u64);
                ffi::sqlite3_bind_text64(raw, index, start, length, copied, ffi::SQLITE_UTF8 as u8)
            }
        }
    };
    match code {
        ffi::SQLITE_OK => Ok(()),
        ffi::SQLITE_RANGE => Err(none()),
        code => Err(Unbound::Code(code)),
    }
}

/// Returns bytes that SQLite owns.
///
/// # Safety
///
/// The address must be NULL, or the address of `length` bytes that live as long as the returned
/// slice is used.
unsafe fn bytes_of<'a>(start: *const u8, length: c_int) -> &'a [u8] {
    match usize::try_from(length) {
        // SAFETY: the caller guarantees that `length` bytes at this address live as long as they
        // are used.
        Ok(length) if !start.is_null() => unsafe { std::slice::from_raw_parts(start, length) },
        _ => &[],
    }
}

/// The mode in which `sqlite3_stmt_explain` lists a statement's instructions.
const PROGRAM: c_int = 1;

/// The mode in which `sqlite3_stmt_explain` describes how a statement finds its rows.
const QUERY_PLAN: c_int = 2;

/// The current row of an explained statement.
struct ExplanationRow(*mut ffi::sqlite3_stmt);

impl ExplanationRow {
    /// Returns a column as a string, which is empty for NULL.
    fn text(&self, column: c_int) -> Cow<'_, str> {
        // SAFETY: the statement is at a row while this value exists. SQLite returns NULL or a
        // NUL-terminated string that remains valid until the next step.
        unsafe {
            match ffi::sqlite3_column_text(self.0, column) {
                text if text.is_null() => Cow::default(),
                text => CStr::from_ptr(text.cast()).to_string_lossy(),
            }
        }
    }

    fn number(&self, column: c_int) -> c_int {
        // SAFETY: the statement is at a row while this value exists.
        unsafe { ffi::sqlite3_column_int(self.0, column) }
    }
}

/// Copies a C string.
///
/// # Safety
///
/// The address must be NULL or point to a NUL-terminated string.
unsafe fn text_of(text: *const c_char) -> Option<String> {
    (!text.is_null()).then(|| {
        // SAFETY: the address is not NULL, and the caller guarantees that it points to a
        // NUL-terminated string.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    })
}
