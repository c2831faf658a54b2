//! Detects changes to a file, even if it is replaced or reached through a link.

use lunatic_watch::{Fingerprint, StopOnDrop, Wake, Watch};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often to check the file if the system does not report anything.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Changes to a file.
pub(super) struct Changes {
    file: PathBuf,
    watch: Watch,
    known: Option<Fingerprint>,
}

impl Changes {
    /// Starts watching. Dropping the guard stops the watch.
    pub(super) fn of(file: &Path) -> (Changes, StopOnDrop) {
        let known = fingerprint(file);
        let (mut watch, stop) = Watch::new(POLL_INTERVAL);
        watch.set(directories(file));
        let file = file.to_path_buf();
        (Changes { file, watch, known }, stop)
    }

    /// Calls a function after each burst of changes, on a new thread, until the function returns
    /// false or watching stops. The function may also be called when the contents have not changed.
    pub(super) fn each(
        mut self,
        mut react: impl FnMut() -> bool + Send + 'static,
    ) -> std::io::Result<()> {
        let work = move || {
            while let Some(wake) = self.watch.wait() {
                // The fingerprint is taken before the contents are read, so that later changes are
                // detected.
                let now = fingerprint(&self.file);
                if wake == Wake::Poll && now == self.known {
                    continue;
                }
                self.known = now;
                self.watch.set(directories(&self.file));
                if !react() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("lunatic-reload".to_string())
            .spawn(work)
            .map(drop)
    }
}

fn fingerprint(file: &Path) -> Option<Fingerprint> {
    let metadata = std::fs::metadata(file).ok()?;
    Some(Fingerprint::of(&metadata))
}

/// Returns the directories where changes to the file are visible: the file's directory and, if the
/// file is a link, its target's directory.
fn directories(file: &Path) -> BTreeSet<PathBuf> {
    let target = file.canonicalize().ok();
    let paths = [Some(file), target.as_deref()].into_iter().flatten();
    paths
        .filter_map(|path| Some(path.parent()?.to_path_buf()))
        .collect()
}
