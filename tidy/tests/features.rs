//! Checks that dependencies have the same features no matter which package is built, so that
//! wasmtime is compiled only once.

use lunatic_tidy::root;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Returns the dependencies that `cargo -p PACKAGE` builds, and the features that each is compiled
/// with. A dependency may have one set of features for this computer and another for procedural
/// macros.
fn dependencies(package: &str) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--prefix",
            "none",
            "--format",
            "{p} |{f}",
        ])
        .args(["--edges", "normal,build,dev", "--package", package])
        .current_dir(root())
        .output()
        .expect("cargo runs this test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((name, features)) = line.split_once(" |") else {
            continue;
        };
        let features = features.trim_end_matches(" (*)");
        found
            .entry(name.to_string())
            .or_default()
            .insert(features.to_string());
    }
    found
}

#[test]
fn wasmtime_is_compiled_once_whichever_package_is_built() {
    let packages = [
        "lunatic-vm",
        "lunatic-serve",
        "lunatic-bridge",
        "lunatic-elixir",
        "lunatic-benches",
    ];
    let command = dependencies("lunatic-cli");
    let below: BTreeSet<String> = dependencies("wasmtime-wasi-http").into_keys().collect();
    assert!(
        below.iter().any(|name| name.starts_with("wasmtime v")),
        "{below:?}"
    );
    let mut differ = Vec::new();
    for package in packages {
        for (name, features) in dependencies(package) {
            if below.contains(&name) && command.get(&name).is_some_and(|same| *same != features) {
                differ.push(format!(
                    "{name}: {:?} for the command, {features:?} for {package}",
                    command[&name]
                ));
            }
        }
    }
    assert!(
        differ.is_empty(),
        "add the missing features to workspace-hack/Cargo.toml:\n{}",
        differ.join("\n")
    );
}
