//! Reports how processes failed.

use lunatic_vm::{
    ENTRY_PREFIX, Exit, Frame, Limit, Pid, SourceLocation, Trap, printable, printable_lines,
};
use std::borrow::Cow;

/// A frame and the source locations of its instruction, starting with the innermost inlined call.
#[derive(Clone)]
struct Located {
    frame: Frame,
    locations: Vec<SourceLocation>,
}

/// Returns the report of how the main process ended, which is empty if the process ended normally
/// or chose its exit status. If it died because another process failed, and that failure has
/// already been reported, the other process's frames are not repeated.
pub(super) fn main(process: &str, module: &str, exit: &Exit, is_reported: bool) -> String {
    if let Exit::Normal | Exit::Status(_) = exit {
        return String::new();
    }
    let (process, module) = (printable(process), printable(module));
    let who = format!("error: the main process `{process}` of `{module}`");
    if is_reported {
        return format!("{who} {}\n", printable(&exit.to_string()));
    }
    with_hints(&who, exit)
}

/// Returns the report of how a process other than the main process ended.
pub(super) fn other(pid: Pid, process: &str, module: &str, exit: &Exit) -> String {
    let frames: Vec<Located> = exit.trap().map(located).unwrap_or_default();
    let process = match is_entry(process) {
        true => Cow::from(spawned_function(&frames)),
        false => process.into(),
    };
    let (process, module) = (printable(&process), printable(module));
    let who = format!("error: process {pid} `{process}` of `{module}`");
    with_hints(&who, exit)
}

fn with_hints(who: &str, exit: &Exit) -> String {
    let frames: Vec<Located> = exit.trap().map(located).unwrap_or_default();
    let mut text = format!("{who} {}\n", printable(&exit.to_string()));
    write_frames(&mut text, &frames);
    for hint in hints(exit, &frames) {
        text += &format!("hint: {hint}\n");
    }
    text
}

/// The prefix of the published guest library's entry functions, which call functions in the same
/// way as ours.
const PUBLISHED_ENTRY_PREFIX: &str = "_lunatic_spawn_by_index";

fn is_entry(function: &str) -> bool {
    function.starts_with(ENTRY_PREFIX) || function.starts_with(PUBLISHED_ENTRY_PREFIX)
}

/// Returns the name of the function that a process was spawned with through a guest library.
///
/// The library calls that function by its index in a table, so the function always has its own
/// frame, even if everything else was inlined. A closure has an index only through a wrapper in
/// Rust's core library, and is usually inlined into that wrapper. In that case, only debug
/// information reveals the closure's name, because the functions that the frame calls are not the
/// spawned one.
fn spawned_function(frames: &[Located]) -> String {
    let entry = frames
        .iter()
        .rposition(|frame| is_entry(&frame.frame.function));
    let mut inwards = frames[..entry.unwrap_or(0)]
        .iter()
        .rev()
        .skip_while(|frame| is_of_entries(&frame.frame.function))
        .peekable();
    let Some(first) = inwards.peek() else {
        return "a spawned function".to_string();
    };
    let first = &*first.frame.function;
    let is_wrapper = |name: &str| caller_of(name).is_some() || is_of_the_library(name);
    if !is_wrapper(first) {
        return first.to_string();
    }
    match caller_of(first) {
        // Anything else that this frame calls is called by the closure.
        Some(closure) => inwards
            .find_map(|frame| closure_in(frame, is_wrapper))
            .flatten()
            .or_else(|| closure.map(str::to_string))
            .unwrap_or_else(|| "a closure".to_string()),
        // The function that the library calls may have been inlined into the library's frame. The
        // library's name is better than the name of a function in Rust's own libraries.
        None => inwards
            .flat_map(names)
            .find(|name| !is_wrapper(name))
            .filter(|name| !is_of_the_toolchain_by_name(name))
            .unwrap_or(first)
            .to_string(),
    }
}

