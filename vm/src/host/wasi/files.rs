//! Functions for the metadata of open files and directories, and for listing directories.

use super::call::{Preview, Result, WasiCall, apart};
use crate::environment::Charge;
use crate::environment::wasi::beneath::{Base, is_heavy};
use crate::environment::wasi::file::FileStat;
use crate::environment::wasi::listing::{Listing, Reading};
use crate::environment::wasi::missing;
use crate::environment::wasi::table::{Descriptor, Place};
use crate::environment::wasi::{Pace, WasiErrno};
use crate::guest::call::Range;
use crate::scheduler;
use crate::unblock::unblock;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use std::fs::File;
use std::sync::Arc;
use wasmtime_wasi::cli::IsTerminal;

/// The file types of streams and directories. A stream is either a terminal (a character device) or
/// of unknown type.
const UNKNOWN: u8 = 0;
const TERMINAL: u8 = 2;
const DIRECTORY: u8 = 3;

/// WASI rights. Only the first two have an effect. The others exist because guests expect them.
mod rights {
    pub(super) const READ: u64 = 1 << 1;
    pub(super) const WRITE: u64 = 1 << 6;
    pub(super) const READDIR: u64 = 1 << 14;

    /// The rights of a granted directory.
    pub(super) const DIRECTORY: u64 = PATHS | READDIR | FILESTAT_GET | FILESTAT_SET_TIMES;
    /// The rights of files opened inside a granted directory.
    pub(super) const INHERITING: u64 = DIRECTORY | FILE;

    /// `path_create_directory` to `path_open`, `path_readlink` to `path_filestat_get`,
    /// `path_filestat_set_times`, `path_symlink` to `path_unlink_file`.
    const PATHS: u64 = 0b1_1111 << 9 | 0b1111 << 15 | 1 << 20 | 0b111 << 24;
    const FILESTAT_GET: u64 = 1 << 21;
    const FILESTAT_SET_SIZE: u64 = 1 << 22;
    const FILESTAT_SET_TIMES: u64 = 1 << 23;
    /// `fd_datasync` to `fd_allocate`, sizes and times, `poll_fd_readwrite`.
    const FILE: u64 =
        0b1_1111_1111 | FILESTAT_GET | FILESTAT_SET_SIZE | FILESTAT_SET_TIMES | 1 << 27;

    /// All rights in preview 1, which has one more than preview 0.
    pub(super) const ALL: u64 = (1 << 30) - 1;
    pub(super) const ACCEPT: u64 = 1 << 29;
    /// The rights that directories never have: `fd_seek`, and setting sizes.
    pub(super) const NO_DIRECTORY: u64 = 1 << 2 | FILESTAT_SET_SIZE | 1 << 19;
}

/// Descriptor flags.
pub(super) mod flags {
    pub(in super::super) const APPEND: u32 = 1;
    pub(in super::super) const DSYNC: u32 = 2;
    pub(in super::super) const NONBLOCK: u32 = 4;
    pub(in super::super) const RSYNC: u32 = 8;
    pub(in super::super) const SYNC: u32 = 16;
    pub(in super::super) const ALL: u32 = 31;
    /// These flags are not supported, because writes never wait for the disk. To wait, guests can
    /// call `fd_sync`.
    pub(in super::super) const UNSUPPORTED: u32 = DSYNC | RSYNC | SYNC;
}

pub(super) async fn fd_advise(
    call: &mut WasiCall<'_>,
    fd: u32,
    from: u64,
    length: u64,
    advice: u32,
) -> Result {
    let file = call.table().file(fd)?;
    if advice > 5 {
        return Err(WasiErrno::Inval.into());
    }
    let (handle, pace) = (file.file.clone(), file.pace.clone());
    pace.away(move || advise(&handle, from, length, advice))
        .await?;
    Ok(())
}

#[cfg(target_os = "linux")]
fn advise(file: &File, from: u64, length: u64, advice: u32) -> rustix::io::Result<()> {
    use rustix::fs::Advice;
    let advice = [
        Advice::Normal,
        Advice::Sequential,
        Advice::Random,
        Advice::WillNeed,
        Advice::DontNeed,
        Advice::NoReuse,
    ][advice as usize];
    rustix::fs::fadvise(file, from, std::num::NonZeroU64::new(length), advice)
}

#[cfg(not(target_os = "linux"))]
fn advise(_: &File, _: u64, _: u64, _: u32) -> rustix::io::Result<()> {
    Ok(())
}

pub(super) fn fd_allocate(call: &mut WasiCall<'_>, fd: u32, _from: u64, _length: u64) -> Result {
    call.table().file(fd)?;
    Err(WasiErrno::Notsup.into())
}

