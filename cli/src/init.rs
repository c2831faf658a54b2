//! `lunatic init`: edits `.cargo/config.toml` so that `cargo run` builds for the machine and runs
//! the program there, and adds the guest library to the dependencies.
//!
//! Comments and everything else in these files are kept.

use crate::command_line::Init;
use crate::failure::{Failure, Outcome};
use crate::new::guest_library;
use crate::stdout;
use std::fs;
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, table, value};

/// The target to build for.
const TARGET: &str = "wasm32-wasip1";
/// The command that runs programs.
const RUNNER: &str = "lunatic";

/// A key in cargo's configuration, and its value.
struct Setting {
    tables: &'static [&'static str],
    key: &'static str,
    value: &'static str,
    /// Returns whether an existing value is already suitable.
    fits: fn(&Item) -> bool,
}

const SETTINGS: &[Setting] = &[
    Setting {
        tables: &["build"],
        key: "target",
        value: TARGET,
        fits: is_our_target,
    },
    Setting {
        tables: &["target", TARGET],
        key: "runner",
        value: RUNNER,
        fits: is_our_runner,
    },
];

/// Changes to a configuration.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    /// The settings that were applied.
    made: Vec<String>,
    /// The settings that were not applied because the key already has another value.
    conflicts: Vec<String>,
}

/// Sets up a cargo project and prints the changes.
pub(crate) fn init(init: &Init) -> Outcome {
    let project = project(&init.directory)?;
    let path = config_path(&project);
    let mut document = read(&path)?;
    let changes = set(&mut document, init.force).map_err(|key| {
        Failure::new(format!(
            "`{}` has a `{key}` that is not a table",
            path.display()
        ))
    })?;

    if !changes.conflicts.is_empty() {
        let found = changes.conflicts.join(" and ");
        return Err(Failure::new(format!(
            "`{}` already has {found}; nothing was changed",
            path.display()
        ))
        .hint("`--force` replaces existing values"));
    }
    let manifest = project.join("Cargo.toml");
    let dependency = dependency(&manifest, init.guest_path.as_deref())?;
    let mut said = String::new();
    if !changes.made.is_empty() {
        write(&path, &document)?;
        said += &format!("{}:\n  {}\n", path.display(), changes.made.join("\n  "));
    }
    if let Some((document, line)) = dependency {
        write(&manifest, &document)?;
        said += &format!("{}:\n  {line}\n", manifest.display());
    }
    said += &match said.is_empty() {
        true => format!("{} is already set up\n", path.display()),
        false => format!(
            "`cargo run` now runs the program with `{RUNNER}`; run `rustup target add {TARGET}` once first\n"
        ),
    };
    stdout::print(said.as_bytes())?;
    Ok(0)
}

/// The name of the guest library's package.
const LIBRARY: &str = "lunatic";

/// Adds a dependency on the guest library to a package's manifest. Returns the new manifest and the
/// line that describes the dependency, or `None` if the manifest already has this dependency or
/// does not describe a package.
fn dependency(
    manifest: &Path,
    guest_path: Option<&Path>,
) -> Result<Option<(DocumentMut, String)>, Failure> {
    let mut document = read(manifest)?;
    let name = document
        .get("package")
        .and_then(|package| package.get("name"));
    if name.is_none_or(|name| name.as_str() == Some(LIBRARY)) || depends(document.as_table()) {
        return Ok(None);
    }
    let library = guest_library(guest_path)?;
    let path = library.to_string_lossy();
    let mut dependency = InlineTable::new();
    dependency.insert("path", path.as_ref().into());
    let dependencies = document.entry("dependencies").or_insert(table());
    let dependencies = dependencies.as_table_like_mut().ok_or_else(|| {
        Failure::new(format!(
            "`dependencies` in `{}` is not a table",
            manifest.display()
        ))
    })?;
    dependencies.insert(LIBRARY, value(dependency));
    Ok(Some((
        document,
        format!("dependencies.{LIBRARY}.path = \"{path}\""),
    )))
}

