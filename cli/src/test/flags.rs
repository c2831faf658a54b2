//! The arguments of a test run: those of Rust's test programs, which are passed by cargo, nextest,
//! editors and users, and a few more.
//!
//! One table lists them, for parsing and for `--help`. What Rust accepts only with `-Z
//! unstable-options` is accepted without.
//!
//! This is custom code, since `libtest-mimic` prints different lines (names in columns, `---- name
//! ----`, `ignored (why)`, no `should panic`, `F` in the terse format), captures no output, reports
//! errors with clap's wording, and accepts only one filter, no `--shuffle`, `--report-time` or
//! `--fail-fast`, no environment variables, and none of our own flags.

use crate::quantity;
use std::time::Duration;

/// Whether a flag takes a value, and how many times it may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// A value, at most once.
    One(&'static str),
    /// A value, any number of times; either the last one or all of them count.
    Any(&'static str),
}

struct Flag {
    short: Option<char>,
    long: &'static str,
    takes: Takes,
    help: &'static str,
}

const fn flag(long: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag {
        short: None,
        long,
        takes,
        help,
    }
}

/// Every flag.
const FLAGS: &[Flag] = &[
    flag(
        "exact",
        Takes::Nothing,
        "Match whole names instead of parts of names",
    ),
    flag(
        "skip",
        Takes::Any("FILTER"),
        "Skip tests whose names contain FILTER",
    ),
    flag("ignored", Takes::Nothing, "Run only ignored tests"),
    flag("include-ignored", Takes::Nothing, "Run ignored tests too"),
    flag(
        "exclude-should-panic",
        Takes::Nothing,
        "Skip tests that should panic",
    ),
    flag("list", Takes::Nothing, "List tests instead of running them"),
    flag(
        "test-threads",
        Takes::Any("COUNT"),
        "Number of tests run at the same time [default: one per core]",
    ),
    flag(
        "fail-fast",
        Takes::Nothing,
        "Start no more tests after the first failure",
    ),
    flag(
        "no-capture",
        Takes::Nothing,
        "Do not capture the output of tests",
    ),
    flag("nocapture", Takes::Nothing, "Same as --no-capture"),
    flag(
        "show-output",
        Takes::Nothing,
        "Show the output of passed tests too",
    ),
    flag(
        "format",
        Takes::One("pretty|terse|json"),
        "Print a line, a character or a JSON object per test",
    ),
    Flag {
        short: Some('q'),
        ..flag("quiet", Takes::Nothing, "Same as --format terse")
    },
    flag(
        "color",
        Takes::Any("auto|always|never"),
        "Color the results [default: auto]",
    ),
    flag(
        "report-time",
        Takes::Nothing,
        "Show how long each test took",
    ),
    flag("shuffle", Takes::Nothing, "Run the tests in a random order"),
    flag(
        "shuffle-seed",
        Takes::One("SEED"),
        "Run the tests in the random order given by SEED",
    ),
    flag(
        "timeout",
        Takes::One("DURATION"),
        "Time limit of tests that do not set their own",
    ),
    flag(
        "max-memory",
        Takes::One("SIZE"),
        "Memory limit of processes whose test does not set its own",
    ),
    flag(
        "leaks",
        Takes::One("note|fail|ignore"),
        "What to do if a test leaves processes or timers behind [default: note]",
    ),
    flag("test", Takes::Nothing, "Run tests, even with --bench"),
    flag(
        "bench",
        Takes::Nothing,
        "Run benchmarks, of which there are none",
    ),
    flag(
        "force-run-in-process",
        Takes::Nothing,
        "No effect: every test is a separate process tree",
    ),
    Flag {
        short: Some('Z'),
        ..flag("", Takes::Any("unstable-options"), "No effect")
    },
    Flag {
        short: Some('h'),
        ..flag("help", Takes::Nothing, "Print help")
    },
];

/// The parsed flags of a test run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) filters: Vec<String>,
    pub(super) skip: Vec<String>,
    pub(super) is_exact: bool,
    pub(super) ignored: Ignored,
    pub(super) excludes_panics: bool,
    /// Whether tests are run, or only benchmarks, which do not exist here.
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
}

/// What to do with ignored tests.
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

/// The source of the seed for a random order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shuffle {
    Random,
    Seed(u64),
}

