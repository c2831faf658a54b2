//! Exit statuses. `--help` and the README contain the same table.

use lunatic_vm::{Exit, Limit};

/// The program exists but could not be started.
pub(crate) const NOT_STARTED: i32 = 126;
/// The command failed, or a program's output could not be written.
pub(crate) const FAILED: i32 = 1;
/// The program does not exist.
pub(crate) const NOT_FOUND: i32 = 127;
/// The `--timeout` expired or a process exceeded its time limit. timeout(1) uses the same status.
pub(crate) const TIMED_OUT: i32 = 124;
/// A process trapped. A shell reports the same status for an abort.
const TRAPPED: i32 = 134;
/// A process was killed. A shell reports the same status for a killed command.
const KILLED: i32 = 137;
/// Another limit was reached. A shell reports the same status when the CPU time limit is exceeded.
const LIMIT: i32 = 152;
/// An internal error in the machine.
const FAULT: i32 = 255;
/// What a shell adds to a signal's number to form the status of a command that the signal ended.
pub(crate) const SIGNAL: i32 = 128;

/// Every status and its meaning.
const STATUSES: &[(&str, &str)] = &[
    ("0-125", "the program's own exit status"),
    (
        "1",
        "the command failed for a reason other than the program, or output could not be written",
    ),
    ("2", "the command line is invalid"),
    ("101", "a test failed, or a flag of a test run is invalid"),
    ("124", "the --timeout expired"),
    (
        "126",
        "the program could not be started: it is not a module, or one of its imports does not exist",
    ),
    ("127", "the program does not exist"),
    ("130, 143", "the program was ended by SIGINT or SIGTERM"),
    ("134", "the main process trapped"),
    ("137", "the main process was killed"),
    ("152", "the main process reached another limit"),
    ("255", "an internal error in the machine: a bug in lunatic"),
];

/// Returns the `--help` section about exit statuses.
pub(crate) fn help() -> String {
    let rows: Vec<String> = STATUSES
        .iter()
        .map(|(status, meaning)| format!("  {status:<10}{meaning}"))
        .collect();
    let end =
        "If the main process dies with a linked process, the status is that of the linked process.";
    format!("Exit status:\n{}\n  {end}", rows.join("\n"))
}

/// Returns the exit status that reflects how the main process ended.
pub(crate) fn of(exit: &Exit) -> i32 {
    match exit {
        Exit::Normal => 0,
        Exit::Status(status) if (1..=0xff).contains(status) => *status,
        // The system keeps only the low eight bits, and a status that does not fit must not look
        // like success.
        Exit::Status(_) => 0xff,
        Exit::Trapped(_) => TRAPPED,
        Exit::Killed | Exit::NoProcess => KILLED,
        Exit::Limit(reached) if reached.limit == Limit::Time => TIMED_OUT,
        Exit::Limit(_) => LIMIT,
        Exit::LinkDied { exit, .. } => of(exit),
        Exit::Fault(_) => FAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lunatic_vm::{LimitReached, Pid};
    use std::sync::Arc;

    #[test]
    fn only_a_normal_exit_is_success() {
        let limit = |limit| {
            Exit::Limit(LimitReached {
                limit,
                allowed: 1,
                wanted: None,
            })
        };
        for (exit, status) in [
            (Exit::Normal, 0),
            (Exit::Status(7), 7),
            (Exit::Status(256), 255),
            (Exit::Status(-1), 255),
            (Exit::Killed, 137),
            (limit(Limit::Memory), 152),
            (limit(Limit::Time), 124),
            (
                Exit::LinkDied {
                    pid: Pid::from_number(1),
                    exit: Arc::new(Exit::Status(3)),
                },
                3,
            ),
            (Exit::Fault("".into()), 255),
        ] {
            assert_eq!(of(&exit), status, "{exit}");
        }
    }

    #[test]
    fn the_readme_has_the_same_table() {
        let readme = include_str!("../README.md");
        for (status, meaning) in STATUSES {
            assert!(
                readme.contains(&format!("| {status} | {meaning} |\n")),
                "{status}"
            );
        }
    }

    #[test]
    fn the_help_explains_every_status() {
        let help = help();
        for status in [
            NOT_STARTED,
            NOT_FOUND,
            TIMED_OUT,
            TRAPPED,
            KILLED,
            LIMIT,
            FAULT,
        ] {
            assert!(help.contains(&format!("  {status}")), "{status}");
        }
    }
}
