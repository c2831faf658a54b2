//! Tests for WASI: arguments, environment variables, standard streams, clocks and random numbers.

use crate::support::Lab;
use lunatic_vm::{Config, Exit, Host, Limit, Pipe, PipeReader, PipeWriter, Stdio, Vm};
use std::fmt::Write;

/// The WASI error numbers that guests receive.
pub(crate) mod errno {
    pub(crate) const SUCCESS: i64 = 0;
    pub(crate) const BADF: i64 = 8;
    pub(crate) const INVAL: i64 = 28;
    pub(crate) const MFILE: i64 = 33;
    pub(crate) const NAMETOOLONG: i64 = 37;
    pub(crate) const NOENT: i64 = 44;
    pub(crate) const NOSPC: i64 = 51;
    pub(crate) const PERM: i64 = 63;
    pub(crate) const PIPE: i64 = 64;
    pub(crate) const SPIPE: i64 = 70;
}

/// Returns the source of a module with the given fields. It imports `$say` and the WASI functions
/// that the tests use, each as `$name`, and exports a memory of two pages.
pub(crate) fn program(fields: &str) -> String {
    let mut text = String::from("(module\n(import \"test\" \"say\" (func $say (param i64)))\n");
    for (name, parameters) in [
        ("args_sizes_get", "i32 i32"),
        ("args_get", "i32 i32"),
        ("environ_sizes_get", "i32 i32"),
        ("environ_get", "i32 i32"),
        ("clock_time_get", "i32 i64 i32"),
        ("fd_write", "i32 i32 i32 i32"),
        ("fd_read", "i32 i32 i32 i32"),
        ("fd_close", "i32"),
        ("fd_readdir", "i32 i32 i32 i64 i32"),
        ("fd_filestat_set_size", "i32 i64"),
        ("fd_filestat_set_times", "i32 i64 i64 i32"),
        ("fd_seek", "i32 i64 i32 i32"),
        ("fd_pread", "i32 i32 i32 i64 i32"),
        ("fd_pwrite", "i32 i32 i32 i64 i32"),
        ("fd_renumber", "i32 i32"),
        ("fd_fdstat_set_flags", "i32 i32"),
        ("path_filestat_get", "i32 i32 i32 i32 i32"),
        ("path_readlink", "i32 i32 i32 i32 i32 i32"),
        ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
        ("path_create_directory", "i32 i32 i32"),
        ("path_remove_directory", "i32 i32 i32"),
        ("path_filestat_set_times", "i32 i32 i32 i32 i64 i64 i32"),
        ("path_link", "i32 i32 i32 i32 i32 i32 i32"),
        ("path_rename", "i32 i32 i32 i32 i32 i32"),
        ("path_symlink", "i32 i32 i32 i32 i32"),
        ("path_unlink_file", "i32 i32 i32"),
        ("poll_oneoff", "i32 i32 i32 i32"),
        ("random_get", "i32 i32"),
    ] {
        let _ = writeln!(
            text,
            "(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {parameters}) (result i32)))"
        );
    }
    let _ = write!(
        text,
        r#"(import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (memory (export "memory") 2)
        ;; Reports the error of a call.
        (func $said (param i32) (call $say (i64.extend_i32_u (local.get 0))))
        ;; These functions write bytes from an address and read bytes to an address. Both return the
        ;; error.
        (func $write (param $stream i32) (param $address i32) (param $length i32) (result i32)
            (i32.store (i32.const 0) (local.get $address))
            (i32.store (i32.const 4) (local.get $length))
            (call $fd_write (local.get $stream) (i32.const 0) (i32.const 1) (i32.const 8)))
        (func $read (param $stream i32) (param $address i32) (param $length i32) (result i32)
            (i32.store (i32.const 0) (local.get $address))
            (i32.store (i32.const 4) (local.get $length))
            (call $fd_read (local.get $stream) (i32.const 0) (i32.const 1) (i32.const 8)))
        ;; Sleeps for a number of nanoseconds.
        (func $sleep (param i64) (result i32)
            (i64.store (i32.const 64) (i64.const 0))
            (i64.store (i32.const 72) (i64.const 0))
            (i32.store (i32.const 80) (i32.const 1))
            (i64.store (i32.const 88) (local.get 0))
            (i64.store (i32.const 96) (i64.const 0))
            (i64.store (i32.const 104) (i64.const 0))
            (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 200)))
        {fields})"#
    );
    text
}

