//! Tests what a program may do, and the flags that change it.

use crate::guest::{guest, with};
use crate::lunatic::{Ended, WorkDir, run};
use std::path::Path;

/// Returns a guest that prints the strings returned by a pair of WASI functions, each followed by a
/// zero byte.
fn printing(sizes: &str, get: &str) -> String {
    guest(&format!(
        "(drop (call ${sizes} (i32.const 0) (i32.const 4)))
         (drop (call ${get} (i32.const 65536) (i32.const 131072)))
         (call $print (i32.const 131072) (i32.load (i32.const 4)))"
    ))
}

fn parts(ended: &Ended) -> Vec<&str> {
    ended.check(0, &[]);
    ended.stdout.split_terminator('\0').collect()
}

#[test]
fn arguments_follow_the_name_of_the_file() {
    let dir = WorkDir::new();
    dir.write("sub/app.wat", printing("args_sizes", "args"));
    let expected = ["app.wat", "--no-net", "", "ä b", "--"];
    for command in [&[][..], &["run"], &["--"]] {
        let line = [command, &["sub/app.wat"], &expected[1..]].concat();
        let mut ended = dir.run(&line);
        // One of the arguments looks like a flag of the command.
        if command != ["--"] {
            ended.check(
                0,
                &["note: `--no-net` after `app.wat` is passed to the program"],
            );
            ended.stderr.clear();
        }
        assert_eq!(parts(&ended), expected, "{line:?}");
    }
}

fn variables(flags: &[&str]) -> Vec<String> {
    let dir = WorkDir::new();
    dir.write("guest.wat", printing("environ_sizes", "environ"));
    let mut command = dir.command(&[flags, &["guest.wat"]].concat());
    let output = command
        .env("COLOUR", "blue")
        .env("EMPTY", "")
        .output()
        .expect("the command was built with this test");
    let mut found: Vec<String> = parts(&Ended::from(output))
        .into_iter()
        .map(str::to_string)
        .collect();
    found.sort();
    found
}

#[test]
fn environment_variables_are_passed_on() {
    let found = variables(&["--env", "COLOUR=red", "--env", "SHAPE=a=b"]);
    for expected in ["COLOUR=red", "EMPTY=", "SHAPE=a=b"] {
        assert!(
            found.iter().any(|variable| variable == expected),
            "{found:?}"
        );
    }
    assert!(!found.iter().any(|variable| variable == "COLOUR=blue"));
}

#[test]
fn with_no_env_only_the_named_variables_exist() {
    assert_eq!(variables(&["--no-env"]), [""; 0]);
    assert_eq!(
        variables(&["--no-env", "--env", "COLOUR", "--env", "X=1"]),
        ["COLOUR=blue", "X=1"]
    );
}

#[test]
fn a_named_variable_that_is_not_set_is_an_error() {
    run(&["--env", "NO_SUCH_VARIABLE"], &guest(""))
        .check(126, &["`--env NO_SUCH_VARIABLE`", "NAME=VALUE"]);
    run(&["--env", "=x"], &guest("")).check(126, &["the name is missing"]);
}

/// Returns a guest that opens `file` in the first granted directory and exits with the WASI result.
/// `flags` is 1 to create the file and 0 to open it for reading.
fn opening(flags: u32) -> String {
    let right = if flags == 1 { 64 } else { 2 };
    with(
        &format!(
            "(call $exit (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const {flags})
                (i64.const {right}) (i64.const 0) (i32.const 0) (i32.const 32)))"
        ),
        r#"(data (i32.const 1024) "file")"#,
    )
}

const CREATE: u32 = 1;
const READ: u32 = 0;

#[test]
fn the_current_directory_is_granted() {
    let dir = WorkDir::new();
    dir.write("guest.wat", opening(CREATE));
    dir.run(&["guest.wat"]).check(0, &[]);
    assert_eq!(dir.read("file"), "");
}

#[test]
fn with_no_dir_nothing_can_be_opened() {
    let dir = WorkDir::new();
    dir.write("guest.wat", opening(CREATE));
    // 8 is WASI's error for a descriptor that does not exist.
    dir.run(&["--no-dir", "guest.wat"]).check(8, &[]);
    assert!(!dir.path().join("file").exists());
}

#[test]
fn a_directory_can_be_granted_under_a_given_name() {
    let dir = WorkDir::new();
    dir.write("inner/kept", "");
    dir.write("make.wat", opening(CREATE));
    dir.write("read.wat", opening(READ));
    dir.run(&["--no-dir", "--dir", "inner::/data", "make.wat"])
        .check(0, &[]);
    assert_eq!(dir.read("inner/file"), "");
    dir.run(&["--no-dir", "--read-dir", "inner", "read.wat"])
        .check(0, &[]);
}

#[test]
fn what_is_granted_as_the_current_directory_takes_its_place() {
    let dir = WorkDir::new();
    dir.write("inner/kept", "");
    dir.write("guest.wat", opening(CREATE));
    for guest in [".", "./"] {
        dir.run(&["--dir", &format!("inner::{guest}"), "guest.wat"])
            .check(0, &[]);
        assert_eq!(dir.read("inner/file"), "");
        assert!(!dir.path().join("file").exists());
    }
    let ended = dir.run(&["--read-dir", ".", "guest.wat"]);
    assert!(matches!(ended.status, Some(1..126)), "{ended:#?}");
    assert!(!dir.path().join("file").exists());
}

