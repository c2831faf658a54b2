//! The WASI preview 1 functions, as a table. Preview 0 lacks the last one; all others have the same
//! types there.

use super::call::{Preview, WasiCall};
use super::{files, paths, poll, program, streams};
use crate::guest::Guest;
use wasmtime::{Caller, Linker, WasmTyList};
use wasmtime_wasi::I32Exit;

/// A row is marked `now` if its function never waits.
macro_rules! functions {
    ($($mode:ident $module:ident::$name:ident($($parameter:ident: $type:ty),*);)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        fn add_rows(linker: &mut Linker<Guest>, preview: Preview) -> wasmtime::Result<()> {
            $(if preview.has(stringify!($name)) {
                add_row!($mode linker preview $module $name ($($parameter: $type),*));
            })*
            Ok(())
        }
    };
}

macro_rules! add_row {
    (now $linker:ident $preview:ident $module:ident $name:ident ($($parameter:ident: $type:ty),*)) => {
        $linker.func_wrap(
            $preview.namespace(),
            stringify!($name),
            move |caller: Caller<'_, Guest>, $($parameter: $type),*| {
                let mut call = WasiCall::begin(caller, $preview);
                let answer = $module::$name(&mut call, $($parameter),*);
                call.finish(answer, both!($name))
            },
        )?;
    };
    (wait $linker:ident $preview:ident $module:ident $name:ident ($($parameter:ident: $type:ty),*)) => {
        let row: Row<($($type,)*)> = |mut call, ($($parameter,)*)| {
            Box::new(async move {
                let answer = $module::$name(&mut call, $($parameter),*).await;
                call.finish(answer, both!($name))
            })
        };
        add_async_row($linker, $preview, stringify!($name), row)?;
    };
}

/// A row that may wait. Like the machine's own rows, it is a function pointer.
type Row<P> =
    for<'a> fn(WasiCall<'a>, P) -> Box<dyn Future<Output = wasmtime::Result<i32>> + Send + 'a>;

fn add_async_row<P: WasmTyList + 'static>(
    linker: &mut Linker<Guest>,
    preview: Preview,
    name: &str,
    row: Row<P>,
) -> wasmtime::Result<()> {
    linker.func_wrap_async(preview.namespace(), name, move |caller, parameters| {
        row(WasiCall::begin(caller, preview), parameters)
    })?;
    Ok(())
}

/// A function's names in both previews.
macro_rules! both {
    ($name:ident) => {
        [
            concat!("wasi_unstable::", stringify!($name)),
            concat!("wasi_snapshot_preview1::", stringify!($name)),
        ]
    };
}

functions! {
    now program::args_get(list: u32, bytes: u32);
    now program::args_sizes_get(count: u32, size: u32);
    now program::environ_get(list: u32, bytes: u32);
    now program::environ_sizes_get(count: u32, size: u32);
    now program::clock_res_get(clock: u32, out: u32);
    now program::clock_time_get(clock: u32, precision: u64, out: u32);
    now program::proc_raise(signal: u32);
    wait program::sched_yield();
    wait program::random_get(address: u32, length: u32);
    wait poll::poll_oneoff(subscriptions: u32, events: u32, count: u32, out: u32);

    wait streams::fd_read(fd: u32, vectors: u32, count: u32, out: u32);
    wait streams::fd_write(fd: u32, vectors: u32, count: u32, out: u32);
    wait streams::fd_pread(fd: u32, vectors: u32, count: u32, at: u64, out: u32);
    wait streams::fd_pwrite(fd: u32, vectors: u32, count: u32, at: u64, out: u32);
    now streams::fd_seek(fd: u32, offset: i64, whence: u32, out: u32);
    now streams::fd_tell(fd: u32, out: u32);

    wait files::fd_advise(fd: u32, from: u64, length: u64, advice: u32);
    now files::fd_allocate(fd: u32, from: u64, length: u64);
    wait files::fd_close(fd: u32);
    wait files::fd_datasync(fd: u32);
    now files::fd_fdstat_get(fd: u32, out: u32);
    now files::fd_fdstat_set_flags(fd: u32, flags: u32);
    now files::fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
    now files::fd_filestat_get(fd: u32, out: u32);
    wait files::fd_filestat_set_size(fd: u32, size: u64);
    wait files::fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32);
    now files::fd_prestat_get(fd: u32, out: u32);
    now files::fd_prestat_dir_name(fd: u32, address: u32, length: u32);
    wait files::fd_readdir(fd: u32, address: u32, length: u32, cookie: u64, out: u32);
    wait files::fd_renumber(from: u32, to: u32);
    wait files::fd_sync(fd: u32);
    now files::sock_recv(fd: u32, vectors: u32, count: u32, flags: u32, out: u32, out_flags: u32);
    now files::sock_send(fd: u32, vectors: u32, count: u32, flags: u32, out: u32);
    now files::sock_shutdown(fd: u32, how: u32);

    wait paths::path_create_directory(fd: u32, path: u32, length: u32);
    wait paths::path_filestat_get(fd: u32, look_up: u32, path: u32, length: u32, out: u32);
    wait paths::path_filestat_set_times(
        fd: u32, look_up: u32, path: u32, length: u32, accessed: u64, modified: u64, flags: u32
    );
    wait paths::path_link(
        fd: u32, look_up: u32, path: u32, length: u32, to: u32, to_path: u32, to_length: u32
    );
    wait paths::path_open(
        fd: u32, look_up: u32, path: u32, length: u32, how: u32, rights: u64, inheriting: u64,
        flags: u32, out: u32
    );
    wait paths::path_readlink(
        fd: u32, path: u32, length: u32, address: u32, room: u32, out: u32
    );
    wait paths::path_remove_directory(fd: u32, path: u32, length: u32);
    wait paths::path_rename(
        fd: u32, path: u32, length: u32, to: u32, to_path: u32, to_length: u32
    );
    wait paths::path_symlink(contents: u32, size: u32, fd: u32, path: u32, length: u32);
    wait paths::path_unlink_file(fd: u32, path: u32, length: u32);

    now files::sock_accept(fd: u32, flags: u32, out: u32);
}

/// The only function that does not return.
const EXIT: &str = "proc_exit";

impl Preview {
    const ALL: [Preview; 2] = [Preview::Zero, Preview::One];

    fn namespace(self) -> &'static str {
        match self {
            Preview::Zero => "wasi_unstable",
            Preview::One => "wasi_snapshot_preview1",
        }
    }

    fn has(self, name: &str) -> bool {
        self == Preview::One || name != "sock_accept"
    }
}

/// Returns the names of all functions, as `namespace::name`.
pub(in crate::host) fn names() -> impl Iterator<Item = String> {
    Preview::ALL.into_iter().flat_map(|preview| {
        NAMES
            .iter()
            .filter(move |name| preview.has(name))
            .chain(&[EXIT])
            .map(move |name| format!("{}::{name}", preview.namespace()))
    })
}

/// Adds the WASI functions for modules to a linker.
pub(in crate::host) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for preview in Preview::ALL {
        add_rows(linker, preview)?;
        linker.func_wrap(
            preview.namespace(),
            EXIT,
            |status: i32| -> wasmtime::Result<()> { Err(I32Exit(status).into()) },
        )?;
    }
    Ok(())
}
