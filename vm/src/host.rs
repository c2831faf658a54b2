//! What guests call.
//!
//! The functions are the rows of [`lunatic_abi`]'s table; the macros below make a linker out of them. A row `name` of the
//! group `"…" as file` is the function `name` in `host/file.rs`; where it can often answer without waiting, `at_once::name`
//! there tries that first, and the future that waits is made only where it says `None`. Beside the rows stand WASI preview 1 and what the embedder
//! adds with [`Host`].

mod call;
mod embedder;
mod guest;
mod meter;

mod dns;
mod environment;
mod error;
mod message;
mod process;
mod registry;
mod sqlite;
mod tcp;
mod timer;
mod version;
mod wasi;

pub use call::{Call, Failure};
pub use embedder::Host;
pub use guest::Guest;
pub(crate) use guest::Origin;
pub(crate) use meter::Rejected;

use call::{kinds, kinds::Kind};
use lunatic_abi::HOST_FUNCTIONS;
use wasmtime::{Caller, Linker, Store, component};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2;

/// Returns the names of all functions that every machine has, as `namespace::name`.
pub(crate) fn names() -> wasmtime::Result<Vec<String>> {
    let rows = HOST_FUNCTIONS.iter().map(|row| format!("{}::{}", row.namespace, row.name));
    let mut names: Vec<String> = rows.collect();
    // The names of WASI's functions are known to its linker only.
    let engine = wasmtime::Engine::default();
    let mut linker: Linker<WasiP1Ctx> = Linker::new(&engine);
    p1::add_to_linker_async(&mut linker, |context| context)?;
    let mut store = Store::new(&engine, WasiCtxBuilder::new().build_p1());
    names.extend(linker.iter(&mut store).map(|(namespace, name, _)| format!("{namespace}::{name}")));
    names.extend(COMPONENT_GRANTS.map(String::from));
    Ok(names)
}

/// Adds all functions that every machine has.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasi::link(linker)?;
    lunatic_abi::for_each_host_function!(link_rows);
    add_rows(linker)
}

/// The parts of WASI 0.2 that an environment grants to its components one by one; see [`crate::Component`].
pub(crate) const COMPONENT_GRANTS: [&str; 3] = ["wasi:cli", "wasi:filesystem", "wasi:sockets"];

/// Adds all that every component can import.
pub(crate) fn link_components(linker: &mut component::Linker<Guest>) -> wasmtime::Result<()> {
    p2::add_to_linker_async(linker)
}

/// Returns the error of a call that the environment does not grant.
pub(crate) fn denied(name: &str) -> wasmtime::Error {
    wasmtime::Error::msg(format!(
        "the environment does not grant `{name}`; grant it with `--allow {name}` or `Config::allow_namespace(\"{name}\")`"
    ))
}

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
