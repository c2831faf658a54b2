//! Finds the project and shows the progress of its builds.

use crate::command_line;
use crate::failure::{Failure, tell};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lunatic_serve::{BuildError, BuildEvent, Name, Project, ProjectError};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The time between a spinner's frames.
const TICK: Duration = Duration::from_millis(100);

/// Returns the given project file, or else the nearest one, if one exists.
pub(crate) fn find(project: &command_line::Project) -> Option<PathBuf> {
    project
        .file
        .clone()
        .or_else(|| Project::find(Path::new("")))
}

/// Returns the failure to report when there is no project.
pub(crate) fn missing() -> Failure {
    Failure::new("there is no `lunatic.toml` or `embly-project.yml` in this directory or a parent")
        .hint("use `--file FILE` for a file elsewhere; `serve/README.md` describes its format")
}

/// Converts an error in a project file to a failure.
pub(crate) fn wrong(error: &ProjectError) -> Failure {
    let text = error.to_string();
    Failure::new(text.strip_prefix("error: ").unwrap_or(&text))
}

/// Shows what is being built, with spinners on a terminal and otherwise line by line.
pub(crate) struct Progress {
    /// `None` if standard error is not a terminal.
    bars: Option<MultiProgress>,
    running: Mutex<BTreeMap<Name, ProgressBar>>,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Progress {
            bars,
            running: Mutex::default(),
        }
    }

    /// Shows a build event. Successful builds are not shown here; the caller, which knows what they
    /// are for, reports them.
    pub(crate) fn show(&self, name: &Name, event: &BuildEvent<'_>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match (event, &self.bars) {
            (BuildEvent::Started, Some(bars)) => {
                let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}");
                let bar = bars.add(ProgressBar::new_spinner());
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                bar.set_prefix(name.to_string());
                bar.enable_steady_tick(TICK);
                running.insert(name.clone(), bar);
            }
            (BuildEvent::Started, None) => tell(&format!("building {name}\n")),
            (BuildEvent::Line(line), _) => {
                if let Some(bar) = running.get(name) {
                    bar.set_message(lunatic_vm::printable(line).into_owned());
                }
            }
            (BuildEvent::Built(_) | BuildEvent::Failed(_), _) => {
                if let Some(bar) = running.remove(name) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
        drop(running);
        if let BuildEvent::Failed(error) = event {
            self.say(&not_built(name, error));
        }
    }

    /// Prints text above the spinners.
    pub(crate) fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| tell(text)),
            None => tell(text),
        }
    }
}

/// Formats the compiler's output and the reason why a function was not built.
fn not_built(name: &Name, error: &BuildError) -> String {
    // A tab would be printed as an escape sequence.
    let output = error.output().unwrap_or_default().replace('\t', "    ");
    let mut text = output.trim_end().to_string();
    if !text.is_empty() {
        text.push('\n');
    }
    text += &format!("error: `{name}` was not built: {error}\n");
    if let Some(help) = error.help() {
        text += &format!("hint: {help}\n");
    }
    text
}
