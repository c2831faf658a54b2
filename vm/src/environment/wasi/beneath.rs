//! Resolves paths below an open directory without ever leaving it.
//!
//! Linux resolves a whole path in one call (`openat2`). On other systems, or if that call is
//! forbidden, `cap-primitives` resolves the path name by name. All other operations apply to a
//! single name in a directory that was reached in this way, and use calls that do not follow
//! symbolic links.

use super::errno::Errno;
use cap_primitives::fs::{FollowSymlinks, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timestamps};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The maximum length of a path, in bytes.
const MAX_PATH: usize = 4095;

/// Where the absolute symbolic links below a directory lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// They lead out of the directory, so they are not followed.
    Beneath,
    /// They lead to a path that begins at the directory, which is granted as `/`.
    Root,
}

/// An open directory.
#[derive(Clone, Copy)]
pub(crate) struct Base<'a> {
    pub(crate) directory: &'a File,
    pub(crate) scope: Scope,
}

/// A path from a guest: neither empty nor absolute, not too long, and without NUL bytes.
#[derive(Clone, Debug)]
pub(crate) struct PathBelow(Vec<u8>);

impl PathBelow {
    pub(crate) fn new(path: &[u8]) -> Result<PathBelow, Errno> {
        check(path)?;
        if path.starts_with(b"/") {
            return Err(Errno::Perm);
        }
        Ok(PathBelow(path.to_vec()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns this path followed by another path, unless the result is too long.
    pub(crate) fn join(&self, rest: &PathBelow) -> Option<PathBelow> {
        PathBelow::new(&[&self.0[..], &rest.0].join(&b'/')).ok()
    }

    /// Returns a path with only the first name.
    pub(crate) fn first_name(&self) -> PathBelow {
        let mut names = self
            .0
            .split(|byte| *byte == b'/')
            .filter(|name| *name != b".");
        PathBelow(names.find(|name| !name.is_empty()).unwrap_or(b".").to_vec())
    }

    /// Returns whether the path ends with a slash and therefore names a directory.
    fn is_directory(&self) -> bool {
        self.0.ends_with(b"/")
    }

    /// Splits off the last name. The name is `None` if it is `.` or `..`.
    fn split(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        let slashes = self
            .0
            .iter()
            .rev()
            .take_while(|byte| **byte == b'/')
            .count();
        let path = &self.0[..self.0.len() - slashes];
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (Some(&path[..slash]), &path[slash + 1..]),
            None => (None, path),
        };
        (
            parent,
            Some(name).filter(|name| !matches!(*name, b"." | b"..")),
        )
    }
}

/// Checks the rules that apply to all paths, including the contents of symbolic links.
pub(crate) fn check(path: &[u8]) -> Result<(), Errno> {
    match path {
        [] => Err(Errno::Noent),
        path if path.len() > MAX_PATH => Err(Errno::Nametoolong),
        path if path.contains(&0) => Err(Errno::Inval),
        _ => Ok(()),
    }
}

/// The directory that contains the file named by a path.
enum Parent<'a> {
    Base(&'a File),
    Opened(File),
}

impl Parent<'_> {
    fn file(&self) -> &File {
        match self {
            Parent::Base(file) => file,
            Parent::Opened(file) => file,
        }
    }
}

/// The flags for opening a directory that paths start from.
const PLACE: OFlags = {
    #[cfg(target_os = "linux")]
    let kind = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let kind = OFlags::RDONLY;
    kind.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC)
};

