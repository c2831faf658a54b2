//! The TCP gateway.

use crate::server::Stop;
use crate::{Functions, TcpGateway};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Serves a connection until its end.
pub(crate) async fn serve(
    _functions: &Functions,
    gateway: &TcpGateway,
    _stream: TcpStream,
    client: SocketAddr,
    _stop: Stop,
) {
    log::warn!("a connection of {client} is closed: `{}` takes no connections", gateway.function);
}
