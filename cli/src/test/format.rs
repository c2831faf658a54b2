//! A test run's output: the same lines that Rust's test programs print, so that tools can parse the
//! output of both.
//!
//! This module only formats text into a `String`. It does not run tests or make decisions.

use super::case::{Finished, Test};
use super::flags::Format;
use super::outcome::Outcome;
use std::fmt::Write;
use std::time::Duration;

/// Formats a run's progress.
pub(super) struct Writer {
    pub(super) format: Format,
    pub(super) is_colored: bool,
    pub(super) reports_time: bool,
    /// Whether to show the output of passed tests.
    pub(super) shows_output: bool,
    /// Whether tests run concurrently. If so, a test's name is printed together with its result,
    /// not before the test runs.
    pub(super) is_parallel: bool,
    /// The number of tests, and the number of characters printed for them so far, in total and on
    /// the current line.
    pub(super) total: usize,
    pub(super) done: usize,
    pub(super) column: usize,
}

/// ANSI colors for results.
const GREEN: u8 = 2;
const RED: u8 = 1;
const YELLOW: u8 = 3;

/// The length of a line in the terse format.
const COLUMNS: usize = 87;

/// The counts and results of a run.
#[derive(Default)]
pub(super) struct Summary<'a> {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) ignored: usize,
    pub(super) filtered_out: usize,
    pub(super) time: Duration,
    /// All finished tests, in the order they finished.
    pub(super) finished: Vec<(&'a Test, Finished)>,
}

impl Writer {
    pub(super) fn run_started(&self, seed: Option<u64>, out: &mut String) {
        if self.format == Format::Json {
            let seed = seed
                .map(|seed| format!(", \"shuffle_seed\": {seed}"))
                .unwrap_or_default();
            let total = self.total;
            *out += &format!(
                "{{ \"type\": \"suite\", \"event\": \"started\", \"test_count\": {total}{seed} }}\n"
            );
            return;
        }
        let seed = seed
            .map(|seed| format!(" (shuffle seed: {seed})"))
            .unwrap_or_default();
        *out += &format!("\nrunning {}{seed}\n", plural(self.total, "test"));
    }

    pub(super) fn test_started(&self, test: &Test, out: &mut String) {
        match self.format {
            Format::Pretty if !self.is_parallel => *out += &title(test),
            Format::Pretty | Format::Terse => {}
            Format::Json => {
                *out += &format!(
                    "{{ \"type\": \"test\", \"event\": \"started\", \"name\": \"{}\" }}\n",
                    escaped(&test.name)
                );
            }
        }
    }

    pub(super) fn is_slow(&self, test: &Test, after: Duration, out: &mut String) {
        *out += &match self.format {
            Format::Pretty | Format::Terse => {
                format!(
                    "test {} has been running for over {} seconds\n",
                    test.name,
                    after.as_secs()
                )
            }
            Format::Json => {
                format!(
                    "{{ \"type\": \"test\", \"event\": \"timeout\", \"name\": \"{}\" }}\n",
                    escaped(&test.name)
                )
            }
        };
    }

    pub(super) fn test_finished(&mut self, test: &Test, finished: &Finished, out: &mut String) {
        match self.format {
            Format::Pretty => self.line(test, finished, out),
            Format::Terse => self.character(test, finished, out),
            Format::Json => self.object(test, finished, out),
        }
    }

    fn line(&self, test: &Test, finished: &Finished, out: &mut String) {
        if self.is_parallel {
            *out += &title(test);
        }
        *out += &match &finished.outcome {
            Outcome::Passed => self.colored("ok", GREEN),
            Outcome::Failed(_) => self.colored("FAILED", RED),
            Outcome::TimedOut(_) => self.colored("FAILED (time limit exceeded)", RED),
            Outcome::Ignored(None) => self.colored("ignored", YELLOW),
            Outcome::Ignored(Some(why)) => self.colored(&format!("ignored, {why}"), YELLOW),
        };
        if let Some(time) = finished.time.filter(|_| self.reports_time) {
            *out += &format!(" <{:.3}s>", time.as_secs_f64());
        }
        *out += "\n";
    }

