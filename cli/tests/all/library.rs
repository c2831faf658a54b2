//! Tests the guest library in a program that uses it under a different name.

use crate::cargo::Project;

#[test]
fn every_claim_about_the_library_holds() {
    let project = Project::new("library", include_str!("../guests/library.rs"));
    let plugin = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 0)
        (func (export "check") (param i32 i64 f32 f64 v128)
            (if (i32.ne (local.get 0) (i32.const -1)) (then unreachable))
            (if (i64.ne (local.get 1) (i64.const 0x8000000000000000)) (then unreachable))
            (if (f32.ne (local.get 2) (f32.const 0.5)) (then unreachable))
            (if (f64.ne (local.get 3) (f64.const -0.25)) (then unreachable))
            (if (i64.ne (i64x2.extract_lane 0 (local.get 4)) (i64.const -2)) (then unreachable))
            (if (i64.ne (i64x2.extract_lane 1 (local.get 4)) (i64.const -1)) (then unreachable))
            (call $exit (i32.const 42))))"#;
    project.dir.write(
        "library/plugin.wasm",
        wat::parse_str(plugin).expect("the module is valid"),
    );
    let manifest = project.dir.read("library/Cargo.toml");
    let renamed = manifest.replace("lunatic = { ", "machine = { package = \"lunatic\", ");
    assert_ne!(manifest, renamed);
    project.dir.write("library/Cargo.toml", renamed);

    let ended = project.run(&[]);
    assert_eq!(ended.status, Some(1), "{ended:#?}");
    assert!(
        ended
            .stderr
            .contains("Error: \"ok a main that returns an error exits with status 1\""),
        "{ended:#?}"
    );
    let claims = include_str!("../guests/library.rs")
        .matches("    ok(")
        .count();
    // One of the program's lines makes two claims.
    assert_eq!(
        ended
            .stdout
            .lines()
            .filter(|line| line.starts_with("ok "))
            .count(),
        claims + 1,
        "{ended:#?}"
    );
}
