//! Functions for paths inside open directories.

use super::call::{Result, WasiCall, apart};
use super::files::{flags, put_stat, stat_range, times};
use crate::environment::wasi::WasiErrno;
use crate::environment::wasi::beneath::{Base, PathBelow, check, kind};
use crate::environment::wasi::file::{FileStat, OpenFile, Opened, Opening, sort};
use crate::environment::wasi::missing;
use crate::environment::wasi::table::{Descriptor, Place};
use crate::pauses::Pauses;
use rustix::fs::{FileType, OFlags, Stat};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// Whether a call reads or changes a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Change,
}

impl WasiCall<'_> {
    /// Returns an open directory.
    fn place(&mut self, fd: u32, will: Use) -> Result<Place> {
        let place = &self.table().directory(fd)?.place;
        if will == Use::Change {
            place.access.check_writable()?;
        }
        Ok(place.clone())
    }

    /// Copies a path out of the guest's memory.
    fn path(&mut self, address: u32, length: u32) -> Result<PathBelow> {
        let range = self.range(address, length)?;
        Ok(PathBelow::new(self.call.bytes(range))?)
    }

    /// Returns an open directory and a path inside it.
    fn target(
        &mut self,
        fd: u32,
        will: Use,
        address: u32,
        length: u32,
    ) -> Result<(Place, PathBelow)> {
        Ok((self.place(fd, will)?, self.path(address, length)?))
    }

    /// Runs an operation on a path inside a directory.
    async fn below<T: Send + 'static>(
        &mut self,
        place: &Place,
        path: PathBelow,
        act: impl Fn(Base<'_>, &PathBelow) -> std::result::Result<T, WasiErrno> + Clone + Send + 'static,
    ) -> Result<T> {
        let first = act.clone();
        let (result, path) = place.run(move |base| (first(base, &path), path)).await;
        let Err(errno @ (WasiErrno::Noent | WasiErrno::Perm)) = result else {
            return Ok(result?);
        };
        if let Some((place, path)) = self.table().elsewhere(place, &path) {
            return Ok(place.run(move |base| act(base, &path)).await?);
        }
        if let Some(granted_as) = &place.granted_as {
            self.template()
                .explain_missing(|| missing::explain(place.base(), granted_as, &path, errno));
        }
        Err(errno.into())
    }

    /// Runs an operation on a path that may free the file at the path `freed`.
    async fn freeing<T: Send + 'static>(
        &mut self,
        place: &Place,
        path: PathBelow,
        (freed_in, freed, follow): (&Place, PathBelow, bool),
        act: impl Fn(Base<'_>, &PathBelow) -> std::result::Result<T, WasiErrno> + Clone + Send + 'static,
    ) -> Result<T> {
        let is_heavy = move |base: Base<'_>| base.is_heavy(&freed, follow);
        if freed_in.run(is_heavy).await {
            let place = place.clone();
            return Ok(apart(move || act(place.base(), &path)).await??);
        }
        self.below(place, path, act).await
    }
}

/// Returns whether to follow a symbolic link at the end of a path.
fn follows(look_up: u32) -> Result<bool> {
    match look_up {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WasiErrno::Inval.into()),
    }
}

pub(super) async fn path_create_directory(
    call: &mut WasiCall<'_>,
    fd: u32,
    path: u32,
    length: u32,
) -> Result {
    let (place, path) = call.target(fd, Use::Change, path, length)?;
    call.below(&place, path, |base, path| base.create_directory(path))
        .await
}

