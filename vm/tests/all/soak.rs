//! Runs a mix of all kinds of processes for a while and checks that nothing is left behind.
//! `LUNATIC_SOAK_SECONDS` sets the duration. The default is two seconds.

use crate::support::{Lab, guest};
use lunatic_vm::{Exit, Limit, Process, Vm};
use std::time::{Duration, Instant};

/// A guest whose `main` spawns children. A child's number determines what it does: it ends, traps,
/// takes up resources, spins until it is killed or out of compute, waits until it is killed, or
/// first exchanges messages with its parent.
fn mix() -> String {
    guest(
        &[
            "lunatic::process::spawn",
            "lunatic::process::process_id",
            "lunatic::process::monitor",
            "lunatic::process::kill",
            "lunatic::message::send_bytes",
            "lunatic::message::receive_bytes",
            "lunatic::timer::send_bytes_after",
            "lunatic::registry::put",
        ],
        r#"(data (i32.const 16) "child") (data (i32.const 32) "\7e") (data (i32.const 49) "\7e") (data (i32.const 80) "name")
        (global $downs (mut i64) (i64.const 0))
        (global $stop (mut i32) (i32.const 0))
        (func $wait (drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) (i32.const 256) (i32.const 8)
            (i32.const 128))))
        (func (export "child") (param $parent i64) (param $kind i64)
            (drop (call $send_bytes (local.get $parent) (i64.const 5) (i32.const 0) (i32.const 64) (i32.const 0) (i32.const 0)))
            (if (i64.eq (local.get $kind) (i64.const 1)) (then unreachable))
            (if (i64.eq (local.get $kind) (i64.const 2)) (then
                (loop $hoard (br_if $hoard (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable))
            (if (i64.eq (local.get $kind) (i64.const 3)) (then (loop $spin (br $spin))))
            (if (i64.eq (local.get $kind) (i64.const 4)) (then (loop $waiting (call $wait) (br $waiting))))
            (if (i64.eq (local.get $kind) (i64.const 5)) (then
                (drop (call $send_bytes_after (call $process_id) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                    (i32.const 0) (i64.const 1) (i32.const 8)))
                (call $wait))))
        ;; One round: spawn a child, monitor it, and finally kill it. Most children have already
        ;; ended by then. Exits are counted until there are as many exits as children.
        (func $one (param $number i64) (local $child i64)
            (i64.store (i32.const 33) (call $process_id))
            (i64.store (i32.const 50) (i64.rem_u (local.get $number) (i64.const 6)))
            (if (call $spawn (i64.const 0) (i64.const -1) (i64.const -1) (i32.const 16) (i32.const 5) (i32.const 32)
                (i32.const 34) (i32.const 8)) (then unreachable))
            (local.set $child (i64.load (i32.const 8)))
            (call $monitor (local.get $child))
            (loop $until_it_speaks
                (call $wait)
                (if (i32.eq (i32.load (i32.const 128)) (i32.const 2)) (then
                    (global.set $downs (i64.add (global.get $downs) (i64.const 1)))))
                (br_if $until_it_speaks (i32.ne (i32.load (i32.const 128)) (i32.const 0))))
            (call $kill (local.get $child)))
        (func (export "main") (local $number i64)
            (loop $rounds
                (call $one (local.get $number))
                (local.set $number (i64.add (local.get $number) (i64.const 1)))
                ;; The test's message has a different tag, but a round may have received it in place
                ;; of a child's message.
                (if (i64.eq (i64.load (i32.const 144)) (i64.const 9)) (then (global.set $stop (i32.const 1))))
                (br_if $rounds (i32.eqz (global.get $stop))))
            (loop $ends
                (if (i64.lt_u (global.get $downs) (local.get $number)) (then
                    (call $wait)
                    (if (i32.eq (i32.load (i32.const 128)) (i32.const 2)) (then
                        (global.set $downs (i64.add (global.get $downs) (i64.const 1)))))
                    (br $ends))))
            (call $say (local.get $number)))"#,
    )
}

/// The operating system resources that this program holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    resident: u64,
    mappings: usize,
    descriptors: usize,
}

