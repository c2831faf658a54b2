//! Rust's own tests, which a program's `_start` lists and runs.
//!
//! In wasm, a `#[test]` that fails ends the program, so later tests would never run. Each test is
//! therefore selected by name and run separately, and the text that `_start` prints around the
//! test's output is removed.

use lunatic_vm::printable;

/// The arguments that make `_start` list its tests.
pub(super) const LIST: &[&str] = &["--list", "--format", "terse"];
/// The arguments that make `_start` list its ignored tests.
pub(super) const LIST_IGNORED: &[&str] = &["--list", "--format", "terse", "--ignored"];

/// Returns the arguments that make `_start` run one test.
pub(super) fn arguments(name: &str) -> [&str; 5] {
    [
        name,
        "--exact",
        "--include-ignored",
        "--nocapture",
        "--quiet",
    ]
}

/// Parses a list of tests. Returns `None` if the text is not such a list.
pub(super) fn read(list: &str) -> Option<Vec<&str>> {
    let benchmark = |line: &str| line.ends_with(": benchmark");
    let name = |line| str::strip_suffix(line, ": test").filter(|name| printable(name) == *name);
    list.lines()
        .filter(|line| !benchmark(line))
        .map(name)
        .collect()
}

/// What `_start` printed for a single test.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ran<'a> {
    /// The test's own output.
    pub(super) output: &'a str,
    /// Whether the test was skipped. In wasm, tests that should panic always are.
    pub(super) is_ignored: bool,
}

/// Extracts a test's output from the text that `_start` wrote to standard output.
pub(super) fn unwrap<'a>(name: &str, output: &'a str) -> Ran<'a> {
    let output = output.strip_prefix("\nrunning 1 test\n").unwrap_or(output);
    if let Some(end) = output.rfind(&format!("{name} --- FAILED\n\nfailures:\n")) {
        return Ran {
            output: &output[..end],
            is_ignored: false,
        };
    }
    let Some(end) = output.rfind("\ntest result: ") else {
        return Ran {
            output,
            is_ignored: false,
        };
    };
    let is_ignored = output[end..].contains(" 1 ignored");
    let mark = if is_ignored { "i" } else { "." };
    let before = &output[..end];
    Ran {
        output: before.strip_suffix(mark).unwrap_or(before),
        is_ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_parsed() {
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
    fn text_around_the_output_of_a_test_is_removed() {
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
