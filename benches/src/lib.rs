//! Code shared by the benches: guests, a machine to run them, peers to compare them with, and
//! result rows.
//!
//! A bench alternates between our code and its peers on the same cores, because figures measured
//! hours apart cannot be compared. It prints one [`Row`] per figure and fails only if it cannot
//! take a measurement; if a bar is not met, the row says so. `run.rs` runs all benches and collects
//! their rows in a table.

#[cfg(not(target_family = "wasm"))]
pub mod ab;
#[cfg(not(target_family = "wasm"))]
pub mod charts;
#[cfg(not(target_family = "wasm"))]
pub mod client;
#[cfg(not(target_family = "wasm"))]
mod crowd;
#[cfg(not(target_family = "wasm"))]
mod depth;
#[cfg(not(target_family = "wasm"))]
mod figures;
#[cfg(not(target_family = "wasm"))]
pub mod history;
#[cfg(not(target_family = "wasm"))]
mod machine;
#[cfg(not(target_family = "wasm"))]
pub mod meters;
#[cfg(not(target_family = "wasm"))]
mod peers;
#[cfg(not(target_family = "wasm"))]
mod programs;
#[cfg(not(target_family = "wasm"))]
pub mod records;
#[cfg(not(target_family = "wasm"))]
mod rows;
#[cfg(not(target_family = "wasm"))]
mod setup;
#[cfg(not(target_family = "wasm"))]
pub mod tables;

#[cfg(not(target_family = "wasm"))]
pub use {
    crowd::{Crowd, HEAP, RAISE},
    depth::Depth,
    figures::{Figures, side_by_side},
    machine::{Machine, PROFILES, Profile},
    peers::{Peer, Server},
    programs::{benches, command, guest, lunatic, target, tests},
    records::Chart,
    rows::{Bar, Row, open, promise},
    setup::Setup,
};

/// Reports a number to the bench. Guests call this.
#[cfg(target_family = "wasm")]
pub fn report(number: f64) {
    #[link(wasm_import_module = "bench")]
    unsafe extern "C" {
        #[link_name = "report"]
        safe fn report_to_the_bench(number: f64);
    }
    report_to_the_bench(number);
}

/// Reports a number to the bench. Called by guests, which run only in a bench's machine.
#[cfg(not(target_family = "wasm"))]
pub fn report(number: f64) {
    panic!("cannot report {number}: guests run only in a bench's machine");
}
