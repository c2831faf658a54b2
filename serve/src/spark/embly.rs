//! Embly's functions, for modules that were built for Embly. They are in the import module `embly`,
//! and also in `env`, which dates from Embly's first months.
//!
//! They behave like Embly's own functions, including oddities that Embly's guest libraries rely on:
//! reads never wait, nothing shows where one message ends and the next begins, a write that nothing
//! reads succeeds, and a list of events is padded with zeros. The runner has the number 1, and the
//! functions that are run have the numbers 2, 3 and so on.

use super::calls::{first_readable, run_with, write_all};
use super::comm::Comm;
use super::run;
use super::state::SparkState;
use lunatic_vm::{Call, Caller, Failure, Guest, Host, Part, PipeEnd};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// WASI's error numbers, which Embly's functions return.
const SUCCESS: i32 = 0;
const ADDRESS_NOT_AVAILABLE: i32 = 4;

/// The runner's number in Embly. In the table of comms, it is 0.
const RUNNER: u64 = 1;

/// The `flag` of `_events` that waits without a timeout.
const FOREVER: i32 = 1;

/// State used only by Embly's functions.
#[derive(Default)]
struct EmblyState {
    /// Comms that an event has been reported for and that have not been read from since.
    reported: BTreeSet<u64>,
    /// Comms whose end has been reported and read.
    ended: BTreeSet<u64>,
}

/// Adds the functions to a host.
pub(super) fn add_to_host(host: &mut Host) {
    for namespace in ["embly", "env"] {
        host.waiting_function(
            namespace,
            "_read",
            |caller: Caller<'_, Guest>, (id, buffer, length, out): (i32, u32, u32, u32)| {
                Box::new(read(Call::new(caller), id, (buffer, length), out))
            },
        );
        host.waiting_function(
            namespace,
            "_write",
            |caller: Caller<'_, Guest>, (id, data, length, out): (i32, u32, u32, u32)| {
                Box::new(write(Call::new(caller), id, (data, length), out))
            },
        );
    }
    host.waiting_function(
        "embly",
        "_spawn",
        |caller: Caller<'_, Guest>, (name, length, out): (u32, u32, u32)| {
            Box::new(spawn(Call::new(caller), (name, length), (0, 0), out))
        },
    );
    type Spawn = (u32, u32, u32, u32, u32);
    host.waiting_function(
        "env",
        "_spawn",
        |caller: Caller<'_, Guest>, (name, length, payload, size, out): Spawn| {
            Box::new(spawn(
                Call::new(caller),
                (name, length),
                (payload, size),
                out,
            ))
        },
    );
    type Events = (i32, i64, i32, u32, u32, u32);
    host.waiting_function(
        "embly",
        "_events",
        |caller: Caller<'_, Guest>, (flag, seconds, nanos, ids, count, out): Events| {
            let time = Duration::from_secs(seconds.cast_unsigned())
                .saturating_add(Duration::from_nanos(u64::from(nanos.cast_unsigned())));
            Box::new(events(
                Call::new(caller),
                (flag != FOREVER).then_some(time),
                (ids, count),
                out,
            ))
        },
    );
}

/// Finds a comm by its number in Embly.
fn find(call: &mut Call<'_>, id: i32) -> Option<(u64, Arc<Comm>)> {
    let number = u64::try_from(id).ok()?.checked_sub(RUNNER)?;
    Some((number, SparkState::of(call).find(number)?.clone()))
}

/// Writes a number to an address in the guest's memory.
fn put(call: &mut Call<'_>, out: u32, number: usize) -> Result<(), Failure> {
    // Every number written here is either a number of bytes in a 32-bit memory or a comm's number,
    // so it fits.
    call.write(out, &(number as u32).to_le_bytes())
}

/// Copies at most one message, or nothing if there is none.
async fn read(
    mut call: Call<'_>,
    id: i32,
    (buffer, length): (u32, u32),
    out: u32,
) -> wasmtime::Result<i32> {
    call.slice(out, 4)?;
    call.slice(buffer, length)?;
    let Some((number, comm)) = find(&mut call, id) else {
        put(&mut call, out, 0)?;
        return Ok(SUCCESS);
    };
    call.guest()
        .extension::<EmblyState>()
        .reported
        .remove(&number);
    let part = comm.reader.try_read(call.slice(buffer, length)?);
    let count = match part {
        Some(Part::Bytes(count)) => {
            // The guest must not see where a message ends.
            comm.reader.pass_end_of_message();
            count
        }
        Some(Part::EndOfMessage) | None => 0,
        Some(Part::End(end)) => {
            if !ended_normally(&mut call, number, &comm, end).await {
                return Ok(ADDRESS_NOT_AVAILABLE);
            }
            0
        }
    };
    put(&mut call, out, count)?;
    Ok(SUCCESS)
}

