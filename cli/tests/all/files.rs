//! Tests file access from a Rust program.

use crate::cargo::Project;

#[test]
fn what_the_standard_library_promises_about_files_holds() {
    let program = include_str!("../guests/files.rs");
    let project = Project::new("files", program);
    let ended = project.run(&[]);
    assert_eq!(ended.status, Some(0), "{ended:#?}");
    let held: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(held.len(), program.matches("    ok(").count(), "{ended:#?}");
    assert!(
        held.iter().all(|line| line.starts_with("ok ")),
        "{ended:#?}"
    );
}
