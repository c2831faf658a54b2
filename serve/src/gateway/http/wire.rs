//! A connection's bytes, in plaintext or over TLS, on their way to hyper and back.

use super::connection::Connection;
use super::framing::{Framing, FramingError};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

/// How many bytes a client may still send while it reads the last response. These bytes are read
/// and discarded.
const MAX_UNREAD: usize = 256 << 10;

/// A client's stream, in plaintext or over TLS.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A stream whose bytes are checked before hyper sees them.
pub(super) struct Wire {
    stream: Stream,
    /// Bytes that have already been read to detect the protocol.
    ahead: Vec<u8>,
    connection: Arc<Connection>,
    /// Set for HTTP/1.
    framing: Option<Framing>,
    error: Option<FramingError>,
    /// Set once hyper has been given the error.
    is_error_told: bool,
    /// Set if the client has closed its sending side after a whole request, or before the first.
    is_half_closed: bool,
    /// Set for HTTP/1 while the bytes that hyper was given are whole requests.
    is_between: bool,
}

impl Wire {
    pub(super) fn new(
        stream: Stream,
        ahead: Vec<u8>,
        connection: &Arc<Connection>,
        framing: Option<Framing>,
    ) -> Wire {
        Wire {
            stream,
            ahead,
            connection: connection.clone(),
            is_between: framing.is_some(),
            framing,
            error: None,
            is_error_told: false,
            is_half_closed: false,
        }
    }

    /// Returns the framing error that stopped reading, if there was one.
    pub(super) fn error(&self) -> Option<FramingError> {
        self.error
    }

    /// Sends the last bytes and closes the connection. If the client may have sent bytes that have
    /// not been read, it is given a little time to read the last bytes, because closing a
    /// connection with unread bytes resets it and loses what was sent last.
    pub(super) async fn close(mut self, last: &[u8], is_unread: bool) {
        if self.stream.write_all(last).await.is_err()
            || self.stream.shutdown().await.is_err()
            || !is_unread
        {
            return;
        }
        let mut unread = 0;
        let mut piece = [0; 4096];
        while unread < MAX_UNREAD {
            match self.stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(count) => unread += count,
            }
        }
    }

    /// Records that bytes were sent. If the client has disconnected, it refuses these bytes, and
    /// the next write fails.
    fn wrote(&self, written: &io::Result<usize>) {
        if self.is_half_closed && written.is_ok() {
            self.connection.sent_after_half_close();
        }
    }

    /// Stops reading. Does not disturb a request that is being answered, unless the error is in its
    /// body.
    fn end(&mut self) -> Poll<io::Result<()>> {
        match self.error {
            Some(FramingError {
                is_in_body: true,
                why,
                ..
            }) => {
                // hyper reports the first error to the body's reader, or skips the body if nothing
                // reads it. It would take a second one for the failure of the connection, and would
                // not send the response.
                if std::mem::replace(&mut self.is_error_told, true) {
                    return Poll::Pending;
                }
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)))
            }
            // hyper would mistake the end of the stream for a disconnect, and discard whatever it
            // has not sent yet. Reading stays pending, and the task that drives the connection has
            // hyper finish as soon as nothing is being answered, so no waker is needed.
            _ if self.is_between => {
                self.connection.requests_ended();
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Checks the bytes that have been read, and removes those that must not be passed on.
    fn check(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> Poll<io::Result<()>> {
        let Some(framing) = &mut self.framing else {
            return Poll::Ready(Ok(()));
        };
        let checked = framing.read(&buffer.filled()[before..]);
        // A head with an error is not waited for.
        self.connection
            .reads_head(checked.is_ok() && framing.is_in_head());
        let Err((passable, error)) = checked else {
            self.is_between = framing.is_between_requests();
            return Poll::Ready(Ok(()));
        };
        self.error = Some(error);
        // The passable bytes end where a request ends, unless the error is in its body.
        self.is_between |= passable > 0;
        buffer.set_filled(before + passable);
        if passable > 0 {
            Poll::Ready(Ok(()))
        } else {
            self.end()
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.error.is_some() || self.connection.is_late() || self.is_half_closed {
            return self.end();
        }
        let before = buffer.filled().len();
        if self.ahead.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        } else {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..count]);
            self.ahead.drain(..count);
        }
        let has_ended = buffer.filled().len() == before && buffer.remaining() > 0;
        if has_ended && self.is_between {
            self.is_half_closed = true;
            self.connection.half_closed();
            return self.end();
        }
        self.check(buffer, before)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.wrote(&written);
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.wrote(&written);
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // In HTTP/1, `close` sends the last bytes.
        match self.framing {
            Some(_) => Pin::new(&mut self.stream).poll_flush(cx),
            None => Pin::new(&mut self.stream).poll_shutdown(cx),
        }
    }
}
