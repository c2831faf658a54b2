//! Tests that functions written for Wasmtube run unmodified. They are in `bridge/tests/wasm_test`,
//! and the test compiles them with cargo.

use lunatic_bridge::{Bridge, CallError};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The module, which is compiled only once. It has its own target directory, because cargo locks
/// the usual one while it builds this test.
static WASM_TEST: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wasm_test");
    let run = |arguments: &[&str], remedy: &str| {
        let mut cargo = Command::new(env!("CARGO"));
        for (name, _) in std::env::vars_os() {
            // The variables set by the cargo that runs this test are not meant for the module's
            // build, except for cargo's home directory.
            let name = name.to_string_lossy();
            if name.starts_with("CARGO") && name != "CARGO_HOME"
                || name.starts_with("RUST") && name.ends_with("FLAGS")
            {
                cargo.env_remove(&*name);
            }
        }
        cargo
            .args(arguments)
            .args(["--quiet", "--locked"])
            .env("CARGO_TARGET_DIR", &target);
        cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wasm_test"));
        let output = cargo.output().expect("cargo can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{remedy}\n{cargo:?} failed:\n{said}"
        );
    };
    run(
        &["fetch"],
        "the tests need the crate `image`, which cargo could not fetch: is the network up?",
    );
    run(
        &["build", "--release"],
        "if the target is not installed, run `rustup target add wasm32-unknown-unknown`",
    );
    target.join("wasm32-unknown-unknown/release/wasm_test.wasm")
});

fn bridge() -> Bridge {
    // The memory is small, so that calls fail if they leak memory.
    Bridge::builder()
        .memory(32 << 20)
        .from_file(&*WASM_TEST)
        .expect("the module is valid")
}

#[test]
fn the_calls_in_wasmtubes_documentation_work() {
    let bridge = bridge();
    let hello: String = bridge
        .call("hello", &json!({"arg": "World"}))
        .expect("the call succeeds");
    assert_eq!(hello, "Hello, World!");
    for arguments in [
        json!({"arg": "World"}),
        json!({"args": "Hello World!"}),
        json!({"ナ": [null, 1.5, -7, "\"\n"]}),
    ] {
        assert_eq!(
            bridge
                .call::<_, Value>("echo", &arguments)
                .expect("the call succeeds"),
            arguments
        );
    }
}

#[test]
fn an_image_can_be_the_bytes_of_a_file_as_in_wasmtubes_tests() {
    // The function reads three bytes per pixel, which is more than the file has. What the bytes
    // contain does not matter.
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.resize(123_126, 0x55);
    let size: Value = bridge()
        .call_image("image_size", &file, 256, 256)
        .expect("the call succeeds");
    assert_eq!(size, json!({"width": 256, "height": 256}));
}

#[test]
fn a_large_argument_overwrites_nothing() {
    let bridge = bridge();
    for length in [1_048_011, 1_060_011, 1_114_112, 2_000_000] {
        let arguments = json!({"arg": "x".repeat(length)});
        assert_eq!(
            bridge
                .call::<_, Value>("echo", &arguments)
                .expect("there is room in the memory"),
            arguments,
            "{length}"
        );
        // The module's strings and its allocator are intact.
        assert_eq!(
            bridge
                .call::<_, String>("hello", &json!({"arg": length}))
                .ok(),
            None,
            "a number is not a string"
        );
        assert_eq!(
            bridge
                .call::<_, String>("hello", &json!({"arg": "W"}))
                .expect("the call succeeds"),
            "Hello, W!"
        );
    }
    let error = bridge
        .call::<_, Value>("echo", &"x".repeat(20_000_000))
        .expect_err("an argument of that size exceeds the memory");
    assert!(matches!(error, CallError::TooLarge { .. }), "{error}");
    assert_eq!(
        bridge
            .call::<_, String>("hello", &json!({"arg": "W"}))
            .expect("the call succeeds"),
        "Hello, W!"
    );
}

#[test]
fn many_calls_leave_nothing_behind() {
    let bridge = bridge();
    for call in 0..2_000u32 {
        let arguments = json!({"call": call, "text": "x".repeat(call as usize % 50 * 1000)});
        assert_eq!(
            bridge
                .call::<_, Value>("echo", &arguments)
                .expect("the call succeeds"),
            arguments
        );
    }
}
