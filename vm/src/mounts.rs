//! Determines where directories are located in their file systems, regardless of what is mounted
//! over them.
//!
//! A file system can be mounted in several places, and so can any of its directories (`mount
//! --bind`). A directory's path is then only one of the paths that lead to it, and the directories
//! along another path have different identities.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Returns whether the directory `target`, or something inside it, can be reached from `directory`,
/// either because one of them contains the other or because the same files are mounted in several
/// places. Returns false on systems that do not list their mounts as Linux does; check the paths
/// too.
///
/// # Errors
///
/// Fails if one of the directories cannot be opened.
///
/// ```no_run
/// let storage = "/var/lib/functions".as_ref();
/// if lunatic_vm::leads_to("/srv/public".as_ref(), storage)? {
///     eprintln!("this would publish the stored functions");
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn leads_to(directory: &Path, target: &Path) -> io::Result<bool> {
    let [directory, target] = [File::open(directory)?, File::open(target)?];
    let mounts = Mounts::now();
    let found = mounts.find(&directory).zip(mounts.find(&target));
    Ok(found
        .is_some_and(|((directory, path), (target, _))| mounts.lead_to(&target, &directory, &path)))
}

/// A file or directory in a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file system's number, as shown in the mount list.
    file_system: String,
    path: PathBuf,
}

impl Place {
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> Place {
        Place {
            file_system: self.file_system.clone(),
            path: self.path.join(name),
        }
    }

    fn is_in(&self, other: &Place) -> bool {
        self.file_system == other.file_system && self.path.starts_with(&other.path)
    }
}

/// A directory that is mounted, or a single file.
struct Mount {
    id: u64,
    point: PathBuf,
    /// What is visible at the mount point.
    shows: Place,
}

/// The mounts visible to this process.
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    /// Returns the mounts that the system lists.
    pub(crate) fn now() -> Mounts {
        Mounts::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Reads lines of the form `36 35 98:0 /shown /point rw - ext4 /dev/root rw`.
    fn parse(list: &[u8]) -> Mounts {
        let mount = |line: &[u8]| {
            let mut fields = line.split(|byte| *byte == b' ');
            let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
            let file_system = str::from_utf8(fields.nth(1)?).ok()?.to_owned();
            let [path, point] = [unescape(fields.next()?), unescape(fields.next()?)];
            let shows = Place { file_system, path };
            Some(Mount { id, point, shows })
        };
        Mounts(
            list.split(|byte| *byte == b'\n')
                .filter_map(mount)
                .collect(),
        )
    }

    /// Returns where an open directory is located, and its current path.
    pub(crate) fn find(&self, directory: &File) -> Option<(Place, PathBuf)> {
        let number = directory.as_raw_fd();
        let path = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
        let facts = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let id = facts
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())?;
        Some((self.place(&path, id)?, path))
    }

    fn place(&self, path: &Path, mount: u64) -> Option<Place> {
        let mount = self.0.iter().find(|other| other.id == mount)?;
        Some(mount.shows.join(path.strip_prefix(&mount.point).ok()?))
    }

    /// Returns whether a target, or something inside it, can be reached from a directory, because
    /// it is inside either the directory itself or something that is mounted below it.
    pub(crate) fn lead_to(&self, target: &Place, directory: &Place, path: &Path) -> bool {
        let below = self.0.iter().filter(|mount| mount.point.starts_with(path));
        let shown = below.map(|mount| &mount.shows);
        std::iter::once(directory)
            .chain(shown)
            .any(|shown| target.is_in(shown) || shown.is_in(target))
    }
}

/// Decodes the octal escapes in a field of the mount list, such as `\040` for a space.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let number = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(number.unwrap_or(*first));
        rest = match number {
            Some(_) => &after[3..],
            None => after,
        };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_directory_is_found_whatever_is_mounted_over_it() {
        let list = br"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
23 22 8:2 / /data rw - ext4 /dev/data rw
24 22 8:2 /of\040me/cache /home/me/.cache rw - ext4 /dev/data rw
25 22 8:1 /srv /mnt/srv rw - ext4 /dev/root rw
26 23 8:1 /home /data/homes rw - ext4 /dev/root rw
27 22 8:2 /of\040me/cache/lunatic.key /etc/secret rw - ext4 /dev/data rw
28 22 0:5 / /proc rw - proc proc rw
";
        let mounts = Mounts::parse(list);
        let place = |path: &str, mount| {
            mounts
                .place(Path::new(path), mount)
                .expect("the mount exists")
        };
        let cache = place("/home/me/.cache/lunatic", 24);
        assert_eq!(cache.path, Path::new("/of me/cache/lunatic"));
        let key = place("/home/me/.cache", 24).join("lunatic.key");
        for (path, mount, leads, to_key) in [
            ("/", 22, true, true),
            ("/home", 22, true, true),
            ("/home/me/.cache", 24, true, true),
            ("/home/me/.cache/lunatic", 24, true, false),
            ("/home/me/.cache/lunatic/entries", 24, true, false),
            ("/home/me/.cache/other", 24, false, false),
            // The same directories, reached by other paths.
            ("/data", 23, true, true),
            ("/data/of me", 23, true, true),
            ("/data/of me/cache/lunatic", 23, true, false),
            ("/data/of you", 23, false, false),
            // The directory hidden by the mount does not contain what is mounted over it.
            ("/data/homes/me", 26, false, false),
            ("/mnt", 22, false, false),
            ("/etc", 22, false, true),
            ("/proc", 28, false, false),
        ] {
            let directory = place(path, mount);
            let path = Path::new(path);
            assert_eq!(mounts.lead_to(&cache, &directory, path), leads, "{path:?}");
            assert_eq!(mounts.lead_to(&key, &directory, path), to_key, "{path:?}");
        }
    }
}
