//! Exit statuses: a table, of which `--help` and the README are projections.

use lunatic_vm::{Exit, Limit};

/// The program could not be started, though it is there.
pub(crate) const NOT_STARTED: i32 = 126;
/// There is no such program.
pub(crate) const NOT_FOUND: i32 = 127;
/// The time of `--timeout`, or of a process, is over. As timeout(1) has it.
pub(crate) const TIME_IS_OVER: i32 = 124;
/// A process trapped. As a shell reports an abort.
const TRAPPED: i32 = 134;
/// A process was killed. As a shell reports it.
const KILLED: i32 = 137;
/// Another limit was reached. As a shell reports too much processor time.
const LIMIT: i32 = 152;
/// The machine failed the program.
const FAULT: i32 = 255;
/// What a shell adds to the number of the signal that ended a command.
pub(crate) const SIGNAL: i32 = 128;

/// Every status and its meaning.
const STATUSES: &[(&str, &str)] = &[
    ("0-125", "what the program exits with"),
    ("1", "the command failed, other than by running a program"),
    ("2", "the command line is wrong"),
    ("101", "a test failed, or a flag of a test run is wrong"),
    ("124", "the time of --timeout was over"),
    (
        "126",
        "the program could not be started: it is no module, or imports what nothing provides",
    ),
    ("127", "there is no such program"),
    ("130, 143", "ended by SIGINT, by SIGTERM"),
    ("134", "the main process trapped"),
    ("137", "the main process was killed"),
    ("152", "the main process reached another limit"),
    ("255", "the machine failed the program: a defect of lunatic"),
];

/// Returns the section of `--help` on exit statuses.
pub(crate) fn help() -> String {
    let rows: Vec<String> = STATUSES
        .iter()
        .map(|(status, meaning)| format!("  {status:<10}{meaning}"))
        .collect();
    let end = "A main process that dies with one it is linked to exits with the other's status.";
    format!("Exit status:\n{}\n  {end}", rows.join("\n"))
}

/// Returns the status for the end of the main process.
pub(crate) fn of(exit: &Exit) -> i32 {
    match exit {
        Exit::Normal => 0,
        Exit::Status(status) if (1..=0xff).contains(status) => *status,
        // Only eight bits arrive; what they cannot tell must not look like success.
        Exit::Status(_) => 0xff,
        Exit::Trapped(_) => TRAPPED,
        Exit::Killed | Exit::NoProcess => KILLED,
        Exit::Limit(reached) if reached.limit == Limit::Time => TIME_IS_OVER,
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
    fn only_a_normal_end_is_success() {
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
        let readme = include_str!("../../../README.md");
        for (status, meaning) in STATUSES {
            assert!(
                readme.contains(&format!("| {status} | {meaning} |\n")),
                "{status}"
            );
        }
    }

    #[test]
    fn every_status_is_explained() {
        let help = help();
        for status in [
            NOT_STARTED,
            NOT_FOUND,
            TIME_IS_OVER,
            TRAPPED,
            KILLED,
            LIMIT,
            FAULT,
        ] {
            assert!(help.contains(&format!("  {status}")), "{status}");
        }
    }
}
