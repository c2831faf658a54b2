//! A component instance driven by the host.

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

/// The maximum number of bytes that a component can pass to the host in one call.
const MAX_PASSED: usize = 16 << 20;

/// A running component instance, controlled by the host.
///
/// Only the host knows the component's functions, so it calls them through wasmtime's typed
/// interface, using [`store`](LiveComponent::store) and [`instance`](LiveComponent::instance).
/// After a failed call, the instance must not be called again, and [`exit`](LiveComponent::exit)
/// returns the process's exit.
pub struct LiveComponent {
    store: Store<Guest>,
    instance: Instance,
    code: Code,
}

impl LiveComponent {
    pub(super) async fn new(guest: Guest, pre: &InstancePre<Guest>) -> Result<LiveComponent, Exit> {
        let code = guest.environment().code();
        let mut store = store::new(pre.engine(), EngineKind::Component(code), guest);
        let limits = *store.data().environment().limits();
        let limit = |limit| usize::try_from(limits.get(limit)).unwrap_or(usize::MAX);
        // A component can pass the same bytes many times in a single list.
        store.set_hostcall_fuel(MAX_PASSED.min(limit(Limit::HostMemory)));
        store.set_max_component_handles(limit(Limit::Handles));
        match pre.instantiate_async(&mut store).await {
            Ok(instance) => Ok(LiveComponent {
                store,
                instance,
                code,
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

    /// Renews the component's compute to the full amount that its environment allows. Call this
    /// before each call to the component.
    pub fn renew_compute(&mut self) {
        if self.code == Code::Metered {
            let units = self.store.data().environment().limits().get(Limit::Compute);
            set_compute(&mut self.store, units);
        }
    }

    /// Returns the number of instructions that the component has executed since its compute was
    /// last renewed, or since it started. Returns `None` if the environment does not limit compute,
    /// because instructions are not counted in that case. A unit of [`Limit::Compute`] is 100,000
    /// instructions.
    pub fn instructions_used(&mut self) -> Option<u64> {
        match self.code {
            Code::Plain => None,
            Code::Metered => instructions_used(&mut self.store),
        }
    }

    /// Returns the process's exit after a call that failed with the given error.
    pub fn exit(&mut self, error: &wasmtime::Error) -> Exit {
        exit_of(self.store.data(), error)
    }
}
