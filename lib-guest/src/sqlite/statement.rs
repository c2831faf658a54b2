//! Prepared statements and the rows that they yield.

use super::error::Error;
use super::row::Row;
use super::value::Parameters;
use crate::host;
use lunatic_abi::sqlite::{List, write_length};
use std::marker::PhantomData;
use std::rc::Rc;

// Result codes of a step.
const ROW: u32 = 100;
const DONE: u32 = 101;

/// The maximum size, in bytes, of a row that a step can return directly. Larger rows require a
/// second call.
const ROW_BUFFER: usize = 4096;

/// A prepared statement that can be executed many times.
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
    /// The column names, fetched on first use.
    columns: Option<Rc<[String]>>,
    /// The buffer for serialized parameter values, kept for reuse.
    values: Vec<u8>,
    borrowed: PhantomData<&'a ()>,
}

impl Statement<'_> {
    pub(super) fn new(id: u64, connection: u64) -> Self {
        Self {
            id,
            connection,
            columns: None,
            values: Vec::new(),
            borrowed: PhantomData,
        }
    }

    /// Runs the statement to completion, like [`Connection::execute`](super::Connection::execute).
    ///
    /// # Errors
    ///
    /// Fails if SQLite reports an error.
    pub fn execute(&mut self, values: impl Parameters) -> Result<u64, Error> {
        self.bind(values)?;
        loop {
            let mut error = 0;
            match host::sqlite::step_row(self.id, &mut [], &mut error) {
                ROW => {}
                DONE => return Ok(host::sqlite::sqlite3_changes(self.connection).into()),
                code => return Err(Error::from_id(code, error)),
            }
        }
    }

    /// Starts executing the statement, and returns an iterator over its rows. The rows are computed
    /// on demand.
    ///
    /// # Errors
    ///
    /// Fails if a value is given for a parameter that the statement does not have. The iterator
    /// yields later errors.
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
            borrowed: PhantomData,
        })
    }

    /// Returns the names of the columns in the statement's rows.
    pub fn column_names(&mut self) -> &[String] {
        self.columns.get_or_insert_with(|| column_names(self.id))
    }

    fn bind(&mut self, values: impl Parameters) -> Result<(), Error> {
        self.values.clear();
        write_length(&mut self.values, values.count());
        values.write(&mut self.values);
        Error::or_value(|error| host::sqlite::bind(self.id, &self.values, error)).map(drop)
    }
}

impl Drop for Statement<'_> {
    fn drop(&mut self) {
        host::sqlite::sqlite3_finalize(self.id);
    }
}

/// An iterator over a query's rows. Dropping it early releases the query's locks.
#[derive(Debug)]
pub struct Rows<'a> {
    id: u64,
    columns: Rc<[String]>,
    buffer: Vec<u8>,
    is_over: bool,
    borrowed: PhantomData<&'a mut ()>,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Result<Row, Error>> {
        if self.is_over {
            return None;
        }
        let mut size = 0;
        let code = host::sqlite::step_row(self.id, &mut self.buffer, &mut size);
        if code != ROW {
            self.is_over = true;
            return (code != DONE).then(|| Err(Error::from_id(code, size)));
        }
        let size = size as usize;
        if size > self.buffer.len() {
            self.buffer.resize(size, 0);
            host::sqlite::copy_row(self.id, &mut self.buffer);
        }
        let mut row = Row::read(&self.buffer[..size], &self.columns);
        if row.values().len() != self.columns.len() {
            // Another connection has changed the table since the column names were fetched.
            self.columns = column_names(self.id);
            row = Row::read(&self.buffer[..size], &self.columns);
        }
        Some(Ok(row))
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        host::sqlite::statement_reset(self.id);
    }
}

fn column_names(statement: u64) -> Rc<[String]> {
    let size = host::sqlite::copy_column_names(statement, &mut []) as usize;
    let mut names = vec![0; size];
    host::sqlite::copy_column_names(statement, &mut names);
    let mut list = List::new(&names).expect("the machine writes valid lists");
    std::iter::from_fn(|| list.text().expect("the machine writes valid lists"))
        .map(str::to_owned)
        .collect()
}
