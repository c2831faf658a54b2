//! What guests call.
//!
//! The functions are the rows of [`lunatic_abi`]'s tables; the macros below make a linker out of each. A row `name` of the
//! group `"…" as file` is the function `name` in `host/file.rs`; where it can often answer without waiting, `at_once::name`
//! there tries that first, and the future that waits is made only where it says `None`. What only the older generation has is
//! in `host/older/`. Beside the rows stand WASI preview 1 and what the embedder adds with [`Host`].

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
mod socket;
mod sqlite;
mod tcp;
mod timer;
mod tls;
mod trap;
mod udp;
mod version;
mod wasi;

pub use embedder::Host;

use crate::guest::call::{kinds, kinds::Kind};
use crate::guest::{Call, Guest};
use crate::run::Linkers;
use lunatic_abi::Generation;
use wasmtime::{Caller, Linker, Store, component};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2;

/// Returns the names of all functions that every machine has, as `namespace::name`.
pub(crate) fn names() -> wasmtime::Result<Vec<String>> {
    let rows = Generation::ALL
        .into_iter()
        .flat_map(Generation::host_functions);
    let mut names: Vec<String> = rows
        .map(|row| format!("{}::{}", row.namespace, row.name))
        .collect();
    // The names of WASI's functions are known to its linker only.
    let engine = wasmtime::Engine::default();
    let mut linker: Linker<WasiP1Ctx> = Linker::new(&engine);
    wasi::link_all(&mut linker, |context| context)?;
    let mut store = Store::new(&engine, WasiCtxBuilder::new().build_p1());
    names.extend(
        linker
            .iter(&mut store)
            .map(|(namespace, name, _)| format!("{namespace}::{name}")),
    );
    names.extend(COMPONENT_GRANTS.map(String::from));
    Ok(names)
}

/// Links what every machine has, and what the embedder adds, for one engine.
pub(crate) fn link(engine: &wasmtime::Engine, own: &Host) -> wasmtime::Result<Linkers> {
    let core = |generation| {
        let mut linker = Linker::new(engine);
        wasi::link(&mut linker)?;
        match generation {
            Generation::V0_13 => link_newest(&mut linker)?,
            Generation::V0_7 => older::link(&mut linker)?,
            Generation::V0_6 => older::link_0_6(&mut linker)?,
        }
        own.link(&mut linker)?;
        Ok(linker)
    };
    let mut components = component::Linker::new(engine);
    p2::add_to_linker_async(&mut components)?;
    own.link_components(&mut components)?;
    let core: wasmtime::Result<_> = Generation::ALL.into_iter().map(core).collect();
    Ok(Linkers {
        core: core?,
        components,
    })
}

/// Adds the rows of the table.
fn link_newest(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lunatic_abi::for_each_host_function!(link_rows);
    add_rows(linker)
}

/// The parts of WASI 0.2 that an environment grants to its components one by one; see [`crate::Component`].
pub(crate) const COMPONENT_GRANTS: [&str; 3] = ["wasi:cli", "wasi:filesystem", "wasi:sockets"];

macro_rules! link_rows {
    ($($(#[$about:meta])* $namespace:literal as $module:ident {
        $($(#[$doc:meta])* $mode:ident $name:ident($($parameter:ident: $kind:ident),*) $(-> $result:ident)?;)*
    })*) => {
        fn add_rows(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
            $($(link_row!($mode linker, $namespace, $module, $name, ($($parameter: $kind),*));)*)*
            Ok(())
        }
    };
}

macro_rules! link_row {
    (now $linker:ident, $namespace:literal, $module:ident, $name:ident, ($($parameter:ident: $kind:ident),*)) => {
        $linker.func_wrap(
            $namespace,
            stringify!($name),
            |caller: Caller<'_, Guest>, $($parameter: <kinds::$kind as Kind>::Raw),*| {
                let mut call = Call::new(caller);
                let answer = $module::$name(&mut call, $(<kinds::$kind as Kind>::new($parameter)),*);
                call.finish(answer, concat!($namespace, "::", stringify!($name)))
            },
        )?
    };
    (soon $linker:ident, $namespace:literal, $module:ident, $name:ident, ($($parameter:ident: $kind:ident),*)) => {
        $linker.func_wrap_async(
            $namespace,
            stringify!($name),
            |caller: Caller<'_, Guest>, ($($parameter,)*): ($(<kinds::$kind as Kind>::Raw,)*)| {
                let mut call = Call::new(caller);
                let answer = $module::at_once::$name(&mut call, $(<kinds::$kind as Kind>::new($parameter)),*);
                if let Some(answer) = answer.transpose() {
                    let answer = call.finish(answer, concat!($namespace, "::", stringify!($name)));
                    return Box::new(std::future::ready(answer));
                }
                Box::new(async move {
                    let answer = $module::$name(&mut call, $(<kinds::$kind as Kind>::new($parameter)),*).await;
                    call.finish(answer, concat!($namespace, "::", stringify!($name)))
                })
            },
        )?
    };
    (wait $linker:ident, $namespace:literal, $module:ident, $name:ident, ($($parameter:ident: $kind:ident),*)) => {
        $linker.func_wrap_async(
            $namespace,
            stringify!($name),
            |caller: Caller<'_, Guest>, ($($parameter,)*): ($(<kinds::$kind as Kind>::Raw,)*)| {
                Box::new(async move {
                    let mut call = Call::new(caller);
                    let answer = $module::$name(&mut call, $(<kinds::$kind as Kind>::new($parameter)),*).await;
                    call.finish(answer, concat!($namespace, "::", stringify!($name)))
                })
            },
        )?
    };
}

use {link_row, link_rows};
