//! An instance of a component that the host drives.

use super::outcome::exit_of;
use super::store::{self, instructions_used, set_compute};
use crate::engine::{Code, EngineKind};
use crate::guest::Guest;
use crate::machine::Process;
use lunatic_abi::Limit;
use lunatic_process::Exit;
use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};
use wasmtime_wasi::p2::bindings::Command;

/// A running instance of a component, controlled by the host.
///
/// Only the host knows the component's functions, so the host calls them itself through wasmtime's
/// typed interface, with [`store`](LiveComponent::store) and [`instance`](LiveComponent::instance).
/// After a failed call, the instance must not be called again. [`exit`](LiveComponent::exit) then
/// returns how the process ends.
pub struct LiveComponent {
    store: Store<Guest>,
    instance: Instance,
    code: Code,
}

impl LiveComponent {
    pub(super) async fn new(
        engine: &wasmtime::Engine,
        kind: EngineKind,
        guest: Guest,
        pre: &InstancePre<Guest>,
    ) -> Result<LiveComponent, Exit> {
        let mut store = store::new(engine, kind, guest);
        match pre.instantiate_async(&mut store).await {
            Ok(instance) => Ok(LiveComponent {
                store,
                instance,
                code: kind.code(),
            }),
            Err(error) => Err(exit_of(store.data(), &error)),
        }
    }

    /// Runs the component's `wasi:cli/run`.
    pub(super) async fn run(&mut self) -> Result<(), Exit> {
        let command = match Command::new(&mut self.store, &self.instance) {
            Ok(command) => command,
            Err(error) => return Err(exit_of(self.store.data(), &error)),
        };
        match command.wasi_cli_run().call_run(&mut self.store).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(())) => Err(Exit::Status(1)),
            Err(error) => Err(exit_of(self.store.data(), &error)),
        }
    }

    /// Returns the process.
    pub fn process(&self) -> &Process {
        self.store.data().process()
    }

    /// Returns the store, which is needed to call the component. Its limits are already set.
    pub fn store(&mut self) -> &mut Store<Guest> {
        &mut self.store
    }

    /// Returns the instance, to look up its functions.
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// Lets the component compute as much as its environment allows from now on. Call this method
    /// before each call of the component.
    pub fn renew_compute(&mut self) {
        if self.code == Code::Metered {
            let units = self.store.data().environment().limits().get(Limit::Compute);
            set_compute(&mut self.store, units);
        }
    }

    /// Returns how many instructions the component has executed since its compute was renewed, or
    /// since it began. Returns `None` if the environment does not limit compute, because
    /// instructions are then not counted. A unit of [`Limit::Compute`] is 100,000 instructions.
    pub fn instructions_used(&mut self) -> Option<u64> {
        match self.code {
            Code::Plain => None,
            Code::Metered => instructions_used(&mut self.store),
        }
    }

    /// Returns how the process ends after a call that failed with this error.
    pub fn exit(&mut self, error: &wasmtime::Error) -> Exit {
        exit_of(self.store.data(), error)
    }
}
