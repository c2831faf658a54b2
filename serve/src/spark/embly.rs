//! The functions of Embly, for modules that were built for it: the import modules `embly`, and `env` of its first months.
//!
//! They do what Embly's did, also where that is odd, as its guest libraries count on it: reads never wait, a message that was
//! read to its end is followed by the next without a sign of it, who writes to nobody is told of success, and a list of
//! events is filled up with zeros. Number 1 is the runner, the functions that are run have 2, 3 and so on.

use super::calls::{first_readable, run_with, write_all};
use super::comm::{Running, Side};
use super::running;
use lunatic_vm::{Call, Caller, End, Failure, Guest, Host, Part};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// WASI's numbers, which Embly's functions return.
const SUCCESS: i32 = 0;
const ADDRESS_NOT_AVAILABLE: i32 = 4;

/// What the runner's number is here; in the table of comms it is 0.
const RUNNER: u64 = 1;

/// The `flag` of `_events` that waits for ever.
const FOREVER: i32 = 1;

/// What is known of the comms, beside what they hold.
#[derive(Default)]
struct Known {
    /// Those of which an event was told, and which were not read from since.
    told: BTreeSet<u64>,
    /// Those that have ended, which was told and read.
    over: BTreeSet<u64>,
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

/// Finds a comm by Embly's number.
fn find(call: &mut Call<'_>, id: i32) -> Option<(u64, Arc<Side>)> {
    let number = u64::try_from(id).ok()?.checked_sub(RUNNER)?;
    Some((number, Running::of(call).find(number)?.clone()))
}

/// Writes a number to the place for it.
fn put(call: &mut Call<'_>, out: u32, number: usize) -> Result<(), Failure> {
    // What the numbers count lies in a 32-bit memory.
    call.write(out, &(number as u32).to_le_bytes())
}

/// Copies at most one message, or nothing where there is none.
async fn read(
    mut call: Call<'_>,
    id: i32,
    (buffer, length): (u32, u32),
    out: u32,
) -> wasmtime::Result<i32> {
    call.slice(out, 4)?;
    call.slice(buffer, length)?;
    let Some((number, side)) = find(&mut call, id) else {
        put(&mut call, out, 0)?;
        return Ok(SUCCESS);
    };
    call.guest().extension::<Known>().told.remove(&number);
    let part = side.reader.try_read(call.slice(buffer, length)?);
    let count = match part {
        Some(Part::Bytes(count)) => {
            // Nothing is to be seen of the end of a message.
            side.reader.pass_end_of_message();
            count
        }
        Some(Part::EndOfMessage) | None => 0,
        Some(Part::End(end)) => {
            if !is_well(&mut call, number, &side, end).await {
                return Ok(ADDRESS_NOT_AVAILABLE);
            }
            0
        }
    };
    put(&mut call, out, count)?;
    Ok(SUCCESS)
}

/// Whether the other side ended well, or is to be told of as a failure by every further read.
async fn is_well(call: &mut Call<'_>, number: u64, side: &Side, end: End) -> bool {
    let is_well = side.ended(end).await.is_ok();
    call.guest().extension::<Known>().over.insert(number);
    is_well
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
    if let Some((_, side)) = find(&mut call, id)
        && write_all(&mut call, &side, data, length).await?
    {
        let _ = side.writer.end_message().await;
    }
    put(&mut call, out, length as usize)?;
    Ok(SUCCESS)
}

/// Runs a function. Where that fails, reads from it do.
async fn spawn(
    mut call: Call<'_>,
    name: (u32, u32),
    payload: (u32, u32),
    out: u32,
) -> wasmtime::Result<i32> {
    call.slice(out, 4)?;
    call.slice(payload.0, payload.1)?;
    let name = running::name(&mut call, name.0, name.1)?;
    let number = match run_with(&mut call, &name, payload).await? {
        Ok(number) => number,
        Err(error) => {
            let running = Running::of(&mut call);
            if !running.has_room() {
                return Err(Failure::trap(error.text).into());
            }
            running.keep(Side::to_nobody(error.text))
        }
    };
    put(&mut call, out, (number + RUNNER) as usize)?;
    Ok(SUCCESS)
}

/// Waits until there is something to read, and lists from whom.
async fn events(
    mut call: Call<'_>,
    time: Option<Duration>,
    (ids, count): (u32, u32),
    out: u32,
) -> wasmtime::Result<i32> {
    call.slice(out, 4)?;
    call.slice(
        ids,
        count
            .checked_mul(4)
            .ok_or_else(|| Failure::trap("the list of events is larger than a memory"))?,
    )?;
    let mut found = untold(&mut call, |side| side.reader.is_readable());
    if found.is_empty() && time != Some(Duration::ZERO) {
        let silent = untold(&mut call, |_| true);
        let sides: Vec<Arc<Side>> = silent.iter().map(|(_, side)| side.clone()).collect();
        let something = first_readable(&sides, 0);
        match time {
            None => drop(something.await),
            // Nothing within the time is an empty list.
            Some(time) => drop(tokio::time::timeout(time, something).await),
        }
        found = untold(&mut call, |side| side.reader.is_readable());
    }
    found.truncate(count as usize);
    call.guest()
        .extension::<Known>()
        .told
        .extend(found.iter().map(|(number, _)| *number));
    let list = call.slice(ids, count * 4)?;
    list.fill(0);
    for (place, (number, _)) in list.chunks_exact_mut(4).zip(&found) {
        place.copy_from_slice(&((number + RUNNER) as u32).to_le_bytes());
    }
    put(&mut call, out, count as usize)?;
    Ok(SUCCESS)
}

/// Returns the comms of which an event may be told, and that satisfy a condition.
fn untold(call: &mut Call<'_>, is_wanted: impl Fn(&Side) -> bool) -> Vec<(u64, Arc<Side>)> {
    let known = call.guest().extension::<Known>();
    let quiet: BTreeSet<u64> = known.told.union(&known.over).copied().collect();
    let comms = Running::of(call).comms();
    comms
        .filter(|(number, side)| !quiet.contains(number) && is_wanted(side))
        .map(|(number, side)| (number, side.clone()))
        .collect()
}
