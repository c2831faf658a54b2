//! Functions built by a command.

use super::artifact::{self, Artifact};
use super::error::BuildError;
use super::output;
use super::sources::{FileHashes, Sources};
use super::store::Store;
use crate::Name;
use std::path::Path;
use std::process::Command;

/// Runs a command, unless its sources have not changed since the last run and its output is still
/// stored.
pub(super) fn build(
    store: &Store,
    name: &Name,
    directory: &Path,
    command: &[String],
    output: &Path,
    sources: &Sources,
    line: &(dyn Fn(&str) + Sync),
) -> Result<Artifact, BuildError> {
    let hash_inputs = || {
        let mut hasher = blake3::Hasher::new();
        for word in command {
            hasher
                .update(&(word.len() as u64).to_le_bytes())
                .update(word.as_bytes());
        }
        for (path, hash) in sources.contents(&mut FileHashes::default()) {
            let path = path.as_os_str().as_encoded_bytes();
            hasher
                .update(&(path.len() as u64).to_le_bytes())
                .update(path)
                .update(hash.as_bytes());
        }
        hasher.finalize()
    };
    if let Some(path) = store.built_from(name, &hash_inputs()) {
        return Ok(Artifact::new(&path));
    }
    let program = Path::new(&command[0]);
    // A path is relative to the directory the command runs in; a plain name is looked up in the
    // PATH.
    let is_name = program.components().count() == 1 && !command[0].contains('/');
    let program = if is_name {
        program.to_path_buf()
    } else {
        absolute(&directory.join(program))
    };
    let mut run = Command::new(program);
    run.args(&command[1..]);
    let (status, said) = output::run(run, directory, line, None)?;
    if !status.success() {
        return Err(BuildError::Failed {
            program: command.join(" "),
            status,
            output: said,
        });
    }
    let bytes = artifact::read(output)?;
    // The inputs are hashed again, so that a command that writes to its own source directories does
    // not run every time.
    store.remember(name, &hash_inputs(), &bytes)?;
    Ok(Artifact::new(output))
}

fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
