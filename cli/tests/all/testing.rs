//! Tests of `lunatic test`: which tests a module has, how they run, and what is printed.

use crate::cargo::Project;
use crate::guest::{print, with};
use crate::lunatic::{Ended, WorkDir};
use std::path::PathBuf;
use std::process::Command;

/// Returns a module whose tests have the names that the published guest crate generates. `start` is
/// the body of `_start`.
fn suite_with(start: &str, more: &str) -> String {
    let (data, print) = print("some text\n");
    with(
        start,
        &format!(
            r##"{data}
            (data (i32.const 2048) "thread 'main' panicked at src/lib.rs:1:2:\nit is \"this\"#\n")
            (data (i32.const 2560) "child")
            (func $panic
                (drop (call $write (i32.const 2) (i32.const 2048) (i32.const 56)))
                unreachable)
            (func (export "child") {print} unreachable)
            (func (export "server") (drop (call $receive)))
            (func (export "#lunatic_test_suite::m::passes") {print})
            (func (export "#lunatic_test_suite::m::fails") {print} (call $panic))
            (func (export "#lunatic_test_#ignore_suite::m::slow") {print})
            (func (export "#lunatic_test_#panic_#suite::p::any") (call $panic))
            (func (export "#lunatic_test_#panic_is \"this\"\\##suite::p::right") (call $panic))
            (func (export "#lunatic_test_#panic_src/lib.rs#suite::p::wrong") (call $panic))
            (func (export "#lunatic_test_#panic_#suite::p::none"))
            {more}"##
        ),
    )
}

fn suite() -> String {
    suite_with("", "")
}

/// Runs a module with arguments for its tests, one test after another.
fn run(module: &str, arguments: &[&str]) -> Ended {
    let dir = WorkDir::new();
    dir.write("suite.wat", module);
    dir.run(&[&["suite.wat"], arguments, &["--test-threads", "1"]].concat())
}

/// Checks the status, and that standard error is empty.
#[track_caller]
fn check(ended: &Ended, status: i32) {
    assert_eq!(
        (ended.status, &*ended.stderr),
        (Some(status), ""),
        "{ended:#?}"
    );
}

/// Replaces numbers that have a decimal point: they are times, which differ between runs.
fn timeless(text: &str) -> String {
    let mut timeless = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find(|c: char| c.is_ascii_digit()) {
        let length = rest[begin..]
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len() - begin);
        let number = &rest[begin..begin + length];
        timeless += &rest[..begin];
        timeless += if number.trim_end_matches('.').contains('.') {
            "TIME"
        } else {
            number
        };
        rest = &rest[begin + length..];
    }
    timeless + rest
}

#[test]
fn exports_with_the_published_names_are_tests() {
    let ended = run(&suite(), &[]);
    check(&ended, 101);
    let expected = r##"
running 7 tests
test m::fails ... FAILED
test m::passes ... ok
test m::slow ... ignored
test p::any - should panic ... ok
test p::none - should panic ... FAILED
test p::right - should panic ... ok
test p::wrong - should panic ... FAILED

failures:

---- m::fails stdout ----
some text
thread 'main' panicked at src/lib.rs:1:2:
it is "this"#
the test trapped: wasm trap: wasm `unreachable` instruction executed
   0: panic (at 0xPLACE)
   1: function NUMBER (at 0xPLACE)

---- p::none stdout ----
note: test did not panic as expected
---- p::wrong stdout ----
thread 'main' panicked at src/lib.rs:1:2:
it is "this"#
the test trapped: wasm trap: wasm `unreachable` instruction executed
   0: panic (at 0xPLACE)
   1: function NUMBER (at 0xPLACE)
note: panic did not contain expected string
      panic message: "it is \"this\"#"
 expected substring: "src/lib.rs"

failures:
    m::fails
    p::none
    p::wrong

test result: FAILED. 3 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in TIMEs

"##;
    assert_eq!(placeless(&timeless(&ended.stdout)), expected);
}

