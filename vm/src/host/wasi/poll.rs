//! Waits for clocks, input and output.

use super::call::{Preview, Result, WasiCall};
use super::program::Clock;
use crate::environment::wasi::table::Descriptor;
use crate::environment::wasi::{Inlet, WasiErrno};
use crate::guest::call::Range;
use crate::pipe::poll_once;
use crate::scheduler;
use crate::timer;
use futures_lite::future;
use std::time::Duration;

/// The maximum number of subscriptions in a call.
const MAX_SUBSCRIPTIONS: u32 = 4096;

/// The size of an event, in bytes.
const EVENT: u32 = 32;

/// The kinds of subscriptions and events.
const CLOCK: u8 = 0;
const READ: u8 = 1;
const WRITE: u8 = 2;

/// What a guest waits for.
struct Subscription {
    /// A number chosen by the guest to identify the subscription.
    name: u64,
    kind: u8,
    what: What,
}

enum What {
    /// A point in time on the monotonic clock.
    Time(u64),
    Input(Inlet),
    /// A file, which is always ready, or an output stream.
    Ready {
        is_at_end: bool,
    },
}

pub(super) async fn poll_oneoff(
    call: &mut WasiCall<'_>,
    subscriptions: u32,
    events: u32,
    count: u32,
    out: u32,
) -> Result {
    let out = call.range(out, 4)?;
    if !(1..=MAX_SUBSCRIPTIONS).contains(&count) {
        return Err(WasiErrno::Inval.into());
    }
    let size = match call.preview {
        Preview::Zero => 56,
        Preview::One => 48,
    };
    let all = call.range(subscriptions, count * size)?;
    let events = call.range(events, count * EVENT)?;
    let subscriptions: Vec<Subscription> = (0..count)
        .map(|number| {
            let range = all.part((number * size) as usize, size as usize);
            subscription(call, range)
        })
        .collect::<Result<_>>()?;
    let happened = wait(&subscriptions).await;
    for (number, event) in happened.iter().enumerate() {
        let range = events.part(number * EVENT as usize, EVENT as usize);
        call.put(range, event);
    }
    call.put(out, &(happened.len() as u32).to_le_bytes());
    Ok(())
}

/// Waits until at least one event has occurred, and returns the events.
async fn wait(subscriptions: &[Subscription]) -> Vec<[u8; EVENT as usize]> {
    let input = subscriptions.iter().find_map(|other| match &other.what {
        What::Input(inlet) => Some(inlet),
        _ => None,
    });
    let is_readable = input.is_some_and(|inlet| poll_once(inlet.readable()).is_some());
    let mut happened = events(subscriptions, is_readable);
    if !happened.is_empty() {
        // If this process polls in a loop, this lets other processes run in between.
        scheduler::spent().await;
        return happened;
    }
    let first = subscriptions.iter().filter_map(|other| match other.what {
        What::Time(time) => Some(time),
        _ => None,
    });
    let first = first.min();
    while happened.is_empty() {
        let clock = async {
            let Some(time) = first else {
                return future::pending().await;
            };
            let left = time.saturating_sub(Clock::Monotonic.now());
            timer::after(Duration::from_nanos(left)).await;
            false
        };
        let readable = async {
            let Some(inlet) = input else {
                return future::pending().await;
            };
            // A process has only one input stream.
            inlet.readable().await;
            true
        };
        let is_readable = future::or(readable, clock).await;
        happened = events(subscriptions, is_readable);
    }
    happened
}

/// Returns the events for the subscriptions whose conditions are met.
fn events(subscriptions: &[Subscription], is_readable: bool) -> Vec<[u8; EVENT as usize]> {
    let now = Clock::Monotonic.now();
    let events = subscriptions.iter().filter_map(|subscription| {
        let is_at_end = match subscription.what {
            What::Time(time) if time <= now => false,
            What::Ready { is_at_end } => is_at_end,
            What::Input(_) if is_readable => false,
            What::Time(_) | What::Input(_) => return None,
        };
        Some(event(subscription, is_at_end))
    });
    events.collect()
}

fn event(subscription: &Subscription, is_at_end: bool) -> [u8; EVENT as usize] {
    let mut bytes = [0; EVENT as usize];
    bytes[..8].copy_from_slice(&subscription.name.to_le_bytes());
    bytes[10] = subscription.kind;
    if subscription.kind != CLOCK {
        // At least one byte can be read or written; the exact number is unknown.
        bytes[16] = 1;
        bytes[24] = u8::from(is_at_end);
    }
    bytes
}

/// Reads a subscription.
fn subscription(call: &mut WasiCall<'_>, range: Range) -> Result<Subscription> {
    let preview = call.preview;
    let bytes = call.call.bytes(range);
    let word = |at: usize| {
        let bytes = bytes[at..at + 8].try_into().expect("the range has 8 bytes");
        u64::from_le_bytes(bytes)
    };
    let (name, kind) = (word(0), bytes[8]);
    let what = match kind {
        CLOCK => {
            // Preview 0 has a second, unused identifier here.
            let at = match preview {
                Preview::Zero => 24,
                Preview::One => 16,
            };
            let (clock, time, flags) = (word(at) as u32, word(at + 8), word(at + 24) as u16);
            What::Time(deadline(clock, time, flags)?)
        }
        READ | WRITE => {
            let fd = word(16) as u32;
            ready(call, fd, kind)?
        }
        _ => return Err(WasiErrno::Inval.into()),
    };
    Ok(Subscription { name, kind, what })
}

/// Converts a guest's deadline, on either clock, to a point in time on the monotonic clock.
fn deadline(clock: u32, time: u64, flags: u16) -> Result<u64> {
    let clock = match clock {
        0 | 1 => Clock::of(clock)?,
        _ => return Err(WasiErrno::Inval.into()),
    };
    let is_absolute = match flags {
        0 => false,
        1 => true,
        _ => return Err(WasiErrno::Inval.into()),
    };
    let left = if is_absolute {
        time.saturating_sub(clock.now())
    } else {
        time
    };
    Ok(Clock::Monotonic.now().saturating_add(left))
}

/// Returns what to wait for before a descriptor can be read or written.
fn ready(call: &mut WasiCall<'_>, fd: u32, kind: u8) -> Result<What> {
    match (call.table().get(fd)?, kind) {
        (Descriptor::Input(inlet), READ) => Ok(What::Input(inlet.clone())),
        (Descriptor::Output(_), WRITE) => Ok(What::Ready { is_at_end: false }),
        (Descriptor::File(file), READ) if file.is_regular => {
            let size = rustix::fs::fstat(&*file.file)?.st_size as u64;
            Ok(What::Ready {
                is_at_end: size <= file.position,
            })
        }
        (Descriptor::File(_), _) => Ok(What::Ready { is_at_end: false }),
        _ => Err(WasiErrno::Badf.into()),
    }
}
