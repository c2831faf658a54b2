//! Passes bytes between a client and the process serving its connection.
//!
//! Each direction ends independently. A client that has closed its sending side still receives what
//! the function writes, and a function that has finished writing can still read. If one side is
//! slow, the other waits once the comm and the system's buffers are full. Idle connections are
//! closed. If the client disconnects, its process is terminated.

use super::hand_over::lifetime;
use crate::Failure;
use crate::spark::connection::Connection;
use futures_lite::FutureExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::Instant;

/// The maximum number of bytes per read, in each direction.
const PIECE: usize = 8 << 10;

/// Passes bytes in both directions until the process has exited normally and everything it wrote
/// has been sent.
///
/// # Errors
///
/// [`Failure::Gone`] if the client has disconnected. Otherwise, the error says how the process or
/// the connection ended.
pub(super) async fn run(
    connection: &Connection,
    stream: &mut TcpStream,
    idle: Duration,
    life: Option<Duration>,
) -> Result<(), Failure> {
    let last = LastActivity::now();
    let (mut from_client, mut to_client) = stream.split();
    tokio::select! {
        biased;
        ended = send(connection, &mut to_client, &last) => ended,
        failure = receive(connection, &mut from_client, &last) => Err(failure),
        failure = expired(&last, idle, life) => Err(failure),
    }
}

/// Passes on the bytes that the client writes. Returns when the client has disconnected, but not
/// when it has merely closed its sending side.
async fn receive(
    connection: &Connection,
    from_client: &mut ReadHalf<'_>,
    last: &LastActivity,
) -> Failure {
    let mut piece = vec![0; PIECE];
    loop {
        let count = match from_client.read(&mut piece).await {
            Ok(0) => break,
            Ok(count) => count,
            Err(_) => return Failure::Gone,
        };
        last.note();
        let written = async { Some(connection.write_all(&piece[..count]).await) };
        let is_reset = async {
            reset(from_client).await;
            None
        };
        match written.or(is_reset).await {
            Some(Ok(())) => {}
            // The process has stopped reading, so nothing more is read from the client.
            Some(Err(_)) => break,
            None => return Failure::Gone,
        }
    }
    drop(piece);
    connection.finish();
    reset(from_client).await;
    Failure::Gone
}

/// Waits until the client is known to have disconnected because it has reset the connection.
async fn reset(from_client: &ReadHalf<'_>) {
    // If the system cannot detect the reset, a read or a write will.
    if from_client.ready(Interest::ERROR).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Passes on the bytes that the process writes, and waits for the process to exit.
async fn send(
    connection: &Connection,
    to_client: &mut WriteHalf<'_>,
    last: &LastActivity,
) -> Result<(), Failure> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = connection.read(&mut piece).await?;
        if count == 0 {
            break;
        }
        let mut rest = &piece[..count];
        while !rest.is_empty() {
            let written = to_client.write(rest).await.map_err(|_| Failure::Gone)?;
            last.note();
            rest = &rest[written..];
        }
    }
    drop(piece);
    to_client.shutdown().await.map_err(|_| Failure::Gone)?;
    match connection.process().exited().await {
        exit if exit.is_normal() => Ok(()),
        exit => Err(Failure::of_exit(exit)),
    }
}

/// When a byte was last passed on.
struct LastActivity(Mutex<Instant>);

impl LastActivity {
    fn now() -> LastActivity {
        LastActivity(Mutex::new(Instant::now()))
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the connection has been idle for too long or reaches its maximum lifetime.
async fn expired(last: &LastActivity, idle: Duration, life: Option<Duration>) -> Failure {
    let is_idle = async {
        // A time that the clock cannot represent is never reached.
        while let Some(end) = last.get().checked_add(idle) {
            if end <= Instant::now() {
                return Failure::Idle(idle);
            }
            tokio::time::sleep_until(end).await;
        }
        std::future::pending().await
    };
    is_idle.or(lifetime(life)).await
}
