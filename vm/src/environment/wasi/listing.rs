//! The names in a directory, read once and then returned in pages.
//!
//! A listing does not change while it is read. A position in a listing stays valid even if files
//! are created and removed in the meantime. Every name that exists throughout is listed exactly
//! once. Names that no longer exist when their page is read are left out.

use super::beneath::kind;
use super::errno::Errno;
use crate::environment::Charge;
use rustix::fs::{AtFlags, Dir, FileType, Stat, fstat, statat};
use std::fs::File;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The maximum number of entries per page. A page of this size can be created within a tick.
const PAGE: usize = 512;

/// The granularity of file system timestamps. Two changes in quick succession may get the same
/// timestamp.
const GRAIN: Duration = Duration::from_millis(20);

/// The names in a directory.
#[derive(Debug)]
pub(crate) struct Listing {
    names: Vec<u8>,
    entries: Vec<Entry>,
    /// When the directory was last changed before it was read, according to the file system. `None`
    /// if that change was so recent that a later change may have the same timestamp.
    changed: Option<(i64, u64)>,
    /// What the process is charged for the listing's memory.
    charge: Charge,
}

#[derive(Debug)]
struct Entry {
    /// Where the name ends. It begins where the previous name ends.
    end: usize,
    inode: u64,
    kind: u8,
}

/// A directory that is being read.
pub(crate) struct Reading {
    directory: Dir,
    listing: Listing,
}

/// A page of a listing, as guests read it.
pub(crate) struct Page {
    pub(crate) bytes: Vec<u8>,
    /// The position of the next page.
    pub(crate) next: u64,
    /// Whether there is no next page.
    pub(crate) is_last: bool,
}

impl Reading {
    /// Starts reading a directory that was opened for this purpose. The charge grows with the
    /// listing.
    pub(crate) fn begin(directory: File, charge: Charge) -> Result<Reading, Errno> {
        let stat = fstat(&directory)?;
        let changed = changed(&stat);
        let age = SystemTime::now()
            .duration_since(UNIX_EPOCH + Duration::new(changed.0.max(0) as u64, changed.1 as u32));
        let mut listing = Listing {
            names: Vec::new(),
            entries: Vec::new(),
            changed: Some(changed).filter(|_| age.is_ok_and(|age| age > GRAIN)),
            charge,
        };
        for name in [".", ".."] {
            listing.push(name.as_bytes(), stat.st_ino, FileType::Directory);
        }
        Ok(Reading {
            directory: Dir::new(directory)?,
            listing,
        })
    }

