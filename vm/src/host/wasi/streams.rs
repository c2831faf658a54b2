//! Reads and writes files and standard streams.

use super::call::{Preview, Result, WasiCall, apart};
use super::transfer::{Transfer, gather, length, scatter};
use crate::environment::wasi::file::{self, Attempt, Wait};
use crate::environment::wasi::table::Descriptor;
use crate::environment::wasi::{Inlet, MAX_WRITE, Outlet, WasiErrno};
use crate::guest::call::Range;
use crate::scheduler;
use std::fs::File;
use std::io::IoSlice;
use std::sync::Arc;

/// How many bytes are copied from or to a file before other processes get to run.
const PIECE: usize = 256 << 10;

/// The maximum number of bytes that a call reads or writes, as on Linux.
const MOST: usize = 0x7fff_f000;

/// How many bytes are written to a standard stream before other processes get to run.
const OUTPUT_PIECE: usize = 64 * MAX_WRITE;

pub(super) async fn fd_read(
    call: &mut WasiCall<'_>,
    fd: u32,
    vectors: u32,
    count: u32,
    out: u32,
) -> Result {
    read(call, fd, [vectors, count], None, out).await
}

pub(super) async fn fd_pread(
    call: &mut WasiCall<'_>,
    fd: u32,
    vectors: u32,
    count: u32,
    at: u64,
    out: u32,
) -> Result {
    read(call, fd, [vectors, count], Some(at), out).await
}

pub(super) async fn fd_write(
    call: &mut WasiCall<'_>,
    fd: u32,
    vectors: u32,
    count: u32,
    out: u32,
) -> Result {
    write(call, fd, [vectors, count], None, out).await
}

pub(super) async fn fd_pwrite(
    call: &mut WasiCall<'_>,
    fd: u32,
    vectors: u32,
    count: u32,
    at: u64,
    out: u32,
) -> Result {
    write(call, fd, [vectors, count], Some(at), out).await
}

/// Reads at a position, or at the descriptor's own position if none is given.
async fn read(
    call: &mut WasiCall<'_>,
    fd: u32,
    vectors: [u32; 2],
    at: Option<u64>,
    out: u32,
) -> Result {
    let out = call.range(out, 4)?;
    let ranges = call.vectors(vectors).await?;
    let read = match call.table().get(fd)? {
        Descriptor::Input(_) if at.is_some() => return Err(WasiErrno::Spipe.into()),
        Descriptor::Input(inlet) => {
            let inlet = inlet.clone();
            read_input(call, &inlet, &ranges).await
        }
        Descriptor::File(file) if file.is_read => {
            let from = file.position_of(at)?;
            let read = read_file(call, fd, &ranges, from).await?;
            if at.is_none() {
                call.table().file(fd)?.position = from.saturating_add(u64::from(read));
            }
            read
        }
        _ => return Err(WasiErrno::Badf.into()),
    };
    call.put(out, &read.to_le_bytes());
    Ok(())
}

/// Writes at a position, or at the descriptor's own position if none is given.
async fn write(
    call: &mut WasiCall<'_>,
    fd: u32,
    vectors: [u32; 2],
    at: Option<u64>,
    out: u32,
) -> Result {
    let out = call.range(out, 4)?;
    let ranges = call.vectors(vectors).await?;
    let written = match call.table().get(fd)? {
        Descriptor::Output(_) if at.is_some() => return Err(WasiErrno::Spipe.into()),
        Descriptor::Output(outlet) => {
            let outlet = outlet.clone();
            write_output(call, &outlet, &ranges).await?
        }
        Descriptor::File(file) if file.is_written => {
            file.position_of(at)?;
            write_file(call, fd, &ranges, at).await?
        }
        _ => return Err(WasiErrno::Badf.into()),
    };
    call.put(out, &written.to_le_bytes());
    Ok(())
}

async fn read_input(call: &mut WasiCall<'_>, inlet: &Inlet, ranges: &[Range]) -> u32 {
    let most = length(ranges);
    if most == 0 {
        return 0;
    }
    let bytes = inlet.take(most).await;
    scatter(&mut call.call, ranges, &bytes);
    bytes.len() as u32
}

/// Reads a file starting at a position, and returns the number of bytes read. The position is
/// ignored if the file is not regular.
async fn read_file(call: &mut WasiCall<'_>, fd: u32, ranges: &[Range], mut at: u64) -> Result<u32> {
    let mut transfer = Transfer::new(ranges);
    let (mut total, mut since) = (0, 0);
    while total < MOST {
        // Guests may pass overlapping buffers, so each part is read separately.
        for part in transfer.next(PIECE.min(MOST - total)) {
            let mut done = 0;
            while done < part.len() {
                let rest = part.part(done, part.len());
                let (count, is_end) = match read_part(call, fd, rest, at).await {
                    Ok(read) => read,
                    Err(_) if total > 0 => return Ok(total as u32),
                    Err(stop) => return Err(stop),
                };
                done += count;
                total += count;
                at = at.saturating_add(count as u64);
                if is_end {
                    return Ok(total as u32);
                }
            }
            since += part.len();
        }
        if transfer.is_over() {
            break;
        }
        if since >= PIECE {
            since = 0;
            scheduler::spent().await;
        }
    }
    Ok(total as u32)
}

