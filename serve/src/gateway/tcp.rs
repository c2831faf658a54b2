//! The TCP gateway, which serves each connection with its own process or hands all connections to a
//! program.
//!
//! The server listens, counts connections, and closes them when it stops. This module defines how a
//! function serves a connection.

mod conversation;
pub(super) mod hand_over;

use crate::in_flight::InFlight;
use crate::request_info::RequestInfo;
use crate::spark::connection;
use crate::{Code, Failure, Functions, Name, Spark, TcpGateway, Version};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How long a client may keep writing after the function has exited normally, and how many bytes it
/// may write. These bytes are read and discarded, because closing a connection with unread bytes
/// would reset it and lose what was sent last.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
const DRAIN_BYTES: u64 = 1 << 20;

/// Starts a function if it is a program, because programs run before any client connects.
pub(crate) fn begin(functions: &Functions, function: &Name) {
    if let Some(function) = functions.get(function.as_str()) {
        hand_over::begin(&function.version());
    }
}

/// Returns the reason why a function cannot be given connections, if there is one.
pub(crate) fn objection(code: &Code) -> Option<&'static str> {
    match code {
        Code::Spark(_) | Code::Program(_) => None,
        Code::Component(_) => Some(
            "it is a component, which answers HTTP requests: it needs a gateway of type `http`",
        ),
    }
}

/// Serves a connection until it ends. Dropping the future ends both the connection and the process
/// serving it.
pub(crate) async fn serve(
    functions: &Functions,
    gateway: &TcpGateway,
    stream: TcpStream,
    client: SocketAddr,
) {
    let Some(function) = functions.get(gateway.function.as_str()) else {
        log::warn!(
            "a connection from {client} is closed: the function `{}` no longer exists",
            gateway.function
        );
        return;
    };
    let version = function.version();
    match version.code() {
        Code::Spark(spark) => converse(functions, &version, spark, gateway, stream, client).await,
        Code::Program(module) => {
            hand_over::hand_over(&version, module, stream, client, gateway.life).await
        }
        code => {
            let objection = objection(code).unwrap_or_default();
            log::warn!(
                "a connection from {client} is closed: `{}` cannot serve it: {objection}",
                gateway.function
            );
        }
    }
}

/// Serves a connection with its own process.
async fn converse(
    functions: &Functions,
    version: &Arc<Version>,
    spark: &Spark,
    gateway: &TcpGateway,
    mut stream: TcpStream,
    client: SocketAddr,
) {
    let info = Arc::new(RequestInfo::new(Some(client), false));
    let in_flight = InFlight::begin(version, &info);
    let result = match connection::connect(functions, version, spark, &info) {
        Ok(connection) => {
            conversation::run(&connection, &mut stream, gateway.idle, gateway.life).await
        }
        Err(failure) => Err(failure),
    };
    match result {
        Ok(()) => {
            in_flight.answered();
            drain(&mut stream).await;
        }
        Err(failure) => {
            // Reset the connection, so that the client does not mistake its end for the end of a
            // complete response.
            let _ = stream.set_zero_linger();
            match failure {
                Failure::Gone => drop(in_flight),
                failure => in_flight.failed(&failure),
            }
        }
    }
}

/// Reads and discards whatever a client is still writing, for a limited time.
async fn drain(stream: &mut TcpStream) {
    let mut rest = stream.take(DRAIN_BYTES);
    let _ = tokio::time::timeout(
        DRAIN_TIMEOUT,
        tokio::io::copy(&mut rest, &mut tokio::io::sink()),
    )
    .await;
}
