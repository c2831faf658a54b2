//! Tests for guests of the older generations: how they are recognised, and what each of their
//! functions does.

use crate::support::{Lab, binary, guest, signature};
use lunatic_abi::Generation;
use lunatic_vm::{Exit, Limit, ModuleError};
use std::fmt::Write;

/// Returns the source of a module that has the given fields and imports all functions of a
/// generation, each as `$name`, as well as `$say` and `$proc_exit`. It also defines the following
/// functions:
///
/// * `$out` returns the number that a call wrote to address 8192, where results are stored.
/// * `$say_error` reports the message of the error whose id is at that address, and drops the
///   error. The test receives the message with [`hear_text`].
/// * `$child` spawns a process that runs the function whose name is at the given address, and
///   returns the process's handle. The process is linked unless the tag is 0.
/// * `$post` sends a message with a tag and a number. `$number` reads the number of the current
///   message.
fn guest_of(generation: Generation, fields: &str) -> String {
    let mut text = String::from(
        "(module (import \"test\" \"say\" (func $say (param i64)))
            (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $proc_exit (param i32)))\n",
    );
    for row in generation.host_functions() {
        let _ = write!(
            text,
            "(import \"{}\" \"{}\" (func ${}",
            row.namespace, row.name, row.name
        );
        let _ = writeln!(text, "{}))", signature(row));
    }
    text + r#"(memory (export "memory") 1)
        (func $out (result i64) (i64.load (i32.const 8192)))
        (func $say_error (local $rest i32) (local $at i32)
            (local.set $rest (call $string_size (call $out)))
            (call $to_string (call $out) (i32.const 12288))
            (call $drop (call $out))
            (call $say (i64.extend_i32_u (local.get $rest)))
            (local.set $at (i32.const 12288))
            (loop $more
                (call $say (i64.load8_u (local.get $at)))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br_if $more (local.tee $rest (i32.sub (local.get $rest) (i32.const 1))))))
        (func $child (param $tag i64) (param $name i32) (param $length i32) (result i64)
            (if (call $inherit_spawn (local.get $tag) (local.get $name) (local.get $length)
                    (i32.const 0) (i32.const 0) (i32.const 8192))
                (then (call $say_error) unreachable))
            (call $out))
        (func $compose (param $tag i64) (param $number i64)
            (call $create_data (local.get $tag) (i64.const 0))
            (i64.store (i32.const 8200) (local.get $number))
            (drop (call $write_data (i32.const 8200) (i32.const 8))))
        (func $post (param $to i64) (param $tag i64) (param $number i64)
            (call $compose (local.get $tag) (local.get $number))
            (call $send (local.get $to)))
        (func $number (result i64)
            (drop (call $read_data (i32.const 8208) (i32.const 8)))
            (i64.load (i32.const 8208)))"#
        + fields
        + ")"
}

/// Like [`guest_of`], but for generation 0.7. The module also has `$next`, which receives the first
/// piece of mail and returns its kind.
fn older(fields: &str) -> String {
    let next =
        "(func $next (result i32) (call $receive (i32.const 0) (i32.const 0) (i32.const 0)))";
    guest_of(Generation::V0_7, &format!("{next}{fields}"))
}

/// Receives a string that a guest reports.
fn hear_text(lab: &Lab) -> String {
    let length = lab.hear();
    (0..length).map(|_| lab.hear() as u8 as char).collect()
}

/// Runs a 0.7 guest until it ends normally, and checks the numbers that it reports.
#[track_caller]
fn says<const COUNT: usize>(fields: &str, expected: [i64; COUNT]) {
    let lab = Lab::new();
    let exit = lab.run(&older(fields));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear_all(), expected);
    assert!(lab.heard_nothing_more());
}

/// Runs a 0.7 guest that traps, and checks the reason for the trap.
#[track_caller]
fn traps(fields: &str, words: &str) {
    let exit = Lab::new().run(&older(fields));
    assert!(
        exit.trap().is_some_and(|trap| trap.reason.contains(words)),
        "{exit}"
    );
}

fn refusal(imports: &[(&str, &str, &str)]) -> ModuleError {
    let lab = Lab::new();
    let import = |(namespace, name, ty): &(&str, &str, &str)| {
        format!("(import \"lunatic::{namespace}\" \"{name}\" (func {ty}))")
    };
    let imports: String = imports.iter().map(import).collect();
    lab.vm
        .module("test", format!("(module {imports})").as_bytes())
        .expect_err(&imports)
}

