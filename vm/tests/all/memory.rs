//! Tests for memory: no process takes more than its share, leaves anything behind, or sees data
//! that another left behind.

use crate::support::{Lab, guest, is_alone};
use lunatic_vm::{Caller, Config, Exit, Guest, Host, Limit, LimitReached, Profile, SpawnError, Vm};
use std::sync::Arc;

const PAGE: u64 = 65_536;

fn limited(lab: &Lab, limit: Limit, bound: u64) -> lunatic_vm::Environment {
    lab.environment_with(|config: &mut Config| {
        config.limit(limit, bound);
    })
}

#[test]
fn t020_a_memory_can_grow_to_its_limit_and_not_beyond() {
    let lab = Lab::new();
    let module = lab.module(&guest(
        &[],
        r#"(func (export "main") (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
             (call $say (i64.extend_i32_u (memory.size))))
           (func (export "give_up") (if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable)))"#,
    ));
    let environment = limited(&lab, Limit::Memory, 10 * PAGE + 100);
    let process = environment
        .spawn(&module, "main", &[])
        .expect("one page fits");
    assert!(lab.exit(&process).is_normal());
    assert_eq!(lab.hear(), 10);
    // If the process then traps, its exit names the limit and the amount of memory that it would
    // have needed.
    let process = environment
        .spawn(&module, "give_up", &[])
        .expect("one page fits");
    let expected = LimitReached {
        limit: Limit::Memory,
        allowed: 10 * PAGE + 100,
        wanted: Some(101 * PAGE),
    };
    let exit = lab.exit(&process);
    assert!(
        matches!(exit, Exit::Limit(reached) if reached == expected),
        "{exit}"
    );
    assert_eq!(environment.used(Limit::TotalMemory), 0);
}

