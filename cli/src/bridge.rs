//! `lunatic bridge`: lets another program call a module's functions through two pipes.
//!
//! A frame is a four-byte big-endian length followed by that many bytes, which is the format of an
//! Erlang port with `{packet, 4}`. Calls run concurrently, one per instance, and are answered in
//! the order in which they finish, so each reply carries the id of its request.

mod frames;

use crate::background;
use crate::call::{builder, not_loaded};
use crate::command_line;
use crate::failure::{Failure, Outcome};
use crate::stdout;
use async_lock::Semaphore;
use frames::{Broken, Request, next};
use futures_lite::future::block_on;
use lunatic_bridge::{Answer, Argument, CallError, Worker, WorkerError};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The maximum number of requests in progress. Further requests are not read until one of these has
/// been answered.
const MAX_REQUESTS: usize = 1024;

/// A reply.
#[derive(Serialize)]
#[serde(untagged)]
enum Reply {
    Value {
        id: Value,
        ok: Box<RawValue>,
    },
    /// The next frame is the result.
    Bytes {
        id: Value,
        bytes: usize,
    },
    Error {
        id: Value,
        error: Described,
    },
}

#[derive(Serialize)]
struct Described {
    kind: &'static str,
    message: String,
}

/// Serves requests until standard input ends.
pub(crate) fn bridge(bridge: &command_line::Bridge) -> Outcome {
    crate::log_lines::start(0);
    let builder = builder(&bridge.bounds)?.instances(bridge.instances.get());
    let worker = Worker::builder()
        .bridge(builder)
        .start(&bridge.file)
        .map_err(|error| not_loaded(&bridge.file, &error))?;
    let permits = Arc::new(Semaphore::new(MAX_REQUESTS));
    let out = Arc::new(Mutex::new(io::stdout()));
    // The error from writing the first reply that was lost.
    let lost = Arc::new(Mutex::new(None));
    let mut input = io::stdin().lock();
    loop {
        let (id, called) = match next(&mut input) {
            Ok(Some((request, argument))) => {
                let Request {
                    id,
                    function,
                    timeout,
                    ..
                } = request;
                (
                    id,
                    Ok((function, argument, timeout.map(Duration::from_millis))),
                )
            }
            Ok(None) => break,
            Err(Broken::Request(id, message)) => (id, Err(message)),
            Err(Broken::Frame(error)) => {
                return Err(Failure::new(format!("cannot read requests: {error}")));
            }
        };
        // A caller that sends requests faster than they are served blocks on its pipe.
        let permit = block_on(permits.acquire_arc());
        let (worker, out, lost) = (worker.clone(), out.clone(), lost.clone());
        background::spawn(async move {
            let result = match called {
                Ok((function, argument, time)) => serve(&worker, &function, argument, time).await,
                Err(message) => Err(Described {
                    kind: "request",
                    message,
                }),
            };
            if let Err(error) = reply(&out, id, result) {
                // The caller has exited, so standard input is about to end too.
                log::debug!("a reply was not written: {error}");
                let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
                lost.get_or_insert(error);
            }
            drop(permit);
        });
    }
    // Wait until every request has been answered.
    for _ in 0..MAX_REQUESTS {
        std::mem::forget(block_on(permits.acquire_arc()));
    }
    worker.flush_output();
    let lost = lost.lock().unwrap_or_else(PoisonError::into_inner).take();
    stdout::check(lost.map_or(Ok(()), Err))?;
    Ok(0)
}

async fn serve(
    worker: &Worker,
    function: &str,
    argument: Argument,
    time: Option<Duration>,
) -> Result<Answer, Described> {
    let answer = match time {
        None => worker.invoke_async(function, argument).await,
        Some(time) => worker.invoke_within(time, function, argument).await,
    };
    answer.map_err(|error| {
        let kind = match &error {
            WorkerError::Stopped(_) => "stopped",
            WorkerError::Call(error) => match error {
                CallError::Failed(_) => "failed",
                CallError::Ended(_) => "ended",
                CallError::TimedOut(_) => "timeout",
                CallError::Function(_) => "function",
                CallError::TooLarge { .. } => "too_large",
                CallError::Answer(_) => "answer",
                CallError::Busy(_) => "busy",
                _ => "instance",
            },
            _ => "other",
        };
        Described {
            kind,
            message: error.to_string(),
        }
    })
}

/// Writes a reply and, if there is one, the frame that follows it.
fn reply(out: &Mutex<io::Stdout>, id: Value, result: Result<Answer, Described>) -> io::Result<()> {
    let (reply, attached) = match result {
        Ok(Answer::Bytes(bytes)) => (
            Reply::Bytes {
                id,
                bytes: bytes.len(),
            },
            Some(bytes),
        ),
        Ok(Answer::Json(json)) => match serde_json::from_slice(&json) {
            Ok(ok) => (Reply::Value { id, ok }, None),
            Err(error) => {
                let message = CallError::Answer(error.to_string()).to_string();
                (
                    Reply::Error {
                        id,
                        error: Described {
                            kind: "answer",
                            message,
                        },
                    },
                    None,
                )
            }
        },
        Err(error) => (Reply::Error { id, error }, None),
    };
    let frame = serde_json::to_vec(&reply).expect("strings and JSON values can be serialized");
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    let mut write = |bytes: &[u8]| {
        let length =
            u32::try_from(bytes.len()).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
        out.write_all(&length.to_be_bytes())?;
        out.write_all(bytes)
    };
    write(&frame)?;
    if let Some(bytes) = attached {
        write(&bytes)?;
    }
    out.flush()
}
