//! The older generations of host functions: those that guests built with version 0.6 or 0.7 of the
//! published crate `lunatic` import, and those that guests of 0.10 to 0.12 import with different
//! types. Functions with the same meaning in several generations use the newest implementation. All
//! other functions are in this module.

mod distributed_request;
mod environments;
mod handles;
mod mail;
mod names;
mod older_version;
mod request;
mod sockets;
mod tagged_mail;

use super::rows::{link_row, link_rows, raw};
use super::{dns, error, message, process, tcp};
use crate::guest::kinds::{self, Kind};
use crate::guest::{Call, Guest};
use wasmtime::{Caller, Linker};

/// Adds the functions of the older generation for guests of 0.7.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lunatic_abi::for_each_older_host_function!(link_rows);
    add_rows(linker)
}

/// Adds the functions of the older generation for guests of 0.6.
pub(super) fn link_0_6(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lunatic_abi::for_each_host_function_of_0_6!(link_rows);
    link(linker)?;
    replace(linker, add_rows)
}

/// Replaces the functions of the newest table that guests of 0.12 import with a different type.
pub(super) fn link_0_12(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lunatic_abi::for_each_host_function_of_0_12!(link_rows);
    replace(linker, add_rows)
}

/// Replaces the functions of 0.12 that guests of 0.10 import with a different type.
pub(super) fn link_0_10(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lunatic_abi::for_each_host_function_of_0_10!(link_rows);
    link_0_12(linker)?;
    replace(linker, add_rows)
}

/// Adds functions in place of existing functions with the same names.
fn replace(
    linker: &mut Linker<Guest>,
    add_rows: fn(&mut Linker<Guest>) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    add_rows(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}
