//! Databases: SQLite, which the machine has built in.
//!
//! A [`Connection`] works with one database: a file in a directory that the program was granted, or
//! memory of its own. What SQL does wrong is an [`Error`], never the end of the process. While a
//! query runs the process waits, as it does for a socket; killing it stops the query and undoes
//! what was not committed.
//!
//! ```no_run
//! use lunatic::sqlite::{Connection, Error};
//!
//! #[lunatic::main]
//! fn main() -> Result<(), Error> {
//!     let connection = Connection::open("fruit.db")?;
//!     connection.execute_batch("CREATE TABLE IF NOT EXISTS fruit (name TEXT UNIQUE, grams REAL)")?;
//!     connection.execute("INSERT OR REPLACE INTO fruit VALUES (?, ?)", ("apple", 182.5))?;
//!     connection.execute("INSERT OR REPLACE INTO fruit VALUES (:name, NULL)", [(":name", "pear")])?;
//!
//!     for row in connection.query("SELECT name, grams FROM fruit ORDER BY name", ())? {
//!         let (name, grams): (String, Option<f64>) = (row.get("name")?, row.get(1)?);
//!         println!("{name}: {grams:?}");
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A connection belongs to its process and does not travel in messages. Processes share a database
//! by opening the same file each, or by asking one that has it open. The machine bounds what a
//! query may take: a text or a row of a table has at most 1 MiB, a statement too, and SQLite at
//! most 64 MiB of memory for one process. A statement reaches no file but its own database;
//! `ATTACH` and some pragmas are refused.

mod value;

pub use lunatic_abi::sqlite::Value as ValueRef;
pub use value::{FromValue, Parameters, ToValue, Value};

use crate::error::LunaticError;
use crate::host;
use lunatic_abi::sqlite::{List, write_length};
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

/// SQLite's results of a step.
const ROW: u32 = 100;
const DONE: u32 = 101;

/// SQLite's primary result codes that the library speaks of.
const CANTOPEN: u32 = 14;
const MISMATCH: u32 = 20;
const RANGE: u32 = 25;

/// How long a statement waits for a database that another connection has locked, unless told
/// otherwise.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The bytes of a row that cross with a step. A larger row takes a second call.
const ROW_BUFFER: usize = 4096;

/// Why something was not done.
///
/// ```no_run
/// use lunatic::sqlite::Connection;
///
/// let connection = Connection::open_in_memory().unwrap();
/// connection.execute_batch("CREATE TABLE names (name UNIQUE); INSERT INTO names VALUES ('Ada')").unwrap();
/// let error = connection.execute("INSERT INTO names VALUES (?)", ["Ada"]).unwrap_err();
/// assert!(error.is_constraint());
/// assert_eq!(error.to_string(), "UNIQUE constraint failed: names.name");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: u32,
    message: String,
}

impl Error {
    fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Reads the result of a call that answers 0, or SQLite's code with an error id in the place of
    /// its value.
    fn check(code: u32, value: u64) -> Result<u64, Self> {
        match code {
            0 => Ok(value),
            code => Err(Self::new(code, LunaticError::from_id(value).to_string())),
        }
    }

    /// Returns [SQLite's extended result code](https://www.sqlite.org/rescode.html); its lowest
    /// byte is the primary one.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// Whether another connection had the database locked for longer than was waited.
    pub fn is_busy(&self) -> bool {
        self.code & 0xff == 5
    }

