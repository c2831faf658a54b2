//! Determines how guests end.

use crate::guest::{Guest, Rejected};
use crate::module::Module;
use lunatic_abi::Limit;
use lunatic_process::{Exit, LimitReached, RawFrame, Trap};
use std::sync::Arc;
use wasmtime::WasmBacktrace;
use wasmtime_wasi::I32Exit;

/// Returns the exit for a guest that stopped with the given error.
pub(super) fn exit_of(guest: &Guest, error: &wasmtime::Error) -> Exit {
    if let Some(exit) = end_of(guest, error) {
        return exit;
    }
    let module = guest.module();
    let symbols = Module::symbols(module, guest.environment().code());
    let stack = stack(error, module);
    let trap = Trap::new(cut(reason(error)), stack, Some(symbols));
    Exit::Trapped(Arc::new(trap))
}

/// Returns the exit for a guest that stopped with the given error, or `None` if the guest simply
/// trapped.
pub(crate) fn end_of(guest: &Guest, error: &wasmtime::Error) -> Option<Exit> {
    // A host call noticed that the process is about to die.
    if let Some(exit) = guest.process().cell().ending() {
        return Some(exit);
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return Some(if *status == 0 {
            Exit::Normal
        } else {
            Exit::Status(*status)
        });
    }
    if let Some(Rejected(reached)) = error.downcast_ref() {
        return Some(Exit::Limit(*reached));
    }
    if let Some(reached) = error.downcast_ref::<LimitReached>() {
        return Some(Exit::Limit(*reached));
    }
    if let Some(wasmtime::Trap::OutOfFuel) = error.downcast_ref() {
        let allowed = guest.environment().limits().get(Limit::Compute);
        return Some(Exit::Limit(LimitReached {
            limit: Limit::Compute,
            allowed,
            wanted: None,
        }));
    }
    // A program that cannot get memory usually gives up. Report the lack of memory as the cause, no
    // matter how the program gives up.
    guest.refused().map(Exit::Limit)
}

/// Returns an error's causes, without the backtrace, as one sentence.
fn reason(error: &wasmtime::Error) -> String {
    if let Some(trap) = error.downcast_ref::<wasmtime::Trap>() {
        return trap.to_string();
    }
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let sentences: Vec<&str> = causes
        .iter()
        .map(String::as_str)
        .filter(|cause| !cause.starts_with("error while executing"))
        .collect();
    sentences.join(": ")
}

/// The maximum length of a reason, in bytes. It is limited because reasons can quote text supplied
/// by the guest.
const MAX_REASON: usize = 2048;

fn cut(mut reason: String) -> String {
    if reason.len() > MAX_REASON {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        reason.push('…');
        reason.shrink_to_fit();
    }
    reason
}

/// The maximum length of a function name stored in a trap, in bytes.
const MAX_NAME: usize = 256;

/// Records the functions on the stack. Does not look up anything, because linked and monitoring
/// processes are not notified until this returns.
fn stack(error: &wasmtime::Error, module: Option<&Module>) -> Vec<RawFrame> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let has_symbols = module.is_some_and(Module::has_symbols);
    let name = |name: &str| name[..name.floor_char_boundary(MAX_NAME)].into();
    let frame = |frame: &wasmtime::FrameInfo| RawFrame {
        function: frame.func_index(),
        name: frame.func_name().filter(|_| !has_symbols).map(name),
        // In a module without symbols, offsets in the compiled module do not match those in the
        // module's file.
        offset: frame
            .module_offset()
            .filter(|_| has_symbols || module.is_none())
            .and_then(|offset| u32::try_from(offset).ok()),
    };
    backtrace.frames().iter().map(frame).collect()
}