impl Base<'_> {
    /// Opens the file at a path. A symbolic link at the end of the path is followed unless `flags`
    /// has `NOFOLLOW`.
    pub(crate) fn open(self, path: &PathBelow, flags: OFlags) -> Result<File, Errno> {
        self.open_bytes(&path.0, flags)
    }

    fn open_bytes(self, path: &[u8], flags: OFlags) -> Result<File, Errno> {
        let mut flags = flags | OFlags::CLOEXEC;
        if !flags.contains(PLACE.difference(OFlags::DIRECTORY)) {
            flags |= OFlags::NOCTTY;
        }
        #[cfg(target_os = "linux")]
        match self.resolve(path, flags) {
            Err(rustix::io::Errno::NOSYS) => {}
            Err(rustix::io::Errno::XDEV) => return Err(Errno::Perm),
            opened => return Ok(opened?),
        }
        walk(self.directory, path, flags)
    }

    /// Lets the kernel resolve a path. Fails with `NOSYS` if the kernel cannot do this.
    #[cfg(target_os = "linux")]
    fn resolve(self, path: &[u8], flags: OFlags) -> rustix::io::Result<File> {
        use rustix::fs::{ResolveFlags, openat2};
        use rustix::io::Errno as System;

        let scope = match self.scope {
            Scope::Beneath => ResolveFlags::BENEATH,
            Scope::Root => ResolveFlags::IN_ROOT,
        };
        let how = scope | ResolveFlags::NO_MAGICLINKS;
        let mode = if flags.contains(OFlags::CREATE) {
            Mode::from_raw_mode(0o666)
        } else {
            Mode::empty()
        };
        // The kernel fails with AGAIN if a file is renamed at the same time. If this keeps
        // happening, AGAIN is returned.
        for _ in 0..128 {
            match openat2(self.directory, path, flags, mode, how) {
                Err(System::AGAIN) => {}
                // Sandboxes that do not support the call also fail with this error. If permission
                // really is missing, `walk` fails the same way.
                Err(System::PERM) => return Err(System::NOSYS),
                opened => return opened.map(File::from),
            }
        }
        Err(System::AGAIN)
    }

    /// Returns whether a path leads out of the directory, as far as this can be determined.
    pub(crate) fn leads_out(self, path: &PathBelow) -> bool {
        #[cfg(target_os = "linux")]
        return matches!(
            self.resolve(&path.0, OFlags::PATH | OFlags::CLOEXEC),
            Err(rustix::io::Errno::XDEV)
        );
        #[cfg(not(target_os = "linux"))]
        path.0.starts_with(b"..")
    }

    /// Opens the directory that contains the file named by a path, and returns the directory and
    /// the name. Fails with `nameless` if the path ends with `.` or `..` and therefore has no name.
    fn parent<'a>(
        self,
        path: &'a PathBelow,
        nameless: Errno,
    ) -> Result<(Parent<'a>, &'a [u8]), Errno>
    where
        Self: 'a,
    {
        let (parent, name) = path.split();
        let Some(name) = name else {
            // A path that leads nowhere or out of the directory fails with a different error.
            self.open_bytes(&path.0, PLACE)?;
            return Err(nameless);
        };
        let parent = match parent {
            None => Parent::Base(self.directory),
            Some(parent) => Parent::Opened(self.open_bytes(parent, PLACE)?),
        };
        Ok((parent, name))
    }

    /// Returns the metadata of the file at a path.
    pub(crate) fn stat(self, path: &PathBelow, follow: bool) -> Result<Stat, Errno> {
        // A single name, by far the most common kind of path, needs only one call unless it refers
        // to a link.
        if !path.is_directory()
            && let (None, Some(name)) = path.split()
        {
            let stat = rustix::fs::statat(self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if !follow || kind(&stat) != FileType::Symlink {
                return Ok(stat);
            }
        }
        let found = self.locate(path, follow)?;
        Ok(rustix::fs::fstat(found)?)
    }

    /// Opens the file at a path without the right to read or write it.
    fn locate(self, path: &PathBelow, follow: bool) -> Result<File, Errno> {
        #[cfg(target_os = "linux")]
        let mut flags = OFlags::PATH;
        #[cfg(not(target_os = "linux"))]
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK;
        if path.is_directory() {
            flags |= OFlags::DIRECTORY;
        } else if !follow {
            flags |= OFlags::NOFOLLOW;
        }
        self.open(path, flags)
    }

    /// Returns the error for an operation on a path that ends with a slash but must not be a
    /// directory: `directory` if the path leads to a directory, and otherwise the reason why it
    /// does not.
    fn not_a_directory(self, path: &PathBelow, directory: Errno) -> Errno {
        self.locate(path, true).err().unwrap_or(directory)
    }

    /// Changes the times of the file at a path.
    pub(crate) fn set_times(
        self,
        path: &PathBelow,
        follow: bool,
        times: &Timestamps,
    ) -> Result<(), Errno> {
        let found = self.locate(path, follow)?;
        #[cfg(target_os = "linux")]
        rustix::fs::utimensat(found, c"", times, AtFlags::EMPTY_PATH)?;
        #[cfg(not(target_os = "linux"))]
        rustix::fs::futimens(found, times)?;
        Ok(())
    }

    pub(crate) fn create_directory(self, path: &PathBelow) -> Result<(), Errno> {
        let (parent, name) = self.parent(path, Errno::Exist)?;
        Ok(rustix::fs::mkdirat(
            parent.file(),
            name,
            Mode::from_raw_mode(0o777),
        )?)
    }

    pub(crate) fn remove_directory(self, path: &PathBelow) -> Result<(), Errno> {
        let (parent, name) = self.parent(path, Errno::Inval)?;
        Ok(rustix::fs::unlinkat(
            parent.file(),
            name,
            AtFlags::REMOVEDIR,
        )?)
    }

    pub(crate) fn unlink(self, path: &PathBelow) -> Result<(), Errno> {
        let (parent, name) = self.parent(path, Errno::Isdir)?;
        if path.is_directory() {
            return Err(self.not_a_directory(path, Errno::Isdir));
        }
        match rustix::fs::unlinkat(parent.file(), name, AtFlags::empty()) {
            // Systems other than Linux report that unlinking a directory is not permitted.
            Err(rustix::io::Errno::PERM)
                if kind(&name_stat(&parent, name)?) == FileType::Directory =>
            {
                Err(Errno::Isdir)
            }
            unlinked => Ok(unlinked?),
        }
    }

    /// Renames the file at a path.
    pub(crate) fn rename(
        self,
        from: &PathBelow,
        to_base: Base<'_>,
        to: &PathBelow,
    ) -> Result<(), Errno> {
        let (old_parent, old) = self.parent(from, Errno::Busy)?;
        let (new_parent, new) = to_base.parent(to, Errno::Busy)?;
        if (from.is_directory() || to.is_directory())
            && kind(&name_stat(&old_parent, old)?) != FileType::Directory
        {
            return Err(Errno::Notdir);
        }
        Ok(rustix::fs::renameat(
            old_parent.file(),
            old,
            new_parent.file(),
            new,
        )?)
    }

    /// Creates a hard link to the file at a path. Symbolic links are not followed.
    pub(crate) fn link(
        self,
        from: &PathBelow,
        to_base: Base<'_>,
        to: &PathBelow,
    ) -> Result<(), Errno> {
        let (old_parent, old) = self.parent(from, Errno::Perm)?;
        let (new_parent, new) = to_base.parent(to, Errno::Exist)?;
        if from.is_directory() {
            // Directories cannot be hard-linked.
            return Err(self.not_a_directory(from, Errno::Perm));
        }
        if to.is_directory() {
            return Err(to_base.not_a_directory(to, Errno::Exist));
        }
        Ok(rustix::fs::linkat(
            old_parent.file(),
            old,
            new_parent.file(),
            new,
            AtFlags::empty(),
        )?)
    }

    /// Creates a symbolic link with the given contents.
    pub(crate) fn symlink(self, contents: &[u8], path: &PathBelow) -> Result<(), Errno> {
        check(contents)?;
        if contents.starts_with(b"/") && self.scope == Scope::Beneath {
            return Err(Errno::Perm);
        }
        let (parent, name) = self.parent(path, Errno::Exist)?;
        if path.is_directory() {
            return Err(self.not_a_directory(path, Errno::Exist));
        }
        Ok(rustix::fs::symlinkat(contents, parent.file(), name)?)
    }

    /// Returns a symbolic link's contents.
    pub(crate) fn read_link(self, path: &PathBelow) -> Result<Vec<u8>, Errno> {
        let (parent, name) = self.parent(path, Errno::Inval)?;
        if path.is_directory() {
            self.locate(path, true)?;
            return Err(Errno::Inval);
        }
        Ok(rustix::fs::readlinkat(parent.file(), name, Vec::new())?.into_bytes())
    }

    /// Returns the numbers that identify the directory.
    pub(crate) fn identity(self) -> Option<(u64, u64)> {
        identity(&rustix::fs::fstat(self.directory).ok()?)
    }

    /// Returns the numbers that identify the directory at a path.
    pub(crate) fn identity_of(self, path: &PathBelow) -> Option<(u64, u64)> {
        identity(&self.stat(path, true).ok()?)
    }

    /// Returns whether freeing the file at a path takes a long time.
    pub(crate) fn is_heavy(self, path: &PathBelow, follow: bool) -> bool {
        let found = self.stat(path, follow);
        found.is_ok_and(|stat| is_heavy(&stat))
    }

    /// Opens the directory itself for reading.
    pub(crate) fn reopen(self) -> Result<File, Errno> {
        self.open_bytes(b".", OFlags::RDONLY | OFlags::DIRECTORY)
    }
}

