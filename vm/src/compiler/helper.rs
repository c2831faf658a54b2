//! Compiles modules in a separate process, which can be stopped.
//!
//! The other process returns native code, which is trusted as much as code compiled in this
//! process. However, if a module makes the compiler crash or use too much memory or time, only that
//! process dies.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use super::worker;
use crate::cache::Compiled;
use crate::engine::Engine;
use async_channel::Receiver;
use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
use std::fmt;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The maximum size of a module's code, in bytes.
const MAX_CODE: u64 = 1 << 30;

/// The command that runs the compiler.
pub(super) struct Helper {
    command: Mutex<Command>,
}

/// Why compilation of a module was stopped. Trying again would have the same result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    #[error("compilation took too long")]
    Time,
    #[error("nothing is waiting for the code any more")]
    Abandoned,
    #[error(
        "compilation needs more than {memory} MiB of memory, or the compiler has a bug; its process ended with {0}",
        memory = worker::MAX_MEMORY >> 20
    )]
    Ended(ExitStatus),
    #[error("the compiler could not be started, or did not answer: {0}")]
    Unusable(#[from] io::Error),
}

/// A running compiler. Killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The process may already have exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Helper {
    pub(super) fn new(mut command: Command) -> Helper {
        command
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Helper {
            command: Mutex::new(command),
        }
    }

    /// Compiles a module or component for an engine. Blocks this thread until compilation is done,
    /// but kills the compiler when the time limit is reached or the caller's channel is closed.
    pub(super) fn compile<T: Compiled>(
        &self,
        engine: &Engine,
        wasm: &[u8],
        until: Instant,
        caller: Option<Receiver<()>>,
    ) -> wasmtime::Result<T> {
        let code = async { self.ask(engine.kind().index(), wasm).await };
        let time_is_over = async {
            Timer::at(until).await;
            Err(Stopped::Time)
        };
        let abandoned = async {
            match caller {
                // Nothing is ever sent through this channel.
                Some(caller) => drop(caller.recv().await),
                None => std::future::pending().await,
            }
            Err(Stopped::Abandoned)
        };
        let answer = futures_lite::future::block_on(code.or(time_is_over).or(abandoned))?;
        match worker::Answer::read(&answer) {
            // SAFETY: the code is what `serialize` returned in a process that runs the embedder's
            // compiler command, and no other process could write to that process's end of the pipe.
            Some(worker::Answer::Code(code)) => unsafe { T::deserialize(engine.wasmtime(), code) },
            Some(worker::Answer::Malformed(text)) => Err(wasmtime::Error::msg(text.to_owned())),
            None => unreachable!("`ask` checks that the answer is complete"),
        }
    }

    /// Runs the compiler until it has answered.
    async fn ask(&self, kind: usize, wasm: &[u8]) -> Result<Vec<u8>, Stopped> {
        let spawned = self
            .command
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .spawn();
        let mut running = Running(spawned?);
        let pipes = (running.0.stdin.take(), running.0.stdout.take());
        let (Some(input), Some(output)) = pipes else {
            unreachable!("`new` requests both pipes")
        };
        let mut input = Async::new(input)?;
        // If the compiler exits before it has read everything, that is reported below.
        let _ = async {
            input.write_all(&[kind as u8]).await?;
            input.write_all(wasm).await
        }
        .await;
        // The compiler reads until the pipe is closed.
        drop(input);
        let mut answer = Vec::new();
        let mut output = Async::new(output)?.take(MAX_CODE);
        output.read_to_end(&mut answer).await?;
        if worker::Answer::read(&answer).is_some() {
            return Ok(answer);
        }
        let _ = running.0.kill();
        Err(Stopped::Ended(running.0.wait()?))
    }
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper").finish_non_exhaustive()
    }
}