/// Replaces the offsets and indices of functions in the module.
fn placeless(text: &str) -> String {
    let hide = |text: &str, before: &str, name: &str| {
        let mut parts = text.split(before);
        let mut hidden = parts.next().unwrap_or_default().to_string();
        for part in parts {
            let rest = part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
            hidden += &format!("{before}{name}{rest}");
        }
        hidden
    };
    hide(&hide(text, "(at 0x", "PLACE"), ": function ", "NUMBER")
}

#[test]
fn tests_can_be_run_with_and_without_a_command() {
    let dir = WorkDir::new();
    dir.write("suite.wat", suite());
    for command in [
        &["suite.wat"][..],
        &["run", "suite.wat"],
        &["test", "suite.wat"],
    ] {
        let ended = dir.run(&[command, &["passes"]].concat());
        check(&ended, 0);
        assert!(
            ended
                .stdout
                .contains("running 1 test\ntest m::passes ... ok\n"),
            "{ended:#?}"
        );
    }
}

#[test]
fn listing_prints_only_the_list() {
    // These are the arguments that nextest uses.
    let all = "m::fails: test\nm::passes: test\nm::slow: test\np::any: test\np::none: test\np::right: test\np::wrong: test\n";
    for (arguments, expected) in [
        (&["--list", "--format", "terse"][..], all.to_string()),
        (
            &["--list", "--format", "terse", "--ignored"],
            "m::slow: test\n".into(),
        ),
        (&["--list"], format!("{all}\n7 tests, 0 benchmarks\n")),
        (
            &["--list", "--format=terse", "--bench", "m::p"],
            "m::passes: test\n".into(),
        ),
        (&["--list", "nothing"], "0 tests, 0 benchmarks\n".into()),
    ] {
        let ended = run(&suite(), arguments);
        check(&ended, 0);
        assert_eq!(ended.stdout, expected, "{arguments:?}");
    }
}

#[test]
fn a_single_test_runs_with_the_arguments_of_nextest() {
    let dir = WorkDir::new();
    dir.write("suite.wat", suite());
    let ended = dir.run(&["suite.wat", "m::passes", "--exact", "--nocapture"]);
    check(&ended, 0);
    assert!(
        ended
            .stdout
            .contains("running 1 test\nsome text\ntest m::passes ... ok\n"),
        "{ended:#?}"
    );
    assert!(ended.stdout.contains("6 filtered out"), "{ended:#?}");
    let ended = dir.run(&[
        "suite.wat",
        "m::slow",
        "--exact",
        "--nocapture",
        "--ignored",
    ]);
    assert!(
        ended.stdout.contains("some text\ntest m::slow ... ok\n"),
        "{ended:#?}"
    );
    let ended = dir.run(&["suite.wat", "m::fails", "--exact", "--nocapture"]);
    assert_eq!(ended.status, Some(101), "{ended:#?}");
    assert!(
        ended.stderr.starts_with("thread 'main' panicked at"),
        "{ended:#?}"
    );
    // The output of the test has already been printed, but the reason for its failure has not.
    assert_eq!(ended.stdout.matches("some text").count(), 1, "{ended:#?}");
    assert!(ended.stdout.contains("the test trapped"), "{ended:#?}");
}

#[test]
fn an_invalid_flag_is_reported_as_in_rusts_own_tests() {
    for (arguments, sentence) in [
        (&["--fast"][..], "error: Unrecognized option: 'fast'\n"),
        (
            &["--ignored", "--include-ignored"],
            "error: the options --include-ignored and --ignored are mutually exclusive\n",
        ),
    ] {
        let ended = run(&suite(), arguments);
        assert_eq!(
            (ended.status, &*ended.stderr),
            (Some(101), sentence),
            "{ended:#?}"
        );
    }
    let help = run(&suite(), &["--help"]);
    check(&help, 0);
    assert!(help.stdout.contains("--shuffle-seed SEED"), "{help:#?}");
}

