//! The older generation of host functions, which guests built with version 0.6 or 0.7 of the
//! published crate `lunatic` import. Functions with the same meaning in both generations use the
//! newer implementation. All other functions are in this module.

mod environments;
mod handles;
mod mail;
mod names;
mod older_version;
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
    linker.allow_shadowing(true);
    add_rows(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}
