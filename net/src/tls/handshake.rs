//! The handshake at the beginning of a connection.

use super::wire::{Wire, send};
use crate::deadline::Deadline;
use crate::tcp::TcpStream;
use rustls::Connection;
use std::io::{self, ErrorKind};
use std::time::Duration;

/// The approximate number of bytes that a connection buffers until the kernel accepts them.
const SEND_BUFFER_LIMIT: usize = 32 * 1024;

/// Performs the handshake. The peer has `flight_timeout` for each of its flights, of which there
/// are two or three. A single timeout for the whole handshake would also cover periods in which the
/// future is not polled, so a peer that answered long ago could time out.
///
/// # Errors
///
/// `InvalidData` if the peer sends or presents something unacceptable, in which case the peer is
/// told the reason; `UnexpectedEof` if the peer closes the connection; `TimedOut`.
pub(super) async fn shake_hands(
    socket: &TcpStream,
    mut connection: Connection,
    flight_timeout: Option<Duration>,
) -> io::Result<Connection> {
    connection.set_buffer_limit(Some(SEND_BUFFER_LIMIT));
    let mut deadline = Deadline::after(flight_timeout);
    loop {
        while let Err(error) = send(&mut connection, socket) {
            if error.kind() != ErrorKind::WouldBlock {
                return Err(error);
            }
            deadline
                .bound("no room for a TLS handshake", socket.writable())
                .await?;
        }
        if !connection.is_handshaking() {
            return Ok(connection);
        }
        loop {
            match connection.read_tls(&mut Wire(socket)) {
                Ok(0) => {
                    let left = "the peer closed the connection during the TLS handshake";
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, left));
                }
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    deadline
                        .bound("no TLS handshake", socket.readable())
                        .await?;
                }
                Err(error) => return Err(error),
            }
        }
        let processed;
        (connection, processed) = blocking::unblock(move || {
            let processed = connection.process_new_packets().map(drop);
            (connection, processed)
        })
        .await;
        if let Err(error) = processed {
            // Tell the peer the reason, if that is possible without waiting.
            let _ = send(&mut connection, socket);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        if connection.wants_write() {
            // The peer's flight is complete, and the reply is sent next.
            deadline = Deadline::after(flight_timeout);
        }
    }
}
