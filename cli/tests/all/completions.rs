//! Tests `lunatic completions` and `--help`.

use crate::lunatic::WorkDir;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn the_completions_of_every_shell_have_the_same_definitions() {
    let dir = WorkDir::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let printed = dir.run(&["completions", shell]);
        printed.check(0, &[]);
        for word in ["completions", "init", "max-memory", "no-net"] {
            assert!(printed.stdout.contains(word), "{shell}: {word}");
        }
    }
    dir.run(&["completions", "cmd"]).check(2, &["bash"]);
}

#[test]
fn bash_accepts_its_completions() {
    let printed = WorkDir::new().run(&["completions", "bash"]);
    let Ok(mut bash) = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn() else {
        eprintln!("bash is not installed; the completions were not checked");
        return;
    };
    bash.stdin
        .take()
        .expect("the stream is piped")
        .write_all(printed.stdout.as_bytes())
        .expect("bash reads the whole script");
    assert!(bash.wait().expect("the child was started").success());
}

#[test]
fn a_closed_output_does_not_panic() {
    let (reader, writer) = std::io::pipe().expect("a pipe can be created");
    drop(reader);
    let mut command = WorkDir::new().command(&["completions", "bash"]);
    let output = command
        .current_dir("/")
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command was built with this test");
    crate::lunatic::Ended::from(output.wait_with_output().expect("the child was started"))
        .check(0, &[]);
}

#[test]
fn help_lists_flags_statuses_and_examples() {
    let dir = WorkDir::new();
    for line in [&["--help"][..], &["run", "--help"]] {
        let help = dir.run(line);
        help.check(0, &[]);
        for part in [
            "Rights:",
            "Limits:",
            "Exit status:",
            "134",
            "Examples:",
            "RUST_LOG=lunatic=debug",
        ] {
            assert!(
                help.stdout.contains(part),
                "{part} is missing from {}",
                help.stdout
            );
        }
    }
    let nothing = dir.run(&[]);
    assert_eq!(nothing.status, Some(2));
    assert!(nothing.stderr.contains("Usage: lunatic"), "{nothing:#?}");
}