    /// Whether a row would have broken a rule of its table: it is there already, a value is
    /// missing, and so on.
    pub fn is_constraint(&self) -> bool {
        self.code & 0xff == 19
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// An open database. It is closed when it is dropped; what was not committed is undone.
#[derive(Debug)]
pub struct Connection {
    id: u64,
}

impl Connection {
    /// Opens a database, and makes one where there is no file of this name.
    ///
    /// The path begins as those of files do, at a directory that the program was granted. Where
    /// that may only be read, the database may only be read. A statement waits up to 5 seconds for
    /// a database that others have locked; see [`set_busy_timeout`](Self::set_busy_timeout).
    ///
    /// # Errors
    ///
    /// That nothing of this path is granted, that it is not a file or cannot be opened, or that the
    /// process has as many databases open as it may. What is in the file is looked at by the first
    /// statement.
    pub fn open(path: &str) -> Result<Self, Error> {
        let mut id = 0;
        // SAFETY: the address comes with the length of its text, and the last is that of a
        // variable.
        let result = unsafe { host::sqlite::open(path.as_ptr(), path.len(), &mut id) };
        if result != 0 {
            return Err(Error::new(CANTOPEN, LunaticError::from_id(id).to_string()));
        }
        let connection = Self { id };
        connection.set_busy_timeout(BUSY_TIMEOUT);
        Ok(connection)
    }

    /// Makes an empty database in memory, which is gone with the connection.
    ///
    /// # Errors
    ///
    /// That the process has as many databases open as it may.
    pub fn open_in_memory() -> Result<Self, Error> {
        Self::open(":memory:")
    }

    /// Executes a statement with values for its parameters and returns how many rows the last
    /// statement that changes rows has changed. Rows that it yields are passed over.
    ///
    /// # Errors
    ///
    /// What SQLite refuses; what it did by then is undone. More than one statement is an error too.
    pub fn execute(&self, sql: &str, values: impl Parameters) -> Result<u64, Error> {
        self.prepare(sql)?.execute(values)
    }

    /// Executes statements without parameters, one after the other, to the first that fails.
    ///
    /// # Errors
    ///
    /// What SQLite refuses. The statements before it have happened.
    pub fn execute_batch(&self, sql: &str) -> Result<(), Error> {
        let mut error = 0;
        // SAFETY: the address comes with the length of its text, and the last is that of a
        // variable.
        let code =
            unsafe { host::sqlite::execute_all(self.id, sql.as_ptr(), sql.len(), &mut error) };
        Error::check(code, error).map(drop)
    }

    /// Returns all rows that a statement yields.
    ///
    /// # Errors
    ///
    /// What SQLite refuses.
    pub fn query(&self, sql: &str, values: impl Parameters) -> Result<Vec<Row>, Error> {
        self.prepare(sql)?.query(values)?.collect()
    }

    /// Returns the first row that a statement yields, if it yields any. The statement is not run
    /// further.
    ///
    /// # Errors
    ///
    /// What SQLite refuses.
    pub fn query_row(&self, sql: &str, values: impl Parameters) -> Result<Option<Row>, Error> {
        self.prepare(sql)?.query(values)?.next().transpose()
    }

    /// Prepares a statement, to be executed many times.
    ///
    /// # Errors
    ///
    /// What SQLite refuses. A text without a statement or with more than one is an error too.
    pub fn prepare(&self, sql: &str) -> Result<Statement<'_>, Error> {
        let mut id = 0;
        // SAFETY: the address comes with the length of its text, and the last is that of a
        // variable.
        let code = unsafe { host::sqlite::prepare(self.id, sql.as_ptr(), sql.len(), &mut id) };
        let id = Error::check(code, id)?;
        Ok(Statement {
            id,
            connection: self.id,
            columns: None,
            values: Vec::new(),
            of: PhantomData,
        })
    }

    /// Does several things as one: all of it happens where the function returns `Ok`, and none of
    /// it where it returns an error.
    ///
    /// Others can read the database meanwhile, but not write to it. A process that ends inside
    /// leaves nothing of it.
    ///
    /// # Errors
    ///
    /// What the function returns, and what SQLite refuses at the beginning or at the end.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::sqlite::{Connection, Error};
    ///
    /// fn transfer(connection: &Connection, from: &str, to: &str, amount: i64) -> Result<(), Error> {
    ///     connection.transaction(|connection| {
    ///         let add = "UPDATE accounts SET balance = balance + ? WHERE name = ?";
    ///         connection.execute(add, (-amount, from))?;
    ///         connection.execute(add, (amount, to))?;
    ///         Ok(())
    ///     })
    /// }
    /// ```
    pub fn transaction<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.execute_batch("BEGIN IMMEDIATE")?;
        let result = work(self).and_then(|done| {
            self.execute_batch("COMMIT")?;
            Ok(done)
        });
        if result.is_err() {
            // Some errors have undone the transaction already; then there is none, which is what is
            // wanted.
            let _ = self.execute_batch("ROLLBACK");
        }
        result
    }

