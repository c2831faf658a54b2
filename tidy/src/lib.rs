//! What must hold of the sources themselves. The tests of this crate read the tree; they build
//! nothing of it.
//!
//! [`Crate`] follows the imports between the files of a crate, which is what the tests about layers
//! are made of; [`count`] counts lines of code.

#![forbid(unsafe_code)]

mod circles;
mod count;
mod imports;
mod tree;

pub use circles::circles;
pub use count::{RULES, count};
pub use imports::Crate;
pub use tree::{root, sources};
