//! Builds guests with the cargo that runs the tests, and with Python. The repository does not
//! contain any compiled code.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

/// Returns the bytes of a component in Rust, built from a package in the repository.
pub(crate) fn rust(package: &str, name: &str) -> Arc<[u8]> {
    static BUILT: LazyLock<Mutex<HashMap<String, Arc<[u8]>>>> = LazyLock::new(Mutex::default);
    let mut built = BUILT
        .lock()
        .expect("the build succeeded, because the tests would have ended otherwise");
    built
        .entry(package.to_string())
        .or_insert_with(|| build(package, name))
        .clone()
}

/// Returns the bytes of one of the functions in `serve/tests/guide`.
pub(crate) fn guide(name: &str) -> Vec<u8> {
    static BUILT: LazyLock<PathBuf> =
        LazyLock::new(|| compile("wasm32-wasip1", "serve/tests/guide"));
    std::fs::read(BUILT.join(name).with_extension("wasm")).expect("the build wrote the file")
}

fn build(package: &str, name: &str) -> Arc<[u8]> {
    std::fs::read(compile("wasm32-wasip2", package).join(name))
        .expect("the build wrote the file")
        .into()
}

/// Compiles a package and returns the directory with the results.
fn compile(target: &str, package: &str) -> PathBuf {
    let directory = temporary().join("guests");
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO") && name != "CARGO_HOME"
            || name.starts_with("RUST") && name.ends_with("FLAGS")
        {
            cargo.env_remove(&*name);
        }
    }
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--target",
        target,
    ]);
    cargo
        .env("CARGO_TARGET_DIR", &directory)
        .current_dir(repository().join(package));
    let output = cargo
        .output()
        .expect("cargo can be run, because it runs this test");
    let said = String::from_utf8_lossy(&output.stderr);
    let remedy = match said.contains("target may not be installed") {
        true => {
            format!("the tests build Rust guests for {target}; run `rustup target add {target}`")
        }
        false => String::new(),
    };
    assert!(
        output.status.success(),
        "{remedy}\n{cargo:?} failed:\n{said}"
    );
    directory.join(target).join("release")
}

/// The package that builds components from Python.
const COMPONENTIZE: &str = "componentize-py==0.25.1";

/// Returns the bytes of the example in Python, which is rebuilt only if it has changed. If there is
/// no suitable Python, or the package that builds the example cannot be installed, prints a message
/// and returns `None`.
pub(crate) fn python() -> Option<Arc<[u8]>> {
    static BUILT: OnceLock<Option<Arc<[u8]>>> = OnceLock::new();
    let built = BUILT.get_or_init(|| match componentize() {
        Ok(path) => Some(
            std::fs::read(path)
                .expect("the build wrote the file")
                .into(),
        ),
        Err(lack) => {
            eprintln!("\n*** NOT TESTED: components in Python, because {lack} ***\n");
            None
        }
    });
    built.clone()
}

fn componentize() -> Result<PathBuf, String> {
    let (source, wit) = (
        repository().join("examples/python"),
        repository().join("serve/wit"),
    );
    let mut hasher = DefaultHasher::new();
    for path in [source.join("http_server.py"), wit.join("world.wit")] {
        std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .hash(&mut hasher);
    }
    COMPONENTIZE.hash(&mut hasher);
    let directory = temporary().join(format!("python-{:x}", hasher.finish()));
    let built = directory.join("http-server.wasm");
    if built.exists() {
        return Ok(built);
    }
    let environment = directory.join("environment");
    let recent = "import sys; sys.exit(sys.version_info < (3, 10))";
    run(Command::new("python3").args(["-c", recent]))
        .map_err(|_| "`python3` is missing or older than 3.10")?;
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment))?;
    run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", COMPONENTIZE]))?;
    // Build from a copy, so that files that the build leaves next to the source do not end up in
    // the repository.
    let copy = directory.join("source");
    std::fs::create_dir_all(&copy).expect("there is disk space");
    std::fs::copy(source.join("http_server.py"), copy.join("http_server.py"))
        .expect("there is disk space");
    let unfinished = directory.join("unfinished.wasm");
    let mut componentize = Command::new(environment.join("bin/componentize-py"));
    componentize.arg("-d").arg(&wit).args([
        "-w",
        "rvm",
        "--world-module",
        "rvm",
        "componentize",
        "http_server",
        "-o",
    ]);
    // Once the package is installed, it must be able to build the example.
    run(componentize.arg(&unfinished).current_dir(&copy)).unwrap_or_else(|flaw| panic!("{flaw}"));
    std::fs::rename(unfinished, &built).expect("both paths are in the same directory");
    Ok(built)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?} cannot be run: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{command:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the repository")
}

fn temporary() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Returns a spark that runs a function by name with a request, and answers with the function's
/// output.
pub(crate) fn relay(name: &str, request: &str) -> String {
    let escaped =
        |text: &str| -> String { text.bytes().map(|byte| format!("\\{byte:02x}")).collect() };
    let (name_length, request_length) = (name.len(), request.len());
    let (name, request) = (escaped(name), escaped(request));
    format!(
        r#"(module
            (import "lunatic::spark" "run" (func $run (param i32 i32 i32 i32) (result i64)))
            (import "lunatic::spark" "read" (func $read (param i64 i32 i32) (result i64)))
            (import "lunatic::spark" "write" (func $write (param i64 i32 i32) (result i64)))
            (memory (export "memory") 4)
            (data (i32.const 0) "{name}") (data (i32.const 1024) "{request}")
            (func (export "_start") (local $comm i64) (local $count i64)
                (local.set $comm (call $run (i32.const 0) (i32.const {name_length})
                    (i32.const 1024) (i32.const {request_length})))
                (if (i64.lt_s (local.get $comm) (i64.const 0)) (then unreachable))
                (block $done (loop $more
                    (local.set $count
                        (call $read (local.get $comm) (i32.const 65536) (i32.const 65536)))
                    (br_if $done (i64.le_s (local.get $count) (i64.const 0)))
                    (drop (call $write (i64.const 0) (i32.const 65536)
                        (i32.wrap_i64 (local.get $count))))
                    (br $more)))))"#
    )
}