    fn character(&mut self, test: &Test, finished: &Finished, out: &mut String) {
        if finished.outcome.is_failure() {
            if self.column > 0 {
                self.end_line(out);
            }
            self.done += 1;
            *out += &format!("{} --- {}\n", test.name, self.colored("FAILED", RED));
            return;
        }
        *out += &match finished.outcome {
            Outcome::Passed => self.colored(".", GREEN),
            _ => self.colored("i", YELLOW),
        };
        self.done += 1;
        self.column += 1;
        if self.column == COLUMNS {
            self.end_line(out);
        }
    }

    fn end_line(&mut self, out: &mut String) {
        *out += &format!(" {}/{}\n", self.done, self.total);
        self.column = 0;
    }

    fn object(&self, test: &Test, finished: &Finished, out: &mut String) {
        let event = match &finished.outcome {
            Outcome::Passed => "ok",
            Outcome::Failed(_) | Outcome::TimedOut(_) => "failed",
            Outcome::Ignored(_) => "ignored",
        };
        *out += &format!(
            "{{ \"type\": \"test\", \"name\": \"{}\", \"event\": \"{event}\"",
            escaped(&test.name)
        );
        if let Some(time) = finished.time.filter(|_| self.reports_time) {
            *out += &format!(", \"exec_time\": {}", time.as_secs_f64());
        }
        if !finished.output.is_empty() && (self.shows_output || finished.outcome != Outcome::Passed)
        {
            *out += &format!(", \"stdout\": \"{}\"", escaped(&finished.output));
        }
        match &finished.outcome {
            Outcome::Failed(Some(message)) | Outcome::Ignored(Some(message)) => {
                *out += &format!(", \"message\": \"{}\"", escaped(message));
            }
            Outcome::TimedOut(_) => *out += ", \"reason\": \"time limit exceeded\"",
            Outcome::Passed | Outcome::Failed(None) | Outcome::Ignored(None) => {}
        }
        *out += " }\n";
    }

    pub(super) fn run_finished(&self, summary: &Summary<'_>, out: &mut String) {
        let is_ok = summary.failed == 0;
        let Summary {
            passed,
            failed,
            ignored,
            filtered_out,
            time,
            ..
        } = summary;
        if self.format == Format::Json {
            *out += &format!(
                "{{ \"type\": \"suite\", \"event\": \"{}\", \"passed\": {passed}, \"failed\": {failed}, \
                 \"ignored\": {ignored}, \"measured\": 0, \"filtered_out\": {filtered_out}, \"exec_time\": {} }}\n",
                if is_ok { "ok" } else { "failed" },
                time.as_secs_f64()
            );
            return;
        }
        let select = |is_selected: fn(&Outcome) -> bool| -> Vec<_> {
            let finished = summary.finished.iter();
            finished
                .filter(|(_, test)| is_selected(&test.outcome))
                .collect()
        };
        if self.shows_output {
            let successes = select(|outcome| *outcome == Outcome::Passed);
            section("successes", &successes, out);
        }
        let failures = select(|outcome| matches!(outcome, Outcome::Failed(_)));
        let timed_out = select(|outcome| matches!(outcome, Outcome::TimedOut(_)));
        for (title, tests) in [
            ("failures", failures),
            ("failures (time limit exceeded)", timed_out),
        ] {
            if !tests.is_empty() {
                section(title, &tests, out);
            }
        }
        leaks(summary, out);
        let word = if is_ok {
            self.colored("ok", GREEN)
        } else {
            self.colored("FAILED", RED)
        };
        *out += &format!(
            "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
             {filtered_out} filtered out; finished in {:.2}s\n\n",
            time.as_secs_f64()
        );
    }

    fn colored(&self, word: &str, color: u8) -> String {
        if self.is_colored {
            format!("\x1b[3{color}m{word}\x1b(B\x1b[m")
        } else {
            word.to_string()
        }
    }
}

