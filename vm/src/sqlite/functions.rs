//! Replacements for SQLite's own SQL functions that take more than linear time in the size of their
//! input.
//!
//! A function cannot be interrupted. SQLite's own `instr`, `replace`, `trim`, `unhex` and `LIKE`
//! take seconds to hours on the longest strings that a statement may contain, and would occupy a
//! thread and a core the whole time. The functions in this file return the same results, count
//! their work, and stop once the call has to stop.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use super::database::{MAX_LENGTH, MAX_PATTERN};
use super::patterns::{Pattern, Stopped};
use super::work;
use memchr::memmem;
use rusqlite::ffi;
use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::{CStr, c_int};

type Function =
    unsafe extern "C" fn(*mut ffi::sqlite3_context, c_int, *mut *mut ffi::sqlite3_value);

const FUNCTIONS: [(&CStr, c_int, Function); 15] = [
    (c"instr", 2, instr),
    (c"replace", 3, replace),
    (c"trim", 1, trim::<true, true>),
    (c"trim", 2, trim::<true, true>),
    (c"ltrim", 1, trim::<true, false>),
    (c"ltrim", 2, trim::<true, false>),
    (c"rtrim", 1, trim::<false, true>),
    (c"rtrim", 2, trim::<false, true>),
    (c"unhex", 1, unhex),
    (c"unhex", 2, unhex),
    (c"like", 2, like),
    (c"like", 3, like),
    (c"glob", 2, glob),
    (c"json_patch", 2, refuse),
    (c"jsonb_patch", 2, refuse),
];

/// Returns whether a function stops when the call that runs it has to stop.
pub(super) fn stops(name: &str) -> bool {
    FUNCTIONS
        .iter()
        .any(|(own, ..)| own.to_bytes() == name.as_bytes())
}

/// Replaces SQLite's own functions with those in this file. Returns SQLite's error code if SQLite
/// rejects one of them.
pub(super) fn replace_slow_ones(connection: &rusqlite::Connection) -> Result<(), c_int> {
    let kind = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;
    for (name, count, function) in FUNCTIONS {
        // SAFETY: the connection is open, the name is NUL-terminated, and the function does what
        // SQLite expects of such a function.
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

/// Charges the current call for its arguments. Returns false, and sets an error as the function's
/// result, if the call has to stop.
///
/// # Safety
///
/// The context must belong to a call that has not returned.
unsafe fn go_on(context: *mut ffi::sqlite3_context, arguments: &[&[u8]]) -> bool {
    let bytes: usize = arguments.iter().map(|argument| argument.len()).sum();
    let goes_on = work::spend(bytes as u64);
    if !goes_on {
        // SAFETY: the caller guarantees that the context belongs to a call that has not returned.
        unsafe { ffi::sqlite3_result_error_code(context, ffi::SQLITE_INTERRUPT) };
    }
    goes_on
}

/// Sets a call's result to a text value.
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
    // SAFETY: the call has not returned.
    if !unsafe { go_on(context, &[hay, needle]) } {
        return;
    }
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
    // SAFETY: the call has not returned.
    if !unsafe { go_on(context, &[text, old]) } {
        return;
    }
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
    // SAFETY: the call has not returned.
    if !unsafe { go_on(context, &[text, characters]) } {
        return;
    }
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

/// Replaces a function that the rules do not allow in statements but that a database's own schema
/// can refer to.
unsafe extern "C" fn refuse(
    context: *mut ffi::sqlite3_context,
    _: c_int,
    _: *mut *mut ffi::sqlite3_value,
) {
    let what = c"this function is not available to guests";
    // SAFETY: the call has not returned, and SQLite copies the text.
    unsafe { ffi::sqlite3_result_error(context, what.as_ptr(), -1) };
}

unsafe extern "C" fn unhex(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite calls this function with its arguments, which are not used after it returns.
    let arguments = unsafe { Arguments::new(count, values) };
    let ignored = match count {
        2 => arguments.bytes(1, true),
        _ => Some(&b""[..]),
    };
    let (Some(text), Some(ignored)) = (arguments.bytes(0, true), ignored) else {
        return;
    };
    // SAFETY: the call has not returned.
    if !unsafe { go_on(context, &[text, ignored]) } {
        return;
    }
    if let Some(bytes) = decode_hex(&text_of(text), &text_of(ignored)) {
        // SAFETY: the call has not returned, the bytes have the length that is passed, and SQLite
        // copies them.
        unsafe {
            let (start, length) = (bytes.as_ptr().cast(), bytes.len() as u64);
            ffi::sqlite3_result_blob64(context, start, length, ffi::SQLITE_TRANSIENT());
        }
    }
}

/// Decodes pairs of hexadecimal digits, with any ignored characters between the pairs.
fn decode_hex(text: &str, ignored: &str) -> Option<Vec<u8>> {
    let ignored: HashSet<char> = ignored.chars().collect();
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character.to_digit(16) {
            Some(high) => {
                let low = characters.next()?.to_digit(16)?;
                bytes.push((high << 4 | low) as u8);
            }
            None if ignored.contains(&character) => {}
            None => return None,
        }
    }
    Some(bytes)
}

/// Returns a string the way SQLite's own functions read it: up to the first NUL byte.
fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end])
}

unsafe extern "C" fn like(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite calls this function with its arguments, which are not used after it returns.
    let arguments = unsafe { Arguments::new(count, values) };
    let escape = match count {
        3 => {
            let Some(escape) = arguments.bytes(2, true) else {
                return;
            };
            let escape = text_of(escape);
            let mut characters = escape.chars();
            let (Some(escape), None) = (characters.next(), characters.next()) else {
                let what = c"ESCAPE expression must be a single character";
                // SAFETY: the call has not returned, and SQLite copies the text.
                return unsafe { ffi::sqlite3_result_error(context, what.as_ptr(), -1) };
            };
            Some(escape)
        }
        _ => None,
    };
    let ignores_case = !work::is_like_case_sensitive();
    let parse = |pattern: &str| Pattern::like(pattern, escape, ignores_case);
    // SAFETY: the call has not returned.
    unsafe { match_pattern(context, &arguments, parse) };
}

unsafe extern "C" fn glob(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite calls this function, and the call has not returned.
    unsafe {
        let arguments = Arguments::new(count, values);
        match_pattern(context, &arguments, Pattern::glob);
    }
}

/// Sets a call's result to whether its second argument matches the pattern in its first argument.
///
/// # Safety
///
/// The context must belong to a call that has not returned.
unsafe fn match_pattern(
    context: *mut ffi::sqlite3_context,
    arguments: &Arguments<'_>,
    parse: impl FnOnce(&str) -> Pattern,
) {
    let (Some(pattern), Some(text)) = (arguments.bytes(0, true), arguments.bytes(1, true)) else {
        return;
    };
    if pattern.len() > MAX_PATTERN as usize {
        let what = c"LIKE or GLOB pattern too complex";
        // SAFETY: the call has not returned, and SQLite copies the text.
        return unsafe { ffi::sqlite3_result_error(context, what.as_ptr(), -1) };
    }
    // SAFETY: the call has not returned.
    if !unsafe { go_on(context, &[pattern, text]) } {
        return;
    }
    let is_match = parse(&text_of(pattern)).matches(&text_of(text), |steps| work::spend(4 * steps));
    // SAFETY: the call has not returned.
    unsafe {
        match is_match {
            Ok(is_match) => ffi::sqlite3_result_int(context, is_match.into()),
            Err(Stopped) => ffi::sqlite3_result_error_code(context, ffi::SQLITE_INTERRUPT),
        }
    }
}
