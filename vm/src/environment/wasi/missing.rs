//! Explains to the user why a file that a guest looked for was not found.
//!
//! A guest's library looks for a path in the granted directory whose name is the longest prefix of
//! the path. If the current directory is granted, its name is a prefix of every path: `/etc/hosts`
//! becomes `etc/hosts` below the current directory, where no such file exists.

use super::beneath::{Base, PathBelow};
use super::errno::Errno;
use std::collections::HashSet;
use std::os::unix::ffi::OsStringExt;
use std::sync::LazyLock;

/// Returns why a path was not found below a granted directory, if the reason is that no grant
/// covers it. Outside the granted directories, this function looks only at the names in the host's
/// root, never at a file that a guest could choose.
pub(crate) fn explain(
    base: Base<'_>,
    granted_as: &str,
    path: &PathBelow,
    errno: Errno,
) -> Option<String> {
    let text = line(path.as_bytes());
    if errno == Errno::Perm {
        let granted_as = line(granted_as.as_bytes());
        return base.leads_out(path).then(|| {
            format!(
                "`{text}` leads out of the granted directory `{granted_as}`, so it cannot be \
                 reached; `--dir` or `Config::preopen` grants another directory"
            )
        });
    }
    let first = path.first_name();
    let is_root = granted_as == "." && HOST_ROOT.contains(first.as_bytes());
    if !is_root || base.stat(&first, false).is_ok() {
        return None;
    }
    let name = line(first.as_bytes());
    Some(format!(
        "`/{text}` is not inside any granted directory and was not found in the current directory, \
         where it was looked for instead; `--dir /{name}` or `Config::preopen` grants it"
    ))
}

/// Escapes a guest's string so that it fits on one line, and truncates it.
fn line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut line: String = text
        .chars()
        .take(MAX_SHOWN)
        .collect::<String>()
        .escape_debug()
        .collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        line.push('…');
    }
    line
}

/// The maximum number of characters of a path to show.
const MAX_SHOWN: usize = 200;

/// Returns an explanation for a program that asks for its first granted directory but has none.
pub(crate) fn explain_nothing() -> Option<String> {
    let why = "a program is looking for files, but no directory is granted; `--dir` or \
        `Config::preopen` grants one";
    Some(why.into())
}

/// The names in the host's root.
static HOST_ROOT: LazyLock<HashSet<Vec<u8>>> = LazyLock::new(|| {
    let names = std::fs::read_dir("/").into_iter().flatten().flatten();
    names.map(|entry| entry.file_name().into_vec()).collect()
});
