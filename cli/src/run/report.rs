//! Reports how processes failed.

use lunatic_vm::{
    ENTRY_PREFIX, Exit, Frame, Limit, Pid, SourceLocation, Trap, printable, printable_lines,
};

/// A frame and the source locations of its instruction, starting with the innermost inlined call.
#[derive(Clone)]
struct Located {
    frame: Frame,
    locations: Vec<SourceLocation>,
}

/// Returns the report of how the main process ended, which is empty if the process ended normally
/// or chose its exit status. If it died because of another process whose failure has already been
/// reported, that process's frames are not repeated.
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
    let process = match process.starts_with(ENTRY_PREFIX) {
        true => first_function(&frames).unwrap_or("a closure"),
        false => process,
    };
    let (process, module) = (printable(process), printable(module));
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

/// Returns the function that a process was spawned with through the guest library, skipping the
/// library's own functions that lead to it.
fn first_function(frames: &[Located]) -> Option<&str> {
    let is_of_the_library = |frame: &Located| {
        let name = &frame.frame.function;
        name.contains("lunatic::entry::") || name.starts_with("core::ops::function::")
    };
    let end = frames
        .iter()
        .rposition(|frame| frame.frame.function.starts_with(ENTRY_PREFIX))
        .unwrap_or(frames.len());
    let first = frames[..end]
        .iter()
        .rfind(|frame| !is_of_the_library(frame));
    first.map(|frame| &*frame.frame.function)
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

/// Returns the frames without those of Rust's runtime. The runtime marks where it handles a panic
/// and where it calls `main`. Programs in other languages have neither marker.
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

/// Returns whether a location is in a library that the toolchain ships precompiled, with debug
/// information. Such a location says nothing about how the program was built.
fn is_of_the_toolchain(location: &SourceLocation) -> bool {
    location.file.starts_with("/rustc/") || location.file.starts_with("wasisdk:")
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
        Exit::Limit(reached) => match reached.limit {
            Limit::Memory => hints.push("`--max-memory` sets the limit"),
            Limit::Compute => hints.push("`--max-compute` sets the limit"),
            Limit::Processes => hints.push("`--max-processes` sets the limit"),
            Limit::HostMemory => hints.push("`--max-host-memory` sets the limit"),
            Limit::TotalHostMemory => hints.push("`--max-total-host-memory` sets the limit"),
            Limit::Descriptors => hints.push(
                "`--max-descriptors` sets the limit for the program, and `ulimit -n` the limit for the machine",
            ),
            _ => {}
        },
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