    /// Reads at most `most` more names. Returns whether all names have been read.
    pub(crate) fn go_on(&mut self, most: usize) -> Result<bool, Errno> {
        for _ in 0..most {
            let Some(entry) = self.directory.read() else {
                self.listing.pay()?;
                return Ok(true);
            };
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let mut found = entry.file_type();
            if found == FileType::Unknown {
                match statat(self.directory.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => found = kind(&stat),
                    Err(rustix::io::Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            self.listing.push(name.to_bytes(), entry.ino(), found);
        }
        self.listing.pay()?;
        Ok(false)
    }

    /// Returns the listing of a directory that has been read.
    pub(crate) fn finish(mut self) -> Listing {
        self.listing.names.shrink_to_fit();
        self.listing.entries.shrink_to_fit();
        let size = self.listing.size();
        self.listing
            .charge
            .shrink(self.listing.charge.bytes().saturating_sub(size));
        self.listing
    }
}

impl Listing {
    fn push(&mut self, name: &[u8], inode: u64, kind: FileType) {
        self.names.extend_from_slice(name);
        self.entries.push(Entry {
            end: self.names.len(),
            inode,
            kind: file_type(kind),
        });
    }

    /// Returns how many bytes of memory the listing takes.
    fn size(&self) -> u64 {
        (self.names.capacity() + self.entries.capacity() * size_of::<Entry>()) as u64
    }

    /// Charges the process for the memory that the listing currently takes.
    fn pay(&mut self) -> Result<(), Errno> {
        let size = self.size();
        self.charge.resize(size).map_err(|_| Errno::Nomem)
    }

    /// Returns the name at a position and its file type.
    pub(crate) fn entry(&self, position: usize) -> Option<(&[u8], u8)> {
        let entry = self.entries.get(position)?;
        let start = position
            .checked_sub(1)
            .map_or(0, |before| self.entries[before].end);
        Some((&self.names[start..entry.end], entry.kind))
    }

    /// Returns at most [`PAGE`] entries, starting at a position. The last entry is cut off if the
    /// entries do not fit in `room` bytes. If `directory` has changed since it was read, checks
    /// that each name still exists.
    pub(crate) fn page(&self, directory: &File, from: u64, room: usize) -> Result<Page, Errno> {
        let from = usize::try_from(from)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        let to = self.entries.len().min(from + PAGE);
        let is_unchanged = from == 0 || self.changed == Some(changed(&fstat(directory)?));
        let mut page = Page {
            bytes: Vec::with_capacity(room.min(4096)),
            next: from as u64,
            is_last: to == self.entries.len(),
        };
        let mut start = from
            .checked_sub(1)
            .map_or(0, |before| self.entries[before].end);
        for entry in &self.entries[from..to] {
            if page.bytes.len() >= room {
                page.is_last = false;
                break;
            }
            let name = &self.names[start..entry.end];
            start = entry.end;
            page.next += 1;
            if !is_unchanged && is_gone(directory, name) {
                continue;
            }
            page.bytes.extend_from_slice(&page.next.to_le_bytes());
            page.bytes.extend_from_slice(&entry.inode.to_le_bytes());
            page.bytes
                .extend_from_slice(&(name.len() as u32).to_le_bytes());
            page.bytes
                .extend_from_slice(&u32::from(entry.kind).to_le_bytes());
            page.bytes.extend_from_slice(name);
        }
        page.bytes.truncate(room);
        Ok(page)
    }
}

fn is_gone(directory: &File, name: &[u8]) -> bool {
    let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    matches!(found, Err(rustix::io::Errno::NOENT))
}

fn changed(stat: &Stat) -> (i64, u64) {
    (stat.st_mtime, stat.st_mtime_nsec)
}

/// Returns the WASI number for a file type. Named pipes do not have one.
pub(crate) fn file_type(kind: FileType) -> u8 {
    match kind {
        FileType::BlockDevice => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 3,
        FileType::RegularFile => 4,
        FileType::Socket => 6,
        FileType::Symlink => 7,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{HostMemory, Limits, Quota};
    use std::collections::HashSet;
    use std::fs;
    use std::sync::Arc;

    fn listing(directory: &File) -> Listing {
        let own = rustix::fs::openat(
            directory,
            ".",
            rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        );
        let quota = Arc::new(Quota::new(Limits::default(), None));
        let charge = HostMemory::of_environment(&quota).nothing();
        let own = own.expect("the directory exists").into();
        let mut reading = Reading::begin(own, charge).expect("the directory is open");
        while !reading.go_on(100).expect("the directory can be read") {}
        reading.finish()
    }

    /// Reads names starting at a position, in pages of `room` bytes, as libraries do. Returns the
    /// names and the number of entries read.
    fn names(
        listing: &Listing,
        directory: &File,
        mut from: u64,
        room: usize,
    ) -> (Vec<String>, u64) {
        let (mut names, mut looked_at) = (Vec::new(), 0);
        loop {
            let page = listing
                .page(directory, from, room)
                .expect("the directory is open");
            looked_at += page.next.saturating_sub(from);
            let mut rest = &page.bytes[..];
            while let Some((head, after)) = rest.split_first_chunk::<24>()
                && let length =
                    u32::from_le_bytes(head[16..20].try_into().expect("the range has 4 bytes"))
                && after.len() >= length as usize
            {
                let (name, after) = after.split_at(length as usize);
                names.push(String::from_utf8(name.to_vec()).expect("the names are UTF-8"));
                from = u64::from_le_bytes(head[..8].try_into().expect("the range has 8 bytes"));
                rest = after;
            }
            if page.is_last && rest.is_empty() {
                return (names, looked_at);
            }
        }
    }

    #[test]
    fn every_name_is_in_exactly_one_page_and_looked_at_only_a_few_times() {
        let root = tempfile::tempdir().expect("a temporary directory can be created");
        let mut all: HashSet<String> = [".".into(), "..".into()].into();
        for number in 0..4000 {
            let name = format!("{number}-{}", "x".repeat(number % 50));
            fs::write(root.path().join(&name), "").expect("the directory can be written to");
            all.insert(name);
        }
        let directory = File::open(root.path()).expect("the directory exists");
        let listing = listing(&directory);
        for room in [300, 1024, 4096, 1 << 20] {
            let (names, looked_at) = names(&listing, &directory, 0, room);
            assert_eq!(names.len(), all.len());
            assert_eq!(names.into_iter().collect::<HashSet<_>>(), all);
            assert!(looked_at < 2 * all.len() as u64, "{looked_at} with {room}");
        }
    }

    #[test]
    fn removed_names_are_left_out_and_positions_stay_valid() {
        let root = tempfile::tempdir().expect("a temporary directory can be created");
        for number in 0..100 {
            fs::write(root.path().join(number.to_string()), "")
                .expect("the directory can be written to");
        }
        let directory = File::open(root.path()).expect("the directory exists");
        let listing = listing(&directory);
        let (all, _) = names(&listing, &directory, 0, 4096);
        for name in &all[42..92] {
            fs::remove_file(root.path().join(name)).expect("the file exists");
        }
        fs::write(root.path().join("new"), "").expect("the directory can be written to");
        let (rest, _) = names(&listing, &directory, 32, 300);
        assert_eq!(rest, [&all[32..42], &all[92..]].concat());
        let (none, _) = names(&listing, &directory, 102, 300);
        assert!(none.is_empty());
        let (none, _) = names(&listing, &directory, u64::MAX, 300);
        assert!(none.is_empty());
    }
}