#[test]
fn t021_all_memories_of_a_process_share_one_limit() {
    let lab = Lab::new();
    let memories: String = (0..8)
        .map(|number| format!("(memory $m{number} 1)"))
        .collect();
    let grow: String = (0..8)
        .map(|number| {
            format!(
                "(loop (br_if 0 (i32.ne (memory.grow $m{number} (i32.const 1)) (i32.const -1))))"
            )
        })
        .collect();
    let sizes: String = (0..8)
        .map(|number| format!("(memory.size $m{number})"))
        .collect();
    let module = lab.module(
        &format!(
            "(module (import \"test\" \"say\" (func $say (param i64))) {memories}
            (func (export \"main\") {grow} {sizes} {} (call $say (i64.extend_i32_u))))",
            "i32.add ".repeat(7)
        )
        .replace(
            "(call $say (i64.extend_i32_u))",
            "i64.extend_i32_u call $say",
        ),
    );
    let process = limited(&lab, Limit::Memory, 20 * PAGE)
        .spawn(&module, "main", &[])
        .expect("eight pages fit");
    assert!(lab.exit(&process).is_normal());
    assert_eq!(lab.hear(), 20);
    let error = limited(&lab, Limit::Memory, 7 * PAGE)
        .spawn(&module, "main", &[])
        .expect_err("eight pages do not fit");
    assert!(error.to_string().contains("524288 are needed"), "{error}");
}

#[test]
fn t021_a_process_with_several_memories_takes_that_many_slots() {
    let lab = Lab::new();
    let environment = lab.environment();
    let greedy = lab.module(&guest(
        &["lunatic::process::sleep_ms"],
        &format!(
            "{} (func (export \"main\") (call $sleep_ms (i64.const -1)))",
            "(memory 0)".repeat(7)
        ),
    ));
    let modest = lab.module(&guest(
        &[],
        "(func (export \"main\") (call $say (i64.const 1)))",
    ));
    let mut spawned = 0;
    let error = loop {
        match environment.spawn(&greedy, "main", &[]) {
            Ok(_) => spawned += 1,
            Err(error) => break error,
        }
        assert!(
            spawned < 10_000,
            "each process takes eight of the VM's memories"
        );
    };
    assert!(matches!(error, SpawnError::Ceiling(_)), "{error}");
    // This affects neither the waiting processes nor a process that is spawned after some of them
    // have ended.
    for process in lab.vm.processes().into_iter().take(10) {
        process.kill();
        assert!(matches!(lab.exit(&process), Exit::Killed));
    }
    let process = environment
        .spawn(&modest, "main", &[])
        .expect("ten processes have ended");
    let exit = lab.exit(&process);
    assert!(exit.is_normal(), "{exit}");
    assert!(
        lab.vm.processes().len() == spawned - 10,
        "the other processes are still waiting"
    );
}

#[test]
fn t022_all_tables_of_a_process_share_one_limit() {
    let lab = Lab::new();
    let module = lab.module(&guest(
        &[],
        r#"(table $a 10 funcref) (table $b 10 funcref)
           (func (export "main")
             (call $say (i64.extend_i32_s (table.grow $a (ref.null func) (i32.const 1000000))))
             (call $say (i64.extend_i32_s (table.grow $a (ref.null func) (i32.const -1))))
             (loop (br_if 0 (i32.ne (table.grow $b (ref.null func) (i32.const 7)) (i32.const -1))))
             (loop (br_if 0 (i32.ne (table.grow $a (ref.null func) (i32.const 7)) (i32.const -1))))
             (call $say (i64.extend_i32_s (i32.add (table.size $a) (table.size $b)))))"#,
    ));
    let process = lab
        .environment()
        .spawn(&module, "main", &[])
        .expect("the tables are small at first");
    let exit = lab.exit(&process);
    assert!(exit.is_normal(), "{exit}");
    let [million, all, sum] = lab.hear_all();
    assert_eq!((million, all), (-1, -1));
    assert!(sum <= 100_000 && sum > 99_000, "{sum}");
    let error = limited(&lab, Limit::TableElements, 19)
        .spawn(&module, "main", &[])
        .expect_err("20 elements do not fit");
    assert!(error.to_string().contains("20 are needed"), "{error}");
}

#[test]
fn t023_64_bit_memories_are_refused_at_load() {
    let lab = Lab::new();
    for text in [
        "(module (memory i64 0x1000000000000))",
        "(module (memory i64 1))",
        "(module (table i64 1 funcref))",
        "(module (memory 1 0x10001))",
    ] {
        lab.vm.module("test", text.as_bytes()).expect_err(text);
    }
}

#[test]
fn t024_a_module_that_declares_too_much_is_not_spawned() {
    let lab = Lab::new();
    let module = lab.module("(module (memory 65536) (func (export \"main\")))");
    let environment = lab.environment();
    let Err(SpawnError::Limit(reached)) = environment.spawn(&module, "main", &[]) else {
        panic!("4 GiB must exceed the limit")
    };
    let allowed = environment.limits().get(Limit::Memory);
    assert_eq!(
        reached,
        LimitReached {
            limit: Limit::Memory,
            allowed,
            wanted: Some(4 << 30)
        }
    );
    assert_eq!(
        (
            environment.used(Limit::TotalMemory),
            environment.used(Limit::Processes)
        ),
        (0, 0)
    );
    let many = "(memory 4000)".repeat(8);
    let module = lab.module(&format!("(module {many} (func (export \"main\")))"));
    environment
        .spawn(&module, "main", &[])
        .expect_err("the total also exceeds the limit");
}

#[test]
fn t028_a_capacity_hint_of_any_size_takes_no_memory() {
    let lab = Lab::new();
    let exit = lab.run(&guest(
        &[
            "lunatic::message::create_data",
            "lunatic::message::write_data",
            "lunatic::message::data_size",
        ],
        r#"(func (export "main")
             (call $create_data (i64.const 0) (i64.const -1))
             (call $create_data (i64.const 0) (i64.const 0x7fffffffffffffff))
             (drop (call $write_data (i32.const 0) (i32.const 5)))
             (call $say (call $data_size)))"#,
    ));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear(), 5);
}

#[test]
fn t028_a_message_can_grow_only_to_its_limit() {
    let lab = Lab::new();
    let module = lab.module(&guest(
        &[
            "lunatic::message::create_data",
            "lunatic::message::write_data",
        ],
        r#"(func (export "main")
             (call $create_data (i64.const 0) (i64.const 0))
             (loop (drop (call $write_data (i32.const 0) (i32.const 65536))) (br 0)))"#,
    ));
    let process = limited(&lab, Limit::MessageBytes, 10 * PAGE)
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    let exit = lab.exit(&process);
    assert!(
        exit.trap()
            .is_some_and(|trap| trap.reason.contains("at most 655360 bytes")),
        "{exit}"
    );
}

