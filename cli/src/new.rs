//! `lunatic new`: creates a cargo project with a program that spawns a process.

use crate::command_line::New;
use crate::failure::{Failure, Outcome};
use crate::stdout;
use std::fs;
use std::path::{Path, PathBuf};

/// A new project's program.
const PROGRAM: &str = include_str!("new/program.rs");

/// Creates a project and prints how to run it.
pub(crate) fn new(new: &New) -> Outcome {
    let name = new
        .directory
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| {
            Failure::new(format!(
                "the last component of `{}` cannot be used as a package name",
                new.directory.display()
            ))
        })?;
    check_name(name)
        .map_err(|why| Failure::new(format!("`{name}` cannot be used as a package name: {why}")))?;
    let guest = guest_library(new.guest_path.as_deref())?;
    if new.directory.exists() {
        return Err(
            Failure::new(format!("`{}` already exists", new.directory.display()))
                .hint("`lunatic init` sets up an existing project"),
        );
    }
    create(&new.directory, name, &guest).map_err(|error| {
        Failure::new(format!(
            "`{}` cannot be created: {error}",
            new.directory.display()
        ))
    })?;
    let directory = new.directory.display();
    let created = format!(
        "created `{directory}`; run it with
  cd {directory} && cargo run        (and `cargo test`)
This requires `lunatic` in the PATH; run `rustup target add wasm32-wasip1` once first\n"
    );
    stdout::print(created.as_bytes())?;
    Ok(0)
}

fn create(directory: &Path, name: &str, guest: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory.join("src"))?;
    fs::create_dir_all(directory.join(".cargo"))?;
    let is_inside = is_inside_a_workspace(&directory.canonicalize()?);
    fs::write(
        directory.join("Cargo.toml"),
        manifest(name, guest, is_inside),
    )?;
    fs::write(directory.join("src/main.rs"), PROGRAM)?;
    fs::write(directory.join(".cargo/config.toml"), crate::init::fresh())?;
    fs::write(directory.join(".gitignore"), "/target\n")
}

fn manifest(name: &str, guest: &Path, is_inside_a_workspace: bool) -> String {
    let mut manifest: toml_edit::DocumentMut = MANIFEST.parse().expect("the manifest is TOML");
    manifest["package"]["name"] = toml_edit::value(name);
    manifest["dependencies"]["lunatic"]["path"] =
        toml_edit::value(guest.to_string_lossy().as_ref());
    let mut text = manifest.to_string();
    if is_inside_a_workspace {
        text += "\n# Keeps this package out of the workspace that contains it.\n[workspace]\n";
    }
    text
}

const MANIFEST: &str = r#"[package]
name = ""
version = "0.1.0"
edition = "2024"

[dependencies]
lunatic = { path = "" }

# Lets reports of traps show files and lines.
[profile.release]
debug = "line-tables-only"
"#;

/// Finds the guest library, which is not published: in the given directory, or next to this
/// command's sources.
pub(crate) fn guest_library(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../lib-guest");
    let directory = given.unwrap_or(Path::new(beside));
    if directory.join("Cargo.toml").is_file() && directory.to_str().is_some() {
        let canonical = directory.canonicalize();
        return canonical.map_err(|error| {
            Failure::new(format!(
                "`{}` cannot be found: {error}",
                directory.display()
            ))
        });
    }
    Err(Failure::new(format!(
        "the guest library is not in `{}`",
        directory.display()
    ))
    .hint("set `--guest-path` to the `lib-guest` directory in lunatic's repository"))
}

/// Returns whether cargo would expect a package in this directory to be a member of a workspace.
fn is_inside_a_workspace(directory: &Path) -> bool {
    let has_workspace = |ancestor: &Path| {
        let manifest = fs::read_to_string(ancestor.join("Cargo.toml")).ok();
        let manifest = manifest.and_then(|text| text.parse::<toml_edit::DocumentMut>().ok());
        manifest.is_some_and(|manifest| manifest.contains_key("workspace"))
    };
    directory.ancestors().skip(1).any(has_workspace)
}

/// Words that cannot be used as crate names.
const KEYWORDS: &[&str] = &[
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue",
    "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if",
    "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Crates that always exist.
const BUILT_IN: &[&str] = &["alloc", "core", "proc-macro", "proc_macro", "std", "test"];

/// Directories that cargo creates for build output.
const DIRECTORIES: &[&str] = &["build", "deps", "examples", "incremental"];

/// Checks a package name the way cargo does.
fn check_name(name: &str) -> Result<(), &'static str> {
    let mut characters = name.chars();
    if !characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
    {
        return Err("it does not start with a letter");
    }
    if !characters
        .all(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '_'))
    {
        return Err("only letters, digits, `-` and `_` are allowed");
    }
    if KEYWORDS.contains(&name) {
        return Err("it is a Rust keyword");
    }
    if BUILT_IN.contains(&name) {
        return Err("it is the name of a built-in crate");
    }
    if DIRECTORIES.contains(&name) {
        return Err("it is the name of a directory that cargo uses");
    }
    if name == "lunatic" {
        return Err("it is the name of the guest library");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_accepted() {
        for name in ["hello", "hello-world", "_x", "a1", "Self_"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_cargo_refuses_are_refused() {
        for name in [
            "", "1a", "-a", "a b", "a.b", "ä", "fn", "std", "test", "deps", "lunatic",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_path_is_quoted_for_toml() {
        let path = Path::new("/a \"quoted\" path");
        let manifest: toml_edit::DocumentMut = manifest("x", path, true)
            .parse()
            .expect("the manifest is TOML");
        assert_eq!(
            manifest["dependencies"]["lunatic"]["path"].as_str(),
            path.to_str()
        );
        assert!(manifest.contains_key("workspace"));
    }
}
