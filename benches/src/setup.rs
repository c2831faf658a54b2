//! The computer and the commit on which figures were measured.

use crate::{meters, programs};
use std::process::Command;

/// A computer and a commit.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The computer, and the profile this program was compiled with.
    pub machine: String,
    /// The commit, followed by `-dirty` if the working copy differs from it.
    pub commit: String,
}

impl Setup {
    /// Describes this computer and this working copy.
    pub fn current() -> Setup {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let memory = (meters::total_memory() as f64 / f64::from(1 << 30)).round();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = kernel.split('-').next().unwrap_or_default().trim();
        let profile = programs::profile_name();
        let machine = format!(
            "{cores} cores, {}, {memory} GiB, Linux {kernel}, {profile} profile",
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
