//! The functions under test, one file each.

pub(crate) mod bridge_frames;
pub(crate) mod debug_info;
pub(crate) mod host_interface;
pub(crate) mod http_framing;
pub(crate) mod manifest;
pub(crate) mod module;
pub(crate) mod project;

use lunatic_vm::{Exit, Vm};
use std::sync::LazyLock;

/// The VM shared by all inputs of a run. Its threads end with the program.
static VM: LazyLock<Vm> = LazyLock::new(|| {
    let builder = Vm::builder().workers(1).slots(64);
    builder.build().expect("the configuration is valid")
});

/// Fails if a process ended because of a bug in the machine.
fn assert_no_fault(exit: &Exit) {
    match exit {
        Exit::Fault(fault) => panic!("the machine failed: {fault}"),
        Exit::LinkDied { exit, .. } => assert_no_fault(exit),
        _ => {}
    }
}
