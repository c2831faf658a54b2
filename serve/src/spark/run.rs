//! Runs another function for a spark, by name.

use super::comm::{Comm, comm_pair};
use super::http::{self, Verdict};
use super::process;
use super::state::{MAX_FUNCTIONS, SparkState, SpawnOptions};
use crate::functions::WeakFunctions;
use crate::{Code, Function, Version};
use lunatic_vm::{Call, Errno, Failure, SpawnError, printable};
use std::sync::Arc;

/// How deeply functions can run each other. A function that runs itself is stopped at this depth,
/// not when the machine is full.
const MAX_DEPTH: u32 = 16;

/// The maximum length of a name to look up, in bytes. No function has a longer name.
const MAX_NAME: u32 = 256;

/// The built-in function that makes HTTP calls, unless the project has a function with that name.
const HTTP: &str = "http";

/// Why a function was not run.
#[derive(Debug)]
pub(super) struct RunError {
    pub(super) errno: Errno,
    pub(super) text: String,
}

fn refused(errno: Errno, text: impl Into<String>) -> RunError {
    RunError {
        errno,
        text: text.into(),
    }
}

/// Copies a name out of a guest's memory.
pub(super) fn name(call: &mut Call<'_>, address: u32, length: u32) -> Result<String, Failure> {
    call.slice(address, length)?;
    call.text(address, length.min(MAX_NAME))
}

/// A running function.
pub(super) struct Running {
    /// The number of the function's comm.
    pub(super) comm: u64,
    /// If the function decides about its first message before doing anything else, says whether it
    /// accepts the message.
    pub(super) verdict: Option<Verdict>,
}

/// Runs one of the project's functions by name.
pub(super) fn run(state: &mut SparkState, name: &str) -> Result<Running, RunError> {
    if !state.has_room() {
        let text = format!(
            "a function can run at most {MAX_FUNCTIONS} others at the same time; close the comm of one that has finished"
        );
        return Err(refused(Errno::LimitReached, text));
    }
    let Some(version) = &state.version else {
        return Err(refused(
            Errno::NotGranted,
            "only functions can run functions, and this process does not belong to a function",
        ));
    };
    let depth = state.options.depth + 1;
    if depth >= MAX_DEPTH {
        let text = format!(
            "functions can run each other at most {MAX_DEPTH} levels deep, and this one is already at that depth"
        );
        return Err(refused(Errno::LimitReached, text));
    }
    let options = SpawnOptions {
        depth,
        ..state.options
    };
    let functions = &state.functions;
    let (comm, verdict) = match find(functions, version, name)? {
        Some(function) => {
            let comm = start(functions, &function.version(), name, options)?;
            (comm, None)
        }
        None => {
            let (ours, theirs) = comm_pair();
            let (task, verdict) = http::call(version.outbound().clone(), theirs);
            (Comm::to_host(ours, task), Some(verdict))
        }
    };
    Ok(Running {
        comm: state.add(comm),
        verdict,
    })
}

/// Finds a function by the name that a version uses for it. `None` stands for the built-in function
/// that makes HTTP calls.
fn find(
    functions: &WeakFunctions,
    version: &Version,
    name: &str,
) -> Result<Option<Arc<Function>>, RunError> {
    let Some(functions) = functions.upgrade() else {
        return Err(refused(
            Errno::NoFunction,
            "the functions are being shut down",
        ));
    };
    // A function from another project refers to that project's functions by their short names.
    let own = version
        .name()
        .as_str()
        .split_once('/')
        .map(|(owner, _)| format!("{owner}/{name}"));
    if let Some(function) = own
        .and_then(|own| functions.get(&own))
        .or_else(|| functions.get(name))
    {
        return Ok(Some(function));
    }
    if name == HTTP {
        return Ok(None);
    }
    let text = format!(
        "the project has no function named `{}`: add it to the project's file",
        printable(name)
    );
    Err(refused(Errno::NoFunction, text))
}

/// Starts a function and returns the comm to it.
fn start(
    functions: &WeakFunctions,
    version: &Arc<Version>,
    name: &str,
    options: SpawnOptions,
) -> Result<Comm, RunError> {
    let (ours, theirs) = comm_pair();
    let spark = match version.code() {
        Code::Spark(spark) => spark,
        Code::Component(component) => {
            let task = http::ask(version.clone(), component.clone(), theirs);
            return Ok(Comm::to_host(ours, task));
        }
        Code::Program(_) => {
            let text = format!("`{name}` is a program, which handles connections, not messages");
            return Err(refused(Errno::BadModule, text));
        }
    };
    let started = process::start(version, spark, functions.clone(), theirs, options);
    let process = started.map_err(|error| {
        let errno = match error {
            SpawnError::Limit(_) => Errno::LimitReached,
            SpawnError::Ceiling(_) => Errno::Exhausted,
            _ => Errno::Other,
        };
        refused(
            errno,
            format!("the function `{name}` cannot be run: {error}"),
        )
    })?;
    Ok(Comm::to_function(ours, name, process))
}
