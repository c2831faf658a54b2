//! Callbacks: calls to a guest's exports from inside a host function that the guest called.
//!
//! Each callback runs on its own stack, so neither the guest's stack nor the host's grows. A
//! callback can do anything that the guest can do, including waiting, calling the host and causing
//! another callback. Anything that can terminate a process can also do so during a callback. A host
//! function that calls back borrows nothing from the guest during the callback, and afterwards does
//! not rely on anything that it read before.

#![expect(clippy::disallowed_methods, reason = "this is `Call::call_back`")]

use super::call::Call;
use super::failure::Failure;
use super::meter;
use lunatic_abi::{FUEL_PER_UNIT, Limit};
use wasmtime::{AsContextMut, Trap, WasmParams, WasmResults};

/// The maximum nesting depth of callbacks.
const MAX_DEPTH: usize = 16;

impl Call<'_> {
    /// Calls an exported function and returns its result, or the error that stopped it.
    ///
    /// # Errors
    ///
    /// If the function cannot be called because it does not exist, because its type is different,
    /// or because there is no stack for it.
    pub(crate) async fn call_back<Parameters, Results>(
        &mut self,
        export: &str,
        parameters: Parameters,
    ) -> Result<wasmtime::Result<Results>, Failure>
    where
        Parameters: WasmParams + Sync,
        Results: WasmResults + Sync,
    {
        let function = self
            .caller()
            .get_export(export)
            .and_then(wasmtime::Extern::into_func);
        let function = function.ok_or_else(|| {
            Failure::trap(format!(
                "the module exports no function named `{export}`, which the host function needs"
            ))
        })?;
        let function = function
            .typed::<Parameters, Results>(self.caller().as_context_mut())
            .map_err(|error| {
                Failure::trap(format!(
                    "the function `{export}` has the wrong type: {error:#}"
                ))
            })?;
        self.enter()?;
        let result = function
            .call_async(self.caller().as_context_mut(), parameters)
            .await;
        self.leave(result.as_ref().err());
        Ok(result)
    }

    fn enter(&mut self) -> Result<(), Failure> {
        let calls = self.guest().calls_back();
        let depth = calls.depth;
        if depth == MAX_DEPTH {
            return Err(Failure::trap(format!(
                "stack overflow: callbacks into the guest are nested {MAX_DEPTH} deep"
            )));
        }
        if calls.stacks.len() == depth {
            let environment = self.guest().environment();
            let kind = environment.kind_of_next();
            let engines = &environment.machine().engines;
            // `take` refuses if too little memory is left.
            engines.shortage_at_spawn();
            let reservation = engines.take(kind, 0).map_err(Failure::trap)?;
            self.guest().calls_back().stacks.push(reservation);
        }
        self.guest().calls_back().depth += 1;
        if depth == 0 {
            self.portion(Some(FUEL_PER_UNIT));
        }
        Ok(())
    }

    fn leave(&mut self, error: Option<&wasmtime::Error>) {
        let calls = self.guest().calls_back();
        calls.depth -= 1;
        let depth = calls.depth;
        calls.stacks.truncate(depth.max(1));
        if error.is_some_and(loses_fuel) {
            self.charge_what_was_lost();
        }
        if depth == 0 {
            let limits = *self.guest().environment().limits();
            self.portion(meter::portion(limits.get(Limit::TotalCompute)));
        }
    }

    /// Sets the size of the guest's subsequent fuel portions, if its code counts fuel.
    fn portion(&mut self, fuel: Option<u64>) {
        // An error only means that fuel is not counted.
        let _ = self
            .caller()
            .as_context_mut()
            .fuel_async_yield_interval(fuel);
    }

    /// Charges for the fuel whose count was lost in a trap. The lost amount is at most the rest of
    /// a portion plus the fuel that a function can spend beyond the portion before its next check.
    /// This maximum is charged, so that no guest can compute for free by trapping.
    fn charge_what_was_lost(&mut self) {
        let longest = self
            .guest()
            .module()
            .map_or(0, |module| module.requirements().longest_function);
        let mut store = self.caller().as_context_mut();
        if let Ok(fuel) = store.get_fuel() {
            let left = fuel.saturating_sub(FUEL_PER_UNIT.saturating_add(longest));
            store
                .set_fuel(left)
                .expect("the engine counts fuel, as `get_fuel` shows");
        }
    }
}

/// Returns whether code that stopped with the given error may have failed to save its fuel count.
/// Code saves the count before calls, where host functions fail, and at `unreachable`, where panics
/// end, but not before other traps.
fn loses_fuel(error: &wasmtime::Error) -> bool {
    error
        .downcast_ref::<Trap>()
        .is_some_and(|trap| *trap != Trap::UnreachableCodeReached)
}
