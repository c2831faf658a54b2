//! The rules by which processes interact: signals, messages, links, monitors and deaths.
//!
//! This crate does not depend on what a process runs, where it runs or what a message carries.
//! `signal`, `mailbox`, `links`, `state` and `exit` are plain data: they make decisions, but never
//! wait, lock or read a clock. [`ProcessCell`] puts the state of one process behind a lock and
//! wakes the process. [`Table`] finds processes by pid, and passes signals between them. `vm/model`
//! runs [`ProcessCell`] and [`Table`] under every possible thread interleaving.

#![forbid(unsafe_code)]

mod cell;
mod exit;
mod links;
mod mailbox;
mod pid;
mod printable;
mod purse;
mod signal;
mod state;
mod sync;
mod table;

pub use cell::{ProcessCell, Refusal};
pub use exit::{Exit, Frame, LimitReached, RawFrame, SourceLocation, Symbols, Trap};
pub use mailbox::{Attachment, Mail, MailboxLimits, Message, Wanted};
pub use pid::{Pid, PidSource};
pub use printable::{printable, printable_lines};
pub use purse::{Paid, Purse};
pub use signal::Signal;
pub use table::{Notices, Table};