#[test]
fn the_output_of_a_test_that_passed_is_shown_on_request() {
    let ended = run(&suite(), &["m::passes", "--show-output"]);
    let section =
        "\nsuccesses:\n\n---- m::passes stdout ----\nsome text\n\n\nsuccesses:\n    m::passes\n";
    assert!(ended.stdout.contains(section), "{ended:#?}");
}

/// Returns a module that has an additional test named `t`.
fn with_a_test(options: &str, body: &str) -> String {
    suite_with(
        "",
        &format!("(func (export \"#lunatic_test_{options}suite::t\") {body})"),
    )
}

#[test]
fn the_output_of_a_failed_test_is_separated_by_process() {
    // The test is linked to a child that fails.
    let body = r#"(call $print (i32.const 1024) (i32.const 10))
        (drop (call $spawn (i64.const 1) (i32.const 2560) (i32.const 5)))
        (drop (call $receive))"#;
    let ended = run(&with_a_test("", body), &["t", "--exact"]);
    check(&ended, 101);
    let output = ended
        .stdout
        .split("---- t stdout ----\n")
        .nth(1)
        .expect("the test failed");
    let (test, child) = output
        .split_once("-- process ")
        .expect("the child has its own section");
    assert!(
        test.starts_with("some text\nthe test died with process "),
        "{ended:#?}"
    );
    let (pid, child) = child
        .split_once(" `child` --\n")
        .expect("the section has a heading");
    assert!(test.contains(pid), "{ended:#?}");
    assert!(
        child.starts_with("some text\nthe process trapped: "),
        "{ended:#?}"
    );
    // A child's panic that reaches the test through the link counts as a panic of the test.
    check(&run(&with_a_test("#panic_#", body), &["t", "--exact"]), 0);
}

#[test]
fn a_test_that_takes_too_long_is_ended() {
    let endless = "(drop (call $spawn (i64.const 0) (i32.const 2566) (i32.const 6))) (loop br 0)";
    let endless = &format!("{endless})\n(data (i32.const 2566) \"server\"");
    for (options, arguments) in [
        ("#timeout_50#", &["t", "--exact"][..]),
        ("", &["t", "--exact", "--timeout", "50ms"]),
    ] {
        let ended = run(&with_a_test(options, endless), arguments);
        check(&ended, 101);
        assert!(
            ended
                .stdout
                .contains("test t ... FAILED (time limit exceeded)\n"),
            "{ended:#?}"
        );
        let note = "note: the test did not end within 50ms and was killed, with 1 other process\n";
        assert!(ended.stdout.contains(note), "{ended:#?}");
    }
    // The test's own limit takes precedence over the flag.
    let ended = run(
        &with_a_test("#timeout_60000#", ""),
        &["t", "--exact", "--timeout", "0"],
    );
    check(&ended, 0);
}

#[test]
fn a_test_has_limited_memory() {
    let grow = "(if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable))";
    check(&run(&with_a_test("", grow), &["t", "--exact"]), 0);
    check(
        &run(
            &with_a_test("#memory_10000000#", grow),
            &["t", "--exact", "--max-memory", "1MiB"],
        ),
        0,
    );
    for (options, arguments) in [
        ("#memory_1048576#", &["t", "--exact"][..]),
        ("", &["t", "--exact", "--max-memory", "1MiB"]),
    ] {
        let ended = run(&with_a_test(options, grow), arguments);
        check(&ended, 101);
        assert!(
            ended.stdout.contains(
                "the test reached a limit: memory of a process is limited to 1048576 bytes"
            )
        );
    }
    // A reached limit is not a panic with a message. However, if a published test expects any
    // panic, a reached limit counts as one.
    check(
        &run(
            &with_a_test("#panic_words##memory_1048576#", grow),
            &["t", "--exact"],
        ),
        101,
    );
    check(
        &run(
            &with_a_test("#panic_##memory_1048576#", grow),
            &["t", "--exact"],
        ),
        0,
    );
}

