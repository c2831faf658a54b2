//! Checks files that are read by tools and by GitHub: the toolchain, the CI workflow, and the issue
//! templates.

use lunatic_tidy::root;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml<T: DeserializeOwned>(path: &str) -> T {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the `./x` subcommands that a document mentions.
fn commands(text: &str) -> BTreeSet<String> {
    text.split("./x ")
        .skip(1)
        .map(|rest| rest.chars().take_while(char::is_ascii_lowercase).collect())
        .collect()
}

/// Returns the subcommands that `x` has.
fn subcommands() -> BTreeSet<String> {
    let script = read("x");
    let (_, cases) = script
        .rsplit_once("case ${1-} in\n")
        .expect("x ends with its subcommands");
    cases
        .lines()
        .filter_map(|line| line.trim().split_once(')'))
        .map(|(name, _)| name.to_string())
        .filter(|name| name != "*")
        .collect()
}

#[derive(Deserialize)]
struct Workflow {
    on: BTreeMap<String, serde::de::IgnoredAny>,
    jobs: BTreeMap<String, Job>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Job {
    runs_on: String,
    strategy: Option<Strategy>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Strategy {
    matrix: Matrix,
}

#[derive(Deserialize)]
struct Matrix {
    include: Vec<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Step {
    uses: Option<String>,
    run: Option<String>,
}

#[test]
fn hosted_ci_runs_the_same_commands_on_both_architectures() {
    let workflow: Workflow = yaml(".github/workflows/ci.yml");
    assert!(workflow.on.contains_key("pull_request"));
    let mut run = BTreeSet::new();
    for (name, job) in &workflow.jobs {
        let checks_out = |step: &Step| {
            let uses = step.uses.as_deref();
            uses.is_some_and(|action| action.starts_with("actions/checkout@"))
        };
        assert!(
            checks_out(&job.steps[0]),
            "{name} must check out the sources first"
        );
        let scripts = job.steps.iter().filter_map(|step| step.run.as_deref());
        run.extend(scripts.flat_map(commands));
    }
    assert!(run.is_subset(&subcommands()), "{run:?}");
    let local = commands(&read(".ci/run"));
    assert!(
        local.len() == 2 && local.is_subset(&run),
        "{local:?}, {run:?}"
    );

    let test = &workflow.jobs["test"];
    assert_eq!(test.runs_on, "${{ matrix.runner }}");
    let runners: Vec<&str> = test
        .strategy
        .iter()
        .flat_map(|strategy| &strategy.matrix.include)
        .map(|machine| &*machine["runner"])
        .collect();
    assert_eq!(runners, ["ubuntu-24.04", "ubuntu-24.04-arm"]);
}

#[test]
fn issue_templates_are_forms() {
    #[derive(Deserialize)]
    struct Form {
        name: String,
        description: String,
        body: Vec<Field>,
    }
    #[derive(Deserialize)]
    struct Field {
        r#type: String,
        attributes: BTreeMap<String, String>,
    }

    for file in ["bug.yml", "feature.yml"] {
        let form: Form = yaml(&format!(".github/ISSUE_TEMPLATE/{file}"));
        assert!(!form.name.is_empty() && !form.description.is_empty());
        for field in form.body {
            let needed = match &*field.r#type {
                "markdown" => "value",
                "input" | "textarea" => "label",
                other => panic!("{file}: {other} is not a field type"),
            };
            assert!(field.attributes.contains_key(needed), "{file}: {needed}");
        }
    }
    let config: BTreeMap<String, bool> = yaml(".github/ISSUE_TEMPLATE/config.yml");
    assert!(config["blank_issues_enabled"]);
}

#[test]
fn the_contributing_guide_lists_every_command() {
    let told = commands(&read("CONTRIBUTING.md"));
    let offered = subcommands();
    assert_eq!(told, offered);
    let usage = commands(&read("x"));
    assert_eq!(
        usage, offered,
        "the usage of `x` and its subcommands differ"
    );
}

#[test]
fn the_same_rust_version_is_named_everywhere() {
    let toolchain = read("rust-toolchain.toml");
    let value = |text: &str, key: &str| -> String {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let line = line.unwrap_or_else(|| panic!("no {key}"));
        line.trim_start_matches([' ', '=']).replace('"', "")
    };
    let channel = value(&toolchain, "channel");
    let minimum = value(&read("Cargo.toml"), "rust-version");
    assert_eq!(channel, format!("{minimum}.0"));
    let readme = read("README.md");
    assert!(readme.contains(&format!("The minimum supported Rust version is {minimum}")));
    assert!(readme.contains(&format!("Rust {minimum} or later")));

    let targets = value(&toolchain, "targets");
    let targets: BTreeSet<&str> = targets.trim_matches(['[', ']']).split(", ").collect();
    let script = read("x");
    let added = script
        .lines()
        .find_map(|line| line.trim().strip_prefix("for target in "));
    let added = added.and_then(|line| line.strip_suffix("; do"));
    let added: BTreeSet<&str> = added.expect("x adds targets").split(' ').collect();
    assert_eq!(targets, added);
}
