//! Cache entries: authenticated files, limited in number and size.

use super::Share;
use super::directory::Key;
use rustix::fs::OFlags;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The bytes at the start of every entry. The entry's hash follows. Must be changed whenever the
/// format, or the rewriting of modules before compilation, changes.
const MAGIC: &[u8; 8] = b"lunatic3";
const HEADER: usize = MAGIC.len() + blake3::OUT_LEN;

/// The name prefix of entries for modules that guests compiled.
pub(super) const OF_GUESTS: &str = "guest-";

/// The name prefix of entries that are being written.
const UNFINISHED: &str = ".tmp";

/// The age at which an unfinished entry is considered abandoned.
const MAX_WRITING: Duration = Duration::from_secs(3600);

/// The maximum size of the cache, or of a part of it.
#[derive(Clone, Copy, Debug)]
struct Bound {
    bytes: u64,
    files: u64,
}

/// The limit on the entire cache, which is the same as for wasmtime's own cache.
const ALL: Bound = Bound {
    bytes: 512 << 20,
    files: 65_536,
};

/// The limit on entries for modules that guests compile.
const GUESTS: Bound = Bound {
    bytes: 32 << 20,
    files: 4_096,
};

/// The number of entries written between two scans of the directory, which are necessary because
/// other machines may write to it too.
const WRITES_BETWEEN_LOOKS: u32 = 64;

/// The entries in a directory.
#[derive(Debug)]
pub(super) struct Entries {
    directory: PathBuf,
    usage: Mutex<Option<Usage>>,
}

/// The directory's usage at the last scan, plus what this machine has written since then.
#[derive(Debug, Default)]
struct Usage {
    all: Use,
    guests: Use,
    writes: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    bytes: u64,
    files: u64,
}

impl Use {
    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.files += 1;
    }

    fn fits(&self, bound: Bound) -> bool {
        self.bytes <= bound.bytes && self.files <= bound.files
    }
}

/// A file in the directory.
struct Entry {
    name: String,
    used: SystemTime,
    bytes: u64,
}

impl Entry {
    fn is_of_guests(&self) -> bool {
        self.name.starts_with(OF_GUESTS)
    }
}

impl Entries {
    pub(super) fn new(directory: &Path) -> Entries {
        Entries {
            directory: directory.into(),
            usage: Mutex::default(),
        }
    }

    /// Returns an entry's code, or `None` if the entry does not exist or was not written under this
    /// name with this key.
    pub(super) fn read(&self, name: &str, key: &Key) -> Option<Vec<u8>> {
        let path = self.directory.join(name);
        let mut file = open(&path)?;
        let mut code = Vec::new();
        file.read_to_end(&mut code).ok()?;
        if code.len() < HEADER || code[..HEADER] != header(name, &code[HEADER..], key) {
            log::debug!(
                "recompiling, because the cached code {} is damaged",
                path.display()
            );
            return None;
        }
        // File systems update the access time only rarely, if at all.
        let _ = file.set_times(FileTimes::new().set_accessed(SystemTime::now()));
        code.drain(..HEADER);
        Some(code)
    }

    /// Writes an entry atomically: readers see either the entire entry or nothing. Removes other
    /// entries if there would be too many.
    pub(super) fn write(&self, share: Share, name: &str, code: &[u8], key: &Key) -> io::Result<()> {
        let bytes = (HEADER + code.len()) as u64;
        let bound = match share {
            Share::Host => ALL,
            Share::Guests => GUESTS,
        };
        if bytes > bound.bytes {
            return Err(io::Error::other(
                "the entry is larger than its share of the cache",
            ));
        }
        self.make_room(share, bytes);
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(&self.directory)?;
        file.write_all(&header(name, code, key))?;
        file.write_all(code)?;
        file.persist(self.directory.join(name))
            .map_err(|error| error.error)?;
        Ok(())
    }

    pub(super) fn remove(&self, name: &str) {
        // The file usually does not exist.
        let _ = fs::remove_file(self.directory.join(name));
    }

    /// Counts an entry that is about to be written, and removes other entries if the new one does
    /// not fit.
    fn make_room(&self, share: Share, bytes: u64) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let add = |usage: &mut Usage| {
            usage.writes += 1;
            usage.all.add(bytes);
            if share == Share::Guests {
                usage.guests.add(bytes);
            }
        };
        if let Some(usage) = &mut *usage
            && usage.writes < WRITES_BETWEEN_LOOKS
        {
            add(usage);
            if usage.all.fits(ALL) && usage.guests.fits(GUESTS) {
                return;
            }
        }
        let mut entries = self.look();
        let new = Use { bytes, files: 1 };
        let of_guests = match share {
            Share::Host => Use::default(),
            Share::Guests => new,
        };
        for entry in superfluous(&mut entries, new, of_guests) {
            self.remove(&entry.name);
        }
        let mut looked = Usage::default();
        for entry in &entries {
            looked.all.add(entry.bytes);
            if entry.is_of_guests() {
                looked.guests.add(entry.bytes);
            }
        }
        add(&mut looked);
        *usage = Some(looked);
    }

    /// Lists the entries. Removes unfinished entries that are too old, because the process that was
    /// writing them no longer exists.
    fn look(&self) -> Vec<Entry> {
        let Ok(files) = fs::read_dir(&self.directory) else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        for file in files.flatten() {
            let Ok(metadata) = file.metadata() else {
                continue;
            };
            let Ok(name) = file.file_name().into_string() else {
                continue;
            };
            if !metadata.is_file() {
                continue;
            }
            let age = metadata.modified().ok().and_then(|at| at.elapsed().ok());
            if name.starts_with(UNFINISHED) && age.is_some_and(|age| age > MAX_WRITING) {
                self.remove(&name);
                continue;
            }
            entries.push(Entry {
                name,
                used: metadata.accessed().unwrap_or(SystemTime::UNIX_EPOCH),
                bytes: metadata.len(),
            });
        }
        entries
    }
}