#[test]
fn processes_that_a_test_leaves_behind_are_reported() {
    let spawn = "(drop (call $spawn (i64.const 0) (i32.const 2566) (i32.const 6)))";
    let leaky = with_a_test("", &format!("{spawn}) (data (i32.const 2566) \"server\""));
    let ended = run(&leaky, &["t", "--exact"]);
    check(&ended, 0);
    let note = "test t ... ok\n\nleft behind:\n    t: 1 process (`server`)\n\ntest result: ok.";
    assert!(ended.stdout.contains(note), "{ended:#?}");
    let ended = run(&leaky, &["t", "--exact", "--leaks", "ignore"]);
    check(&ended, 0);
    assert!(!ended.stdout.contains("left behind"), "{ended:#?}");
    let ended = run(&leaky, &["t", "--exact", "--leaks", "fail"]);
    check(&ended, 101);
    let note = "note: the test left behind: 1 process (`server`)\n";
    assert!(ended.stdout.contains(note), "{ended:#?}");
    check(&run(&suite(), &["m::passes", "--leaks", "fail"]), 0);
}

#[test]
fn tests_run_at_the_same_time() {
    // Neither test ends on its own. The second test therefore starts either while the first test is
    // running or after the timeout has ended the first test.
    let two = suite_with(
        "",
        "(func (export \"#lunatic_test_suite::t1\") (loop br 0)) (func (export \"#lunatic_test_suite::t2\") (loop br 0))",
    );
    let events = |threads: &str| {
        let dir = WorkDir::new();
        dir.write("suite.wat", &two);
        let ended = dir.run(&[
            "suite.wat",
            "t1",
            "t2",
            "--timeout",
            "500ms",
            "--format",
            "json",
            "--test-threads",
            threads,
        ]);
        let tests: Vec<String> = ended
            .stdout
            .lines()
            .filter(|line| line.contains("\"test\""))
            .map(String::from)
            .collect();
        tests
            .iter()
            .map(|line| line.contains("\"started\""))
            .collect::<Vec<_>>()
    };
    assert_eq!(events("2"), [true, true, false, false]);
    assert_eq!(events("1"), [true, false, true, false]);
}

#[test]
fn each_test_has_its_own_names() {
    // Each test registers the same name, which only one process can have, and keeps the name until
    // the test is ended by its timeout.
    let take = "(call $put (i32.const 2560) (i32.const 5) (i64.const 0) (call $this)) (loop br 0)";
    let test = |name: &str| format!("(func (export \"#lunatic_test_suite::{name}\") {take})");
    let import =
        "(module (import \"lunatic::registry\" \"put\" (func $put (param i32 i32 i64 i64)))";
    let dir = WorkDir::new();
    dir.write(
        "suite.wat",
        suite_with("", &(test("t1") + &test("t2"))).replacen("(module", import, 1),
    );
    let ended = dir.run(&[
        "suite.wat",
        "t1",
        "t2",
        "--test-threads",
        "2",
        "--timeout",
        "500ms",
    ]);
    check(&ended, 101);
    assert_eq!(
        ended
            .stdout
            .matches("FAILED (time limit exceeded)\n")
            .count(),
        2,
        "{ended:#?}"
    );
}

#[test]
fn fail_fast_starts_no_test_after_a_failure() {
    let ended = run(&suite(), &["--fail-fast"]);
    check(&ended, 101);
    assert!(
        ended.stdout.contains("test m::fails ... FAILED\n"),
        "{ended:#?}"
    );
    assert!(!ended.stdout.contains("test p::any"), "{ended:#?}");
}