/// Returns whether a manifest, or its section for one target, has a dependency on the guest
/// library.
fn depends(table: &dyn TableLike) -> bool {
    let names = |dependencies: &Item| {
        let package = |item: &Item| item.get("package")?.as_str().map(str::to_string);
        dependencies.as_table_like().is_some_and(|dependencies| {
            dependencies.iter().any(|(key, item)| {
                key == LIBRARY || package(item).is_some_and(|package| package == LIBRARY)
            })
        })
    };
    let targets = table.get("target").and_then(Item::as_table_like);
    table.get("dependencies").is_some_and(names)
        || targets.is_some_and(|targets| {
            let mut targets = targets.iter().filter_map(|(_, item)| item.as_table_like());
            targets.any(depends)
        })
}

/// Returns the configuration for a new project.
pub(crate) fn fresh() -> String {
    let mut document = DocumentMut::new();
    set(&mut document, false).expect("an empty document has no conflicting keys");
    document.to_string()
}

/// Finds the cargo project that contains a directory.
fn project(directory: &Path) -> Result<PathBuf, Failure> {
    let fail = |error: std::io::Error| {
        Failure::new(format!(
            "`{}` is not a directory: {error}",
            directory.display()
        ))
    };
    let directory = directory.canonicalize().map_err(fail)?;
    let found = directory
        .ancestors()
        .find(|ancestor| ancestor.join("Cargo.toml").is_file());
    found.map(Path::to_owned).ok_or_else(|| {
        Failure::new(format!(
            "there is no Cargo.toml in `{}` or its parents",
            directory.display()
        ))
        .hint("`lunatic new NAME` creates a project")
    })
}

/// Returns the configuration file that cargo reads. If both `config` and `config.toml` exist, cargo
/// reads `config`.
fn config_path(project: &Path) -> PathBuf {
    let directory = project.join(".cargo");
    let old = directory.join("config");
    if old.is_file() {
        old
    } else {
        directory.join("config.toml")
    }
}

/// Reads a file. A missing file is treated as empty.
fn read(path: &Path) -> Result<DocumentMut, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            let path = path.display();
            return Err(Failure::new(format!("`{path}` cannot be read: {error}")));
        }
    };
    text.parse()
        .map_err(|error| Failure::new(format!("`{}` is not TOML: {error}", path.display())))
}

fn write(path: &Path, document: &DocumentMut) -> Result<(), Failure> {
    replace(path, &document.to_string())
        .map_err(|error| Failure::new(format!("`{}` cannot be written: {error}", path.display())))
}

/// Replaces a file atomically.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = path.parent().expect("the file is in the project");
    fs::create_dir_all(directory)?;
    // If the file is a symbolic link, replace the link's target, not the link.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let draft = path.with_extension("toml.new");
    fs::write(&draft, text)?;
    fs::rename(&draft, &path)
}

/// Sets missing values. With `force`, also replaces other values.
///
/// # Errors
///
/// Returns the key that should be a table but is not.
fn set(document: &mut DocumentMut, force: bool) -> Result<Changes, String> {
    let mut changes = Changes::default();
    for setting in SETTINGS {
        let name = setting
            .tables
            .iter()
            .copied()
            .chain([setting.key])
            .collect::<Vec<_>>()
            .join(".");
        let mut table = document.as_item_mut();
        for (depth, key) in setting.tables.iter().enumerate() {
            let is_last = depth + 1 == setting.tables.len();
            let missing = || {
                let mut missing = Table::new();
                // Avoids an empty `[target]` heading.
                missing.set_implicit(!is_last);
                Item::Table(missing)
            };
            let outer = table
                .as_table_like_mut()
                .expect("every item along the path has been verified to be a table");
            table = outer.entry(key).or_insert_with(missing);
            if !table.is_table_like() {
                return Err((*key).to_string());
            }
        }
        let table = table
            .as_table_like_mut()
            .expect("every item along the path has been verified to be a table");
        match table.get_mut(setting.key) {
            None => {
                table.insert(setting.key, value(setting.value));
            }
            Some(found) if (setting.fits)(found) => continue,
            Some(found) if !force => {
                changes
                    .conflicts
                    .push(format!("`{name} = {}`", without_comment(found)));
                continue;
            }
            Some(found) => {
                // Keep the comment after the old value.
                let decor = found.as_value().map(|old| old.decor().clone());
                *found = value(setting.value);
                if let (Some(new), Some(decor)) = (found.as_value_mut(), decor) {
                    *new.decor_mut() = decor;
                }
            }
        }
        changes.made.push(format!("{name} = \"{}\"", setting.value));
    }
    Ok(changes)
}