/// Takes out the entries that must be removed to make room for a new one, starting with the least
/// recently used. If any must be removed, frees a third of the space, so that this is not necessary
/// on every write.
fn superfluous(entries: &mut Vec<Entry>, new: Use, of_guests: Use) -> Vec<Entry> {
    entries.sort_by_key(|entry| entry.used);
    let mut gone = Vec::new();
    for (bound, new, is_counted) in [
        (GUESTS, of_guests, Entry::is_of_guests as fn(&Entry) -> bool),
        (ALL, new, |_| true),
    ] {
        let mut used = new;
        for entry in entries.iter().filter(|entry| is_counted(entry)) {
            used.add(entry.bytes);
        }
        if used.fits(bound) {
            continue;
        }
        let enough = Bound {
            bytes: bound.bytes / 3 * 2,
            files: bound.files / 3 * 2,
        };
        let goes = |entry: &mut Entry| {
            if !is_counted(entry) || used.fits(enough) {
                return false;
            }
            used.bytes -= entry.bytes;
            used.files -= 1;
            true
        };
        gone.extend(entries.extract_if(.., goes));
    }
    gone
}

/// Opens a regular file for reading. Returns `None` if it is larger than an entry can be.
fn open(path: &Path) -> Option<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .ok()?;
    let metadata = file.metadata().ok()?;
    (metadata.is_file() && metadata.len() <= ALL.bytes).then_some(file)
}

/// Returns an entry's header: the format, and a keyed hash of the name and the code.
fn header(name: &str, code: &[u8], key: &Key) -> [u8; HEADER] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    // All names in a share have the same length, and names in different shares have different
    // prefixes.
    hasher.update(name.as_bytes()).update(code);
    let mut header = [0; HEADER];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    header[MAGIC.len()..].copy_from_slice(hasher.finalize().as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, used: u64, bytes: u64) -> Entry {
        Entry {
            name: name.into(),
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(used),
            bytes,
        }
    }

    fn names(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| &*entry.name).collect()
    }

    #[test]
    fn the_most_recently_used_entries_stay() {
        let quarter = ALL.bytes / 4;
        let mut entries = vec![
            entry("c", 30, quarter),
            entry("a", 10, quarter),
            entry("b", 20, quarter),
            entry("d", 40, quarter),
        ];
        let new = Use { bytes: 1, files: 1 };
        assert_eq!(
            names(&superfluous(&mut entries, new, Use::default())),
            ["a", "b"]
        );
        assert_eq!(names(&entries), ["c", "d"]);
    }

    #[test]
    fn what_guests_compile_takes_no_room_from_the_host() {
        let half = GUESTS.bytes / 2;
        let mut entries = vec![
            entry("host", 1, half),
            entry("guest-a", 2, half),
            entry("guest-b", 3, half),
        ];
        let new = Use {
            bytes: half / 4,
            files: 1,
        };
        assert_eq!(names(&superfluous(&mut entries, new, new)), ["guest-a"]);
        assert_eq!(names(&entries), ["host", "guest-b"]);
    }

    #[test]
    fn the_number_of_files_for_guests_is_limited() {
        let mut entries: Vec<Entry> = (0..GUESTS.files)
            .map(|number| entry(&format!("guest-{number}"), number, 1))
            .collect();
        let new = Use { bytes: 1, files: 1 };
        superfluous(&mut entries, new, new);
        assert!(entries.len() as u64 <= GUESTS.files / 3 * 2);
        assert_eq!(
            entries[0].name,
            format!("guest-{}", GUESTS.files - entries.len() as u64)
        );
    }

    #[test]
    fn the_directory_never_exceeds_its_size_limit() {
        let directory = tempfile::tempdir().expect("a temporary directory can be created");
        let key = [7; blake3::KEY_LEN];
        let code = vec![0; 5 << 20];
        for number in 0..30 {
            // Each iteration acts like a newly started machine that knows nothing of earlier
            // writes.
            let entries = Entries::new(directory.path());
            entries
                .write(Share::Guests, &format!("guest-{number}"), &code, &key)
                .expect("the directory is writable");
            let held: u64 = entries.look().iter().map(|entry| entry.bytes).sum();
            assert!(held <= GUESTS.bytes, "{held}");
        }
    }

    #[test]
    fn an_entry_too_large_for_its_share_is_not_kept() {
        let directory = tempfile::tempdir().expect("a temporary directory can be created");
        let entries = Entries::new(directory.path());
        let code = vec![0; GUESTS.bytes as usize];
        entries
            .write(Share::Guests, "guest-a", &code, &[7; blake3::KEY_LEN])
            .expect_err("the entry is larger than the share");
        assert!(entries.look().is_empty());
    }
}
