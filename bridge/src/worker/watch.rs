//! Watches a file for changes, also where it is replaced or where a link to it is.
//!
//! What the system tells is quick and not all: a directory above may be another, or a link may lead to where nothing is
//! watched. So the file is also looked at from time to time.
//!
//! It says that something may have changed and not what: whoever is told compares the content.

use crate::LoadError;
use notify::{PollWatcher, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// Whoever writes a file is given so long to go on writing, and is not waited for longer than the second.
const QUIET: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the file is looked at, whatever the system tells.
const POLLING: Duration = Duration::from_secs(1);

/// Watches until it is dropped.
pub(super) struct Watch {
    _watcher: Box<dyn Watcher + Send + Sync>,
}

impl Watch {
    /// Begins to watch.
    pub(super) fn begin(file: &Path) -> Result<(Watch, Changes), LoadError> {
        let looked_like = Look::at(file);
        // One place suffices: what happens before it is taken out is seen by whoever takes it out.
        let (changed, changes) = sync_channel(1);
        let directories = directories(file);
        let watcher = match watch::<RecommendedWatcher>(
            &directories,
            changed.clone(),
            notify::Config::default(),
        ) {
            Ok(watcher) => watcher,
            // The system's means are limited, or there are none on this file system.
            Err(error) => {
                log::warn!(
                    "`{}` is looked at every {POLLING:?}, as it cannot be watched: {error}",
                    file.display()
                );
                let config = notify::Config::default()
                    .with_poll_interval(POLLING)
                    .with_compare_contents(true);
                watch::<PollWatcher>(&directories, changed, config).map_err(|error| {
                    LoadError::Watch {
                        path: file.to_path_buf(),
                        error,
                    }
                })?
            }
        };
        Ok((
            Watch { _watcher: watcher },
            Changes {
                file: file.to_path_buf(),
                looked_like,
                told: changes,
            },
        ))
    }
}

/// What is known of changes of a file.
pub(super) struct Changes {
    file: PathBuf,
    looked_like: Look,
    /// Receives what the system tells, until the watch is dropped.
    told: Receiver<()>,
}

/// What a file looks like from outside: where that is as it was, so is the content.
#[derive(PartialEq, Eq)]
struct Look(Option<(u64, Option<SystemTime>, [i64; 4])>);

impl Look {
    fn at(file: &Path) -> Look {
        let look = |metadata: std::fs::Metadata| {
            (
                metadata.len(),
                metadata.modified().ok(),
                identity(&metadata),
            )
        };
        Look(std::fs::metadata(file).ok().map(look))
    }
}

/// Tells a file from another with the same size and date, where the system knows.
#[cfg(unix)]
fn identity(metadata: &std::fs::Metadata) -> [i64; 4] {
    use std::os::unix::fs::MetadataExt;
    [
        metadata.dev().cast_signed(),
        metadata.ino().cast_signed(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ]
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> [i64; 4] {
    [0; 4]
}

fn watch<W: Watcher + Send + Sync + 'static>(
    directories: &[PathBuf],
    changed: SyncSender<()>,
    config: notify::Config,
) -> notify::Result<Box<dyn Watcher + Send + Sync>> {
    let mut watcher = W::new(
        move |_| {
            // Where there is no place, nobody has looked since the last change.
            let _ = changed.try_send(());
        },
        config,
    )?;
    for directory in directories {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
    }
    Ok(Box::new(watcher))
}

/// Returns the directories in which a change of the file shows: its own, and where it is a link, that of what it leads to.
fn directories(file: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| path.parent().map(Path::to_path_buf);
    let mut directories: Vec<PathBuf> = parent(file).into_iter().collect();
    if let Some(target) = file.canonicalize().ok().as_deref().and_then(parent)
        && !directories.contains(&target)
    {
        directories.push(target);
    }
    directories
}

/// Does something after each burst of changes, on a thread of its own, until it returns `false` or the watch ends.
pub(super) fn each(
    changes: Changes,
    mut react: impl FnMut() -> bool + Send + 'static,
) -> std::io::Result<()> {
    let Changes {
        file,
        mut looked_like,
        told,
    } = changes;
    let work = move || {
        loop {
            match told.recv_timeout(POLLING) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) if Look::at(&file) != looked_like => {}
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let last = Instant::now() + PATIENCE;
            while Instant::now() < last {
                match told.recv_timeout(QUIET) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            // Before it is read: what is written from now on shows.
            looked_like = Look::at(&file);
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
