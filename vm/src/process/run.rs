//! The life of a process, from its first turn to its end.
//!
//! A process is a future. On each turn it first looks whether it is to end, then runs its guest until that waits, ends or
//! its slice is over. Whatever ends it, the guest's instance, memory and resources are gone before anybody is told; also
//! where the future itself is dropped.

use super::live::Live;
use super::live_component::LiveComponent;
use super::shell::Shell;
use super::{Exit, Frame, LimitReached, Process, Trap};
use crate::engine::{Code, Engine, Kind, Slot};
use crate::environment::Permit;
use crate::host::{Guest, Origin, Rejected};
use crate::module::{Linked, Module};
use crate::scheduler;
use async_io::Timer;
use futures_lite::FutureExt;
use lunatic_abi::{FUEL_PER_UNIT, Limit};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use wasmtime::{Store, StoreContextMut, UpdateDeadline, Val, WasmBacktrace, component};
use wasmtime_wasi::I32Exit;

/// A guest is looked at with every tick, however many of them a slice lasts, so that a kill never waits for longer.
const TICK: u64 = 1;

/// The most compute, in units, that a process is given at once where its environment counts it: several slices, so that
/// who computes without a pause is still mostly seen as that by the scheduler.
const MAX_PORTION: u64 = 100;

/// How long the end of a process waits for its databases to be closed on another thread, so that whoever hears of the end
/// finds them unlocked. A disk can take longer, and so can a function of SQLite's that is not interrupted.
const PATIENCE: Duration = Duration::from_millis(100);

/// What drives a host-driven process.
pub(crate) type Drive =
    Box<dyn for<'a> FnOnce(&'a mut Live) -> Pin<Box<dyn Future<Output = Exit> + Send + 'a>> + Send>;

/// What drives a host-driven process whose guest is a component.
pub(crate) type DriveComponent = Box<
    dyn for<'a> FnOnce(&'a mut LiveComponent) -> Pin<Box<dyn Future<Output = Exit> + Send + 'a>>
        + Send,
>;

/// What a process does.
pub(crate) enum Body {
    /// It runs an exported function of a module.
    Function {
        linked: Arc<Linked>,
        name: Box<str>,
        parameters: Box<[Val]>,
    },
    /// It does what a host closure has an instance of a module do.
    Host { linked: Arc<Linked>, drive: Drive },
    /// It runs a component's `wasi:cli/run`.
    Command { pre: component::InstancePre<Guest> },
    /// It does what a host closure has an instance of a component do.
    HostComponent {
        pre: component::InstancePre<Guest>,
        drive: DriveComponent,
    },
}

/// What a process takes of its environment and of the machine, given back when it has ended.
pub(crate) struct Permits {
    /// One process, and its memory. Given back with the guest's store: the second grows with the memory.
    pub(crate) process: Permit,
    pub(crate) memory: Permit,
    pub(crate) slot: Slot,
}

/// Ends the process when it is dropped, which is when everything else of it is gone.
struct Finish {
    process: Process,
    exit: Exit,
    /// What is given back after the instance is gone and before anybody is told.
    kept: Option<(Permit, Slot)>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        let exit = std::mem::replace(&mut self.exit, Exit::Killed);
        let kept = self.kept.take();
        self.process.finish(exit, || drop(kept));
    }
}

/// Returns the life of a process, to be run by the scheduler.
pub(crate) fn run(
    process: Process,
    permits: Permits,
    engine: &Engine,
    origin: Origin,
    body: Body,
) -> impl Future<Output = ()> + Send + 'static {
    let (kind, wasmtime) = (engine.kind(), engine.wasmtime().clone());
    // If the scheduler drops the future before its first turn, the process still ends properly.
    let finish = Finish {
        process: process.clone(),
        exit: Exit::Killed,
        kept: Some((permits.process, permits.slot)),
    };
    async move {
        let mut finish = finish;
        finish.exit = {
            let new = New {
                process: process.clone(),
                origin,
                memory: permits.memory,
            };
            let life = pin!(live(&wasmtime, kind, new, body));
            turns(&process, life).await
        };
        if let Some(released) = process.released() {
            // Nothing comes through it; it is closed when the last database is, with its locks.
            let closed = async {
                let _ = released.recv().await;
            };
            let patience = async {
                Timer::after(PATIENCE).await;
            };
            // A machine that ends does not wait: a task of its that still waits would be dropped by whoever wakes it, in the
            // middle of that.
            closed
                .or(patience)
                .or(process.environment().machine().over())
                .await;
        }
    }
}

