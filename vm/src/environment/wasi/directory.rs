//! Host directories that an environment's processes may access.
//!
//! A directory is opened once, when it is granted, and all paths are resolved from there, so later
//! changes to the directory's own path have no effect. A process grants its children a directory by
//! naming one inside its own directories; the name is resolved from the open directory and cannot
//! leave it, even if symbolic links are swapped in the meantime.

use super::beneath::Scope;
use super::errno::Errno;
use super::pace::Pace;
use super::table::{Descriptor, OpenDirectory, Place};
use crate::environment::Permit;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// What a process may do below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read files and list directories.
    Read,
    /// Also change, create and remove them.
    Write,
}

impl Access {
    pub(crate) fn check_writable(self) -> Result<(), Errno> {
        match self {
            Access::Read => Err(Errno::Perm),
            Access::Write => Ok(()),
        }
    }
}

/// A directory could not be granted.
#[derive(Debug, thiserror::Error)]
#[error("the directory `{}` cannot be granted: {reason}", lunatic_process::printable(&path.to_string_lossy()))]
pub struct PreopenError {
    path: PathBuf,
    reason: String,
}

impl PreopenError {
    fn new(path: impl Into<PathBuf>, reason: impl ToString) -> PreopenError {
        PreopenError {
            path: path.into(),
            reason: reason.to_string(),
        }
    }
}

/// An open host directory and the path by which guests refer to it.
#[derive(Clone)]
struct Preopen {
    directory: Arc<File>,
    /// The path that the directory was opened with. Used only on systems where an open directory
    /// has no path of its own.
    host: PathBuf,
    guest: GuestPath,
    access: Access,
    pace: Arc<Pace>,
    /// The permit for the directory's descriptors if a guest added it. A configuration from which
    /// the directory has been removed may have left it to environments that were created earlier,
    /// so the permit stays with the directory.
    _permit: Option<Arc<Permit>>,
}

/// The location of a file, which need not exist.
#[derive(Debug)]
pub(crate) struct FileLocation {
    /// The directory that contains the file.
    pub(crate) directory: File,
    /// A path to the file, leading through the open directory if the system supports that.
    pub(crate) path: PathBuf,
    pub(crate) access: Access,
}

/// The directories in a configuration. Neither cloning this nor starting a process takes another
/// descriptor.
#[derive(Clone, Default)]
pub(crate) struct Preopens {
    list: Vec<Preopen>,
}

impl Preopens {
    /// Opens and adds a host directory, replacing any existing one with the same guest path.
    /// Returns the open directory.
    pub(crate) fn open(
        &mut self,
        host: &Path,
        guest: &str,
        access: Access,
    ) -> Result<Arc<File>, PreopenError> {
        let guest = GuestPath::parse(guest).map_err(|reason| PreopenError::new(guest, reason))?;
        let directory = open_directory(host).map_err(|error| PreopenError::new(host, error))?;
        let directory = Arc::new(directory);
        self.add(Preopen {
            directory: directory.clone(),
            host: host.into(),
            guest,
            access,
            pace: Arc::default(),
            _permit: None,
        });
        Ok(directory)
    }

    /// Adds a directory that is inside one of another configuration's directories, with the access
    /// that the other configuration grants. The permit for its descriptors is released with the
    /// directory.
    pub(crate) fn add_from(
        &mut self,
        outer: &Preopens,
        guest: &str,
        permit: Option<Arc<Permit>>,
    ) -> Result<(), PreopenError> {
        let found = outer.within(guest)?;
        self.add(Preopen {
            _permit: permit,
            ..found
        });
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns the location of a file, given the path by which a guest refers to it. The file need
    /// not exist. The directory that contains it is opened, but the file itself is not. If the path
    /// leads to a symbolic link, the link is not followed.
    ///
    /// # Errors
    ///
    /// The reason, if the path does not lead to a granted directory or leads to something other
    /// than a file.
    pub(crate) fn file(&self, guest: &str) -> Result<FileLocation, String> {
        let (parent, name) = match guest.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some(split) => split,
            None => (".", guest),
        };
        if GuestPath::parse(name)?.parts.len() != 1 {
            return Err("a file path must end with a file name".into());
        }
        let found = self.within(parent).map_err(|error| error.reason)?;
        let directory = found
            .directory
            .try_clone()
            .map_err(|error| error.to_string())?;
        if is_other_than_file(&directory, &found.host, name).map_err(|error| error.to_string())? {
            return Err("the path does not lead to a file".into());
        }
        let path = name_of(&directory, &found.host).join(name);
        Ok(FileLocation {
            directory,
            path,
            access: found.access,
        })
    }

