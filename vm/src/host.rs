//! The host functions that guests call.
//!
//! The functions are declared in the tables in [`lunatic_abi`], which the macros in `rows` turn
//! into linkers. A row `name` in the group `"…" as file` is implemented by the function `name` in
//! `host/file.rs`. A function marked `soon` returns an [`Answer`], which contains a future only if
//! the result is not available yet. Functions that exist only in the older generation are in
//! `host/older/`. Guests can also call WASI functions and functions that the embedder adds with
//! [`Host`].

mod component;
mod distributed;
mod dns;
mod embedder;
mod environment;
mod error;
mod message;
mod metrics;
mod older;
mod process;
mod registry;
mod rows;
mod sqlite;
mod tcp;
mod timer;
mod tls;
mod trap;
mod udp;
mod version;
mod wasi;

pub use embedder::Host;

use crate::guest::call::{Answer, Rest};
use crate::guest::kinds::{self, Kind};
use crate::guest::{Call, Guest};
use crate::run::Linkers;
use lunatic_abi::Generation;
use rows::{AsyncRow, link_row, link_rows, raw};
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p2;

/// Returns the names of the functions that every machine provides, as `namespace::name`.
pub(crate) fn names() -> Vec<String> {
    let rows = Generation::ALL
        .into_iter()
        .flat_map(Generation::host_functions);
    let mut names: Vec<String> = rows
        .map(|row| format!("{}::{}", row.namespace, row.name))
        .collect();
    names.extend(wasi::names());
    names.extend(COMPONENT_GRANTS.map(String::from));
    names
}

/// Links the functions that every machine provides, and those that the embedder adds, for one
/// engine.
pub(crate) fn link(engine: &wasmtime::Engine, own: &Host) -> wasmtime::Result<Linkers> {
    let core = |generation| {
        let mut linker = Linker::new(engine);
        wasi::link(&mut linker)?;
        match generation {
            Generation::V0_13 => link_newest(&mut linker)?,
            Generation::V0_12 => {
                link_newest(&mut linker)?;
                older::link_0_12(&mut linker)?;
            }
            Generation::V0_10 => {
                link_newest(&mut linker)?;
                older::link_0_10(&mut linker)?;
            }
            Generation::V0_7 => older::link(&mut linker)?,
            Generation::V0_6 => older::link_0_6(&mut linker)?,
        }
        own.link(&mut linker)?;
        Ok(linker)
    };
    let mut components = wasmtime::component::Linker::new(engine);
    p2::add_to_linker_async(&mut components)?;
    component::link(&mut components)?;
    own.link_components(&mut components)?;
    let core: wasmtime::Result<_> = Generation::ALL.into_iter().map(core).collect();
    Ok(Linkers {
        core: core?,
        components,
    })
}

/// Adds the newest generation's functions.
fn link_newest(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lunatic_abi::for_each_host_function!(link_rows);
    add_rows(linker)
}

/// The parts of WASI 0.2 that an environment grants to its components individually; see
/// [`crate::Component`].
pub(crate) const COMPONENT_GRANTS: [&str; 3] = ["wasi:cli", "wasi:filesystem", "wasi:sockets"];
