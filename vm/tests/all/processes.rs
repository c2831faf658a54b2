//! Processes: spawned, ended, killed.

use crate::support::{Lab, guest};
use lunatic_vm::Exit;

#[test]
fn a_process_runs_and_ends() {
    let lab = Lab::new();
    let exit = lab.run(&guest(&[], r#"(func (export "main") (call $say (i64.const 42)))"#));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear(), 42);
}

#[test]
fn t004_a_spinning_process_is_killed_within_two_ticks() {
    let lab = Lab::manual(1);
    let process = lab.spawn(&guest(&[], r#"(func (export "main") (call $say (i64.const 1)) (loop br 0))"#));
    lab.hear();
    process.kill();
    lab.vm.beat();
    lab.vm.beat();
    assert!(matches!(lab.exit(&process), Exit::Killed));
}