#[test]
fn t030_every_table_of_a_process_is_limited() {
    let lab = Lab::new();
    let rows = [
        "lunatic::process::create_config",
        "lunatic::environment::create_empty_config",
        "lunatic::environment::create",
        "lunatic::environment::config_set_limit",
        "lunatic::message::create_data",
        "lunatic::message::push_module",
        "lunatic::message::take_module",
        "lunatic::process::compile_module",
        "lunatic::networking::tcp_bind",
        "lunatic::networking::tcp_local_addr",
        "lunatic::timer::send_bytes_after",
        "lunatic::wasi::config_add_command_line_argument",
        "lunatic::wasi::config_add_environment_variable",
    ];
    for (what, prepare, again) in [
        ("configurations", "", "(drop (call $create_config))"),
        (
            "errors",
            "(drop (call $create_config))",
            "(drop (call $config_set_limit (i64.const 0) (i32.const 99) (i64.const 0) (i32.const 64)))",
        ),
        (
            "modules",
            "",
            "(call $create_data (i64.const 0) (i64.const 0)) (drop (call $push_module (i64.const -1)))
             (drop (call $take_module (i64.const 0)))",
        ),
        (
            "lookup results",
            "(drop (call $tcp_bind (i32.const 4) (i32.const 32) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64)))",
            "(drop (call $tcp_local_addr (i64.const 0) (i32.const 64)))",
        ),
        // If a call beyond the limit returns an error, the number of errors is limited instead.
        ("errors", "", "(drop (call $create_empty_config (i32.const 64)))"),
        ("errors", "(drop (call $create_config))", "(drop (call $create (i64.const 0) (i32.const 64)))"),
        ("errors", "", "(drop (call $compile_module (i32.const 16) (i32.const 8) (i32.const 64)))"),
        (
            "errors",
            "",
            "(drop (call $tcp_bind (i32.const 4) (i32.const 32) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64)))",
        ),
        (
            "errors",
            "",
            "(drop (call $send_bytes_after (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i64.const 3600000) (i32.const 64)))",
        ),
        (
            "resources",
            "(call $create_data (i64.const 0) (i64.const 0))",
            "(drop (call $push_module (i64.const -1)))",
        ),
        (
            "arguments",
            "(drop (call $create_config))",
            "(call $config_add_command_line_argument (i64.const 0) (i32.const 0) (i32.const 1))",
        ),
        (
            "of strings",
            "(drop (call $create_config))",
            "(call $config_add_command_line_argument (i64.const 0) (i32.const 1024) (i32.const 60000))",
        ),
        (
            "of strings",
            "(drop (call $create_config))",
            "(call $config_add_environment_variable (i64.const 0) (i32.const 0) (i32.const 1) (i32.const 1024) (i32.const 60000))
             (call $config_add_command_line_argument (i64.const 0) (i32.const 1024) (i32.const 60000))",
        ),
    ] {
        let environment = lab.environment_with(|config| {
            config.limit(Limit::Handles, 20).limit(Limit::Sockets, 20).limit(Limit::Timers, 20);
        });
        let text = guest(
            &rows,
            &format!(
                "(data (i32.const 0) \"a\") (data (i32.const 16) \"\\00asm\\01\\00\\00\\00\")
                 (data (i32.const 32) \"\\7f\\00\\00\\01\")
                 (func (export \"main\") (memory.fill (i32.const 1024) (i32.const 120) (i32.const 60000))
                    {prepare} (loop {again} (br 0)))"
            ),
        );
        let process = environment.spawn(&lab.module(&text), "main", &[]).expect("no limit applies");
        let exit = lab.exit(&process);
        let reason = exit.trap().map(|trap| trap.reason.as_str()).unwrap_or_default();
        assert!(reason.contains("at most") && reason.contains(what), "{what}: {exit}");
    }
}

#[test]
fn t030_a_handle_beyond_the_limit_is_an_error_if_there_is_room_for_an_error() {
    let lab = Lab::new();
    let rows = [
        "lunatic::environment::create_empty_config",
        "lunatic::environment::create",
        "lunatic::process::compile_module",
        "lunatic::error::kind",
    ];
    for (made_before, make) in [
        (0, "(call $create_empty_config (i32.const 64))"),
        (1, "(call $create (i64.const 0) (i32.const 64))"),
        (
            1,
            "(call $compile_module (i32.const 16) (i32.const 8) (i32.const 64))",
        ),
    ] {
        let environment = lab.environment_with(|config| {
            config.limit(Limit::Handles, 20);
        });
        let before = "(drop (call $create_empty_config (i32.const 64)))".repeat(made_before);
        let module = lab.module(&guest(
            &rows,
            &format!(
                r#"(data (i32.const 16) "\00asm\01\00\00\00")
                (func (export "main") (local $made i64)
                    {before}
                    (block $refused
                        (loop $again
                            (br_if $refused {make})
                            (local.set $made (i64.add (local.get $made) (i64.const 1)))
                            (br $again)))
                    (call $say (local.get $made))
                    (call $say (i64.extend_i32_u (call $kind (i64.load (i32.const 64))))))"#
            ),
        ));
        let exit = lab.run_in(&environment, &module);
        assert!(exit.is_normal(), "{make}: {exit}");
        assert_eq!(
            lab.hear_all(),
            [20, lunatic_abi::Errno::LimitReached as i64],
            "{make}"
        );
    }
}

#[test]
fn t030_the_text_of_an_error_is_always_short() {
    let lab = Lab::new();
    // The function name is 60,000 bytes long, and each byte is displayed as five characters.
    let exit = lab.run(&guest(
        &["lunatic::process::spawn", "lunatic::error::string_size"],
        r#"(func (export "main")
             (memory.fill (i32.const 1024) (i32.const 1) (i32.const 60000))
             (call $say (i64.extend_i32_u (call $spawn (i64.const 0) (i64.const -1) (i64.const -1)
                (i32.const 1024) (i32.const 60000) (i32.const 0) (i32.const 0) (i32.const 0))))
             (call $say (i64.extend_i32_u (call $string_size (i64.load (i32.const 0))))))"#,
    ));
    assert!(exit.is_normal(), "{exit}");
    let [code, length] = lab.hear_all();
    assert_eq!(code, 1);
    assert!(length > 20 && length <= 4_096, "{length} bytes of text");
}

#[test]
fn t030_timers_can_hold_no_more_bytes_than_a_mailbox() {
    let lab = Lab::new();
    let module = lab.module(&guest(
        &["lunatic::timer::send_bytes_after", "lunatic::process::process_id"],
        r#"(func (export "main") (local i64)
             (block (loop
               (br_if 1 (call $send_bytes_after (call $process_id) (i64.const 0) (i32.const 0) (i32.const 60000)
                  (i32.const 0) (i32.const 0) (i64.const 3600000) (i32.const 65000)))
               (local.set 0 (i64.add (local.get 0) (i64.const 1)))
               (br 0)))
             (call $say (local.get 0)))"#,
    ));
    let process = limited(&lab, Limit::MailboxBytes, 1 << 20)
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    assert!(lab.exit(&process).is_normal());
    let started = lab.hear();
    assert!(
        (10..=17).contains(&started),
        "{started} timers hold 60,000 bytes each"
    );
}