/// Reads at most one piece. Returns the number of bytes read, and whether there are no more
/// available for now.
async fn read_part(
    call: &mut WasiCall<'_>,
    fd: u32,
    part: Range,
    at: u64,
) -> Result<(usize, bool)> {
    let (mut memory, guest) = call.call.parts()?;
    let file = guest.wasi().table().file(fd)?;
    if let Attempt::Read(count) = file.try_read(memory.bytes(part), at)? {
        // A nonblocking read ends early if the next page is still on disk.
        let is_page = at.saturating_add(count as u64).is_multiple_of(4096);
        return Ok((count, count == 0 || count < part.len() && !is_page));
    }
    let (handle, size) = (file.file.clone(), part.len());
    if !file.is_regular {
        return read_other(call, handle, part).await;
    }
    let pace = file.pace.clone();
    let bytes = pace
        .away(move || read_bytes(&handle, true, size, at))
        .await?;
    call.put(part.part(0, bytes.len()), &bytes);
    Ok((bytes.len(), bytes.len() < size))
}

/// Reads a file that is not regular once there is something to read. The call then ends, because
/// any further data may have to be waited for.
async fn read_other(
    call: &mut WasiCall<'_>,
    file: Arc<File>,
    part: Range,
) -> Result<(usize, bool)> {
    while file::is_ready(file.clone(), Wait::Read).await? {
        match file::read(&file, false, call.call.bytes_mut(part), 0) {
            Ok(count) => return Ok((count, true)),
            // Another process has read the bytes.
            Err(WasiErrno::Again) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let size = part.len();
    let bytes = apart(move || read_bytes(&file, false, size, 0)).await??;
    call.put(part.part(0, bytes.len()), &bytes);
    Ok((bytes.len(), true))
}

fn read_bytes(
    file: &File,
    is_regular: bool,
    size: usize,
    at: u64,
) -> std::result::Result<Vec<u8>, WasiErrno> {
    let mut bytes = vec![0; size];
    let count = file::read(file, is_regular, &mut bytes, at)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Writes to a standard stream. At most [`MAX_WRITE`] bytes are written at a time; each such write
/// is atomic with respect to other processes' output.
async fn write_output(call: &mut WasiCall<'_>, outlet: &Outlet, ranges: &[Range]) -> Result<u32> {
    let mut transfer = Transfer::new(ranges);
    let (mut total, mut since) = (0, 0);
    while !transfer.is_over() && total < MOST {
        if since >= OUTPUT_PIECE {
            since = 0;
            scheduler::spent().await;
        }
        let bytes = gather(&mut call.call, &transfer.next(MAX_WRITE));
        match outlet.write(&bytes).await {
            Ok(()) => {}
            Err(_) if total > 0 => break,
            Err(error) => return Err(WasiErrno::from(error).into()),
        }
        total += bytes.len();
        since += bytes.len();
    }
    Ok(total as u32)
}

/// Writes to a file, at the file's own position unless another position is given.
async fn write_file(
    call: &mut WasiCall<'_>,
    fd: u32,
    ranges: &[Range],
    at: Option<u64>,
) -> Result<u32> {
    let file = call.table().file(fd)?;
    let (handle, pace, is_regular) = (file.file.clone(), file.pace.clone(), file.is_regular);
    let mut writing = file.writing(at);
    let mut transfer = Transfer::new(ranges);
    let mut total = 0;
    loop {
        let piece = transfer.next(PIECE.min(MOST - total));
        let result = loop {
            let is_ready = !is_regular && file::is_ready(handle.clone(), Wait::Write).await?;
            if is_ready || is_regular && pace.is_quick() {
                let pieces = call.call.slices(&piece);
                match pace.measured(|| writing.write(&handle, &pieces)) {
                    // Another process has filled the pipe.
                    Err(WasiErrno::Again) if is_ready => continue,
                    result => break result,
                }
            }
            let (handle, bytes) = (handle.clone(), gather(&mut call.call, &piece));
            let write = move || writing.write(&handle, &[IoSlice::new(&bytes)]);
            break if is_regular {
                pace.away(write).await
            } else {
                apart(write).await?
            };
        };
        let (count, end) = match result {
            Ok(written) => written,
            Err(_) if total > 0 => break,
            Err(error) => return Err(error.into()),
        };
        total += count;
        writing = writing.after(end);
        if at.is_none() {
            call.table().file(fd)?.position = end;
        }
        if count < length(&piece) || transfer.is_over() || total >= MOST {
            break;
        }
        scheduler::spent().await;
    }
    Ok(total as u32)
}

pub(super) fn fd_seek(
    call: &mut WasiCall<'_>,
    fd: u32,
    offset: i64,
    whence: u32,
    out: u32,
) -> Result {
    let out = call.range(out, 8)?;
    let preview = call.preview;
    let file = call.table().seekable(fd)?;
    let (start, current, end) = (0, 1, 2);
    // Preview 0 numbers the values of `whence` in a different order.
    let whence = match (preview, whence) {
        (Preview::One, whence @ 0..=2) => whence,
        (Preview::Zero, 0) => current,
        (Preview::Zero, 1) => end,
        (Preview::Zero, 2) => start,
        _ => return Err(WasiErrno::Inval.into()),
    };
    let base = match whence {
        0 => 0,
        1 => file.position,
        _ => rustix::fs::fstat(&*file.file)?.st_size as u64,
    };
    let position = base.checked_add_signed(offset).ok_or(WasiErrno::Inval)?;
    file.position = file.position_of(Some(position))?;
    call.put(out, &position.to_le_bytes());
    Ok(())
}

pub(super) fn fd_tell(call: &mut WasiCall<'_>, fd: u32, out: u32) -> Result {
    let out = call.range(out, 8)?;
    let position = call.table().seekable(fd)?.position;
    call.put(out, &position.to_le_bytes());
    Ok(())
}
