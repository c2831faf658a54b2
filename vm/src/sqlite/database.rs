//! An open database and its statements, with SQLite set up for untrusted SQL.
//!
//! Any function here may take as long as a disk access and must be called on a thread for blocking
//! work. The exceptions are functions that only read memory, such as those that return names,
//! counts and the current row.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use super::heap::Heap;
use super::{Control, SqlError, functions, rules, vfs};
use lunatic_abi::sqlite::{Key, List, Value, write_length, write_text, write_value};
use rusqlite::config::DbConfig;
use rusqlite::hooks::AuthContext;
use rusqlite::limits::Limit;
use rusqlite::{OpenFlags, ffi};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fs::File;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::Arc;

/// The maximum length of an SQL string, in bytes.
pub(crate) const MAX_SQL: usize = 1 << 20;

/// The maximum size of a text, a blob or a table row, in bytes. Because SQL functions cannot be
/// interrupted, this also limits how long a function can take.
pub(super) const MAX_LENGTH: i32 = 1 << 20;

/// Values for SQLite's own limits, as protection against statements written to do harm.
const LIMITS: [(Limit, i32); 13] = [
    (Limit::SQLITE_LIMIT_LENGTH, MAX_LENGTH),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL as i32),
    (Limit::SQLITE_LIMIT_COLUMN, 2_000),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 100),
    (Limit::SQLITE_LIMIT_VDBE_OP, 1_000_000),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 100),
    // This allows the nameless database that `VACUUM` creates.
    (Limit::SQLITE_LIMIT_ATTACHED, 1),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 256),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 32_766),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 100),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    (Limit::SQLITE_LIMIT_PARSER_DEPTH, 200),
];

/// The number of SQLite's own instructions between two checks of whether to continue. They take
/// less than a tenth of a millisecond.
pub(super) const CHECK_INTERVAL: u64 = 1_000;

/// The location of a database.
#[derive(Debug)]
pub(crate) enum Location {
    /// In memory, private to this connection.
    Memory,
    /// A file in a directory.
    File {
        /// The directory, which is kept open as long as the database, because all of the database's
        /// files are found through it.
        directory: File,
        /// The path to the file, leading through the open directory if the system supports that.
        path: PathBuf,
        /// Whether the directory may be changed.
        is_writable: bool,
    },
}

/// An open database.
pub(crate) struct Database {
    /// Taken only when the database is dropped.
    inner: Option<Inner>,
    control: Arc<Control>,
    heap: Arc<Heap>,
}

struct Inner {
    /// The order of the fields ensures that statements are finalized before the connection is
    /// closed.
    statements: BTreeMap<u64, Statement>,
    connection: rusqlite::Connection,
    _directory: Option<File>,
}