#[test]
fn a_module_belongs_to_the_generation_that_has_all_its_imports() {
    let lab = Lab::new();
    for (import, generation) in [
        (
            "(import \"lunatic::process\" \"process_id\" (func (result i64)))",
            13,
        ),
        (
            "(import \"lunatic::process\" \"this\" (func (result i64)))",
            7,
        ),
        (
            "(import \"lunatic::message\" \"send\" (func (param i64)))",
            7,
        ),
        (
            "(import \"lunatic::message\" \"send\" (func (param i64) (result i32)))",
            13,
        ),
        (
            "(import \"lunatic::message\" \"receive\" (func (param i32 i32 i32) (result i32)))",
            7,
        ),
        (
            "(import \"lunatic::message\" \"receive\" (func (param i32 i32 i64) (result i32)))",
            13,
        ),
        // An import that both generations have does not determine the generation.
        (
            "(import \"lunatic::error\" \"drop\" (func (param i64)))",
            13,
        ),
        ("", 13),
    ] {
        let exit = lab.run(&format!(
            "(module {import}
                (import \"lunatic::version\" \"minor\" (func $minor (result i32)))
                (import \"test\" \"say\" (func $say (param i64)))
                (func (export \"main\") (call $say (i64.extend_i32_u (call $minor)))))"
        ));
        assert!(exit.is_normal(), "{import}: {exit}");
        assert_eq!(lab.hear(), generation, "{import}");
    }
}

#[test]
fn the_reported_version_is_the_last_of_the_generation() {
    says(
        r#"(func (export "main")
            (call $say (i64.extend_i32_u (call $major)))
            (call $say (i64.extend_i32_u (call $minor)))
            (call $say (i64.extend_i32_u (call $patch))))"#,
        [0, 7, 5],
    );
}

#[test]
fn guests_of_other_generations_are_refused_and_the_error_names_their_version() {
    for (imports, versions, shown) in [
        (
            &[
                ("message", "create_data", "(param i64 i64)"),
                ("message", "receive", "(param i32 i32)"),
            ][..],
            "",
            "`lunatic::message::receive`",
        ),
        (
            &[
                ("message", "send", "(param i64) (result i32)"),
                (
                    "process",
                    "inherit_spawn",
                    "(param i32 i32 i32 i32 i32 i32) (result i32)",
                ),
            ],
            "version 0.5 of",
            "`lunatic::process::inherit_spawn`",
        ),
        (
            &[
                ("process", "this", "(result i64)"),
                (
                    "process",
                    "spawn",
                    "(param i64 i64 i64 i32 i32 i32 i32 i32) (result i32)",
                ),
            ],
            "version 0.9 of",
            "`lunatic::process::this`",
        ),
        (
            &[("registry", "put", "(param i32 i32 i64)")],
            "version 0.9 of",
            "`lunatic::registry::put`",
        ),
    ] {
        let error = refusal(imports);
        match versions {
            // No generation ever had this function, so only the linker can report the error.
            "" => assert!(matches!(error, ModuleError::ImportType(_)), "{error:?}"),
            _ => assert!(matches!(error, ModuleError::Generation { .. }), "{error:?}"),
        }
        let said = error.to_string();
        assert!(
            said.contains(versions) && said.contains(shown.trim_matches('`')),
            "{said}"
        );
        assert!(
            versions.is_empty() || said.contains("build it with version 0.14.1"),
            "{said}"
        );
    }
}

#[test]
fn a_guest_of_0_12_runs_if_its_imports_have_not_changed() {
    let lab = Lab::new();
    let exit = lab.run(
        "(module
            (import \"lunatic::message\" \"send\" (func (param i64) (result i32)))
            (import \"lunatic::message\" \"receive\" (func (param i32 i32 i64) (result i32)))
            (import \"lunatic::registry\" \"put\" (func (param i32 i32 i64 i64)))
            (func (export \"main\")))",
    );
    assert!(exit.is_normal(), "{exit}");
}

/// Returns the source of a guest for 0.10 to 0.12. `send` is the type of the send function, which
/// may have a result, and `fields` follows the functions that all of these guests share.
fn guest_of_0_12(send: &str, send_drops: &str, fields: &str) -> String {
    format!(
        r#"(module
            (import "lunatic::process" "process_id" (func $this (result i64)))
            (import "lunatic::process" "spawn"
                (func $spawn (param i64 i64 i64 i32 i32 i32 i32 i32) (result i32)))
            (import "lunatic::message" "create_data" (func $create_data (param i64 i64)))
            (import "lunatic::message" "write_data" (func $write_data (param i32 i32) (result i32)))
            (import "lunatic::message" "read_data" (func $read_data (param i32 i32) (result i32)))
            (import "lunatic::message" "get_tag" (func $get_tag (result i64)))
            (import "lunatic::message" "send" (func $send_raw {send}))
            (import "lunatic::message" "send_receive_skip_search"
                (func $request (param i64 i64) (result i32)))
            (import "lunatic::distributed" "send_receive_skip_search"
                (func $request_of_node (param i64 i64 i64) (result i32)))
            (import "lunatic::message" "receive" (func $receive (param i32 i32 i64) (result i32)))
            (import "test" "say" (func $say (param i64)))
            (memory (export "memory") 1)
            (data (i32.const 0) "child")
            (func $send (param i64) (call $send_raw (local.get 0)) {send_drops})
            (func $compose (param $tag i64) (param $number i64)
                (call $create_data (local.get $tag) (i64.const 0))
                (i64.store (i32.const 8) (local.get $number))
                (drop (call $write_data (i32.const 8) (i32.const 8))))
            (func $number (result i64)
                (drop (call $read_data (i32.const 16) (i32.const 8)))
                (i64.load (i32.const 16)))
            (func $child (result i64)
                (drop (call $spawn (i64.const 0) (i64.const -1) (i64.const -1)
                    (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 24)))
                (i64.load (i32.const 24)))
            {fields})"#
    )
}

#[test]
fn guests_of_0_10_to_0_12_send_and_request_without_naming_a_tag() {
    // The child doubles a number and replies with the request's tag, after a message with a
    // different tag.
    let fields = r#"
        (func (export "child") (local $tag i64) (local $asker i64) (local $number i64)
            (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
            (local.set $asker (call $number))
            (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
            (local.set $tag (call $get_tag))
            (local.set $number (call $number))
            (call $compose (i64.const 99) (i64.const 1))
            (call $send (local.get $asker))
            (call $compose (local.get $tag) (i64.mul (local.get $number) (i64.const 2)))
            (call $send (local.get $asker)))
        (func $ask (param $tag i64) (param $node i32)
            (local $child i64)
            (local.set $child (call $child))
            (call $compose (i64.const 0) (call $this))
            (call $send (local.get $child))
            (call $compose (local.get $tag) (i64.const 21))
            (call $say (i64.extend_i32_u (if (result i32) (local.get $node)
                (then (call $request_of_node (i64.const 0) (local.get $child) (i64.const -1)))
                (else (call $request (local.get $child) (i64.const -1))))))
            (call $say (call $number)))
        (func (export "main")
            (call $ask (i64.const 7) (i32.const 0))
            (call $ask (i64.const 8) (i32.const 1))
            ;; Without a tag, the first message that arrives after the request is the answer.
            (call $ask (i64.const 0) (i32.const 0))
            ;; The first request is sent to this process itself, and the second to an unknown node.
            (call $compose (i64.const 5) (i64.const 0))
            (call $say (i64.extend_i32_u (call $request (call $this) (i64.const 0))))
            (call $compose (i64.const 5) (i64.const 0))
            (call $say (i64.extend_i32_u
                (call $request_of_node (i64.const 3) (call $this) (i64.const -1)))))"#;
    for (send, send_drops) in [("(param i64) (result i32)", "drop"), ("(param i64)", "")] {
        let lab = Lab::new();
        let exit = lab.run(&guest_of_0_12(send, send_drops, fields));
        assert!(exit.is_normal(), "{send}: {exit}");
        // A request that a process sends to itself is received as its own reply, because it has the
        // right tag.
        assert_eq!(lab.hear_all(), [0, 42, 0, 42, 0, 1, 0, 2], "{send}");
        assert!(lab.heard_nothing_more());
    }
}

#[test]
fn a_sender_of_0_10_waits_for_room() {
    let lab = Lab::new();
    let module = lab.module(&guest_of_0_12(
        "(param i64)",
        "",
        r#"(func (export "child")
            (loop $more
                (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
                (br_if $more (i64.ne (call $number) (i64.const 20))))
            (call $say (i64.const 20)))
        (func (export "main") (local $child i64) (local $number i64)
            (local.set $child (call $child))
            (loop $more
                (local.set $number (i64.add (local.get $number) (i64.const 1)))
                (call $compose (i64.const 0) (local.get $number))
                (call $send (local.get $child))
                (br_if $more (i64.ne (local.get $number) (i64.const 20)))))"#,
    ));
    let environment = lab.environment_with(|config| {
        config.limit(Limit::MailboxMessages, 2);
    });
    let main = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    assert!(lab.exit(&main).is_normal());
    assert_eq!(lab.hear(), 20);
}

#[test]
fn a_module_of_mixed_generations_is_refused_and_the_error_names_an_import_from_each() {
    for (imports, one, other) in [
        (
            &[
                ("error", "drop", "(param i64)"),
                (
                    "process",
                    "inherit_spawn",
                    "(param i64 i32 i32 i32 i32 i32) (result i32)",
                ),
                ("process", "process_id", "(result i64)"),
            ][..],
            "lunatic::process::inherit_spawn",
            "lunatic::process::process_id",
        ),
        (
            &[
                ("message", "receive", "(param i64 i32) (result i32)"),
                ("environment", "drop", "(param i64)"),
                ("process", "this_env", "(result i64)"),
            ],
            "lunatic::message::receive",
            "lunatic::environment::drop",
        ),
        (
            &[
                ("message", "receive", "(param i64 i32) (result i32)"),
                ("message", "receive", "(param i32 i32 i32) (result i32)"),
            ],
            "lunatic::message::receive",
            "lunatic::message::receive",
        ),
    ] {
        let error = refusal(imports);
        assert!(
            matches!(error, ModuleError::MixedGenerations { .. }),
            "{error:?}"
        );
        let said = error.to_string();
        let (one, other) = (format!("`{one}`"), format!("`{other}`"));
        assert!(said.contains(&one) && said.contains(&other), "{said}");
    }
}

#[test]
fn handles_count_from_0_and_are_not_reused() {
    says(
        r#"(func (export "main")
            (call $say (call $this))
            (call $say (call $clone_process (i64.const 0)))
            (call $drop_process (i64.const 1))
            (call $say (call $this)))"#,
        [0, 1, 2],
    );
    traps(
        "(func (export \"main\") (drop (call $clone_process (i64.const 0))))",
        "there is no process 0",
    );
}

#[test]
fn the_number_of_handles_is_limited() {
    traps(
        "(func (export \"main\") (loop $more (drop (call $this)) (br $more)))",
        "at most 1000000 process handles",
    );
}

#[test]
fn all_handles_to_a_process_have_the_same_id() {
    says(
        r#"(data (i32.const 0) "main idle")
        (func (export "idle") (drop (call $next)))
        (func (export "main") (local $child i64)
            (local.set $child (call $child (i64.const 0) (i32.const 5) (i32.const 4)))
            (call $id (call $this) (i32.const 1024))
            (call $id (call $this) (i32.const 1040))
            (call $id (local.get $child) (i32.const 1056))
            (call $say (i64.extend_i32_u (i64.eq (i64.load (i32.const 1024)) (i64.load (i32.const 1040)))))
            (call $say (i64.extend_i32_u (i64.eq (i64.load (i32.const 1032)) (i64.load (i32.const 1048)))))
            (call $say (i64.extend_i32_u (i64.eq (i64.load (i32.const 1024)) (i64.load (i32.const 1056)))))
            (call $id (local.get $child) (i32.const 1040))
            (call $say (i64.extend_i32_u (i64.eq (i64.load (i32.const 1040)) (i64.load (i32.const 1056)))))
            ;; This is the version field of the UUID, which is a 128-bit number.
            (call $say (i64.extend_i32_u (i32.shr_u (i32.load8_u (i32.const 1033)) (i32.const 4)))))"#,
        [1, 1, 0, 1, 4],
    );
}

#[test]
fn a_handle_that_is_sent_in_a_message_no_longer_belongs_to_the_sender() {
    let answered = r#"(data (i32.const 0) "answerer")
        (func (export "answerer")
            (drop (call $next))
            ;; Take the second of two handles, then the first.
            (drop (call $take_process (i64.const 1)))
            (call $post (call $take_process (i64.const 0)) (i64.const 0) (i64.const 42)))
        (func (export "main") (local $child i64)
            (local.set $child (call $child (i64.const 0) (i32.const 0) (i32.const 8)))
            (call $compose (i64.const 0) (i64.const 0))
            (call $say (call $push_process (call $this)))
            (call $say (call $push_process (call $this)))
            (call $send (local.get $child))
            (drop (call $next))
            (call $say (call $number)))"#;
    says(answered, [0, 1, 42]);
    traps(
        r#"(func (export "main")
            (call $compose (i64.const 0) (i64.const 0))
            (drop (call $push_process (call $this)))
            (drop (call $clone_process (i64.const 0))))"#,
        "there is no process 0",
    );
}

#[test]
fn invalid_handles_are_refused() {
    let compose =
        "(call $compose (i64.const 0) (i64.const 0)) (drop (call $push_process (call $this)))";
    for (what, words) in [
        (
            format!("{compose} (drop (call $take_process (i64.const 1)))"),
            "has no resource 1",
        ),
        (
            format!("{compose} (drop (call $take_tcp_stream (i64.const 0)))"),
            "is not a stream",
        ),
        (
            format!(
                "{compose} (drop (call $take_process (i64.const 0))) (drop (call $take_process (i64.const 0)))"
            ),
            "has already been taken out",
        ),
        (
            "(drop (call $push_process (call $this)))".into(),
            "there is no current message",
        ),
        (
            "(call $send (call $this))".into(),
            "there is no current message",
        ),
    ] {
        traps(&format!("(func (export \"main\") {what})"), words);
    }
}

#[test]
fn a_message_can_carry_a_list_of_processes() {
    says(
        r#"(func (export "main") (local $count i32)
            (call $compose (i64.const 0) (i64.const 0))
            (local.set $count (i32.const 5000))
            (loop $more
                (drop (call $push_process (call $this)))
                (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
            (call $send (call $this))
            (drop (call $next))
            (drop (call $take_process (i64.const 4999)))
            (call $say (call $number)))"#,
        [0],
    );
    let lab = Lab::new();
    let environment = lab.environment_with(|config| _ = config.limit(Limit::MessageBytes, 10_000));
    let module = lab.module(&older(
        r#"(func (export "main")
            (call $compose (i64.const 0) (i64.const 0))
            (loop $more (drop (call $push_process (call $this))) (br $more)))"#,
    ));
    let exit = lab.exit(
        &environment
            .spawn(&module, "main", &[])
            .expect("no limit applies"),
    );
    assert!(
        exit.trap()
            .is_some_and(|trap| trap.reason.contains("at most 10000 bytes")),
        "{exit}"
    );
}

#[test]
fn a_message_to_a_dead_process_is_dropped() {
    says(
        r#"(data (i32.const 0) "fail")
        (func (export "fail") unreachable)
        (func (export "main") (local $child i64)
            (call $die_when_link_dies (i32.const 0))
            (local.set $child (call $child (i64.const 7) (i32.const 0) (i32.const 4)))
            (drop (call $next))
            (call $post (local.get $child) (i64.const 0) (i64.const 1))
            (call $say (i64.const 1)))"#,
        [1],
    );
}

#[test]
fn a_send_without_a_result_waits_for_room_in_the_mailbox() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| _ = config.limit(Limit::MailboxMessages, 1));
    let module = lab.module(&older(
        r#"(data (i32.const 0) "sender")
        (func (export "sender") (local $parent i64) (local $count i64)
            (drop (call $next))
            (local.set $parent (call $take_process (i64.const 0)))
            (loop $more
                (call $post (local.get $parent) (i64.const 0) (local.get $count))
                (local.set $count (i64.add (local.get $count) (i64.const 1)))
                (br_if $more (i64.lt_u (local.get $count) (i64.const 40)))))
        (func (export "main") (local $child i64) (local $count i32)
            (local.set $child (call $child (i64.const 0) (i32.const 0) (i32.const 6)))
            (call $compose (i64.const 0) (i64.const 0))
            (drop (call $push_process (call $this)))
            (call $send (local.get $child))
            (local.set $count (i32.const 40))
            (loop $more
                (drop (call $next))
                (call $say (call $number))
                (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))"#,
    ));
    let exit = lab.exit(
        &environment
            .spawn(&module, "main", &[])
            .expect("no limit applies"),
    );
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(
        lab.hear_all::<40>(),
        std::array::from_fn(|number| number as i64)
    );
}

#[test]
fn a_process_that_fills_its_own_mailbox_traps() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| _ = config.limit(Limit::MailboxMessages, 3));
    let fill = "(func (export \"main\") (loop $more (call $post (call $this) (i64.const 0) (i64.const 0)) (br $more)))";
    let exit = lab.exit(
        &environment
            .spawn(&lab.module(&older(fill)), "main", &[])
            .expect("no limit applies"),
    );
    let reason = exit
        .trap()
        .map(|trap| trap.reason.as_str())
        .unwrap_or_default();
    assert!(
        reason.contains("is full") && reason.contains("lunatic::message::send"),
        "{exit}"
    );
}

#[test]
fn a_receive_takes_the_first_message_that_has_one_of_the_tags() {
    says(
        r#"(data (i32.const 0) "\03\00\00\00\00\00\00\00\02\00\00\00\00\00\00\00")
        (func $of_both (result i32) (call $receive (i32.const 0) (i32.const 2) (i32.const 1)))
        (func (export "main") (local $tag i64)
            (loop $more
                (call $post (call $this) (local.get $tag) (i64.mul (local.get $tag) (i64.const 10)))
                (local.set $tag (i64.add (local.get $tag) (i64.const 1)))
                (br_if $more (i64.lt_u (local.get $tag) (i64.const 5))))
            (call $say (i64.extend_i32_u (call $of_both)))
            (call $say (call $get_tag)) (call $say (call $number))
            (call $say (i64.extend_i32_u (call $of_both)))
            (call $say (call $get_tag)) (call $say (call $number))
            ;; No more messages have this tag. The other messages are still there, in order.
            (call $say (i64.extend_i32_u (call $of_both)))
            (drop (call $next)) (call $say (call $number))
            (drop (call $next)) (call $say (call $number))
            (drop (call $next)) (call $say (call $number)))"#,
        [0, 2, 20, 0, 3, 30, 9027, 0, 10, 40],
    );
}

#[test]
fn a_receive_that_times_out_leaves_an_empty_message() {
    says(
        r#"(func (export "main")
            (call $compose (i64.const 5) (i64.const 1))
            (call $say (i64.extend_i32_u (call $receive (i32.const 0) (i32.const 0) (i32.const 1))))
            (call $say (call $data_size))
            (call $say (i64.extend_i32_u (call $read_data (i32.const 0) (i32.const 8))))
            (call $say (call $get_tag))
            (call $compose (i64.const 5) (i64.const 1))
            (call $say (i64.extend_i32_u (call $send_receive_skip_search (call $this) (i32.const 1))))
            (call $say (call $number)))"#,
        // The process sent the request to itself, so the request is the next message that it
        // receives.
        [9027, 0, 0, 0, 0, 1],
    );
}

#[test]
fn guests_of_0_6_receive_by_a_single_tag() {
    let lab = Lab::new();
    let exit = lab.run(&guest_of(
        Generation::V0_6,
        r#"(func (export "main")
            (call $post (call $this) (i64.const 1) (i64.const 10))
            (call $post (call $this) (i64.const 2) (i64.const 20))
            (call $say (i64.extend_i32_u (call $receive (i64.const 2) (i32.const 0)))) (call $say (call $number))
            (call $say (i64.extend_i32_u (call $receive (i64.const 2) (i32.const 1)))) (call $say (call $data_size))
            (call $say (i64.extend_i32_u (call $receive (i64.const 0) (i32.const 0)))) (call $say (call $number)))"#,
    ));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear_all(), [0, 20, 9027, 0, 0, 10]);
}

#[test]
fn a_receive_returns_when_no_process_is_left_that_could_send() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| _ = config.closed());
    // Programs built with 0.6 have no timeouts. They receive a message that they cannot read.
    for (generation, receive, result) in [
        (
            Generation::V0_7,
            "(i32.const 0) (i32.const 0) (i32.const 0)",
            9027,
        ),
        (Generation::V0_6, "(i64.const 0) (i32.const 0)", 0),
    ] {
        let module = lab.module(&guest_of(
            generation,
            &format!(
                r#"(func (export "main")
                    (call $say (i64.extend_i32_u (call $receive {receive})))
                    (call $say (call $data_size)))"#
            ),
        ));
        let exit = lab.exit(
            &environment
                .spawn(&module, "main", &[])
                .expect("no limit applies"),
        );
        assert!(exit.is_normal(), "{exit}");
        assert_eq!(lab.hear_all(), [result, 0], "{generation:?}");
    }
}

