//! Restricts how SQLite accesses files: only next to a database that was opened for it, and never
//! through memory that is shared with a file.
//!
//! SQLite's own VFS is used, with four changes. A name is used verbatim, without being resolved, so
//! that every file of a database is found through the open directory by which [`super::Database`]
//! names it. A file without a name is refused, so that data that does not fit in memory is not
//! written elsewhere. If the directory is read-only, nothing is opened for writing or removed. And
//! database files have no shared memory: the write-ahead log and `mmap_size` map files into this
//! process, and a guest that truncates such a file would end the machine. Databases therefore use a
//! rollback journal, and a database with a write-ahead log cannot be opened.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use rusqlite::ffi;
use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;

/// The names of the two VFSs. The first may change files; the second only reads them.
const WRITING: &CStr = c"lunatic";
const READING: &CStr = c"lunatic-reading";

/// Returns the name under which SQLite knows the VFS. The first call registers the VFS.
pub(super) fn name(is_writable: bool) -> Result<&'static CStr, c_int> {
    static REGISTERED: OnceLock<Result<(), c_int>> = OnceLock::new();
    (*REGISTERED.get_or_init(|| {
        register(WRITING, open, delete).and(register(READING, open_to_read, keep))
    }))?;
    Ok(if is_writable { WRITING } else { READING })
}

type Open = unsafe extern "C" fn(
    *mut ffi::sqlite3_vfs,
    ffi::sqlite3_filename,
    *mut ffi::sqlite3_file,
    c_int,
    *mut c_int,
) -> c_int;
type Delete = unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *const c_char, c_int) -> c_int;

fn register(name: &'static CStr, open: Open, delete: Delete) -> Result<(), c_int> {
    // SAFETY: this build of SQLite is thread-safe. `sqlite3_vfs_find(NULL)` returns its default
    // VFS, which lives unchanged until the end of the process, or NULL, which is checked. The copy
    // is registered once, under a name of its own, and never freed, as `sqlite3_vfs_register`
    // requires.
    unsafe {
        let own = ffi::sqlite3_vfs_find(std::ptr::null());
        if own.is_null() {
            return Err(ffi::SQLITE_ERROR);
        }
        let changed = Box::leak(Box::new(*own));
        changed.pNext = std::ptr::null_mut();
        changed.zName = name.as_ptr();
        changed.xOpen = Some(open);
        changed.xDelete = Some(delete);
        changed.xFullPathname = Some(full_path_name);
        match ffi::sqlite3_vfs_register(changed, 0) {
            ffi::SQLITE_OK => Ok(()),
            code => Err(code),
        }
    }
}

/// The methods of a database file: SQLite's own, without shared memory.
struct Methods(ffi::sqlite3_io_methods);

// SAFETY: the methods consist of a number and addresses of functions, and nothing changes them.
unsafe impl Sync for Methods {}
// SAFETY: as above.
unsafe impl Send for Methods {}

/// The first version of SQLite's methods, which has neither shared memory nor memory-mapped files.
const WITHOUT_SHARED_MEMORY: c_int = 1;

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    static METHODS: OnceLock<Methods> = OnceLock::new();
    // SAFETY: SQLite calls this function as it would call its own `xOpen`, which receives the same
    // arguments. `file` has room for that VFS's files, because the size was copied with the other
    // fields. After success, `pMethods` points to that VFS's methods, which are constant. They are
    // the same for every main database, and their copy lives as long as the process.
    unsafe {
        (*file).pMethods = std::ptr::null();
        if name.is_null() {
            return ffi::SQLITE_CANTOPEN;
        }
        let own = ffi::sqlite3_vfs_find(std::ptr::null());
        let Some(own_open) = own.as_ref().and_then(|own| own.xOpen) else {
            return ffi::SQLITE_CANTOPEN;
        };
        let code = own_open(own, name, file, flags, out);
        if code == ffi::SQLITE_OK
            && flags & ffi::SQLITE_OPEN_MAIN_DB != 0
            && let Some(methods) = (*file).pMethods.as_ref()
        {
            let changed = ffi::sqlite3_io_methods {
                iVersion: WITHOUT_SHARED_MEMORY,
                ..*methods
            };
            (*file).pMethods = &METHODS.get_or_init(|| Methods(changed)).0;
        }
        code
    }
}

unsafe extern "C" fn open_to_read(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as in `open`, which receives these arguments.
    unsafe {
        if flags & (ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE) != 0 {
            (*file).pMethods = std::ptr::null();
            return ffi::SQLITE_READONLY;
        }
        open(vfs, name, file, flags, out)
    }
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: SQLite's own function receives the arguments unchanged.
    unsafe {
        let own = ffi::sqlite3_vfs_find(std::ptr::null());
        let Some(own_delete) = own.as_ref().and_then(|own| own.xDelete) else {
            return ffi::SQLITE_IOERR_DELETE;
        };
        own_delete(own, name, sync)
    }
}

unsafe extern "C" fn keep(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn full_path_name(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: `name` ends with a zero byte, and `out` has `size` bytes; the name is copied only if
    // it fits with its zero byte.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if usize::try_from(size).map_or(true, |size| name.len() > size) {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
        ffi::SQLITE_OK
    }
}
