//! The bytes of a connection, in clear or under TLS, on their way to hyper and back.

use super::connection::Connection;
use super::framing::{Framing, Refused};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What is read of what a client still sends after we have said our last: it may be so much, while he reads that.
const UNREAD: usize = 256 << 10;

/// A stream of a client.
pub(super) enum Stream {
    Clear(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// A stream whose bytes are looked at before they are read.
pub(super) struct Wire {
    stream: Stream,
    /// What was read to find out what is spoken.
    ahead: Vec<u8>,
    connection: Arc<Connection>,
    /// Only for HTTP/1.
    framing: Option<Framing>,
    refused: Option<Refused>,
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
            framing,
            refused: None,
        }
    }

    /// Returns why the client's request was refused, if it was.
    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// Sends the last bytes and closes. Where the client may have sent what was not read, he has a little time to take the
    /// bytes: closed at once, what is unread would make his system throw them away.
    pub(super) async fn close(mut self, last: &[u8], is_unread: bool) {
        if self.stream.write_all(last).await.is_err()
            || self.stream.shutdown().await.is_err()
            || !is_unread
        {
            return;
        }
        let mut unread = 0;
        let mut piece = [0; 4096];
        while unread < UNREAD {
            match self.stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(count) => unread += count,
            }
        }
    }

    /// Has nothing more read. A request that is being answered is not disturbed, unless what is wrong is its body.
    fn end(&self) -> Poll<io::Result<()>> {
        match self.refused {
            Some(Refused {
                is_in_body: true,
                why,
                ..
            }) => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why))),
            // To hyper an end would mean that the client is gone. It asks again when it has answered.
            _ if self.connection.is_busy() => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Looks at what was read, and takes back what must not be.
    fn look(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> Poll<io::Result<()>> {
        let Some(framing) = &mut self.framing else {
            return Poll::Ready(Ok(()));
        };
        let looked = framing.read(&buffer.filled()[before..]);
        self.connection.reads_head(framing.is_in_head());
        let Err((passable, refused)) = looked else {
            return Poll::Ready(Ok(()));
        };
        self.refused = Some(refused);
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
        if self.refused.is_some() || self.connection.is_late() {
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
        self.look(buffer, before)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // In HTTP/1 `close` says what is last.
        match self.framing {
            Some(_) => Pin::new(&mut self.stream).poll_flush(cx),
            None => Pin::new(&mut self.stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Secure(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Secure(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Clear(stream) => stream.is_write_vectored(),
            Stream::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
