//! SQLite databases. SQLite is built into the machine.
//!
//! A [`Connection`] gives access to one database: a file in a directory that the program was
//! granted, or an in-memory database. A mistake in SQL results in an [`Error`], and never kills the
//! process. A query suspends only the process that runs it; killing the process stops the query and
//! rolls back anything that was not committed.
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
//! A connection belongs to its process and cannot be sent in messages. Processes can share a
//! database in two ways: each process opens the same file, or one process opens the database and
//! serves the others. Strings, rows and statements are limited to 1 MiB each, and SQLite uses at
//! most 64 MiB of memory per process. A statement cannot access any file except its own database;
//! `ATTACH`, some pragmas, and virtual tables such as `fts5` are rejected. Foreign keys are
//! enforced after `PRAGMA foreign_keys = ON`.

mod error;
mod row;
mod statement;
mod value;

pub use error::Error;
pub use lunatic_abi::sqlite::Value as ValueRef;
pub use row::{Column, Row};
pub use statement::{Rows, Statement};
pub use value::{FromValue, Parameters, ToValue, Value};

use crate::error::LunaticError;
use crate::host;
use error::CANTOPEN;
use std::time::Duration;

/// How long a statement waits by default for a database that another connection has locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A database connection. Dropping it closes the database and rolls back anything that was not
/// committed.
#[derive(Debug)]
pub struct Connection {
    id: u64,
}

impl Connection {
    /// Opens a database, creating it if the file does not exist.
    ///
    /// As with any file, the path must begin with a directory that the program was granted. If the
    /// directory is read-only, so is the database. A statement waits up to 5 seconds for a database
    /// that another connection has locked; see [`set_busy_timeout`](Self::set_busy_timeout).
    ///
    /// # Errors
    ///
    /// Fails if the program has no access to the path, if the path is not a file or cannot be
    /// opened, or if the process has reached its limit on open databases. Only the first statement
    /// checks whether the file is a database.
    pub fn open(path: &str) -> Result<Self, Error> {
        let mut id = 0;
        if host::sqlite::open(path, &mut id) != 0 {
            return Err(Error::new(CANTOPEN, LunaticError::from_id(id).to_string()));
        }
        let connection = Self { id };
        connection.set_busy_timeout(BUSY_TIMEOUT);
        Ok(connection)
    }

    /// Creates an empty in-memory database, which is discarded when the connection is dropped.
    ///
    /// # Errors
    ///
    /// Fails if the process has reached its limit on open databases.
    pub fn open_in_memory() -> Result<Self, Error> {
        Self::open(":memory:")
    }

    /// Executes a statement with the given parameter values, ignoring any rows that it yields.
    /// Returns the number of rows changed by the last data-changing statement on this connection.
    ///
    /// # Errors
    ///
    /// Fails if SQLite reports an error, in which case any changes made by the statement are
    /// undone. Also fails if `sql` contains more than one statement.
    pub fn execute(&self, sql: &str, values: impl Parameters) -> Result<u64, Error> {
        self.prepare(sql)?.execute(values)
    }

    /// Executes statements without parameters, one after another, until one fails.
    ///
    /// # Errors
    ///
    /// Fails if SQLite reports an error. The statements before the failed one have taken effect.
    pub fn execute_batch(&self, sql: &str) -> Result<(), Error> {
        Error::or_value(|error| host::sqlite::execute_all(self.id, sql, error)).map(drop)
    }

    /// Returns all rows that a statement yields.
    ///
    /// # Errors
    ///
    /// Fails if SQLite reports an error.
    pub fn query(&self, sql: &str, values: impl Parameters) -> Result<Vec<Row>, Error> {
        self.prepare(sql)?.query(values)?.collect()
    }

    /// Returns the first row that a statement yields, or `None` if there are no rows. The statement
    /// is not run any further.
    ///
    /// # Errors
    ///
    /// Fails if SQLite reports an error.
    pub fn query_row(&self, sql: &str, values: impl Parameters) -> Result<Option<Row>, Error> {
        self.prepare(sql)?.query(values)?.next().transpose()
    }

    /// Prepares a statement that can be executed many times.
    ///
    /// # Errors
    ///
    /// Fails if SQLite reports an error. Also fails if `sql` does not contain exactly one
    /// statement.
    pub fn prepare(&self, sql: &str) -> Result<Statement<'_>, Error> {
        let id = Error::or_value(|id| host::sqlite::prepare(self.id, sql, id))?;
        Ok(Statement::new(id, self.id))
    }

    /// Runs a function in a transaction. If the function returns `Ok`, its changes are committed;
    /// if it returns an error, they are rolled back.
    ///
    /// During the transaction, other connections can read the database but cannot write to it. If
    /// the process dies during the transaction, nothing is committed.
    ///
    /// # Errors
    ///
    /// Fails if the function returns an error, or if SQLite cannot begin or commit the transaction.
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
            // Some errors roll back the transaction themselves. This rollback then fails, which
            // does not matter.
            let _ = self.execute_batch("ROLLBACK");
        }
        result
    }

    /// Returns the id of the last row inserted, or 0 if there isn't one.
    pub fn last_insert_rowid(&self) -> i64 {
        host::sqlite::last_insert_rowid(self.id)
    }

    /// Sets how long a statement waits for a database that another connection has locked before
    /// failing with a [busy](Error::is_busy) error. The timeout is rounded up to whole
    /// milliseconds.
    pub fn set_busy_timeout(&self, timeout: Duration) {
        host::sqlite::set_busy_timeout(self.id, host::milliseconds(timeout));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        host::sqlite::drop_connection(self.id);
    }
}
