//! What the command `lunatic` promises, asked of the command itself. Guests are text in the tests.

mod cache;
mod completions;
mod guest;
mod init;
mod interrupt;
mod lunatic;
mod new;
mod program;
mod report;
mod rights;
mod status;
mod streams;
