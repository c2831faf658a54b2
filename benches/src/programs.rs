//! What has to be compiled before it can be measured: guests, and the command `lunatic`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a guest of this package and returns its bytes.
///
/// # Panics
///
/// Where it does not compile: then there is nothing to measure.
pub fn guest(name: &str) -> Vec<u8> {
    let path = guest_path(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
}

/// Compiles a guest of this package and returns where it lies.
fn guest_path(name: &str) -> PathBuf {
    let example = format!("bench_{name}");
    // As `cargo build --release` does by default; this workspace's own profile keeps debug information.
    let defaults = [("CARGO_PROFILE_RELEASE_DEBUG", "false"), ("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")];
    cargo(&["--release", "--target", "wasm32-wasip1", "-p", "lunatic-benches", "--example", &example], &defaults);
    target().join("wasm32-wasip1/release/examples").join(example).with_extension("wasm")
}

/// Compiles the command `lunatic` as this bench was compiled, and a guest, and returns the command that runs the guest.
///
/// # Panics
///
/// As [`guest`].
pub fn command(name: &str) -> Command {
    let guest = guest_path(name);
    let mut command = Command::new(lunatic());
    command.arg(guest);
    command
}

/// Compiles the crate of tests in a profile, for a target or for the system that this runs on, and returns where they lie.
///
/// # Panics
///
/// As [`guest`].
pub fn tests(profile: &str, target: Option<&str>) -> PathBuf {
    let mut cargo = cargo_command("test");
    cargo.args(["--profile", profile, "-p", "lunatic-bench-suite", "--lib", "--no-run"]);
    cargo.args(["--message-format", "json"]).args(target.iter().flat_map(|target| ["--target", target]));
    let output = cargo.output().unwrap_or_else(|error| panic!("cargo does not start: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = said.rsplit_once("\"executable\":\"").expect("cargo says what it has built");
    PathBuf::from(rest.split('"').next().expect("a text ends"))
}

/// Compiles the command `lunatic` as this bench was compiled, and returns where it lies.
///
/// # Panics
///
/// As [`guest`].
pub fn lunatic() -> PathBuf {
    // The directory of a profile has the profile's name, but for the two oldest.
    let directory = profile();
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => panic!("{} is no directory of a profile", directory.display()),
    };
    // With a test among what is built, cargo chooses the same features as for the benches, and has compiled wasmtime already.
    cargo(&["--profile", profile, "--workspace", "--bin", "lunatic", "--test", "machine"], &[]);
    directory.join("lunatic")
}

fn cargo(arguments: &[&str], variables: &[(&str, &str)]) {
    let mut command = cargo_command("build");
    let status = command.envs(variables.iter().copied()).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("cargo does not start: {error}"));
    assert!(
        status.success(),
        "`cargo build {}` failed; is the target there? `rustup target add wasm32-wasip1` adds it",
        arguments.join(" ")
    );
}

fn cargo_command(subcommand: &str) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([subcommand, "--quiet", "--target-dir"]).arg(target());
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// Returns the directory that this bench's profile is compiled into: the bench itself lies in its `deps`.
fn profile() -> PathBuf {
    let bench = std::env::current_exe().expect("the system knows where a running program lies");
    bench.ancestors().nth(2).map(Path::to_path_buf).expect("cargo put the bench into `target/PROFILE/deps`")
}

/// Returns cargo's target directory.
pub(crate) fn target() -> PathBuf {
    profile().parent().map(Path::to_path_buf).expect("the directory of a profile lies in the target directory")
}
