//! Runs every target on every file in its corpus.

use lunatic_fuzz::TARGETS;
use std::fs;
use std::path::Path;

/// Runs a target on every file in its corpus.
fn replay(name: &str) {
    let target = lunatic_fuzz::target(name).expect("the test names a target");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("the directory is readable").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus of {name} is empty");
    for file in files {
        // Prints the path, so that the last line before a failure names the input that caused it.
        println!("{}", file.display());
        target(&fs::read(&file).expect("the file was listed"));
    }
}

#[test]
fn every_target_has_a_corpus() {
    for (name, _) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(name);
        assert!(directory.is_dir(), "{} is missing", directory.display());
    }
}

#[test]
fn no_input_in_a_corpus_breaks_a_promise() {
    for (name, _) in TARGETS {
        replay(name);
    }
}