    /// Returns the descriptors of the directories for a process.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = Descriptor> {
        self.list.iter().map(|preopen| {
            Descriptor::Directory(OpenDirectory {
                place: Place {
                    directory: preopen.directory.clone(),
                    scope: preopen.guest.scope(),
                    access: preopen.access,
                    pace: preopen.pace.clone(),
                    granted_as: Some(preopen.guest.to_string().into()),
                },
                listing: None,
            })
        })
    }

    /// Returns the context that `wasmtime-wasi` creates a component's files from. A directory that
    /// cannot be reopened is skipped, and the failure is logged.
    pub(super) fn component_files(&self) -> WasiFilesystemCtx {
        let mut builder = WasiCtxBuilder::new();
        for preopen in &self.list {
            let permissions = match preopen.access {
                Access::Read => FsPerms::ReadOnly,
                Access::Write => FsPerms::ReadWrite,
            };
            let opened = builder.preopened_dir(
                name_of(&preopen.directory, &preopen.host),
                preopen.guest.to_string(),
                permissions,
            );
            if let Err(error) = opened {
                let error = PreopenError::new(&preopen.host, format!("{error:#}"));
                log::error!("a component runs without a directory: {error}");
            }
        }
        builder.build().filesystem().clone()
    }

    fn add(&mut self, new: Preopen) {
        self.list.retain(|preopen| preopen.guest != new.guest);
        self.list.push(new);
    }

    /// Opens the directory that a guest's path refers to.
    fn within(&self, guest: &str) -> Result<Preopen, PreopenError> {
        let fail = |reason: String| PreopenError::new(guest, reason);
        let path = GuestPath::parse(guest).map_err(fail)?;
        // As in a guest's own library, the longest prefix wins; of two equal prefixes, the later
        // one wins.
        let candidates = self
            .list
            .iter()
            .filter_map(|preopen| Some((preopen, path.strip(&preopen.guest)?)));
        let Some((preopen, rest)) = candidates.max_by_key(|(preopen, _)| preopen.guest.parts.len())
        else {
            return Err(fail(
                "it is not inside any of the environment's directories".into(),
            ));
        };
        let directory = match rest.as_os_str().is_empty() {
            true => preopen.directory.clone(),
            false => Arc::new(
                open_beneath(&preopen.directory, &preopen.host, &rest).map_err(
                    |error| match error.kind() {
                        io::ErrorKind::CrossesDevices => {
                            fail(format!("it leads out of `{}`", preopen.guest))
                        }
                        _ => fail(error.to_string()),
                    },
                )?,
            ),
        };
        Ok(Preopen {
            directory,
            host: preopen.host.join(rest),
            guest: path,
            access: preopen.access,
            pace: preopen.pace.clone(),
            _permit: None,
        })
    }
}

impl fmt::Debug for Preopens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |preopen: &Preopen| {
            format!(
                "{} as {} ({:?})",
                preopen.host.display(),
                preopen.guest,
                preopen.access
            )
        };
        f.debug_list().entries(self.list.iter().map(entry)).finish()
    }
}

/// A guest path, normalized: `./a//b/` becomes `a/b`, and `./` becomes `.`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct GuestPath {
    is_absolute: bool,
    parts: Vec<String>,
}

impl GuestPath {
    fn parse(path: &str) -> Result<GuestPath, String> {
        if path.is_empty() || path.contains('\0') {
            return Err("a path must not be empty or contain a zero byte".into());
        }
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        let parts: Vec<String> = parts.map(str::to_string).collect();
        if parts.iter().any(|part| part == "..") {
            return Err("a path must not contain `..`; name the directory directly".into());
        }
        // Guest paths must not contain anything that the host's system treats as more than a name,
        // such as a drive letter.
        let is_name = |part: &String| matches!(Path::new(part).components().next(), Some(Component::Normal(name)) if name == part.as_str());
        if !parts.iter().all(is_name) {
            return Err("a path must consist of plain names".into());
        }
        Ok(GuestPath {
            is_absolute: path.starts_with('/'),
            parts,
        })
    }

