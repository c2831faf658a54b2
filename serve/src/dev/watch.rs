//! Waits for changes below directories.
//!
//! What the system tells is quick and not all: so one who waits is also sent to look from time to time. It says that something
//! may have changed and not what: whoever is told compares the content.

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whoever writes files is given so long to go on writing, and is not waited for longer than the second.
const QUIET: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(1);

/// How often one is sent to look, whatever the system tells.
const POLLING: Duration = Duration::from_secs(2);

/// Watches until it is ended.
pub(super) struct Watch {
    watched: Mutex<Watched>,
    is_over: Arc<AtomicBool>,
    changed: SyncSender<()>,
}

struct Watched {
    /// `None` where the system has no means, or no more of them.
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
}

/// Receives what the system tells.
pub(super) struct Changes {
    told: Receiver<()>,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    /// Begins to watch, as yet nothing.
    pub(super) fn begin() -> (Watch, Changes) {
        // One place suffices: what happens before it is taken out is seen by whoever takes it out.
        let (changed, told) = sync_channel(1);
        let teller = changed.clone();
        let watcher = notify::recommended_watcher(move |_| {
            // Where there is no place, nobody has looked since the last change.
            let _ = teller.try_send(());
        });
        let watcher = watcher
            .inspect_err(|error| log::warn!("changes are looked for every {POLLING:?}: {error}"))
            .ok();
        let is_over = Arc::new(AtomicBool::new(false));
        let watched = Mutex::new(Watched {
            watcher,
            directories: BTreeSet::new(),
        });
        (
            Watch {
                watched,
                is_over: is_over.clone(),
                changed,
            },
            Changes { told, is_over },
        )
    }

    /// Watches these directories, without those below them, and no others.
    pub(super) fn set(&self, directories: BTreeSet<PathBuf>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Watched {
            watcher,
            directories: before,
        } = &mut *watched;
        let Some(watcher) = watcher else { return };
        let mut kept: BTreeSet<PathBuf> = BTreeSet::new();
        for gone in before.difference(&directories) {
            // What is no more cannot be given up.
            let _ = watcher.unwatch(gone);
        }
        let mut is_more = false;
        for directory in directories {
            let is_known = before.contains(&directory);
            match is_known
                || watcher
                    .watch(&directory, RecursiveMode::NonRecursive)
                    .is_ok()
            {
                true => _ = kept.insert(directory),
                false => log::debug!("`{}` is looked at every {POLLING:?}", directory.display()),
            }
            is_more |= !is_known;
        }
        *before = kept;
        if is_more {
            // Something may have changed there before it was watched.
            let _ = self.changed.try_send(());
        }
    }

    /// Sends whoever waits away.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = self.changed.try_send(());
    }
}

impl Changes {
    /// Waits until something may have changed and whoever changes it has paused; returns whether to go on.
    pub(super) fn wait(&self) -> bool {
        let is_over = || self.is_over.load(Ordering::SeqCst);
        match self.told.recv_timeout(POLLING) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return !is_over(),
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        let last = Instant::now() + PATIENCE;
        while !is_over() && Instant::now() < last && self.told.recv_timeout(QUIET).is_ok() {}
        !is_over()
    }
}
