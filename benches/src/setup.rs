//! The machine and the commit that figures were measured on.

use crate::{meters, programs};
use std::process::Command;

/// A machine and a commit.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The machine, and the profile that this is compiled in.
    pub machine: String,
    /// The commit; with `-dirty` if files differ from it.
    pub commit: String,
}

impl Setup {
    /// Describes this machine and this working copy.
    pub fn current() -> Setup {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let memory = (meters::total_memory() as f64 / f64::from(1 << 30)).round();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = kernel.split('-').next().unwrap_or_default().trim();
        let profile = programs::profile_name();
        let machine = format!(
            "{cores} cores, {}, {memory} GiB, Linux {kernel}, profile {profile}",
            std::env::consts::ARCH
        );
        let commit = Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string())
            .unwrap_or_default();
        Setup { machine, commit }
    }
}
