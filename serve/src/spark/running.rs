//! How a spark runs another function by its name.

use super::comm::{MOST, Running, Side, comm};
use super::{Birth, outside};
use crate::function::Function;
use crate::{Code, Version};
use lunatic_vm::{Call, Errno, Failure, SpawnError, printable};
use std::sync::Arc;

/// So many functions can run each other: one that runs itself ends there, and not when the machine is full.
const DEEPEST: u32 = 16;

/// The longest name that is looked up. No function has a longer one.
const LONGEST_NAME: u32 = 256;

/// The function that makes HTTP calls, unless the project has one of that name.
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
    call.text(address, length.min(LONGEST_NAME))
}

/// A function that runs.
pub(super) struct Run {
    /// The number of the comm to it.
    pub(super) comm: u64,
    /// What it says of its first message, where it looks at that before anything else.
    pub(super) verdict: Option<outside::Verdict>,
}

/// Runs a function of the project by its name.
pub(super) fn run(running: &mut Running, name: &str) -> Result<Run, RunError> {
    if !running.has_room() {
        let text = format!(
            "a function runs at most {MOST} others at the same time; close the comm of one that is done"
        );
        return Err(refused(Errno::LimitReached, text));
    }
    let Some((version, birth)) = running.version() else {
        return Err(refused(
            Errno::NotGranted,
            "only functions run functions, and this is a process of none",
        ));
    };
    if birth.depth + 1 >= DEEPEST {
        let text =
            format!("functions run each other {DEEPEST} deep at most, and this one is as deep");
        return Err(refused(Errno::LimitReached, text));
    }
    let birth = Birth {
        depth: birth.depth + 1,
        ..birth
    };
    let (side, verdict) = match find(version, name)? {
        Some(function) => (start(&function.version(), name, birth)?, None),
        None => {
            let (ours, theirs) = comm();
            let (task, verdict) = outside::call(version.outbound().clone(), theirs);
            (Side::to_host(ours, task), Some(verdict))
        }
    };
    Ok(Run {
        comm: running.keep(side),
        verdict,
    })
}

/// Finds a function, as the functions of a version name it; `None` is the one that makes HTTP calls.
fn find(version: &Version, name: &str) -> Result<Option<Arc<Function>>, RunError> {
    let Some(functions) = version.functions() else {
        return Err(refused(
            Errno::NoFunction,
            "the functions are being given up",
        ));
    };
    // A function of another project knows that project's functions by their own names.
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
        "no function of the project is named `{}`: add it to the project's file",
        printable(name)
    );
    Err(refused(Errno::NoFunction, text))
}

/// Begins a process of a function.
fn start(version: &Arc<Version>, name: &str, birth: Birth) -> Result<Side, RunError> {
    let (ours, theirs) = comm();
    let spark = match version.code() {
        Code::Spark(spark) => spark,
        Code::Component(_) => {
            let task = outside::ask(version.clone(), theirs);
            return Ok(Side::to_host(ours, task));
        }
        Code::Program(_) => {
            let text =
                format!("`{name}` is a program, which takes connections and nobody's messages");
            return Err(refused(Errno::BadModule, text));
        }
    };
    let process = spark.start(version, theirs, birth).map_err(|error| {
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
    Ok(Side::to_function(ours, name, process))
}