/// Runs a program in an environment that grants everything, with the test's changes.
pub(crate) fn run(lab: &Lab, text: &str, change: impl FnOnce(&mut Config)) -> Exit {
    let process = lab
        .environment_with(change)
        .spawn(&lab.module(text), "main", &[])
        .expect("no limit applies");
    lab.exit(&process)
}

fn assert_normal(exit: &Exit) {
    assert!(exit.is_normal(), "{exit}");
}

/// Creates a VM with a single worker, so that the test notices if anything blocks the worker.
fn narrow() -> Lab {
    Lab::with(Vm::builder().workers(1))
}

fn captured() -> (PipeWriter, PipeReader) {
    Pipe::bounded(4096)
}

fn read_all(lab: &Lab, reader: &PipeReader) -> Vec<u8> {
    let mut read = Vec::new();
    lab.wait_for("the output to end", reader.read_to_end(&mut read));
    read
}

#[test]
fn t094_a_guest_sees_only_the_variables_that_it_is_granted() {
    let lab = Lab::new();
    let text = program(
        r#"(func (export "main")
            (call $said (call $environ_sizes_get (i32.const 16) (i32.const 20)))
            (call $said (call $environ_get (i32.const 32) (i32.const 256)))
            (call $said (i32.load (i32.const 16)))
            (call $said (i32.load (i32.const 20)))
            (call $say (i64.load (i32.const 256))))"#,
    );
    // The test itself has many environment variables. A guest gets none of them.
    assert!(std::env::vars_os().next().is_some());
    assert_normal(&run(&lab, &text, |_| {}));
    assert_eq!(lab.hear_all(), [0, 0, 0, 0, 0]);
    assert_normal(&run(&lab, &text, |config| {
        config.variable("KEY", "old").variable("KEY", "val");
    }));
    assert_eq!(
        lab.hear_all(),
        [0, 0, 1, 8, i64::from_le_bytes(*b"KEY=val\0")]
    );
}

#[test]
fn t094_a_guest_sees_only_the_arguments_that_it_is_granted() {
    let lab = Lab::new();
    let text = program(
        r#"(func (export "main")
            (call $said (call $args_sizes_get (i32.const 16) (i32.const 20)))
            (call $said (call $args_get (i32.const 32) (i32.const 256)))
            (call $said (i32.load (i32.const 16)))
            (call $say (i64.load (i32.const 256))))"#,
    );
    assert_normal(&run(&lab, &text, |_| {}));
    assert_eq!(lab.hear_all(), [0, 0, 0, 0]);
    assert_normal(&run(&lab, &text, |config| {
        config.argument("app").argument("one");
    }));
    assert_eq!(
        lab.hear_all(),
        [0, 0, 2, i64::from_le_bytes(*b"app\0one\0")]
    );
}

#[test]
fn a_process_that_makes_no_wasi_call_has_no_wasi_context() {
    let mut host = Host::default();
    host.function(
        "test",
        "has_wasi",
        |caller: lunatic_vm::Caller<'_, lunatic_vm::Guest>| i32::from(caller.data().has_wasi()),
    );
    let lab = Lab::with_host(Vm::builder(), host);
    let text = program(
        r#"(func (export "main")
            (call $said (call $has_wasi))
            (drop (call $environ_sizes_get (i32.const 16) (i32.const 20)))
            (call $said (call $has_wasi)))"#,
    );
    let import = r#"(module (import "test" "has_wasi" (func $has_wasi (result i32)))"#;
    assert_normal(&run(&lab, &text.replacen("(module", import, 1), |_| {}));
    assert_eq!(lab.hear_all(), [0, 1]);
}

#[test]
fn a_program_can_exit_with_any_status() {
    let lab = Lab::new();
    for status in [0, 1, 125, 126, 200, 255] {
        let text = program(&format!(
            r#"(func (export "main") (call $proc_exit (i32.const {status})))"#
        ));
        match run(&lab, &text, |_| {}) {
            Exit::Normal => assert_eq!(status, 0),
            Exit::Status(other) => assert_eq!(other, status),
            other => panic!("{status}: {other}"),
        }
    }
}

