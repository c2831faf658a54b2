//! Untrusted modules and components. Loading must return a module or an error, and a module that
//! has been loaded must be able to start.

use super::{VM, assert_no_fault};
use lunatic_vm::{CompileLimits, Limit};

pub(crate) fn run(bytes: &[u8]) {
    let limits = CompileLimits {
        function_work: 200_000,
        work: 500_000,
        ..CompileLimits::default()
    };
    if limits.check(bytes).is_err() {
        return;
    }
    if let Ok(module) = VM.module("fuzz", bytes) {
        start(&module);
    }
    // wasmtime decides whether the component is valid. Either way, loading must not panic.
    let _ = VM.component("fuzz", bytes);
}

/// Runs the first function that has no parameters, within limits.
fn start(module: &lunatic_vm::Module) {
    let mut config = VM.config();
    config
        .limit(Limit::Time, 20)
        .limit(Limit::Compute, 100)
        .limit(Limit::Memory, 1 << 20);
    let environment = VM.environment(config);
    let names = module.functions();
    for name in names.take(2) {
        if let Ok(process) = environment.spawn(module, name, &[]) {
            assert_no_fault(&VM.block_on(process.exited()));
        }
    }
}
