//! The native functions of the Elixir package `wasmtube`: the bridge, inside a BEAM node.
//!
//! A long-running native function would block one of the node's schedulers, so none of these
//! functions waits. Each starts work on our own threads, which send the calling process exactly one
//! message, `{reference, result}`, when the work is done. Only values are converted in the calling
//! process itself, on a dirty scheduler.

mod answer;
mod argument;
mod call;
mod failure;
mod handle;
mod options;
mod tasks;

use answer::Waiting;
use call::{Call, Reply};
use failure::{Failure, Kind};
use handle::{Callee, Handle};
use lunatic_bridge::{Argument, Event};
use names::{
    bytes, crashed, data, error, image, infinity, ok, refused, reloaded, stopped, wasmtube_event,
};
use options::{Options, Source};
use rustler::{Binary, Encoder, Env, Error, LocalPid, NifResult, OwnedEnv, ResourceArc, Term};
use std::time::Duration;

mod names {
    rustler::atoms! { ok, error, infinity, data, bytes, image, wasmtube_event, reloaded, refused, crashed, stopped }
}

#[rustler::resource_impl]
impl rustler::Resource for Handle {}

#[rustler::resource_impl]
impl rustler::Resource for Waiting {}

#[rustler::resource_impl]
impl rustler::Resource for Call {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, _caller: LocalPid, _monitor: rustler::Monitor) {
        self.cancel();
    }
}

rustler::init!("Elixir.Wasmtube.Native", load = load);

fn load(_env: Env, _information: Term) -> bool {
    tasks::start()
}

/// Creates a bridge from a module. The message contains the bridge's handle or an error.
#[rustler::nif(schedule = "DirtyIo")]
fn load_bridge<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    source: Source,
    options: Options,
) -> Term<'a> {
    let reply = Reply::new(env.pid(), reference);
    tasks::unblock(move || {
        let builder = options.builder();
        let bridge = match source {
            Source::File(path) => builder.from_file(path),
            Source::Bytes(bytes) => builder.from_bytes(&bytes),
        };
        reply.send(
            bridge
                .map(|bridge| Handle::new(Callee::Bridge(bridge), &options))
                .map_err(Failure::from),
        );
    });
    ok().to_term(env)
}

/// Starts a worker. The message contains the worker's handle or an error. The worker's events are
/// sent to the same process.
#[rustler::nif(schedule = "DirtyIo")]
fn load_worker<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    path: Source,
    options: Options,
) -> NifResult<Term<'a>> {
    let Source::File(path) = path else {
        return Err(Error::BadArg);
    };
    let owner = env.pid();
    let reply = Reply::new(owner, reference);
    tasks::unblock(move || {
        let worker = options.worker().start(path);
        if let Ok(worker) = &worker {
            tasks::spawn(forward(worker.events(), owner));
        }
        reply.send(
            worker
                .map(|worker| Handle::new(Callee::Worker(worker), &options))
                .map_err(Failure::from),
        );
    });
    Ok(ok().to_term(env))
}

/// Sends a worker's events to a process until the worker ends.
async fn forward(events: async_channel::Receiver<Event>, owner: LocalPid) {
    while let Ok(event) = events.recv().await {
        let sent = OwnedEnv::new().send_and_clear(&owner, |env| {
            let event = match event {
                Event::Reloaded { version } => (reloaded(), version).encode(env),
                Event::Refused { reason } => (refused(), reason).encode(env),
                Event::Crashed { version, exit } => {
                    (crashed(), version, exit.to_string()).encode(env)
                }
                Event::Stopped => stopped().to_term(env),
                other => (refused(), format!("{other:?}")).encode(env),
            };
            (wasmtube_event(), event)
        });
        if sent.is_err() {
            return;
        }
    }
}

/// Calls a function. The message contains the result: either a binary or a value that has yet to be
/// turned into a term. Returns a handle for cancelling the call, which is also cancelled when the
/// calling process ends.
#[rustler::nif(schedule = "DirtyCpu")]
fn call<'a>(
    env: Env<'a>,
    handle: ResourceArc<Handle>,
    reference: Term<'a>,
    function: Binary<'a>,
    value: Term<'a>,
    time: Term<'a>,
) -> NifResult<Term<'a>> {
    let argument = match argument(&handle, value)? {
        Ok(argument) => argument,
        Err(failure) => return Ok((error(), failure).encode(env)),
    };
    let time = match time.decode::<u64>() {
        Ok(milliseconds) => Some(Duration::from_millis(milliseconds)),
        Err(_) if infinity() == time => None,
        Err(error) => return Err(error),
    };
    let function = String::from_utf8_lossy(&function).into_owned();
    let caller = env.pid();
    let (call, cancelled) = Call::new();
    // A process that has already ended does not need an answer.
    let Some(watched) = env.monitor(&call, &caller) else {
        return Ok(ok().to_term(env));
    };
    let reply = Reply::new(caller, reference);
    let (answer_of, most) = (call.clone(), handle.most_answer());
    tasks::spawn(async move {
        let answer = cancelled
            .unless(handle.invoke(time, &function, argument))
            .await;
        answer_of.demonitor(None, &watched);
        reply.send_answer(answer, most);
    });
    Ok((ok(), call).encode(env))
}

/// Reads a call's argument.
fn argument(handle: &Handle, value: Term) -> NifResult<Result<Argument, Failure>> {
    let most = handle.most_argument();
    if let Ok((kind, bytes, width, height)) = value.decode::<(Term, Binary, u32, u32)>() {
        if image() != kind {
            return Err(Error::BadArg);
        }
        return Ok(argument::copy(bytes, most).map(|bytes| Argument::Image {
            bytes,
            width,
            height,
        }));
    }
    let (kind, value) = value.decode::<(Term, Term)>()?;
    if bytes() == kind {
        return Ok(argument::copy(value.decode()?, most).map(Argument::Bytes));
    }
    if data() == kind {
        return Ok(argument::write(value, most).map(Argument::Json));
    }
    Err(Error::BadArg)
}

/// Builds a value returned by a function. Works only once.
#[rustler::nif(schedule = "DirtyCpu")]
fn build<'a>(env: Env<'a>, value: ResourceArc<Waiting>) -> NifResult<Term<'a>> {
    value.build(env).ok_or(Error::BadArg)
}

/// Cancels a call. Its message still arrives soon afterwards.
#[rustler::nif]
fn cancel<'a>(env: Env<'a>, call: ResourceArc<Call>) -> Term<'a> {
    call.cancel();
    ok().to_term(env)
}

/// Asks for a worker's version. The message contains the version.
#[rustler::nif]
fn version<'a>(env: Env<'a>, reference: Term<'a>, handle: ResourceArc<Handle>) -> Term<'a> {
    let reply = Reply::new(env.pid(), reference);
    // Blocks while a new version takes over.
    tasks::unblock(move || {
        let version = handle.version();
        reply.send(version.ok_or_else(|| {
            Failure::new(
                Kind::Argument,
                "a bridge has no versions; only a worker does",
            )
        }));
    });
    ok().to_term(env)
}

/// Returns how many handles and how many calls there are.
#[rustler::nif]
fn counts() -> (usize, usize) {
    (handle::alive(), call::alive())
}
