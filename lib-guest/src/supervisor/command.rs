//! Requests that a running supervisor accepts, and its answers.

use super::rules::Restart;
use crate::process::handle::Process;
use serde::{Deserialize, Serialize};

/// A request to a supervisor. It is sent with an argument, which is used only for starting a child.
#[derive(Serialize, Deserialize)]
pub(super) enum Command {
    Start { template: String },
    Terminate { process: u64 },
    Children,
    Count,
}

/// A child, in the list returned by [`Supervisor::children`](super::Supervisor::children).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChildInfo {
    /// The child's id in the plan.
    pub id: String,
    /// The child's process, or `None` if it isn't running.
    pub process: Option<Process<()>>,
    /// Which exits cause the child to be restarted.
    pub restart: Restart,
}

/// The child counts returned by [`Supervisor::count`](super::Supervisor::count).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Count {
    /// The number of children, running or not.
    pub children: usize,
    /// The number of running children.
    pub active: usize,
}
