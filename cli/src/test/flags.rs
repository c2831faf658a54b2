//! A test run's arguments: those that Rust's test programs accept, as passed by cargo, nextest,
//! editors and users, and a few more.
//!
//! A single table defines the flags for both parsing and `--help`. Flags for which Rust requires
//! `-Z unstable-options` are accepted without it. As in Rust's test programs, `getopts` does the
//! parsing, so error messages have the same wording.
//!
//! The rest is our own code, because `libtest-mimic` prints different lines (names in columns,
//! `---- name ----`, `ignored (why)`, no `should panic`, `F` in the terse format), does not capture
//! output, words errors as clap does, accepts only one filter, and has no `--shuffle`,
//! `--report-time` or `--fail-fast`, no environment variables, and none of our own flags.

use crate::quantity;
use getopts::{HasArg, Matches, Occur, Options};
use std::time::Duration;

/// All flags, as printed by `--help`. The parser is built from these lines. A flag whose value is
/// followed by `...` may be repeated.
const FLAGS: &str = "Flags:
      --exact                         Match whole names instead of parts of names
      --skip FILTER...                Skip tests whose names contain FILTER
      --ignored                       Run only ignored tests
      --include-ignored               Run ignored tests too
      --exclude-should-panic          Skip tests that should panic
      --list                          List tests instead of running them
      --test-threads COUNT...         Number of tests run at the same time [default: one per core]
      --fail-fast                     Do not start any more tests after the first failure
      --no-capture                    Do not capture the output of tests
      --nocapture                     Same as --no-capture
      --show-output                   Show the output of passed tests too
      --format pretty|terse|json      Print a line, a character or a JSON object per test
  -q, --quiet                         Same as --format terse
      --color auto|always|never...    Color the results [default: auto]
      --report-time                   Show how long each test took
      --shuffle                       Run the tests in a random order
      --shuffle-seed SEED             Run the tests in the random order determined by SEED
      --timeout DURATION              Time limit for tests that do not set their own
      --max-memory SIZE               Memory limit for processes in tests that do not set their own
      --leaks note|fail|ignore        What to do if a test leaves processes or timers behind [default: note]
      --shared                        Share names, and keep what tests leave behind until all tests have ended
      --test                          Run tests, even with --bench
      --bench                         Run benchmarks (there are none)
      --force-run-in-process          No effect: every test is a separate process tree
  -Z unstable-options...              No effect
  -h, --help                          Print help
";

/// Returns the parser for the flags listed in [`FLAGS`].
fn options() -> Options {
    let mut options = Options::new();
    for line in FLAGS.lines().skip(1) {
        let (flag, _) = line
            .trim()
            .split_once("  ")
            .expect("spaces precede the help");
        let (mut short, mut long) = ("", "");
        let (mut has_value, mut occurs) = (HasArg::No, Occur::Optional);
        for word in flag.split(' ') {
            match (word.strip_prefix("--"), word.strip_prefix('-')) {
                (Some(name), _) => long = name,
                (None, Some(letter)) => short = letter.trim_end_matches(','),
                (None, None) => has_value = HasArg::Yes,
            }
            if word.ends_with("...") {
                occurs = Occur::Multi;
            }
        }
        options.opt(short, long, "", "", has_value, occurs);
    }
    options
}

/// A test run's parsed flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) filters: Vec<String>,
    pub(super) skip: Vec<String>,
    pub(super) is_exact: bool,
    pub(super) ignored: Ignored,
    pub(super) excludes_panics: bool,
    /// Whether to run tests. `--bench` alone would run only benchmarks, and there are none.
    pub(super) runs_tests: bool,
    pub(super) lists: bool,
    pub(super) threads: Option<usize>,
    pub(super) is_fail_fast: bool,
    pub(super) captures: bool,
    pub(super) shows_output: bool,
    pub(super) format: Format,
    pub(super) color: Color,
    pub(super) reports_time: bool,
    pub(super) shuffle: Option<Shuffle>,
    pub(super) timeout: Option<Duration>,
    pub(super) memory: Option<u64>,
    pub(super) leaks: OnLeaks,
    pub(super) shares: bool,
}

/// How to treat ignored tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    NotRun,
    RunToo,
    RunOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Pretty,
    Terse,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

/// Where the seed for a random order comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shuffle {
    Random,
    Seed(u64),
}

/// How to treat a test that leaves something behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnLeaks {
    Note,
    Fail,
    Ignore,
}

/// What the arguments ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Help,
    Run(Flags),
}

