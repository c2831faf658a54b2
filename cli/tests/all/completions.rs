//! `lunatic completions`, and `--help`.

use crate::lunatic::Place;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn every_shell_gets_the_same_definitions() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let printed = place.run(&["completions", shell]);
        printed.check(0, &[]);
        for word in ["completions", "init", "max-memory", "no-net"] {
            assert!(printed.stdout.contains(word), "{shell}: {word}");
        }
    }
    place.run(&["completions", "cmd"]).check(2, &["bash"]);
}

#[test]
fn bash_accepts_its_completions() {
    let printed = Place::new().run(&["completions", "bash"]);
    let Ok(mut bash) = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn() else {
        eprintln!("bash is not installed; nothing was checked");
        return;
    };
    bash.stdin
        .take()
        .expect("it is piped")
        .write_all(printed.stdout.as_bytes())
        .expect("bash reads all of it");
    assert!(bash.wait().expect("it was started").success());
}

#[test]
fn a_closed_output_is_no_panic() {
    let (reader, writer) = std::io::pipe().expect("there are descriptors");
    drop(reader);
    let mut command = Place::new().command(&["completions", "bash"]);
    let output = command
        .current_dir("/")
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built");
    crate::lunatic::Ended::from(output.wait_with_output().expect("it was started")).check(0, &[]);
}

#[test]
fn help_tells_flags_statuses_and_examples() {
    let place = Place::new();
    for line in [&["--help"][..], &["run", "--help"]] {
        let help = place.run(line);
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
                "{part} is missing in {}",
                help.stdout
            );
        }
    }
    let nothing = place.run(&[]);
    assert_eq!(nothing.status, Some(2));
    assert!(nothing.stderr.contains("Usage: lunatic"), "{nothing:#?}");
}
