//! Tests a C guest that is compiled with the header generated from the table.

use crate::support::Lab;
use std::path::Path;
use std::process::Command;

#[test]
fn a_guest_in_c_can_spawn_and_exchange_messages() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/c/ping.c");
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let module = directory.path().join("ping.wasm");
    // `stdint.h` comes with clang, so no system headers are needed.
    let compiled = Command::new("clang")
        .args([
            "--target=wasm32",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-nostdlib",
            "-ffreestanding",
            "-Wl,--no-entry",
        ])
        .arg(&source)
        .arg("-o")
        .arg(&module)
        .output();
    let output = match compiled {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: clang cannot be run ({error})");
            return;
        }
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if ["wasm-ld", "No available targets", "unknown target"]
        .iter()
        .any(|missing| said.contains(missing))
    {
        println!("skipped: clang does not support wasm32 or has no wasm-ld\n{said}");
        return;
    }
    assert!(output.status.success(), "{said}");
    let bytes = std::fs::read(&module).expect("clang wrote the module");
    let lab = Lab::new();
    let ping = lab
        .vm
        .module("ping", &bytes)
        .expect("the module imports only rows of the table");
    let process = lab
        .environment()
        .spawn(&ping, "_start", &[])
        .expect("no limit applies");
    let exit = lab.exit(&process);
    assert!(exit.is_normal(), "{exit}");
}
