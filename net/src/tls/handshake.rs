//! How a connection begins.

use super::stream::{TlsStream, Wire, send};
use crate::deadline::Deadline;
use crate::tcp::TcpStream;
use rustls::Connection;
use std::io::{self, ErrorKind};
use std::time::Duration;

/// How many bytes a connection holds that were written and are not with the kernel yet, about.
const BUFFERED: usize = 32 * 1024;

/// Goes through the handshake. The peer has `patience` for each of its flights, of which there are two or three: a
/// time for all of them would also count those in which nobody polls the future, and then fail peers that answered
/// long ago.
///
/// # Errors
///
/// `InvalidData` where what the peer sends or shows is not acceptable, which it is told; `UnexpectedEof` where it
/// leaves; `TimedOut`.
pub(super) async fn shake_hands(
    socket: TcpStream,
    mut connection: Connection,
    patience: Option<Duration>,
) -> io::Result<TlsStream> {
    connection.set_buffer_limit(Some(BUFFERED));
    let mut deadline = Deadline::after(patience);
    loop {
        while let Err(error) = send(&mut connection, &socket) {
            if error.kind() != ErrorKind::WouldBlock {
                return Err(error);
            }
            deadline
                .bound("no room for a TLS handshake", socket.writable())
                .await?;
        }
        if !connection.is_handshaking() {
            return Ok(TlsStream::new(socket, connection));
        }
        loop {
            match connection.read_tls(&mut Wire(&socket)) {
                Ok(0) => {
                    let left = "the peer left in the middle of the TLS handshake";
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
            // The peer is told why, if that is possible at once.
            let _ = send(&mut connection, &socket);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        if connection.wants_write() {
            // It has said all that it had to, and is answered.
            deadline = Deadline::after(patience);
        }
    }
}