#[test]
fn t097_output_waits_for_its_reader_and_is_not_changed() {
    let lab = narrow();
    let (writer, reader) = captured();
    // The output contains escape sequences and bytes that are not text, and no newline. It is
    // longer than any buffer that it passes through.
    let text = program(
        r#"(data (i32.const 1024) "\1b[31m\ff\00")
        (func (export "main") (local $left i32)
            (local.set $left (i32.const 100000))
            (loop $again
                (if (call $write (i32.const 1) (i32.const 1024) (i32.const 7)) (then unreachable))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $again (local.get $left))))"#,
    );
    let environment = lab.environment_with(|config| {
        config.stdout(Stdio::Pipe(writer.clone()));
    });
    let flood = environment
        .spawn(&lab.module(&text), "main", &[])
        .expect("no limit applies");
    // While the program is waiting for room, the only worker is free.
    let other = lab.spawn(&program(
        r#"(func (export "main") (call $say (i64.const 7)))"#,
    ));
    assert_eq!(lab.hear(), 7);
    assert_normal(&lab.exit(&other));
    lab.wait_for("output", reader.readable());
    assert!(
        lab.vm.processes().len() == 1,
        "the program cannot have written everything yet"
    );
    let read = lab.wait_for("all output", async {
        let mut read = vec![0; 700_000];
        let mut length = 0;
        while length < read.len() {
            length += reader.read(&mut read[length..]).await;
        }
        read
    });
    assert!(
        read.chunks(7).all(|piece| piece == b"\x1b[31m\xff\0"),
        "the bytes were changed"
    );
    assert_normal(&lab.exit(&flood));
    writer.close();
    assert!(read_all(&lab, &reader).is_empty());
}

#[test]
fn t097_a_process_that_waits_for_room_in_a_pipe_can_be_killed() {
    let lab = narrow();
    let (writer, reader) = captured();
    let text = program(
        r#"(func (export "main") (call $say (i64.const 1))
            (loop (drop (call $write (i32.const 2) (i32.const 1024) (i32.const 4096))) (br 0)))"#,
    );
    let environment = lab.environment_with(|config| {
        config.stderr(Stdio::Pipe(writer.clone()));
    });
    let process = environment
        .spawn(&lab.module(&text), "main", &[])
        .expect("no limit applies");
    lab.hear();
    lab.wait_for("output", reader.readable());
    process.kill();
    assert!(matches!(lab.exit(&process), Exit::Killed));
    writer.close();
    assert_eq!(
        read_all(&lab, &reader).len() % 4096,
        0,
        "no write was interleaved with another"
    );
}

#[test]
fn the_writes_of_different_processes_are_not_interleaved() {
    let lab = Lab::new();
    let (writer, reader) = Pipe::bounded(64);
    let text = program(
        r#"(func (export "main") (param $letter i32) (local $left i32)
            (memory.fill (i32.const 1024) (local.get $letter) (i32.const 40))
            (local.set $left (i32.const 100))
            (loop $again
                (if (call $write (i32.const 1) (i32.const 1024) (i32.const 40)) (then unreachable))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $again (local.get $left))))"#,
    );
    let environment = lab.environment_with(|config| {
        config.stdout(Stdio::Pipe(writer.clone()));
    });
    let module = lab.module(&text);
    for letter in 0..20 {
        environment
            .spawn(&module, "main", &[(65 + letter).into()])
            .expect("no limit applies");
    }
    let read = lab.wait_for("all output", async {
        let mut read = Vec::new();
        let ended = async {
            environment.ended().await;
            writer.close();
        };
        futures_lite::future::zip(ended, reader.read_to_end(&mut read)).await;
        read
    });
    assert_eq!(read.len(), 20 * 100 * 40);
    assert!(
        read.chunks(40).all(|piece| piece == [piece[0]; 40]),
        "a write was interleaved with another"
    );
}

#[test]
fn output_beyond_its_limit_is_an_error_and_a_later_trap_reports_the_limit() {
    let lab = Lab::new();
    let change = |config: &mut Config| {
        config.limit(Limit::Output, 10).stdout(Stdio::Null);
    };
    let write = "(call $write (i32.const 1) (i32.const 1024) (i32.const 6))";
    let goes_on = program(&format!(
        r#"(func (export "main") (call $said {write}) (call $said {write}))"#
    ));
    assert_normal(&run(&lab, &goes_on, change));
    assert_eq!(lab.hear_all(), [errno::SUCCESS, errno::NOSPC]);
    let gives_up = program(&format!(
        r#"(func (export "main") (drop {write}) (drop {write}) unreachable)"#
    ));
    match run(&lab, &gives_up, change) {
        Exit::Limit(reached) => assert_eq!((reached.limit, reached.allowed), (Limit::Output, 10)),
        other => panic!("{other}"),
    }
}

#[test]
fn output_without_a_reader_is_a_broken_pipe() {
    let lab = Lab::new();
    let (writer, reader) = captured();
    drop(reader);
    let text = program(
        r#"(func (export "main") (call $said (call $write (i32.const 1) (i32.const 1024) (i32.const 6))))"#,
    );
    assert_normal(&run(&lab, &text, |config| {
        config.stdout(Stdio::Pipe(writer));
    }));
    assert_eq!(lab.hear(), errno::PIPE);
}

