//! Programs of the machine, which are given a gateway's connections as messages.
//!
//! A version has one main process. It begins with the gateway, and again when somebody connects and it has ended, after a pause
//! that grows. Its connections are its own: nothing here sees their bytes. A version that is replaced gets no new ones, and its
//! processes are killed when the last of its connections is closed.

use crate::serving::Serving;
use crate::ticket::Ticket;
use crate::{Code, Failure, Version};
use futures_lite::FutureExt;
use lunatic_vm::{Module, Process, SendError};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The main process of a version that is a program, while there is one. Dropping it ends the program.
#[derive(Debug, Default)]
pub(crate) struct Program(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    process: Option<Process>,
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
    /// Returns the process, if it is alive. Begins it where it is not and may begin; otherwise says when it may.
    fn look(
        &self,
        version: &Version,
        module: &Module,
        now: Instant,
    ) -> Result<Result<Process, Instant>, Failure> {
        let mut state = self.state();
        if let Some(process) = &state.process {
            if process.is_alive() {
                return Ok(Ok(process.clone()));
            }
            state.process = None;
            state.ends.ended(now);
            // The others were its own.
            version
                .environment()
                .processes()
                .iter()
                .for_each(Process::kill);
        }
        if let Some(not_before) = state.ends.not_before.filter(|not_before| now < *not_before) {
            return Ok(Err(not_before));
        }
        let function = if module.function("_start").is_some() {
            "_start"
        } else {
            "main"
        };
        let process = version
            .environment()
            .spawn(module, function, &[])
            .map_err(Failure::of_spawn)?;
        state.ends.began(now);
        state.process = Some(process.clone());
        Ok(Ok(process))
    }

    /// Returns the process; where it has ended, waits until it may begin again.
    async fn process(&self, version: &Version, module: &Module) -> Result<Process, Failure> {
        loop {
            match self.look(version, module, Instant::now())? {
                Ok(process) => return Ok(process),
                Err(not_before) => tokio::time::sleep_until(not_before).await,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(process) = &self.state().process {
            process
                .environment()
                .processes()
                .iter()
                .for_each(Process::kill);
        }
    }
}

/// Has a program begin before anybody connects.
pub(super) fn begin(version: &Version) {
    let Code::Program(module) = version.code() else {
        return;
    };
    if let Err(failure) = version.program().look(version, module, Instant::now()) {
        log::warn!("`{}` did not begin: {failure}", version.name());
    }
}

/// Gives a program a connection, and waits until it is closed. Dropping the future closes it.
pub(crate) async fn hand_over(
    version: &Arc<Version>,
    module: &Module,
    stream: TcpStream,
    client: SocketAddr,
    life: Option<Duration>,
) {
    let ticket = Arc::new(Ticket::new(Some(client), false));
    let serving = Serving::begin(version, &ticket);
    match give(version, module, stream, life).await {
        Ok(()) => serving.answered(),
        Err(failure) => serving.failed(&failure),
    }
}

async fn give(
    version: &Version,
    module: &Module,
    stream: TcpStream,
    life: Option<Duration>,
) -> Result<(), Failure> {
    let process = version.program().process(version, module).await?;
    let overload = |error: std::io::Error| {
        Failure::Overload(format!("the connection cannot be handed over: {error}"))
    };
    let stream = stream.into_std().map_err(overload)?;
    let open = Open(stream.try_clone().map_err(overload)?);
    let (kept, closed) = oneshot::channel::<()>();
    process
        .send_stream(0, Process::STREAM, stream, kept)
        .map_err(refused)?;
    let is_closed = async {
        // Nothing is sent: it is dropped with the connection.
        let _ = closed.await;
        Ok(())
    };
    let has_lived = async { Err(lived(life).await) };
    let ended = is_closed.or(has_lived).await;
    drop(open);
    ended
}

/// A connection that somebody else serves. It is shut down when this is dropped.
struct Open(std::net::TcpStream);

impl Drop for Open {
    fn drop(&mut self) {
        // It may be closed already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Says what it means that a program was not given a connection.
fn refused(error: SendError) -> Failure {
    match error {
        SendError::NotGranted(..) => Failure::Unusable(format!(
            "{error}; let its settings name the namespaces `lunatic::message::` and `lunatic::networking::tcp_`"
        )),
        SendError::MailboxFull(..) | SendError::Limit(_) | SendError::Stream(_) => {
            Failure::Overload(error.to_string())
        }
        error => Failure::Unusable(error.to_string()),
    }
}

/// Waits until a connection has been open for as long as it may be.
pub(super) async fn lived(life: Option<Duration>) -> Failure {
    match life {
        Some(life) => {
            tokio::time::sleep(life).await;
            Failure::Life(life)
        }
        None => std::future::pending().await,
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
