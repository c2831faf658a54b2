//! Reads the kernel's figures about this process and this computer.

use std::fs::{self, DirEntry};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Returns the number of resident bytes, and the number of additional bytes that the kernel uses
/// for page tables.
///
/// A page that is mapped many times counts only once, whereas the resident set size would count a
/// module's shared image once for each of its processes.
pub fn memory() -> (u64, u64) {
    let resident = fs::read_to_string("/proc/self/smaps_rollup")
        .expect("the kernel is new enough for smaps_rollup");
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    (
        number(&resident, "Pss:") << 10,
        number(&status, "VmPTE:") << 10,
    )
}

/// Returns how many mappings this process has. The kernel's limit is `vm.max_map_count`.
pub fn mappings() -> u64 {
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    maps.lines().count() as u64
}

/// Returns the number of open file descriptors.
pub fn descriptors() -> u64 {
    let open = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    // One of the descriptors belongs to the directory that is being read.
    open.count().saturating_sub(1) as u64
}

/// Returns the number of threads.
pub fn threads() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    number(&status, "Threads:")
}

/// Returns how many bytes the files in a directory occupy on disk, including subdirectories.
pub fn disk(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        // The file was deleted in the meantime.
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Returns the kernel's limit on mappings.
pub fn max_mappings() -> u64 {
    let text = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Returns the computer's total memory, in bytes.
pub fn total_memory() -> u64 {
    number(
        &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
        "MemTotal:",
    ) << 10
}

/// Returns the memory available without swapping, in bytes.
pub fn available_memory() -> u64 {
    number(
        &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
        "MemAvailable:",
    ) << 10
}

#[expect(clippy::disallowed_methods, reason = "measures for one second")]
/// Returns the fraction of CPU time that is in use across all cores. Blocks for one second to
/// measure it.
pub fn busy() -> f64 {
    let (idle_before, before) = ticks();
    std::thread::sleep(Duration::from_secs(1));
    let (idle, all) = ticks();
    1.0 - (idle - idle_before) as f64 / (all - before).max(1) as f64
}

/// Returns the number of kernel ticks during which the cores were idle, and the total number of
/// ticks.
fn ticks() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").expect("/proc is mounted");
    // The first line is the total for all cores: user, nice, system, idle, iowait, and so on.
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    (ticks.iter().skip(3).take(2).sum(), ticks.iter().sum())
}

/// Returns the total CPU time of all threads, and how often they voluntarily went to sleep.
pub fn activity() -> (Duration, u64) {
    let threads = fs::read_dir("/proc/self/task").expect("/proc is mounted");
    let mut total = (Duration::ZERO, 0);
    for thread in threads.flatten() {
        // A thread may end while it is being read.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else {
            continue;
        };
        let schedule = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let nanoseconds = schedule
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0);
        total.0 += Duration::from_nanos(nanoseconds);
        total.1 += number(&status, "voluntary_ctxt_switches:");
    }
    total
}

/// Returns the number on the line of a `/proc` file that starts with the given name.
fn number(status: &str, name: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}
