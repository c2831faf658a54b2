//! Checks the source tree. The tests in this crate read the tree without building anything from it.
//!
//! [`Crate`] follows the imports between a crate's files; the tests about layers are based on it.
//! [`count`] counts lines of code.

#![forbid(unsafe_code)]

mod circles;
mod count;
mod imports;
mod tree;

pub use circles::circles;
pub use count::{RULES, count};
pub use imports::Crate;
pub use tree::{root, sources};
