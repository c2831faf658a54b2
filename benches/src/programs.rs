//! Compiles the programs to measure: guests, the `lunatic` command, and the benches themselves.

use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Compiles a guest from this package and returns its bytes.
///
/// # Panics
///
/// Panics if the guest does not compile, because then there is nothing to measure.
pub fn guest(name: &str) -> Vec<u8> {
    let path = guest_path(name);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
}

/// Compiles a guest from this package and returns its path.
fn guest_path(name: &str) -> PathBuf {
    let example = format!("bench_{name}");
    // These are the defaults of `cargo build --release`. This workspace's own profile keeps debug
    // information.
    let defaults = [
        ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
        ("CARGO_PROFILE_RELEASE_STRIP", "debuginfo"),
    ];
    cargo(
        &[
            "--release",
            "--target",
            "wasm32-wasip1",
            "-p",
            "lunatic-benches",
            "--example",
            &example,
        ],
        &defaults,
    );
    target()
        .join("wasm32-wasip1/release/examples")
        .join(example)
        .with_extension("wasm")
}

/// Compiles a guest, and the `lunatic` command with this bench's profile. Returns the command that
/// runs the guest.
///
/// # Panics
///
/// Panics in the same cases as [`guest`].
pub fn command(name: &str) -> Command {
    let guest = guest_path(name);
    let mut command = Command::new(lunatic());
    command.arg(guest);
    command
}

/// Compiles the test crate with a profile, for a target or natively, and returns the path of the
/// test program.
///
/// # Panics
///
/// Panics in the same cases as [`guest`].
pub fn tests(profile: &str, target: Option<&str>) -> PathBuf {
    let mut cargo = cargo_command("test");
    cargo.args([
        "--profile",
        profile,
        "-p",
        "lunatic-bench-suite",
        "--lib",
        "--no-run",
    ]);
    cargo
        .args(["--message-format", "json"])
        .args(target.iter().flat_map(|target| ["--target", target]));
    let output = cargo
        .output()
        .unwrap_or_else(|error| panic!("cargo could not be started: {error}"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = said
        .rsplit_once("\"executable\":\"")
        .expect("cargo lists what it has built");
    PathBuf::from(
        rest.split('"')
            .next()
            .expect("a split yields at least one part"),
    )
}

/// Compiles the `lunatic` command with this bench's profile and returns its path.
///
/// # Panics
///
/// Panics in the same cases as [`guest`].
pub fn lunatic() -> PathBuf {
    cargo(
        &[
            "--profile",
            &profile_name(),
            "-p",
            "lunatic-cli",
            "--bin",
            "lunatic",
        ],
        &[],
    );
    profile().join("lunatic")
}

/// Compiles all benches, or only the named ones, with this program's profile. Returns their names
/// and paths in the order in which the manifest lists them.
///
/// # Errors
///
/// Fails if one of the names is not the name of a bench.
///
/// # Panics
///
/// Panics in the same cases as [`guest`].
pub fn benches(wanted: &[String]) -> Result<Vec<(String, PathBuf)>, String> {
    let all = bench_names();
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        return Err(no_bench(unknown, &all));
    }
    let names: Vec<_> = all
        .into_iter()
        .filter(|name| wanted.is_empty() || wanted.contains(name))
        .collect();
    Ok(compiled(Path::new(env!("CARGO_MANIFEST_DIR")), &names))
}

/// Checks the name of a bench.
///
/// # Errors
///
/// Says which benches there are.
pub(crate) fn check_bench(name: &str) -> Result<(), String> {
    let all = bench_names();
    if all.iter().any(|known| known == name) {
        Ok(())
    } else {
        Err(no_bench(name, &all))
    }
}

/// Compiles one bench of a copy of this repository and returns its path. The compiled dependencies
/// are shared with this copy.
///
/// # Panics
///
/// Panics if the bench does not compile.
pub(crate) fn bench_in(repository: &Path, name: &str) -> PathBuf {
    let mut benches = compiled(&repository.join("benches"), &[name.to_string()]);
    let (_, path) = benches.pop().expect("one bench was compiled");
    path
}

fn no_bench(name: &str, all: &[String]) -> String {
    format!(
        "no bench is named `{name}`; the benches are {}",
        all.join(", ")
    )
}

/// Compiles benches with this program's profile. Returns their names and paths.
fn compiled(package: &Path, names: &[String]) -> Vec<(String, PathBuf)> {
    let mut cargo = cargo_command("bench");
    cargo.current_dir(package);
    cargo.args([
        "--profile",
        &profile_name(),
        "-p",
        env!("CARGO_PKG_NAME"),
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    cargo.args(names.iter().flat_map(|name| ["--bench", name]));
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("cargo could not be started: {error}"));
    assert!(output.status.success(), "the benches do not compile");
    let said = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<Message> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let path = |name: &String| {
        let is_it =
            |message: &&Message| message.target.name == *name && message.target.kind == ["bench"];
        let message = messages
            .iter()
            .find(is_it)
            .expect("cargo lists what it has built");
        (name.clone(), message.executable.clone())
    };
    names.iter().map(path).collect()
}

/// A message from cargo about a program it has built.
#[derive(Deserialize)]
struct Message {
    target: Target,
    executable: PathBuf,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Returns the names of all benches, in the order in which the manifest lists them.
fn bench_names() -> Vec<String> {
    let manifest = include_str!("../Cargo.toml");
    let benches = manifest.split("[[bench]]\nname = \"").skip(1);
    let name = |bench: &str| bench.split('"').next().unwrap_or_default().to_string();
    benches.map(name).collect()
}

fn cargo(arguments: &[&str], variables: &[(&str, &str)]) {
    let mut command = cargo_command("build");
    let status = command
        .envs(variables.iter().copied())
        .args(arguments)
        .status();
    let status = status.unwrap_or_else(|error| panic!("cargo could not be started: {error}"));
    assert!(
        status.success(),
        "`cargo build {}` failed; if the target is missing, run `rustup target add wasm32-wasip1`",
        arguments.join(" ")
    );
}

fn cargo_command(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([subcommand, "--quiet", "--target-dir"])
        .arg(target());
    command
}

/// Returns the name of the profile this program was compiled with.
pub(crate) fn profile_name() -> String {
    // A profile's directory has the profile's name, except for `dev`.
    let directory = profile();
    match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev".to_string(),
        Some(profile) => profile.to_string(),
        None => panic!("{} is not the directory of a profile", directory.display()),
    }
}

/// Returns the directory of this program's profile. It contains the commands; its `deps`
/// subdirectory contains the benches.
fn profile() -> PathBuf {
    let program = std::env::current_exe().expect("the system knows the path of a running program");
    let directory = program.parent().expect("a program is in a directory");
    if directory.ends_with("deps") {
        directory.parent().unwrap_or(directory)
    } else {
        directory
    }
    .to_path_buf()
}

/// Returns cargo's target directory.
pub fn target() -> PathBuf {
    profile()
        .parent()
        .map(Path::to_path_buf)
        .expect("a profile's directory is inside the target directory")
}
