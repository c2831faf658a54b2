//! Runs a build program, forwards its output line by line, and keeps the end of the output.

use super::error::BuildError;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// The maximum amount of output to keep, in bytes. The beginning is discarded.
const MAX_OUTPUT: usize = 256 << 10;

/// The maximum length, in bytes, of a line that is forwarded in one piece.
const MAX_LINE: u64 = 4096;

/// The end of a program's output.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        // The output is trimmed in large steps, so that bytes are rarely moved.
        if self.0.len() > 2 * MAX_OUTPUT {
            self.0.drain(..self.0.len() - MAX_OUTPUT);
        }
    }

    fn into_text(mut self) -> String {
        let excess = self.0.len().saturating_sub(MAX_OUTPUT);
        self.0.drain(..excess);
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// Runs a program to completion. Standard error is passed to `line`. Standard output is passed to
/// `read`, or to `line` if there is no `read`. Returns the program's exit status and the end of the
/// output that was passed to `line`.
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
    let (reader, writer) = std::io::pipe().map_err(not_started)?;
    command.current_dir(directory).stdin(Stdio::null());
    command.stderr(writer.try_clone().map_err(not_started)?);
    match read {
        Some(_) => {
            // The reader does not reach the end of the output while this write end is open.
            drop(writer);
            command.stdout(Stdio::piped())
        }
        None => command.stdout(writer),
    };
    let mut child = command.spawn().map_err(not_started)?;
    // The command also holds write ends of the pipe.
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
        collect(reader, line)
    });
    let status = child.wait().map_err(not_started)?;
    Ok((status, tail.into_text()))
}

/// Forwards each line until the end of the output.
fn collect(output: impl Read, line: &dyn Fn(&str)) -> Tail {
    let mut tail = Tail::default();
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    while let Ok(1..) = output.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes) {
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
    fn the_end_of_the_output_is_kept() {
        let mut tail = Tail::default();
        for number in 0..200_000 {
            tail.add(format!("line {number}\n").as_bytes());
        }
        let text = tail.into_text();
        assert_eq!(text.len(), MAX_OUTPUT);
        assert!(text.ends_with("line 199999\n"));
    }
}