/// Returns whether the other side ended normally. If not, all further reads fail.
async fn ended_normally(call: &mut Call<'_>, number: u64, comm: &Comm, end: PipeEnd) -> bool {
    let is_normal = comm.ended(end).await.is_ok();
    call.guest().extension::<EmblyState>().ended.insert(number);
    is_normal
}

/// Sends a message.
async fn write(
    mut call: Call<'_>,
    id: i32,
    (data, length): (u32, u32),
    out: u32,
) -> wasmtime::Result<i32> {
    call.slice(out, 4)?;
    call.slice(data, length)?;
    if let Some((_, comm)) = find(&mut call, id)
        && write_all(&mut call, &comm, data, length).await?
    {
        let _ = comm.writer.end_message().await;
    }
    put(&mut call, out, length as usize)?;
    Ok(SUCCESS)
}

/// Runs a function. If that is not possible, reads from its comm fail.
async fn spawn(
    mut call: Call<'_>,
    name: (u32, u32),
    payload: (u32, u32),
    out: u32,
) -> wasmtime::Result<i32> {
    call.slice(out, 4)?;
    call.slice(payload.0, payload.1)?;
    let name = run::name(&mut call, name.0, name.1)?;
    let number = match run_with(&mut call, &name, payload).await? {
        Ok(number) => number,
        Err(error) => {
            let state = SparkState::of(&mut call);
            if !state.has_room() {
                return Err(Failure::trap(error.text).into());
            }
            state.add(Comm::to_nothing(error.text))
        }
    };
    put(&mut call, out, (number + RUNNER) as usize)?;
    Ok(SUCCESS)
}

/// Waits until there is something to read, and lists the comms that have data.
async fn events(
    mut call: Call<'_>,
    time: Option<Duration>,
    (ids, count): (u32, u32),
    out: u32,
) -> wasmtime::Result<i32> {
    call.slice(out, 4)?;
    call.slice(
        ids,
        count.checked_mul(4).ok_or_else(|| {
            Failure::trap("the list of events does not fit into the guest's memory")
        })?,
    )?;
    let mut found = unreported(&mut call, |comm| comm.reader.is_readable());
    if found.is_empty() && time != Some(Duration::ZERO) {
        let silent = unreported(&mut call, |_| true);
        let comms: Vec<Arc<Comm>> = silent.iter().map(|(_, comm)| comm.clone()).collect();
        let something = first_readable(&comms, 0);
        match time {
            None => drop(something.await),
            // If nothing arrives in time, the list is empty.
            Some(time) => drop(tokio::time::timeout(time, something).await),
        }
        found = unreported(&mut call, |comm| comm.reader.is_readable());
    }
    found.truncate(count as usize);
    call.guest()
        .extension::<EmblyState>()
        .reported
        .extend(found.iter().map(|(number, _)| *number));
    let list = call.slice(ids, count * 4)?;
    list.fill(0);
    for (slot, (number, _)) in list.chunks_exact_mut(4).zip(&found) {
        slot.copy_from_slice(&((number + RUNNER) as u32).to_le_bytes());
    }
    put(&mut call, out, count as usize)?;
    Ok(SUCCESS)
}

/// Returns the comms that an event may be reported for and that satisfy a condition.
fn unreported(call: &mut Call<'_>, is_wanted: impl Fn(&Comm) -> bool) -> Vec<(u64, Arc<Comm>)> {
    let state = call.guest().extension::<EmblyState>();
    let quiet: BTreeSet<u64> = state.reported.union(&state.ended).copied().collect();
    let comms = SparkState::of(call).comms();
    comms
        .filter(|(number, comm)| !quiet.contains(number) && is_wanted(comm))
        .map(|(number, comm)| (number, comm.clone()))
        .collect()
}