#[test]
fn the_same_seed_reproduces_the_order() {
    let order = |seed: &str| {
        let ended = run(&suite(), &["--shuffle-seed", seed]);
        assert!(
            ended
                .stdout
                .contains(&format!("running 7 tests (shuffle seed: {seed})\n")),
            "{ended:#?}"
        );
        let lines = ended
            .stdout
            .lines()
            .filter(|line| line.starts_with("test ") && line.contains(" ... "));
        lines.map(str::to_string).collect::<Vec<_>>()
    };
    let orders: Vec<_> = (0..4).map(|seed| order(&seed.to_string())).collect();
    assert_eq!(orders[0], order("0"));
    assert!(
        orders.iter().any(|other| *other != orders[0]),
        "{orders:#?}"
    );
    assert!(
        run(&suite(), &["--shuffle"])
            .stdout
            .contains("(shuffle seed: ")
    );
}

#[test]
fn a_program_without_exported_tests_runs_as_a_program() {
    let dir = WorkDir::new();
    let (data, print) = print("a program\n");
    dir.write("app.wat", with(&print, &data));
    let ended = dir.run(&["app.wat", "--list"]);
    check(&ended, 0);
    assert_eq!(ended.stdout, "a program\n");
    // `lunatic test` reports that the program has no tests.
    let ended = dir.run(&["test", "app.wat"]);
    assert_eq!(ended.status, Some(101), "{ended:#?}");
    assert!(
        ended.stderr.contains("error: `app.wat` has no tests\n"),
        "{ended:#?}"
    );
}

#[test]
fn a_start_function_that_lists_no_tests_is_ignored() {
    for start in [
        "unreachable",
        "(call $exit (i32.const 1))",
        "(call $print (i32.const 2048) (i32.const 10))",
    ] {
        let ended = run(&suite_with(start, ""), &["m::passes"]);
        check(&ended, 0);
        assert!(
            ended
                .stdout
                .contains("1 passed; 0 failed; 0 ignored; 0 measured; 6 filtered out"),
            "{ended:#?}"
        );
    }
}

/// Tests that are compiled twice: with `#[test]` for the host, and with `#[lunatic::test]` for the
/// VM.
const TESTS: &str = r##"
mod m {
    #[test]
    fn passes() { println!("out"); }
    #[test]
    fn fails() { println!("out"); panic!("broken"); }
    #[test]
    #[ignore]
    fn ignored() {}
    #[test]
    #[ignore = "takes long"]
    fn ignored_for_a_reason() {}
    #[test]
    fn returns() -> Result<(), String> { Ok(()) }
    #[test]
    fn returns_an_error() -> Result<(), String> { Err("bad".into()) }
}
mod panics {
    #[test]
    #[should_panic]
    fn at_all() { panic!("any"); }
    #[test]
    #[should_panic(expected = "this \"x\"#")]
    fn as_expected() { panic!("with this \"x\"#"); }
    #[test]
    #[should_panic(expected = "other")]
    fn otherwise() { panic!("with this"); }
    #[test]
    #[should_panic]
    fn never() {}
}
"##;

/// Returns the lines of a run that can be compared. Times are left out, and so is the output of
/// failed tests, which contains source locations and thread names.
fn comparable(stdout: &str) -> String {
    let (mut lines, mut is_output) = (Vec::new(), false);
    for line in timeless(stdout).lines() {
        is_output = (is_output || line.starts_with("---- "))
            && !(line.ends_with("ures:") || line.ends_with("sses:"));
        let mut line = line.to_string();
        for key in [", \"stdout\": \"", ", \"source_path\": \""] {
            if let Some((before, rest)) = line.split_once(key) {
                let escaped = rest.replace("\\\"", "''");
                let rest = &rest[escaped.find('"').expect("the string is closed") + 1..];
                let rest = if key.contains("source") { " }" } else { rest };
                line = format!("{before}{rest}");
            }
        }
        line = line.replace("expected at suite.rs:30:8", "expected");
        if !is_output {
            lines.push(line);
        }
    }
    lines.join("\n")
}