/// Returns `None` if a frame contains only wrappers. Otherwise, returns the name of its outermost
/// function that is not a wrapper, if that is a closure.
fn closure_in(located: &Located, is_wrapper: impl Fn(&str) -> bool) -> Option<Option<String>> {
    let own = names(located).find(|name| !is_wrapper(name))?;
    if !own.contains("{{closure}}") && !own.contains("{closure#") {
        return Some(None);
    }
    if own.contains("::") {
        return Some(Some(own.to_string()));
    }
    // The names in line tables have no paths.
    let named = |location: &&SourceLocation| location.function.as_deref() == Some(own);
    let place = located.locations.iter().rev().find(named).map(|location| {
        let file = location.file.rsplit(['/', '\\']).next();
        let line = location.line.map(|line| format!(":{line}"));
        format!(
            " at {}{}",
            file.unwrap_or_default(),
            line.unwrap_or_default()
        )
    });
    Some(Some(format!("a closure{}", place.unwrap_or_default())))
}

/// Returns the names of a frame's functions, from the outermost one to the innermost inlined one.
fn names(located: &Located) -> impl Iterator<Item = &str> {
    let inlined = located
        .locations
        .split_last()
        .map_or(&[][..], |(_, inlined)| inlined);
    let inlined = inlined
        .iter()
        .rev()
        .filter_map(|location| location.function.as_deref());
    std::iter::once(&*located.frame.function).chain(inlined)
}

/// Returns whether a guest library uses this function to start processes.
fn is_of_entries(function: &str) -> bool {
    is_entry(function)
        || function.contains("lunatic::entry::")
        || is_of_the_library(function) && function.contains("::type_helper_wrapper")
}

fn is_of_the_library(function: &str) -> bool {
    function.trim_start_matches('<').starts_with("lunatic::")
}

/// If this is the core library function that calls a closure, returns the closure's name, or `None`
/// if the function's own name does not contain it.
fn caller_of(function: &str) -> Option<Option<&str>> {
    if function.starts_with("core::ops::function::") {
        return Some(None);
    }
    let (closure, _) = function
        .strip_prefix('<')?
        .split_once(" as core::ops::function::")?;
    Some(Some(closure))
}

/// Returns whether a name belongs to a function in Rust's own libraries or, if the name has no
/// path, to a C function.
fn is_of_the_toolchain_by_name(function: &str) -> bool {
    let path = function.trim_start_matches(['<', '&', '[']);
    !path.contains("::")
        || [
            "std::",
            "core::",
            "alloc::",
            "hashbrown::",
            "__rustc::",
            "compiler_builtins::",
        ]
        .iter()
        .any(|library| path.starts_with(library))
}

/// Describes how a process ended, including a trap's frames. Escapes control characters.
pub(crate) fn end(who: &str, exit: &Exit) -> String {
    let mut text = format!("{who} {exit}\n");
    write_frames(&mut text, &exit.trap().map(located).unwrap_or_default());
    printable_lines(&text).into_owned()
}

/// Writes a trap's frames, innermost first.
fn write_frames(text: &mut String, frames: &[Located]) {
    let is_full = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value == "full");
    let shown = if is_full { frames } else { own(frames) };
    for (number, frame) in shown.iter().enumerate() {
        write_frame(text, number, frame);
    }
    if shown.len() < frames.len() {
        *text += "      (Rust runtime functions are left out; `RUST_BACKTRACE=full` shows them)\n";
    }
}

/// Looks up the source locations of a trap's frames.
fn located(trap: &Trap) -> Vec<Located> {
    // The guest chose the names, so control characters in them are escaped.
    let safe = |text: &str| printable(text).into_owned();
    let located = |mut frame: Frame| {
        let mut locations = trap.locations(&frame);
        for location in &mut locations {
            location.function = location.function.as_deref().map(safe);
            location.file = safe(&location.file);
        }
        frame.function = safe(&frame.function);
        Located { frame, locations }
    };
    trap.frames().into_iter().map(located).collect()
}

/// Returns the frames that do not belong to Rust's runtime. The runtime has markers where it
/// handles a panic and where it calls `main`. Programs in other languages have neither marker.
fn own(frames: &[Located]) -> &[Located] {
    let find = |mark: &str| {
        frames
            .iter()
            .position(|located| located.frame.function.contains(mark))
    };
    let start = find("__rust_end_short_backtrace").map_or(0, |last| last + 1);
    // A test is called by the guest library, not the runtime.
    let end = find("__rust_begin_short_backtrace").or_else(|| find("lunatic::test::__test"));
    let end = end.filter(|&end| end > start).unwrap_or(frames.len());
    &frames[start..end]
}