pub(super) async fn path_filestat_get(
    call: &mut WasiCall<'_>,
    fd: u32,
    look_up: u32,
    path: u32,
    length: u32,
    out: u32,
) -> Result {
    let out = stat_range(call, out)?;
    let follow = follows(look_up)?;
    let (place, path) = call.target(fd, Use::Read, path, length)?;
    let stat = call
        .below(&place, path, move |base, path| base.stat(path, follow))
        .await?;
    put_stat(call, out, &FileStat::of(&stat));
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "WASI defines the parameters")]
pub(super) async fn path_filestat_set_times(
    call: &mut WasiCall<'_>,
    fd: u32,
    look_up: u32,
    path: u32,
    length: u32,
    accessed: u64,
    modified: u64,
    flags: u32,
) -> Result {
    let times = times(accessed, modified, flags)?;
    let follow = follows(look_up)?;
    let (place, path) = call.target(fd, Use::Change, path, length)?;
    call.below(&place, path, move |base, path| {
        base.set_times(path, follow, &times)
    })
    .await
}

#[expect(clippy::too_many_arguments, reason = "WASI defines the parameters")]
pub(super) async fn path_link(
    call: &mut WasiCall<'_>,
    fd: u32,
    look_up: u32,
    path: u32,
    length: u32,
    to: u32,
    to_path: u32,
    to_length: u32,
) -> Result {
    if follows(look_up)? {
        return Err(WasiErrno::Inval.into());
    }
    let (place, to) = (call.place(fd, Use::Change)?, call.place(to, Use::Change)?);
    let (path, to_path) = (call.path(path, length)?, call.path(to_path, to_length)?);
    call.below(&place, path, move |base, path| {
        base.link(path, to.base(), &to_path)
    })
    .await
}

pub(super) async fn path_rename(
    call: &mut WasiCall<'_>,
    fd: u32,
    path: u32,
    length: u32,
    to: u32,
    to_path: u32,
    to_length: u32,
) -> Result {
    let (place, to) = (call.place(fd, Use::Change)?, call.place(to, Use::Change)?);
    let (path, to_path) = (call.path(path, length)?, call.path(to_path, to_length)?);
    let (freed_in, freed) = (to.clone(), to_path.clone());
    call.freeing(
        &place,
        path,
        (&freed_in, freed, false),
        move |base, path| base.rename(path, to.base(), &to_path),
    )
    .await
}

pub(super) async fn path_symlink(
    call: &mut WasiCall<'_>,
    contents: u32,
    size: u32,
    fd: u32,
    path: u32,
    length: u32,
) -> Result {
    let place = call.place(fd, Use::Change)?;
    let contents = call.range(contents, size)?;
    check(call.call.bytes(contents))?;
    let contents = call.call.bytes(contents).to_vec();
    let path = call.path(path, length)?;
    call.below(&place, path, move |base, path| {
        base.symlink(&contents, path)
    })
    .await
}

pub(super) async fn path_readlink(
    call: &mut WasiCall<'_>,
    fd: u32,
    path: u32,
    length: u32,
    address: u32,
    room: u32,
    out: u32,
) -> Result {
    let (buffer, out) = (call.range(address, room)?, call.range(out, 4)?);
    let (place, path) = call.target(fd, Use::Read, path, length)?;
    let mut contents = call
        .below(&place, path, |base, path| base.read_link(path))
        .await?;
    contents.truncate(buffer.len());
    call.put(buffer.part(0, contents.len()), &contents);
    call.put(out, &(contents.len() as u32).to_le_bytes());
    Ok(())
}

pub(super) async fn path_remove_directory(
    call: &mut WasiCall<'_>,
    fd: u32,
    path: u32,
    length: u32,
) -> Result {
    let (place, path) = call.target(fd, Use::Change, path, length)?;
    call.below(&place, path, |base, path| base.remove_directory(path))
        .await
}

pub(super) async fn path_unlink_file(
    call: &mut WasiCall<'_>,
    fd: u32,
    path: u32,
    length: u32,
) -> Result {
    let (place, path) = call.target(fd, Use::Change, path, length)?;
    let freed = (&place, path.clone(), false);
    call.freeing(&place, path, freed, |base, path| base.unlink(path))
        .await
}

