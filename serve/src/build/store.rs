//! Stores artifacts in a directory next to the project file.

use super::artifact;
use super::error::BuildError;
use crate::{Name, bounded_file};
use blake3::Hash;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The artifact directory, including a record of the inputs that each command built its artifact
/// from.
#[derive(Clone, Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

/// The maximum size of a record, in bytes: two hashes.
const MAX_NOTE: u64 = 1 << 10;

/// The number of digits of the hash in an artifact's name.
const DIGITS: usize = 16;

impl Store {
    /// Returns a project's store.
    pub(super) fn of(project: &Path) -> Store {
        Store {
            directory: project.join(".lunatic").join("build"),
        }
    }

    /// Stores a function's artifact, replacing the previous one, and returns its path.
    pub(super) fn keep(
        &self,
        name: &Name,
        hash: &Hash,
        bytes: &[u8],
    ) -> Result<PathBuf, BuildError> {
        let kind = if bytes.starts_with(b"\0asm") {
            "wasm"
        } else {
            "wat"
        };
        let path = self
            .directory
            .join(format!("{name}-{}.{kind}", &hash.to_hex()[..DIGITS]));
        let size = bytes.len() as u64;
        if bounded_file::read(&path, size).is_ok_and(|kept| kept == bytes) {
            return Ok(path);
        }
        self.write(&path, bytes)?;
        self.remove_others(name, &path);
        Ok(path)
    }

    /// Returns the artifact of a command's last run if it was built from the given inputs.
    pub(super) fn built_from(&self, name: &Name, inputs: &Hash) -> Option<PathBuf> {
        let note = bounded_file::read_text(&self.note(name), MAX_NOTE).ok()?;
        let (known, output) = note.split_once(' ')?;
        let output = Hash::from_hex(output.trim_end()).ok()?;
        let digits = &output.to_hex()[..DIGITS];
        let kept =
            ["wasm", "wat"].map(|kind| self.directory.join(format!("{name}-{digits}.{kind}")));
        let kept = kept.into_iter().find(|path| path.is_file())?;
        let is_same = known == inputs.to_hex().as_str()
            && artifact::read(&kept).is_ok_and(|bytes| blake3::hash(&bytes) == output);
        is_same.then_some(kept)
    }

    /// Records the inputs that a command built an artifact from.
    pub(super) fn remember(
        &self,
        name: &Name,
        inputs: &Hash,
        bytes: &[u8],
    ) -> Result<(), BuildError> {
        let note = format!("{} {}\n", inputs.to_hex(), blake3::hash(bytes).to_hex());
        self.write(&self.note(name), note.as_bytes())
    }

    fn note(&self, name: &Name) -> PathBuf {
        self.directory.join(format!("{name}.inputs"))
    }

    /// Replaces a file atomically.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
        let directory = path
            .parent()
            .expect("every file is in the store's directory");
        let written = fs::create_dir_all(directory).and_then(|()| {
            // Keep artifacts out of version control.
            let ignored = self.directory.join(".gitignore");
            if !ignored.exists() {
                fs::write(ignored, "*\n")?;
            }
            let mut draft = tempfile::NamedTempFile::new_in(directory)?;
            draft.write_all(bytes)?;
            draft.persist(path)?;
            Ok(())
        });
        written.map_err(|error| BuildError::Write {
            path: path.to_path_buf(),
            error,
        })
    }

    /// Removes a function's older artifacts. If one cannot be removed, it just takes up space.
    fn remove_others(&self, name: &Name, kept: &Path) {
        let own = format!("{}-", name.as_str().rsplit('/').next().unwrap_or_default());
        let is_old = |path: &Path| {
            let known = path
                .file_name()
                .and_then(|file| file.to_str())
                .and_then(|file| file.strip_prefix(&own));
            let digits =
                known.and_then(|rest| rest.strip_suffix(".wasm").or(rest.strip_suffix(".wat")));
            let is_hash = |digits: &str| {
                digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            };
            path != kept && digits.is_some_and(is_hash)
        };
        let files = kept
            .parent()
            .into_iter()
            .filter_map(|directory| fs::read_dir(directory).ok())
            .flatten()
            .flatten();
        for path in files.map(|file| file.path()).filter(|path| is_old(path)) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_replaces_only_those_of_its_own_function() {
        let place = tempfile::TempDir::new().expect("there is enough disk space");
        let store = Store::of(place.path());
        let keep = |name: &str, bytes: &[u8]| {
            store
                .keep(
                    &Name::new(name).expect("the names below are valid"),
                    &blake3::hash(bytes),
                    bytes,
                )
                .expect("there is enough disk space")
        };
        let other = keep("a-b", b"\0asm1");
        let old = keep("a", b"\0asm1");
        let new = keep("a", b"(module)");
        assert!(
            other.exists() && new.exists() && !old.exists(),
            "{other:?} {old:?} {new:?}"
        );
        assert_eq!(new.extension().and_then(|kind| kind.to_str()), Some("wat"));
    }
}
