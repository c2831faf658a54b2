//! Host functions for older guests: the functions imported by guests built with version 0.6 or 0.7
//! of the published `lunatic` crate, and the functions whose types differ in 0.10 to 0.12.
//! Functions that behave the same in several generations share the newest implementation; all
//! others are in this module.

mod distributed_request;
mod environments;
mod handles;
mod mail;
mod names;
mod older_version;
mod request;
mod sockets;
mod tagged_mail;

use super::rows::{AsyncRow, link_row, link_rows, raw};
use super::{dns, error, message, process, tcp};
use crate::guest::call::{Answer, Rest};
use crate::guest::kinds::{self, Kind};
use crate::guest::{Call, Guest};
use wasmtime::{Caller, Linker};

/// Adds the older-generation functions for guests built with 0.7.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lunatic_abi::for_each_older_host_function!(link_rows);
    add_rows(linker)
}

/// Adds the older-generation functions for guests built with 0.6.
pub(super) fn link_0_6(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lunatic_abi::for_each_host_function_of_0_6!(link_rows);
    link(linker)?;
    replace(linker, add_rows)
}

/// Replaces the functions in the newest table whose types differ in 0.12.
pub(super) fn link_0_12(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lunatic_abi::for_each_host_function_of_0_12!(link_rows);
    replace(linker, add_rows)
}

/// Replaces the functions in 0.12 whose types differ in 0.10.
pub(super) fn link_0_10(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lunatic_abi::for_each_host_function_of_0_10!(link_rows);
    link_0_12(linker)?;
    replace(linker, add_rows)
}

/// Replaces existing functions with the same names.
fn replace(
    linker: &mut Linker<Guest>,
    add_rows: fn(&mut Linker<Guest>) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    add_rows(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}
