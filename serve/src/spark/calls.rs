//! `lunatic::spark`: the functions that sparks read and write with. They are documented in
//! `lunatic-abi`.

use super::comm::Comm;
use super::run::{self, RunError};
use super::state::SparkState;
use lunatic_vm::{Call, Caller, Errno, Failure, Guest, Host, Part};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

pub(super) const NAMESPACE: &str = "lunatic::spark";

/// The maximum length, in bytes, of the text that a guest can give as the reason for its failure.
/// The rest is cut off.
const MAX_REASON: u32 = 4 << 10;

/// The maximum number of comms that a guest can wait for in a single call.
const MAX_WAITED_FOR: u32 = 1024;

/// The timeout that never expires.
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
            SparkState::of(&mut Call::new(caller))
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
            let closed = SparkState::of(&mut Call::new(caller)).close(comm);
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
            let text = call.read(text, length.min(MAX_REASON))?;
            SparkState::of(&mut call)
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
            let why = SparkState::of(&mut call).why.clone();
            call.write(buffer, &why.as_bytes()[..why.len().min(length as usize)])?;
            Ok(why.len() as u32)
        },
    );
}

/// Returns the number that reports a failure to the guest, and stores the failure's message.
fn failed(call: &mut Call<'_>, errno: Errno, why: impl Into<String>) -> i64 {
    SparkState::of(call).why = why.into();
    -i64::from(errno as u32)
}

fn nobody_reads(call: &mut Call<'_>) -> i64 {
    failed(
        call,
        Errno::BrokenPipe,
        "the other side of the comm is no longer reading",
    )
}

async fn read(mut call: Call<'_>, comm: u64, buffer: u32, length: u32) -> wasmtime::Result<i64> {
    if length == 0 {
        return Err(Failure::trap("nothing can be read into an empty buffer").into());
    }
    let comm = SparkState::of(&mut call).comm(comm)?;
    let end = match next(&mut call, &comm, buffer, length).await? {
        Part::Bytes(count) => return Ok(count as i64),
        Part::EndOfMessage => return Ok(0),
        Part::End(end) => end,
    };
    Ok(match comm.ended(end).await {
        Ok(()) => failed(
            &mut call,
            Errno::BrokenPipe,
            "the other side of the comm has ended",
        ),
        Err(why) => failed(&mut call, Errno::Other, why),
    })
}

/// Reads the next bytes into the guest's memory, which is not borrowed while waiting.
async fn next(call: &mut Call<'_>, comm: &Comm, buffer: u32, length: u32) -> Result<Part, Failure> {
    loop {
        if let Some(part) = comm.reader.try_read(call.slice(buffer, length)?) {
            return Ok(part);
        }
        comm.reader.readable().await;
    }
}

async fn write(mut call: Call<'_>, comm: u64, data: u32, length: u32) -> wasmtime::Result<i64> {
    let comm = SparkState::of(&mut call).comm(comm)?;
    Ok(if write_all(&mut call, &comm, data, length).await? {
        0
    } else {
        nobody_reads(&mut call)
    })
}

/// Writes bytes from the guest's memory, which is not borrowed while waiting. Returns false if
/// nothing reads them.
pub(super) async fn write_all(
    call: &mut Call<'_>,
    comm: &Comm,
    data: u32,
    length: u32,
) -> Result<bool, Failure> {
    let mut written = 0;
    loop {
        let rest = &call.slice(data, length)?[written..];
        let is_all = rest.is_empty();
        match comm.writer.try_write(rest) {
            Some(Ok(_)) if is_all => return Ok(true),
            Some(Ok(count)) => written += count,
            Some(Err(_)) => return Ok(false),
            None => comm.writer.writable().await,
        }
    }
}

async fn end(mut call: Call<'_>, comm: u64) -> wasmtime::Result<i64> {
    let comm = SparkState::of(&mut call).comm(comm)?;
    let ended = comm.writer.end_message().await;
    Ok(if ended.is_ok() {
        0
    } else {
        nobody_reads(&mut call)
    })
}

async fn run(mut call: Call<'_>, name: (u32, u32), message: (u32, u32)) -> wasmtime::Result<i64> {
    call.slice(message.0, message.1)?;
    let name = run::name(&mut call, name.0, name.1)?;
    Ok(match run_with(&mut call, &name, message).await? {
        Ok(number) => number as i64,
        Err(error) => failed(&mut call, error.errno, error.text),
    })
}

/// Runs a function and sends it its first message, unless the message is empty. Returns the number
/// of its comm.
pub(super) async fn run_with(
    call: &mut Call<'_>,
    name: &str,
    (message, length): (u32, u32),
) -> Result<Result<u64, RunError>, Failure> {
    let running = match run::run(SparkState::of(call), name) {
        Ok(running) => running,
        Err(error) => return Ok(Err(error)),
    };
    let comm = SparkState::of(call).comm(running.comm)?;
    if length == 0 {
        return Ok(Ok(running.comm));
    }
    // A function that ends without reading everything has not failed. Its output and how it ended
    // are more informative than this error.
    if write_all(call, &comm, message, length).await? {
        let _ = comm.writer.end_message().await;
    }
    if let Some(verdict) = running.verdict
        && let Ok(Err(text)) = verdict.await
    {
        SparkState::of(call).close(running.comm);
        return Ok(Err(RunError {
            errno: Errno::NotGranted,
            text,
        }));
    }
    Ok(Ok(running.comm))
}

async fn wait(mut call: Call<'_>, comms: u32, count: u32, timeout: u64) -> wasmtime::Result<i64> {
    if count > MAX_WAITED_FOR {
        return Err(Failure::trap(format!(
            "at most {MAX_WAITED_FOR} comms can be waited for in one call"
        ))
        .into());
    }
    let (numbers, _) = call.slice(comms, count * 8)?.as_chunks::<8>();
    let numbers: Vec<u64> = numbers
        .iter()
        .map(|number| u64::from_le_bytes(*number))
        .collect();
    let state = SparkState::of(&mut call);
    let comms = numbers
        .iter()
        .map(|number| state.comm(*number))
        .collect::<Result<Vec<_>, _>>()?;
    state.offset = state.offset.wrapping_add(1);
    let readable = first_readable(&comms, state.offset);
    let index = match timeout {
        FOREVER => Some(readable.await),
        timeout => tokio::time::timeout(Duration::from_millis(timeout), readable)
            .await
            .ok(),
    };
    Ok(match index {
        Some(index) => index as i64,
        None => failed(
            &mut call,
            Errno::TimedOut,
            "nothing arrived within the timeout",
        ),
    })
}

/// Waits until at least one of several comms can be read from, and returns its index. If there are
/// several, chooses the first from `offset` onward.
pub(super) async fn first_readable(comms: &[Arc<Comm>], offset: usize) -> usize {
    let order = (0..comms.len()).map(|index| (offset.wrapping_add(index)) % comms.len());
    let mut waits: Vec<_> = order
        .map(|index| (index, Box::pin(comms[index].reader.readable())))
        .collect();
    std::future::poll_fn(|context| {
        let ready = waits
            .iter_mut()
            .find_map(|(index, wait)| wait.as_mut().poll(context).is_ready().then_some(*index));
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
