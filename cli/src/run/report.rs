//! What is said about a main process that failed: one report, whatever the reason.

use lunatic_vm::{Exit, Frame, Limit, Process};
use std::fmt::Write;

/// Returns the report of a main process's end; `None` where there is nothing to report. A program that chose a status has
/// said itself what there was to say.
pub(super) fn report(process: &Process, module: &str, exit: &Exit) -> Option<String> {
    if let Exit::Normal | Exit::Status(_) = exit {
        return None;
    }
    let mut text = format!("error: the main process `{}` of `{module}` {exit}\n", process.name());
    let frames = exit.trap().map_or(&[][..], |trap| &trap.frames);
    for (number, frame) in frames.iter().enumerate() {
        write_frame(&mut text, number, frame);
    }
    for hint in hints(exit, frames) {
        text += &format!("hint: {hint}\n");
    }
    Some(text)
}

fn write_frame(text: &mut String, number: usize, frame: &Frame) {
    let write = |text: &mut String, line: std::fmt::Arguments<'_>| {
        text.write_fmt(line).expect("a string takes whatever is written");
    };
    match frame.offset {
        Some(offset) if frame.places.is_empty() => {
            write(text, format_args!("{number:>4}: {} (at 0x{offset:x})\n", frame.function));
        }
        _ => write(text, format_args!("{number:>4}: {}\n", frame.function)),
    }
    for (depth, place) in frame.places.iter().enumerate() {
        let line = place.line.map(|line| format!(":{line}")).unwrap_or_default();
        // The first place is the innermost; what it was inlined into follows, each with its own function.
        match &place.function {
            Some(function) if depth > 0 => write(text, format_args!("        {function} at {}{line}\n", place.file)),
            _ => write(text, format_args!("        at {}{line}\n", place.file)),
        }
    }
}

fn hints(exit: &Exit, frames: &[Frame]) -> Vec<&'static str> {
    let mut hints = Vec::new();
    if !frames.is_empty() && frames.iter().all(|frame| frame.places.is_empty()) {
        hints.push(
            "for files and lines, build with debug information: `debug = \"line-tables-only\"` in the profile of Cargo.toml",
        );
    }
    match exit {
        Exit::Limit(reached) => match reached.limit {
            Limit::Memory => hints.push("`--max-memory` sets the limit"),
            Limit::Compute => hints.push("`--max-compute` sets the limit"),
            Limit::Processes => hints.push("`--max-processes` sets the limit"),
            _ => {}
        },
        Exit::LinkDied { .. } | Exit::Killed => hints.push("`RUST_LOG=lunatic=debug` shows the end of every process"),
        Exit::Fault(_) => hints.push("this is a defect of lunatic, not of the program; please report it"),
        _ => {}
    }
    hints
}