pub(super) async fn fd_close(call: &mut WasiCall<'_>, fd: u32) -> Result {
    let closed = call.table().remove(fd)?;
    close(closed).await
}

/// Closes a file. How long this takes depends on the file system.
async fn close(descriptor: Descriptor) -> Result {
    let pace = match &descriptor {
        Descriptor::File(file) => file.pace.clone(),
        Descriptor::Directory(directory) => directory.place.pace.clone(),
        Descriptor::Input(_) | Descriptor::Output(_) => return Ok(()),
    };
    if descriptor.is_heavy_to_close() {
        return apart(move || drop(descriptor)).await;
    }
    pace.run(move || drop(descriptor)).await;
    Ok(())
}

pub(super) async fn fd_renumber(call: &mut WasiCall<'_>, from: u32, to: u32) -> Result {
    if let Some(replaced) = call.table().renumber(from, to)? {
        close(replaced).await?;
    }
    Ok(())
}

pub(super) async fn fd_sync(call: &mut WasiCall<'_>, fd: u32) -> Result {
    sync(call, fd, |file| rustix::fs::fsync(file)).await
}

pub(super) async fn fd_datasync(call: &mut WasiCall<'_>, fd: u32) -> Result {
    sync(call, fd, |file| rustix::fs::fdatasync(file)).await
}

async fn sync(
    call: &mut WasiCall<'_>,
    fd: u32,
    sync: fn(&File) -> rustix::io::Result<()>,
) -> Result {
    match call.table().get(fd)? {
        Descriptor::File(file) => {
            let handle = file.file.clone();
            apart(move || sync(&handle)).await??;
        }
        Descriptor::Directory(directory) => {
            let place = directory.place.clone();
            apart(move || sync(&place.base().reopen()?).map_err(WasiErrno::from)).await??;
        }
        Descriptor::Input(_) | Descriptor::Output(_) => return Err(WasiErrno::Badf.into()),
    }
    Ok(())
}

pub(super) fn fd_fdstat_get(call: &mut WasiCall<'_>, fd: u32, out: u32) -> Result {
    let out = call.range(out, 24)?;
    let preview = call.preview;
    let (file_type, flags, base, inheriting) = match call.table().get(fd)? {
        Descriptor::Input(inlet) => (stream_type(inlet), 0, rights::READ, rights::READ),
        Descriptor::Output(outlet) => (stream_type(outlet), 0, rights::WRITE, rights::WRITE),
        Descriptor::Directory(directory) if directory.place.granted_as.is_some() => {
            (DIRECTORY, 0, rights::DIRECTORY, rights::INHERITING)
        }
        Descriptor::Directory(_) => {
            let rights = rights::ALL & !rights::NO_DIRECTORY & !rights::WRITE;
            (DIRECTORY, 0, rights, rights)
        }
        Descriptor::File(file) => {
            let mut rights = rights::ALL;
            if !file.is_read {
                rights &= !(rights::READ | rights::READDIR);
            }
            if !file.is_written {
                rights &= !rights::WRITE;
            }
            let mut flags = 0;
            if file.appends {
                flags |= flags::APPEND;
            }
            if file.is_nonblocking {
                flags |= flags::NONBLOCK;
            }
            (
                FileStat::of(&rustix::fs::fstat(&*file.file)?).file_type,
                flags,
                rights,
                rights,
            )
        }
    };
    let known = match preview {
        Preview::Zero => !rights::ACCEPT,
        Preview::One => u64::MAX,
    };
    let mut bytes = [0; 24];
    bytes[0] = file_type;
    bytes[2..4].copy_from_slice(&(flags as u16).to_le_bytes());
    bytes[8..16].copy_from_slice(&(base & known).to_le_bytes());
    bytes[16..24].copy_from_slice(&(inheriting & known).to_le_bytes());
    call.put(out, &bytes);
    Ok(())
}

fn stream_type(stream: &impl IsTerminal) -> u8 {
    if stream.is_terminal() {
        TERMINAL
    } else {
        UNKNOWN
    }
}

pub(super) fn fd_fdstat_set_flags(call: &mut WasiCall<'_>, fd: u32, flags: u32) -> Result {
    let file = call.table().file(fd)?;
    if flags & flags::UNSUPPORTED != 0 || flags > flags::ALL {
        return Err(WasiErrno::Inval.into());
    }
    file.set_appends(flags & flags::APPEND != 0)?;
    file.is_nonblocking = flags & flags::NONBLOCK != 0;
    Ok(())
}