#[test]
fn t031_a_vm_with_little_address_space_uses_dense_and_reports_what_it_cannot_do() {
    // A process's address space can be limited only if the shell supports `ulimit -v`.
    if !cfg!(target_os = "linux") {
        println!("skipped: this system has no `ulimit -v`");
        return;
    }
    let limited = ["sh", "-c", "ulimit -v 8000000; exec \"$0\" \"$@\""];
    let name =
        "memory::t031_a_vm_with_little_address_space_uses_dense_and_reports_what_it_cannot_do";
    if !is_alone(name, &limited) {
        return;
    }
    let text = guest(
        &[],
        "(func (export \"main\") (call $say (i64.load (i32.const 60000))))",
    );
    let lab = Lab::with(Vm::builder());
    assert!(lab.run(&text).is_normal());
    assert_eq!(lab.hear(), 0);
    let vm = Vm::builder()
        .profile(Profile::Fast)
        .build()
        .expect("the configuration is valid");
    let module = vm
        .module("test", b"(module (memory 1) (func (export \"main\")))")
        .expect("the module is valid");
    let error = vm
        .environment(vm.config())
        .spawn(&module, "main", &[])
        .expect_err("4 GiB exceeds the available address space");
    assert!(error.to_string().contains("`dense`"), "{error}");
}