#[test]
fn a_request_takes_its_answer_and_skips_earlier_messages() {
    says(
        r#"(data (i32.const 0) "server")
        (func (export "server") (local $tag i64) (local $client i64)
            (drop (call $next))
            (local.set $tag (call $get_tag))
            (local.set $client (call $take_process (i64.const 0)))
            (call $post (local.get $client) (i64.const 6) (i64.const 60))
            (call $post (local.get $client) (local.get $tag) (i64.const 50)))
        (func (export "main") (local $server i64)
            (local.set $server (call $child (i64.const 0) (i32.const 0) (i32.const 6)))
            (call $post (call $this) (i64.const 5) (i64.const 1))
            (call $compose (i64.const 5) (i64.const 0))
            (drop (call $push_process (call $this)))
            (call $say (i64.extend_i32_u (call $send_receive_skip_search (local.get $server) (i32.const 0))))
            (call $say (call $number))
            (drop (call $next)) (call $say (call $number))
            (drop (call $next)) (call $say (call $number))
            ;; A receive without a tag takes the first message.
            (call $compose (i64.const 0) (i64.const 7))
            (call $say (i64.extend_i32_u (call $send_receive_skip_search (call $this) (i32.const 0))))
            (call $say (call $number))
            ;; The server no longer exists.
            (call $compose (i64.const 5) (i64.const 0))
            (call $say (i64.extend_i32_u (call $send_receive_skip_search (local.get $server) (i32.const 1))))
            (call $say (call $data_size)))"#,
        [0, 50, 1, 60, 0, 7, 9027, 0],
    );
}

