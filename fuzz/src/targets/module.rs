//! Untrusted modules and components. Loading must yield a module or an error, and a module that was
//! loaded must be able to start.

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
    // Wasmtime decides whether the component is valid. In either case, loading must not panic.
    let _ = VM.component("fuzz", bytes);
}

/// Runs the first function without parameters, within limits.
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
