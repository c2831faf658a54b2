//! A million processes can be alive at once, if the kernel allows enough mappings and there is
//! enough memory.

use lunatic_benches::{
    Bar, Chart, Crowd, Figures, PROFILES, RAISE, Row, guest, meters, open, promise,
};
use std::fs;

/// The promised number of processes, and the maximum number of bytes per process, with which they
/// fit in 24 GiB.
const GOAL: usize = 1_000_000;
const BYTES: usize = 22 << 10;

/// The limit on kernel mappings that the promise assumes. It is the default on newer systems.
const MAPPINGS: u64 = 1_048_576;

fn main() {
    let depth = promise(
        "processes alive at once with vm.max_map_count raised to 1,048,576, each having handled a message and used its heap",
    );
    let goal = depth.choose(GOAL, 100);
    if let Err(reason) = room(goal) {
        return open("alive", "≥ 1,000,000 processes", &reason);
    }
    let bytes = Chart::new(
        "million-bytes",
        "total memory of a waiting process",
        "processes alive",
        "bytes each",
    );
    let times = Chart::new(
        "million-spawn",
        "spawning one more process",
        "processes alive",
        "µs each",
    );
    let crowd = guest("crowd");
    for profile in PROFILES {
        let mut machine = Crowd::new(profile, &crowd);
        let mut last = None;
        for goal in [goal / 1_000, goal / 100, goal / 10, goal / 3, goal] {
            let footprint = machine.grow(goal.max(1));
            bytes.point(profile.name, footprint.alive as f64, footprint.bytes);
            times.point(profile.name, footprint.alive as f64, footprint.microseconds);
            let ceiling = footprint.ceiling.clone();
            last = Some(footprint);
            if let Some(ceiling) = ceiling {
                for chart in [&bytes, &times] {
                    chart.note(&format!("{} stopped early: {ceiling}", profile.name));
                }
                break;
            }
        }
        let Some(last) = last else { continue };
        let alive = Figures::from_iter([last.alive as f64]);
        Row::new(&profile.of("alive"), "processes", &alive)
            .print(profile.bar(Bar::AtLeast(GOAL as f64)));
        let each = Figures::from_iter([last.bytes]);
        Row::new(
            &profile.of("total memory of a waiting process"),
            "bytes",
            &each,
        )
        .print(profile.bar(Bar::AtMost(BYTES as f64)));
    }
}

/// Checks whether `goal` processes fit, and raises the kernel's limit if requested.
///
/// # Errors
///
/// Returns what is missing if they do not fit.
fn room(goal: usize) -> Result<(), String> {
    let needed = (goal * BYTES) as u64;
    let available = meters::available_memory();
    if available < needed {
        return Err(format!(
            "this needs {} MiB of memory, but only {} MiB is available",
            needed >> 20,
            available >> 20
        ));
    }
    if goal < GOAL || meters::max_mappings() >= MAPPINGS {
        return Ok(());
    }
    if !std::env::args().any(|argument| argument == RAISE) {
        let present = meters::max_mappings();
        return Err(format!(
            "vm.max_map_count is {present}; `./x bench {RAISE} million`, as root, sets it to {MAPPINGS}"
        ));
    }
    let raised = fs::write("/proc/sys/vm/max_map_count", MAPPINGS.to_string());
    raised.map_err(|error| format!("vm.max_map_count cannot be set to {MAPPINGS}: {error}"))?;
    println!("  vm.max_map_count is now {MAPPINGS}, until it is set again or the system restarts");
    Ok(())
}
