//! Hands connections, as messages, to a program in the machine.

use crate::in_flight::InFlight;
use crate::request_info::RequestInfo;
use crate::{Code, Failure, Version};
use futures_lite::FutureExt;
use lunatic_vm::{Module, Process, SendError};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Starts a version's process before any client connects, if the version is a program.
pub(crate) fn begin(version: &Version) {
    let Code::Program(module) = version.code() else {
        return;
    };
    if let Err(failure) = version.program().begin(version.environment(), module) {
        log::warn!("`{}` did not start: {failure}", version.name());
    }
}

/// Gives a connection to a program and waits until it is closed. Dropping the future closes the
/// connection.
pub(crate) async fn hand_over(
    version: &Arc<Version>,
    module: &Module,
    stream: TcpStream,
    client: SocketAddr,
    life: Option<Duration>,
) {
    let info = Arc::new(RequestInfo::new(Some(client), false));
    let in_flight = InFlight::begin(version, &info);
    match give(version, module, stream, life).await {
        Ok(()) => in_flight.answered(),
        Err(failure) => in_flight.failed(&failure),
    }
}

async fn give(
    version: &Version,
    module: &Module,
    stream: TcpStream,
    life: Option<Duration>,
) -> Result<(), Failure> {
    let process = version
        .program()
        .process(version.environment(), module)
        .await?;
    let overload = |error: std::io::Error| {
        Failure::Overload(format!("the connection cannot be handed over: {error}"))
    };
    let stream = stream.into_std().map_err(overload)?;
    let connection = ShutDownOnDrop(stream.try_clone().map_err(overload)?);
    let (kept, closed) = oneshot::channel::<()>();
    process
        .send_stream(0, Process::STREAM, stream, kept)
        .map_err(refused)?;
    let is_closed = async {
        // Nothing is ever sent through this channel. Its sender is dropped with the connection.
        let _ = closed.await;
        Ok(())
    };
    let is_over = async { Err(lifetime(life).await) };
    let ended = is_closed.or(is_over).await;
    drop(connection);
    ended
}

/// A connection served by the program. It is shut down on drop.
struct ShutDownOnDrop(std::net::TcpStream);

impl Drop for ShutDownOnDrop {
    fn drop(&mut self) {
        // The connection may already be closed.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Returns the failure of a connection that could not be given to a program.
fn refused(error: SendError) -> Failure {
    match error {
        SendError::NotGranted(..) => Failure::Unusable(format!(
            "{error}; add the namespaces `lunatic::message::` and `lunatic::networking::tcp_` to its settings"
        )),
        SendError::MailboxFull(..) | SendError::Limit(_) | SendError::Stream(_) => {
            Failure::Overload(error.to_string())
        }
        error => Failure::Unusable(error.to_string()),
    }
}

/// Waits until a connection reaches its maximum lifetime.
pub(super) async fn lifetime(life: Option<Duration>) -> Failure {
    match life {
        Some(life) => {
            tokio::time::sleep(life).await;
            Failure::Life(life)
        }
        None => std::future::pending().await,
    }
}