/// Parses arguments, using environment variables as defaults.
///
/// # Errors
///
/// Returns a message in the wording of Rust's test programs.
pub(super) fn read(
    arguments: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Request, String> {
    let given = options()
        .parse(arguments)
        .map_err(|error| error.to_string())?;
    if given.opt_present("help") {
        return Ok(Request::Help);
    }
    let number = |name: &str| -> Result<Option<u64>, String> {
        let Some(value) = variable(name) else {
            return Ok(None);
        };
        value
            .parse()
            .map(Some)
            .map_err(|_| format!("{name} is `{value}`, should be a number"))
    };
    Ok(Request::Run(Flags {
        skip: given.opt_strs("skip"),
        is_exact: given.opt_present("exact"),
        ignored: match (
            given.opt_present("ignored"),
            given.opt_present("include-ignored"),
        ) {
            (true, true) => {
                return Err(
                    "the options --include-ignored and --ignored are mutually exclusive".into(),
                );
            }
            (true, false) => Ignored::RunOnly,
            (false, true) => Ignored::RunToo,
            (false, false) => Ignored::NotRun,
        },
        excludes_panics: given.opt_present("exclude-should-panic"),
        runs_tests: !given.opt_present("bench") || given.opt_present("test"),
        lists: given.opt_present("list"),
        threads: match last(&given, "test-threads") {
            Some(count) => Some(threads(&count)?),
            None => variable("RUST_TEST_THREADS")
                .map(|count| positive(&count))
                .transpose()?,
        },
        is_fail_fast: given.opt_present("fail-fast"),
        captures: !(given.opt_present("no-capture")
            || given.opt_present("nocapture")
            || variable("RUST_TEST_NOCAPTURE").is_some_and(|value| value != "0")),
        shows_output: given.opt_present("show-output"),
        format: match last(&given, "format").as_deref() {
            None if given.opt_present("quiet") => Format::Terse,
            None | Some("pretty") => Format::Pretty,
            Some("terse") => Format::Terse,
            Some("json") => Format::Json,
            Some(other) => {
                return Err(format!(
                    "argument for --format must be pretty, terse or json (was {other})"
                ));
            }
        },
        color: match last(&given, "color").as_deref() {
            None | Some("auto") => Color::Auto,
            Some("always") => Color::Always,
            Some("never") => Color::Never,
            Some(other) => {
                return Err(format!(
                    "argument for --color must be auto, always, or never (was {other})"
                ));
            }
        },
        reports_time: given.opt_present("report-time"),
        shuffle: {
            let wanted = given.opt_present("shuffle")
                || variable("RUST_TEST_SHUFFLE").is_some_and(|value| value != "0");
            let seed = match last(&given, "shuffle-seed") {
                Some(seed) => Some(seed.parse().map_err(|error| {
                    format!("argument for --shuffle-seed must be a number (error: {error})")
                })?),
                None => number("RUST_TEST_SHUFFLE_SEED")?,
            };
            seed.map(Shuffle::Seed)
                .or(wanted.then_some(Shuffle::Random))
        },
        timeout: parsed(&given, "timeout", quantity::duration)?,
        memory: parsed(&given, "max-memory", quantity::bytes)?,
        leaks: match last(&given, "leaks").as_deref() {
            None | Some("note") => OnLeaks::Note,
            Some("fail") => OnLeaks::Fail,
            Some("ignore") => OnLeaks::Ignore,
            Some(other) => {
                return Err(format!(
                    "argument for --leaks must be note, fail or ignore (was {other})"
                ));
            }
        },
        shares: given.opt_present("shared"),
        filters: given.free,
    }))
}

fn threads(count: &str) -> Result<usize, String> {
    match count.parse() {
        Ok(0) => Err("argument for --test-threads must not be 0".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!(
            "argument for --test-threads must be a number > 0 (error: {error})"
        )),
    }
}

fn positive(count: &str) -> Result<usize, String> {
    let refused = || format!("RUST_TEST_THREADS is `{count}`, should be a positive integer.");
    count
        .parse()
        .ok()
        .filter(|&count| count > 0)
        .ok_or_else(refused)
}

/// Returns the last value given for a flag.
fn last(given: &Matches, long: &str) -> Option<String> {
    given.opt_strs(long).pop()
}

fn parsed<T>(
    given: &Matches,
    long: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let wrong = |value: &str, why| format!("argument for --{long} is `{value}`: {why}");
    last(given, long)
        .map(|value| read(&value).map_err(|why| wrong(&value, why)))
        .transpose()
}

/// Returns the `--help` text.
pub(super) fn help(program: &str) -> String {
    format!(
        "\
Run the tests of `{program}`, each in its own process tree

Usage: lunatic [OPTIONS] {program} [FILTERS...] [FLAGS]

Runs the tests whose names contain one of the filters, or all if there are none.

{FLAGS}
Environment variables: RUST_TEST_THREADS, RUST_TEST_NOCAPTURE, RUST_TEST_SHUFFLE, RUST_TEST_SHUFFLE_SEED
Exit status: 0 if all tests passed, 101 if a test failed or a flag is invalid
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        read(&arguments, |_| None)
    }

    fn flags(line: &str) -> Flags {
        match parse(line) {
            Ok(Request::Run(flags)) => flags,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_flag_is_parsed() {
        let all = flags(
            "a --exact --skip b --skip=c --ignored --list --test-threads 2 --test-threads=3 --fail-fast --nocapture \
             --show-output --format json --color always --report-time --shuffle --shuffle-seed 7 --timeout 500ms \
             --max-memory 1MiB --leaks fail --shared --bench --exclude-should-panic -Zunstable-options d -- --e",
        );
        let expected = Flags {
            filters: ["a", "d", "--e"].map(String::from).to_vec(),
            skip: ["b", "c"].map(String::from).to_vec(),
            is_exact: true,
            ignored: Ignored::RunOnly,
            excludes_panics: true,
            runs_tests: false,
            lists: true,
            threads: Some(3),
            is_fail_fast: true,
            captures: false,
            shows_output: true,
            format: Format::Json,
            color: Color::Always,
            reports_time: true,
            shuffle: Some(Shuffle::Seed(7)),
            timeout: Some(Duration::from_millis(500)),
            memory: Some(1 << 20),
            leaks: OnLeaks::Fail,
            shares: true,
        };
        assert_eq!(all, expected);
    }

    #[test]
    fn without_flags_all_tests_run_and_their_output_is_captured() {
        let none = flags("");
        assert!(
            none.filters.is_empty()
                && none.captures
                && none.runs_tests
                && !none.lists
                && !none.is_exact
                && !none.shares
        );
        assert_eq!(
            (none.ignored, none.format, none.leaks),
            (Ignored::NotRun, Format::Pretty, OnLeaks::Note)
        );
        assert_eq!(
            (none.threads, none.shuffle, none.timeout, none.memory),
            (None, None, None, None)
        );
        assert_eq!(flags("-q").format, Format::Terse);
        assert_eq!(flags("-q --format pretty").format, Format::Pretty);
        assert_eq!(flags("--include-ignored").ignored, Ignored::RunToo);
        assert!(flags("--bench --test").runs_tests);
        assert_eq!(parse("x --help --format what"), Ok(Request::Help));
    }

    #[test]
    fn errors_have_the_same_wording_as_in_rust() {
        // Rust's test programs print these messages. `cli/tests/all/testing.rs` compares some of
        // them with a real test program's.
        for (line, sentence) in [
            ("--foo", "Unrecognized option: 'foo'"),
            ("-qz", "Unrecognized option: 'z'"),
            (
                "--ignored --include-ignored",
                "the options --include-ignored and --ignored are mutually exclusive",
            ),
            (
                "--test-threads 0",
                "argument for --test-threads must not be 0",
            ),
            (
                "--color foo",
                "argument for --color must be auto, always, or never (was foo)",
            ),
            (
                "--format junit",
                "argument for --format must be pretty, terse or json (was junit)",
            ),
            ("--exact --exact", "Option 'exact' given more than once"),
            (
                "--format json --format json",
                "Option 'format' given more than once",
            ),
            ("-qq", "Option 'quiet' given more than once"),
            ("--list=3", "Option 'list' does not take an argument"),
            ("--skip", "Argument to option 'skip' missing"),
            ("-Z", "Argument to option 'Z' missing"),
            (
                "--leaks maybe",
                "argument for --leaks must be note, fail or ignore (was maybe)",
            ),
        ] {
            assert_eq!(parse(line), Err(sentence.into()), "{line}");
        }
        assert!(
            parse("--timeout soon")
                .is_err_and(|error| error.contains("--timeout") && error.contains("`soon`"))
        );
    }

    #[test]
    fn variables_replace_flags() {
        let with = |variables: &'static [(&str, &str)], line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_string).collect();
            read(&arguments, |name| {
                variables
                    .iter()
                    .find(|(other, _)| *other == name)
                    .map(|(_, value)| value.to_string())
            })
        };
        let asked = |variables, line| match with(variables, line) {
            Ok(Request::Run(flags)) => flags,
            other => panic!("{other:?}"),
        };
        assert_eq!(asked(&[("RUST_TEST_THREADS", "5")], "").threads, Some(5));
        assert_eq!(
            asked(&[("RUST_TEST_THREADS", "5")], "--test-threads 2").threads,
            Some(2)
        );
        assert!(with(&[("RUST_TEST_THREADS", "0")], "").is_err());
        assert!(!asked(&[("RUST_TEST_NOCAPTURE", "1")], "").captures);
        assert!(asked(&[("RUST_TEST_NOCAPTURE", "0")], "").captures);
        assert_eq!(
            asked(&[("RUST_TEST_SHUFFLE", "1")], "").shuffle,
            Some(Shuffle::Random)
        );
        assert_eq!(
            asked(&[("RUST_TEST_SHUFFLE_SEED", "9")], "").shuffle,
            Some(Shuffle::Seed(9))
        );
        assert!(with(&[("RUST_TEST_SHUFFLE_SEED", "x")], "").is_err());
    }

    #[test]
    fn the_help_has_every_flag_and_every_line_of_it_is_parsed() {
        let help = help("app.wasm");
        assert!(help.contains(FLAGS), "{help}");
        let usage = options().usage("");
        for flag in FLAGS
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
        {
            let is_in_the_help_of_another = flag == "--format" || flag == "--no-capture";
            assert!(is_in_the_help_of_another || usage.contains(flag), "{flag}");
        }
    }
}
