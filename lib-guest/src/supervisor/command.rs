//! What a running supervisor can be asked, and how it answers.

use super::rules::Restart;
use crate::process::handle::Process;
use serde::{Deserialize, Serialize};

/// A request to a supervisor. With it comes an argument, which matters only for a start.
#[derive(Serialize, Deserialize)]
pub(super) enum Command {
    Start { template: String },
    Terminate { process: u64 },
    Children,
    Count,
}

/// A child, as returned by [`Supervisor::children`](super::Supervisor::children).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChildInfo {
    /// Its id in the plan.
    pub id: String,
    /// Its process; `None` while it is not running.
    pub process: Option<Process<()>>,
    /// After which ends it is restarted.
    pub restart: Restart,
}

/// How many children there are, as returned by [`Supervisor::count`](super::Supervisor::count).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Count {
    /// All children, running or not.
    pub children: usize,
    /// The running ones.
    pub active: usize,
}
