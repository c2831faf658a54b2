//! Functions built by cargo.

use super::artifact::Artifact;
use super::error::BuildError;
use super::output;
use crate::bounded_file;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The maximum size of a list of sources, in bytes.
const MAX_LIST: u64 = 16 << 20;

/// The relevant parts of a cargo message.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Builds a package. Cargo determines what is up to date and where the output is.
pub(super) fn build(
    directory: &Path,
    target: &'static str,
    profile: &str,
    binary: Option<&str>,
    line: &(dyn Fn(&str) + Sync),
) -> Result<Artifact, BuildError> {
    let mut command = Command::new("cargo");
    command.args([
        "build",
        "--message-format=json-render-diagnostics",
        "--target",
        target,
        "--profile",
        profile,
    ]);
    if let Some(binary) = binary {
        command.args(["--bin", binary]);
    }
    let manifest = directory.join("Cargo.toml");
    let manifest = manifest.canonicalize().map_err(|error| BuildError::Read {
        path: manifest,
        error,
    })?;
    let mut built: Vec<(String, PathBuf)> = Vec::new();
    let mut read = |line: &str| {
        // Lines that are not messages come from build scripts.
        let Ok(message) = serde_json::from_str::<Message>(line) else {
            return;
        };
        let Some(target) = message.target else { return };
        let is_ours = message.reason == "compiler-artifact" && message.manifest_path == manifest;
        if is_ours
            && target
                .kind
                .iter()
                .any(|kind| matches!(kind.as_str(), "bin" | "cdylib"))
        {
            let wasm = message
                .filenames
                .into_iter()
                .find(|file| file.extension().is_some_and(|kind| kind == "wasm"));
            built.extend(wasm.map(|wasm| (target.name, wasm)));
        }
    };
    let (status, output) = output::run(command, directory, line, Some(&mut read))?;
    if !status.success() {
        if output.contains(&format!("the `{target}` target may not be installed")) {
            return Err(BuildError::Target(target));
        }
        return Err(BuildError::Failed {
            program: "cargo build".into(),
            status,
            output,
        });
    }
    match &built[..] {
        [] => Err(BuildError::NoBinary(directory.to_path_buf())),
        [(_, path)] => Ok(Artifact {
            path: path.clone(),
            external_sources: external_sources(path, directory),
        }),
        several => Err(BuildError::Binaries(
            several
                .iter()
                .map(|(name, _)| format!("`{name}`"))
                .collect(),
        )),
    }
}

/// Returns the sources outside the package, taken from the list that cargo writes next to the wasm.
/// They are used only to watch for changes, so a missing list is not an error.
fn external_sources(wasm: &Path, directory: &Path) -> Vec<PathBuf> {
    let list = bounded_file::read_text(&wasm.with_extension("d"), MAX_LIST).unwrap_or_default();
    let directory = directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_path_buf());
    let files = list
        .lines()
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(_, files)| names(files));
    files
        .map(PathBuf::from)
        .filter(|file| !file.starts_with(&directory))
        .collect()
}

/// Splits a list of names, in which a backslash precedes each space within a name.
fn names(list: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        let last = names
            .last_mut()
            .expect("the list starts with one name and only grows");
        match character {
            '\\' => last.extend(characters.next()),
            ' ' => names.push(String::new()),
            other => last.push(other),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_space_does_not_end_a_name() {
        assert_eq!(
            names("/a/b.rs /c\\ d/e.rs  /f.rs"),
            ["/a/b.rs", "/c d/e.rs", "/f.rs"]
        );
        assert!(names("").is_empty());
    }
}
