//! SQLite errors.

use crate::error::LunaticError;
use std::fmt;

// The primary SQLite result codes that this library uses itself.
pub(super) const CANTOPEN: u32 = 14;
pub(super) const MISMATCH: u32 = 20;
pub(super) const RANGE: u32 = 25;

/// Why a statement failed, or why a database could not be opened.
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
    pub(super) fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Fetches the error with this id from the machine.
    pub(super) fn from_id(code: u32, id: u64) -> Self {
        Self::new(code, LunaticError::from_id(id).to_string())
    }

    /// Makes a call that either returns 0 and writes a value, or returns an SQLite result code and
    /// writes an error id.
    pub(super) fn or_value(call: impl FnOnce(&mut u64) -> u32) -> Result<u64, Self> {
        let mut value = 0;
        match call(&mut value) {
            0 => Ok(value),
            code => Err(Self::from_id(code, value)),
        }
    }

    /// Returns SQLite's [extended result code](https://www.sqlite.org/rescode.html), whose lowest
    /// byte is the primary result code.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// Returns true if another connection had the database locked for longer than the busy timeout.
    pub fn is_busy(&self) -> bool {
        self.code & 0xff == 5
    }

    /// Returns true if the statement would have violated a table constraint: the row already
    /// exists, a value is missing, and so on.
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
