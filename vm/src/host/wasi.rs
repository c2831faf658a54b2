//! `lunatic::wasi` (a configuration's arguments, environment variables and directories) and WASI
//! itself: preview 1 and, for modules from before 2020, preview 0.

mod call;
mod files;
mod link;
mod paths;
mod poll;
mod program;
mod streams;
mod transfer;

pub(super) use link::{link, names};

use crate::environment::{Config, PreopenError};
use crate::guest::kinds::{ConfigId, Text};
use crate::guest::{Call, Failure};
use crate::unblock::unblock;
use lunatic_abi::Limit;
use std::sync::Arc;

/// The maximum total size of a configuration's arguments and of its environment variables, in
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
            "a variable's name must not be empty or contain `=`; neither name nor value may contain a zero byte",
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
        return Err(Failure::trap("an argument must not contain a zero byte"));
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

/// The number of descriptors that an added directory uses: one for the directory itself, and one
/// for components.
const DESCRIPTORS_OF_DIRECTORY: u64 = 2;

/// The size of an added directory in host memory, excluding its path, in bytes.
const SIZE_OF_DIRECTORY: usize = 512;

/// Grants a configuration access to a directory inside one of the caller's directories.
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
            "a configuration can have at most {allowed} directories"
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
    // Depending on the file system, looking up a path can take arbitrarily long.
    let add = move || {
        preopens.add_from(&outer, &directory, Some(Arc::new(permit)))?;
        Ok(preopens)
    };
    let added = unblock(add).await;
    let config = call.config(id)?;
    Ok(added.map(|preopens| config.preopens = preopens))
}

/// Checks that another string of `bytes` bytes fits into a configuration.
fn room_for(config: &Config, held: usize, what: &str, bytes: usize) -> Result<(), Failure> {
    if held >= MAX_ENTRIES {
        return Err(Failure::trap(format!(
            "a configuration can have at most {MAX_ENTRIES} {what}"
        )));
    }
    if config.texts + bytes > MAX_TEXT {
        return Err(Failure::trap(format!(
            "a configuration can have at most {MAX_TEXT} bytes of strings"
        )));
    }
    Ok(())
}
