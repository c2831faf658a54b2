//! The standard streams of an environment's processes, in the form that `wasmtime-wasi` expects.
//!
//! All of an environment's processes share its streams. No worker ever blocks on a stream, no
//! matter what the stream is connected to: if there is no room for a write or no data for a read,
//! the process is suspended, and cancelling the wait loses nothing.

use crate::console::{self, Console, Stream};
use crate::environment::journal::Journal;
use crate::environment::quota::Quota;
use crate::pipe::{PipeReader, PipeWriter, poll_once};
use bytes::Bytes;
use lunatic_abi::Limit;
use lunatic_process::{LimitReached, Pid};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// What a standard stream of an environment's processes is connected to. `End` is [`PipeReader`]
/// for the input and [`PipeWriter`] for an output.
#[derive(Clone, Debug, Default)]
pub enum Stdio<End> {
    /// The stream of the host program. Output is written by a single thread in the order it
    /// arrives, and none of it is changed or dropped: a program that writes faster than the
    /// terminal can keep up with has to wait. Input goes to the reader that asked first.
    #[default]
    Inherit,
    /// The host program's standard error, for either output. This suits a host program that needs
    /// its standard output for itself. For input, this is the same as [`Stdio::Null`].
    Stderr,
    /// Nothing: output is discarded, and input ends immediately.
    Null,
    /// A pipe provided by the embedder.
    Pipe(End),
}

/// The maximum number of bytes in a write. A write's bytes stay together, as in an operating system
/// pipe.
pub(crate) const MAX_WRITE: usize = 4096;

/// The sink for a process's standard output or error.
#[derive(Clone)]
pub(crate) struct Outlet {
    to: Destination,
    stream: Stream,
    /// The process that writes, if a journal is kept.
    writer: Option<Writer>,
    /// Where output is counted. `None` for a process's own output, which is not counted.
    account: Option<Account>,
}

/// A process whose output is in a journal.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) journal: Journal,
    pub(super) pid: Pid,
    pub(super) process: Arc<str>,
}

#[derive(Clone)]
enum Destination {
    Console(Stream),
    Null,
    Pipe(PipeWriter),
}

/// Where output is counted.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) quota: Arc<Quota>,
    /// Why the last write was refused.
    pub(super) refused: Arc<Mutex<Option<LimitReached>>>,
    /// Set once the refusal has been logged.
    pub(super) is_logged: Arc<AtomicBool>,
    pub(super) environment: u64,
}

impl Account {
    fn charge(&self, bytes: usize) -> io::Result<()> {
        let Err(reached) = self.quota.charge(Limit::Output, bytes as u64) else {
            return Ok(());
        };
        *crate::pipe::lock(&self.refused) = Some(reached);
        if !self.is_logged.swap(true, Ordering::Relaxed) {
            log::warn!(
                "writes by environment {} will fail from now on: {reached}",
                self.environment
            );
        }
        Err(full())
    }
}

#[cfg(unix)]
fn full() -> io::Error {
    rustix::io::Errno::NOSPC.into()
}

#[cfg(not(unix))]
fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

#[cfg(unix)]
fn broken_pipe() -> io::Error {
    rustix::io::Errno::PIPE.into()
}

#[cfg(not(unix))]
fn broken_pipe() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl Outlet {
    pub(super) fn new(
        stdio: &Stdio<PipeWriter>,
        stream: Stream,
        writer: Option<Writer>,
        account: Account,
    ) -> Outlet {
        let to = match stdio {
            Stdio::Inherit => Destination::Console(stream),
            Stdio::Stderr => Destination::Console(Stream::Error),
            Stdio::Null => Destination::Null,
            Stdio::Pipe(writer) => Destination::Pipe(writer.clone()),
        };
        Outlet {
            to,
            stream,
            writer,
            account: Some(account),
        }
    }

    /// Creates a process's own output, which is not counted toward its environment's output limit.
    pub(super) fn uncounted(output: PipeWriter) -> Outlet {
        Outlet {
            to: Destination::Pipe(output),
            stream: Stream::Output,
            writer: None,
            account: None,
        }
    }

    /// Writes at most [`MAX_WRITE`] bytes in one go, waiting for room.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.accept(bytes)?;
        self.deliver(bytes).await
    }

    /// Counts bytes before they are written, and adds them to the journal if one is kept.
    fn accept(&self, bytes: &[u8]) -> io::Result<()> {
        if let Some(account) = &self.account {
            account.charge(bytes.len())?;
        }
        if let Some(writer) = &self.writer {
            let Writer {
                journal,
                pid,
                process,
            } = writer;
            journal.wrote(*pid, process, self.stream, bytes);
        }
        Ok(())
    }

    /// Writes bytes that were accepted.
    async fn deliver(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.to {
            Destination::Null => Ok(()),
            Destination::Pipe(writer) => writer.write_all(bytes).await.map_err(|_| broken_pipe()),
            Destination::Console(stream) => {
                for piece in bytes.chunks(MAX_WRITE) {
                    Console::get().write(*stream, piece).await?;
                }
                Ok(())
            }
        }
    }
}

/// An outlet as a WASI stream, which accepts bytes without waiting.
struct OutletStream {
    outlet: Outlet,
    /// Bytes that were accepted but not yet written.
    pending: Bytes,
    /// Why writing failed.
    failed: Option<io::Error>,
}

impl OutletStream {
    async fn deliver_pending(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        self.failed = self.outlet.deliver(&self.pending).await.err();
        self.pending.clear();
    }
}

