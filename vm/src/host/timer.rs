//! `lunatic::timer`: delayed messages.

use crate::guest::HostError;
use crate::guest::kinds::{Bytes, Millis, OutU64, TimerId, Words};
use crate::guest::mail::{TOO_LARGE, draft, take_message};
use crate::guest::{Call, Failure};
use crate::timer;
use lunatic_abi::{Errno, Limit};
use lunatic_process::{Message, Pid};
use std::time::Duration;

pub(super) fn send_after(call: &mut Call<'_>, process: Pid, delay: Millis) -> Result<u64, Failure> {
    let message = take_message(call)?;
    start(call, process, message, delay).map_err(|error| Failure::trap(error.text))
}

pub(super) async fn cancel_timer(call: &mut Call<'_>, id: TimerId) -> Result<i32, Failure> {
    let Ok(timer) = call.guest().handles().timers.remove(id.0) else {
        return Ok(0);
    };
    Ok(timer.cancel().into())
}

pub(super) async fn send_bytes_after(
    call: &mut Call<'_>,
    process: Pid,
    tag: i64,
    data: Bytes,
    sockets: Words,
    delay: Millis,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let result = match draft(call, tag, data, sockets) {
        Ok(draft) => match draft.copy(call).await {
            Ok(message) => start(call, process, message, delay),
            Err(reached) => Err(HostError::new(Errno::LimitReached, reached)),
        },
        Err(Failure::Errno(errno)) => Err(HostError::new(errno, TOO_LARGE)),
        Err(trap) => return Err(trap),
    };
    call.answer(out, result)
}

/// The size of a timer in host memory, excluding its message, in bytes. It covers the timer's task
/// and handle.
const TIMER: u64 = 1 << 10;

fn start(
    call: &mut Call<'_>,
    process: Pid,
    message: Message,
    delay: Millis,
) -> Result<u64, HostError> {
    let guest = call.guest();
    let environment = guest.environment().clone();
    let permit = |limit, amount| {
        environment
            .domain()
            .quota()
            .permit(limit, amount)
            .map_err(|reached| HostError::new(Errno::LimitReached, reached))
    };
    // Timers' messages take up memory, like mail, so their total size has the same limit.
    let permits = [
        permit(Limit::Timers, 1)?,
        permit(Limit::MailboxBytes, message.size() as u64)?,
        permit(Limit::TotalHostMemory, TIMER + message.size() as u64)?,
    ];
    let pending = timer::start(
        &environment,
        permits,
        process,
        message,
        Duration::from_millis(delay.0),
    );
    let timers = &mut guest.handles().timers;
    // Timers that have fired are no longer needed. Removing them from time to time keeps the size
    // of the table proportional to the number of pending timers.
    if timers.len().is_power_of_two() {
        timers.retain(|_, timer| !timer.is_over());
    }
    Ok(timers.insert(pending))
}