#[expect(clippy::too_many_arguments, reason = "WASI defines the parameters")]
pub(super) async fn path_open(
    call: &mut WasiCall<'_>,
    fd: u32,
    look_up: u32,
    path: u32,
    length: u32,
    how: u32,
    rights: u64,
    _inheriting: u64,
    flags: u32,
    out: u32,
) -> Result {
    let out = call.range(out, 4)?;
    let path = call.path(path, length)?;
    let opening = opening(look_up, how, rights, flags)?;
    match call.table().get(fd)? {
        Descriptor::Directory(_) => {}
        Descriptor::File(_) => return Err(WasiErrno::Notdir.into()),
        Descriptor::Input(_) | Descriptor::Output(_) => return Err(WasiErrno::Badf.into()),
    }
    call.table().take_room()?;
    let will = if opening.changes() {
        Use::Change
    } else {
        Use::Read
    };
    let place = call.place(fd, will)?;
    let act = move |base: Base<'_>, path: &PathBelow| open(base, path, opening);
    let mut pauses = Pauses::new(Duration::from_millis(1), LONGEST_PAUSE);
    let opened = loop {
        let opened = if opening.truncate {
            let freed = (&place, path.clone(), opening.follow);
            call.freeing(&place, path.clone(), freed, act).await?
        } else {
            call.below(&place, path.clone(), act).await?
        };
        if let Some(opened) = opened {
            break opened;
        }
        pauses.pause().await;
    };
    let descriptor = match opened {
        Opened::Directory(directory) => place.opened(directory),
        Opened::Regular(file) => Descriptor::File(open_file(file, true, place, opening)),
        Opened::Other(file) => Descriptor::File(open_file(file, false, place, opening)),
    };
    let number = call.table().insert(descriptor)?;
    call.put(out, &number.to_le_bytes());
    Ok(())
}

/// Returns how a guest wants to open a file.
fn opening(look_up: u32, how: u32, rights: u64, flags: u32) -> Result<Opening> {
    const CREATE: u32 = 1;
    const DIRECTORY: u32 = 2;
    const EXCLUSIVE: u32 = 4;
    const TRUNCATE: u32 = 8;
    const READ: u64 = 1 << 1;
    const WRITE: u64 = 1 << 6;

    let is_unknown = how > 15 || flags > flags::ALL;
    if is_unknown || how & DIRECTORY != 0 && how != DIRECTORY {
        return Err(WasiErrno::Inval.into());
    }
    if flags & flags::UNSUPPORTED != 0 {
        return Err(WasiErrno::Notsup.into());
    }
    Ok(Opening {
        create: how & CREATE != 0,
        directory: how & DIRECTORY != 0,
        exclusive: how & EXCLUSIVE != 0,
        truncate: how & TRUNCATE != 0,
        read: rights & READ != 0,
        write: rights & WRITE != 0,
        append: flags & flags::APPEND != 0,
        nonblocking: flags & flags::NONBLOCK != 0,
        follow: follows(look_up)?,
    })
}

/// The maximum time that a process opening a named pipe for writing waits before it looks for a
/// reader again. The kernel reports the arrival of a reader only to a thread that blocks.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Opens a path without waiting for the other end of a named pipe. Returns `None` if the path is a
/// named pipe to be opened for writing that has no reader yet.
///
/// If a named pipe is opened for reading, the first read waits for a writer.
fn open(
    base: Base<'_>,
    path: &PathBelow,
    opening: Opening,
) -> std::result::Result<Option<Opened>, WasiErrno> {
    let is_pipe = |stat: Stat| kind(&stat) == FileType::Fifo;
    match base.open(path, opening.flags() | OFlags::NONBLOCK) {
        Ok(file) => sort(file).map(Some),
        Err(WasiErrno::Nxio) if base.stat(path, opening.follow).is_ok_and(is_pipe) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn open_file(file: File, is_regular: bool, place: Place, opening: Opening) -> OpenFile {
    OpenFile {
        file: Arc::new(file),
        pace: place.pace,
        access: place.access,
        is_regular,
        is_read: opening.read || !opening.write,
        is_written: opening.changes(),
        position: 0,
        appends: opening.append,
        is_nonblocking: opening.nonblocking,
        tells_waits: true,
    }
}