#[test]
fn a_parent_is_notified_only_of_failures_and_gets_the_tag_of_the_spawn() {
    says(
        r#"(data (i32.const 0) "done fail leave")
        (func (export "done"))
        (func (export "leave") (call $proc_exit (i32.const 0)))
        (func (export "fail") unreachable)
        (func (export "main") (local $child i64)
            (call $die_when_link_dies (i32.const 0))
            (drop (call $child (i64.const 1) (i32.const 0) (i32.const 4)))
            (drop (call $child (i64.const 2) (i32.const 10) (i32.const 5)))
            (local.set $child (call $child (i64.const 3) (i32.const 5) (i32.const 4)))
            (call $say (i64.extend_i32_u (call $next)))
            (call $say (call $get_tag))
            ;; The child is dead, and its death has already been reported.
            (call $link (i64.const 4) (local.get $child))
            (drop (call $child (i64.const 5) (i32.const 5) (i32.const 4)))
            (call $say (i64.extend_i32_u (call $next)))
            (call $say (call $get_tag))
            (call $say (i64.extend_i32_u (call $receive (i32.const 0) (i32.const 0) (i32.const 1)))))"#,
        [1, 3, 1, 5, 9027],
    );
}

#[test]
fn a_child_is_notified_of_its_parents_death_without_a_tag() {
    says(
        r#"(data (i32.const 0) "middle leaf")
        (func (export "leaf")
            (call $die_when_link_dies (i32.const 0))
            (drop (call $next))
            (call $post (call $take_process (i64.const 0)) (i64.const 0) (i64.const 0))
            (call $say (i64.extend_i32_u (call $next)))
            (call $say (call $get_tag)))
        (func (export "middle") (local $leaf i64)
            (local.set $leaf (call $child (i64.const 7) (i32.const 7) (i32.const 4)))
            (call $compose (i64.const 0) (i64.const 0))
            (drop (call $push_process (call $this)))
            (call $send (local.get $leaf))
            ;; By now the child has asked to be notified.
            (drop (call $next))
            unreachable)
        (func (export "main")
            (call $die_when_link_dies (i32.const 0))
            (drop (call $child (i64.const 1) (i32.const 0) (i32.const 6)))
            (drop (call $next)))"#,
        [1, 0],
    );
}

