//! The functions by which sparks read and write: `lunatic::spark`. What each does is said where the guest library finds them,
//! in `lunatic-abi`.

use super::comm::{Running, Side};
use super::running::{self, RunError};
use lunatic_vm::{Call, Caller, Errno, Failure, Guest, Host, Part};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

pub(super) const NAMESPACE: &str = "lunatic::spark";

/// The longest text that a guest gives as the reason of its failure, in bytes. The rest is cut off.
const LONGEST_REASON: u32 = 4 << 10;

/// So many comms are waited for at once.
const MOST_WAITED_FOR: u32 = 1024;

/// The time that never runs out.
const FOREVER: u64 = u64::MAX;

/// Adds the functions to a host.
pub(super) fn add_to_host(host: &mut Host) {
    type Three = (u64, u32, u32);
    host.waiting_function(
        NAMESPACE,
        "read",
        |caller: Caller<'_, Guest>, (comm, buffer, length): Three| {
            Box::new(read(Call::new(caller), comm, buffer, length))
        },
    );
    host.waiting_function(
        NAMESPACE,
        "write",
        |caller: Caller<'_, Guest>, (comm, data, length): Three| {
            Box::new(write(Call::new(caller), comm, data, length))
        },
    );
    host.waiting_function(
        NAMESPACE,
        "end",
        |caller: Caller<'_, Guest>, (comm,): (u64,)| Box::new(end(Call::new(caller), comm)),
    );
    host.function(
        NAMESPACE,
        "finish",
        |caller: Caller<'_, Guest>, comm: u64| {
            Running::of(&mut Call::new(caller))
                .comm(comm)?
                .writer
                .finish();
            Ok(())
        },
    );
    type Four = (u32, u32, u32, u32);
    host.waiting_function(
        NAMESPACE,
        "run",
        |caller: Caller<'_, Guest>, (name, name_length, message, length): Four| {
            Box::new(run(
                Call::new(caller),
                (name, name_length),
                (message, length),
            ))
        },
    );
    host.waiting_function(
        NAMESPACE,
        "wait",
        |caller: Caller<'_, Guest>, (comms, count, timeout): (u32, u32, u64)| {
            Box::new(wait(Call::new(caller), comms, count, timeout))
        },
    );
    host.function(
        NAMESPACE,
        "close",
        |caller: Caller<'_, Guest>, comm: u64| {
            let closed = Running::of(&mut Call::new(caller)).close(comm);
            closed.map(drop).ok_or_else(|| {
                Failure::trap(format!("there is no comm with the number {comm} to close"))
            })?;
            Ok(())
        },
    );
    host.function(
        NAMESPACE,
        "fail",
        |caller: Caller<'_, Guest>, text: u32, length: u32| {
            let mut call = Call::new(caller);
            call.slice(text, length)?;
            let text = call.read(text, length.min(LONGEST_REASON))?;
            Running::of(&mut call)
                .comm(0)?
                .writer
                .fail(&String::from_utf8_lossy(&text));
            Ok(())
        },
    );
    host.function(
        NAMESPACE,
        "why",
        |caller: Caller<'_, Guest>, buffer: u32, length: u32| {
            let mut call = Call::new(caller);
            call.slice(buffer, length)?;
            let why = Running::of(&mut call).why.clone();
            call.write(buffer, &why.as_bytes()[..why.len().min(length as usize)])?;
            Ok(why.len() as u32)
        },
    );
}

/// Returns the number that tells a failure, whose sentence is kept.
fn failed(call: &mut Call<'_>, errno: Errno, why: impl Into<String>) -> i64 {
    Running::of(call).why = why.into();
    -i64::from(errno as u32)
}

fn nobody_reads(call: &mut Call<'_>) -> i64 {
    failed(
        call,
        Errno::BrokenPipe,
        "the other side of the comm reads no more",
    )
}

async fn read(mut call: Call<'_>, comm: u64, buffer: u32, length: u32) -> wasmtime::Result<i64> {
    if length == 0 {
        return Err(Failure::trap("nothing can be read into an empty buffer").into());
    }
    let side = Running::of(&mut call).comm(comm)?;
    let end = match next(&mut call, &side, buffer, length).await? {
        Part::Bytes(count) => return Ok(count as i64),
        Part::EndOfMessage => return Ok(0),
        Part::End(end) => end,
    };
    Ok(match side.ended(end).await {
        Ok(()) => failed(
            &mut call,
            Errno::BrokenPipe,
            "the other side of the comm has ended",
        ),
        Err(why) => failed(&mut call, Errno::Other, why),
    })
}

