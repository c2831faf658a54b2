//! Rows, and the identification of columns by index or name.

use super::error::{Error, MISMATCH, RANGE};
use super::value::{FromValue, Value};
use lunatic_abi::sqlite::List;
use std::rc::Rc;

/// A row of a query result.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    values: Vec<Value>,
    columns: Rc<[String]>,
}

impl Row {
    pub(super) fn read(bytes: &[u8], columns: &Rc<[String]>) -> Self {
        let mut list = List::new(bytes).expect("the machine writes valid lists");
        let values = std::iter::from_fn(|| list.value().expect("the machine writes valid lists"));
        Self {
            values: values.map(Value::from).collect(),
            columns: columns.clone(),
        }
    }

    /// Returns the value of a column, given by zero-based index or by name.
    ///
    /// # Errors
    ///
    /// Fails if the column does not exist, or if its value is of a different type. If the value can
    /// be `NULL`, get it as an `Option`.
    pub fn get<T: FromValue>(&self, column: impl Column) -> Result<T, Error> {
        let index = column
            .index(&self.columns)
            .filter(|index| *index < self.values.len());
        let index = index.ok_or_else(|| {
            Error::new(
                RANGE,
                format!("the row has no column {}", column.describe()),
            )
        })?;
        T::from_value(&self.values[index]).ok_or_else(|| {
            // If columns were added to the table after the statement was prepared, there are more
            // values than names.
            let name = self.columns.get(index).map_or("?", String::as_str);
            let kind = self.values[index].kind();
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

/// A zero-based index or a name that identifies a column. If several columns have the same name, it
/// identifies the first one.
pub trait Column: sealed::Column {}

impl Column for usize {}
impl Column for &str {}

mod sealed {
    /// The private methods of [`super::Column`].
    pub trait Column {
        fn index(&self, names: &[String]) -> Option<usize>;
        fn describe(&self) -> String;
    }

    impl Column for usize {
        fn index(&self, _: &[String]) -> Option<usize> {
            Some(*self)
        }

        fn describe(&self) -> String {
            self.to_string()
        }
    }

    impl Column for &str {
        fn index(&self, names: &[String]) -> Option<usize> {
            names.iter().position(|name| name == self)
        }

        fn describe(&self) -> String {
            format!("`{self}`")
        }
    }
}