#[test]
fn a_process_dies_with_its_child_unless_it_asks_to_be_notified() {
    let body = |more: &str| {
        older(&format!(
            r#"(data (i32.const 0) "fail")
            (func (export "fail") (drop (call $next)) unreachable)
            (func (export "main") (local $child i64)
                (local.set $child (call $child (i64.const 1) (i32.const 0) (i32.const 4)))
                {more}
                (call $post (local.get $child) (i64.const 0) (i64.const 0))
                (drop (call $receive (i32.const 0) (i32.const 0) (i32.const 50))))"#
        ))
    };
    let lab = Lab::new();
    assert!(matches!(lab.run(&body("")), Exit::LinkDied { .. }));
    let told_and_not =
        "(call $die_when_link_dies (i32.const 0)) (call $die_when_link_dies (i32.const 2))";
    assert!(matches!(
        lab.run(&body(told_and_not)),
        Exit::LinkDied { .. }
    ));
    assert!(
        lab.run(&body("(call $unlink (local.get $child))"))
            .is_normal()
    );
    assert!(
        lab.run(&body("(call $die_when_link_dies (i32.const 0))"))
            .is_normal()
    );
}

#[test]
fn a_link_has_its_tag_in_both_processes() {
    says(
        r#"(data (i32.const 0) "peer")
        (func (export "peer")
            (call $die_when_link_dies (i32.const 0))
            (drop (call $next))
            (call $link (i64.const 8) (call $take_process (i64.const 0)))
            unreachable)
        (func (export "main") (local $peer i64)
            (call $die_when_link_dies (i32.const 0))
            (local.set $peer (call $child (i64.const 0) (i32.const 0) (i32.const 4)))
            (call $compose (i64.const 0) (i64.const 0))
            (drop (call $push_process (call $this)))
            (call $send (local.get $peer))
            (call $say (i64.extend_i32_u (call $next)))
            (call $say (call $get_tag)))"#,
        [1, 8],
    );
}

#[test]
fn a_failed_spawn_returns_an_error_with_a_message() {
    let lab = Lab::new();
    let exit = lab.run(&older(
        r#"(data (i32.const 0) "nobody takes   \7e\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
        (func (export "takes") (param i32))
        (func $try (param $name i32) (param $name_length i32) (param $parameters i32) (param $length i32)
            (call $say (i64.extend_i32_u (call $inherit_spawn (i64.const 1) (local.get $name) (local.get $name_length)
                (local.get $parameters) (local.get $length) (i32.const 8192))))
            (call $say_error))
        (func (export "main")
            (call $try (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 0))
            (call $try (i32.const 7) (i32.const 5) (i32.const 0) (i32.const 0))
            (call $try (i32.const 7) (i32.const 5) (i32.const 15) (i32.const 17)))"#,
    ));
    assert!(exit.is_normal(), "{exit}");
    for words in [
        "no function `nobody`",
        "takes (i32), not ()",
        "takes (i32), not (i64)",
    ] {
        assert_eq!(lab.hear(), 1);
        let said = hear_text(&lab);
        assert!(said.contains(words), "{said}");
    }
    let spawn = |parameters: &str, length: i32| {
        format!(
            r#"(data (i32.const 0) "main {parameters}")
            (func (export "main") (drop (call $inherit_spawn (i64.const 0) (i32.const 0) (i32.const 4)
                (i32.const 5) (i32.const {length}) (i32.const 8192))))"#
        )
    };
    traps(&spawn("\\11", 17), "0x11 is not a parameter type");
    traps(&spawn("\\7f", 16), "not a whole number of 17-byte records");
}

#[test]
fn a_spawned_function_gets_its_parameters() {
    says(
        r#"(data (i32.const 0) "takes   \7f\fb\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\7e\07\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
        (func (export "takes") (param i32 i64)
            (call $say (i64.extend_i32_s (local.get 0)))
            (call $say (local.get 1))
            unreachable)
        (func (export "main")
            (call $die_when_link_dies (i32.const 0))
            (drop (call $inherit_spawn (i64.const 1) (i32.const 0) (i32.const 5)
                (i32.const 8) (i32.const 34) (i32.const 8192)))
            (drop (call $next))
            (call $say (call $get_tag)))"#,
        [-5, 7, 1],
    );
}

/// A 0.7 `main` that creates an environment with limits on memory and compute, and grants it the
/// functions with the prefixes `names`, which are stored starting at address 64. It then adds its
/// own module to the environment and runs `body`, which may use `$module`.
fn in_environment(memory: u64, compute: u64, names: &[&str], fields: &str, body: &str) -> String {
    let mut data = String::new();
    let mut allow = String::new();
    let mut at = 64;
    for name in names {
        let length = name.len();
        let _ = write!(data, "(data (i32.const {at}) \"{name}\")");
        let _ = write!(
            allow,
            "(call $allow_namespace (i64.const 0) (i32.const {at}) (i32.const {length}))"
        );
        at += length;
    }
    older(&format!(
        r#"{data} {fields}
        (func $try_spawn (param $module i64) (param $tag i64) (param $name i32) (param $length i32) (result i32)
            (call $spawn (local.get $tag) (local.get $module) (local.get $name) (local.get $length)
                (i32.const 0) (i32.const 0) (i32.const 8192)))
        (func (export "main") (local $environment i64) (local $module i64)
            (call $die_when_link_dies (i32.const 0))
            (if (i64.ne (call $create_config (i64.const {memory}) (i64.const {compute})) (i64.const 0)) (then unreachable))
            {allow}
            (if (call $create_environment (i64.const 0) (i32.const 8192)) (then (call $say_error) unreachable))
            (local.set $environment (call $out))
            (call $drop_config (i64.const 0))
            (if (call $add_this_module (local.get $environment) (i32.const 8192)) (then unreachable))
            (local.set $module (call $out))
            {body})"#
    ))
}

#[test]
fn an_environment_limits_memory_and_compute_and_functions() {
    let lab = Lab::new();
    let fields = r#"(data (i32.const 0) "grow loop send done")
        (func (export "grow") (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)))
        (func (export "loop") (loop $ever (br $ever)))
        (func (export "send") (drop (call $this)))
        (func (export "done"))"#;
    let body = r#"
        (drop (call $try_spawn (local.get $module) (i64.const 5) (i32.const 0) (i32.const 4)))
        (drop (call $next)) (call $say (call $get_tag))
        (drop (call $try_spawn (local.get $module) (i64.const 6) (i32.const 5) (i32.const 4)))
        (drop (call $next)) (call $say (call $get_tag))
        (drop (call $try_spawn (local.get $module) (i64.const 7) (i32.const 10) (i32.const 4)))
        (drop (call $next)) (call $say (call $get_tag))
        (call $say (i64.extend_i32_u
            (call $try_spawn (local.get $module) (i64.const 8) (i32.const 15) (i32.const 4))))"#;
    let exit = lab.run(&in_environment(
        100_000,
        1,
        &["lunatic::message"],
        fields,
        body,
    ));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear_all(), [5, 6, 7, 0]);

    // The memory exceeds the limit even at the start.
    let spawn = "(call $say (i64.extend_i32_u
            (call $try_spawn (local.get $module) (i64.const 0) (i32.const 15) (i32.const 4)))) (call $say_error)";
    let exit = lab.run(&in_environment(65_535, 0, &[], fields, spawn));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear(), 1);
    assert!(hear_text(&lab).contains("the memory of a process is limited to 65535 bytes"));
}

