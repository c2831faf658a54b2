//! A process's open files.

use super::beneath::{is_heavy, kind};
use super::directory::Access;
use super::errno::Errno;
use super::pace::Pace;
use async_io::Async;
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno as System;
use std::fs::File;
use std::io::IoSlice;
use std::sync::Arc;

/// A process's open file, other than a directory.
pub(crate) struct OpenFile {
    pub(crate) file: Arc<File>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) access: Access,
    /// Only regular files have positions. Other kinds of files may never become ready; until such a
    /// file is ready, calls on it fail with AGAIN.
    pub(crate) is_regular: bool,
    /// Whether the file was opened for reading, and whether it was opened for writing.
    pub(crate) is_read: bool,
    pub(crate) is_written: bool,
    /// Where the next read or write begins.
    pub(crate) position: u64,
    pub(crate) appends: bool,
    /// The flag as set by the guest. It is only recorded: file calls never fail because they would
    /// block.
    pub(crate) is_nonblocking: bool,
    /// Whether the file system can report that a read would have to wait.
    pub(crate) tells_waits: bool,
}

/// The result of a read that must not wait.
pub(crate) enum Attempt {
    /// The number of bytes read; 0 at the end of the file.
    Read(usize),
    /// The read would have to wait.
    Waits,
}

impl OpenFile {
    /// Reads bytes from a regular file at a position, if possible without waiting.
    pub(crate) fn try_read(&mut self, into: &mut [u8], at: u64) -> Result<Attempt, Errno> {
        if !self.is_regular {
            return Ok(Attempt::Waits);
        }
        #[cfg(target_os = "linux")]
        while self.tells_waits {
            use rustix::io::{ReadWriteFlags, preadv2};
            use std::io::IoSliceMut;
            let into = &mut [IoSliceMut::new(into)];
            match preadv2(&*self.file, into, at, ReadWriteFlags::NOWAIT) {
                Ok(count) => return Ok(Attempt::Read(count)),
                Err(System::AGAIN) => return Ok(Attempt::Waits),
                Err(System::OPNOTSUPP | System::NOSYS) => self.tells_waits = false,
                Err(System::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !self.pace.is_quick() {
            return Ok(Attempt::Waits);
        }
        let read = self.pace.measured(|| read(&self.file, true, into, at));
        read.map(Attempt::Read)
    }

    /// Returns the position of a call: the given position, or the file's own if none is given.
    pub(crate) fn position_of(&self, at: Option<u64>) -> Result<u64, Errno> {
        match at {
            Some(_) if !self.is_regular => Err(Errno::Spipe),
            // The kernel would interpret such a position as negative, and -1 as the file's own
            // position.
            Some(at) if i64::try_from(at).is_err() => Err(Errno::Inval),
            at => Ok(at.unwrap_or(self.position)),
        }
    }

    /// Returns whether closing the file frees it and therefore takes a long time.
    pub(crate) fn is_heavy_to_close(&self) -> bool {
        let stat = rustix::fs::fstat(&*self.file);
        stat.is_ok_and(|stat| stat.st_nlink == 0 && is_heavy(&stat))
    }

    /// Changes whether writes append.
    pub(crate) fn set_appends(&mut self, appends: bool) -> Result<(), Errno> {
        if self.appends != appends {
            let flags = rustix::fs::fcntl_getfl(&*self.file)?.difference(OFlags::APPEND);
            let append = if appends {
                OFlags::APPEND
            } else {
                OFlags::empty()
            };
            rustix::fs::fcntl_setfl(&*self.file, flags | append)?;
            self.appends = appends;
        }
        Ok(())
    }

    /// Returns how to write at a position, or at the file's own position if none is given.
    pub(crate) fn writing(&self, at: Option<u64>) -> Writing {
        Writing {
            is_regular: self.is_regular,
            at: if self.appends {
                None
            } else {
                Some(at.unwrap_or(self.position))
            },
        }
    }
}

/// Reads bytes, starting at `at` if the file is regular. Any other file has only its own position.
pub(crate) fn read(
    file: &File,
    is_regular: bool,
    into: &mut [u8],
    at: u64,
) -> Result<usize, Errno> {
    loop {
        let read = if is_regular {
            rustix::io::pread(file, &mut *into, at)
        } else {
            rustix::io::read(file, &mut *into)
        };
        match read {
            Err(System::INTR) => {}
            read => return Ok(read?),
        }
    }
}

/// What a process waits to do with a file that is not regular.
#[derive(Clone, Copy)]
pub(crate) enum Wait {
    Read,
    Write,
}

/// Waits until a file that is not regular can be read or written. The wait needs no thread. Returns
/// false for a device that does not report when it is ready, such as `/dev/null`.
///
/// A named pipe cannot be read before a writer has opened it, although a read would report the end
/// of the file.
pub(crate) async fn is_ready(file: Arc<File>, what: Wait) -> Result<bool, Errno> {
    let file = match Async::new_nonblocking(file) {
        Err(error) if System::from_io_error(&error) == Some(System::PERM) => return Ok(false),
        file => file?,
    };
    match what {
        Wait::Read => file.readable().await?,
        Wait::Write => file.writable().await?,
    }
    Ok(true)
}

/// How to write to a file.
#[derive(Clone, Copy)]
pub(crate) struct Writing {
    is_regular: bool,
    /// The position, or `None` for the end of the file.
    at: Option<u64>,
}

impl Writing {
    /// Writes bytes. Returns how many bytes were written, and the position after them.
    pub(crate) fn write(self, file: &File, pieces: &[IoSlice<'_>]) -> Result<(usize, u64), Errno> {
        let count = loop {
            let written = match self.at {
                Some(at) if self.is_regular => rustix::io::pwritev(file, pieces, at),
                _ => rustix::io::writev(file, pieces),
            };
            match written {
                Err(System::INTR) => {}
                written => break written?,
            }
        };
        let end = match self.at {
            Some(at) => at.saturating_add(count as u64),
            // The position of appended bytes is known only after the write.
            None if self.is_regular => rustix::fs::tell(file)?,
            None => 0,
        };
        Ok((count, end))
    }

    /// Returns how to write the bytes after position `end`.
    pub(crate) fn after(self, end: u64) -> Writing {
        Writing {
            at: self.at.map(|_| end),
            ..self
        }
    }
}

/// The metadata of a file, as guests receive it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FileStat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) file_type: u8,
    pub(crate) links: u64,
    pub(crate) size: u64,
    pub(crate) accessed: u64,
    pub(crate) modified: u64,
    pub(crate) changed: u64,
}

impl FileStat {
    pub(crate) fn of(stat: &Stat) -> FileStat {
        // WASI cannot represent times before 1970.
        let time = |seconds: i64, nanoseconds: i64| {
            let seconds = u64::try_from(seconds).unwrap_or(0);
            seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(nanoseconds as u64)
        };
        #[allow(
            clippy::unnecessary_cast,
            reason = "`st_nlink` is 32 bits wide on other processors"
        )]
        let links = stat.st_nlink as u64;
        FileStat {
            device: stat.st_dev,
            inode: stat.st_ino,
            file_type: super::listing::file_type(kind(stat)),
            links,
            size: stat.st_size as u64,
            accessed: time(stat.st_atime, stat.st_atime_nsec as i64),
            modified: time(stat.st_mtime, stat.st_mtime_nsec as i64),
            changed: time(stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }
}

/// How a guest opens a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) create: bool,
    pub(crate) directory: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) append: bool,
    pub(crate) nonblocking: bool,
    pub(crate) follow: bool,
}

impl Opening {
    /// Returns whether a read-only directory forbids opening the file in this way.
    pub(crate) fn changes(&self) -> bool {
        self.create || self.truncate || self.write
    }

    /// Returns the flags for the operating system.
    pub(crate) fn flags(&self) -> OFlags {
        let mut flags = match (self.read || !self.write, self.changes()) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (_, false) => OFlags::RDONLY,
        };
        for (is_set, flag) in [
            (self.create, OFlags::CREATE),
            (self.create && self.exclusive, OFlags::EXCL),
            (self.truncate, OFlags::TRUNC),
            (self.directory, OFlags::DIRECTORY),
            (self.append, OFlags::APPEND),
            (!self.follow, OFlags::NOFOLLOW),
        ] {
            if is_set {
                flags |= flag;
            }
        }
        flags
    }
}

/// A file opened by a call that does not wait.
pub(crate) enum Opened {
    Directory(File),
    Regular(File),
    /// A file that may have to be waited for, such as a named pipe.
    Other(File),
}

/// Determines the kind of an opened file.
pub(crate) fn sort(file: File) -> Result<Opened, Errno> {
    Ok(match kind(&rustix::fs::fstat(&file)?) {
        FileType::Directory => Opened::Directory(file),
        FileType::RegularFile => Opened::Regular(file),
        _ => Opened::Other(file),
    })
}
