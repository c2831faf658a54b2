//! Reads and compiles the program's file, or explains why this is not possible.

use crate::failure::Failure;
use crate::status::{NOT_FOUND, NOT_STARTED};
use lunatic_vm::{Module, ModuleError, Vm};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The function that a program starts with.
pub(crate) const ENTRY: &str = "_start";

/// Reads a program's file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

/// Compiles the contents of a file. `name` is its name in reports.
pub(super) fn compile(vm: &Vm, path: &Path, name: &str, bytes: &[u8]) -> Result<Module, Failure> {
    vm.module(name, bytes)
        .map_err(|error| unusable(path, &error))
}

/// Checks that a module has the function that a program starts with.
pub(super) fn check_entry(path: &Path, module: &Module) -> Result<(), Failure> {
    if module.functions().any(|function| function == ENTRY) {
        return Ok(());
    }
    Err(no_entry(path, module))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let status = if error.kind() == ErrorKind::NotFound {
        NOT_FOUND
    } else {
        NOT_STARTED
    };
    let failure =
        Failure::new(format!("`{}` cannot be read: {error}", path.display())).status(status);
    if error.kind() != ErrorKind::NotFound {
        return failure;
    }
    let elsewhere = built_elsewhere(path);
    if let Some(found) = elsewhere.first() {
        return failure.hint(format!("there is `{}`", found.display()));
    }
    if path.extension().is_none() {
        return failure.hint("nor is it a command of `lunatic`; `lunatic --help` lists them");
    }
    failure
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

fn unusable(path: &Path, error: &ModuleError) -> Failure {
    Failure::new(format!("`{}` cannot be run: {error}", path.display())).status(NOT_STARTED)
}

/// The maximum number of exports that are listed.
const MAX_LISTED: usize = 20;

fn no_entry(path: &Path, module: &Module) -> Failure {
    let sentence = format!(
        "`{}` cannot be run: it exports no function `{ENTRY}`, which a program starts with",
        path.display()
    );
    let mut exports: Vec<String> = module.functions().map(|name| format!("`{name}`")).collect();
    let failure = Failure::new(sentence).status(NOT_STARTED);
    if exports.is_empty() {
        return failure.hint("it exports no function at all; build a binary, not a library");
    }
    let more = exports.len().saturating_sub(MAX_LISTED);
    exports.truncate(MAX_LISTED);
    if more > 0 {
        exports.push(format!("{more} more"));
    }
    failure.hint(format!(
        "it exports {}; build a binary, not a library",
        exports.join(", ")
    ))
}
