//! Reads the program's file, or explains why it cannot be read.

use crate::failure::Failure;
use crate::status::{NOT_FOUND, NOT_STARTED};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The function that every program starts with.
pub(crate) const ENTRY: &str = "_start";

/// Reads a program's file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let status = if error.kind() == ErrorKind::NotFound {
        NOT_FOUND
    } else {
        NOT_STARTED
    };
    let failure =
        Failure::new(format!("`{}` cannot be read: {error}", path.display())).status(status);
    if error.kind() == ErrorKind::IsADirectory {
        return failure.hint(what_to_run(path));
    }
    if error.kind() != ErrorKind::NotFound {
        return failure;
    }
    let elsewhere = built_elsewhere(path);
    if let Some(found) = elsewhere.first() {
        return failure.hint(format!("did you mean `{}`?", found.display()));
    }
    if path.extension().is_none() {
        return failure.hint(
            "this is not a command of `lunatic` either; `lunatic --help` lists the commands",
        );
    }
    failure
}

/// Returns what to run instead of a directory.
fn what_to_run(directory: &Path) -> &'static str {
    if directory.join("lunatic.toml").exists() {
        return "this is a project: in this directory, `lunatic dev` builds and serves it, and `lunatic serve` serves it";
    }
    if directory.join("Cargo.toml").exists() {
        return "this is a Rust package: `cargo build --target wasm32-wasip1` builds it; name the .wasm file in `target/wasm32-wasip1/debug`";
    }
    "name a .wasm file"
}

/// Finds files with the same name that cargo built for another profile or target.
fn built_elsewhere(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name() else {
        return Vec::new();
    };
    let target = path
        .ancestors()
        .find(|ancestor| ancestor.file_name().is_some_and(|name| name == "target"));
    let mut found: Vec<PathBuf> = children(target.unwrap_or(Path::new("target")))
        .into_iter()
        .filter(|child| {
            child
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("wasm32-"))
        })
        .flat_map(|wasm| children(&wasm))
        .flat_map(|profile| {
            [
                profile.join(name),
                profile.join(name).with_extension("wasm"),
            ]
        })
        .filter(|candidate| candidate.is_file())
        .collect();
    found.sort();
    found
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path()).collect()
}