fn held() -> Held {
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/self/{file}")).expect("Linux has this file")
    };
    let pages: u64 = read("statm")
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("the second field is the resident size");
    Held {
        resident: pages * 4096,
        mappings: read("maps").lines().count(),
        descriptors: std::fs::read_dir("/proc/self/fd")
            .expect("Linux has this file")
            .count(),
    }
}

fn soak(time: Duration) -> u64 {
    let lab = Lab::with(Vm::builder().workers(2));
    let environment = lab.environment_with(|config| {
        config
            .limit(Limit::Memory, 10 * 65_536)
            .limit(Limit::Compute, 20)
            .limit(Limit::Processes, 200);
    });
    let module = lab.module(&mix());
    // These parents have no limits, so they continue until the test stops them.
    let roots = lab.environment();
    let parents: Vec<Process> = (0..4)
        .map(|_| roots.spawn(&module, "main", &[]).expect("no limit applies"))
        .collect();
    let limited = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    let begin = Instant::now();
    while begin.elapsed() < time {
        // The clock determines only how long the test runs, never whether it passes.
        lab.wait_for("a short time", async {
            async_io::Timer::after(Duration::from_millis(20)).await
        });
        if !limited.is_alive() {
            break;
        }
    }
    lab.wait_for("the rest of the time", async {
        async_io::Timer::at(begin + time).await
    });
    for parent in &parents {
        parent.send(9, &[0; 8]).expect("the mailbox has room");
    }
    let mut rounds = 0;
    for parent in &parents {
        let exit = lab.exit(parent);
        assert!(exit.is_normal(), "a parent did not end normally: {exit}");
        rounds += lab.hear().cast_unsigned();
    }
    limited.kill();
    assert!(matches!(lab.exit(&limited), Exit::Limit(_) | Exit::Killed));
    environment.end();
    lab.wait_for("the processes with limits to end", environment.ended());
    lab.wait_for("the other processes to end", roots.ended());
    assert_eq!(lab.vm.processes().len(), 0);
    for limit in [
        Limit::Processes,
        Limit::TotalMemory,
        Limit::Names,
        Limit::Sockets,
    ] {
        assert_eq!(
            (roots.used(limit), environment.used(limit)),
            (0, 0),
            "{limit:?}"
        );
    }
    rounds
}

/// Set in a program that runs only this test, so that no other test holds resources.
const ALONE: &str = "LUNATIC_SOAK_ALONE";

#[test]
fn nothing_is_left_after_a_mix_of_all_kinds_of_processes() {
    if std::env::var_os(ALONE).is_some() {
        return soak_alone();
    }
    let this = std::env::current_exe().expect("the path of the test is known");
    let output = std::process::Command::new(this)
        .args([
            "--exact",
            "soak::nothing_is_left_after_a_mix_of_all_kinds_of_processes",
            "--nocapture",
        ])
        .env(ALONE, "1")
        .output()
        .expect("the test binary can be started");
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        told(&output.stdout),
        told(&output.stderr)
    );
}

fn soak_alone() {
    let seconds = std::env::var("LUNATIC_SOAK_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2.0);
    // The first run creates everything that the program keeps, such as thread pools and allocator
    // arenas.
    soak(Duration::from_millis(200));
    let before = held();
    let rounds = soak(Duration::from_secs_f64(seconds));
    let after = held();
    println!("{rounds} rounds, {before:?}, {after:?}");
    assert!(rounds > 100, "{rounds} rounds");
    let told = format!("{rounds} rounds, {before:?}, {after:?}");
    assert!(after.resident < before.resident + (32 << 20), "{told}");
    assert!(after.descriptors <= before.descriptors + 8, "{told}");
    assert!(after.mappings < before.mappings + 200, "{told}");
}
