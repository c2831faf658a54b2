//! Waits until files in watched directories may have changed.
//!
//! The system's reports are prompt but incomplete: a link may lead to a directory that is not
//! watched, a file system may report nothing, and watches may run out. Therefore the waiting thread
//! is also woken at regular intervals. It learns that something may have changed, but never what,
//! so it has to check whether a file has changed, by comparing the file's [`Fingerprint`] or its
//! content.

#![forbid(unsafe_code)]

mod regular;

pub use regular::open_regular;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// A burst of changes has ended when nothing has changed for this long.
const QUIET_PERIOD: Duration = Duration::from_millis(50);

/// The maximum time that a burst of changes delays the waiting thread.
const MAX_BURST: Duration = Duration::from_secs(1);

/// Watches directories on behalf of one waiting thread.
///
/// ```no_run
/// use lunatic_watch::Watch;
/// use std::time::Duration;
///
/// let (mut watch, stop) = Watch::new(Duration::from_secs(2));
/// watch.set(["src".into()].into());
/// std::thread::spawn(move || {
///     while let Some(wake) = watch.wait() {
///         println!("{wake:?}");
///     }
/// });
/// // …
/// drop(stop);
/// ```
pub struct Watch {
    /// `None` if the system cannot watch directories, or has no watches left.
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
    poll_interval: Duration,
    wake: SyncSender<()>,
    woken: Receiver<()>,
    is_over: Arc<AtomicBool>,
}

/// Ends a watch when dropped. After that, [`Watch::wait`] returns `None`.
pub struct StopOnDrop {
    is_over: Arc<AtomicBool>,
    wake: SyncSender<()>,
}

/// Why a waiter was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Something changed in a watched directory, or a directory has just been added.
    Changed,
    /// Nothing was reported for one poll interval.
    Poll,
}

impl Watch {
    /// Creates a `Watch` that has no directories yet. If the system cannot watch directories at
    /// all, a warning is logged, and the waiting thread is woken only by polling.
    pub fn new(poll_interval: Duration) -> (Watch, StopOnDrop) {
        // One slot is enough, because a waiter that takes a notification sees everything that
        // changed before it.
        let (wake, woken) = sync_channel(1);
        let report = wake.clone();
        let watcher = notify::recommended_watcher(move |_| {
            // If the slot is full, the waiter has not yet taken the notification of an earlier
            // change.
            let _ = report.try_send(());
        });
        let watcher = watcher
            .inspect_err(|error| log::warn!("polling for changes every {poll_interval:?}: {error}"))
            .ok();
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = StopOnDrop {
            is_over: is_over.clone(),
            wake: wake.clone(),
        };
        let watch = Watch {
            watcher,
            directories: BTreeSet::new(),
            poll_interval,
            wake,
            woken,
            is_over,
        };
        (watch, stop)
    }

    /// Watches exactly the given directories, not their subdirectories. Changes in a directory that
    /// cannot be watched are found only by polling.
    pub fn set(&mut self, directories: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for gone in self.directories.difference(&directories) {
            // This fails if the directory no longer exists.
            let _ = watcher.unwatch(gone);
        }
        self.directories.retain(|known| directories.contains(known));
        for directory in directories {
            if self.directories.contains(&directory) {
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.directories.insert(directory);
                    // A file in a new directory may have changed before the directory was watched.
                    let _ = self.wake.try_send(());
                }
                Err(error) => {
                    let interval = self.poll_interval;
                    log::debug!(
                        "polling `{}` every {interval:?}: {error}",
                        directory.display()
                    );
                }
            }
        }
    }

    /// Blocks until something may have changed and the burst of changes is over, or until the poll
    /// interval has passed. Returns `None` once the watch has ended.
    pub fn wait(&self) -> Option<Wake> {
        let wake = match self.woken.recv_timeout(self.poll_interval) {
            Ok(()) => Wake::Changed,
            Err(RecvTimeoutError::Timeout) => Wake::Poll,
            Err(RecvTimeoutError::Disconnected) => unreachable!("this watch holds a sender"),
        };
        let is_over = || self.is_over.load(Ordering::SeqCst);
        let latest = Instant::now() + MAX_BURST;
        while wake == Wake::Changed
            && !is_over()
            && Instant::now() < latest
            && self.woken.recv_timeout(QUIET_PERIOD).is_ok()
        {}
        (!is_over()).then_some(wake)
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // If the slot is full, the waiter is about to check the flag.
        let _ = self.wake.try_send(());
    }
}

/// A file's metadata. If the fingerprint is unchanged, the content is assumed to be unchanged too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    length: u64,
    modified: Option<SystemTime>,
    identity: [i64; 4],
}

impl Fingerprint {
    /// Returns the fingerprint of a file with the given metadata.
    pub fn of(metadata: &Metadata) -> Fingerprint {
        Fingerprint {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            identity: identity(metadata),
        }
    }
}

/// Returns numbers that distinguish files with the same size and date, if the system supports this.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> [i64; 4] {
    use std::os::unix::fs::MetadataExt;
    [
        metadata.dev().cast_signed(),
        metadata.ino().cast_signed(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ]
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> [i64; 4] {
    [0; 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any test runs, so that a waiter is woken only by a change or the end of the
    /// watch.
    const NEVER: Duration = Duration::from_secs(3600);

    #[test]
    fn a_change_in_a_watched_directory_wakes_the_waiter() {
        let place = tempfile::TempDir::new().expect("a temporary directory can be created");
        let (mut watch, _stop) = Watch::new(NEVER);
        watch.set([place.path().to_path_buf()].into());
        assert_eq!(watch.wait(), Some(Wake::Changed), "the directory is new");
        std::fs::write(place.path().join("new"), "").expect("the directory is writable");
        assert_eq!(watch.wait(), Some(Wake::Changed));
    }

    #[test]
    fn a_directory_that_cannot_be_watched_is_polled() {
        let (mut watch, _stop) = Watch::new(Duration::from_millis(1));
        watch.set(["/no/such/directory".into()].into());
        assert_eq!(watch.wait(), Some(Wake::Poll));
    }

    #[test]
    fn dropping_the_guard_ends_the_wait() {
        let (watch, stop) = Watch::new(NEVER);
        let waiter = std::thread::spawn(move || watch.wait());
        drop(stop);
        assert_eq!(waiter.join().expect("the waiter does not panic"), None);
        let (watch, stop) = Watch::new(NEVER);
        drop(stop);
        assert_eq!(
            watch.wait(),
            None,
            "a wait that begins after the watch has ended also returns"
        );
    }
}