pub(super) fn fd_fdstat_set_rights(
    call: &mut WasiCall<'_>,
    fd: u32,
    _base: u64,
    _inheriting: u64,
) -> Result {
    match call.table().get(fd)? {
        Descriptor::File(_) | Descriptor::Directory(_) => Err(WasiErrno::Notsup.into()),
        Descriptor::Input(_) | Descriptor::Output(_) => Err(WasiErrno::Badf.into()),
    }
}

pub(super) fn fd_filestat_get(call: &mut WasiCall<'_>, fd: u32, out: u32) -> Result {
    let out = stat_range(call, out)?;
    let of_stream = |file_type| FileStat {
        file_type,
        ..FileStat::default()
    };
    let stat = match call.table().get(fd)? {
        Descriptor::Input(inlet) => of_stream(stream_type(inlet)),
        Descriptor::Output(outlet) => of_stream(stream_type(outlet)),
        Descriptor::File(file) => FileStat::of(&rustix::fs::fstat(&*file.file)?),
        Descriptor::Directory(directory) => {
            FileStat::of(&rustix::fs::fstat(&*directory.place.directory)?)
        }
    };
    put_stat(call, out, &stat);
    Ok(())
}

/// Checks that a file's metadata fits into the guest's memory at `out`.
pub(super) fn stat_range(call: &mut WasiCall<'_>, out: u32) -> Result<Range> {
    let size = match call.preview {
        Preview::Zero => 56,
        Preview::One => 64,
    };
    call.range(out, size)
}

/// Writes a file's metadata.
pub(super) fn put_stat(call: &mut WasiCall<'_>, out: Range, stat: &FileStat) {
    let mut bytes = Vec::with_capacity(out.len());
    for number in [stat.device, stat.inode, u64::from(stat.file_type)] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    match call.preview {
        Preview::Zero => {
            bytes.truncate(20);
            let links = u32::try_from(stat.links).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&links.to_le_bytes());
        }
        Preview::One => bytes.extend_from_slice(&stat.links.to_le_bytes()),
    }
    for number in [stat.size, stat.accessed, stat.modified, stat.changed] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    call.put(out, &bytes);
}

pub(super) async fn fd_filestat_set_size(call: &mut WasiCall<'_>, fd: u32, size: u64) -> Result {
    let file = call.table().file(fd)?;
    file.access.check_writable()?;
    let (handle, pace) = (file.file.clone(), file.pace.clone());
    set_size(handle, &pace, size).await
}

/// Changes a file's size.
pub(super) async fn set_size(file: Arc<File>, pace: &Arc<Pace>, size: u64) -> Result {
    let is_heavy = is_heavy(&rustix::fs::fstat(&*file)?);
    let set = move || rustix::fs::ftruncate(&*file, size);
    if is_heavy {
        apart(set).await??;
    } else {
        pace.run(set).await?;
    }
    Ok(())
}

pub(super) async fn fd_filestat_set_times(
    call: &mut WasiCall<'_>,
    fd: u32,
    accessed: u64,
    modified: u64,
    flags: u32,
) -> Result {
    let times = times(accessed, modified, flags)?;
    match call.table().get(fd)? {
        Descriptor::File(file) => {
            file.access.check_writable()?;
            let (handle, pace) = (file.file.clone(), file.pace.clone());
            pace.run(move || rustix::fs::futimens(&*handle, &times))
                .await?;
        }
        Descriptor::Directory(directory) => {
            let place = directory.place.clone();
            place.access.check_writable()?;
            place
                .run(move |base| {
                    rustix::fs::futimens(base.reopen()?, &times).map_err(WasiErrno::from)
                })
                .await?;
        }
        Descriptor::Input(_) | Descriptor::Output(_) => return Err(WasiErrno::Badf.into()),
    }
    Ok(())
}

/// Returns the timestamps that a guest sets.
pub(super) fn times(accessed: u64, modified: u64, flags: u32) -> Result<Timestamps> {
    let time = |time: u64, set: u32, now: u32| match (flags & set != 0, flags & now != 0) {
        (true, true) => Err(WasiErrno::Inval),
        (true, false) => Ok(Timespec {
            tv_sec: (time / 1_000_000_000) as _,
            tv_nsec: (time % 1_000_000_000) as _,
        }),
        (false, is_now) => Ok(Timespec {
            tv_sec: 0,
            tv_nsec: if is_now { UTIME_NOW } else { UTIME_OMIT },
        }),
    };
    if flags > 15 {
        return Err(WasiErrno::Inval.into());
    }
    Ok(Timestamps {
        last_access: time(accessed, 1, 2)?,
        last_modification: time(modified, 4, 8)?,
    })
}