fn identity(stat: &Stat) -> Option<(u64, u64)> {
    Some((stat.st_dev, stat.st_ino))
}

/// Files that take up more disk space than this, in bytes, are not freed on a worker. If such a
/// file is heavily fragmented, freeing it takes seconds.
const HEAVY: u64 = 16 << 20;

/// Returns whether freeing a file takes a long time.
pub(crate) fn is_heavy(stat: &Stat) -> bool {
    kind(stat) == FileType::RegularFile && stat.st_blocks as u64 * 512 > HEAVY
}

/// Returns the kind of a file.
pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn name_stat(parent: &Parent<'_>, name: &[u8]) -> Result<Stat, Errno> {
    Ok(rustix::fs::statat(
        parent.file(),
        name,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Resolves a path name by name.
fn walk(directory: &File, path: &[u8], flags: OFlags) -> Result<File, Errno> {
    let mode = flags & OFlags::RWMODE;
    let known = OFlags::RWMODE | OFlags::CREATE | OFlags::EXCL | OFlags::TRUNC | OFlags::NOFOLLOW;
    let mut options = OpenOptions::new();
    options
        .read(mode != OFlags::WRONLY)
        .write(mode != OFlags::RDONLY)
        .create(flags.contains(OFlags::CREATE))
        .create_new(flags.contains(OFlags::CREATE | OFlags::EXCL))
        .truncate(flags.contains(OFlags::TRUNC))
        .custom_flags((flags - known).bits() as i32);
    if flags.contains(OFlags::NOFOLLOW) {
        options._cap_fs_ext_follow(FollowSymlinks::No);
    }
    let path = Path::new(OsStr::from_bytes(path));
    let opened = cap_primitives::fs::open(directory, path, &options);
    opened.map_err(|error| match error.kind() {
        // The path leads out of the directory.
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => Errno::Perm,
        _ => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn path(path: &str) -> PathBelow {
        PathBelow::new(path.as_bytes()).expect("the path is valid")
    }

    /// Opens a path both ways, and returns each result with a label.
    fn both<'a>(
        directory: &'a File,
        path: &'a str,
        flags: OFlags,
    ) -> [(&'static str, Result<File, Errno>); 2] {
        let base = Base {
            directory,
            scope: Scope::Beneath,
        };
        [
            ("in one call", base.open(&super::tests::path(path), flags)),
            ("name by name", walk(directory, path.as_bytes(), flags)),
        ]
    }

    #[test]
    fn nothing_outside_is_reached_either_way() {
        let root = tempfile::tempdir().expect("a temporary directory can be created");
        let granted = root.path().join("granted");
        fs::create_dir_all(granted.join("inner")).expect("the directory can be written to");
        fs::write(root.path().join("secret"), "").expect("the directory can be written to");
        fs::write(granted.join("file"), "").expect("the directory can be written to");
        let secret = root.path().join("secret");
        for (target, link) in [("..", "up"), ("../secret", "relative"), ("/", "root")] {
            symlink(target, granted.join(link)).expect("the directory can be written to");
        }
        symlink(&secret, granted.join("absolute")).expect("the directory can be written to");
        symlink("inner/../file", granted.join("within")).expect("the directory can be written to");
        let directory = File::open(&granted).expect("the directory exists");
        for flags in [OFlags::RDONLY, OFlags::RDWR | OFlags::CREATE] {
            for name in [
                "..",
                "../secret",
                "up",
                "up/secret",
                "inner/../../secret",
                "relative",
                "absolute",
                "root/etc",
            ] {
                for (way, opened) in both(&directory, name, flags) {
                    assert!(opened.is_err(), "{name} {way}");
                }
            }
            for name in ["file", "inner/../file", "./within"] {
                for (way, opened) in both(&directory, name, flags) {
                    assert!(opened.is_ok(), "{name} {way}");
                }
            }
        }
        for (way, opened) in both(&directory, "within", OFlags::RDONLY | OFlags::NOFOLLOW) {
            assert_eq!(opened.err(), Some(Errno::Loop), "{way}");
        }
        assert_eq!(fs::read(secret).expect("the file exists"), b"");
    }

    #[test]
    fn paths_are_split_at_the_last_name() {
        let split = |text: &str| {
            let path = path(text);
            let (parent, name) = path.split();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the path is ASCII");
            (parent.map(text), name.map(text))
        };
        let some = |text: &str| Some(text.to_string());
        assert_eq!(split("a"), (None, some("a")));
        assert_eq!(split("a//"), (None, some("a")));
        assert_eq!(split("a/b"), (some("a"), some("b")));
        assert_eq!(split("a//b///"), (some("a/"), some("b")));
        for (text, parent) in [(".", None), ("..", None), ("./", None), ("a/..", some("a"))] {
            assert_eq!(split(text), (parent, None));
        }
        for (text, error) in [
            ("", Errno::Noent),
            ("/a", Errno::Perm),
            ("a\0", Errno::Inval),
            (&"a".repeat(4096), Errno::Nametoolong),
        ] {
            assert_eq!(PathBelow::new(text.as_bytes()).err(), Some(error));
        }
    }
}
