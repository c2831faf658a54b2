//! `rvm:lambda/host`: the interface that RVM components import in addition to WASI.
//!
//! A host function for components needs only the interface in `wit/` and an implementation of the
//! trait generated from it.

use super::interfaces::Interfaces;
use lunatic_vm::Guest;
use wasmtime::component::{HasData, Linker};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        inline: "package lunatic:serve; world functions { import rvm:lambda/host@0.1.0; }",
        world: "lunatic:serve/functions",
        imports: { default: trappable },
    });
}

use bindings::rvm::lambda::host;

struct Lambda;

impl HasData for Lambda {
    type Data<'a> = &'a mut Interfaces;
}

/// Adds the interface to those that components can import.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    host::add_to_linker::<Guest, Lambda>(linker, |guest| guest.extension::<Interfaces>())
}

impl host::Host for Interfaces {
    fn multiply(&mut self, a: f32, b: f32) -> wasmtime::Result<f32> {
        Ok(a * b)
    }

    fn client_secret(&mut self) -> wasmtime::Result<String> {
        let missing = "the function has no client secret: set `client_secret` in its settings";
        self.secret()
            .map(str::to_string)
            .ok_or_else(|| wasmtime::Error::msg(missing))
    }
}
