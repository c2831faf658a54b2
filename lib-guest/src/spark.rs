//! Sparks: functions of a project, which read and write bytes.
//!
//! A gateway or another function runs a spark and communicates with it through a [`Comm`].

use crate::error::LunaticError;
use crate::host;
use lunatic_abi::Errno;
use std::cell::Cell;
use std::fmt::{self, Display};
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

/// A channel for byte messages between a function and its caller.
///
/// [`spark`](macro@crate::spark) passes a function the comm to its caller, and [`Spark::run`]
/// returns a comm to the function that it runs. A write waits while the other side has more than 64
/// KiB left to read.
///
/// Messages are read one after another. At the end of a message, a read returns 0 bytes, like
/// [`Read`] at the end of its input; the read after that starts the next message. Each
/// [`read_to_end`](Comm::read_to_end) therefore returns one message.
///
/// [`write_all`](Comm::write_all), and therefore `write!`, sends one message.
/// [`write`](Comm::write) adds to a message, which [`flush`](Comm::flush) ends. Code that splits
/// its output into writes of its own choosing, such as [`io::copy`] and serializers, needs a
/// [`BufWriter`](io::BufWriter) around the comm, whose `flush` ends the message.
///
/// Dropping the comm to a function started with [`Spark::run`] kills that function.
///
/// # Example
///
/// ```no_run
/// use lunatic::{Comm, Spark};
/// use std::io;
///
/// #[lunatic::spark]
/// fn entrypoint(comm: Comm) -> io::Result<()> {
///     let shout = Spark::run("shout", "hello")?;
///     let mut loud = Vec::new();
///     shout.read_to_end(&mut loud)?;
///     comm.write_all(&loud)
/// }
/// ```
pub struct Comm {
    id: u64,
    /// True while there is an unfinished message.
    is_begun: Cell<bool>,
    /// True once the other side has finished and everything it wrote has been read.
    is_ended: Cell<bool>,
}

/// The id of the comm to this function's caller.
const CALLER: u64 = 0;

/// Runs other functions of the project.
#[derive(Debug)]
pub enum Spark {}

impl Spark {
    /// Runs a function of this project, or, if the name has the form `owner/name`, of a project
    /// that this one depends on. Sends the function `message`, unless it is empty.
    ///
    /// The function has its own process and environment. Unless the project has a function named
    /// `http`, that name refers to a built-in function that makes HTTP calls: the message is the
    /// request, beginning with a line such as `GET https://example.com/ HTTP/1.1`, and the function
    /// sends back the response.
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](io::ErrorKind::NotFound) if no function has that name,
    /// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded) if a limit is reached, and
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) if `http` may not make the call. Reads
    /// report later failures.
    pub fn run(name: impl AsRef<str>, message: impl AsRef<[u8]>) -> io::Result<Comm> {
        let id = check(host::spark::run(name.as_ref(), message.as_ref()))?;
        Ok(Comm::new(id))
    }
}

impl Comm {
    fn new(id: u64) -> Comm {
        Comm {
            id,
            is_begun: Cell::new(false),
            is_ended: Cell::new(false),
        }
    }

