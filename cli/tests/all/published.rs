//! Tests programs that use the published guest libraries unmodified. Each claim is checked by
//! running a program once: the claim's name selects what the program does, and the program's output
//! is compared with the expected output. The programs are in `cli/tests/published/`, in one package
//! per generation of the library.

use crate::cargo::{published, published_tests};
use crate::lunatic::{Ended, WorkDir};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A claim's expected result.
enum Expected {
    /// The claim succeeds and prints these lines.
    Prints(&'static [&'static str]),
    /// The claim fails with this status and prints these words to standard error.
    Fails(i32, &'static [&'static str]),
}

use Expected::{Fails, Prints};

/// Checks a claim in its own directory.
#[track_caller]
fn check(package: &str, claim: &str, expected: &Expected) {
    let dir = WorkDir::new();
    prepare(&dir, package, claim);
    let ended = run(&dir, &claims(package), &[claim, "--as", "given"]);
    match expected {
        Prints(lines) => {
            assert_eq!(
                ended.stdout.lines().collect::<Vec<_>>(),
                *lines,
                "{ended:#?}"
            );
            assert_eq!(ended.status, Some(0), "{ended:#?}");
        }
        Fails(status, words) => {
            assert_eq!(
                ended.stdout, "",
                "the claim printed something although it should have failed: {ended:#?}"
            );
            ended.check(*status, words);
        }
    }
}

/// Returns the path of the program that contains all of a package's claims.
fn claims(package: &str) -> PathBuf {
    published(package).join("claims.wasm")
}

/// Runs a program. The cache of compiled code is next to the program, so that only the first run
/// compiles it.
fn run(dir: &WorkDir, program: &Path, arguments: &[&str]) -> Ended {
    let path = program.to_str().expect("the repository has a UTF-8 path");
    let mut command = dir.command(&[&[path], arguments].concat());
    command
        .env("LUNATIC_CACHE", program.with_extension("cache"))
        .env("PUBLISHED_CLAIM", "a variable");
    Ended::from(
        command
            .output()
            .expect("the command was built with this test"),
    )
}

/// Writes the files that a claim needs.
fn prepare(dir: &WorkDir, package: &str, claim: &str) {
    if claim.contains("modules::") {
        let plugin = if package == "lunatic-0.14" {
            PLUGIN
        } else {
            OLDER_PLUGIN
        };
        dir.write(
            "plugin.wasm",
            wat::parse_str(plugin).expect("the module is valid"),
        );
    }
    if claim.starts_with("tls::") {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .expect("the name is valid");
        dir.write("certificate.pem", certified.cert.pem());
        dir.write("key.pem", certified.signing_key.serialize_pem());
    }
}

/// A module that sends a message to a process once its parameters have arrived.
const PLUGIN: &str = r#"(module
    (import "lunatic::message" "create_data" (func $create (param $tag i64) (param $capacity i64)))
    (import "lunatic::message" "send" (func $send (param $process i64) (result i32)))
    (memory (export "memory") 0)
    (func (export "check") (param i32) (param $parent i64) (param $both v128)
        (if (i32.ne (local.get 0) (i32.const -1)) (then unreachable))
        (if (i64.ne (i64x2.extract_lane 0 (local.get $both)) (i64.const -2)) (then unreachable))
        (if (i64.ne (i64x2.extract_lane 1 (local.get $both)) (i64.const -1)) (then unreachable))
        (call $create (i64.const 77) (i64.const 0))
        (if (call $send (local.get $parent)) (then unreachable)))
    (func (export "fail") unreachable))"#;

/// The same module for the older generation. In that generation, a process cannot be addressed by
/// number, so this module succeeds or fails instead.
const OLDER_PLUGIN: &str = r#"(module
    (func (export "check") (param i32 i64) (param $both v128)
        (if (i32.ne (local.get 0) (i32.const -1)) (then unreachable))
        (if (i64.ne (local.get 1) (i64.const 0x8000000000000000)) (then unreachable))
        (if (i64.ne (i64x2.extract_lane 0 (local.get $both)) (i64.const -2)) (then unreachable))
        (if (i64.ne (i64x2.extract_lane 1 (local.get $both)) (i64.const -1)) (then unreachable))))"#;

