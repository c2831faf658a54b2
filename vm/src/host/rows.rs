//! Macros that build linkers from the tables of host functions.
//!
//! A file that uses these macros must import `AsyncRow`, `Call`, `Guest`, `Kind`, `kinds` and the
//! modules named in the rows.

use crate::guest::Guest;
use wasmtime::Caller;

macro_rules! link_rows {
    ($($(#[$about:meta])* $namespace:literal as $module:ident {
        $($(#[$doc:meta])* $mode:ident $name:ident($($parameter:ident: $kind:ident),*) $(-> $result:ident)?;)*
    })*) => {
        fn add_rows(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
            $($(lunatic_abi::as_wasm_parameters! {
                link_row! ($mode linker $namespace $module $name) ($($parameter: $kind),*)
            })*)*
            Ok(())
        }
    };
}

macro_rules! link_row {
    (
        (now $linker:ident $namespace:literal $module:ident $name:ident)
        $(($kind:ident: $($wire:ident: $part:ident),+))*
    ) => {
        let row: fn(Caller<'_, Guest>, $($(raw!($kind $wire)),+),*) -> wasmtime::Result<_> =
            |caller, $($($wire),+),*| {
                let mut call = Call::new(caller);
                let result = $module::$name(&mut call, $(<kinds::$kind as Kind>::new([$($wire),+])),*);
                call.finish(result, concat!($namespace, "::", stringify!($name)))
            };
        $linker.func_wrap($namespace, stringify!($name), row)?;
    };
    (
        (soon $linker:ident $namespace:literal $module:ident $name:ident)
        $(($kind:ident: $($wire:ident: $part:ident),+))*
    ) => {
        let row: AsyncRow<($($(raw!($kind $wire),)+)*), _> =
            |caller, ($($($wire,)+)*)| {
                const NAME: &str = concat!($namespace, "::", stringify!($name));
                let mut call = Call::new(caller);
                let answer = $module::$name(&mut call, $(<kinds::$kind as Kind>::new([$($wire),+])),*);
                let result = match answer {
                    Ok(Answer::Later(rest)) => {
                        return Box::new(async move {
                            let result = rest.finish(&mut call).await;
                            call.finish(result, NAME)
                        });
                    }
                    Ok(Answer::Now(result)) => Ok(result),
                    Err(failure) => Err(failure),
                };
                Box::new(std::future::ready(call.finish(result, NAME)))
            };
        $linker.func_wrap_async($namespace, stringify!($name), row)?;
    };
    (
        (wait $linker:ident $namespace:literal $module:ident $name:ident)
        $(($kind:ident: $($wire:ident: $part:ident),+))*
    ) => {
        let row: AsyncRow<($($(raw!($kind $wire),)+)*), _> =
            |caller, ($($($wire,)+)*)| {
                Box::new(async move {
                    let mut call = Call::new(caller);
                    let result = $module::$name(&mut call, $(<kinds::$kind as Kind>::new([$($wire),+])),*).await;
                    call.finish(result, concat!($namespace, "::", stringify!($name)))
                })
            };
        $linker.func_wrap_async($namespace, stringify!($name), row)?;
    };
}

/// The types of the wasm parameters for a kind.
macro_rules! raw {
    ($kind:ident $wire:ident) => {
        <kinds::$kind as Kind>::Raw
    };
}

/// A row that may wait. Rows are function pointers, not closures, so that wasmtime's code for entering
/// host functions is compiled once per signature instead of once per row.
pub(super) type AsyncRow<P, R> =
    for<'a> fn(Caller<'a, Guest>, P) -> Box<dyn Future<Output = wasmtime::Result<R>> + Send + 'a>;

pub(super) use {link_row, link_rows, raw};
