//! Counts lines of code, so that two versions of the tree can be compared.

use crate::tree::rust_files;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The counting rules, as shown by `--help`.
pub const RULES: &str = "\
A line of code is a line of a .rs file that is neither blank nor only a comment. Items under `#[cfg(test)]`, the files of
such modules, and directories named `tests` or `target` are left out. So are the packages `tidy` and `vm/model`, which
exist only for tests. A file counts toward the package whose directory contains it. Format both trees in the same way
before you compare them.";

/// Packages whose code runs only in tests or only prints what tests check.
const TEST_PACKAGES: [&str; 2] = ["tidy", "vm/model"];

/// Returns the number of lines of code in each package in a directory, by the package's path
/// relative to that directory.
///
/// # Panics
///
/// Panics if a file cannot be read.
pub fn count(directory: &Path) -> BTreeMap<String, usize> {
    let files = rust_files(directory);
    let read = |path: &PathBuf| {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let texts: Vec<(&PathBuf, String)> = files.iter().map(|path| (path, read(path))).collect();
    let left_out: BTreeSet<PathBuf> = texts
        .iter()
        .flat_map(|(path, text)| {
            let children = children(path);
            code(text)
                .1
                .into_iter()
                .map(move |name| children.join(name))
        })
        .collect();
    let is_test = |path: &Path| {
        path.ancestors().any(|part| {
            part.starts_with(directory)
                && (part.ends_with("tests") && part.is_dir()
                    || left_out.contains(&part.with_extension("")))
        })
    };
    let mut lines = BTreeMap::new();
    for (path, text) in texts.iter().filter(|(path, _)| !is_test(path)) {
        let package = path
            .ancestors()
            .skip(1)
            .find(|part| part.join("Cargo.toml").exists())
            .and_then(|part| part.strip_prefix(directory).ok());
        if let Some(package) = package.filter(|package| !is_for_tests(package)) {
            *lines.entry(package.display().to_string()).or_default() += code(text).0;
        }
    }
    lines
}

fn is_for_tests(package: &Path) -> bool {
    TEST_PACKAGES
        .iter()
        .any(|other| package == Path::new(other))
}

/// Returns the directory that contains a file's child modules.
fn children(file: &Path) -> PathBuf {
    if ["lib.rs", "main.rs"]
        .iter()
        .any(|name| file.ends_with(name))
    {
        file.with_file_name("")
    } else {
        file.with_extension("")
    }
}

/// Returns the number of lines of code in a file's text, and the names of its modules that are in
/// other files and exist only for tests.
fn code(text: &str) -> (usize, Vec<&str>) {
    let (mut count, mut modules) = (0, Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        let indentation = line.len() - trimmed.len();
        if trimmed.is_empty() || trimmed.starts_with("//") {
            continue;
        }
        if trimmed != "#[cfg(test)]" {
            count += 1;
            continue;
        }
        // rustfmt indents an item's last line like its first.
        let mut item = lines.by_ref().filter(|line| {
            let trimmed = line.trim_start();
            line.len() - trimmed.len() == indentation && !trimmed.is_empty()
        });
        let is_end = |line: &str| {
            line.starts_with('}') || !line.starts_with("#[") && line.ends_with([';', ',', '}'])
        };
        let last = item.find(|line| is_end(line.trim_start())).map(str::trim);
        let module = last.and_then(|line| line.strip_suffix(';')?.rsplit_once("mod "));
        modules.extend(module.map(|(_, name)| name));
    }
    (count, modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_comments_and_tests_do_not_count() {
        let text = "//! A module.

use std::fs; // A comment after code.

struct State {
    /// A field.
    number: u32,
    #[cfg(test)]
    looked_at: u32,
}

#[cfg(test)]
#[derive(Debug)]
fn only_in_tests(
    number: u32,
) -> u32 {
    number
}

fn last() {}

#[cfg(test)]
pub(crate) mod fakes;
#[cfg(test)]
mod tests {
    fn test() {
    }
}
";
        // The lines that count are `use`, the three lines of the structure, and the last function.
        assert_eq!(code(text), (5, vec!["fakes"]));
    }

    #[test]
    fn lines_count_toward_the_nearest_package_and_test_lines_toward_none() {
        let directory = tempfile::tempdir().expect("there is a temporary directory");
        for (path, text) in [
            ("a/Cargo.toml", ""),
            ("a/src/lib.rs", "mod one;\n#[cfg(test)]\nmod fakes;\n"),
            ("a/src/one.rs", "fn one() {}\n#[cfg(test)]\nmod tests;\n"),
            ("a/src/one/tests.rs", "fn test() {}\n"),
            ("a/src/fakes.rs", "mod more;\n"),
            ("a/src/fakes/more.rs", "fn fake() {}\n"),
            ("a/tests/all/main.rs", "fn main() {}\n"),
            ("a/b/Cargo.toml", ""),
            ("a/b/src/main.rs", "fn main() {\n}\n"),
            ("a/target/out.rs", "fn out() {}\n"),
            ("tidy/Cargo.toml", ""),
            ("tidy/src/lib.rs", "fn check() {}\n"),
        ] {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("the path has a parent"))
                .and_then(|()| fs::write(path, text))
                .expect("the directory can be written");
        }
        let expected = [("a", 2), ("a/b", 2)].map(|(package, lines)| (package.to_string(), lines));
        assert_eq!(count(directory.path()), expected.into());
    }
}