    /// Returns where absolute links below the directory lead if the directory is granted under this
    /// path.
    fn scope(&self) -> Scope {
        match (self.is_absolute, self.parts.is_empty()) {
            (true, true) => Scope::Root,
            _ => Scope::Beneath,
        }
    }

    /// Returns the part of this path that is below another path.
    fn strip(&self, other: &GuestPath) -> Option<PathBuf> {
        if self.is_absolute != other.is_absolute {
            return None;
        }
        self.parts
            .strip_prefix(other.parts.as_slice())
            .map(|rest| rest.iter().collect())
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_absolute, self.parts.is_empty()) {
            (false, true) => f.write_str("."),
            (false, false) => f.write_str(&self.parts.join("/")),
            (true, _) => write!(f, "/{}", self.parts.join("/")),
        }
    }
}

#[cfg(unix)]
fn open_directory(host: &Path) -> io::Result<File> {
    use rustix::fs::{CWD, Mode, openat};
    Ok(File::from(openat(
        CWD,
        host,
        directory_flags(),
        Mode::empty(),
    )?))
}

/// Returns the flags for opening a directory that is used only as the starting point of paths and
/// is never read.
#[cfg(unix)]
fn directory_flags() -> rustix::fs::OFlags {
    use rustix::fs::OFlags;
    #[cfg(target_os = "linux")]
    let kind = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let kind = OFlags::RDONLY;
    kind | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// Opens a directory below `directory`. Fails with [`io::ErrorKind::CrossesDevices`] if the path
/// leads out of `directory`.
#[cfg(target_os = "linux")]
fn open_beneath(directory: &File, _host: &Path, rest: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, ResolveFlags, openat2};
    use rustix::io::Errno;

    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // The kernel fails with AGAIN if the tree changed in the meantime. If the tree keeps changing,
    // AGAIN is returned.
    let mut tries =
        std::iter::repeat_with(|| openat2(directory, rest, directory_flags(), Mode::empty(), how))
            .take(128);
    match tries.find(|opened| !matches!(opened, Err(Errno::AGAIN))) {
        Some(Ok(opened)) => Ok(File::from(opened)),
        // The kernel is older than Linux 5.6, or a sandbox on the host forbids the call.
        Some(Err(Errno::NOSYS)) => walk_beneath(directory, rest),
        Some(Err(error)) => Err(error.into()),
        None => Err(Errno::AGAIN.into()),
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
fn open_beneath(directory: &File, _host: &Path, rest: &Path) -> io::Result<File> {
    walk_beneath(directory, rest)
}

/// Opens a directory below another, name by name. Symbolic links are not followed, because they
/// could lead out of that directory.
#[cfg(unix)]
fn walk_beneath(directory: &File, rest: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, openat};

    let mut inner = directory.try_clone()?;
    for name in rest.components() {
        inner = File::from(openat(
            &inner,
            name.as_os_str(),
            directory_flags() | OFlags::NOFOLLOW,
            Mode::empty(),
        )?);
    }
    Ok(inner)
}

/// Returns whether a name in a directory exists and is not a regular file. A symbolic link is not a
/// regular file.
#[cfg(unix)]
fn is_other_than_file(directory: &File, _host: &Path, name: &str) -> io::Result<bool> {
    use rustix::fs::{AtFlags, FileType, statat};
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(FileType::from_raw_mode(found.st_mode) != FileType::RegularFile),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether a name in a directory exists and is not a regular file. A symbolic link is not a
/// regular file.
#[cfg(windows)]
fn is_other_than_file(_directory: &File, host: &Path, name: &str) -> io::Result<bool> {
    match host.join(name).symlink_metadata() {
        Ok(found) => Ok(!found.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(windows)]
fn open_directory(host: &Path) -> io::Result<File> {
    use std::os::windows::fs::OpenOptionsExt;
    const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
    File::options()
        .read(true)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
        .open(host)
}

/// Opens a directory below another. This is not safe if the tree is changed concurrently.
#[cfg(windows)]
fn open_beneath(_directory: &File, host: &Path, rest: &Path) -> io::Result<File> {
    let inner = host.join(rest).canonicalize()?;
    if !inner.starts_with(host.canonicalize()?) {
        return Err(io::ErrorKind::CrossesDevices.into());
    }
    open_directory(&inner)
}

/// Returns a path that leads to an open directory even if the directory has been moved since it was
/// opened.
#[cfg(target_os = "linux")]
fn name_of(directory: &File, _host: &Path) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}

/// Returns the path that a directory was opened with, since an open directory has no other path on
/// this system.
#[cfg(not(target_os = "linux"))]
fn name_of(_directory: &File, host: &Path) -> PathBuf {
    host.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn parse(path: &str) -> Result<String, String> {
        GuestPath::parse(path).map(|path| path.to_string())
    }

    fn guest(preopens: &Preopens, path: &str) -> Result<PathBuf, String> {
        preopens
            .within(path)
            .map(|preopen| preopen.host)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn equivalent_paths_are_equal() {
        let same = [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            (".", "."),
            ("./", "."),
            ("/", "/"),
            ("//a/./b", "/a/b"),
        ];
        for (path, plain) in same {
            assert_eq!(parse(path).as_deref(), Ok(plain), "{path}");
        }
        for path in ["", "..", "a/../b", "/..", "a\0"] {
            assert!(parse(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn the_longest_prefix_wins() {
        let root = tempfile::tempdir().expect("a temporary directory can be created");
        for name in ["all/data/inner", "other/inner"] {
            fs::create_dir_all(root.path().join(name)).expect("the directory can be created");
        }
        let mut preopens = Preopens::default();
        preopens
            .open(&root.path().join("all"), ".", Access::Write)
            .expect("the directory exists");
        preopens
            .open(&root.path().join("other"), "data", Access::Read)
            .expect("the directory exists");
        let inner = preopens
            .within("./data/inner")
            .expect("the directory exists");
        assert_eq!(
            (inner.host, inner.access),
            (root.path().join("other/inner"), Access::Read)
        );
        assert_eq!(
            guest(&preopens, ".").as_deref(),
            Ok(root.path().join("all").as_path())
        );
        assert!(
            guest(&preopens, "/data")
                .expect_err("`/data` is not `data`")
                .contains("not inside any of the environment's directories")
        );
        assert!(guest(&preopens, "data/none").is_err());
    }

    #[test]
    fn a_directory_stays_open_whatever_becomes_of_its_path() {
        let root = tempfile::tempdir().expect("a temporary directory can be created");
        let (path, moved) = (root.path().join("granted"), root.path().join("moved"));
        fs::create_dir_all(path.join("inner")).expect("the directory can be created");
        let mut preopens = Preopens::default();
        preopens
            .open(&path, ".", Access::Write)
            .expect("the directory exists");
        fs::rename(&path, &moved).expect("the directory can be moved");
        fs::create_dir(&path).expect("a new directory can be created in its place");
        let mut child = Preopens::default();
        if cfg!(target_os = "linux") {
            child
                .add_from(&preopens, "inner", None)
                .expect("the directory is found at its new path");
        }
    }

    #[cfg(unix)]
    #[test]
    fn t090_a_link_that_leads_out_is_refused_either_way() {
        let root = tempfile::tempdir().expect("a temporary directory can be created");
        fs::create_dir_all(root.path().join("granted/inner"))
            .expect("the directory can be created");
        let granted = root.path().join("granted");
        for (target, link) in [("..", "up"), ("/", "root"), ("inner", "within")] {
            std::os::unix::fs::symlink(target, granted.join(link))
                .expect("the link can be created");
        }
        let mut preopens = Preopens::default();
        preopens
            .open(&granted, ".", Access::Write)
            .expect("the directory exists");
        for link in ["up", "root", "inner/../../.."] {
            assert!(guest(&preopens, link).is_err(), "{link}");
        }
        let directory = &preopens.list[0].directory;
        for link in ["up", "root", "within"] {
            assert!(walk_beneath(directory, Path::new(link)).is_err(), "{link}");
        }
        assert!(walk_beneath(directory, Path::new("inner")).is_ok());
        if cfg!(target_os = "linux") {
            assert!(
                guest(&preopens, "up")
                    .expect_err("the link leads out")
                    .contains("leads out of `.`")
            );
            assert!(
                guest(&preopens, "within").is_ok(),
                "a link that stays inside the directory is followed"
            );
        }
    }
}