/// Returns a value as written in the file, without the comment that follows it.
fn without_comment(item: &Item) -> String {
    match item.as_value() {
        Some(value) => value.clone().decorated("", "").to_string(),
        None => item.to_string(),
    }
}

/// Returns whether our target is the only one, given either as a string or as a list with one
/// element.
fn is_our_target(item: &Item) -> bool {
    match item.as_array() {
        Some(targets) => {
            targets.len() == 1 && targets.get(0).and_then(|target| target.as_str()) == Some(TARGET)
        }
        None => item.as_str() == Some(TARGET),
    }
}

/// Returns whether a runner is the `lunatic` command, regardless of its path and flags.
fn is_our_runner(item: &Item) -> bool {
    let command = match item.as_array() {
        Some(words) => words.get(0).and_then(|word| word.as_str()),
        None => item
            .as_str()
            .and_then(|line| line.split_whitespace().next()),
    };
    command.is_some_and(|command| {
        Path::new(command)
            .file_stem()
            .is_some_and(|name| name == RUNNER)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, force: bool, after: &str, made: usize, conflicts: &[&str]) {
        let mut document: DocumentMut = before.parse().expect("the test's input is TOML");
        let changes = set(&mut document, force).expect("no key conflicts");
        assert_eq!(changes.made.len(), made, "{before}");
        assert_eq!(changes.conflicts, conflicts, "{before}");
        if changes.conflicts.is_empty() {
            assert_eq!(document.to_string(), after);
        }
    }

    const FRESH: &str =
        "[build]\ntarget = \"wasm32-wasip1\"\n\n[target.wasm32-wasip1]\nrunner = \"lunatic\"\n";

    #[test]
    fn missing_keys_are_added() {
        check("", false, FRESH, 2, &[]);
        assert_eq!(fresh(), FRESH);
    }

    #[test]
    fn equivalent_values_are_kept() {
        for already in [
            FRESH,
            "build.target = [\"wasm32-wasip1\"]\ntarget.wasm32-wasip1.runner = [\"/opt/lunatic\", \"run\", \"--no-net\"]\n",
            "build = { target = \"wasm32-wasip1\" }\n[target]\nwasm32-wasip1 = { runner = \"lunatic run --no-net\" }\n",
        ] {
            check(already, false, already, 0, &[]);
        }
    }

    #[test]
    fn comments_and_other_keys_are_kept() {
        let before = "# Ours.\n[build]\njobs = 2 # few\n\n[alias]\nx = \"run\"\n";
        let after = "# Ours.\n[build]\njobs = 2 # few\ntarget = \"wasm32-wasip1\"\n\n[alias]\nx = \"run\"\n\n\
            [target.wasm32-wasip1]\nrunner = \"lunatic\"\n";
        check(before, false, after, 2, &[]);
    }

    #[test]
    fn other_values_are_replaced_only_with_force() {
        let before =
            "[build]\ntarget = \"x86\" # mine\n[target.wasm32-wasip1]\nrunner = \"other\"\n";
        let conflicts = [
            "`build.target = \"x86\"`",
            "`target.wasm32-wasip1.runner = \"other\"`",
        ];
        let after = "[build]\ntarget = \"wasm32-wasip1\" # mine\n[target.wasm32-wasip1]\nrunner = \"lunatic\"\n";
        check(before, false, "", 0, &conflicts);
        check(before, true, after, 2, &[]);
    }

    #[test]
    fn a_key_that_is_not_a_table_is_named() {
        let mut document: DocumentMut = "target = 1".parse().expect("the input is TOML");
        assert_eq!(set(&mut document, true), Err("target".to_string()));
    }
}
