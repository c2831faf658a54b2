//! Checks of the source tree. The tests of this crate read the tree but build nothing from it.
//!
//! [`Crate`] follows the imports between the files of a crate; the tests about layers are based on
//! it. [`count`] counts lines of code.

#![forbid(unsafe_code)]

mod circles;
mod count;
mod imports;
mod tree;

pub use circles::circles;
pub use count::{RULES, count};
pub use imports::Crate;
pub use tree::{root, sources};
