//! Tests calling modules from outside: values, images, limits, crashes and new versions.

mod calls;
mod values;
mod wasmtube;
mod workers;
