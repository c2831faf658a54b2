//! The older generations: the one that guests of the published crate `lunatic` 0.6 and 0.7 import,
//! and what guests of 0.10 to 0.12 import with other types. Functions with the same meaning in
//! several generations use the newest implementation; the rest is here.

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

/// Replaces the rows of the newest table that guests of 0.12 import with another type.
pub(super) fn link_0_12(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lunatic_abi::for_each_host_function_of_0_12!(link_rows);
    replace(linker, add_rows)
}

/// Replaces the rows of 0.12 that guests of 0.10 import with another type.
pub(super) fn link_0_10(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lunatic_abi::for_each_host_function_of_0_10!(link_rows);
    link_0_12(linker)?;
    replace(linker, add_rows)
}

/// Adds rows in place of others with the same names.
fn replace(
    linker: &mut Linker<Guest>,
    add_rows: fn(&mut Linker<Guest>) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    add_rows(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}
