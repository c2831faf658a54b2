//! The main process of a program that gets a gateway's connections.
//!
//! The process starts with the gateway. If it has exited, it is restarted when a client connects,
//! after increasing delays. The program owns its connections, so their bytes are not visible here.
//! Once a version has been replaced, it gets no new connections, and its processes are killed when
//! its last connection is closed.

use crate::Failure;
use lunatic_vm::restart::{Backoff, Streak};
use lunatic_vm::{Environment, Module, Process};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The main process of a version that is a program, while that process is running. Dropping this
/// ends the program.
#[derive(Debug, Default)]
pub(crate) struct Program(Mutex<State>);

/// The delays before restarts. After the first exit, the process is restarted immediately; after
/// that, the delays increase.
const BACKOFF: Backoff = Backoff {
    immediate: 1,
    first: Duration::from_millis(10),
    most: Duration::from_secs(5),
};

/// After the process has run for this long, the delays start over.
const LONG_RUN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    process: Option<(Process, Environment)>,
    begun: Option<Instant>,
    streak: Streak,
    /// When the next process may start.
    not_before: Option<Instant>,
}

impl State {
    fn began(&mut self, now: Instant) {
        self.begun = Some(now);
    }

    fn ended(&mut self, now: Instant) {
        let ran_for_long = self
            .begun
            .take()
            .is_none_or(|begun| now.saturating_duration_since(begun) >= LONG_RUN);
        let delay = self.streak.on_failure(ran_for_long, &BACKOFF);
        self.not_before = now.checked_add(delay);
    }
}

impl Program {
    /// Starts the process if it is not alive.
    pub(crate) fn begin(&self, environment: &Environment, module: &Module) -> Result<(), Failure> {
        self.try_begin(environment, module, Instant::now())
            .map(drop)
    }

    /// Returns the process. If it has exited, waits until it may be restarted.
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

    /// Returns the process, starting it if it is not alive. If it may not be started yet, returns
    /// the time when it may be.
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
            state.ended(now);
            // Kill the processes that it spawned, too.
            environment.processes().iter().for_each(Process::kill);
        }
        if let Some(not_before) = state.not_before.filter(|not_before| now < *not_before) {
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
        state.began(now);
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
    fn delays_grow_up_to_the_maximum_and_are_reset_after_a_long_run() {
        let (start, mut state) = (Instant::now(), State::default());
        let mut delay = |begun: u64, ended: u64| {
            let (begun, ended) = (
                start + Duration::from_secs(begun),
                start + Duration::from_secs(ended),
            );
            state.began(begun);
            state.ended(ended);
            state.not_before.map(|next| next - ended)
        };
        assert_eq!(delay(0, 1), Some(Duration::ZERO));
        assert_eq!(delay(1, 1), Some(BACKOFF.first));
        assert_eq!(delay(2, 2), Some(2 * BACKOFF.first));
        for _ in 0..20 {
            delay(3, 3);
        }
        assert_eq!(delay(4, 4), Some(BACKOFF.most));
        assert_eq!(delay(5, 65), Some(Duration::ZERO));
    }
}
