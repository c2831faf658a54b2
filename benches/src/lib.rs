//! What the benches share: guests, a machine to run them on, what runs beside it, and rows.
//!
//! A bench runs what is ours and its peers in turn, in the same minutes on the same cores, since figures of different hours
//! do not compare. It prints one [`Row`] a figure and fails only where it could not measure: a bar that is not met is a
//! row that says so. `run.rs` runs them all and makes one table of their rows.

#[cfg(not(target_family = "wasm"))]
pub mod client;
#[cfg(not(target_family = "wasm"))]
mod crowd;
#[cfg(not(target_family = "wasm"))]
mod machine;
#[cfg(not(target_family = "wasm"))]
pub mod meters;
#[cfg(not(target_family = "wasm"))]
mod peers;
#[cfg(not(target_family = "wasm"))]
pub mod pictures;
#[cfg(not(target_family = "wasm"))]
mod programs;
#[cfg(not(target_family = "wasm"))]
pub mod records;
#[cfg(not(target_family = "wasm"))]
mod rows;
#[cfg(not(target_family = "wasm"))]
pub mod tables;

#[cfg(not(target_family = "wasm"))]
pub use {
    crowd::{Crowd, HEAP, RAISE},
    machine::{Machine, PROFILES, Profile},
    peers::{Peer, Server},
    programs::{benches, command, guest, lunatic, tests},
    records::Picture,
    rows::{Bar, Depth, Figures, Row, commit, open, place, promise},
};

/// Tells the bench a number. It is for guests.
#[cfg(target_family = "wasm")]
pub fn say(number: f64) {
    #[link(wasm_import_module = "bench")]
    unsafe extern "C" {
        #[link_name = "say"]
        safe fn say_to_the_bench(number: f64);
    }
    say_to_the_bench(number);
}

/// Tells the bench a number. It is for guests, and a guest that runs outside the machine has nobody to tell.
#[cfg(not(target_family = "wasm"))]
pub fn say(number: f64) {
    panic!("nobody hears {number}: a guest runs in the machine of its bench");
}
