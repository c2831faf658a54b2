//! Fuzz targets: for every place where untrusted bytes enter the system, a function that takes
//! bytes and panics if a promise is broken.
//!
//! `./x fuzz TARGET` makes libFuzzer search for bytes that break a promise, guided by the coverage
//! of our own crates. Inputs worth keeping are in `corpus/TARGET`. The ordinary test `corpora` runs
//! all of them, so a bug that has been found cannot come back unnoticed.

#![forbid(unsafe_code)]

mod targets;

/// A function under test. It panics if its input breaks a promise.
pub type Target = fn(&[u8]);

/// All targets, with the names that select them and their corpora.
pub const TARGETS: [(&str, Target); 7] = [
    ("bridge_frames", targets::bridge_frames::run),
    ("debug_info", targets::debug_info::run),
    ("host_interface", targets::host_interface::run),
    ("http_framing", targets::http_framing::run),
    ("manifest", targets::manifest::run),
    ("module", targets::module::run),
    ("project", targets::project::run),
];

/// Returns the target with the given name.
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target)
}