#[test]
fn t032_the_memory_of_all_processes_of_an_environment_has_one_limit() {
    let lab = Lab::new();
    let environment = limited(&lab, Limit::TotalMemory, 10 * PAGE);
    let module = lab.module(&guest(
        &["lunatic::process::sleep_ms"],
        r#"(func (export "wait") (call $sleep_ms (i64.const -1)))
           (func (export "grow") (call $say (i64.extend_i32_s (memory.grow (i32.const 1)))) (call $sleep_ms (i64.const -1)))"#,
    ));
    let mut processes: Vec<_> = (0..8)
        .map(|_| {
            environment
                .spawn(&module, "wait", &[])
                .expect("eight pages fit")
        })
        .collect();
    processes.push(
        environment
            .spawn(&module, "grow", &[])
            .expect("nine pages fit"),
    );
    assert_eq!(lab.hear(), 1, "ten pages fit");
    assert_eq!(environment.used(Limit::TotalMemory), 10 * PAGE);
    let Err(SpawnError::Limit(reached)) = environment.spawn(&module, "wait", &[]) else {
        panic!("eleven pages must exceed the limit")
    };
    assert_eq!(
        reached,
        LimitReached {
            limit: Limit::TotalMemory,
            allowed: 10 * PAGE,
            wanted: Some(11 * PAGE)
        }
    );
    processes.pop().expect("nine processes were spawned").kill();
    lab.wait_for("the memory of the killed process to be released", async {
        while environment.used(Limit::TotalMemory) > 8 * PAGE {
            futures_lite::future::yield_now().await;
        }
    });
    for wanted in [1, -1] {
        environment
            .spawn(&module, "grow", &[])
            .map(drop)
            .or_else(|error| match wanted {
                -1 => Ok(()),
                _ => Err(error),
            })
            .expect("one page fits");
        if wanted == 1 {
            assert_eq!(lab.hear(), 1);
        }
    }
}

/// Writes to all the state that a process owns.
const TENANT: &str = r#"(module
    (import "test" "say" (func $say (param i64)))
    (memory (export "memory") 2) (data (i32.const 100) "own")
    (memory $second 1)
    (table $table 100 funcref)
    (global $global (mut i64) (i64.const 0))
    (func $mark (export "mark"))
    (func (export "dirty") (param $pages i32)
      (drop (memory.grow (local.get $pages)))
      (memory.fill (i32.const 0) (i32.const 0xaa) (i32.mul (memory.size) (i32.const 65536)))
      (drop (memory.grow $second (local.get $pages)))
      (memory.fill $second (i32.const 0) (i32.const 0xaa) (i32.mul (memory.size $second) (i32.const 65536)))
      (drop (table.grow $table (ref.null func) (i32.const 20000)))
      (table.fill $table (i32.const 0) (ref.func $mark) (table.size $table))
      (global.set $global (i64.const -1)))
    (func (export "look") (param $pages i32) (local $at i32) (local $sum i64) (local $end i32)
      (drop (memory.grow (local.get $pages)))
      (drop (memory.grow $second (local.get $pages)))
      (drop (table.grow $table (ref.null func) (i32.const 20000)))
      ;; The module's own data is there, and nothing else.
      (memory.fill (i32.const 100) (i32.const 0) (i32.mul (i32.eq (i32.load8_u (i32.const 102)) (i32.const 110)) (i32.const 3)))
      (local.set $end (i32.mul (memory.size) (i32.const 65536)))
      (loop
        (local.set $sum (i64.or (local.get $sum) (i64.load (local.get $at))))
        (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $end))))
      (local.set $at (i32.const 0))
      (local.set $end (i32.mul (memory.size $second) (i32.const 65536)))
      (loop
        (local.set $sum (i64.or (local.get $sum) (i64.load $second (local.get $at))))
        (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $end))))
      (local.set $at (i32.const 0))
      (loop
        (local.set $sum (i64.or (local.get $sum) (i64.extend_i32_u (i32.eqz (ref.is_null (table.get $table (local.get $at)))))))
        (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (table.size $table))))
      (call $say (i64.or (local.get $sum) (global.get $global)))))"#;

#[test]
fn t034_a_process_leaves_nothing_for_the_next_process() {
    let lab = Lab::with(Vm::builder().workers(1));
    // Each kind of code has its own slots. The sizes are below and above the size that stays
    // resident in a slot.
    for limit in [u64::MAX, 1_000_000] {
        let environment = limited(&lab, Limit::Compute, limit);
        let module = lab.module(TENANT);
        let run = |function: &str, pages: i32| {
            let process = environment
                .spawn(&module, function, &[pages.into()])
                .expect("no limit applies");
            let exit = lab.exit(&process);
            assert!(exit.is_normal(), "{function} {pages}: {exit}");
        };
        for round in 0..12 {
            for (dirty, look) in [(0, 0), (1, 3), (60, 60), (60, 2), (2, 60)] {
                // A new process may take any slot that was ever used, so two slots at a time are
                // dirtied.
                run("dirty", dirty);
                run("dirty", dirty);
                run("look", look);
                assert_eq!(
                    lab.hear(),
                    0,
                    "round {round}: {dirty} more pages were dirtied and {look} pages were looked at"
                );
            }
        }
    }
}