/// Gives the guest its turns until it ends or is ended.
async fn turns(process: &Process, mut life: Pin<&mut (impl Future<Output = Exit> + Send)>) -> Exit {
    std::future::poll_fn(|context| {
        process.begin_turn(context);
        if let Some(exit) = process.ending() {
            return Poll::Ready(exit);
        }
        catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(context)))
            .unwrap_or_else(|panic| Poll::Ready(Exit::Fault(panic_text(&*panic).into())))
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a host function panicked")
}

/// What a new guest is made of.
struct New {
    process: Process,
    origin: Origin,
    memory: Permit,
}

impl New {
    fn guest(self) -> Guest {
        Guest::new(self.process, self.origin, self.memory)
    }
}

/// Makes the instance and does what the body says, for as long as it may.
async fn live(engine: &wasmtime::Engine, kind: Kind, new: New, body: Body) -> Exit {
    let allowed = new.process.environment().limits().get(Limit::Time);
    // Everything a process waits in lies in the memory of its task, in all its states together. So what is large and rare or
    // short is in a box of its own, and nothing is in there twice.
    let mut work = pin!(work(engine, kind, new, body));
    if allowed == u64::MAX {
        return work.await;
    }
    let time_is_over = async {
        Timer::after(Duration::from_millis(allowed)).await;
        Exit::Limit(LimitReached {
            limit: Limit::Time,
            allowed,
            wanted: None,
        })
    };
    work.as_mut().or(time_is_over).await
}

async fn work(engine: &wasmtime::Engine, kind: Kind, new: New, body: Body) -> Exit {
    match body {
        Body::Function {
            linked,
            name,
            parameters,
        } => {
            let mut shell = match shell(engine, kind, new, &linked).await {
                Ok(shell) => shell,
                Err(exit) => return exit,
            };
            match shell.call(&name, &parameters).await {
                Ok(_) => {
                    linked.shells.give(shell, linked.image.as_deref());
                    Exit::Normal
                }
                Err(exit) => exit,
            }
        }
        Body::Host { linked, drive } => {
            let mut live = match shell(engine, kind, new, &linked).await {
                Ok(shell) => Live::new(shell),
                Err(exit) => return exit,
            };
            let exit = drive(&mut live).await;
            if let Some(shell) = live.into_shell() {
                linked.shells.give(shell, linked.image.as_deref());
            }
            exit
        }
        Body::Command { pre } => {
            let command = async {
                match LiveComponent::new(store(engine, kind, new.guest()), &pre, kind.code()).await
                {
                    Ok(mut live) => live.run().await.err().unwrap_or(Exit::Normal),
                    Err(exit) => exit,
                }
            };
            Box::pin(command).await
        }
        Body::HostComponent { pre, drive } => {
            let driven = async {
                match LiveComponent::new(store(engine, kind, new.guest()), &pre, kind.code()).await
                {
                    Ok(mut live) => drive(&mut live).await,
                    Err(exit) => exit,
                }
            };
            Box::pin(driven).await
        }
    }
}

/// Returns an instance for a process: one that waits for the next, or a new one.
async fn shell(
    engine: &wasmtime::Engine,
    kind: Kind,
    new: New,
    linked: &Linked,
) -> Result<Shell, Exit> {
    match linked.shells.take() {
        Some(mut shell) => {
            shell.enter(new.process, new.origin, new.memory);
            Ok(shell)
        }
        None => Box::pin(Shell::new(engine, kind, new.guest(), linked)).await,
    }
}

/// Makes a store for a guest that is about to begin.
pub(super) fn store(engine: &wasmtime::Engine, kind: Kind, guest: Guest) -> Store<Guest> {
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| guest.meter());
    store.epoch_deadline_callback(tick);
    begin(&mut store, kind);
    store
}

/// Gives a guest that is about to begin its first slice and its compute.
pub(super) fn begin(store: &mut Store<Guest>, kind: Kind) {
    store.set_epoch_deadline(TICK);
    // This turn's slice has begun with that.
    store.data_mut().is_new_turn();
    if kind.code() == Code::Plain {
        return;
    }
    let limits = *store.data().environment().limits();
    set_compute(store, limits.get(Limit::Compute));
    // In a loop without calls the fuel that is left is known only where it runs short, so it is given in portions where the
    // environment counts it. A portion is small against the bound; that its end is also a turn's end hardly costs.
    let portion = portion(limits.get(Limit::TotalCompute));
    store
        .fuel_async_yield_interval(portion)
        .expect("the engine of metered code consumes fuel");
}