const READER: &str = r#"(func (export "main")
    (call $say (i64.const 1))
    (drop (call $read (i32.const 0) (i32.const 1024) (i32.const 1)))
    ;; Reports how many bytes arrived, and then the bytes.
    (call $said (i32.load (i32.const 8)))
    (call $said (i32.load8_u (i32.const 1024))))"#;

#[test]
fn t098_input_goes_to_the_process_that_reads_first_and_is_never_lost() {
    let lab = narrow();
    let (writer, reader) = captured();
    let environment = lab.environment_with(|config| {
        config.stdin(Stdio::Pipe(reader));
    });
    let module = lab.module(&program(READER));
    let [first, second] = [(); 2].map(|()| {
        let process = environment
            .spawn(&module, "main", &[])
            .expect("no limit applies");
        assert_eq!(lab.hear(), 1);
        while !lab.vm.is_idle() {
            std::thread::yield_now();
        }
        process
    });
    first.kill();
    assert!(matches!(lab.exit(&first), Exit::Killed));
    lab.wait_for("room in the pipe", writer.write_all(b"xy"))
        .expect("the environment holds the reader");
    assert_normal(&lab.exit(&second));
    assert_eq!(lab.hear_all(), [1, i64::from(b'x')]);
    let third = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    assert_normal(&lab.exit(&third));
    assert_eq!(lab.hear_all(), [1, 1, i64::from(b'y')]);
    writer.close();
    let last = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    assert_normal(&lab.exit(&last));
    assert_eq!(lab.hear_all(), [1, 0, 0]);
}

#[test]
fn t077_processes_that_sleep_or_wait_for_input_leave_the_worker_free() {
    let lab = narrow();
    let (_writer, reader) = captured();
    let environment = lab.environment_with(|config| {
        config.stdin(Stdio::Pipe(reader));
    });
    // Subscribes to the input if the parameter is 1, and to a clock otherwise. Then waits.
    let text = program(
        r#"(func (export "main") (param $input i32)
            (call $say (i64.const 1))
            (if (local.get $input)
                (then
                    (i32.store8 (i32.const 72) (i32.const 1))
                    (drop (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 200))))
                (else (drop (call $sleep (i64.const -1)))))
            (call $say (i64.const -1)))"#,
    );
    let module = lab.module(&text);
    let sleepers: Vec<_> = (0..50)
        .map(|number| {
            environment
                .spawn(&module, "main", &[(number % 2).into()])
                .expect("no limit applies")
        })
        .collect();
    for _ in &sleepers {
        assert_eq!(lab.hear(), 1);
    }
    assert_normal(&run(
        &lab,
        &program(r#"(func (export "main") (call $say (i64.const 7)))"#),
        |_| {},
    ));
    assert_eq!(lab.hear(), 7);
    assert!(
        lab.heard_nothing_more(),
        "one of the processes has stopped waiting"
    );
    for sleeper in sleepers {
        sleeper.kill();
        assert!(matches!(lab.exit(&sleeper), Exit::Killed));
    }
}

#[test]
fn t099_the_monotonic_clock_never_goes_backward() {
    let lab = Lab::new();
    let text = program(
        r#"(func (export "main") (local $left i32) (local $before i64)
            (local.set $left (i32.const 10000))
            (loop $again
                (if (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 16)) (then unreachable))
                (if (i64.lt_u (i64.load (i32.const 16)) (local.get $before)) (then unreachable))
                (local.set $before (i64.load (i32.const 16)))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $again (local.get $left)))
            ;; The VM has no clocks for process or thread CPU time.
            (call $say (i64.extend_i32_u (i32.ne (i32.const 0) (call $clock_time_get (i32.const 2) (i64.const 0) (i32.const 16)))))
            (call $say (i64.extend_i32_u (i32.ne (i32.const 0) (call $clock_time_get (i32.const 3) (i64.const 0) (i32.const 16))))))"#,
    );
    assert_normal(&run(&lab, &text, |_| {}));
    assert_eq!(lab.hear_all(), [1, 1]);
}