#[test]
fn a_run_prints_the_same_as_rusts_own_tests() {
    // The tests are compiled as a program for the host.
    let dir = WorkDir::new();
    dir.write("suite.rs", TESTS);
    let mut compiler = Command::new("rustc");
    compiler
        .args(["--test", "--edition", "2024", "-o", "suite", "suite.rs"])
        .current_dir(dir.path());
    assert!(compiler.status().expect("rustc can be run").success());

    let project = Project::new("runner_compared", "fn main() {}");
    project.dir.write(
        "runner_compared/src/lib.rs",
        TESTS.replace("#[test]", "#[lunatic::test]"),
    );
    let module = build(&project);

    for arguments in [
        "",
        "-q",
        "--list",
        "--list --format terse",
        "--list --format terse --ignored",
        "--list --ignored -q",
        "--list --format json",
        "m::",
        "returns passes",
        "m::returns --exact",
        "m::returns m::passes nothing --exact",
        "--skip fails --skip never",
        "--ignored",
        "--include-ignored",
        "--include-ignored --skip panics::",
        "nothing",
        "passes --show-output",
        "passes --show-output -q",
        "m:: --color always",
        "-q m:: --color always",
        "--format pretty --color never passes",
        "--format json",
        "--format json --report-time passes ignored",
        "--format json --shuffle-seed 1 passes",
        "--report-time",
        "--shuffle-seed 3 passes",
        "--fail-fast",
        "--exclude-should-panic",
        "--bench",
        "--bench --test returns",
    ] {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let mut native = Command::new(dir.path().join("suite"));
        native
            .current_dir(dir.path())
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUST_BACKTRACE", "0")
            .env("TERM", "xterm");
        native
            .args(&arguments)
            .args(["--test-threads", "1", "-Zunstable-options"]);
        let native = Ended::from(native.output().expect("rustc has built the program"));
        let ours = project.dir.command(
            &[
                &[module.to_str().expect("the path is UTF-8")],
                &arguments[..],
            ]
            .concat(),
        );
        let ours = Ended::from(
            { ours }
                .args(["--test-threads", "1"])
                .output()
                .expect("the command was built with this test"),
        );
        assert_eq!(
            comparable(&ours.stdout),
            comparable(&native.stdout),
            "{arguments:?}"
        );
        assert_eq!(ours.status, native.status, "{arguments:?}");
    }
    for arguments in [
        "--foo",
        "-qx",
        "--list=3",
        "--skip",
        "--test-threads 0",
        "--test-threads x",
        "--color pink",
        "-qq",
    ] {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let native = Command::new(dir.path().join("suite"))
            .args(&arguments)
            .output()
            .expect("rustc has built the program");
        let native = Ended::from(native);
        let ours = project.dir.run(
            &[
                &[module.to_str().expect("the path is UTF-8")],
                &arguments[..],
            ]
            .concat(),
        );
        assert_eq!(
            (ours.status, ours.stderr),
            (native.status, native.stderr),
            "{arguments:?}"
        );
    }
}

/// Builds the tests of a project, and returns the path of the module, which is in the shared
/// directory for guests.
fn build(project: &Project) -> PathBuf {
    let built = project
        .cargo(&["test", "--lib", "--no-run"])
        .output()
        .expect("cargo can be run");
    let said = String::from_utf8_lossy(&built.stderr).into_owned();
    assert!(built.status.success(), "{said}");
    let path = said
        .rsplit_once("deps/")
        .expect("cargo prints the path")
        .1
        .split([')', '\n'])
        .next();
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("guests/wasm32-wasip1/debug/deps")
        .join(path.expect("a split has at least one part"))
}