/// Writes a frame with its source location and, if its code was inlined, its callers' locations.
fn write_frame(text: &mut String, number: usize, located: &Located) {
    let Located { frame, locations } = located;
    let Some((outermost, inlined)) = locations.split_last() else {
        let offset = frame
            .offset
            .map(|offset| format!(" (at 0x{offset:x})"))
            .unwrap_or_default();
        *text += &format!("{number:>4}: {}{offset}\n", frame.function);
        return;
    };
    let mut label = format!("{number:>4}: ");
    for location in inlined {
        let function = location
            .function
            .as_deref()
            .unwrap_or("an unnamed function");
        *text += &format!(
            "{label}{function}\n        at {}\n",
            file_and_line(location)
        );
        label = "      inlined into ".to_string();
    }
    *text += &format!(
        "{label}{}\n        at {}\n",
        frame.function,
        file_and_line(outermost)
    );
}

fn file_and_line(location: &SourceLocation) -> String {
    match location.line {
        Some(line) => format!("{}:{line}", location.file),
        None => location.file.clone(),
    }
}

/// Returns whether a location is in a library that the toolchain ships precompiled. Such libraries
/// come with debug information even if the program was built without any.
fn is_of_the_toolchain(location: &SourceLocation) -> bool {
    location.file.starts_with("/rustc/") || location.file.starts_with("wasisdk:")
}

/// Returns a hint that names the flag for a limit, if there is one.
pub(super) fn flag_for(limit: Limit) -> Option<&'static str> {
    Some(match limit {
        Limit::Memory => "`--max-memory` sets the limit",
        Limit::Compute => "`--max-compute` sets the limit",
        Limit::Processes => "`--max-processes` sets the limit",
        Limit::HostMemory => "`--max-host-memory` sets the limit",
        Limit::TotalHostMemory => "`--max-total-host-memory` sets the limit",
        Limit::Descriptors => {
            "`--max-descriptors` sets the limit for the program, and `ulimit -n` the limit for the machine"
        }
        _ => return None,
    })
}

