//! The names and the DWARF in a module that traps. They come from the guest, and the machine reads
//! them to describe the trap.

use super::{VM, assert_no_fault};
use lunatic_vm::{Exit, Limit, source_locations};
use wasm_encoder::{
    CodeSection, CustomSection, ExportKind, ExportSection, Function, FunctionSection, Module,
    TypeSection,
};

/// The sections that the machine reads, in the order in which the input fills them.
const SECTIONS: [&str; 8] = [
    "name",
    ".debug_info",
    ".debug_abbrev",
    ".debug_line",
    ".debug_str",
    ".debug_ranges",
    ".debug_line_str",
    ".debug_rnglists",
];

/// The input contains, for each section, a 16-bit length and the section's bytes. The last section
/// is made up of the remaining bytes.
pub(crate) fn run(bytes: &[u8]) {
    let wasm = trapping_module(bytes);
    for offset in 0..wasm.len().min(64) {
        let _ = source_locations(&wasm, offset);
    }
    let Ok(module) = VM.module("fuzz", &wasm) else {
        return;
    };
    let mut config = VM.config();
    config.limit(Limit::Time, 1_000);
    let process = VM
        .environment(config)
        .spawn(&module, "main", &[])
        .expect("no limit applies to one process");
    let exit = VM.block_on(process.exited());
    assert_no_fault(&exit);
    let Exit::Trapped(trap) = &exit else {
        panic!("a program that executes `unreachable` did not trap: {exit}");
    };
    for frame in trap.frames() {
        assert!(
            frame.function.len() <= 4_096,
            "a name of {} bytes in a trap",
            frame.function.len()
        );
        let _ = trap.locations(&frame);
    }
}

/// Returns a module whose `main` traps, with the custom sections described by the input.
fn trapping_module(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    functions.function(0).function(0);
    let mut exports = ExportSection::new();
    exports.export("main", ExportKind::Func, 0);
    let mut code = CodeSection::new();
    let mut outer = Function::new([]);
    outer.instructions().call(1).end();
    let mut inner = Function::new([]);
    inner.instructions().unreachable().end();
    code.function(&outer).function(&inner);
    let mut module = Module::new();
    module
        .section(&types)
        .section(&functions)
        .section(&exports)
        .section(&code);
    for name in SECTIONS {
        let Some((length, rest)) = bytes.split_first_chunk() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (data, rest) = rest.split_at(length);
        module.section(&CustomSection {
            name: name.into(),
            data: data.into(),
        });
        bytes = rest;
    }
    module.finish()
}
