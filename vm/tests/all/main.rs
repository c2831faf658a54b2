//! The VM's tests, with one module per subject. Tests whose names begin with a number such as
//! `t046` cover the cases in `CATALOGUE.md`.

mod support;

mod boundary;
mod compiling;
mod components;
mod compute;
#[cfg(unix)]
mod directories;
mod distributed;
mod embedding;
mod environments;
mod files;
mod generations;
mod get_or_spawn;
mod held;
mod journal;
mod links;
mod mailboxes;
mod memory;
mod metrics;
mod model;
mod processes;
mod profiles;
mod registry;
mod scheduler;
mod soak;
mod sqlite;
mod tcp;
mod timers;
mod tls;
mod traps;
mod udp;
mod wasi;
