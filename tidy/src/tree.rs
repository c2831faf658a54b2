//! The files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the root of the workspace.
pub fn root() -> PathBuf {
    let tidy = Path::new(env!("CARGO_MANIFEST_DIR"));
    tidy.parent()
        .expect("this crate is in a subdirectory of the workspace")
        .to_owned()
}

/// Returns the paths of all Rust files in a directory of the workspace, including subdirectories,
/// relative to the root and sorted.
///
/// # Panics
///
/// Panics if the directory cannot be read, because a test that searches a directory must fail if
/// that directory has moved.
pub fn sources(directory: &str) -> Vec<String> {
    let root = root();
    rust_files(&root.join(directory))
        .into_iter()
        .map(|path| {
            let path = path.strip_prefix(&root);
            let path = path.expect("every path found is inside the root");
            path.to_string_lossy().into_owned()
        })
        .collect()
}

/// Returns all Rust files in a directory, including subdirectories, sorted. Leaves out files built
/// by cargo.
///
/// # Panics
///
/// Panics if the directory cannot be read.
pub(crate) fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for entry in entries {
            let path = entry
                .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
                .path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
