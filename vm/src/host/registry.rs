//! `lunatic::registry`: process names without versions.

use crate::environment::{Name, RegistryError};
use crate::guest::call::MAX_TEXT;
use crate::guest::kinds::{OutU64, Text};
use crate::guest::{Call, Failure};
use crate::machine::THIS_NODE;
use lunatic_process::Pid;

pub(super) fn put(
    call: &mut Call<'_>,
    name: Text,
    _node: u64,
    process: Pid,
) -> Result<(), Failure> {
    let text = call.short_text(name, MAX_TEXT)?;
    let name = Name::unversioned(&text).map_err(Failure::trap)?;
    let registrar = call.guest().process().pid();
    match call
        .guest()
        .environment()
        .register(&name, process, registrar)
    {
        // The process may have died before it was registered. If so, lookups do not find it, which
        // is correct.
        Ok(()) | Err(RegistryError::NoProcess(_)) => Ok(()),
        Err(error) => Err(Failure::trap(error)),
    }
}

pub(super) fn get(
    call: &mut Call<'_>,
    name: Text,
    node: OutU64,
    process: OutU64,
) -> Result<i32, Failure> {
    let (node, process) = (call.out(node)?, call.out(process)?);
    let text = call.short_text(name, MAX_TEXT)?;
    let Ok(found) = call.guest().environment().lookup(&text, "*") else {
        return Ok(1);
    };
    call.put(node, THIS_NODE.to_le_bytes());
    call.put(process, found.number().to_le_bytes());
    Ok(0)
}

pub(super) fn remove(call: &mut Call<'_>, name: Text) -> Result<(), Failure> {
    let text = call.short_text(name, MAX_TEXT)?;
    let name = Name::unversioned(&text).map_err(Failure::trap)?;
    let caller = call.guest().process().pid();
    match call.guest().environment().unregister(&name, caller) {
        Ok(()) | Err(RegistryError::NotFound(_)) => Ok(()),
        Err(error) => Err(Failure::trap(error)),
    }
}