fn hints(exit: &Exit, frames: &[Located]) -> Vec<&'static str> {
    let mut hints = Vec::new();
    if !frames.is_empty()
        && frames
            .iter()
            .flat_map(|located| &located.locations)
            .all(is_of_the_toolchain)
    {
        hints.push(
            "for files and lines, build with debug information: `debug = \"line-tables-only\"` in the profile of Cargo.toml",
        );
    }
    if frames
        .iter()
        .any(|located| located.frame.function.starts_with("test::test_main"))
    {
        hints.push(
            "in wasm, a Rust test program ends at the first test that fails; `--nocapture` shows why the test failed, and `lunatic test` runs each test separately",
        );
    }
    match exit {
        Exit::Limit(reached) => hints.extend(flag_for(reached.limit)),
        Exit::LinkDied { .. } | Exit::Killed => {
            hints.push("`RUST_LOG=lunatic=debug` logs how every process ends")
        }
        Exit::Fault(_) => {
            hints.push("this is a bug in lunatic, not in the program; please report it")
        }
        _ => {}
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, locations: &[(&str, &str, u32)]) -> Located {
        let location = |&(function, file, line): &(&str, &str, u32)| SourceLocation {
            function: Some(function.to_string()),
            file: file.to_string(),
            line: Some(line),
        };
        let frame = Frame {
            function: function.to_string(),
            offset: Some(0x1a),
        };
        Located {
            frame,
            locations: locations.iter().map(location).collect(),
        }
    }

    #[test]
    fn frames_of_the_rust_runtime_are_left_out() {
        let names = [
            "abort",
            "std::__rust_end_short_backtrace",
            "f",
            "main",
            "std::__rust_begin_short_backtrace",
            "_start",
        ];
        let frames = names.map(|name| frame(name, &[]));
        let check = |frames: &[Located], expected: &[&str]| {
            let left: Vec<&str> = own(frames)
                .iter()
                .map(|located| &*located.frame.function)
                .collect();
            assert_eq!(left, expected);
        };
        check(&frames, &["f", "main"]);
        // The next two calls check a trap that is not a panic, and a program that is not written in
        // Rust.
        check(&frames[2..], &["f", "main"]);
        check(&frames[2..4], &["f", "main"]);
        check(&frames[..1], &["abort"]);
        check(&[], &[]);
    }

    #[test]
    fn a_process_has_the_name_of_the_function_that_it_was_spawned_with() {
        let check = |expected: &str, frames: &[Located]| {
            assert_eq!(spawned_function(frames), expected);
        };
        let plain = |names: &[&str]| {
            names
                .iter()
                .map(|name| frame(name, &[]))
                .collect::<Vec<_>>()
        };
        const ENTRY: &str = "_lunatic_spawn_entry_1.0.0";
        const CALLER: &str = "core::ops::function::FnOnce::call_once";
        check("a spawned function", &[]);
        check(
            "app::child",
            &plain(&[
                "core::panicking::panic",
                "app::child",
                "lunatic::entry::start",
                ENTRY,
            ]),
        );
        check(
            "app::child",
            &plain(&["app::deep", "app::child", ENTRY, "app::other"]),
        );
        // A closure without its own frame must not be confused with what it calls.
        check("a closure", &plain(&["app::deep", CALLER, ENTRY]));
        check(
            "a closure",
            &plain(&[
                "std::io::stdio::_print",
                CALLER,
                "lunatic::entry::start",
                ENTRY,
            ]),
        );
        check(
            "a closure",
            &plain(&["<std::io::Stdout as std::io::Write>::flush", CALLER, ENTRY]),
        );
        check("a closure", &plain(&["abort", CALLER, ENTRY]));
        check("a closure", &plain(&[CALLER, ENTRY]));
        check(
            "app::main::{{closure}}",
            &plain(&[
                "std::io::stdio::_print",
                "app::main::{{closure}}",
                CALLER,
                ENTRY,
            ]),
        );
        let caller = "<app::main::{closure#0} as core::ops::function::FnOnce<((),)>>::call_once";
        check(
            "app::main::{closure#0}",
            &plain(&["std::io::stdio::_print", caller, ENTRY]),
        );
        // Line tables name a closure without its path.
        let lines = [
            ("{closure#0}", "/home/me/src/main.rs", 26),
            (CALLER, "f.rs", 3),
        ];
        check(
            "a closure at main.rs:26",
            &[
                frame("std::io::stdio::_print", &[]),
                frame(CALLER, &lines),
                frame(ENTRY, &[]),
            ],
        );
        let inlined = [
            ("{closure#1}", "a.rs", 1),
            ("app::main::{closure#0}", "a.rs", 2),
            (CALLER, "f.rs", 3),
        ];
        check(
            "app::main::{closure#0}",
            &[
                frame("std::io::stdio::_print", &[]),
                frame(CALLER, &inlined),
                frame(ENTRY, &[]),
            ],
        );
        // Servers, tasks and supervisors start in the library.
        check(
            "app::Counter::add",
            &plain(&["app::Counter::add", "lunatic::server::run::serve", ENTRY]),
        );
        check(
            "lunatic::server::run::serve",
            &plain(&[
                "core::panicking::panic",
                "lunatic::server::run::serve",
                ENTRY,
            ]),
        );
        check(
            "lunatic::server::run::serve::<app::Counter>",
            &plain(&[
                "core::panicking::panic",
                "lunatic::server::run::serve::<app::Counter>",
                ENTRY,
            ]),
        );
        // The published library.
        check(
            "app::child",
            &plain(&[
                "app::child",
                "lunatic::mailbox::type_helper_wrapper",
                "_lunatic_spawn_by_index_0.14.1",
            ]),
        );
    }

    #[test]
    fn an_inlined_function_is_above_its_caller() {
        let mut text = String::new();
        write_frame(
            &mut text,
            3,
            &frame("app::outer", &[("inner", "a.rs", 1), ("outer", "b.rs", 2)]),
        );
        write_frame(&mut text, 4, &frame("plain", &[]));
        let expected = "   3: inner\n        at a.rs:1\n      inlined into app::outer\n        at b.rs:2\n   4: plain (at 0x1a)\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_hint_appears_unless_the_program_itself_has_locations() {
        let hinted = |frames: &[Located]| !hints(&Exit::Normal, frames).is_empty();
        let library = frame(
            "panic",
            &[(
                "panic",
                "/rustc/59807616e1/library/core/src/panicking.rs",
                80,
            )],
        );
        assert!(hinted(&[library.clone(), frame("f", &[])]));
        assert!(!hinted(&[library, frame("f", &[("f", "src/main.rs", 3)])]));
        assert!(!hinted(&[]));
    }
}
