//! Replaces a file repeatedly while its functions are being called. The test runs in its own
//! process because it measures the resources held by the process.

use lunatic_bridge::{Bridge, Event, Worker};
use lunatic_vm::Vm;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

/// Returns a module whose `version` function returns a number. The module is a megabyte in size, so
/// that a leak is measurable.
fn module(version: u32) -> String {
    let ballast = format!("{version:4}").repeat(1 << 18);
    format!(
        r#"(module
            (memory (export "memory") 17)
            (data (i32.const 0) "{version:3}")
            (data (i32.const 65536) "{ballast}")
            (func (export "version") (param $index i32) (param i32) (result i32)
                (memory.copy (local.get $index) (i32.const 0) (i32.const 3))
                (i32.const 3)))"#
    )
}

#[test]
fn a_hundred_replacements_under_load_lose_no_calls_and_leak_nothing() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (file, new) = (
        directory.path().join("module.wat"),
        directory.path().join("new"),
    );
    fs::write(&file, module(0)).expect("the file can be written");
    let vm = Vm::builder()
        .slots(64)
        .build()
        .expect("the VM can be built");
    let bridge = Bridge::builder().vm(vm.clone());
    let worker = Worker::builder()
        .bridge(bridge)
        .start(&file)
        .expect("the module is valid");
    let events = worker.events();
    let is_over = AtomicBool::new(false);
    let (calls, before) = std::thread::scope(|scope| {
        let calling: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut calls = 0u64;
                    while !is_over.load(Ordering::Relaxed) {
                        let version: u32 = worker.call("version", &()).expect("the call succeeds");
                        assert!(version <= 100);
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        let mut before = None;
        for replaced in 1..=100u32 {
            fs::write(&new, module(replaced)).expect("the file can be written");
            fs::rename(&new, &file).expect("the file can be renamed");
            let event = events.recv_blocking().expect("the worker is alive");
            assert!(
                matches!(event, Event::Reloaded { version } if version == u64::from(replaced)),
                "{event:?}"
            );
            if replaced == 10 {
                before = Holdings::now();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let calls: u64 = calling
            .into_iter()
            .map(|calls| calls.join().expect("no thread panics"))
            .sum();
        (calls, before)
    });
    assert!(
        calls >= 100,
        "only {calls} calls were made while the file was replaced a hundred times"
    );
    if let (Some(before), Some(after)) = (before, Holdings::now()) {
        // A leak would hold resources for each of the ninety later versions. Smaller differences
        // are a matter of timing: they come from versions that are about to be freed or are still
        // being compiled, and from memory that the allocator keeps.
        assert!(
            after.descriptors <= before.descriptors + 30,
            "{before:?}, then {after:?}"
        );
        assert!(
            after.threads <= before.threads + 30,
            "{before:?}, then {after:?}"
        );
        // A version's text, binary and data take up a megabyte each.
        assert!(
            after.resident <= before.resident + (90 << 20),
            "{before:?}, then {after:?}"
        );
        // An instance's memory takes up 4 GiB of address space, which the VM reserves for 64
        // instances at a time.
        assert!(
            after.mapped <= before.mapped + (130 << 30),
            "{before:?}, then {after:?}"
        );
        assert!(
            after.mappings <= before.mappings + 45,
            "{before:?}, then {after:?}"
        );
    }
    drop(worker);
    for instance in vm.processes() {
        // This would wait forever if anything still held the instance.
        assert!(vm.block_on(instance.exited()).is_normal());
    }
}

/// The resources that this process holds.
#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    threads: u64,
    /// The number of bytes in memory.
    resident: u64,
    /// The number of bytes of address space, and the number of mappings.
    mapped: u64,
    mappings: usize,
}

impl Holdings {
    /// Measures this process's resources, if the system supports it.
    fn now() -> Option<Holdings> {
        let descriptors = fs::read_dir("/proc/self/fd").ok()?.count();
        let mappings = fs::read_to_string("/proc/self/maps").ok()?.lines().count();
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Holdings {
            descriptors,
            threads: number("Threads:")?,
            resident: number("VmRSS:")? << 10,
            mapped: number("VmSize:")? << 10,
            mappings,
        })
    }
}
