//! `lunatic completions`: prints shell completions, generated from the definitions that parse the
//! command line.

use crate::command_line::{CommandLine, Completions};
use crate::failure::Outcome;
use crate::stdout;
use clap::CommandFactory;

/// Prints the completions for a shell.
pub(crate) fn print(completions: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(
        completions.shell,
        &mut CommandLine::command(),
        "lunatic",
        &mut script,
    );
    stdout::print(&script)?;
    Ok(0)
}
