//! Functions that a command builds.

use super::sources::{Look, Sources};
use super::store::Store;
use super::{BuildError, Cooked, output};
use crate::Name;
use std::path::Path;
use std::process::Command;

/// Runs a command, unless what it would do is done: everything that it is built from has the content of the last time, and
/// what it wrote is there.
pub(super) fn build(
    store: &Store,
    name: &Name,
    directory: &Path,
    command: &[String],
    written: &Path,
    sources: &Sources,
    line: &(dyn Fn(&str) + Sync),
) -> Result<Cooked, BuildError> {
    let of_inputs = || {
        let mut hasher = blake3::Hasher::new();
        for word in command {
            hasher
                .update(&(word.len() as u64).to_le_bytes())
                .update(word.as_bytes());
        }
        for (path, hash) in sources.look(&mut Look::default()) {
            let path = path.as_os_str().as_encoded_bytes();
            hasher
                .update(&(path.len() as u64).to_le_bytes())
                .update(path)
                .update(hash.as_bytes());
        }
        hasher.finalize()
    };
    if let Some(path) = store.built_from(name, &of_inputs()) {
        return Ok(Cooked {
            path,
            elsewhere: Vec::new(),
        });
    }
    let program = Path::new(&command[0]);
    // A path is one from where the command runs; a name is looked for as a shell does.
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
    let bytes = super::read(written)?;
    // As they are now: a command that writes among its sources shall not run for ever.
    store.remember(name, &of_inputs(), &bytes)?;
    Ok(Cooked {
        path: written.to_path_buf(),
        elsewhere: Vec::new(),
    })
}

fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
