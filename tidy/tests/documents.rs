//! Checks that documents agree with each other and with the code.

use lunatic_tidy::{root, sources};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the text of the first code block in the given language.
fn block<'a>(text: &'a str, language: &str) -> &'a str {
    let (_, rest) = text
        .split_once(&format!("```{language}\n"))
        .unwrap_or_else(|| panic!("there is no code block in {language}"));
    rest.split_once("\n```").expect("every block is closed").0
}

/// Returns the cells of all table rows in a document, including headers but not separators.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(str::trim).collect())
        .collect()
}

#[test]
fn the_catalogue_and_the_tests_have_the_same_cases() {
    let catalogue = read("vm/tests/CATALOGUE.md");
    let cases: Vec<Vec<&str>> = rows(&catalogue)
        .into_iter()
        .filter(|row| row[0].starts_with('T'))
        .collect();
    for case in &cases {
        let is_complete = case.len() == 3 && case.iter().all(|cell| !cell.is_empty());
        assert!(
            is_complete,
            "a row must have an id, a fault and an outcome: {case:?}"
        );
    }
    let listed: Vec<&str> = cases.iter().map(|case| case[0]).collect();
    assert!(
        listed.is_sorted_by(|one, next| one < next),
        "each case must be listed once, in order: {listed:?}"
    );

    let mut tested = BTreeSet::new();
    for file in ["vm", "net", "lib-guest", "serve", "bridge", "cli"]
        .map(sources)
        .concat()
    {
        for name in read(&file).split("fn t").skip(1) {
            let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
            if digits.len() == 3 && name[3..].starts_with('_') {
                tested.insert(format!("T{digits}"));
            }
        }
    }
    let listed: BTreeSet<String> = listed.into_iter().map(String::from).collect();
    let untested: Vec<_> = listed.difference(&tested).collect();
    let unlisted: Vec<_> = tested.difference(&listed).collect();
    assert!(untested.is_empty(), "cases without a test: {untested:?}");
    assert!(unlisted.is_empty(), "tests without a case: {unlisted:?}");
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 130, "{lines} lines");
}

#[test]
fn the_map_in_the_readme_shows_every_member() {
    let manifest = read("Cargo.toml");
    let (_, members) = manifest
        .split_once("\nmembers = [")
        .expect("the workspace has members");
    let (members, _) = members.split_once(']').expect("the list is closed");
    let readme = read("README.md");
    for member in members.split('"').skip(1).step_by(2) {
        let directory = member.split('/').next().unwrap_or(member);
        assert!(
            readme.contains(&format!("\n{directory}/ ")),
            "the map does not show {directory}/"
        );
    }
}

#[test]
fn the_sample_in_the_readme_is_the_server_that_the_bench_measures() {
    let program = read("benches/guests/echo.rs");
    let readme = read("README.md");
    let sample = block(&readme, "rust");
    assert!(
        program.ends_with(&format!("{sample}\n")),
        "benches/guests/echo.rs does not end with the sample:\n{sample}"
    );
}

#[test]
fn the_figures_in_the_readme_are_those_of_the_benches() {
    let readme = read("README.md");
    let (_, figures) = readme
        .split_once("\n## Figures\n")
        .expect("the README has figures");
    let (figures, _) = figures
        .split_once("\n## ")
        .expect("other sections follow the figures");
    let benches = read("benches/README.md");
    let measured: Vec<&str> = rows(figures)
        .into_iter()
        .flat_map(|row| row.into_iter().skip(1))
        .filter(|cell| cell.starts_with(|first: char| first.is_ascii_digit()))
        .collect();
    assert!(measured.len() > 15, "{measured:?}");
    for figure in measured {
        let figure = figure.split(" of ").next().unwrap_or(figure);
        assert!(
            benches.contains(figure),
            "README.md has the figure {figure}, but benches/README.md does not"
        );
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut directories = vec![root()];
    let mut documents = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("the sources are readable") {
            let path = entry.expect("the sources are readable").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !matches!(&*name, "target" | "deps" | "_build" | ".git") {
                directories.push(path);
            } else if name.ends_with(".md") {
                documents.push(path);
            }
        }
    }
    assert!(documents.len() > 8, "{documents:?}");
    for document in documents {
        let text = fs::read_to_string(&document).expect("documents are text");
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap_or_default();
            if link.contains("://") || link.is_empty() {
                continue;
            }
            let target = document.parent().unwrap_or(Path::new("/")).join(link);
            assert!(
                target.exists(),
                "{}: {link} leads nowhere",
                document.display()
            );
        }
    }
}
