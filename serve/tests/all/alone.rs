//! Runs tests that measure a whole operating system process in a process of their own.

use std::process::Command;

/// Set in a process that runs a single test.
const ALONE: &str = "LUNATIC_TEST_ALONE";

/// Reruns a test in its own operating system process. Returns true in that process.
pub(crate) fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let own = std::env::current_exe().expect("the path of the test is known");
    let output = Command::new(own)
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("the test binary can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "{test} alone: {}\n{printed}",
        output.status
    );
    false
}

/// Returns how many bytes of memory this operating system process occupies.
pub(crate) fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has this file");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(0, |pages: u64| pages * 4096)
}