#[test]
fn t034_a_killed_process_leaves_nothing_for_the_next_process() {
    let lab = Lab::with(Vm::builder().workers(1));
    let environment = lab.environment();
    let looking = lab.module(TENANT);
    let dirty = lab.module(&TENANT.replace(
        "(global.set $global (i64.const -1))",
        "(call $say (i64.const 7)) (loop br 0)",
    ));
    for _ in 0..20 {
        let process = environment
            .spawn(&dirty, "dirty", &[60.into()])
            .expect("no limit applies");
        assert_eq!(lab.hear(), 7);
        process.kill();
        lab.exit(&process);
        environment
            .spawn(&looking, "look", &[60.into()])
            .expect("no limit applies");
        assert_eq!(lab.hear(), 0);
    }
}

#[test]
fn t035_processes_leave_nothing_behind_when_they_end() {
    if !cfg!(target_os = "linux") {
        println!("skipped: this system has no /proc");
        return;
    }
    if !is_alone(
        "memory::t035_processes_leave_nothing_behind_when_they_end",
        &[],
    ) {
        return;
    }
    let lab = Lab::new();
    let environment = lab.environment();
    let module = lab.module(&guest(
        &[
            "lunatic::message::create_data",
            "lunatic::message::write_data",
            "lunatic::process::process_id",
            "lunatic::message::send",
        ],
        r#"(func (export "main")
             (call $create_data (i64.const 1) (i64.const 0))
             (drop (call $write_data (i32.const 0) (i32.const 100)))
             (drop (call $send (call $process_id))))"#,
    ));
    let cycle = |count: usize| {
        for _ in 0..count / 100 {
            let spawn = |_| {
                environment
                    .spawn(&module, "main", &[])
                    .expect("earlier processes have ended")
            };
            let batch: Vec<_> = (0..100).map(spawn).collect();
            for process in batch {
                assert!(lab.exit(&process).is_normal());
            }
        }
    };
    // This lets the slots, the allocator's pools and the tables reach their full size first.
    cycle(20_000);
    let before = footprint();
    cycle(80_000);
    let after = footprint();
    println!("resident kB and mappings before {before:?}, after {after:?}");
    assert!(
        after.0 < before.0 + before.0 / 10 + 4_096,
        "the resident size rose from {} kB to {}",
        before.0,
        after.0
    );
    assert!(
        after.1 < before.1 + 64,
        "the number of mappings rose from {} to {}",
        before.1,
        after.1
    );
    assert_eq!(environment.used(Limit::Processes), 0);
    assert!(lab.vm.processes().is_empty());
}

/// Returns this process's resident size in kilobytes and its number of mappings.
fn footprint() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has this file");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("Linux reports the resident size");
    let resident = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("the size is a number");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has this file");
    (resident, maps.lines().count())
}

#[test]
fn dropping_a_vm_releases_everything_even_while_timers_are_running() {
    let witness = Arc::new(());
    let mut host = Host::default();
    let held = witness.clone();
    host.function("test", "hold", move |_: Caller<'_, Guest>| {
        let _ = &held;
    });
    let lab = Lab::with_host(Vm::builder(), host);
    // These timers never fire. The message of one of them holds a module.
    let process = lab.spawn(&guest(
        &[
            "lunatic::timer::send_after",
            "lunatic::message::create_data",
            "lunatic::message::push_module",
        ],
        r#"(func (export "main")
             (call $create_data (i64.const 0) (i64.const 0))
             (drop (call $push_module (i64.const -1)))
             (drop (call $send_after (i64.const 1) (i64.const 3600000)))
             (call $create_data (i64.const 0) (i64.const 0))
             (drop (call $send_after (i64.const 1) (i64.const -1))))"#,
    ));
    assert!(lab.exit(&process).is_normal());
    drop(process);
    drop(lab);
    for _ in 0..1_000_000 {
        if Arc::strong_count(&witness) == 1 {
            return;
        }
        std::thread::yield_now();
    }
    assert_eq!(
        Arc::strong_count(&witness),
        1,
        "the VM's host functions have not been released"
    );
}
