//! What a function is built from: files, below directories too, and what each of them contains.

use crate::{ProjectFunction, Recipe};
use blake3::Hash;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Directories in which there is what was made of sources.
const MADE: [&str; 2] = ["target", "node_modules"];

/// So many files are looked at; a directory with more is more than a function's.
const MAX_FILES: usize = 20_000;

/// What a function is built from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    /// Files, and directories with everything below them that is not hidden and not made by a build.
    roots: BTreeSet<PathBuf>,
    /// What building it writes.
    written: Option<PathBuf>,
}

/// What was in files when they were looked at. Those that look the same from outside are not read again.
#[derive(Debug, Default)]
pub(crate) struct Look {
    known: HashMap<PathBuf, (Outside, Hash)>,
}

/// What a file looks like from outside: where that is as it was, so is the content.
#[derive(Debug, PartialEq, Eq)]
struct Outside(u64, Option<SystemTime>, [i64; 4]);

/// What each file contains.
pub(crate) type Contents = BTreeMap<PathBuf, Hash>;

/// Returns what a function is built from, where `elsewhere` is what a build of it told.
pub(crate) fn of(function: &ProjectFunction, elsewhere: &[PathBuf]) -> Sources {
    let (root, written) = match function.recipe() {
        Recipe::Cargo { directory, .. } => (directory, None),
        Recipe::Command {
            directory, output, ..
        } => (directory, Some(output.clone())),
        Recipe::Wasm(path) => (path, None),
    };
    let roots = [root]
        .into_iter()
        .chain(function.sources())
        .chain(elsewhere)
        .cloned()
        .collect();
    Sources { roots, written }
}

impl Sources {
    /// Returns what some files contain.
    pub(crate) fn of_files(files: &[PathBuf]) -> Sources {
        Sources {
            roots: files.iter().cloned().collect(),
            written: None,
        }
    }

    /// Returns what the files contain that are there. What cannot be read is as if it were not there.
    pub(crate) fn look(&self, look: &mut Look) -> Contents {
        let mut contents = Contents::new();
        self.walk(&mut |path, metadata| {
            if let Some(hash) = look.hash(path, metadata) {
                contents.insert(path.to_path_buf(), hash);
            }
        });
        contents
    }

    /// Returns the directories in which something changes when one of the files does.
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
            // A change of what a link leads to shows where that lies.
            if let Ok(target) = root.canonicalize() {
                add_parent(&target);
            }
        }
        directories.extend(self.walk(&mut |_, _| {}));
        directories
    }

    /// Visits all files, and returns the directories that it came through.
    fn walk(&self, visit: &mut dyn FnMut(&Path, &Metadata)) -> Vec<PathBuf> {
        let mut room = MAX_FILES;
        let mut seen = Vec::new();
        let mut left: Vec<PathBuf> = Vec::new();
        for root in &self.roots {
            match fs::metadata(root) {
                Ok(metadata) if metadata.is_dir() => left.push(root.clone()),
                Ok(metadata) => visit(root, &metadata),
                Err(_) => {}
            }
        }
        while let Some(directory) = left.pop() {
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            seen.push(directory);
            for entry in entries {
                let (name, path) = (entry.file_name(), entry.path());
                let name = name.to_string_lossy();
                let is_made = name.starts_with('.')
                    || MADE.contains(&name.as_ref())
                    || self.written.as_ref() == Some(&path);
                // Links are not followed: they may lead in a circle.
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                if is_made || room == 0 {
                    continue;
                }
                room -= 1;
                if metadata.is_dir() {
                    left.push(path);
                } else if metadata.is_file() {
                    visit(&path, &metadata);
                }
            }
        }
        seen
    }
}

impl Look {
    fn hash(&mut self, path: &Path, metadata: &Metadata) -> Option<Hash> {
        let outside = Outside(metadata.len(), metadata.modified().ok(), identity(metadata));
        if let Some((known, hash)) = self.known.get(path)
            && *known == outside
        {
            return Some(*hash);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path).ok()?).ok()?;
        let hash = hasher.finalize();
        self.known.insert(path.to_path_buf(), (outside, hash));
        Some(hash)
    }
}

/// Tells a file from another with the same size and date, where the system knows.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> [i64; 4] {
    use std::os::unix::fs::MetadataExt;
    [
        metadata.dev().cast_signed(),
        metadata.ino().cast_signed(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ]
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> [i64; 4] {
    [0; 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_or_made_is_no_source() {
        let place = tempfile::TempDir::new().expect("there is room");
        let root = place.path();
        for (name, content) in [
            ("src/a.rs", "a"),
            ("target/x/b.rs", "b"),
            (".git/c", "c"),
            ("out.wasm", "d"),
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("there is room");
            fs::write(path, content).expect("there is room");
        }
        let roots = [root.to_path_buf()].into();
        let sources = Sources {
            roots,
            written: Some(root.join("out.wasm")),
        };
        let mut look = Look::default();
        let before = sources.look(&mut look);
        assert_eq!(before.keys().collect::<Vec<_>>(), [&root.join("src/a.rs")]);
        let directories = sources.directories();
        assert!(
            directories.contains(&root.join("src")) && !directories.contains(&root.join("target")),
            "{directories:?}"
        );

        fs::write(root.join("target/x/b.rs"), "other").expect("there is room");
        assert_eq!(sources.look(&mut look), before);
        fs::write(root.join("src/a.rs"), "A").expect("there is room");
        assert_ne!(sources.look(&mut look), before);
    }
}