/// What to do when a test leaves something behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnLeaks {
    Note,
    Fail,
    Ignore,
}

/// What the arguments request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Help,
    Run(Flags),
}

/// Parses arguments, with environment variables as defaults.
///
/// # Errors
///
/// Returns a message worded as in Rust's test programs.
pub(super) fn read(
    arguments: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Request, String> {
    let given = Arguments::parse(arguments)?;
    if given.has("help") {
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
        skip: given.values("skip").map(str::to_string).collect(),
        is_exact: given.has("exact"),
        ignored: match (given.has("ignored"), given.has("include-ignored")) {
            (true, true) => {
                return Err(
                    "the options --include-ignored and --ignored are mutually exclusive".into(),
                );
            }
            (true, false) => Ignored::RunOnly,
            (false, true) => Ignored::RunToo,
            (false, false) => Ignored::NotRun,
        },
        excludes_panics: given.has("exclude-should-panic"),
        runs_tests: !given.has("bench") || given.has("test"),
        lists: given.has("list"),
        threads: match given.values("test-threads").last() {
            Some(count) => Some(threads(count)?),
            None => variable("RUST_TEST_THREADS")
                .map(|count| positive(&count))
                .transpose()?,
        },
        is_fail_fast: given.has("fail-fast"),
        captures: !(given.has("no-capture")
            || given.has("nocapture")
            || variable("RUST_TEST_NOCAPTURE").is_some_and(|value| value != "0")),
        shows_output: given.has("show-output"),
        format: match given.values("format").last() {
            None if given.has("quiet") => Format::Terse,
            None | Some("pretty") => Format::Pretty,
            Some("terse") => Format::Terse,
            Some("json") => Format::Json,
            Some(other) => {
                return Err(format!(
                    "argument for --format must be pretty, terse or json (was {other})"
                ));
            }
        },
        color: match given.values("color").last() {
            None | Some("auto") => Color::Auto,
            Some("always") => Color::Always,
            Some("never") => Color::Never,
            Some(other) => {
                return Err(format!(
                    "argument for --color must be auto, always, or never (was {other})"
                ));
            }
        },
        reports_time: given.has("report-time"),
        shuffle: {
            let wanted = given.has("shuffle")
                || variable("RUST_TEST_SHUFFLE").is_some_and(|value| value != "0");
            let seed = match given.values("shuffle-seed").last() {
                Some(seed) => Some(seed.parse().map_err(|error| {
                    format!("argument for --shuffle-seed must be a number (error: {error})")
                })?),
                None => number("RUST_TEST_SHUFFLE_SEED")?,
            };
            seed.map(Shuffle::Seed)
                .or(wanted.then_some(Shuffle::Random))
        },
        timeout: given.value("timeout", quantity::duration)?,
        memory: given.value("max-memory", quantity::bytes)?,
        leaks: match given.values("leaks").last() {
            None | Some("note") => OnLeaks::Note,
            Some("fail") => OnLeaks::Fail,
            Some("ignore") => OnLeaks::Ignore,
            Some(other) => {
                return Err(format!(
                    "argument for --leaks must be note, fail or ignore (was {other})"
                ));
            }
        },
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

/// The arguments, split into flags and filters.
#[derive(Default)]
struct Arguments {
    flags: Vec<(&'static str, Option<String>)>,
    free: Vec<String>,
}

impl Arguments {
    /// Splits arguments the way getopts does, which Rust's test programs use.
    fn parse(arguments: &[String]) -> Result<Arguments, String> {
        let mut given = Arguments::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                given.free.extend(arguments.cloned());
                break;
            }
            if let Some(long) = argument.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_string())),
                    None => (long, None),
                };
                let flag = FLAGS
                    .iter()
                    .find(|flag| flag.long == name && !name.is_empty());
                given.add(flag.ok_or_else(|| unrecognized(name))?, name, value, || {
                    arguments.next().cloned()
                })?;
            } else if let Some(letters) = argument
                .strip_prefix('-')
                .filter(|letters| !letters.is_empty())
            {
                given.parse_letters(letters, &mut arguments)?;
            } else {
                given.free.push(argument.clone());
            }
        }
        Ok(given)
    }

    /// Parses single-letter flags, the last of which may be followed directly by its value.
    fn parse_letters<'a>(
        &mut self,
        letters: &str,
        arguments: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), String> {
        for (index, letter) in letters.char_indices() {
            let name = letter.to_string();
            let flag = FLAGS
                .iter()
                .find(|flag| flag.short == Some(letter))
                .ok_or_else(|| unrecognized(&name))?;
            if flag.takes == Takes::Nothing {
                self.add(flag, &name, None, || None)?;
                continue;
            }
            let rest = &letters[index + letter.len_utf8()..];
            let value = (!rest.is_empty()).then(|| rest.to_string());
            return self.add(flag, &name, value, || arguments.next().cloned());
        }
        Ok(())
    }

    fn add(
        &mut self,
        flag: &Flag,
        name: &str,
        value: Option<String>,
        next: impl FnOnce() -> Option<String>,
    ) -> Result<(), String> {
        if !matches!(flag.takes, Takes::Any(_)) && self.has(flag.long) {
            return Err(format!("Option '{}' given more than once", flag.long));
        }
        let value = match flag.takes {
            Takes::Nothing if value.is_some() => {
                return Err(format!("Option '{name}' does not take an argument"));
            }
            Takes::Nothing => None,
            Takes::One(_) | Takes::Any(_) => Some(
                value
                    .or_else(next)
                    .ok_or_else(|| format!("Argument to option '{name}' missing"))?,
            ),
        };
        self.flags.push((flag.long, value));
        Ok(())
    }

    fn has(&self, long: &str) -> bool {
        self.flags.iter().any(|(name, _)| *name == long)
    }

    fn values(&self, long: &str) -> impl DoubleEndedIterator<Item = &str> {
        let is_asked =
            move |(name, value): &'_ (&str, Option<String>)| *name == long && value.is_some();
        let named = self.flags.iter().filter(move |flag| is_asked(flag));
        named.filter_map(|(_, value)| value.as_deref())
    }

    fn value<T>(
        &self,
        long: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.values(long).last() else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .map_err(|why| format!("argument for --{long} is `{value}`: {why}"))
    }
}

