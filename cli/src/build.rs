//! `lunatic build`: builds and checks a project's functions.

use crate::command_line::Build;
use crate::failure::Outcome;
use crate::project::{self, Progress};
use crate::serve::machine;
use crate::stdout;
use indicatif::HumanBytes;
use lunatic_serve::{Builder, Built, Project};

/// Builds a project and lists the functions that were built. If a function fails to build, the
/// others are still built, and the exit status is 1.
pub(crate) fn build(build: &Build) -> Outcome {
    crate::log_lines::start(0);
    let file = project::find(&build.project).ok_or_else(project::missing)?;
    let project = Project::read(&file).map_err(|error| project::wrong(&error))?;
    let vm = machine()?;
    let mut builder = Builder::new(&vm, &project);
    if let Some(jobs) = build.jobs {
        builder = builder.jobs(jobs);
    }
    let progress = Progress::new();
    let results = builder.build(project.functions(), &|name, event| {
        progress.show(name, &event)
    });
    let built: Vec<&Built> = results
        .iter()
        .filter_map(|result| result.as_ref().ok())
        .collect();
    stdout::print(table(&built).as_bytes())?;
    let all = built.len() == results.len();
    // Dropping the machine would be a waste of time: the process is about to exit, which frees
    // everything.
    std::mem::forget(vm);
    Ok(if all { 0 } else { 1 })
}

/// Formats a table of functions with their sizes, build times and files.
fn table(built: &[&Built]) -> String {
    let width = built
        .iter()
        .map(|built| built.name().as_str().len())
        .max()
        .unwrap_or(0);
    let line = |built: &&Built| {
        let (name, size) = (built.name().as_str(), HumanBytes(built.size()).to_string());
        format!(
            "{name:width$}  {size:>10}  {:>8.2?}  {}\n",
            built.time(),
            built.file().display()
        )
    };
    built.iter().map(line).collect()
}
