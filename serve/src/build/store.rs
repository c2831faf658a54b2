//! Where what was built is kept: a directory beside the project file.

use super::BuildError;
use crate::Name;
use blake3::Hash;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The directory of what was built, and what each was built from.
#[derive(Clone, Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

/// So much of a hash stands in a file's name.
const DIGITS: usize = 16;

impl Store {
    /// Returns that of a project.
    pub(super) fn of(project: &Path) -> Store {
        Store {
            directory: project.join(".lunatic").join("build"),
        }
    }

    /// Keeps what a function runs, in place of what it ran before, and returns the file.
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
        if fs::read(&path).is_ok_and(|kept| kept == bytes) {
            return Ok(path);
        }
        self.write(&path, bytes)?;
        self.remove_others(name, &path);
        Ok(path)
    }

    /// Returns what a command wrote when it was built from this, if that is the last that it was built from.
    pub(super) fn built_from(&self, name: &Name, inputs: &Hash) -> Option<PathBuf> {
        let list = fs::read_to_string(self.list(name)).ok()?;
        let (known, written) = list.split_once(' ')?;
        let written = Hash::from_hex(written.trim_end()).ok()?;
        let digits = &written.to_hex()[..DIGITS];
        let kept =
            ["wasm", "wat"].map(|kind| self.directory.join(format!("{name}-{digits}.{kind}")));
        let kept = kept.into_iter().find(|path| path.is_file())?;
        let is_same = known == inputs.to_hex().as_str()
            && fs::read(&kept).is_ok_and(|bytes| blake3::hash(&bytes) == written);
        is_same.then_some(kept)
    }

    /// Takes note of what a command wrote, and of what it was built from.
    pub(super) fn remember(
        &self,
        name: &Name,
        inputs: &Hash,
        bytes: &[u8],
    ) -> Result<(), BuildError> {
        let list = format!("{} {}\n", inputs.to_hex(), blake3::hash(bytes).to_hex());
        self.write(&self.list(name), list.as_bytes())
    }

    fn list(&self, name: &Name) -> PathBuf {
        self.directory.join(format!("{name}.inputs"))
    }

    /// Writes a file so that a reader finds the old one or the new one.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
        let directory = path
            .parent()
            .expect("it lies in the directory of what was built");
        let written = fs::create_dir_all(directory).and_then(|()| {
            // None of it belongs into a repository.
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

    /// Removes what a function ran before. What cannot be removed is only in the way.
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
    fn what_was_there_before_is_removed_and_what_others_have_stays() {
        let place = tempfile::TempDir::new().expect("there is room");
        let store = Store::of(place.path());
        let keep = |name: &str, bytes: &[u8]| {
            store
                .keep(
                    &Name::new(name).expect("it is one"),
                    &blake3::hash(bytes),
                    bytes,
                )
                .expect("there is room")
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
