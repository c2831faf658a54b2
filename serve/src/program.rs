//! The main process of a program of the machine, which a gateway gives its connections to.
//!
//! It begins with the gateway. If it has ended, it begins again when somebody connects, after a delay that grows. Its
//! connections are its own: nothing here sees their bytes. A version that was replaced gets no new ones, and its processes are
//! killed when the last of its connections is closed.

use crate::failure::Failure;
use lunatic_vm::{Environment, Module, Process};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The main process of a version that is a program, while it runs. Dropping this ends the program.
#[derive(Debug, Default)]
pub(crate) struct Program(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    process: Option<(Process, Environment)>,
    ends: Ends,
}

/// How often the process has ended of late: plain data, without a clock.
#[derive(Debug, Default)]
struct Ends {
    begun: Option<Instant>,
    pause: Duration,
    /// When the next one may begin.
    not_before: Option<Instant>,
}

/// How long is waited after the second end, how long at most, and after how long a life an end is like the first.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LONG_LIFE: Duration = Duration::from_secs(60);

impl Ends {
    /// Takes note of a beginning.
    fn began(&mut self, now: Instant) {
        self.begun = Some(now);
    }

    /// Takes note of an end, and of when the next beginning may be: at once after the first.
    fn ended(&mut self, now: Instant) {
        let was_long = self
            .begun
            .take()
            .is_none_or(|begun| now.saturating_duration_since(begun) >= LONG_LIFE);
        if was_long {
            self.pause = Duration::ZERO;
        }
        self.not_before = now.checked_add(self.pause);
        self.pause = (self.pause * 2).clamp(PAUSE, LONGEST_PAUSE);
    }
}

impl Program {
    /// Begins the process, if it is not alive.
    pub(crate) fn begin(&self, environment: &Environment, module: &Module) -> Result<(), Failure> {
        self.try_begin(environment, module, Instant::now())
            .map(drop)
    }

    /// Returns the process. If it has ended, waits until it may begin again.
    pub(crate) async fn process(
        &self,
        environment: &Environment,
        module: &Module,
    ) -> Result<Process, Failure> {
        loop {
            match self.try_begin(environment, module, Instant::now())? {
                Ok(process) => return Ok(process),
                Err(not_before) => tokio::time::sleep_until(not_before).await,
            }
        }
    }

    /// Returns the process, which is begun if it is not alive, or else when that may be done.
    fn try_begin(
        &self,
        environment: &Environment,
        module: &Module,
        now: Instant,
    ) -> Result<Result<Process, Instant>, Failure> {
        let mut state = self.state();
        if let Some((process, _)) = &state.process {
            if process.is_alive() {
                return Ok(Ok(process.clone()));
            }
            state.process = None;
            state.ends.ended(now);
            // The processes that it spawned end with it.
            environment.processes().iter().for_each(Process::kill);
        }
        if let Some(not_before) = state.ends.not_before.filter(|not_before| now < *not_before) {
            return Ok(Err(not_before));
        }
        let function = if module.function("_start").is_some() {
            "_start"
        } else {
            "main"
        };
        let process = environment
            .spawn(module, function, &[])
            .map_err(Failure::of_spawn)?;
        state.ends.began(now);
        state.process = Some((process.clone(), environment.clone()));
        Ok(Ok(process))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some((_, environment)) = &self.state().process {
            environment.processes().iter().for_each(Process::kill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_a_long_life_forgets_them() {
        let (start, mut ends) = (Instant::now(), Ends::default());
        let mut end = |begun: u64, ended: u64| {
            let (begun, ended) = (
                start + Duration::from_secs(begun),
                start + Duration::from_secs(ended),
            );
            ends.began(begun);
            ends.ended(ended);
            ends.not_before.map(|next| next - ended)
        };
        assert_eq!(end(0, 1), Some(Duration::ZERO));
        assert_eq!(end(1, 1), Some(PAUSE));
        assert_eq!(end(2, 2), Some(2 * PAUSE));
        for _ in 0..20 {
            end(3, 3);
        }
        assert_eq!(end(4, 4), Some(LONGEST_PAUSE));
        assert_eq!(end(5, 65), Some(Duration::ZERO));
    }
}