    /// Returns the row id that was inserted last, 0 where none was.
    pub fn last_insert_rowid(&self) -> i64 {
        // SAFETY: the id was given by the machine, and nobody else has it.
        unsafe { host::sqlite::last_insert_rowid(self.id) }
    }

    /// Sets how long a statement waits for a database that another connection has locked, before it
    /// fails with an error that [is busy](Error::is_busy). Time counts in milliseconds, rounded up.
    pub fn set_busy_timeout(&self, timeout: Duration) {
        // SAFETY: the id was given by the machine, and nobody else has it.
        unsafe { host::sqlite::set_busy_timeout(self.id, host::milliseconds(timeout)) };
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the id was given by the machine, and nobody else has it. Statements borrow the
        // connection, so that none is left.
        unsafe { host::sqlite::drop_connection(self.id) };
    }
}

/// A statement that was prepared once and can be executed many times.
///
/// ```no_run
/// use lunatic::sqlite::Connection;
///
/// let connection = Connection::open_in_memory().unwrap();
/// connection.execute_batch("CREATE TABLE squares (n INTEGER, square INTEGER)").unwrap();
/// let mut insert = connection.prepare("INSERT INTO squares VALUES (?1, ?1 * ?1)").unwrap();
/// for n in 1..=3 {
///     assert_eq!(insert.execute([n]).unwrap(), 1);
/// }
/// ```
#[derive(Debug)]
pub struct Statement<'a> {
    id: u64,
    connection: u64,
    /// Asked for with the first row.
    columns: Option<Rc<[String]>>,
    /// Where values for parameters are written down, kept for the next time.
    values: Vec<u8>,
    of: PhantomData<&'a Connection>,
}

impl Statement<'_> {
    /// Executes the statement to its end, as [`Connection::execute`] does.
    ///
    /// # Errors
    ///
    /// What SQLite refuses.
    pub fn execute(&mut self, values: impl Parameters) -> Result<u64, Error> {
        self.bind(values)?;
        loop {
            let mut error = 0;
            // SAFETY: nothing is copied to a buffer of no length, and the last is the address of a
            // variable.
            let code =
                unsafe { host::sqlite::step_row(self.id, std::ptr::dangling_mut(), 0, &mut error) };
            match code {
                ROW => {}
                // SAFETY: the id was given by the machine, and the connection is not given back
                // while it is borrowed.
                DONE => return Ok(unsafe { host::sqlite::sqlite3_changes(self.connection) }.into()),
                code => {
                    return Err(Error::check(code, error).expect_err("0 is no result of a step"));
                }
            }
        }
    }

    /// Begins to execute the statement, and yields its rows one by one, as they are found.
    ///
    /// # Errors
    ///
    /// That a value is for a parameter that the statement does not have. What SQLite refuses later
    /// is yielded.
    pub fn query(&mut self, values: impl Parameters) -> Result<Rows<'_>, Error> {
        self.bind(values)?;
        let columns = self
            .columns
            .get_or_insert_with(|| column_names(self.id))
            .clone();
        Ok(Rows {
            id: self.id,
            columns,
            buffer: vec![0; ROW_BUFFER],
            is_over: false,
            of: PhantomData,
        })
    }

    /// Returns the names of the columns of its rows.
    pub fn column_names(&mut self) -> &[String] {
        self.columns.get_or_insert_with(|| column_names(self.id))
    }

    fn bind(&mut self, values: impl Parameters) -> Result<(), Error> {
        self.values.clear();
        write_length(&mut self.values, values.count());
        values.write(&mut self.values);
        let mut error = 0;
        // SAFETY: the address comes with the length of the list, and the last is that of a
        // variable.
        let code = unsafe {
            host::sqlite::bind(self.id, self.values.as_ptr(), self.values.len(), &mut error)
        };
        Error::check(code, error).map(drop)
    }
}

impl Drop for Statement<'_> {
    fn drop(&mut self) {
        // SAFETY: the id was given by the machine, and nobody else has it.
        unsafe { host::sqlite::sqlite3_finalize(self.id) };
    }
}

