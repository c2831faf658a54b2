//! `lunatic completions`: what a shell needs to complete command lines, from the definitions that parse them.

use crate::command_line::{CommandLine, Completions};
use crate::failure::{Failure, Outcome};
use clap::CommandFactory;
use std::io::{ErrorKind, Write};

/// Prints the completions for a shell.
pub(crate) fn print(completions: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(
        completions.shell,
        &mut CommandLine::command(),
        "lunatic",
        &mut script,
    );
    match std::io::stdout().write_all(&script) {
        // Whoever read has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(Failure::new(format!(
            "the completions could not be written: {error}"
        ))),
        Ok(()) => Ok(0),
    }
}
