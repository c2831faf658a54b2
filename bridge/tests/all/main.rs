//! Calls of modules from outside: values, images, limits, crashes, new versions.

mod calls;
mod values;
mod wasmtube;
mod workers;
