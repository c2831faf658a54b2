//! `lunatic call`: calls a function in a module with a value or an image.

use crate::command_line::{Call, CallBounds};
use crate::failure::{Failure, Outcome, not_started};
use crate::{run, status, stdout};
use lunatic_bridge::{Answer, Argument, Bridge, Builder, CallError, LoadError};
use lunatic_vm::printable;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Calls a function and prints its result. JSON is followed by a newline; bytes are printed
/// unchanged.
pub(crate) fn call(call: &Call) -> Outcome {
    let argument = argument(call)?;
    let bridge = builder(&call.bounds)?
        .from_file(&call.file)
        .map_err(|error| not_loaded(&call.file, &error))?;
    let answer = bridge.invoke(&call.function, argument).and_then(|answer| {
        if let Answer::Json(_) = answer {
            // Parse the JSON only to check it. It is printed exactly as the function wrote it.
            answer.json::<serde::de::IgnoredAny>()?;
        }
        Ok(answer)
    });
    // All of the function's own output comes before its result.
    bridge.flush_output();
    let answer = answer.map_err(|error| {
        let status = match &error {
            CallError::Ended(exit) => status::of(exit).max(1),
            CallError::TimedOut(_) => status::TIMED_OUT,
            _ => 1,
        };
        let error = printable(&error.to_string()).into_owned();
        Failure::new(format!("`{}`: {error}", call.function)).status(status)
    })?;
    match answer {
        Answer::Json(mut json) => {
            json.push(b'\n');
            stdout::print(&json)
        }
        Answer::Bytes(bytes) => stdout::print(&bytes),
    }
    .map(|_| 0)
}

/// Returns a builder for a bridge with the given limits, on a machine that caches compiled code.
pub(crate) fn builder(bounds: &CallBounds) -> Result<Builder, Failure> {
    let vm = run::builder()
        .cache(run::cache())
        .build()
        .map_err(not_started)?;
    // The process exits once it has made its calls, which frees everything the machine holds faster
    // than dropping it would.
    std::mem::forget(vm.clone());
    let mut builder = Bridge::builder().vm(vm);
    if let Some(bytes) = bounds.max_memory {
        builder = builder.memory(bytes);
    }
    if let Some(units) = bounds.max_compute {
        builder = builder.compute(units);
    }
    if let Some(time) = bounds.timeout {
        builder = builder.time(time);
    }
    for prefix in &bounds.allow {
        builder = builder.allow(prefix);
    }
    Ok(builder)
}

/// Returns the failure to report when a module cannot be loaded.
pub(crate) fn not_loaded(file: &Path, error: &LoadError) -> Failure {
    match error {
        LoadError::File { error: reason, .. } if reason.kind() == ErrorKind::NotFound => {
            Failure::new(error).status(status::NOT_FOUND)
        }
        LoadError::File { .. } => Failure::new(error).status(status::NOT_STARTED),
        error => Failure::new(format!("`{}`: {error}", file.display())).status(status::NOT_STARTED),
    }
}

fn argument(call: &Call) -> Result<Argument, Failure> {
    if let Some(file) = &call.bytes {
        return Ok(Argument::Bytes(read_file(file)?));
    }
    if let (Some(file), Some(width), Some(height)) = (&call.image, call.width, call.height) {
        return Ok(Argument::Image {
            bytes: read_file(file)?,
            width,
            height,
        });
    }
    let json = match call.json.as_ref().or(call.data.as_ref()) {
        None => b"null".to_vec(),
        Some(json) => read_data(json)?,
    };
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&json) {
        let failure = Failure::new(format!("the argument is not JSON: {error}")).status(2);
        return Err(failure.hint(
            "a JSON string needs double quotes, and the shell needs single quotes around them: '\"World\"'",
        ));
    }
    Ok(Argument::Json(json))
}

/// Returns the data given by a flag: a file's contents for `@FILE`, otherwise the value itself.
pub(crate) fn read_data(data: &str) -> Result<Vec<u8>, Failure> {
    match data.strip_prefix('@') {
        Some(file) => read_file(Path::new(file)),
        None => Ok(data.into()),
    }
}

/// Reads a file, or standard input if the file is `-`.
fn read_file(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| Failure::new(format!("`{}` cannot be read: {error}", file.display())))
}
