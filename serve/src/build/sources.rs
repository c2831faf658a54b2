//! The files that a function is built from, and a hash of each file's contents.

use crate::{ProjectFunction, Recipe};
use blake3::Hash;
use lunatic_watch::{Fingerprint, open_regular};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// Directories that contain build output or installed packages, not sources.
const GENERATED: [&str; 2] = ["target", "node_modules"];

/// The maximum number of files and directories to visit. Anything larger does not belong to a
/// single function.
const MAX_FILES: usize = 20_000;

/// A function's sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    /// Files, and directories that stand for all files in them that are neither hidden nor
    /// generated.
    roots: BTreeSet<PathBuf>,
    /// The file that the build writes.
    output: Option<PathBuf>,
}

/// A cache of hashes. A file is read again only if its fingerprint has changed.
#[derive(Debug, Default)]
pub(crate) struct FileHashes {
    known: HashMap<PathBuf, (Fingerprint, Hash)>,
}

/// The hash of each file's contents.
pub(crate) type Contents = BTreeMap<PathBuf, Hash>;

impl Sources {
    /// Returns a function's sources, including the external ones reported by a build.
    pub(crate) fn new(function: &ProjectFunction, external: &[PathBuf]) -> Sources {
        let (root, output) = match function.recipe() {
            Recipe::Cargo { directory, .. } => (directory, None),
            Recipe::Command {
                directory, output, ..
            } => (directory, Some(output.clone())),
            Recipe::Wasm(path) => (path, None),
        };
        let roots = [root]
            .into_iter()
            .chain(function.sources())
            .chain(external)
            .cloned()
            .collect();
        Sources { roots, output }
    }

    /// Returns the given files as sources.
    pub(crate) fn of_files(files: &[PathBuf]) -> Sources {
        Sources {
            roots: files.iter().cloned().collect(),
            output: None,
        }
    }

    /// Returns the hashes of the contents of all files that exist. An unreadable file is treated as
    /// missing.
    pub(crate) fn contents(&self, hashes: &mut FileHashes) -> Contents {
        let mut contents = Contents::new();
        self.walk(&mut |path, metadata| {
            if let Some(hash) = hashes.get(path, metadata) {
                contents.insert(path.to_path_buf(), hash);
            }
        });
        contents
    }

    /// Returns the directories to watch for changes to these files.
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        let mut directories = BTreeSet::new();
        let mut add_parent = |path: &Path| {
            if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
                directories.insert(parent.to_path_buf());
            } else {
                directories.insert(PathBuf::from("."));
            }
        };
        for root in &self.roots {
            add_parent(root);
            // A change to a link's target is reported in the target's directory.
            if let Ok(target) = root.canonicalize() {
                add_parent(&target);
            }
        }
        directories.extend(self.walk(&mut |_, _| {}));
        directories
    }

    /// Visits all files and returns the directories that contain them.
    fn walk(&self, visit: &mut dyn FnMut(&Path, &Metadata)) -> Vec<PathBuf> {
        let mut remaining = MAX_FILES;
        let mut visited = Vec::new();
        let mut pending: Vec<PathBuf> = Vec::new();
        for root in &self.roots {
            match fs::metadata(root) {
                Ok(metadata) if metadata.is_dir() => pending.push(root.clone()),
                Ok(metadata) => visit(root, &metadata),
                Err(_) => {}
            }
        }
        while let Some(directory) = pending.pop() {
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            visited.push(directory);
            for entry in entries {
                let (name, path) = (entry.file_name(), entry.path());
                let name = name.to_string_lossy();
                let is_ignored = name.starts_with('.')
                    || GENERATED.contains(&name.as_ref())
                    || self.output.as_ref() == Some(&path);
                // Links are not followed, because they may form a cycle.
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                if is_ignored || remaining == 0 {
                    continue;
                }
                remaining -= 1;
                if metadata.is_dir() {
                    pending.push(path);
                } else if metadata.is_file() {
                    visit(&path, &metadata);
                }
            }
        }
        visited
    }
}

impl FileHashes {
    fn get(&mut self, path: &Path, metadata: &Metadata) -> Option<Hash> {
        let fingerprint = Fingerprint::of(metadata);
        if let Some((known, hash)) = self.known.get(path)
            && *known == fingerprint
        {
            return Some(*hash);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(open_regular(path).ok()?).ok()?;
        let hash = hasher.finalize();
        self.known.insert(path.to_path_buf(), (fingerprint, hash));
        Some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_generated_files_are_not_sources() {
        let place = tempfile::TempDir::new().expect("there is enough disk space");
        let root = place.path();
        for (name, content) in [
            ("src/a.rs", "a"),
            ("target/x/b.rs", "b"),
            (".git/c", "c"),
            ("out.wasm", "d"),
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("the file is inside the root"))
                .expect("there is enough disk space");
            fs::write(path, content).expect("there is enough disk space");
        }
        let roots = [root.to_path_buf()].into();
        let sources = Sources {
            roots,
            output: Some(root.join("out.wasm")),
        };
        let mut hashes = FileHashes::default();
        let before = sources.contents(&mut hashes);
        assert_eq!(before.keys().collect::<Vec<_>>(), [&root.join("src/a.rs")]);
        let directories = sources.directories();
        assert!(
            directories.contains(&root.join("src")) && !directories.contains(&root.join("target")),
            "{directories:?}"
        );

        fs::write(root.join("target/x/b.rs"), "other").expect("there is enough disk space");
        assert_eq!(sources.contents(&mut hashes), before);
        fs::write(root.join("src/a.rs"), "A").expect("there is enough disk space");
        assert_ne!(sources.contents(&mut hashes), before);
    }
}