/// Generates a test for every claim, and a test that checks that every claim in the program has
/// one.
macro_rules! claims {
    ($library:ident, $package:literal; $($subject:ident { $($claim:ident => $end:expr;)* })*) => {
        mod $library {
            $(mod $subject {
                use super::super::*;

                $(#[test]
                fn $claim() {
                    check($package, concat!(stringify!($subject), "::", stringify!($claim)), &$end);
                })*
            })*

            #[test]
            fn every_claim_of_the_program_is_a_test() {
                use super::*;

                let tests = [$($(concat!(stringify!($subject), "::", stringify!($claim)),)*)*];
                let ended = run(&WorkDir::new(), &claims($package), &["--list"]);
                assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), tests, "{ended:#?}");
            }
        }
    };
}

claims! { library_0_14, "lunatic-0.14";
    processes {
        a_child_has_the_captured_values => Prints(&["apples [1, 2, 3]"]);
        messages_from_one_sender_arrive_in_order => Prints(&["10000 in order"]);
        a_thousand_processes_each_spawn_the_next => Prints(&["500500"]);
        macros_spawn_the_same_processes_as_functions => Prints(&["a capture", "a value", "a mailbox"]);
        a_process_is_alive_until_it_is_killed => Prints(&["alive: true", "alive: false"]);
        a_message_to_a_dead_process_is_lost => Prints(&["sent"]);
        handles_of_one_process_are_equal =>
            Prints(&["the same: true, another: false", "on the node of this process: true"]);
        a_flooded_mailbox_still_gets_the_reply => Prints(&["1000 replies", "1337"]);
    }
    links {
        a_parent_survives_a_child_that_fails => Prints(&["the parent is still alive"]);
        a_parent_dies_with_the_child_that_it_is_linked_to => Fails(134, &["the child fails", "died with process"]);
        a_parent_that_catches_link_deaths_gets_the_tag => Prints(&["true", "true", "true"]);
        a_normal_exit_is_not_reported => Prints(&["tag 64"]);
        a_link_to_a_dead_process_is_reported => Prints(&["true"]);
        an_unlinked_child_can_fail_without_killing_its_parent => Prints(&["the parent is still alive"]);
        a_monitor_is_notified_of_every_exit => Prints(&["true", "true"]);
        monitoring_a_dead_process_reports_its_exit => Prints(&["answered"]);
        a_stopped_monitor_reports_nothing => Prints(&["the second: true"]);
        one_mailbox_receives_messages_and_link_and_monitor_signals => Prints(&["message 7", r#"["link", "monitor"]"#]);
    }
    mailboxes {
        tags_choose_the_message => Prints(&["3", "1", "0", "2"]);
        a_receive_that_timed_out_loses_nothing => Prints(&["true", "1 2 3"]);
        a_receive_with_a_timeout_of_zero_polls => Prints(&["true", "Some(5)"]);
        a_message_that_cannot_be_decoded_is_an_error => Prints(&["true", "(2, 3)"]);
        a_message_of_a_megabyte_arrives => Prints(&["true"]);
    }
    configs {
        what_was_set_is_what_is_read => Prints(&[
            "false false false",
            "ProcessConfig { max_memory: 5000000, max_fuel: 7, can_compile_modules: true, can_create_configs: true, \
             can_spawn_processes: true }",
            "false",
        ]);
        without_the_right_a_child_spawns_nothing => Prints(&["the child died"]);
        with_the_right_a_child_spawns => Prints(&["from the grandchild"]);
        without_the_right_there_are_no_configs => Prints(&["Permission denied", "done"]);
        without_the_right_nothing_is_compiled => Prints(&["Permission denied", "done"]);
        a_process_cannot_grant_a_right_that_it_lacks => Prints(&["Permission denied"]);
        memory_is_limited => Prints(&["100000 bytes", "the child died"]);
        compute_is_limited => Prints(&["finished quickly", "the child died"]);
        arguments_and_variables_are_the_childs_own =>
            Prints(&[r#"["first", "second"] [("COLOUR", "blue")]"#, "true"]);
        a_directory_is_granted => Prints(&[r#"["file"]"#]);
        a_config_grants_no_directory_by_itself => Prints(&["no directory", "true"]);
    }
    modules {
        an_export_runs_with_its_parameters => Prints(&["()"]);
        a_module_can_be_sent_in_a_message => Prints(&["()"]);
        an_invalid_module_is_an_error => Prints(&["true", "true", "true"]);
        a_linked_module_reports_its_exit => Prints(&["tag 99"]);
        a_missing_export_is_an_error => Prints(&["true"]);
    }
    protocols {
        both_sides_follow_the_protocol => Prints(&["6"]);
        a_protocol_repeats_until_one_side_ends_it => Prints(&["0", "2", "4", "6", "8"]);
        a_protocol_in_message_pack => Prints(&["0.875"]);
        a_protocol_that_is_dropped_early_fails_both_sides => Fails(134, &["Protocol prematurely dropped"]);
    }
    tasks {
        a_task_has_a_result => Prints(&["33", "5", "hello world", r#"Err("no")"#]);
        a_parent_dies_with_a_task_that_fails => Fails(134, &["the task fails"]);
        a_task_can_time_out => Prints(&["true", "Some(5)"]);
        tasks_can_be_nested => Prints(&["20100"]);
    }
    abstract_processes {
        messages_and_requests_are_handled_in_order => Prints(&[r#"["one", "two"]"#, r#"["one", "two", "three"]"#]);
        a_deferred_request_can_be_answered_by_another_process => Prints(&["one"]);
        a_request_can_time_out => Prints(&["Err(Timeout)", r#"Ok(["one"])"#]);
        a_message_can_be_sent_after_a_delay => Prints(&[r#"["one", "later"]"#]);
        a_process_that_does_not_start_reports_why => Prints(&["true", "true"]);
        a_shutdown_calls_terminate => Prints(&["terminated at 3"]);
        the_macro_generates_the_handlers => Prints(&["10", "Ok(10)"]);
        a_link_death_is_handled => Prints(&["true"]);
        a_name_can_be_registered_only_once => Prints(&["true", "true", "true"]);
        an_abstract_process_has_a_config => Prints(&[r#"Some("blue") None"#]);
    }
    supervisors {
        one_for_one_restarts_the_one =>
            Prints(&["a starts", "b starts", "c starts", "b fails", "b starts", "the same: true false true", "abc"]);
        one_for_all_restarts_all => Prints(&[
            "a starts", "b starts", "c starts", "b fails", "c is shut down", "a is shut down", "a starts", "b starts",
            "c starts", "the same: false false false", "abc",
        ]);
        rest_for_one_restarts_the_rest => Prints(&[
            "a starts", "b starts", "c starts", "b fails", "c is shut down", "b starts", "c starts",
            "the same: true false false", "abc",
        ]);
        a_child_comes_back_under_its_name =>
            Prints(&["a starts", "b starts", "c starts", "b fails", "b starts", "true", "a new process: true"]);
        a_shutdown_goes_from_the_last_to_the_first => Prints(&[
            "a starts", "b starts", "c starts", "c is shut down", "b is shut down", "a is shut down",
        ]);
    }
    process_locals {
        every_process_has_its_own => Prints(&["1", r#"(1, ["first"])"#, r#"2 ["first", "second"]"#]);
    }
    timers {
        a_message_arrives_later => Prints(&["1 2"]);
        a_cancelled_message_does_not_arrive => Prints(&["cancelled: true, again: false", "2"]);
        a_timer_that_fired_cannot_be_cancelled => Prints(&["1", "cancelled: false"]);
    }
    names {
        a_process_can_be_found_by_name => Prints(&["true", "1337"]);
        a_name_belongs_to_one_type => Prints(&["true", "true"]);
        a_derived_name_is_a_name => Prints(&["true", "true"]);
        the_name_of_a_dead_process_is_free => Prints(&["true", "true"]);
    }
    panics {
        a_panic_is_caught => Prints(&["Err(Panicked)", "Err(Panicked)", "Ok(3)"]);
        a_capture_survives_if_nothing_panics => Prints(&[r#"Ok("hello")"#]);
        a_function_may_wait_before_its_panic_is_caught => Prints(&["3", "Err(Panicked)", "7"]);
        a_stack_overflow_is_caught => Prints(&["Err(Panicked)", "still here"]);
    }
    function_references {
        function_references_can_be_sent => Prints(&["42 20"]);
    }
    serializers {
        bincode_json_and_message_pack_carry_the_same_values => Prints(&[
            "Circle { radius: 0.1 }",
            "Path([(-1, 9223372036854775807), (-2147483648, 0)], Some(\"ä \\\"quoted\\\" 語\"))",
            "Nothing",
            "Circle { radius: 0.1 }",
            "Path([(-1, 9223372036854775807), (-2147483648, 0)], Some(\"ä \\\"quoted\\\" 語\"))",
            "Nothing",
            "Circle { radius: 0.1 }",
            "Path([(-1, 9223372036854775807), (-2147483648, 0)], Some(\"ä \\\"quoted\\\" 語\"))",
            "Nothing",
        ]);
        a_process_can_be_sent_with_each_serializer => Prints(&["7", "7", "7"]);
    }
    distribution {
        there_is_one_node => Prints(&["node 0, of []", "module 0"]);
    }
    metrics {
        metrics_are_accepted => Prints(&["taken"]);
    }
    tcp {
        a_stream_is_handed_to_a_child => Prints(&["first", "second"]);
        a_stream_can_be_sent_with_every_serializer => Prints(&["from the child", "from the child", "from the child"]);
        a_peek_does_not_remove_the_bytes => Prints(&["1 'a'", "abc"]);
        a_read_can_time_out => Prints(&[
            "None", "Some(1ms) Some(1.5s) Some(1ms)", "Err(true)", "Err(true)", "Some(1)",
        ]);
        clones_share_the_stream => Prints(&["by the clone"]);
        both_ends_know_each_other => Prints(&["true", "true"]);
        connecting_without_a_listener_is_an_error => Prints(&["false", "false", "true"]);
        a_name_is_resolved => Prints(&["[127.0.0.1:80]", "[[::1]:80]", "true", "true"]);
    }
    udp {
        datagrams_are_sent_and_received => Prints(&["5", "hello true", "longer t", "next"]);
        a_connected_socket_knows_its_peer => Prints(&["true", "true", "5", r#"["20", "5"]"#]);
        options_are_kept => Prints(&["42 true", "false"]);
    }
    tls {
        a_stream_is_encrypted => Prints(&["hello", "hello"]);
        a_stream_is_handed_to_a_child => Prints(&["hello"]);
        an_untrusted_certificate_is_refused => Prints(&["true", "hello"]);
    }
    sqlite {
        rows_come_back_as_they_were_inserted => Prints(&[
            r#"[[Null, Blob([0, 255]), Text("text"), Double(0.5), Int64(9007199254740993)]]"#,
            "[]",
        ]);
        values_are_bound_by_position =>
            Prints(&[r#"[[Int64(1), Text("two"), Double(3.5), Null, Blob([5, 6])]]"#]);
        rows_are_iterated => Prints(&["[1, 2, 3]"]);
        an_error_has_a_code => Prints(&["true", "Constraint"]);
        a_file_keeps_its_tables => Prints(&["true", "true", "[[Int64(7)]]", "true"]);
    }
    wasi {
        arguments_are_those_of_the_command =>
            Prints(&[r#"["wasi::arguments_are_those_of_the_command", "--as", "given"]"#]);
        variables_are_those_of_the_command => Prints(&[r#"Ok("a variable")"#]);
        a_file_is_written_and_read => Prints(&["content", "true"]);
        a_directory_is_listed => Prints(&[r#"["a"]"#]);
        clocks_and_random_numbers_are_available => Prints(&["true", "true", "true"]);
    }
}

/// The claims for all versions of the library that the same program is built with.
macro_rules! claims_of_0_10_to_0_12 {
    ($library:ident, $package:literal) => {
        claims! { $library, $package;
            processes {
                messages_from_one_sender_arrive_in_order => Prints(&["1000 in order"]);
                a_request_is_answered_before_earlier_messages => Prints(&["3", "6", "7"]);
                a_shutdown_calls_terminate => Prints(&["ended at 5", "it has ended"]);
                a_message_can_be_sent_after_a_delay => Prints(&["4"]);
                a_process_can_be_found_by_name => Prints(&["3", "true"]);
                a_parent_dies_with_the_child_that_it_is_linked_to =>
                    Fails(134, &["the child fails", "died with process"]);
                a_stream_is_echoed => Prints(&["HELLO"]);
            }
        }
    };
}

claims_of_0_10_to_0_12!(library_0_12, "lunatic-0.12");
claims_of_0_10_to_0_12!(library_0_11, "lunatic-0.11");
claims_of_0_10_to_0_12!(library_0_10, "lunatic-0.10");

claims! { library_0_7, "lunatic-0.7";
    processes {
        a_child_has_its_context => Prints(&["apples [1, 2, 3]"]);
        messages_from_one_sender_arrive_in_order => Prints(&["10000 in order"]);
        a_message_to_a_dead_process_is_lost => Prints(&["true", "sent"]);
        a_process_has_one_identity => Prints(&["true true", "false"]);
        processes_can_be_sent_in_messages => Prints(&["[3, 10, 11, 12]"]);
        a_sleep_ends => Prints(&["awake"]);
        a_child_runs_however_it_is_spawned => Prints(&["7", "2", "7", "4", "7", "6"]);
    }
    links {
        a_parent_is_told_which_child_failed => Prints(&["the second: true", "the first: true"]);
        a_normal_exit_is_not_reported => Prints(&["1", "true"]);
        a_parent_dies_with_the_child_that_it_is_linked_to => Fails(134, &["the child fails", "died with process"]);
        a_link_can_be_made_and_removed_later => Prints(&["true false"]);
        a_process_can_stop_catching_link_deaths => Fails(134, &["the child fails", "died with process"]);
    }
    mailboxes {
        tags_choose_the_message => Prints(&["3", "1", "0", "2"]);
        a_receive_that_timed_out_loses_nothing => Prints(&["true", "true", "[1, 2, 3]", "true"]);
        a_tag_comes_with_its_message => Prints(&["1 true", "2 0"]);
        a_message_that_cannot_be_decoded_is_an_error => Prints(&["true", "7"]);
    }
    requests {
        a_request_is_answered_before_earlier_messages => Prints(&["3", "0", "1337"]);
        a_request_knows_its_sender => Prints(&["hello world", "true"]);
    }
    environments_and_modules {
        a_missing_namespace_ends_the_child => Prints(&["the child died: true", "who may print", "it printed"]);
        memory_is_limited => Prints(&["100000", "the child died: true"]);
        compute_is_limited => Prints(&["finished quickly", "the child died: true"]);
        an_environment_has_what_it_was_given => Prints(&["0 0 true"]);
        a_directory_is_granted => Prints(&["true", "content"]);
        an_export_runs_with_its_parameters => Prints(&["true", "false"]);
        an_invalid_module_is_an_error => Prints(&["true", "true", "true"]);
        a_missing_export_is_an_error => Prints(&["true"]);
        the_environment_of_this_process_has_this_module => Prints(&[r#"Ok("a variable")"#]);
    }
    names {
        the_newest_matching_version_is_found => Prints(&[
            "^1: 1", "=1.0.0: 0", ">=1: 2", "^3: nobody", "no query: IncorrectSemver", "true",
        ]);
        a_name_can_be_released => Prints(&["1", "0", "Some(NotFound)", "1"]);
        an_invalid_version_is_an_error => Prints(&["Some(IncorrectSemver)", "Some(IncorrectSemver)"]);
        every_environment_has_its_own_names => Prints(&["nobody", "7"]);
    }
    tcp {
        a_stream_is_handed_to_a_child => Prints(&["first", "second"]);
        a_read_can_time_out => Prints(&["true", "Some(1)"]);
        connecting_without_a_listener_is_an_error => Prints(&["true", "true"]);
        a_name_is_resolved => Prints(&["[127.0.0.1:80]", "[[::1]:80]", "true", "true"]);
    }
    wasi {
        arguments_are_those_of_the_command =>
            Prints(&[r#"["wasi::arguments_are_those_of_the_command", "--as", "given"]"#]);
        variables_are_those_of_the_command => Prints(&[r#"Ok("a variable")"#]);
        a_file_is_written_and_read => Prints(&["content"]);
    }
}

claims! { library_0_6, "lunatic-0.6";
    programs {
        a_child_has_its_context => Prints(&["6"]);
        messages_from_one_sender_arrive_in_order => Prints(&["10000 in order"]);
        a_request_is_answered_before_earlier_messages => Prints(&["3", "1337"]);
        a_link_that_fails_is_a_message => Prints(&["true"]);
        a_parent_dies_with_the_child_that_it_is_linked_to => Fails(134, &["the child fails", "died with process"]);
        a_link_can_be_made_and_removed_later => Prints(&["true"]);
        an_environment_limits_memory_and_compute => Prints(&["Some(100000)", "true", "true"]);
        the_newest_matching_version_is_found => Prints(&["1", "true"]);
    }
}

/// The programs in the introduction, compiled with the libraries they were written for.
mod introduction {
    use super::*;
    use crate::seeds::{check_echo, check_ends};

    fn program(package: &str, name: &str) -> (WorkDir, PathBuf) {
        (
            WorkDir::new(),
            published(package).join(name).with_extension("wasm"),
        )
    }

    fn command(dir: &WorkDir, program: &Path) -> Command {
        let mut command =
            dir.command(&[program.to_str().expect("the repository has a UTF-8 path")]);
        command
            .env("LUNATIC_CACHE", program.with_extension("cache"))
            .env("RUST_LOG", "lunatic=debug");
        command
    }

    fn ended(package: &str, name: &str) -> Ended {
        let (dir, program) = program(package, name);
        Ended::from(
            command(&dir, &program)
                .output()
                .expect("the command was built with this test"),
        )
    }

    fn check_hello(package: &str) {
        let ended = ended(package, "hello");
        assert_eq!(ended.status, Some(0), "{ended:#?}");
        assert_eq!(ended.stdout, "Hi! I'm a process.\n", "{ended:#?}");
    }

    #[test]
    fn spawning_a_process_with_0_6() {
        check_hello("lunatic-0.6");
    }

    #[test]
    fn spawning_a_process_with_0_7() {
        check_hello("lunatic-0.7");
    }

    #[test]
    fn limiting_processes_with_0_6() {
        check_ends(&ended("lunatic-0.6", "environments"));
    }

    #[test]
    fn limiting_processes_with_0_7() {
        check_ends(&ended("lunatic-0.7", "environments"));
    }

    #[test]
    fn a_tcp_echo_server_with_0_6() {
        let (dir, program) = program("lunatic-0.6", "tcp_echo");
        check_echo(command(&dir, &program));
    }

    #[test]
    fn a_tcp_echo_server_with_0_7() {
        let (dir, program) = program("lunatic-0.7", "tcp_echo");
        check_echo(command(&dir, &program));
    }
}

/// Tests with the published attribute, run by `cargo test` the way a user would run them.
mod attribute {
    use super::*;

    /// Runs tests one after another. Returns how the run ended and the verdict on each test, in the
    /// order of the names.
    fn run(arguments: &[&str]) -> (Ended, Vec<String>) {
        let arguments = [arguments, &["--test-threads", "1"]].concat();
        let mut cargo = published_tests("lunatic-0.14", &arguments);
        let ended = Ended::from(cargo.output().expect("cargo can be run"));
        let verdicts = ended.stdout.lines().filter_map(|line| {
            line.strip_prefix("test ")
                .filter(|line| !line.starts_with("result"))
        });
        let mut verdicts: Vec<String> = verdicts.map(str::to_owned).collect();
        verdicts.sort();
        (ended, verdicts)
    }

    #[test]
    fn tests_that_behave_as_expected_pass() {
        let (ended, verdicts) = run(&["--skip", "fails::"]);
        let expected = [
            "gives_a_name ... ok",
            "gives_the_same_name ... ok",
            "has_a_mailbox ... ok",
            "inner::is_in_a_module ... ok",
            "is_ignored ... ignored",
            "is_killed_as_it_should_be - should panic ... ok",
            "panics_as_it_should - should panic ... ok",
            "panics_with_the_expected_words - should panic ... ok",
            "passes ... ok",
            "returns_ok ... ok",
        ];
        assert_eq!(verdicts, expected, "{ended:#?}");
        assert_eq!(ended.status, Some(0), "{ended:#?}");
        assert!(
            ended
                .stdout
                .contains("9 passed; 0 failed; 1 ignored; 0 measured; 5 filtered out"),
            "{ended:#?}"
        );
    }

    #[test]
    fn tests_that_do_not_behave_as_expected_fail_and_report_why() {
        let (ended, verdicts) = run(&["fails::"]);
        let expected = [
            "fails::because_it_does_not_panic - should panic ... FAILED",
            "fails::because_it_panics_with_other_words - should panic ... FAILED",
            "fails::by_a_panic ... FAILED",
            "fails::by_an_error ... FAILED",
            "fails::with_its_child ... FAILED",
        ];
        assert_eq!(verdicts, expected, "{ended:#?}");
        assert_eq!(ended.status, Some(101), "{ended:#?}");
        let reasons = [
            "what it printed before",
            "it fails on purpose",
            "the error of the test",
            "the child fails on purpose",
        ];
        for reason in reasons {
            assert!(
                ended.stdout.contains(reason),
                "`{reason}` is missing from {ended:#?}"
            );
        }
    }

    #[test]
    fn an_ignored_test_runs_on_request() {
        // The test's output may come before or after the beginning of the line with its result.
        let (ended, _) = run(&["--ignored", "--nocapture"]);
        assert!(ended.stdout.contains("the ignored test runs"), "{ended:#?}");
        assert!(
            ended
                .stdout
                .contains("1 passed; 0 failed; 0 ignored; 0 measured; 14 filtered out"),
            "{ended:#?}"
        );
        assert_eq!(ended.status, Some(0), "{ended:#?}");
    }
}