/// Formats a list of tests.
pub(super) fn list(tests: &[&Test], format: Format) -> String {
    let mut out = String::new();
    if format == Format::Json {
        out += "{ \"type\": \"suite\", \"event\": \"discovery\" }\n";
        for test in tests {
            let why = escaped(test.why_ignored.as_deref().unwrap_or_default());
            let _ = writeln!(
                out,
                "{{ \"type\": \"test\", \"event\": \"discovered\", \"name\": \"{}\", \"ignore\": {}, \
                 \"ignore_message\": \"{why}\" }}",
                escaped(&test.name),
                test.is_ignored
            );
        }
        let (total, ignored) = (
            tests.len(),
            tests.iter().filter(|test| test.is_ignored).count(),
        );
        let _ = writeln!(
            out,
            "{{ \"type\": \"suite\", \"event\": \"completed\", \"tests\": {total}, \"benchmarks\": 0, \
             \"total\": {total}, \"ignored\": {ignored} }}"
        );
        return out;
    }
    for test in tests {
        let _ = writeln!(out, "{}: test", test.name);
    }
    if format == Format::Pretty {
        if !tests.is_empty() {
            out += "\n";
        }
        let _ = writeln!(out, "{}, 0 benchmarks", plural(tests.len(), "test"));
    }
    out
}

fn title(test: &Test) -> String {
    let mode = if test.panic.is_some() {
        " - should panic"
    } else {
        ""
    };
    format!("test {}{mode} ... ", test.name)
}

/// Formats the output of the selected tests, followed by their names.
fn section(title: &str, selected: &[&(&Test, Finished)], out: &mut String) {
    *out += &format!("\n{title}:\n");
    let mut outputs = String::new();
    for (test, finished) in selected {
        let note = match &finished.outcome {
            Outcome::Failed(Some(note)) => format!("note: {note}"),
            _ => String::new(),
        };
        if !finished.output.is_empty() || !note.is_empty() {
            outputs += &format!(
                "---- {} stdout ----\n{}{note}\n",
                test.name, finished.output
            );
        }
    }
    if !outputs.is_empty() {
        *out += "\n";
        *out += &outputs;
    }
    *out += &format!("\n{title}:\n");
    let mut names: Vec<&str> = selected.iter().map(|(test, _)| &*test.name).collect();
    names.sort_unstable();
    for name in names {
        *out += &format!("    {name}\n");
    }
}

/// Formats the list of processes, sockets and timers left behind by tests.
fn leaks(summary: &Summary<'_>, out: &mut String) {
    let leaks = summary
        .finished
        .iter()
        .filter_map(|(test, finished)| Some((test, finished.leaks.as_ref()?)));
    let mut lines: Vec<String> = leaks
        .map(|(test, leaks)| format!("    {}: {leaks}\n", test.name))
        .collect();
    if !lines.is_empty() {
        lines.sort_unstable();
        *out += &format!("\nleft behind:\n{}", lines.concat());
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

/// Escapes text for a JSON string.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped += "\\\"",
            '\\' => escaped += "\\\\",
            '\n' => escaped += "\\n",
            '\r' => escaped += "\\r",
            '\t' => escaped += "\\t",
            '\x08' => escaped += "\\b",
            '\x0c' => escaped += "\\f",
            c if c.is_ascii_control() => escaped += &format!("\\u{:04x}", c as u32),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_json() {
        assert_eq!(
            escaped("a\"b\\c\n\t\u{1}\u{7f}ä"),
            "a\\\"b\\\\c\\n\\t\\u0001\\u007fä"
        );
    }

    #[test]
    fn a_terse_line_ends_when_it_is_full_and_before_a_failure() {
        let mut writer = Writer {
            format: Format::Terse,
            is_colored: false,
            reports_time: false,
            shows_output: false,
            is_parallel: true,
            total: 100,
            done: 0,
            column: 0,
        };
        let mut out = String::new();
        let passed = Finished::new(Outcome::Passed);
        for _ in 0..89 {
            writer.test_finished(&Test::default(), &passed, &mut out);
        }
        writer.test_finished(
            &Test::default(),
            &Finished::new(Outcome::Ignored(None)),
            &mut out,
        );
        writer.test_finished(
            &Test {
                name: "t".into(),
                ..Test::default()
            },
            &Finished::new(Outcome::Failed(None)),
            &mut out,
        );
        assert_eq!(
            out,
            format!("{} 87/100\n..i 90/100\nt --- FAILED\n", ".".repeat(87))
        );
    }
}