    /// Reads part of a message, like [`Read::read`]. Waits until bytes are available.
    ///
    /// Returns 0 exactly once at the end of each message. After the other side has finished, every
    /// further read returns 0.
    ///
    /// # Errors
    ///
    /// Fails if the function on the other side failed; the error says why.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.is_ended.get() {
            return Ok(0);
        }
        match check(host::spark::read(self.id, buffer)) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == Errno::BrokenPipe => {
                self.is_ended.set(true);
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a message, or the rest of a partially read message, appends it to `buffer`, and
    /// returns the number of bytes appended. If the other side has finished, returns 0;
    /// [`is_ended`](Comm::is_ended) distinguishes this from an empty message.
    ///
    /// # Errors
    ///
    /// Fails like [`read`](Comm::read). Bytes that arrived before the failure are in the buffer.
    pub fn read_to_end(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        const PIECE: usize = 8 << 10;
        let begin = buffer.len();
        loop {
            let filled = buffer.len();
            buffer.resize(filled + PIECE, 0);
            let read = self.read(&mut buffer[filled..]);
            buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Ok(buffer.len() - begin);
            }
        }
    }

    /// Like [`read_to_end`](Comm::read_to_end), but appends the message to a string.
    ///
    /// # Errors
    ///
    /// Fails like [`read`](Comm::read), and with [`InvalidData`](io::ErrorKind::InvalidData) if the
    /// message is not UTF-8.
    pub fn read_to_string(&self, text: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        let read = String::from_utf8(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        text.push_str(&read);
        Ok(read.len())
    }

    /// Reads one message. Returns `None` if the other side has finished.
    ///
    /// # Errors
    ///
    /// Fails like [`read`](Comm::read).
    pub fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut message = Vec::new();
        self.read_to_end(&mut message)?;
        Ok(if message.is_empty() && self.is_ended.get() {
            None
        } else {
            Some(message)
        })
    }

    /// Returns true if the other side has finished and everything it wrote has been read. This is
    /// known only once a read has returned 0.
    pub fn is_ended(&self) -> bool {
        self.is_ended.get()
    }

    /// Adds all bytes to the message being written and returns the number of bytes. Waits while the
    /// other side is too far behind.
    ///
    /// # Errors
    ///
    /// Returns [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the other side has stopped reading.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        check(host::spark::write(self.id, bytes))?;
        self.is_begun.set(true);
        Ok(bytes.len())
    }

    /// Adds these bytes to the message being written, and sends the message.
    ///
    /// # Errors
    ///
    /// Fails like [`write`](Comm::write).
    pub fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes)?;
        self.flush()
    }

    /// Sends a formatted message. `write!(comm, …)` calls this.
    ///
    /// # Errors
    ///
    /// Fails like [`write`](Comm::write).
    pub fn write_fmt(&self, message: fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(message.to_string().as_bytes())
    }

    /// Ends the message being written. Does nothing if no message is being written.
    ///
    /// # Errors
    ///
    /// Fails like [`write`](Comm::write).
    pub fn flush(&self) -> io::Result<()> {
        if self.is_begun.replace(false) {
            check(host::spark::end(self.id))?;
        }
        Ok(())
    }

    /// Tells the other side that nothing more will be written. The comm can still be read from.
    pub fn finish(&self) {
        host::spark::finish(self.id);
    }

    /// Waits until one of the comms can be read without waiting, and returns its index, or `None`
    /// if `timeout` expires first. If several comms can be read, successive calls return their
    /// indices in turn.
    ///
    /// # Errors
    ///
    /// Fails if there are no comms and no timeout, because the wait would never end.
    pub fn wait_any(comms: &[&Comm], timeout: Option<Duration>) -> io::Result<Option<usize>> {
        if comms.is_empty() && timeout.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a wait needs at least one comm or a timeout",
            ));
        }
        let ids: Vec<u64> = comms.iter().map(|comm| comm.id).collect();
        match check(host::spark::wait(
            &ids,
            host::milliseconds_or_forever(timeout),
        )) {
            Ok(index) => Ok(Some(index as usize)),
            Err(error) if error.kind() == Errno::TimedOut => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Interprets the result of a call, which is a number or a negated error number.
fn check(result: i64) -> Result<u64, LunaticError> {
    u64::try_from(result).map_err(|_| {
        let number = u32::try_from(result.unsigned_abs()).ok();
        let kind = number.and_then(Errno::from_number).unwrap_or(Errno::Other);
        LunaticError::new(kind, why())
    })
}

/// Returns the machine's description of the last failure.
fn why() -> String {
    let mut text = vec![0; 256];
    loop {
        let length = host::spark::why(&mut text) as usize;
        let is_whole = length <= text.len();
        text.resize(length, 0);
        if is_whole {
            return String::from_utf8_lossy(&text).into_owned();
        }
    }
}

impl Drop for Comm {
    /// Kills the function on the other side, unless the other side is this function's caller.
    fn drop(&mut self) {
        if self.id != CALLER {
            host::spark::close(self.id);
        }
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comm")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

macro_rules! read_and_write {
    ($comm:ty) => {
        impl Read for $comm {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                Comm::read(self, buffer)
            }

            fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
                Comm::read_to_end(self, buffer)
            }
        }

        impl Write for $comm {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Comm::write(self, bytes)
            }

            fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
                Comm::write_all(self, bytes)
            }

            fn write_fmt(&mut self, message: fmt::Arguments<'_>) -> io::Result<()> {
                Comm::write_fmt(self, message)
            }

            fn flush(&mut self) -> io::Result<()> {
                Comm::flush(self)
            }
        }
    };
}

read_and_write!(Comm);
read_and_write!(&Comm);

/// A type that a spark can return: nothing, or a `Result` whose error describes the failure.
pub trait Outcome {
    /// Returns the error message if the spark failed.
    #[doc(hidden)]
    fn failure(self) -> Option<String>;
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: Display> Outcome for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// Runs a function with its comm. `#[lunatic::spark]` expands to a call to this function.
#[doc(hidden)]
pub fn __spark<R: Outcome>(function: fn(Comm) -> R) -> ExitCode {
    let Some(failure) = function(Comm::new(CALLER)).failure() else {
        return ExitCode::SUCCESS;
    };
    host::spark::fail(failure.as_bytes());
    eprintln!("{failure}");
    ExitCode::FAILURE
}