#[test]
fn an_environment_has_at_most_the_rights_of_its_creator() {
    let lab = Lab::new();
    let fields = r#"(data (i32.const 0) "bind")
        (func (export "bind") (drop (call $tcp_bind (i32.const 4) (i32.const 32) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 8192))))"#;
    let spawn =
        "(drop (call $try_spawn (local.get $module) (i64.const 5) (i32.const 0) (i32.const 4)))
        (call $say (i64.extend_i32_u (call $receive (i32.const 0) (i32.const 0) (i32.const 50))))";
    let program = lab.module(&in_environment(1_000_000, 0, &[""], fields, spawn));
    for (granted, result) in [("", 9027), ("lunatic::networking", 1)] {
        let environment = lab.environment_with(|config| {
            if !granted.is_empty() {
                config.deny(granted);
            }
        });
        let exit = lab.exit(
            &environment
                .spawn(&program, "main", &[])
                .expect("importing a function does not require any rights"),
        );
        assert!(exit.is_normal(), "{exit}");
        // The child dies if its creator does not have the right to call the function, regardless of
        // what the configuration allows.
        assert_eq!(lab.hear(), result, "without `{granted}`");
    }
}

#[test]
fn processes_of_an_environment_can_spawn_more_processes() {
    says_in_environment(
        r#"(data (i32.const 0) "parent child")
        (func (export "child") unreachable)
        (func (export "parent")
            (call $die_when_link_dies (i32.const 0))
            (drop (call $child (i64.const 3) (i32.const 7) (i32.const 5)))
            (drop (call $next))
            (call $say (call $get_tag))
            unreachable)"#,
        r#"(drop (call $try_spawn (local.get $module) (i64.const 5) (i32.const 0) (i32.const 6)))
        (drop (call $next))
        (call $say (call $get_tag))"#,
        [3, 5],
    );
}

#[track_caller]
fn says_in_environment<const COUNT: usize>(fields: &str, body: &str, expected: [i64; COUNT]) {
    let lab = Lab::new();
    let exit = lab.run(&in_environment(1_000_000, 0, &[""], fields, body));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear_all(), expected);
}

#[test]
fn unsupported_functions_return_an_error_with_a_message() {
    let lab = Lab::new();
    let exit = lab.run(&older(
        r#"(data (i32.const 0) "north") (data (i32.const 64) "/etc")
        (func (export "main")
            (drop (call $create_config (i64.const 1000000) (i64.const 0)))
            (call $say (i64.extend_i32_u (call $add_plugin (i64.const 0) (i32.const 0) (i32.const 5) (i32.const 8192))))
            (call $say_error)
            (call $say (i64.extend_i32_u
                (call $create_remote_environment (i64.const 0) (i32.const 0) (i32.const 5) (i32.const 8192))))
            (call $say_error)
            (call $say (i64.extend_i32_u (call $preopen_dir (i64.const 0) (i32.const 64) (i32.const 4) (i32.const 8192))))
            (call $say_error)
            (call $say (i64.extend_i32_u
                (call $add_module (call $this_env) (i32.const 0) (i32.const 5) (i32.const 8192))))
            (call $say_error))"#,
    ));
    assert!(exit.is_normal(), "{exit}");
    for words in [
        "no plugins",
        "no node `north`",
        "`/etc` cannot be granted",
        "not a wasm module",
    ] {
        assert_eq!(lab.hear(), 1);
        let said = hear_text(&lab);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_module_beyond_the_limit_is_an_error() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| _ = config.limit(Limit::Handles, 20));
    let module = lab.module(&older(
        r#"(func (export "main") (local $added i64)
            (drop (call $this_env))
            (block $refused
                (loop $more
                    (br_if $refused (call $add_this_module (i64.const 0) (i32.const 8192)))
                    (local.set $added (i64.add (local.get $added) (i64.const 1)))
                    (br $more)))
            (call $say (local.get $added))
            (call $say_error))"#,
    ));
    let exit = lab.exit(
        &environment
            .spawn(&module, "main", &[])
            .expect("no limit applies"),
    );
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear(), 20);
    assert!(hear_text(&lab).contains("at most 20 modules"));
}

#[test]
fn a_caller_can_grant_a_directory_that_it_has_access_to() {
    let lab = Lab::new();
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    std::fs::create_dir(directory.path().join("inner")).expect("a directory can be created");
    let environment = lab.environment_with(|config| {
        config
            .preopen(directory.path(), "data", lunatic_vm::Access::Write)
            .expect("the directory was created above");
    });
    let module = lab.module(&older(
        r#"(data (i32.const 0) "data/inner")
        (func (export "main")
            (drop (call $create_config (i64.const 1000000) (i64.const 0)))
            (call $say (i64.extend_i32_u
                (call $preopen_dir (i64.const 0) (i32.const 0) (i32.const 10) (i32.const 8192))))
            (call $say (i64.extend_i32_u
                (call $preopen_dir (i64.const 0) (i32.const 5) (i32.const 5) (i32.const 8192)))))"#,
    ));
    let exit = lab.exit(
        &environment
            .spawn(&module, "main", &[])
            .expect("no limit applies"),
    );
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear_all(), [0, 1]);
}

