//! Arguments, environment variables, clocks and random numbers.

use super::call::{Result, WasiCall};
use crate::environment::WasiTemplate;
use crate::environment::wasi::WasiErrno;
use crate::scheduler;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The maximum number of random bytes generated without yielding. Generating more would take longer
/// than a slice.
const MAX_RANDOM: usize = 1 << 20;

/// A sequence of zero-terminated strings, and their start positions.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Texts {
    fn push(&mut self, parts: &[&str]) {
        self.starts.push(self.bytes.len());
        for part in parts {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        self.bytes.push(0);
    }

    fn arguments(template: &WasiTemplate) -> Texts {
        let mut texts = Texts::default();
        for argument in template.arguments() {
            texts.push(&[argument]);
        }
        texts
    }

    fn variables(template: &WasiTemplate) -> Texts {
        let mut texts = Texts::default();
        for (name, value) in template.variables() {
            texts.push(&[name, "=", value]);
        }
        texts
    }

    /// Writes the addresses of the strings, and the strings themselves.
    fn give(&self, call: &mut WasiCall<'_>, list: u32, bytes: u32) -> Result {
        let room = call.range(bytes, self.bytes.len() as u32)?;
        let addresses = call.range(list, self.starts.len() as u32 * 4)?;
        call.put(room, &self.bytes);
        let starts = self.starts.iter();
        let list: Vec<u8> = starts
            .flat_map(|start| (bytes + *start as u32).to_le_bytes())
            .collect();
        call.put(addresses, &list);
        Ok(())
    }

    fn give_sizes(&self, call: &mut WasiCall<'_>, count: u32, size: u32) -> Result {
        let (count, size) = (call.range(count, 4)?, call.range(size, 4)?);
        call.put(count, &(self.starts.len() as u32).to_le_bytes());
        call.put(size, &(self.bytes.len() as u32).to_le_bytes());
        Ok(())
    }
}

pub(super) fn args_get(call: &mut WasiCall<'_>, list: u32, bytes: u32) -> Result {
    Texts::arguments(call.template()).give(call, list, bytes)
}

pub(super) fn args_sizes_get(call: &mut WasiCall<'_>, count: u32, size: u32) -> Result {
    Texts::arguments(call.template()).give_sizes(call, count, size)
}

pub(super) fn environ_get(call: &mut WasiCall<'_>, list: u32, bytes: u32) -> Result {
    Texts::variables(call.template()).give(call, list, bytes)
}

pub(super) fn environ_sizes_get(call: &mut WasiCall<'_>, count: u32, size: u32) -> Result {
    Texts::variables(call.template()).give_sizes(call, count, size)
}

/// The available clocks.
#[derive(Clone, Copy)]
pub(super) enum Clock {
    Real,
    Monotonic,
}

impl Clock {
    pub(super) fn of(number: u32) -> Result<Clock> {
        match number {
            0 => Ok(Clock::Real),
            1 => Ok(Clock::Monotonic),
            // The clocks for the CPU time of a process and of a thread.
            2 | 3 => Err(WasiErrno::Badf.into()),
            _ => Err(WasiErrno::Inval.into()),
        }
    }

    /// Returns the time in nanoseconds, since 1970 or since an arbitrary point in the past.
    pub(super) fn now(self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let time = match self {
            Clock::Real => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            Clock::Monotonic => START.elapsed(),
        };
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    }
}

pub(super) fn clock_res_get(call: &mut WasiCall<'_>, clock: u32, out: u32) -> Result {
    let out = call.range(out, 8)?;
    Clock::of(clock)?;
    call.put(out, &1_u64.to_le_bytes());
    Ok(())
}

pub(super) fn clock_time_get(
    call: &mut WasiCall<'_>,
    clock: u32,
    _precision: u64,
    out: u32,
) -> Result {
    let out = call.range(out, 8)?;
    let now = Clock::of(clock)?.now();
    call.put(out, &now.to_le_bytes());
    Ok(())
}

pub(super) fn proc_raise(_: &mut WasiCall<'_>, _signal: u32) -> Result {
    Err(WasiErrno::Notsup.into())
}

pub(super) async fn sched_yield(_: &mut WasiCall<'_>) -> Result {
    scheduler::spent().await;
    Ok(())
}

pub(super) async fn random_get(call: &mut WasiCall<'_>, address: u32, length: u32) -> Result {
    let all = call.range(address, length)?;
    for start in (0..all.len()).step_by(MAX_RANDOM) {
        if start > 0 {
            // Generating a chunk takes as long as a slice.
            scheduler::spent().await;
        }
        let piece = all.part(start, MAX_RANDOM);
        getrandom::fill(call.call.bytes_mut(piece)).map_err(|_| WasiErrno::Io)?;
    }
    Ok(())
}
