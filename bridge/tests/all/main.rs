//! Tests calling modules from outside: values, images, limits, crashes and new versions.

mod calls;
mod threads;
mod values;
mod wasmtube;
mod workers;
