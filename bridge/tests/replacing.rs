//! A file that is replaced again and again while its functions are called. Alone in its process, as it counts what that has
//! open.

use lunatic_bridge::{Bridge, Event, Worker};
use lunatic_vm::Vm;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

/// A module whose `version` answers with a number.
fn module(version: u32) -> String {
    format!(
        r#"(module
            (memory (export "memory") 1)
            (data (i32.const 0) "{version:3}")
            (func (export "version") (param $index i32) (param i32) (result i32)
                (memory.copy (local.get $index) (i32.const 0) (i32.const 3))
                (i32.const 3)))"#
    )
}

#[test]
fn replacing_the_file_a_hundred_times_under_load_loses_no_call_and_leaks_nothing() {
    let directory = tempfile::tempdir().expect("there is room for files");
    let (file, new) = (directory.path().join("module.wat"), directory.path().join("new"));
    fs::write(&file, module(0)).expect("the file can be written");
    let vm = Vm::builder().slots(64).build().expect("the machine can be set up");
    let bridge = Bridge::builder().vm(vm.clone());
    let worker = Worker::builder().bridge(bridge).start(&file).expect("the module is one");
    let events = worker.events();
    let is_over = AtomicBool::new(false);
    let (calls, descriptors) = std::thread::scope(|scope| {
        let calling: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut calls = 0u64;
                    while !is_over.load(Ordering::Relaxed) {
                        let version: u32 = worker.call("version", &()).expect("every call is answered");
                        assert!(version <= 100);
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        let mut descriptors = None;
        for replaced in 1..=100u32 {
            fs::write(&new, module(replaced)).expect("the file can be written");
            fs::rename(&new, &file).expect("the file can be renamed");
            let event = events.recv_blocking().expect("the worker lives");
            assert!(matches!(event, Event::Reloaded { version } if version == u64::from(replaced)), "{event:?}");
            if replaced == 10 {
                descriptors = open_descriptors();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let calls: u64 = calling.into_iter().map(|calls| calls.join().expect("no thread panics")).sum();
        (calls, descriptors)
    });
    assert!(calls >= 100, "{calls} calls went on beside a hundred versions");
    // What is being read at the moment is open too; a leak would be one of each of the ninety that came since.
    assert!(open_descriptors() <= descriptors.map(|descriptors| descriptors + 10), "{descriptors:?} before");
    drop(worker);
    for instance in vm.processes() {
        // Whoever still held one would be waited for in vain.
        assert!(vm.block_on(instance.exited()).is_normal());
    }
}

/// How many files this process has open, where that can be known.
fn open_descriptors() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count())
}