/// Reads what comes next into the guest's memory, which nothing holds while this waits.
async fn next(call: &mut Call<'_>, side: &Side, buffer: u32, length: u32) -> Result<Part, Failure> {
    loop {
        if let Some(part) = side.reader.try_read(call.slice(buffer, length)?) {
            return Ok(part);
        }
        side.reader.readable().await;
    }
}

async fn write(mut call: Call<'_>, comm: u64, data: u32, length: u32) -> wasmtime::Result<i64> {
    let side = Running::of(&mut call).comm(comm)?;
    Ok(if write_all(&mut call, &side, data, length).await? {
        0
    } else {
        nobody_reads(&mut call)
    })
}

/// Writes bytes of the guest's memory, which nothing holds while this waits. False where nobody reads them.
pub(super) async fn write_all(
    call: &mut Call<'_>,
    side: &Side,
    data: u32,
    length: u32,
) -> Result<bool, Failure> {
    let mut written = 0;
    loop {
        let rest = &call.slice(data, length)?[written..];
        let is_all = rest.is_empty();
        match side.writer.try_write(rest) {
            Some(Ok(_)) if is_all => return Ok(true),
            Some(Ok(count)) => written += count,
            Some(Err(_)) => return Ok(false),
            None => side.writer.writable().await,
        }
    }
}

async fn end(mut call: Call<'_>, comm: u64) -> wasmtime::Result<i64> {
    let side = Running::of(&mut call).comm(comm)?;
    let ended = side.writer.end_message().await;
    Ok(if ended.is_ok() {
        0
    } else {
        nobody_reads(&mut call)
    })
}

async fn run(mut call: Call<'_>, name: (u32, u32), message: (u32, u32)) -> wasmtime::Result<i64> {
    call.slice(message.0, message.1)?;
    let name = running::name(&mut call, name.0, name.1)?;
    Ok(match run_with(&mut call, &name, message).await? {
        Ok(number) => number as i64,
        Err(error) => failed(&mut call, error.errno, error.text),
    })
}

/// Runs a function and sends it its first message, unless that is empty. Returns the number of the comm to it.
pub(super) async fn run_with(
    call: &mut Call<'_>,
    name: &str,
    (message, length): (u32, u32),
) -> Result<Result<u64, RunError>, Failure> {
    let run = match running::run(Running::of(call), name) {
        Ok(run) => run,
        Err(error) => return Ok(Err(error)),
    };
    let side = Running::of(call).comm(run.comm)?;
    if length == 0 {
        return Ok(Ok(run.comm));
    }
    // A function that ends before it has read everything is no failure: what it wrote says more.
    if write_all(call, &side, message, length).await? {
        let _ = side.writer.end_message().await;
    }
    if let Some(verdict) = run.verdict
        && let Ok(Err(text)) = verdict.await
    {
        Running::of(call).close(run.comm);
        return Ok(Err(RunError {
            errno: Errno::NotGranted,
            text,
        }));
    }
    Ok(Ok(run.comm))
}

async fn wait(mut call: Call<'_>, comms: u32, count: u32, timeout: u64) -> wasmtime::Result<i64> {
    if count > MOST_WAITED_FOR {
        return Err(Failure::trap(format!(
            "at most {MOST_WAITED_FOR} comms are waited for at once"
        ))
        .into());
    }
    let (numbers, _) = call.slice(comms, count * 8)?.as_chunks::<8>();
    let numbers: Vec<u64> = numbers
        .iter()
        .map(|number| u64::from_le_bytes(*number))
        .collect();
    let running = Running::of(&mut call);
    let sides = numbers
        .iter()
        .map(|number| running.comm(*number))
        .collect::<Result<Vec<_>, _>>()?;
    running.turn = running.turn.wrapping_add(1);
    let turn = running.turn;
    let readable = first_readable(&sides, turn);
    let place = match timeout {
        FOREVER => Some(readable.await),
        timeout => tokio::time::timeout(Duration::from_millis(timeout), readable)
            .await
            .ok(),
    };
    Ok(match place {
        Some(place) => place as i64,
        None => failed(&mut call, Errno::TimedOut, "nothing came within the time"),
    })
}

/// Waits until one of several comms can be read from, and says which. Where several can, it is the first from a place on.
pub(super) async fn first_readable(sides: &[Arc<Side>], from: usize) -> usize {
    let order = (0..sides.len()).map(|place| (from.wrapping_add(place)) % sides.len());
    let mut waits: Vec<_> = order
        .map(|place| (place, Box::pin(sides[place].reader.readable())))
        .collect();
    std::future::poll_fn(|context| {
        let ready = waits
            .iter_mut()
            .find_map(|(place, wait)| wait.as_mut().poll(context).is_ready().then_some(*place));
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