/// Returns the path that a directory is granted under.
fn granted_as(call: &mut WasiCall<'_>, fd: u32) -> Result<Arc<str>> {
    match call.table().get(fd)? {
        Descriptor::Directory(directory) => {
            Ok(directory.place.granted_as.clone().ok_or(WasiErrno::Badf)?)
        }
        _ => Err(WasiErrno::Badf.into()),
    }
}

/// The descriptor number of the first granted directory.
const FIRST_DIRECTORY: u32 = 3;

pub(super) fn fd_prestat_get(call: &mut WasiCall<'_>, fd: u32, out: u32) -> Result {
    let out = call.range(out, 8)?;
    let path = granted_as(call, fd).inspect_err(|_| {
        if fd == FIRST_DIRECTORY {
            call.template().explain_missing(missing::explain_nothing);
        }
    });
    let path = path?;
    // The first number is the kind. The only kind is 0, a directory.
    let bytes = (path.len() as u64) << 32;
    call.put(out, &bytes.to_le_bytes());
    Ok(())
}

pub(super) fn fd_prestat_dir_name(
    call: &mut WasiCall<'_>,
    fd: u32,
    address: u32,
    length: u32,
) -> Result {
    call.table().get(fd)?;
    let path = granted_as(call, fd).map_err(|_| WasiErrno::Notdir)?;
    if path.len() > length as usize {
        return Err(WasiErrno::Nametoolong.into());
    }
    let out = call.range(address, path.len() as u32)?;
    call.put(out, path.as_bytes());
    Ok(())
}

/// How many names are read on the worker, which takes less than a tick. Larger directories are read
/// on another thread.
const NAMES: usize = 1024;

pub(super) async fn fd_readdir(
    call: &mut WasiCall<'_>,
    fd: u32,
    address: u32,
    length: u32,
    cookie: u64,
    out: u32,
) -> Result {
    let out = call.range(out, 4)?;
    let buffer = call.range(address, length)?;
    let directory = call.table().directory(fd)?;
    let place = directory.place.clone();
    let known = directory.listing.take().filter(|_| cookie != 0);
    let listing = match known {
        Some(listing) => listing,
        None => {
            let charge = call.call.guest().process().host_memory().nothing();
            Arc::new(list(&place, charge).await?)
        }
    };
    call.table().directory(fd)?.listing = Some(listing.clone());
    let (mut next, mut filled) = (cookie, 0);
    while filled < buffer.len() {
        if next != cookie {
            scheduler::spent().await;
        }
        let (listing, room) = (listing.clone(), buffer.len() - filled);
        let page = place
            .run(move |base| listing.page(base.directory, next, room))
            .await?;
        call.put(buffer.part(filled, page.bytes.len()), &page.bytes);
        filled += page.bytes.len();
        next = page.next;
        if page.is_last {
            break;
        }
    }
    call.put(out, &(filled as u32).to_le_bytes());
    Ok(())
}

/// Lists a directory. Small directories are read on this thread if calls are quick. Large
/// directories are read on another thread.
async fn list(place: &Place, charge: Charge) -> std::result::Result<Listing, WasiErrno> {
    let begin = |base: Base<'_>| {
        let mut reading = Reading::begin(base.reopen()?, charge)?;
        let is_over = reading.go_on(NAMES)?;
        Ok::<_, WasiErrno>((reading, is_over))
    };
    let (mut reading, is_over) = place.run(begin).await?;
    if is_over {
        return Ok(reading.finish());
    }
    // The rest is not timed, because a long duration would only mean that the directory is large.
    let rest = move || {
        while !reading.go_on(NAMES)? {}
        Ok(reading.finish())
    };
    unblock(rest).await
}

/// Returns a socket function's result. Descriptors are never sockets, because guests use sockets
/// through the machine's own functions.
fn no_socket(call: &mut WasiCall<'_>, fd: u32) -> Result {
    call.table().get(fd)?;
    Err(WasiErrno::Notsock.into())
}

pub(super) fn sock_accept(call: &mut WasiCall<'_>, fd: u32, _flags: u32, _out: u32) -> Result {
    no_socket(call, fd)
}

pub(super) fn sock_recv(
    call: &mut WasiCall<'_>,
    fd: u32,
    _vectors: u32,
    _count: u32,
    _flags: u32,
    _out: u32,
    _out_flags: u32,
) -> Result {
    no_socket(call, fd)
}

pub(super) fn sock_send(
    call: &mut WasiCall<'_>,
    fd: u32,
    _vectors: u32,
    _count: u32,
    _flags: u32,
    _out: u32,
) -> Result {
    no_socket(call, fd)
}

pub(super) fn sock_shutdown(call: &mut WasiCall<'_>, fd: u32, _how: u32) -> Result {
    no_socket(call, fd)
}
