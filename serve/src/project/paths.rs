//! Locates project files.

use std::path::{Path, PathBuf};

/// The names of project files. The first that exists is used.
pub(super) const FILE_NAMES: [&str; 2] = ["lunatic.toml", "embly-project.yml"];

/// Returns the project file in a directory.
pub(super) fn file_in(directory: &Path) -> Option<PathBuf> {
    FILE_NAMES
        .iter()
        .map(|name| directory.join(name))
        .find(|file| file.is_file())
}

/// Returns the project file in a directory or in its nearest ancestor that has one.
pub(super) fn find(directory: &Path) -> Option<PathBuf> {
    let is_here = directory == Path::new("");
    let absolute = std::path::absolute(if is_here { Path::new(".") } else { directory }).ok()?;
    let mut here = directory.to_path_buf();
    for _ in absolute.ancestors() {
        if let Some(file) = file_in(&here) {
            return Some(file);
        }
        here.push("..");
    }
    None
}

/// Returns the directory that contains a file.
pub(super) fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
