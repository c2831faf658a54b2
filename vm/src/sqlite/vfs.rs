//! Restricts how SQLite accesses files. It can access only the opened database's files, and never
//! through memory that is shared with a file.
//!
//! SQLite's own VFS is used, with seven changes. A name is used verbatim, without being resolved,
//! so that all of a database's files are found through the open directory that [`super::Database`]
//! puts into the name. Any other name is rejected. One example is the name of a super-journal, for
//! which a forged journal can give any path. A file without a name is rejected too, so that data
//! that does not fit in memory is not written elsewhere. Only regular files are opened, because a
//! FIFO would block the thread. A descriptor counts toward its environment's limit until it is
//! closed, which can be long after its connection: while any connection of this process has a lock
//! on a file, SQLite closes none of the file's descriptors. Page reads are charged for, and fail
//! once the call has to stop. If the directory is read-only, nothing is opened for writing or
//! removed. Database files have no shared memory, because the write-ahead log and `mmap_size` would
//! map files into this process, and a guest that truncated such a file would crash the machine.
//! Databases therefore use a rollback journal, and a database with a write-ahead log cannot be
//! opened.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use super::work;
#[cfg(unix)]
use crate::environment::Permit;
use rusqlite::ffi;
#[cfg(unix)]
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;
#[cfg(unix)]
use std::sync::{Arc, Mutex, PoisonError};

/// The names of the two VFSs. The first can change files; the second can only read them.
const WRITING: &CStr = c"lunatic";
const READING: &CStr = c"lunatic-reading";

/// Returns the name under which the VFS is registered with SQLite. The first call registers it.
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
    // is registered once, under its own name, and never freed, as `sqlite3_vfs_register` requires.
    unsafe {
        let own = ffi::sqlite3_vfs_find(std::ptr::null());
        if own.is_null() {
            return Err(ffi::SQLITE_ERROR);
        }
        replace_system_calls(own)?;
        let changed = Box::leak(Box::new(*own));
        changed.pNext = std::ptr::null_mut();
        changed.zName = name.as_ptr();
        changed.xOpen = Some(open);
        changed.xDelete = Some(delete);
        changed.xAccess = Some(access);
        changed.xFullPathname = Some(full_path_name);
        match ffi::sqlite3_vfs_register(changed, 0) {
            ffi::SQLITE_OK => Ok(()),
            code => Err(code),
        }
    }
}

/// Replaces the functions that SQLite's own VFS uses to open and close files.
///
/// # Safety
///
/// The VFS must be SQLite's own.
#[cfg(unix)]
unsafe fn replace_system_calls(own: *mut ffi::sqlite3_vfs) -> Result<(), c_int> {
    type SystemCall = unsafe extern "C" fn();
    type Open = unsafe extern "C" fn(*const c_char, c_int, c_int) -> c_int;
    type Close = unsafe extern "C" fn(c_int) -> c_int;
    // SAFETY: the caller guarantees that the VFS is SQLite's own. SQLite calls these functions with
    // the parameters of its own functions, which are those of `Open` and `Close`. All functions are
    // passed with the same pointer type here.
    unsafe {
        let set = (*own).xSetSystemCall.ok_or(ffi::SQLITE_ERROR)?;
        let open = std::mem::transmute::<Open, SystemCall>(open_regular_file);
        let close = std::mem::transmute::<Close, SystemCall>(close_file);
        for (name, call) in [(c"open", open), (c"close", close)] {
            match set(own, name.as_ptr(), Some(call)) {
                ffi::SQLITE_OK => {}
                code => return Err(code),
            }
        }
    }
    Ok(())
}

#[cfg(not(unix))]
unsafe fn replace_system_calls(_: *mut ffi::sqlite3_vfs) -> Result<(), c_int> {
    Ok(())
}

/// The permits for the descriptors that are open on behalf of guests. Each descriptor holds the
/// permit of the connection for which it was opened. If SQLite gives a descriptor that it kept open
/// to a new connection, the descriptor still holds the first connection's permit, and the new
/// connection holds its own.
#[cfg(unix)]
static OPEN: Mutex<BTreeMap<c_int, Arc<Permit>>> = Mutex::new(BTreeMap::new());

