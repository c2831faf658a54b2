//! Tests of calls of modules from outside: values, images, limits, crashes and new versions.

mod calls;
mod values;
mod wasmtube;
mod workers;
