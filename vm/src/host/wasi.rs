//! `lunatic::wasi`: what a configuration gives a program.
//!
//! The functions of WASI itself are `wasmtime-wasi`'s.

use super::call::kinds::{Bytes, ConfigId, Length};
use super::process::config;
use super::{Call, Failure};
use lunatic_abi::Limit;

/// The longest argument, name or value, in bytes, and the most of each.
const MAX_TEXT: u32 = 128 << 10;
const MAX_ENTRIES: usize = 4096;

pub(super) fn config_add_environment_variable(
    call: &mut Call<'_>,
    id: ConfigId,
    key: Bytes,
    key_length: Length,
    value: Bytes,
    value_length: Length,
) -> Result<(), Failure> {
    let key = call.short_text(key, key_length, MAX_TEXT)?;
    let value = call.short_text(value, value_length, MAX_TEXT)?;
    if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
        return Err(Failure::trap(
            "a variable's name is not empty and has no `=`; neither name nor value has a zero byte",
        ));
    }
    let config = config(call, id)?;
    room_for(config.variables.len(), "variables")?;
    config.variable(&key, &value);
    Ok(())
}

pub(super) fn config_add_command_line_argument(
    call: &mut Call<'_>,
    id: ConfigId,
    argument: Bytes,
    length: Length,
) -> Result<(), Failure> {
    let argument = call.short_text(argument, length, MAX_TEXT)?;
    if argument.contains('\0') {
        return Err(Failure::trap("an argument has no zero byte"));
    }
    let config = config(call, id)?;
    room_for(config.arguments.len(), "arguments")?;
    config.argument(&argument);
    Ok(())
}

pub(super) fn config_preopen_dir(
    call: &mut Call<'_>,
    id: ConfigId,
    directory: Bytes,
    length: Length,
) -> Result<(), Failure> {
    let directory = call.short_text(directory, length, MAX_TEXT)?;
    let held = config(call, id)?.preopens.len();
    let allowed = call.guest().environment().limits().get(Limit::Files);
    if held as u64 >= allowed {
        return Err(Failure::trap(format!("a configuration has at most {allowed} directories")));
    }
    let preopen = call.guest().environment().config().preopen_within(&directory).map_err(Failure::trap)?;
    config(call, id)?.preopens.push(preopen);
    Ok(())
}

fn room_for(held: usize, what: &str) -> Result<(), Failure> {
    if held < MAX_ENTRIES {
        return Ok(());
    }
    Err(Failure::trap(format!("a configuration has at most {MAX_ENTRIES} {what}")))
}