fn unrecognized(name: &str) -> String {
    format!("Unrecognized option: '{name}'")
}

/// Returns the text of `--help`.
pub(super) fn help(program: &str) -> String {
    let mut text = format!("Run the tests of `{program}`, each in its own process tree\n\n");
    text += &format!("Usage: lunatic [OPTIONS] {program} [FILTERS...] [FLAGS]\n\n");
    text += "Runs the tests whose names contain one of the filters, or all if there are none.\n\nFlags:\n";
    for flag in FLAGS {
        let long = if flag.long.is_empty() {
            String::new()
        } else {
            format!("--{}", flag.long)
        };
        let name = match flag.short {
            Some(short) if long.is_empty() => format!("-{short}"),
            Some(short) => format!("-{short}, {long}"),
            None => format!("    {long}"),
        };
        let value = match flag.takes {
            Takes::Nothing => String::new(),
            Takes::One(value) | Takes::Any(value) => format!(" {value}"),
        };
        text += &format!("  {:<34}  {}\n", name + &value, flag.help);
    }
    text += "\nEnvironment variables: RUST_TEST_THREADS, RUST_TEST_NOCAPTURE, RUST_TEST_SHUFFLE, RUST_TEST_SHUFFLE_SEED\n";
    text += "Exit status: 0 if all tests passed, 101 if one failed or a flag is wrong\n";
    text
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
             --max-memory 1MiB --leaks fail --bench --exclude-should-panic -Zunstable-options d -- --e",
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
        };
        assert_eq!(all, expected);
    }

    #[test]
    fn without_flags_all_tests_run_and_output_is_captured() {
        let none = flags("");
        assert!(
            none.filters.is_empty()
                && none.captures
                && none.runs_tests
                && !none.lists
                && !none.is_exact
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
    fn errors_are_in_the_words_of_rust() {
        // Rust's test programs print these; `cli/tests/all/testing.rs` compares some with a real
        // one.
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
    fn the_help_has_every_flag() {
        let help = help("app.wasm");
        for flag in FLAGS {
            assert!(help.contains(&format!("--{}", flag.long)), "{}", flag.long);
        }
    }
}