/// The rows of a query, each found when it is asked for. Dropped before its end it lets go of what
/// it has locked.
#[derive(Debug)]
pub struct Rows<'a> {
    id: u64,
    columns: Rc<[String]>,
    buffer: Vec<u8>,
    is_over: bool,
    of: PhantomData<&'a mut ()>,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Result<Row, Error>> {
        if self.is_over {
            return None;
        }
        let mut size = 0;
        // SAFETY: the address comes with the length of the buffer, and the last is that of a
        // variable.
        let code = unsafe {
            host::sqlite::step_row(
                self.id,
                self.buffer.as_mut_ptr(),
                self.buffer.len(),
                &mut size,
            )
        };
        if code != ROW {
            self.is_over = true;
            return (code != DONE)
                .then(|| Err(Error::check(code, size).expect_err("0 is no result of a step")));
        }
        let size = size as usize;
        if size > self.buffer.len() {
            self.buffer.resize(size, 0);
            // SAFETY: the address comes with the length of the buffer.
            unsafe { host::sqlite::copy_row(self.id, self.buffer.as_mut_ptr(), self.buffer.len()) };
        }
        Some(Ok(Row::read(&self.buffer[..size], &self.columns)))
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        // SAFETY: the id was given by the machine, and the statement is not given back while it is
        // borrowed.
        unsafe { host::sqlite::statement_reset(self.id) };
    }
}

fn column_names(statement: u64) -> Rc<[String]> {
    let mut names = Vec::new();
    // SAFETY: nothing is copied to a buffer of no length, and then as much as there is room for.
    unsafe {
        let size = host::sqlite::copy_column_names(statement, std::ptr::dangling_mut(), 0) as usize;
        names.resize(size, 0);
        host::sqlite::copy_column_names(statement, names.as_mut_ptr(), names.len());
    }
    let mut list = List::new(&names).expect("the machine writes lists");
    std::iter::from_fn(|| list.text().expect("the machine writes lists of texts"))
        .map(str::to_owned)
        .collect()
}

/// A row that a query found.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    values: Vec<Value>,
    columns: Rc<[String]>,
}

impl Row {
    fn read(bytes: &[u8], columns: &Rc<[String]>) -> Self {
        let mut list = List::new(bytes).expect("the machine writes lists");
        let values =
            std::iter::from_fn(|| list.value().expect("the machine writes lists of values"));
        Self {
            values: values.map(Value::from).collect(),
            columns: columns.clone(),
        }
    }

    /// Returns the value of a column, given by its place, counted from 0, or by its name.
    ///
    /// # Errors
    ///
    /// That there is no such column, or that its value is of another type. A column that can be
    /// `NULL` is an `Option`.
    pub fn get<T: FromValue>(&self, column: impl Column) -> Result<T, Error> {
        let place = column
            .place(&self.columns)
            .filter(|place| *place < self.values.len());
        let place = place.ok_or_else(|| {
            Error::new(
                RANGE,
                format!("the row has no column {}", column.describe()),
            )
        })?;
        T::from_value(&self.values[place]).ok_or_else(|| {
            let (kind, name) = (self.values[place].kind(), &self.columns[place]);
            Error::new(
                MISMATCH,
                format!("column `{name}` is {kind}, not {}", T::EXPECTED),
            )
        })
    }

    /// Returns the values of all columns.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Returns the names of all columns.
    pub fn column_names(&self) -> &[String] {
        &self.columns
    }
}

/// What names a column: its place, counted from 0, or its name. Of two with the same name it is the
/// first.
pub trait Column: sealed::Column {}

impl Column for usize {}
impl Column for &str {}

mod sealed {
    /// What [`super::Column`] can do.
    pub trait Column {
        fn place(&self, names: &[String]) -> Option<usize>;
        fn describe(&self) -> String;
    }

    impl Column for usize {
        fn place(&self, _: &[String]) -> Option<usize> {
            Some(*self)
        }

        fn describe(&self) -> String {
            self.to_string()
        }
    }

    impl Column for &str {
        fn place(&self, names: &[String]) -> Option<usize> {
            names.iter().position(|name| name == self)
        }

        fn describe(&self) -> String {
            format!("`{self}`")
        }
    }
}
