//! Runs what builds, and keeps the end of what it says.

use super::BuildError;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// So much of what a compiler says is kept, in bytes: the end.
const MAX_OUTPUT: usize = 256 << 10;

/// So much of a line is told, in bytes.
const MAX_LINE: u64 = 4096;

/// The end of what was said.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        // In large steps, so that what is kept is moved seldom.
        if self.0.len() > 2 * MAX_OUTPUT {
            self.0.drain(..self.0.len() - MAX_OUTPUT);
        }
    }

    fn into_text(mut self) -> String {
        let more = self.0.len().saturating_sub(MAX_OUTPUT);
        self.0.drain(..more);
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// Runs a program to its end. Its standard output is given to `read`; without it, that is said like standard error.
pub(super) fn run(
    mut command: Command,
    directory: &Path,
    line: &(dyn Fn(&str) + Sync),
    read: Option<&mut (dyn FnMut(&str) + Send)>,
) -> Result<(ExitStatus, String), BuildError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let not_started = |error| BuildError::Start {
        program: program.clone(),
        directory: directory.to_path_buf(),
        error,
    };
    let (said, says) = std::io::pipe().map_err(not_started)?;
    command.current_dir(directory).stdin(Stdio::null());
    command.stderr(says.try_clone().map_err(not_started)?);
    match read {
        Some(_) => {
            // Kept open here, what is said would have no end.
            drop(says);
            command.stdout(Stdio::piped())
        }
        None => command.stdout(says),
    };
    let mut child = command.spawn().map_err(not_started)?;
    // It holds the ends of the pipe on which the program writes: with them, that would have no end.
    drop(command);
    let stdout = child.stdout.take();
    let tail = std::thread::scope(|scope| {
        if let (Some(stdout), Some(read)) = (stdout, read) {
            scope.spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    read(&line);
                }
            });
        }
        listen(said, line)
    });
    let status = child.wait().map_err(not_started)?;
    Ok((status, tail.into_text()))
}

/// Tells each line, until there is no more.
fn listen(said: impl Read, line: &dyn Fn(&str)) -> Tail {
    let mut tail = Tail::default();
    let mut said = BufReader::new(said);
    let mut bytes = Vec::new();
    while let Ok(1..) = said.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes) {
        tail.add(&bytes);
        line(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
    tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_is_said_is_kept() {
        let mut tail = Tail::default();
        for number in 0..200_000 {
            tail.add(format!("line {number}\n").as_bytes());
        }
        let text = tail.into_text();
        assert_eq!(text.len(), MAX_OUTPUT);
        assert!(text.ends_with("line 199999\n"));
    }
}
