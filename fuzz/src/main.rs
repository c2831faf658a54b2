//! Runs a target under libFuzzer. The environment variable `LUNATIC_FUZZ_TARGET` names the target,
//! because the arguments belong to libFuzzer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lunatic_fuzz::{TARGETS, Target, target};
use std::sync::LazyLock;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("LUNATIC_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        panic!(
            "no target is named `{name}`; the targets are: {}",
            names.join(" ")
        )
    })
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));