/// Closes a descriptor like `close`, and then releases its permit.
#[cfg(unix)]
unsafe extern "C" fn close_file(descriptor: c_int) -> c_int {
    // The entry is removed first, because another thread can get the same number as soon as the
    // descriptor is closed.
    let _permit = OPEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&descriptor);
    // SAFETY: SQLite passes a descriptor of its own, as it would to `close`.
    unsafe { libc::close(descriptor) }
}

/// Opens a file like `open`. On behalf of a guest, only a regular file or a directory is opened.
#[cfg(unix)]
unsafe extern "C" fn open_regular_file(name: *const c_char, flags: c_int, mode: c_int) -> c_int {
    // SAFETY: SQLite passes the arguments that it would pass to `open`. The structure is written
    // before it is read, and the descriptor belongs to this call.
    unsafe {
        let is_for_guest = work::is_current() && CStr::from_ptr(name) != c"/dev/urandom";
        if !is_for_guest {
            return libc::open(name, flags, mode);
        }
        // With this flag, opening a FIFO does not block. For regular files, it makes no difference.
        let descriptor = libc::open(name, flags | libc::O_NONBLOCK, mode);
        let mut about = std::mem::zeroed::<libc::stat>();
        if descriptor < 0 || libc::fstat(descriptor, &raw mut about) != 0 {
            return descriptor;
        }
        if matches!(about.st_mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR) {
            if let Some(permit) = work::permit() {
                let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
                open.insert(descriptor, permit);
            }
            return descriptor;
        }
        libc::close(descriptor);
        // This call fails and sets an error number that SQLite can report.
        libc::close(-1)
    }
}

type Read =
    unsafe extern "C" fn(*mut ffi::sqlite3_file, *mut c_void, c_int, ffi::sqlite3_int64) -> c_int;

/// The function that SQLite's own VFS uses to read from a database file.
static OWN_READ: OnceLock<Read> = OnceLock::new();

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let Some(own_read) = OWN_READ.get() else {
        return ffi::SQLITE_IOERR_READ;
    };
    if !work::spend(u64::try_from(amount).unwrap_or(0)) {
        return ffi::SQLITE_IOERR_READ;
    }
    // SAFETY: SQLite's own function receives the arguments unchanged.
    unsafe { own_read(file, buffer, amount, offset) }
}

/// The methods of a database file: SQLite's own, without shared memory.
struct Methods(ffi::sqlite3_io_methods);

// SAFETY: the methods consist of a number and function addresses, and nothing changes them.
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
    // fields. After success, `pMethods` points to that VFS's methods, which are constant. The
    // methods are the same for every main database, and their copy lives as long as the process.
    unsafe {
        (*file).pMethods = std::ptr::null();
        if name.is_null() || !work::may_reach(CStr::from_ptr(name).to_bytes()) {
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
            && let Some(own_read) = methods.xRead
        {
            OWN_READ.get_or_init(|| own_read);
            let changed = ffi::sqlite3_io_methods {
                iVersion: WITHOUT_SHARED_MEMORY,
                xRead: Some(read),
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
    // SAFETY: the name is NUL-terminated, and SQLite's own function receives the arguments
    // unchanged.
    unsafe {
        if !work::may_reach(CStr::from_ptr(name).to_bytes()) {
            return ffi::SQLITE_IOERR_DELETE;
        }
        let own = ffi::sqlite3_vfs_find(std::ptr::null());
        let Some(own_delete) = own.as_ref().and_then(|own| own.xDelete) else {
            return ffi::SQLITE_IOERR_DELETE;
        };
        own_delete(own, name, sync)
    }
}

unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as in `delete`.
    unsafe {
        if !work::may_reach(CStr::from_ptr(name).to_bytes()) {
            return ffi::SQLITE_IOERR_ACCESS;
        }
        let own = ffi::sqlite3_vfs_find(std::ptr::null());
        let Some(own_access) = own.as_ref().and_then(|own| own.xAccess) else {
            return ffi::SQLITE_IOERR_ACCESS;
        };
        own_access(own, name, flags, out)
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
    // SAFETY: `name` is NUL-terminated, and `out` has `size` bytes; the name is copied only if it
    // fits including its NUL byte.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if usize::try_from(size).map_or(true, |size| name.len() > size) {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
        ffi::SQLITE_OK
    }
}
