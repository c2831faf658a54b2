//! Rust's own tests, which the program's `_start` runs: listed by it, and then each run in a process of its own.
//!
//! In wasm a failed `#[test]` ends the program that runs it, and with it all that it was to run after. So each is asked
//! for alone, by its name, and what `_start` writes around its output is left out again.

use lunatic_vm::printable;

/// The arguments with which `_start` lists its tests.
pub(super) const LIST: &[&str] = &["--list", "--format", "terse"];
/// The same for those that are marked as ignored.
pub(super) const LIST_IGNORED: &[&str] = &["--list", "--format", "terse", "--ignored"];

/// Returns the arguments with which `_start` runs a test.
pub(super) fn arguments(name: &str) -> [&str; 5] {
    [
        name,
        "--exact",
        "--include-ignored",
        "--nocapture",
        "--quiet",
    ]
}

/// Reads a list of tests; `None` where it is something else.
pub(super) fn read(list: &str) -> Option<Vec<&str>> {
    let benchmark = |line: &str| line.ends_with(": benchmark");
    let name = |line| str::strip_suffix(line, ": test").filter(|name| printable(name) == *name);
    list.lines()
        .filter(|line| !benchmark(line))
        .map(name)
        .collect()
}

/// What `_start` wrote for one test.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ran<'a> {
    /// What the test wrote.
    pub(super) output: &'a str,
    /// Whether the test was not run: in wasm, one that has to panic is not.
    pub(super) is_ignored: bool,
}

/// Takes what the test wrote out of what `_start` wrote to standard output.
pub(super) fn unwrap<'a>(name: &str, output: &'a str) -> Ran<'a> {
    let output = output.strip_prefix("\nrunning 1 test\n").unwrap_or(output);
    if let Some(place) = output.rfind(&format!("{name} --- FAILED\n\nfailures:\n")) {
        return Ran {
            output: &output[..place],
            is_ignored: false,
        };
    }
    let Some(place) = output.rfind("\ntest result: ") else {
        return Ran {
            output,
            is_ignored: false,
        };
    };
    let is_ignored = output[place..].contains(" 1 ignored");
    let mark = if is_ignored { "i" } else { "." };
    let before = &output[..place];
    Ran {
        output: before.strip_suffix(mark).unwrap_or(before),
        is_ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        assert_eq!(
            read("a::b: test\nc: test\nd: benchmark\n"),
            Some(vec!["a::b", "c"])
        );
        assert_eq!(read(""), Some(vec![]));
        assert_eq!(
            read("src/lib.rs - f (line 3): test\n"),
            Some(vec!["src/lib.rs - f (line 3)"])
        );
        for other in [
            "listening on port 80\n",
            "a: test\n\n1 test\n",
            "\u{1b}[2J: test\n",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn what_stands_around_a_tests_output_is_left_out() {
        let end = "\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s\n\n";
        let check = |output: &str, expected: &str, is_ignored: bool| {
            assert_eq!(
                unwrap("m::t", output),
                Ran {
                    output: expected,
                    is_ignored
                },
                "{output}"
            );
        };
        check(
            &format!("\nrunning 1 test\nsome text\n.{end}"),
            "some text\n",
            false,
        );
        check(&format!("\nrunning 1 test\n.{end}"), "", false);
        check(
            "\nrunning 1 test\ni\ntest result: ok. 0 passed; 0 failed; 1 ignored; 0 measured\n\n",
            "",
            true,
        );
        check(
            "\nrunning 1 test\nit panicked then",
            "it panicked then",
            false,
        );
        let failed = "m::t --- FAILED\n\nfailures:\n\nfailures:\n    m::t\n\ntest result: FAILED. 0 passed; 1 failed\n\n";
        check(
            &format!("\nrunning 1 test\ntext\n{failed}"),
            "text\n",
            false,
        );
        check("no harness at all", "no harness at all", false);
    }
}