/// A prepared statement.
struct Statement {
    raw: NonNull<ffi::sqlite3_stmt>,
    has_row: bool,
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
        self.heap.enter(|| drop(inner));
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
        heap.enter(|| {
            let (path, is_writable, directory) = match location {
                Location::Memory => (PathBuf::from(":memory:"), true, None),
                Location::File {
                    directory,
                    path,
                    is_writable,
                } => (path, is_writable, Some(directory)),
            };
            let access = match is_writable {
                true => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
                false => OpenFlags::SQLITE_OPEN_READ_ONLY,
            };
            let name = vfs::name(is_writable)
                .map_err(|code| SqlError::new(code, "SQLite cannot reach files"))?;
            // The guest must not learn the host's path.
            let cannot = |error| SqlError {
                message: "unable to open the database file".into(),
                ..SqlError::from(error)
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
                control: control.clone(),
                heap: heap.clone(),
            };
            database.secure()?;
            Ok(database)
        })
    }

    /// Disables features that untrusted SQL must not have.
    fn secure(&mut self) -> Result<(), SqlError> {
        let control = self.control.clone();
        let connection = &mut self.inner_mut().connection;
        connection.busy_timeout(std::time::Duration::ZERO)?;
        for (limit, bound) in LIMITS {
            connection.set_limit(limit, bound)?;
        }
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        // Sorting and temporary tables stay in memory, which is limited. This pragma reads no file.
        connection.execute_batch("PRAGMA temp_store = MEMORY")?;
        functions::replace_slow_ones(connection)
            .map_err(|code| SqlError::new(code, "SQLite accepts no functions"))?;
        let watched = control.clone();
        connection.progress_handler(CHECK_INTERVAL as c_int, Some(move || watched.is_over()))?;
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            rules::authorize(&control, &context)
        }))?;
        Ok(())
    }

    /// Runs `work`, charging SQLite's allocations to the process that owns the database.
    pub(super) fn enter<T>(&mut self, work: impl FnOnce(&mut Database) -> T) -> T {
        let heap = self.heap.clone();
        heap.enter(|| work(self))
    }

    /// Executes statements until one fails, and returns how many bytes of `sql` were processed.
    pub(super) fn execute(&mut self, sql: &str) -> (usize, Result<(), SqlError>) {
        let mut done = 0;
        while done < sql.len() {
            let (statement, length) = match self.parse(&sql[done..]) {
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
    pub(super) fn prepare(&mut self, id: u64, sql: &str, is_alone: bool) -> Result<(), SqlError> {
        let mut done = 0;
        let mut found = None;
        while done < sql.len() {
            let (statement, length) = self.parse(&sql[done..])?;
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
        let statement = found.ok_or_else(none)?;
        self.inner_mut().statements.insert(id, statement);
        Ok(())
    }

    /// Parses the first statement of `sql` and returns the statement's length. A string of only
    /// blanks and comments has no statement.
    fn parse(&mut self, sql: &str) -> Result<(Option<Statement>, usize), SqlError> {
        if sql.contains('\0') {
            return Err(SqlError::new(ffi::SQLITE_ERROR, "the text has a zero byte"));
        }
        let length = c_int::try_from(sql.len()).map_err(|_| {
            SqlError::new(ffi::SQLITE_TOOBIG, "the text is longer than SQLite accepts")
        })?;
        // Any refusal found later must belong to this statement, so an earlier one is discarded.
        self.control.take_refusal();
        let (mut raw, mut tail) = (std::ptr::null_mut(), std::ptr::null());
        // SAFETY: the connection is open, and the string has the length that is passed. SQLite sets
        // `tail` to an address in the string or to its end, and `raw` to a statement of this
        // connection or to NULL.
        let code = unsafe {
            let connection = self.inner_mut().connection.handle();
            let text = sql.as_ptr().cast::<c_char>();
            ffi::sqlite3_prepare_v3(connection, text, length, 0, &raw mut raw, &raw mut tail)
        };
        let statement = NonNull::new(raw).map(|raw| Statement {
            raw,
            has_row: false,
        });
        if code != ffi::SQLITE_OK {
            return Err(self.error(code));
        }
        let parsed = (tail as usize).saturating_sub(sql.as_ptr() as usize);
        // A statement ends at a character boundary, after a semicolon or at the end of the string.
        Ok((statement, sql.ceil_char_boundary(parsed)))
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
            .is_some_and(|statement| statement.has_row)
    }

    fn advance(&mut self, statement: &mut Statement) -> Result<Step, SqlError> {
        // SAFETY: the statement is prepared and not finalized, and its connection is open.
        let code = unsafe { ffi::sqlite3_step(statement.raw.as_ptr()) };
        statement.has_row = code == ffi::SQLITE_ROW;
        match code {
            ffi::SQLITE_ROW => Ok(Step::Row),
            ffi::SQLITE_DONE => Ok(Step::Done),
            code => {
                let error = self.error(code);
                // SAFETY: as above. The call returns the step's error again and releases the locks
                // that the statement holds.
                unsafe { ffi::sqlite3_reset(statement.raw.as_ptr()) };
                Err(error)
            }
        }
    }

    /// Resets a statement to its beginning.
    pub(super) fn reset(&mut self, id: u64) {
        if let Some(statement) = self.inner_mut().statements.get_mut(&id) {
            statement.has_row = false;
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
        while let Some((key, value)) = list.binding().map_err(malformed)? {
            position += 1;
            self.bind_one(id, key, position, value)?;
        }
        Ok(())
    }

    fn bind_one(
        &mut self,
        id: u64,
        key: Key<'_>,
        position: u64,
        value: Value<'_>,
    ) -> Result<(), SqlError> {
        let raw = self
            .inner()
            .statements
            .get(&id)
            .ok_or_else(SqlError::no_statement)?
            .raw
            .as_ptr();
        let range = |what: String| {
            SqlError::new(
                ffi::SQLITE_RANGE,
                format!("the statement has no parameter {what}"),
            )
        };
        let number = match key {
            Key::Position => position,
            Key::Number(number) => number,
            Key::Name(name) => named(raw, name)
                .ok_or_else(|| range(format!("`{}`", crate::printable::printable(name))))?,
        };
        let index = c_int::try_from(number).map_err(|_| range(number.to_string()))?;
        // SAFETY: the statement is prepared and not finalized. Blobs and texts have the length that
        // is passed, and SQLite copies them before it returns, as `SQLITE_TRANSIENT` requests.
        // SQLite rejects an index that does not exist.
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
                    ffi::sqlite3_bind_text64(
                        raw,
                        index,
                        start,
                        length,
                        copied,
                        ffi::SQLITE_UTF8 as u8,
                    )
                }
            }
        };
        match code {
            ffi::SQLITE_OK => Ok(()),
            ffi::SQLITE_RANGE => Err(range(number.to_string())),
            code => Err(self.error(code)),
        }
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
        // NULL if SQLite runs out of memory. Otherwise it ends with a zero byte and is copied
        // before any other call.
        unsafe { text_of(ffi::sqlite3_column_name(statement.raw.as_ptr(), column)) }
    }

    /// Returns the list of column names in the guests' format.
    pub(crate) fn column_names(&self, id: u64) -> Vec<u8> {
        let mut names = Vec::new();
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

    /// Returns a value of the current row in the guests' format; `NULL` if there is no row.
    pub(super) fn column(&self, id: u64, column: u32) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        (column < self.column_count(id)).then(|| self.write_column(id, column, &mut value))?;
        Some(value)
    }

    /// Returns the list of the current row's values in the guests' format.
    pub(super) fn row(&self, id: u64) -> Vec<u8> {
        let mut row = Vec::new();
        let count = self.column_count(id);
        write_length(&mut row, count as usize);
        for column in 0..count {
            self.write_column(id, column, &mut row);
        }
        row
    }

    fn write_column(&self, id: u64, column: u32, out: &mut Vec<u8>) {
        let statement = self
            .inner()
            .statements
            .get(&id)
            .filter(|statement| statement.has_row);
        let Some(raw) = statement.map(|statement| statement.raw.as_ptr()) else {
            return write_value(out, Value::Null);
        };
        let column = column as c_int;
        // SAFETY: the statement is prepared and not finalized, it is on a row, and the callers pass
        // only existing columns. The address of a text or blob is requested before its length, as
        // SQLite requires. Unless it is NULL, the address is valid for that length, and it is not
        // used after the next call.
        unsafe {
            let bytes = |start: *const u8| {
                let length = usize::try_from(ffi::sqlite3_column_bytes(raw, column)).unwrap_or(0);
                if start.is_null() || length == 0 {
                    &[][..]
                } else {
                    std::slice::from_raw_parts(start, length)
                }
            };
            match ffi::sqlite3_column_type(raw, column) {
                ffi::SQLITE_INTEGER => {
                    write_value(out, Value::Integer(ffi::sqlite3_column_int64(raw, column)))
                }
                ffi::SQLITE_FLOAT => {
                    write_value(out, Value::Real(ffi::sqlite3_column_double(raw, column)))
                }
                ffi::SQLITE_TEXT => {
                    // In SQLite, a text can consist of arbitrary bytes.
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

    /// Returns the number of rows changed by the last statement that could change rows.
    pub(crate) fn changes(&self) -> u64 {
        self.inner().connection.changes()
    }

    pub(crate) fn last_insert_rowid(&self) -> i64 {
        self.inner().connection.last_insert_rowid()
    }

    /// Returns the error of the last call to SQLite, which returned this code.
    fn error(&self, code: c_int) -> SqlError {
        // SAFETY: the connection is open. The message ends with a zero byte and is copied
        // immediately.
        let message = unsafe { text_of(ffi::sqlite3_errmsg(self.inner().connection.handle())) };
        SqlError {
            code,
            message: self
                .control
                .take_refusal()
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

/// Returns the index of the parameter with a name, which may be given without its leading sign.
fn named(raw: *mut ffi::sqlite3_stmt, name: &str) -> Option<u64> {
    let find = |name: String| {
        let name = CString::new(name).ok()?;
        // SAFETY: the statement comes from `Database`, which has not finalized it, and the name
        // ends with a zero byte.
        let index = unsafe { ffi::sqlite3_bind_parameter_index(raw, name.as_ptr()) };
        u64::try_from(index).ok().filter(|index| *index > 0)
    };
    ["", ":", "@", "$"]
        .into_iter()
        .find_map(|sign| find(format!("{sign}{name}")))
}

/// Copies a C string.
///
/// # Safety
///
/// The address must be NULL or point to bytes that end with a zero byte.
unsafe fn text_of(text: *const c_char) -> Option<String> {
    (!text.is_null()).then(|| {
        // SAFETY: the address is not NULL, and the caller guarantees that it points to bytes that
        // end with a zero byte.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    })
}
