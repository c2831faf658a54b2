//! SQL functions that replace SQLite's own, which take time quadratic in their input.
//!
//! A function cannot be interrupted. SQLite's own `instr`, `replace` and `trim` take minutes to
//! hours on the longest strings that a statement may contain, and would occupy a thread and a core
//! the whole time. The functions in this file take milliseconds and return the same results.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use super::database::MAX_LENGTH;
use memchr::memmem;
use rusqlite::ffi;
use std::collections::HashSet;
use std::ffi::{CStr, c_int};

type Function =
    unsafe extern "C" fn(*mut ffi::sqlite3_context, c_int, *mut *mut ffi::sqlite3_value);

const FUNCTIONS: [(&CStr, c_int, Function); 8] = [
    (c"instr", 2, instr),
    (c"replace", 3, replace),
    (c"trim", 1, trim::<true, true>),
    (c"trim", 2, trim::<true, true>),
    (c"ltrim", 1, trim::<true, false>),
    (c"ltrim", 2, trim::<true, false>),
    (c"rtrim", 1, trim::<false, true>),
    (c"rtrim", 2, trim::<false, true>),
];

/// Replaces SQLite's own functions with those in this file. Returns SQLite's error code if SQLite
/// rejects one of them.
pub(super) fn replace_slow_ones(connection: &rusqlite::Connection) -> Result<(), c_int> {
    let kind = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;
    for (name, count, function) in FUNCTIONS {
        // SAFETY: the connection is open, the name ends with a zero byte, and the function does
        // what SQLite expects of such a function.
        let code = unsafe {
            let (none, function) = (std::ptr::null_mut(), Some(function));
            let (handle, name) = (connection.handle(), name.as_ptr());
            ffi::sqlite3_create_function_v2(
                handle, name, count, kind, none, function, None, None, None,
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(code);
        }
    }
    Ok(())
}

/// The arguments of a call.
struct Arguments<'a>(&'a [*mut ffi::sqlite3_value]);

impl<'a> Arguments<'a> {
    /// # Safety
    ///
    /// The arguments must be those that SQLite passed to a function, and must not be used after
    /// that function returns.
    unsafe fn new(count: c_int, values: *mut *mut ffi::sqlite3_value) -> Arguments<'a> {
        // SAFETY: SQLite passes `count` values, and the caller guarantees that they are not used
        // after the call.
        Arguments(unsafe {
            std::slice::from_raw_parts(values, usize::try_from(count).unwrap_or(0))
        })
    }

    fn kind(&self, index: usize) -> c_int {
        // SAFETY: the values are SQLite's and live as long as these arguments.
        unsafe { ffi::sqlite3_value_type(self.0[index]) }
    }

    /// Returns an argument's bytes, converted to text if requested; `None` for `NULL`, or if SQLite
    /// runs out of memory.
    fn bytes(&self, index: usize, as_text: bool) -> Option<&'a [u8]> {
        if self.kind(index) == ffi::SQLITE_NULL {
            return None;
        }
        // SAFETY: as above. The address is requested before the number of bytes, as SQLite
        // requires. The address stays valid because no argument is requested in two forms.
        unsafe {
            let value = self.0[index];
            let start = match as_text {
                true => ffi::sqlite3_value_text(value),
                false => ffi::sqlite3_value_blob(value).cast(),
            };
            let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0);
            match (start.is_null(), length) {
                // An empty value has no address.
                (_, 0) => Some(&[]),
                (true, _) => None,
                (false, length) => Some(std::slice::from_raw_parts(start, length)),
            }
        }
    }
}

/// Sets the result of a call to a text value.
///
/// # Safety
///
/// The context must belong to a call that has not returned.
unsafe fn set_result(context: *mut ffi::sqlite3_context, text: &[u8]) {
    // SAFETY: the text has the length that is passed, and SQLite copies it.
    unsafe {
        let (start, length) = (text.as_ptr().cast(), text.len() as u64);
        ffi::sqlite3_result_text64(
            context,
            start,
            length,
            ffi::SQLITE_TRANSIENT(),
            ffi::SQLITE_UTF8 as u8,
        );
    }
}

unsafe extern "C" fn instr(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite calls this function with its arguments, which are not used after it returns.
    let arguments = unsafe { Arguments::new(count, values) };
    let as_text = arguments.kind(0) != ffi::SQLITE_BLOB || arguments.kind(1) != ffi::SQLITE_BLOB;
    let (Some(hay), Some(needle)) = (arguments.bytes(0, as_text), arguments.bytes(1, as_text))
    else {
        return;
    };
    let position = match memmem::find(hay, needle) {
        None => 0,
        // Characters are counted by counting their first bytes.
        Some(start) if as_text => {
            1 + hay[..start]
                .iter()
                .filter(|byte| *byte & 0xc0 != 0x80)
                .count()
        }
        Some(start) => 1 + start,
    };
    // SAFETY: the call has not returned.
    unsafe { ffi::sqlite3_result_int64(context, position as i64) };
}

unsafe extern "C" fn replace(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite calls this function with its arguments, which are not used after it returns.
    let arguments = unsafe { Arguments::new(count, values) };
    let [Some(text), Some(old), Some(new)] =
        std::array::from_fn(|index| arguments.bytes(index, true))
    else {
        return;
    };
    if old.first().is_none_or(|byte| *byte == 0) {
        // SAFETY: the call has not returned, and the value is its argument.
        return unsafe { ffi::sqlite3_result_value(context, arguments.0[0]) };
    }
    let found = memmem::find_iter(text, old).count();
    // The length is computed before anything is written, because the result could be far longer
    // than the arguments.
    let length = text.len() - found * old.len() + found.saturating_mul(new.len());
    if length > MAX_LENGTH as usize {
        // SAFETY: the call has not returned.
        return unsafe { ffi::sqlite3_result_error_toobig(context) };
    }
    let mut replaced = Vec::with_capacity(length);
    let mut done = 0;
    for start in memmem::find_iter(text, old) {
        replaced.extend_from_slice(&text[done..start]);
        replaced.extend_from_slice(new);
        done = start + old.len();
    }
    replaced.extend_from_slice(&text[done..]);
    // SAFETY: the call has not returned.
    unsafe { set_result(context, &replaced) };
}

unsafe extern "C" fn trim<const LEFT: bool, const RIGHT: bool>(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite calls this function with its arguments, which are not used after it returns.
    let arguments = unsafe { Arguments::new(count, values) };
    let Some(text) = arguments.bytes(0, true) else {
        return;
    };
    let characters = if count == 2 {
        arguments.bytes(1, true)
    } else {
        Some(&b" "[..])
    };
    let Some(characters) = characters else { return };
    let (text, characters) = (
        String::from_utf8_lossy(text),
        String::from_utf8_lossy(characters),
    );
    let set: HashSet<char> = characters.chars().collect();
    let mut trimmed = &*text;
    if LEFT {
        trimmed = trimmed.trim_start_matches(|character| set.contains(&character));
    }
    if RIGHT {
        trimmed = trimmed.trim_end_matches(|character| set.contains(&character));
    }
    // SAFETY: the call has not returned.
    unsafe { set_result(context, trimmed.as_bytes()) };
}
