//! Sparks: modules that read and write bytes.
//!
//! A spark is run by a gateway or by another spark, and has a *comm* to it: messages of bytes in
//! both directions. It can run other functions of its project by name, each in a process and an
//! environment of its own, and has a comm to each of them. Modules built for Embly use the same
//! comms through Embly's own functions, and a program that knows nothing of all this reads its
//! standard input and writes its standard output.

pub(crate) mod answer;
mod calls;
mod comm;
mod command;
pub(crate) mod connection;
mod embly;
mod http;
mod process;
mod run;
mod state;
mod wire;

use lunatic_vm::Host;

/// Adds what sparks import.
pub(crate) fn add_to_host(host: &mut Host) {
    calls::add_to_host(host);
    embly::add_to_host(host);
}

#[cfg(test)]
mod tests;