#[test]
fn t099_a_loop_of_the_shortest_sleeps_does_not_keep_other_processes_from_running() {
    let lab = narrow();
    let busy = lab.spawn(&program(
        r#"(func (export "main") (call $say (i64.const 1)) (loop (drop (call $sleep (i64.const 0))) (br 0)))"#,
    ));
    assert_eq!(lab.hear(), 1);
    assert_normal(&run(
        &lab,
        &program(r#"(func (export "main") (call $say (i64.const 7)))"#),
        |_| {},
    ));
    assert_eq!(lab.hear(), 7);
    busy.kill();
    assert!(matches!(lab.exit(&busy), Exit::Killed));
}

#[test]
fn t100_any_number_of_random_bytes_is_generated_one_slice_at_a_time() {
    let lab = narrow();
    // The guest requests 48 MiB, which is more than is generated in one step. The last bytes must
    // be random too.
    let text = program(
        r#"(func (export "main")
            (if (i32.eq (memory.grow (i32.const 768)) (i32.const -1)) (then unreachable))
            (call $said (call $random_get (i32.const 65536) (i32.const 50331648)))
            (call $say (i64.extend_i32_u (i64.ne (i64.const 0) (i64.load (i32.const 65536)))))
            (call $say (i64.extend_i32_u (i64.ne (i64.const 0) (i64.load (i32.const 50397176))))))"#,
    );
    assert_normal(&run(&lab, &text, |_| {}));
    assert_eq!(lab.hear_all(), [0, 1, 1]);
}

#[test]
fn t029_a_request_for_more_random_bytes_than_fit_into_the_memory_traps_at_once() {
    let lab = Lab::new();
    let text = program(
        r#"(func (export "main") (drop (call $random_get (i32.const 65536) (i32.const 1073741824))))"#,
    );
    match run(&lab, &text, |_| {}) {
        Exit::Trapped(trap) => assert!(trap.reason.contains("bad pointer"), "{}", trap.reason),
        other => panic!("{other}"),
    }
}

/// Like [`program`], but writes a WASI preview 0 module.
fn of_preview_0(fields: &str) -> String {
    program(fields).replace("wasi_snapshot_preview1", "wasi_unstable")
}

#[test]
fn a_preview_0_module_can_write_and_exit() {
    let lab = narrow();
    let (writer, reader) = captured();
    let text = of_preview_0(
        r#"(data (i32.const 1024) "of old")
        (func (export "main")
            (call $said (call $write (i32.const 1) (i32.const 1024) (i32.const 6)))
            (call $proc_exit (i32.const 200)))"#,
    );
    let exit = run(&lab, &text, |config| {
        config.stdout(Stdio::Pipe(writer.clone()));
    });
    writer.close();
    assert!(matches!(exit, Exit::Status(200)), "{exit}");
    assert_eq!(
        (lab.hear(), read_all(&lab, &reader)),
        (errno::SUCCESS, b"of old".to_vec())
    );
}

#[test]
fn t100_random_bytes_are_also_generated_in_pieces_for_a_preview_0_module() {
    let lab = Lab::new();
    let text = of_preview_0(
        r#"(func (export "main")
            (drop (memory.grow (i32.const 768)))
            (call $said (call $random_get (i32.const 65536) (i32.const 50331648)))
            (call $say (i64.extend_i32_u (i64.eqz (i64.load (i32.const 50397176))))))"#,
    );
    assert_normal(&run(&lab, &text, |_| {}));
    assert_eq!(lab.hear_all(), [errno::SUCCESS, 0]);
}

#[test]
fn preview_0_is_granted_under_its_own_name() {
    let lab = narrow();
    let text = of_preview_0(r#"(func (export "main") (call $proc_exit (i32.const 0)))"#);
    let exit = run(&lab, &text, |config| {
        config.deny("wasi_unstable::proc_");
    });
    assert!(
        exit.to_string()
            .contains("does not grant `wasi_unstable::proc_exit`"),
        "{exit}"
    );
    assert_normal(&run(&lab, &text, |config| {
        config.deny("wasi_snapshot_preview1::fd_");
    }));
    // A rule for preview 1 also denies the preview 0 functions.
    let exit = run(&lab, &text, |config| {
        config.deny("wasi_snapshot_preview1");
    });
    assert!(exit.to_string().contains("does not grant"), "{exit}");
}

#[test]
fn a_program_of_an_older_generation_may_use_preview_0() {
    let lab = narrow();
    // Generations 0.6 and 0.7 have a function with this name and type.
    let text = of_preview_0(
        r#"(func (export "main") (drop (call $clone_process (call $this))) (call $proc_exit (i32.const 0)))"#,
    );
    let imports = r#"(module
        (import "lunatic::process" "this" (func $this (result i64)))
        (import "lunatic::process" "clone_process" (func $clone_process (param i64) (result i64)))"#;
    assert_normal(&run(&lab, &text.replacen("(module", imports, 1), |_| {}));
}
