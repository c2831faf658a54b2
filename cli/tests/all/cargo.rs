//! Builds guests in Rust, with the cargo that runs the tests. Nothing compiled is kept in the repository.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns cargo with arguments as somebody would call it from a shell: what the cargo that runs this test has set is gone,
/// but for where it keeps what it has fetched. Guests of all tests are built in one directory, which is not the one that
/// this test was built in: that is locked while cargo builds there.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO") && name != "CARGO_HOME" || name.starts_with("RUST") && name.ends_with("FLAGS") {
            cargo.env_remove(&*name);
        }
    }
    // The lock file of the repository has the versions that are there, so nothing has to be fetched.
    cargo.args(arguments).arg("--offline").env("CARGO_TARGET_DIR", directory());
    cargo
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests")
}

/// Returns the path of an example, compiled.
pub(crate) fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| build(&["-p", "lunatic-examples"]));
    directory().join("wasm32-wasip1/release").join(name).with_extension("wasm")
}

/// Builds programs of the repository.
fn build(what: &[&str]) {
    let arguments = [&["build", "--quiet", "--release", "--target", "wasm32-wasip1"], what].concat();
    let built = cargo(&arguments).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).output();
    let output = built.expect("cargo runs this test");
    let said = String::from_utf8_lossy(&output.stderr);
    let remedy = match said.contains("target may not be installed") {
        true => "the tests need guests in Rust: `rustup target add wasm32-wasip1`\n",
        false => "",
    };
    assert!(output.status.success(), "{remedy}cargo {} failed:\n{said}", arguments.join(" "));
}