fn failure(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}

#[async_trait]
impl OutputStream for OutletStream {
    /// Accepts bytes that `check_write` has permitted.
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if !self.pending.is_empty() || bytes.len() > MAX_WRITE {
            return Err(StreamError::trap(
                "more bytes were written than `check_write` permitted",
            ));
        }
        self.outlet.accept(&bytes).map_err(failure)?;
        self.pending = bytes;
        poll_once(self.deliver_pending());
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        // `check_write` permits nothing until the accepted bytes are delivered.
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        poll_once(self.deliver_pending());
        if let Some(failed) = self.failed.take() {
            return Err(failure(failed));
        }
        Ok(if self.pending.is_empty() {
            MAX_WRITE
        } else {
            0
        })
    }

    /// Writes bytes in one go, waiting for room. A guest's `fd_write` ends up here.
    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.deliver_pending().await;
        self.check_write()?;
        self.outlet.accept(&bytes).map_err(failure)?;
        self.outlet.deliver(&bytes).await.map_err(failure)
    }
}

#[async_trait]
impl Pollable for OutletStream {
    async fn ready(&mut self) {
        self.deliver_pending().await;
    }
}

impl IsTerminal for Outlet {
    fn is_terminal(&self) -> bool {
        match self.to {
            Destination::Console(Stream::Output) => io::IsTerminal::is_terminal(&io::stdout()),
            Destination::Console(Stream::Error) => io::IsTerminal::is_terminal(&io::stderr()),
            Destination::Null | Destination::Pipe(_) => false,
        }
    }
}

impl StdoutStream for Outlet {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(OutletStream {
            outlet: self.clone(),
            pending: Bytes::new(),
            failed: None,
        })
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Writing {
            outlet: self.clone(),
            current: None,
        })
    }
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;

/// An outlet as a tokio writer.
struct Writing {
    outlet: Outlet,
    current: Option<Work<io::Result<usize>>>,
}

impl AsyncWrite for Writing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Writing { outlet, current } = &mut *self;
        let current = current.get_or_insert_with(|| {
            let (outlet, piece) = (outlet.clone(), bytes[..bytes.len().min(MAX_WRITE)].to_vec());
            Box::pin(async move {
                outlet.accept(&piece)?;
                outlet.deliver(&piece).await.map(|()| piece.len())
            })
        });
        let written = std::task::ready!(current.as_mut().poll(context));
        self.current = None;
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The source of a process's standard input.
#[derive(Clone)]
pub(crate) enum Inlet {
    Console,
    Null,
    Pipe(PipeReader),
}

/// The maximum number of bytes that a read returns.
const MAX_READ: usize = 64 << 10;

impl Inlet {
    pub(super) fn new(stdio: &Stdio<PipeReader>) -> Inlet {
        match stdio {
            Stdio::Inherit => Inlet::Console,
            Stdio::Stderr | Stdio::Null => Inlet::Null,
            Stdio::Pipe(reader) => Inlet::Pipe(reader.clone()),
        }
    }

    fn reader(&self) -> Option<&PipeReader> {
        match self {
            Inlet::Console => Some(console::input()),
            Inlet::Null => None,
            Inlet::Pipe(reader) => Some(reader),
        }
    }

    /// Waits for bytes, and returns at most `size` bytes. Returns an empty vector at the end of the
    /// stream.
    pub(crate) async fn take(&self, size: usize) -> Vec<u8> {
        let Some(reader) = self.reader() else {
            return Vec::new();
        };
        let mut buffer = vec![0; size.min(MAX_READ)];
        let count = reader.read(&mut buffer).await;
        buffer.truncate(count);
        buffer
    }

    /// Waits until there are bytes to read or the stream has ended.
    pub(crate) async fn readable(&self) {
        if let Some(reader) = self.reader() {
            reader.readable().await;
        }
    }

    async fn read(&self, size: usize) -> StreamResult<Bytes> {
        let bytes = self.take(size).await;
        if bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        Ok(bytes.into())
    }
}

#[async_trait]
impl InputStream for Inlet {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        poll_once(Inlet::read(self, size)).unwrap_or_else(|| Ok(Bytes::new()))
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        Inlet::read(self, size).await
    }
}

#[async_trait]
impl Pollable for Inlet {
    async fn ready(&mut self) {
        self.readable().await;
    }
}

impl IsTerminal for Inlet {
    fn is_terminal(&self) -> bool {
        matches!(self, Inlet::Console) && io::IsTerminal::is_terminal(&io::stdin())
    }
}

impl StdinStream for Inlet {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(Reading {
            inlet: self.clone(),
            current: None,
            rest: Bytes::new(),
        })
    }
}

/// An inlet as a tokio reader.
struct Reading {
    inlet: Inlet,
    current: Option<Work<StreamResult<Bytes>>>,
    /// Bytes that were read but did not fit.
    rest: Bytes,
}

impl AsyncRead for Reading {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Reading {
            inlet,
            current,
            rest,
        } = &mut *self;
        if rest.is_empty() {
            let current = current.get_or_insert_with(|| {
                let (inlet, size) = (inlet.clone(), into.remaining());
                Box::pin(async move { Inlet::read(&inlet, size).await })
            });
            // The only error is the end of the stream.
            *rest = std::task::ready!(current.as_mut().poll(context)).unwrap_or_default();
            self.current = None;
        }
        let count = self.rest.len().min(into.remaining());
        into.put_slice(&self.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}