#[test]
fn guests_of_different_generations_can_run_in_one_program() {
    let lab = Lab::new();
    // The newer guest finds the older guest by its name, and answers it.
    let newer = guest(
        &[
            "lunatic::registry::get",
            "lunatic::message::create_data",
            "lunatic::message::send",
            "lunatic::message::receive",
            "lunatic::message::resource_kind",
        ],
        r#"(data (i32.const 0) "older")
        (func (export "main")
            (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
            ;; The newer guest cannot take a process handle out of a message.
            (call $say (i64.extend_i32_u (call $resource_kind (i64.const 0))))
            (drop (call $get (i32.const 0) (i32.const 5) (i32.const 64) (i32.const 72)))
            (call $create_data (i64.const 77) (i64.const 0))
            (call $say (i64.extend_i32_u (call $send (i64.load (i32.const 72))))))"#,
    );
    let (bytes, length) = binary(&newer);
    let exit = lab.run(&older(&format!(
        r#"(data (i32.const 0) "older1.0.0main") (data (i32.const 1024) "{bytes}")
        (func (export "main") (local $child i64)
            (if (call $register (i32.const 0) (i32.const 5) (i32.const 5) (i32.const 5) (call $this_env) (call $this))
                (then unreachable))
            (if (call $add_module (call $this_env) (i32.const 1024) (i32.const {length}) (i32.const 8192))
                (then (call $say_error) unreachable))
            (if (call $spawn (i64.const 0) (call $out) (i32.const 10) (i32.const 4) (i32.const 0) (i32.const 0)
                    (i32.const 8192))
                (then (call $say_error) unreachable))
            (local.set $child (call $out))
            (call $compose (i64.const 0) (i64.const 0))
            (drop (call $push_process (call $this)))
            (call $send (local.get $child))
            (drop (call $next))
            (call $say (call $get_tag)))"#
    )));
    assert!(exit.is_normal(), "{exit}");
    let mut said: [i64; 3] = lab.hear_all();
    // Either of the two guests may report first.
    said[1..].sort_unstable();
    assert_eq!(said, [0, 0, 77]);
}

#[test]
fn a_process_without_the_right_to_spawn_or_compile_gets_an_error() {
    let lab = Lab::new();
    let inner = older(
        r#"(data (i32.const 0) "main")
        (func (export "main")
            (call $say (i64.extend_i32_u (call $inherit_spawn (i64.const 0) (i32.const 0) (i32.const 4)
                (i32.const 0) (i32.const 0) (i32.const 8192))))
            (call $say_error)
            (call $say (i64.extend_i32_u
                (call $add_module (call $this_env) (i32.const 0) (i32.const 4) (i32.const 8192))))
            (call $say_error)
            (drop (call $create_config (i64.const 0) (i64.const 0))))"#,
    );
    let (bytes, length) = binary(&inner);
    // Only the newer generation has functions for these settings.
    let imports = ["compile_module", "create_config", "spawn", "monitor"]
        .map(|name| format!("lunatic::process::{name}"));
    let imports: Vec<&str> = imports
        .iter()
        .map(String::as_str)
        .chain(["lunatic::message::receive"])
        .collect();
    let outer = guest(
        &imports,
        &format!(
            r#"(data (i32.const 0) "main") (data (i32.const 1024) "{bytes}")
            (func (export "main")
                (if (call $compile_module (i32.const 1024) (i32.const {length}) (i32.const 64)) (then unreachable))
                (if (call $spawn (i64.const 0) (call $create_config) (i64.load (i32.const 64)) (i32.const 0) (i32.const 4)
                        (i32.const 0) (i32.const 0) (i32.const 72))
                    (then unreachable))
                (call $monitor (i64.load (i32.const 72)))
                (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))"#
        ),
    );
    let exit = lab.run(&outer);
    assert!(exit.is_normal(), "{exit}");
    for words in [
        "does not let its processes spawn",
        "does not let its processes compile",
    ] {
        assert_eq!(lab.hear(), 1);
        let said = hear_text(&lab);
        assert!(said.contains(words), "{said}");
    }
}

/// The data for the name tests: the name `db`, and versions of five bytes each, starting at address
/// 16.
const NAMES: &str = r#"(data (i32.const 0) "db") (data (i32.const 16) "1.2.02.0.01.1.0one23^1   >=1.2*    ^4   ")
    (func $name (param $version i32) (param $environment i64) (param $process i64) (result i32)
        (call $register (i32.const 0) (i32.const 2)
            (i32.add (i32.const 16) (i32.mul (local.get $version) (i32.const 5))) (i32.const 5)
            (local.get $environment) (local.get $process)))
    (func $unname (param $version i32) (result i32)
        (call $unregister (i32.const 0) (i32.const 2)
            (i32.add (i32.const 16) (i32.mul (local.get $version) (i32.const 5))) (i32.const 5) (call $this_env)))
    (func $find (param $query i32) (param $length i32) (result i32)
        (call $lookup (i32.const 0) (i32.const 2)
            (i32.add (i32.const 16) (i32.mul (local.get $query) (i32.const 5))) (local.get $length) (i32.const 8192)))
    ;; Returns whether the handle that a lookup returned refers to the same process as the given
    ;; handle.
    (func $found (param $process i64) (result i64)
        (call $id (call $out) (i32.const 1024))
        (call $id (local.get $process) (i32.const 1040))
        (i64.extend_i32_u (i64.eq (i64.load (i32.const 1024)) (i64.load (i32.const 1040)))))
    (data (i32.const 256) "idle thief")
    (func (export "idle") (drop (call $next)))"#;

#[test]
fn a_lookup_finds_the_newest_registration_that_meets_the_requirement() {
    says(
        &format!(
            r#"{NAMES} (func (export "main") (local $one i64) (local $two i64)
                (local.set $one (call $child (i64.const 0) (i32.const 256) (i32.const 4)))
                (local.set $two (call $child (i64.const 0) (i32.const 256) (i32.const 4)))
                (call $say (i64.extend_i32_u (call $find (i32.const 6) (i32.const 1))))
                (call $say (i64.extend_i32_u (call $name (i32.const 0) (call $this_env) (local.get $one))))
                (call $say (i64.extend_i32_u (call $name (i32.const 1) (call $this_env) (local.get $two))))
                (call $say (i64.extend_i32_u (call $name (i32.const 2) (call $this_env) (call $this))))
                ;; 1.1.0 was registered last of all versions. Of the versions that are at least 1.2,
                ;; 2.0.0 was registered last.
                (drop (call $find (i32.const 4) (i32.const 2))) (call $say (call $found (call $this)))
                (drop (call $find (i32.const 5) (i32.const 5))) (call $say (call $found (local.get $two)))
                (drop (call $find (i32.const 0) (i32.const 5))) (call $say (call $found (local.get $one)))
                (call $say (i64.extend_i32_u (call $find (i32.const 7) (i32.const 2))))
                ;; The first string is not a version, and the second is not a version requirement.
                (call $say (i64.extend_i32_u (call $name (i32.const 3) (call $this_env) (local.get $one))))
                (call $say (i64.extend_i32_u (call $unname (i32.const 3))))
                (call $say (i64.extend_i32_u (call $find (i32.const 3) (i32.const 5))))
                (call $say (i64.extend_i32_u (call $unname (i32.const 0))))
                (call $say (i64.extend_i32_u (call $unname (i32.const 0)))))"#
        ),
        [2, 0, 0, 0, 1, 1, 1, 2, 1, 1, 1, 0, 2],
    );
}

#[test]
fn names_are_looked_up_in_the_callers_own_environment() {
    says_in_environment(
        &format!(
            r#"{NAMES} (func (export "thief")
                (drop (call $next))
                (call $say (i64.extend_i32_u (call $find (i32.const 6) (i32.const 1))))
                (call $say (call $found (call $this)))
                unreachable)"#
        ),
        r#"(drop (call $try_spawn (local.get $module) (i64.const 5) (i32.const 261) (i32.const 5)))
        (call $say (i64.extend_i32_u (call $name (i32.const 0) (local.get $environment) (call $clone_process (call $out)))))
        (call $say (i64.extend_i32_u (call $find (i32.const 6) (i32.const 1))))
        (call $post (i64.const 0) (i64.const 0) (i64.const 0))
        (drop (call $next))"#,
        [0, 2, 0, 1],
    );
}

#[test]
fn a_name_can_be_reassigned_by_the_process_that_registered_it_or_holds_it() {
    says(
        &format!(
            r#"{NAMES} (func (export "main") (local $one i64) (local $two i64)
                (local.set $one (call $child (i64.const 0) (i32.const 256) (i32.const 4)))
                (local.set $two (call $child (i64.const 0) (i32.const 256) (i32.const 4)))
                (drop (call $name (i32.const 0) (call $this_env) (local.get $one)))
                (call $say (i64.extend_i32_u (call $name (i32.const 0) (call $this_env) (local.get $two))))
                (drop (call $find (i32.const 0) (i32.const 5))) (call $say (call $found (local.get $two)))
                (call $say (i64.extend_i32_u (call $name (i32.const 0) (call $this_env) (call $this))))
                (call $say (i64.extend_i32_u (call $name (i32.const 0) (call $this_env) (local.get $one))))
                (drop (call $find (i32.const 0) (i32.const 5))) (call $say (call $found (local.get $one))))"#
        ),
        [0, 1, 0, 0, 1],
    );
}

