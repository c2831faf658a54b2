//! The rules by which processes treat each other: signals, messages, links, monitors and ends.
//!
//! Nothing here knows what a process runs, where it lives or what a message carries. `signal`,
//! `mailbox`, `links`, `state` and `exit` are plain data: they decide, and never wait, lock or look
//! at a clock. [`ProcessCell`] puts one process's state behind a lock and wakes it; [`Table`] finds
//! processes by pid and carries links, monitors and ends from one to another. `vm/model` runs these
//! two in every possible interleaving of threads.

#![forbid(unsafe_code)]

mod cell;
mod exit;
mod links;
mod mailbox;
mod pid;
mod signal;
mod state;
mod sync;
mod table;

pub use cell::{ProcessCell, Refusal};
pub use exit::{Exit, Frame, LimitReached, Trap};
pub use mailbox::{Attachment, Mail, MailboxLimits, Message, Wanted};
pub use pid::{Pid, PidSource};
pub use signal::Signal;
pub use table::Table;
