//! The stores that guests run in, including time slices and compute.

use crate::engine::{Code, EngineKind};
use crate::guest::{Guest, Rejected, portion};
use crate::scheduler;
use lunatic_abi::{FUEL_PER_UNIT, Limit};
use wasmtime::{Store, StoreContextMut, UpdateDeadline};

/// Guests are interrupted on every tick, no matter how many ticks a slice lasts, so that a kill
/// never waits longer than a tick.
const TICK: u64 = 1;

/// Creates a store for a guest that is about to start.
pub(super) fn new(engine: &wasmtime::Engine, kind: EngineKind, guest: Guest) -> Store<Guest> {
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| guest);
    store.epoch_deadline_callback(tick);
    begin(&mut store, kind);
    store
}

/// Prepares a guest's first turn: gives it a slice and its compute.
pub(super) fn begin(store: &mut Store<Guest>, kind: EngineKind) {
    store.set_epoch_deadline(TICK);
    // This begins the turn's slice.
    store.data_mut().is_new_turn();
    if kind.code() == Code::Plain {
        return;
    }
    let limits = *store.data().environment().limits();
    set_compute(store, limits.get(Limit::Compute));
    // In a loop without calls, the remaining fuel is not known until it runs out, so fuel is given
    // in portions if the environment counts compute. A portion is small compared to the limit. The
    // end of a portion also ends a turn, which costs very little.
    let portion = portion(limits.get(Limit::TotalCompute));
    store
        .fuel_async_yield_interval(portion)
        .expect("the engine of metered code consumes fuel");
}

/// Sets the guest's remaining compute to `units` units.
pub(super) fn set_compute(store: &mut Store<Guest>, units: u64) {
    let fuel = units.saturating_mul(FUEL_PER_UNIT);
    store
        .set_fuel(fuel)
        .expect("the engine of metered code consumes fuel");
    store.data_mut().meter().fuel_given(fuel);
}

/// Returns the number of instructions that the guest has executed since it was last given compute,
/// or `None` if instructions are not counted.
pub(super) fn instructions_used(store: &mut Store<Guest>) -> Option<u64> {
    let left = store.get_fuel().ok()?;
    Some(store.data_mut().meter().fuel_used(left))
}

/// Called by running code once the clock has passed its deadline.
fn tick(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<UpdateDeadline> {
    if store.data().process().cell().is_ending() {
        return Err(wasmtime::Error::msg("the process is ending"));
    }
    if store.data().environment().code() == Code::Metered {
        let fuel = store.get_fuel()?;
        store
            .data_mut()
            .meter()
            .charge_compute(fuel)
            .map_err(Rejected)?;
    }
    // If the process has waited in the meantime, the deadline may be older than this turn, in which
    // case the slice has just begun. On a thread that the host lends, a slice is one tick, because
    // the host needs its thread.
    if store.data_mut().is_new_turn() || !(store.data_mut().is_slice_over() || scheduler::is_lent())
    {
        return Ok(UpdateDeadline::Continue(TICK));
    }
    // The next turn begins with a new slice.
    store.data_mut().expect_turn();
    Ok(UpdateDeadline::YieldCustom(
        TICK,
        Box::pin(scheduler::spent()),
    ))
}