#[test]
fn rusts_own_tests_run_in_separate_processes() {
    let project = Project::new("runner_plain", "fn main() {}");
    let tests = r#"
        #[lunatic::test]
        fn ours(mailbox: lunatic::Mailbox<u8>) {
            let this = lunatic::process::this(&mailbox);
            lunatic::process::spawn_with(this, |parent, _: lunatic::Mailbox<()>| parent.send(7)).unwrap();
            assert_eq!(mailbox.receive().unwrap(), 7);
        }
        mod plain {
            #[test]
            fn passes() { println!("out"); }
            #[test]
            fn fails() { println!("out"); panic!("broken"); }
            #[test]
            #[ignore]
            fn ignored() { println!("out"); }
            #[test]
            #[should_panic]
            fn panics() { panic!(); }
            #[test]
            fn returns_an_error() -> Result<(), &'static str> { println!("out"); Err("bad") }
        }
    "#;
    project.dir.write("runner_plain/src/lib.rs", tests);
    let mut cargo = project.cargo(&[
        "test",
        "--quiet",
        "--lib",
        "--",
        "--include-ignored",
        "--test-threads",
        "1",
        "--format",
        "pretty",
    ]);
    let ended = Ended::from(
        cargo
            .env("RUST_BACKTRACE", "0")
            .output()
            .expect("cargo can be run"),
    );
    assert_eq!(ended.status, Some(101), "{ended:#?}");
    let begin = r#"
running 6 tests
test ours ... ok
test plain::fails ... FAILED
test plain::ignored ... ok
test plain::panics ... ignored, in wasm, use `#[lunatic::test]` for tests that should panic
test plain::passes ... ok
test plain::returns_an_error ... FAILED

failures:

---- plain::fails stdout ----
out

thread 'main' "#;
    assert!(ended.stdout.starts_with(begin), "{ended:#?}");
    let end = "---- plain::returns_an_error stdout ----\nout\nError: \"bad\"\nthe test exited with status 101\n\n\nfailures:\n";
    assert!(ended.stdout.contains(end), "{ended:#?}");

    // A program that has only Rust's own tests runs them in one process, unless `lunatic test` is
    // used.
    project.dir.write(
        "runner_plain/src/lib.rs",
        tests
            .split_once("mod plain")
            .expect("the tests have this module")
            .1
            .replacen('{', "mod plain {", 1),
    );
    let module = build(&project);
    let module = module.to_str().expect("the path is UTF-8");
    let ended = project.dir.run(&["test", module, "--test-threads", "1"]);
    assert!(
        ended.stdout.contains("1 passed; 2 failed; 2 ignored"),
        "{ended:#?}"
    );
    let ended = project.dir.run(&[module, "plain::passes"]);
    assert!(
        ended
            .stdout
            .contains("test plain::passes ... ok\n\ntest result: ok. 1 passed;"),
        "{ended:#?}"
    );
    // In a single process, the first failure ends the program.
    assert_eq!(project.dir.run(&[module]).status, Some(134));
}

#[test]
fn doc_tests_run_in_the_vm() {
    let project = Project::new("runner_documented", "fn main() {}");
    let library = r#"
        /// ```
        /// #[lunatic::main]
        /// fn main(mailbox: lunatic::Mailbox<u8>) {
        ///     let this = lunatic::process::this(&mailbox);
        ///     let answer = |parent: lunatic::Process<u8>, _: lunatic::Mailbox<()>| parent.send(runner_documented::one());
        ///     lunatic::process::spawn_with(this, answer).unwrap();
        ///     assert_eq!(mailbox.receive().unwrap(), 1);
        /// }
        /// ```
        ///
        /// ```
        /// assert_eq!(runner_documented::one(), NUMBER);
        /// ```
        pub fn one() -> u8 { 1 }
    "#;
    for (number, status, result) in [
        ("1", 0, "2 passed; 0 failed"),
        ("2", 101, "hint: in wasm, a Rust test program ends"),
    ] {
        project.dir.write(
            "runner_documented/src/lib.rs",
            library.replace("NUMBER", number),
        );
        let ended = project
            .cargo(&["test", "--quiet", "--doc"])
            .output()
            .expect("cargo can be run");
        let ended = Ended::from(ended);
        assert_eq!(ended.status, Some(status), "{ended:#?}");
        assert!(
            ended.stdout.contains(result) || ended.stderr.contains(result),
            "{ended:#?}"
        );
    }
}
