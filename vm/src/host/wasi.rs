//! `lunatic::wasi`: the arguments, variables and directories of configurations, and WASI itself.
//!
//! `wasmtime-wasi` implements WASI: preview 1 and, for modules from before 2020, preview 0. Three
//! of its functions are replaced. Opening a file fails with an error that the guest can handle when
//! a limit is reached, random bytes are generated in pieces, and a program may exit with any
//! status.

#![expect(
    clippy::disallowed_methods,
    reason = "wasmtime-wasi checks every address itself"
)]

use crate::environment::{Config, MAX_RANDOM, PreopenError};
use crate::guest::kinds::{ConfigId, Text};
use crate::guest::{Call, Failure, Guest};
use crate::scheduler;
use lunatic_abi::Limit;
use std::sync::Arc;
use wasmtime::{AsContextMut, Caller, Linker};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p0::wasi_unstable as p0;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as p1;
use wiggle::GuestMemory;

/// A version of WASI for modules. The versions differ in a few types and numbers.
#[derive(Clone, Copy)]
enum Preview {
    Zero,
    One,
}

impl Preview {
    fn namespace(self) -> &'static str {
        match self {
            Preview::Zero => "wasi_unstable",
            Preview::One => "wasi_snapshot_preview1",
        }
    }
}

/// WASI's error numbers for success and "too many open files".
const SUCCESS: i32 = 0;
const MFILE: i32 = 33;

/// Adds the functions of `wasmtime-wasi`, which operate on the context that `context` returns.
pub(super) fn link_all<T: Send + 'static>(
    linker: &mut Linker<T>,
    context: impl Fn(&mut T) -> &mut WasiP1Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    wasmtime_wasi::p0::add_to_linker_async(linker, context)?;
    wasmtime_wasi::p1::add_to_linker_async(linker, context)
}

/// Adds WASI for modules.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    link_all(linker, |guest: &mut Guest| guest.wasi().begin_call())?;
    linker.allow_shadowing(true);
    for preview in [Preview::Zero, Preview::One] {
        let namespace = preview.namespace();
        linker.func_wrap(
            namespace,
            "proc_exit",
            |status: i32| -> wasmtime::Result<()> { Err(I32Exit(status).into()) },
        )?;
        linker.func_wrap_async(namespace, "path_open", move |caller, parameters| {
            Box::new(path_open(preview, caller, parameters))
        })?;
        // Both versions of these functions have the same parameters and results.
        linker.func_wrap_async(namespace, "random_get", |caller, parameters| {
            Box::new(random_get(caller, parameters))
        })?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// Returns the caller's memory and context for a function of `wasmtime-wasi`.
fn split<'a>(
    caller: &'a mut Caller<'_, Guest>,
) -> wasmtime::Result<(GuestMemory<'a>, &'a mut Guest)> {
    let memory = caller
        .get_export("memory")
        .and_then(wasmtime::Extern::into_memory);
    let memory = memory.ok_or_else(|| {
        wasmtime::Error::msg("the module exports no memory with the name `memory`")
    })?;
    let (bytes, guest) = memory.data_and_store_mut(caller);
    Ok((GuestMemory::Unshared(bytes), guest))
}

type PathOpen = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

async fn path_open(
    preview: Preview,
    mut caller: Caller<'_, Guest>,
    parameters: PathOpen,
) -> wasmtime::Result<i32> {
    let fuel = caller.as_context_mut().hostcall_fuel();
    let (mut memory, guest) = split(&mut caller)?;
    let wasi = guest.wasi();
    if !wasi.has_room_for_a_file() {
        return Ok(MFILE);
    }
    let context = wasi.begin_call();
    p1::WasiSnapshotPreview1::set_hostcall_fuel(context, fuel);
    let (directory, look_up, path, length, how, rights, inheriting, flags, out) = parameters;
    let memory = &mut memory;
    match preview {
        Preview::Zero => {
            p0::path_open(
                context, memory, directory, look_up, path, length, how, rights, inheriting, flags,
                out,
            )
            .await
        }
        Preview::One => {
            p1::path_open(
                context, memory, directory, look_up, path, length, how, rights, inheriting, flags,
                out,
            )
            .await
        }
    }
}

