//! `lunatic::registry`: names without versions.

use super::distributed::THIS_NODE;
use super::environment::MAX_TEXT;
use crate::environment::{Name, RegistryError};
use crate::guest::call::kinds::{Bytes, Length, OutU64};
use crate::guest::{Call, Failure};
use lunatic_process::Pid;

pub(super) fn put(
    call: &mut Call<'_>,
    name: Bytes,
    length: Length,
    _node: u64,
    process: Pid,
) -> Result<(), Failure> {
    let text = call.short_text(name, length, MAX_TEXT)?;
    let name = Name::unversioned(&text).map_err(Failure::trap)?;
    let registrar = call.guest().process().pid();
    match call
        .guest()
        .environment()
        .register(&name, process, registrar)
    {
        // Who registers the dead has lost a race; whoever looks the name up finds nobody, which is the truth.
        Ok(()) | Err(RegistryError::NoProcess(_)) => Ok(()),
        Err(error) => Err(Failure::trap(error)),
    }
}

pub(super) fn get(
    call: &mut Call<'_>,
    name: Bytes,
    length: Length,
    node: OutU64,
    process: OutU64,
) -> Result<i32, Failure> {
    let (node, process) = (call.place::<8>(node.0)?, call.place::<8>(process.0)?);
    let text = call.short_text(name, length, MAX_TEXT)?;
    let Ok(found) = call.guest().environment().lookup(&text, "*") else {
        return Ok(1);
    };
    call.put(node, THIS_NODE.to_le_bytes());
    call.put(process, found.number().to_le_bytes());
    Ok(0)
}

pub(super) fn remove(call: &mut Call<'_>, name: Bytes, length: Length) -> Result<(), Failure> {
    let text = call.short_text(name, length, MAX_TEXT)?;
    let name = Name::unversioned(&text).map_err(Failure::trap)?;
    let caller = call.guest().process().pid();
    match call.guest().environment().unregister(&name, caller) {
        Ok(()) | Err(RegistryError::NotFound(_)) => Ok(()),
        Err(error) => Err(Failure::trap(error)),
    }
}
