//! Sparks: modules that read and write bytes.
//!
//! A spark is run by a gateway or by another spark. It has a *comm* to its caller, which carries
//! byte messages in both directions. It can run other functions in its project by name, each in its
//! own process and environment, and has a comm to each of them. Modules built for Embly use the
//! same comms through Embly's own functions. A program that does not use comms reads from standard
//! input and writes to standard output.

pub(crate) mod answer;
mod calls;
mod comm;
mod command;
pub(crate) mod connection;
mod embly;
mod http;
mod incoming;
mod process;
mod run;
mod state;
mod wire;

use lunatic_vm::Host;

/// Adds all functions that sparks can import.
pub(crate) fn add_to_host(host: &mut Host) {
    calls::add_to_host(host);
    embly::add_to_host(host);
}

#[cfg(test)]
mod tests;