async fn random_get(
    mut caller: Caller<'_, Guest>,
    (address, length): (i32, i32),
) -> wasmtime::Result<i32> {
    let (start, length) = (address as u32 as usize, length as u32 as usize);
    let size = match split(&mut caller)?.0 {
        GuestMemory::Unshared(bytes) => bytes.len(),
        GuestMemory::Shared(bytes) => bytes.len(),
    };
    let Some(end) = start.checked_add(length).filter(|&end| end <= size) else {
        return Err(wasmtime::Error::msg(format!(
            "bad pointer: {length} bytes at {start} lie outside the memory"
        )));
    };
    for piece in (start..end).step_by(MAX_RANDOM) {
        if piece != start {
            // Generating a piece takes as long as a slice.
            scheduler::spent().await;
        }
        let length = MAX_RANDOM.min(end - piece);
        let (mut memory, guest) = split(&mut caller)?;
        let errno = p1::random_get(
            guest.wasi().begin_call(),
            &mut memory,
            piece as i32,
            length as i32,
        )?;
        if errno != SUCCESS {
            return Ok(errno);
        }
    }
    Ok(SUCCESS)
}

/// The maximum total size of a configuration's arguments and of its variables' names and values, in
/// bytes, and the maximum number of each.
const MAX_TEXT: usize = 128 << 10;
const MAX_ENTRIES: usize = 4096;

pub(super) fn config_add_environment_variable(
    call: &mut Call<'_>,
    id: ConfigId,
    key: Text,
    value: Text,
) -> Result<(), Failure> {
    let key = call.short_text(key, MAX_TEXT)?;
    let value = call.short_text(value, MAX_TEXT)?;
    if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
        return Err(Failure::trap(
            "a variable's name is not empty and has no `=`; neither name nor value has a zero byte",
        ));
    }
    let config = call.config(id)?;
    room_for(
        config,
        config.variables.len(),
        "variables",
        key.len() + value.len(),
    )?;
    call.charge_config(id, key.len() + value.len())?;
    call.config(id)?.variable(&key, &value);
    Ok(())
}

pub(super) fn config_add_command_line_argument(
    call: &mut Call<'_>,
    id: ConfigId,
    argument: Text,
) -> Result<(), Failure> {
    let argument = call.short_text(argument, MAX_TEXT)?;
    if argument.contains('\0') {
        return Err(Failure::trap("an argument has no zero byte"));
    }
    let config = call.config(id)?;
    room_for(config, config.arguments.len(), "arguments", argument.len())?;
    call.charge_config(id, argument.len())?;
    call.config(id)?.argument(&argument);
    Ok(())
}

pub(super) async fn config_preopen_dir(
    call: &mut Call<'_>,
    id: ConfigId,
    directory: Text,
) -> Result<(), Failure> {
    preopen(call, id, directory).await?.map_err(Failure::trap)
}

/// The number of descriptors that an added directory takes: one for the directory itself, and one
/// for `wasmtime-wasi`.
const DESCRIPTORS_OF_DIRECTORY: u64 = 2;

/// The size of an added directory in the host's memory in addition to its path, in bytes.
const SIZE_OF_DIRECTORY: usize = 512;

/// Grants a configuration a directory inside one of the caller's.
pub(super) async fn preopen(
    call: &mut Call<'_>,
    id: ConfigId,
    directory: Text,
) -> Result<Result<(), PreopenError>, Failure> {
    let directory = call.short_text(directory, MAX_TEXT)?;
    let held = call.config(id)?.preopens.len();
    let allowed = call.guest().environment().limits().get(Limit::Files);
    if held as u64 >= allowed {
        return Err(Failure::trap(format!(
            "a configuration has at most {allowed} directories"
        )));
    }
    let permit = call
        .guest()
        .domain()
        .quota()
        .permit(Limit::Descriptors, DESCRIPTORS_OF_DIRECTORY)
        .map_err(Failure::limit)?;
    call.charge_config(id, directory.len() + SIZE_OF_DIRECTORY)?;
    let outer = call.guest().domain().config().preopens.clone();
    let mut preopens = call.config(id)?.preopens.clone();
    // Looking up a path can take any amount of time, depending on the file system.
    let added =
        blocking::unblock(move || preopens.add_from(&outer, &directory).map(|()| preopens)).await;
    let config = call.config(id)?;
    Ok(added.map(|preopens| {
        // A directory that replaces another directory takes over the share of that directory.
        if preopens.len() > config.preopens.len() {
            config.descriptors.push(Arc::new(permit));
        }
        config.preopens = preopens;
    }))
}

/// Checks that a configuration has room for another text of this many bytes.
fn room_for(config: &Config, held: usize, what: &str, bytes: usize) -> Result<(), Failure> {
    if held >= MAX_ENTRIES {
        return Err(Failure::trap(format!(
            "a configuration has at most {MAX_ENTRIES} {what}"
        )));
    }
    let variables = config
        .variables
        .iter()
        .map(|(name, value)| name.len() + value.len());
    let texts: usize = config
        .arguments
        .iter()
        .map(String::len)
        .chain(variables)
        .sum();
    if texts + bytes > MAX_TEXT {
        return Err(Failure::trap(format!(
            "a configuration has at most {MAX_TEXT} bytes of texts"
        )));
    }
    Ok(())
}