/// Returns in which portions a guest is given fuel, where its environment's processes may compute so many units together.
pub(crate) fn portion(total: u64) -> Option<u64> {
    (total != u64::MAX).then(|| (total / 4).clamp(1, MAX_PORTION) * FUEL_PER_UNIT)
}

/// Lets the guest compute so many units from now on.
pub(super) fn set_compute(store: &mut Store<Guest>, units: u64) {
    let fuel = units.saturating_mul(FUEL_PER_UNIT);
    store
        .set_fuel(fuel)
        .expect("the engine of metered code consumes fuel");
    store.data_mut().meter().fuel_given(fuel);
}

/// Returns how many instructions the guest has computed since it was given compute last; `None` where they are not counted.
pub(super) fn instructions_used(store: &mut Store<Guest>) -> Option<u64> {
    let left = store.get_fuel().ok()?;
    Some(store.data_mut().meter().fuel_used(left))
}

/// Is called by running code when the clock has moved past its deadline.
fn tick(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<UpdateDeadline> {
    if store.data().process().is_ending() {
        return Err(wasmtime::Error::msg("the process is to end"));
    }
    if store.data().environment().code() == Code::Metered {
        let fuel = store.get_fuel()?;
        store
            .data_mut()
            .meter()
            .charge_compute(fuel)
            .map_err(Rejected)?;
    }
    // The deadline may lie before the present turn, as the process waited since. Then the slice only begins.
    if store.data_mut().is_new_turn() || !store.data_mut().is_slice_over() {
        return Ok(UpdateDeadline::Continue(TICK));
    }
    // The next turn begins with a slice of its own.
    store.data_mut().expect_turn();
    Ok(UpdateDeadline::YieldCustom(
        TICK,
        Box::pin(scheduler::spent()),
    ))
}

/// Says how a guest ended that stopped with this error.
pub(super) fn exit_of(store: &mut Store<Guest>, error: &wasmtime::Error) -> Exit {
    let guest = store.data();
    if let Some(exit) = end_of(guest, error) {
        return exit;
    }
    let module = guest.module();
    let frames = frames(module, guest.environment().code(), error);
    Exit::Trapped(Arc::new(Trap {
        reason: reason(error),
        module: module.cloned(),
        frames,
    }))
}

/// Says how a guest ended that stopped with this error and did not just trap.
pub(crate) fn end_of(guest: &Guest, error: &wasmtime::Error) -> Option<Exit> {
    // A host call noticed that the process is to end.
    if let Some(exit) = guest.process().ending() {
        return Some(exit);
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return Some(if *status == 0 {
            Exit::Normal
        } else {
            Exit::Status(*status)
        });
    }
    if let Some(Rejected(reached)) = error.downcast_ref() {
        return Some(Exit::Limit(*reached));
    }
    if let Some(wasmtime::Trap::OutOfFuel) = error.downcast_ref() {
        let allowed = guest.environment().limits().get(Limit::Compute);
        return Some(Exit::Limit(LimitReached {
            limit: Limit::Compute,
            allowed,
            wanted: None,
        }));
    }
    // A program that is refused memory usually does not go on; what it does instead is a consequence.
    guest.refused().map(Exit::Limit)
}

/// Puts the causes of an error, without the backtrace, into one sentence.
fn reason(error: &wasmtime::Error) -> String {
    if let Some(trap) = error.downcast_ref::<wasmtime::Trap>() {
        return trap.to_string();
    }
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let sentences: Vec<&str> = causes
        .iter()
        .map(String::as_str)
        .filter(|cause| !cause.starts_with("error while executing"))
        .collect();
    sentences.join(": ")
}

fn frames(module: Option<&Module>, code: Code, error: &wasmtime::Error) -> Vec<Frame> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let offset = |offset: usize| module.map_or(offset, |module| module.offset(code, offset));
    let frame = |frame: &wasmtime::FrameInfo| Frame {
        function: frame
            .func_name()
            .map_or_else(|| format!("function {}", frame.func_index()), demangle),
        offset: frame.module_offset().map(offset),
    };
    backtrace.frames().iter().map(frame).collect()
}

/// Returns a function's name as it stands in the source, where it is one of Rust's.
pub(crate) fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