#[test]
fn a_name_cannot_be_taken_or_removed_by_other_processes() {
    for theft in [
        "(call $name (i32.const 0) (call $this_env) (call $this))",
        "(call $unname (i32.const 0))",
    ] {
        says(
            &format!(
                r#"{NAMES} (func (export "thief") (drop {theft}))
                (func (export "main")
                    (call $die_when_link_dies (i32.const 0))
                    (drop (call $name (i32.const 0) (call $this_env) (call $this)))
                    (drop (call $child (i64.const 3) (i32.const 261) (i32.const 5)))
                    (call $say (i64.extend_i32_u (call $next)))
                    (call $say (call $get_tag))
                    (call $say (i64.extend_i32_u (call $find (i32.const 0) (i32.const 5))))
                    (call $say (call $found (call $this))))"#
            ),
            [1, 3, 0, 1],
        );
    }
}

#[test]
fn a_name_is_removed_when_its_process_ends() {
    says(
        &format!(
            r#"{NAMES} (func (export "thief")
                (drop (call $name (i32.const 0) (call $this_env) (call $this)))
                unreachable)
            (func (export "main")
                (call $die_when_link_dies (i32.const 0))
                (drop (call $child (i64.const 3) (i32.const 261) (i32.const 5)))
                (drop (call $next))
                (call $say (i64.extend_i32_u (call $find (i32.const 0) (i32.const 5))))
                (call $say (i64.extend_i32_u (call $name (i32.const 0) (call $this_env) (call $this))))
                ;; A name for a dead process does not belong to any process.
                (call $say (i64.extend_i32_u (call $name (i32.const 1) (call $this_env) (i64.const 0))))
                (call $say (i64.extend_i32_u (call $find (i32.const 5) (i32.const 5)))))"#
        ),
        [2, 0, 0, 0],
    );
}

/// Binds listener 0 and connects to it. The client's end of the connection is stream 0, and the
/// server's end is stream 1.
const CONNECTED: &str = r#"(data (i32.const 0) "\7f\00\00\01" "\0c\00\00\00\05\00\00\00" "hello" "127.0.0.1:80")
    (func $port (result i32)
        (if (call $local_addr (i64.const 0) (i32.const 8192)) (then unreachable))
        (if (call $resolve_next (call $out) (i32.const 64) (i32.const 80) (i32.const 96) (i32.const 100) (i32.const 104))
            (then unreachable))
        (i32.load16_u (i32.const 96)))
    (func $dial (param $port i32) (result i32)
        (call $tcp_connect (i32.const 4) (i32.const 0) (local.get $port) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const 8192)))
    (func $connect
        (if (call $tcp_bind (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8192))
            (then (call $say_error) unreachable))
        (if (call $dial (call $port)) (then (call $say_error) unreachable))
        (if (call $tcp_accept (i64.const 0) (i32.const 8192) (i32.const 8200)) (then (call $say_error) unreachable)))
    (func $read (param $stream i64) (param $timeout i32) (result i32)
        (call $tcp_read (local.get $stream) (i32.const 128) (i32.const 64) (local.get $timeout) (i32.const 8192)))
    (func $write (param $stream i64) (result i32)
        (call $tcp_write_vectored (local.get $stream) (i32.const 4) (i32.const 1) (i32.const 1000) (i32.const 8192)))"#;

#[test]
fn bytes_pass_through_a_connection_with_a_timeout_for_each_call() {
    let lab = Lab::new();
    let exit = lab.run(&older(&format!(
        r#"{CONNECTED} (func (export "main")
            (call $connect)
            ;; No bytes arrived, which is an error. The error can be read no matter how the guest
            ;; interprets the result.
            (call $say (i64.extend_i32_u (call $read (i64.const 1) (i32.const 1))))
            (call $say_error)
            (call $say (i64.extend_i32_u (call $write (call $clone_tcp_stream (i64.const 0)))))
            (call $say (call $out))
            (call $say (i64.extend_i32_u (call $tcp_flush (i64.const 0) (i32.const 8192))))
            (call $say (i64.extend_i32_u (call $read (i64.const 1) (i32.const 0))))
            (call $say (call $out))
            (call $say (i64.extend_i32_u (i32.eq (i32.load (i32.const 128)) (i32.load (i32.const 12)))))
            ;; The stream ends once both handles have been dropped.
            (call $drop_tcp_stream (i64.const 0))
            (call $drop_tcp_stream (i64.const 2))
            (call $say (i64.extend_i32_u (call $read (i64.const 1) (i32.const 0))))
            (call $say (call $out)))"#
    )));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear(), 9027);
    let said = hear_text(&lab);
    assert!(said.contains("nothing to read within 1ms"), "{said}");
    assert_eq!(lab.hear_all(), [0, 5, 0, 0, 5, 1, 0, 0]);
}

#[test]
fn a_stream_can_be_sent_in_a_message() {
    says(
        &format!(
            r#"{CONNECTED} (data (i32.const 256) "echo")
            (func (export "echo")
                (drop (call $next))
                (call $say (call $take_tcp_stream (i64.const 0)))
                (drop (call $read (i64.const 0) (i32.const 0)))
                (call $say (call $out)))
            (func (export "main") (local $child i64)
                (call $connect)
                (local.set $child (call $child (i64.const 0) (i32.const 256) (i32.const 4)))
                (call $compose (i64.const 0) (i64.const 0))
                (drop (call $push_tcp_stream (i64.const 1)))
                (call $send (local.get $child))
                (drop (call $write (i64.const 0)))
                ;; The child's end of the connection is closed when the child ends.
                (call $say (i64.extend_i32_u (call $read (i64.const 0) (i32.const 0)))))"#
        ),
        [0, 5, 0],
    );
}

#[test]
fn network_failures_are_errors() {
    let lab = Lab::new();
    let exit = lab.run(&older(&format!(
        r#"{CONNECTED} (func (export "main") (local $port i32)
            (drop (call $tcp_bind (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8192)))
            (local.set $port (call $port))
            (call $drop_tcp_listener (i64.const 0))
            (call $say (i64.extend_i32_u (call $dial (local.get $port))))
            (call $say_error)
            (call $say (i64.extend_i32_u (call $resolve (i32.const 12) (i32.const 5) (i32.const 1000) (i32.const 8192))))
            (call $say_error)
            (call $say (i64.extend_i32_u (call $resolve (i32.const 17) (i32.const 12) (i32.const 0) (i32.const 8192))))
            (drop (call $resolve_next (call $out) (i32.const 64) (i32.const 80) (i32.const 96) (i32.const 100)
                (i32.const 104)))
            (call $say (i64.load16_u (i32.const 96)))
            (call $drop_dns_iterator (call $out)))"#
    )));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear(), 1);
    let said = hear_text(&lab);
    assert!(said.contains("refused"), "{said}");
    assert_eq!(lab.hear(), 1);
    let said = hear_text(&lab);
    assert!(said.contains("hello"), "{said}");
    assert_eq!(lab.hear_all(), [0, 80]);
}
