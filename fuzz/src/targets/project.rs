//! Project files, in both formats. Reading any text must return a project or a list of problems.

use lunatic_serve::Project;
use std::fs;

/// The first byte chooses the format.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&format, text)) = bytes.split_first() else {
        return;
    };
    let name = if format % 2 == 0 {
        "lunatic.toml"
    } else {
        "embly-project.yml"
    };
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let file = directory.path().join(name);
    fs::write(&file, text).expect("the new directory is writable");
    match Project::read(&file) {
        Ok(project) => assert!(
            !project.functions().is_empty(),
            "a project without functions was accepted"
        ),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
