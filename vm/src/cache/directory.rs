//! The cache's directory and the key next to it. Checks who can access them.

use crate::mounts::Mounts;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The key used to authenticate entries.
pub(super) type Key = [u8; blake3::KEY_LEN];

/// A directory that only the current user can write to.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    key_path: PathBuf,
    /// The directory and all directories that contain it, innermost first.
    around: Vec<Identity>,
    key: Mutex<Option<Key>>,
    /// Locks that tell other machines which directories this machine's guests are granted.
    leases: Mutex<Vec<OwnedFd>>,
}

/// Identifies a directory, regardless of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// What can be reached from a directory that guests are granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exposure {
    pub(super) entries: bool,
    pub(super) key: bool,
}

impl Identity {
    fn from(metadata: &fs::Metadata) -> Identity {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

impl Directory {
    /// Opens the directory, creating it if it does not exist.
    pub(super) fn open(path: &Path) -> io::Result<Directory> {
        let path = std::path::absolute(path)?;
        if path.components().any(|part| part == Component::ParentDir) || path.parent().is_none() {
            return refuse(&path, "is not a plain path to a directory");
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        let around = path
            .ancestors()
            .map(|directory| check(directory, directory == path))
            .collect::<io::Result<Vec<_>>>()?;
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".key");
        let directory = Directory {
            key_path: path.with_file_name(name),
            key: Mutex::default(),
            leases: Mutex::default(),
            around,
            path,
        };
        directory.check_leases()?;
        *directory.lock_key() = read_key(&directory.key_path)?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what can be reached from a directory, by any path that leads there.
    pub(super) fn exposure(&self, granted: &File) -> Exposure {
        let granted_identity = granted.metadata().map(|metadata| Identity::from(&metadata));
        let is = |other: &Identity| granted_identity.as_ref().is_ok_and(|own| own == other);
        let exposure = Exposure {
            entries: self.around.iter().any(is),
            key: self.around[1..].iter().any(is),
        };
        match exposure.key {
            true => exposure,
            false => self.exposure_by_mounts(granted, exposure),
        }
    }

    /// Adds what can be reached because a directory is mounted in several places.
    fn exposure_by_mounts(&self, granted: &File, found: Exposure) -> Exposure {
        let mounts = Mounts::now();
        let reach = || {
            let (directory, path) = mounts.find(granted)?;
            let place = |path: &Path| Some(mounts.find(&File::open(path).ok()?)?.0);
            let entries = place(&self.path)?;
            let key = place(self.key_path.parent()?)?.join(self.key_path.file_name()?);
            let leads = |target| mounts.lead_to(target, &directory, &path);
            Some(Exposure {
                entries: found.entries || leads(&entries),
                key: leads(&key),
            })
        };
        // If the system does not list its mounts, what this process can see has to suffice.
        reach().unwrap_or(found)
    }

    /// Returns the key, if it exists.
    pub(super) fn known_key(&self) -> Option<Key> {
        *self.lock_key()
    }

    /// Returns the key, creating it if it does not exist.
    pub(super) fn key(&self) -> io::Result<Key> {
        let mut known = self.lock_key();
        if let Some(key) = *known {
            return Ok(key);
        }
        let mut key = Key::default();
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        let beside = self.key_path.parent().unwrap_or(&self.path);
        let mut file = tempfile::NamedTempFile::new_in(beside)?;
        file.write_all(&key)?;
        // A guest that had write access to the key's directory during another run could not have
        // created a file with this mode.
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(KEY_MODE))?;
        file.persist(&self.key_path).map_err(|error| error.error)?;
        *known = Some(key);
        Ok(key)
    }

    /// Removes the key, because guests are granted a directory that contains it. Other machines do
    /// not create a new key while this machine exists.
    pub(super) fn abandon_key(&self, granted: &File) {
        *self.lock_key() = None;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if let Ok(directory) = openat(granted, ".", flags, Mode::empty())
            && lock(&directory, FlockOperation::NonBlockingLockShared)
        {
            self.leases
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(directory);
        }
        match fs::remove_file(&self.key_path) {
            Err(error) if error.kind() != ErrorKind::NotFound => log::warn!(
                "the program can read the cache's key, `{}`, and the key cannot be removed: {error}",
                self.key_path.display()
            ),
            _ => {}
        }
    }

    /// Returns an error if a guest of another machine could read the key.
    fn check_leases(&self) -> io::Result<()> {
        for directory in self.path.ancestors().skip(1) {
            let Ok(file) = File::open(directory) else {
                continue;
            };
            if !lock(&file, FlockOperation::NonBlockingLockExclusive) {
                let why = "is granted to a program that is running";
                return refuse(directory, why);
            }
        }
        Ok(())
    }

    fn lock_key(&self) -> MutexGuard<'_, Option<Key>> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Locks a directory. Returns false if another process holds the lock for longer than a starting
/// machine needs it.
#[expect(
    clippy::disallowed_methods,
    reason = "this runs on the host's thread, and another machine holds the lock only briefly"
)]
fn lock(directory: impl std::os::fd::AsFd, operation: FlockOperation) -> bool {
    for _ in 0..20 {
        match flock(&directory, operation) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(1)),
            // The file system does not support locks.
            _ => return true,
        }
    }
    false
}

const KEY_MODE: u32 = 0o400;

/// Reads the key. Removes an invalid key, which a guest may have created during another run.
fn read_key(path: &Path) -> io::Result<Option<Key>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path);
    let mut file = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    let is_valid = metadata.is_file()
        && metadata.uid() == this_user()
        && metadata.mode() & 0o7777 == KEY_MODE
        && metadata.nlink() == 1
        && metadata.len() == blake3::KEY_LEN as u64;
    if !is_valid {
        log::warn!(
            "the cache's key, `{}`, was not written by this command; starting a new cache",
            path.display()
        );
        fs::remove_file(path)?;
        return Ok(None);
    }
    let mut key = Key::default();
    file.read_exact(&mut key)?;
    Ok(Some(key))
}

/// Checks the cache's directory, or a directory that contains it.
fn check(directory: &Path, is_own: bool) -> io::Result<Identity> {
    let mut metadata = fs::symlink_metadata(directory)?;
    // Symbolic links in the root directory belong to the system. On some systems, `/home` is a
    // link.
    let is_of_system = || {
        directory
            .parent()
            .is_some_and(|parent| parent == Path::new("/"))
    };
    if metadata.is_symlink() && is_of_system() && metadata.uid() == 0 && !is_own {
        metadata = fs::metadata(directory)?;
    }
    if metadata.is_symlink() {
        return refuse(directory, "is a symbolic link");
    }
    let mode = metadata.mode();
    if is_own && metadata.uid() != this_user() {
        return refuse(directory, "belongs to another user");
    }
    if is_own && mode & 0o022 != 0 {
        return refuse(directory, "is writable by others");
    }
    // If this bit is set on a directory, users cannot rename or remove files that they do not own.
    const STICKY: u32 = 0o1000;
    if mode & 0o002 != 0 && mode & STICKY == 0 {
        return refuse(directory, "is writable by everybody");
    }
    Ok(Identity::from(&metadata))
}

fn this_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn refuse<T>(path: &Path, why: &str) -> io::Result<T> {
    let text = format!(
        "`{}` {why}; compiled code is stored only where no other user can write",
        path.display()
    );
    Err(io::Error::new(ErrorKind::PermissionDenied, text))
}
