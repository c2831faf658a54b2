//! `lunatic completions`: shell completions, from the same definitions that parse the command line.

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
        // A reader that closes the pipe has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(Failure::new(format!(
            "cannot write the completions: {error}"
        ))),
        Ok(()) => Ok(0),
    }
}
