//! The places at which bytes of strangers enter, each as a function from bytes to nothing that
//! panics when a promise is broken.
//!
//! `./x fuzz TARGET` lets libFuzzer search for such bytes, guided by coverage of our own crates.
//! What it finds worth keeping lies in `corpus/TARGET`, and the ordinary test `corpora` runs all of
//! it, so a fault that was found once stays found.

#![forbid(unsafe_code)]

mod targets;

/// A function under test. It panics if its input breaks a promise.
pub type Target = fn(&[u8]);

/// All targets, by the name that selects them and their corpus.
pub const TARGETS: [(&str, Target); 7] = [
    ("bridge_frames", targets::bridge_frames::run),
    ("debug_info", targets::debug_info::run),
    ("host_interface", targets::host_interface::run),
    ("http_framing", targets::http_framing::run),
    ("manifest", targets::manifest::run),
    ("module", targets::module::run),
    ("project", targets::project::run),
];

/// Returns the target of a name.
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target)
}