/// Returns a guest that prints the path that a directory is granted under.
fn naming(descriptor: u32) -> String {
    with(
        &format!(
            "(if (call $prestat (i32.const {descriptor}) (i32.const 16)) (then (call $exit (i32.const 1))))
             (drop (call $prestat_name (i32.const {descriptor}) (i32.const 1024) (i32.load (i32.const 20))))
             (call $print (i32.const 1024) (i32.load (i32.const 20)))"
        ),
        "",
    )
}

#[test]
fn the_current_directory_is_granted_under_its_absolute_path_too() {
    let dir = WorkDir::new();
    dir.write("inner/kept", "");
    for (descriptor, flags) in [
        (3, &[][..]),
        (3, &["--dir", "inner::."]),
        (4, &["--dir", "inner"]),
    ] {
        dir.write("guest.wat", naming(descriptor));
        let ended = dir.run(&[flags, &["guest.wat"]].concat());
        ended.check(0, &[]);
        let path = dir.path().canonicalize().expect("the directory exists");
        assert_eq!(Path::new(&ended.stdout), path);
    }
}

#[test]
fn a_process_can_open_as_many_files_as_the_flag_allows() {
    let dir = WorkDir::new();
    dir.write("file", "");
    dir.write("guest.wat", opening(READ));
    dir.run(&["--max-files", "1", "guest.wat"]).check(0, &[]);
    // 33 is WASI's error for too many open files.
    dir.run(&["--max-files", "0", "guest.wat"]).check(33, &[]);
}

#[test]
fn wasi_is_denied_in_all_its_versions() {
    let dir = WorkDir::new();
    dir.write(
        "guest.wat",
        opening(CREATE).replace("wasi_snapshot_preview1", "wasi_unstable"),
    );
    let ended = dir.run(&["--deny", "wasi_snapshot_preview1::path_", "guest.wat"]);
    ended.check(134, &["does not grant `wasi_unstable::path_open`"]);
    assert!(!dir.path().join("file").exists());
}

#[test]
fn a_file_that_no_grant_covers_is_explained_once() {
    let dir = WorkDir::new();
    // The current directory is granted under two paths; relative paths begin at the second.
    let open =
        "(call $path_open (i32.const 4) (i32.const 0) (i32.const 1024) (i32.const 16) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32))";
    let guest = with(
        &format!("(drop {open}) (call $exit {open})"),
        r#"(data (i32.const 1024) "etc/no-such-file")"#,
    );
    dir.write("guest.wat", guest);
    let ended = dir.run(&["guest.wat"]);
    ended.check(
        44,
        &[
            "`/etc/no-such-file` is not inside any granted directory",
            "--dir /etc",
        ],
    );
    assert_eq!(
        ended.stderr.matches("no-such-file").count(),
        1,
        "{ended:#?}"
    );
    dir.write("etc/kept", "");
    dir.run(&["guest.wat"]).check(44, &[]);
}

#[test]
fn a_read_only_directory_cannot_be_written_to() {
    let dir = WorkDir::new();
    dir.write("inner/kept", "");
    dir.write("make.wat", opening(CREATE));
    let ended = dir.run(&["--no-dir", "--read-dir", "inner", "make.wat"]);
    assert!(matches!(ended.status, Some(1..126)), "{ended:#?}");
    assert!(!dir.path().join("inner/file").exists());
}

#[test]
fn a_missing_directory_is_an_error() {
    run(&["--dir", "missing::/data"], &guest("")).check(126, &["missing"]);
    run(&["--dir", "guest.wat"], &guest("")).check(126, &["guest.wat"]);
}

#[test]
fn a_namespace_can_be_denied_and_allowed_again() {
    let calling = guest("(drop (call $this)) (call $print (i32.const 0) (i32.const 0))");
    run(&["--deny", "lunatic::process::process_id"], &calling)
        .check(134, &["`lunatic::process::process_id`"]);
    run(&["--deny", "all"], &calling).check(134, &["`lunatic::process::process_id`"]);
    let given_back = [
        "--deny",
        "all",
        "--allow",
        "lunatic::process",
        "--allow",
        "wasi_snapshot_preview1::fd_",
    ];
    run(&given_back, &calling).check(0, &[]);
    run(
        &["--allow", "lunatic", "--deny", "lunatic::process"],
        &calling,
    )
    .check(134, &["lunatic::process::process_id"]);
}

#[test]
fn importing_a_denied_function_does_no_harm() {
    run(&["--deny", "all"], &guest("")).check(0, &[]);
}

#[test]
fn no_net_denies_sockets() {
    let resolving = with("(call $drop_dns (i64.const 1))", "").replacen(
        "(memory",
        "(import \"lunatic::networking\" \"drop_dns_iterator\" (func $drop_dns (param i64))) (memory",
        1,
    );
    run(&["--no-net"], &resolving).check(
        134,
        &["does not grant `lunatic::networking::drop_dns_iterator`"],
    );
    let given_back = [
        "--no-net",
        "--allow",
        "lunatic::networking::drop_dns_iterator",
    ];
    let ended = run(&given_back, &resolving);
    assert!(!ended.stderr.contains("does not grant"), "{ended:#?}");
}

#[test]
fn the_error_for_a_mistyped_namespace_suggests_the_right_one() {
    run(&["--deny", "lunatic::netwroking"], &guest(""))
        .check(126, &["did you mean `lunatic::networking`"]);
    run(&["--allow", "fd_write"], &guest(""))
        .check(126, &["did you mean `wasi_snapshot_preview1::fd_write`"]);
    run(&["--deny", "nothing"], &guest(""))
        .check(126, &["`nothing`", "the namespaces are `lunatic::"]);
    // The empty prefix would match everything, and probably comes from an unset shell variable.
    run(&["--deny", ""], &guest("")).check(126, &["the namespaces are `lunatic::"]);
}
