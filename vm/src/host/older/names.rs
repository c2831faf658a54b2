//! Versioned process names. They are registered in a given environment and looked up in the
//! caller's own environment.

use super::handles::{process, room_for_handle};
use crate::environment::{Name, RegistryError};
use crate::guest::call::MAX_TEXT;
use crate::guest::kinds::{EnvironmentId, OutU64, ProcessId, Text};
use crate::guest::{Call, Failure};
use crate::machine::Environment;
use lunatic_process::Pid;

/// The results of `register`, `unregister` and `lookup`.
const DONE: i32 = 0;
const BAD_VERSION: i32 = 1;
const NOT_FOUND: i32 = 2;

/// Reads a name and its version. Returns `None` if the version is invalid.
fn read(call: &mut Call<'_>, name: Text, version: Text) -> Result<Option<Name>, Failure> {
    let name = call.short_text(name, MAX_TEXT)?;
    let version = call.short_text(version, MAX_TEXT)?;
    match Name::new(&name, &version) {
        Ok(name) => Ok(Some(name)),
        Err(RegistryError::BadVersion(_)) => Ok(None),
        Err(error) => Err(Failure::trap(error)),
    }
}

pub(super) fn register(
    call: &mut Call<'_>,
    name: Text,
    version: Text,
    environment_id: EnvironmentId,
    id: ProcessId,
) -> Result<i32, Failure> {
    let name = read(call, name, version)?;
    let environment = call.environment(environment_id)?;
    let pid = process(call, id)?;
    let Some(name) = name else {
        return Ok(BAD_VERSION);
    };
    let registrar = call.guest().process().pid();
    match give(&environment, &name, pid, registrar) {
        // The process may have died before it was registered. If so, lookups do not find it, which
        // is correct.
        Ok(()) | Err(RegistryError::NoProcess(_)) => Ok(DONE),
        Err(error) => Err(Failure::trap(error)),
    }
}

/// Gives a name to a process. If another process has the name, `registrar` must be that process or
/// must have registered the name for it.
fn give(
    environment: &Environment,
    name: &Name,
    pid: Pid,
    registrar: Pid,
) -> Result<(), RegistryError> {
    match environment.register(name, pid, registrar) {
        Err(RegistryError::Taken(..)) => {}
        done => return done,
    }
    // Another process may take the name between `unregister` and `register`, in which case
    // `register` reports that it is taken.
    match environment.unregister(name, registrar) {
        Ok(()) | Err(RegistryError::NotFound(_)) => environment.register(name, pid, registrar),
        Err(error) => Err(error),
    }
}

pub(super) fn unregister(
    call: &mut Call<'_>,
    name: Text,
    version: Text,
    environment_id: EnvironmentId,
) -> Result<i32, Failure> {
    let name = read(call, name, version)?;
    let environment = call.environment(environment_id)?;
    let Some(name) = name else {
        return Ok(BAD_VERSION);
    };
    let caller = call.guest().process().pid();
    match environment.unregister(&name, caller) {
        Ok(()) => Ok(DONE),
        Err(RegistryError::NotFound(_)) => Ok(NOT_FOUND),
        Err(error) => Err(Failure::trap(error)),
    }
}

pub(super) fn lookup(
    call: &mut Call<'_>,
    name: Text,
    query: Text,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let name = call.short_text(name, MAX_TEXT)?;
    let query = call.short_text(query, MAX_TEXT)?;
    room_for_handle(call)?;
    match call.guest().environment().lookup_newest(&name, &query) {
        Ok(pid) => {
            let id = call.guest().handles().processes.insert(pid);
            call.put(out, id.to_le_bytes());
            Ok(DONE)
        }
        Err(RegistryError::BadQuery(_)) => Ok(BAD_VERSION),
        Err(_) => Ok(NOT_FOUND),
    }
}
