//! Sparks: functions that read and write bytes.
//!
//! A function of a project is run by a gateway or by another function, and talks with whoever runs
//! it through a [`Comm`].

use crate::error::LunaticError;
use crate::host;
use lunatic_abi::Errno;
use std::cell::Cell;
use std::fmt::{self, Display};
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

/// What a function and the other side write to each other: messages of bytes.
///
/// One comm leads to whoever runs the function, which is what [`spark`](macro@crate::spark) hands
/// over, and one to each function that it runs itself ([`Spark::run`]). Each side waits while the
/// other is behind by 64 KiB.
///
/// Reading returns one message after the other: a read returns no bytes (as [`Read`] does at an
/// end) when a message has ended, and the next read begins the next message. So each
/// [`read_to_end`](Comm::read_to_end) returns one message.
///
/// [`write_all`](Comm::write_all), and with it `write!`, sends one message. [`write`](Comm::write)
/// adds to one that [`flush`](Comm::flush) ends. What writes in small pieces of its own choice, as
/// [`io::copy`] and serialisers do, is given a [`BufWriter`](io::BufWriter) around the comm, whose
/// `flush` ends the message.
///
/// The comm to a function that was run kills it when it is dropped.
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
    /// Set while a message is begun that has not ended.
    is_begun: Cell<bool>,
    /// Set when the other side has ended and everything it wrote was read.
    is_ended: Cell<bool>,
}

/// The number of the comm to whoever runs this function.
const RUNNER: u64 = 0;

/// What is known of a function: that others can run it.
#[derive(Debug)]
pub enum Spark {}

impl Spark {
    /// Runs a function of the project, or as `owner/name` one of a project that it depends on, and
    /// sends it a first message. Where the message is empty, none is sent.
    ///
    /// The function has a process and an environment of its own. The name `http` is that of a
    /// function which makes HTTP calls, unless the project has one of that name: its message is the
    /// request, `GET https://example.com/ HTTP/1.1` and what follows, and it sends back the answer.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound), where there is no function of that name;
    /// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded), where a bound is reached;
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied), where `http` may not make the call.
    /// What fails later is an error of a read.
    pub fn run(name: impl AsRef<str>, message: impl AsRef<[u8]>) -> io::Result<Comm> {
        let (name, message) = (name.as_ref(), message.as_ref());
        // SAFETY: the addresses come with the lengths of what they are of.
        let id = check(unsafe {
            host::spark::run(name.as_ptr(), name.len(), message.as_ptr(), message.len())
        })?;
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

    /// Reads bytes of a message, as [`Read::read`] does: at its end none, once, and when the other
    /// side has ended none any more. Waits until there is something.
    ///
    /// # Errors
    ///
    /// Where the function on the other side failed: the error says how.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.is_ended.get() {
            return Ok(0);
        }
        // SAFETY: the address comes with the length of its buffer.
        match check(unsafe { host::spark::read(self.id, buffer.as_mut_ptr(), buffer.len()) }) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == Errno::BrokenPipe => {
                self.is_ended.set(true);
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads one message, or what is left of it, to its end; appends it and returns its length.
    /// When the other side has ended, that is nothing: [`is_ended`](Comm::is_ended) tells it from
    /// an empty message.
    ///
    /// # Errors
    ///
    /// As [`read`](Comm::read). What came before is in the buffer.
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

    /// Reads one message as [`read_to_end`](Comm::read_to_end) does, and appends it as text.
    ///
    /// # Errors
    ///
    /// As [`read`](Comm::read), and [`InvalidData`](io::ErrorKind::InvalidData) where it is not
    /// UTF-8.
    pub fn read_to_string(&self, text: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        let read = String::from_utf8(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        text.push_str(&read);
        Ok(read.len())
    }

    /// Reads one message; `None` when the other side has ended.
    ///
    /// # Errors
    ///
    /// As [`read`](Comm::read).
    pub fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut message = Vec::new();
        self.read_to_end(&mut message)?;
        Ok(if message.is_empty() && self.is_ended.get() {
            None
        } else {
            Some(message)
        })
    }

    /// Whether the other side has ended and everything that it wrote was read. Known when a read
    /// has returned nothing.
    pub fn is_ended(&self) -> bool {
        self.is_ended.get()
    }

    /// Adds bytes to the message that is being written, all of them, and returns how many. Waits
    /// while the other side is behind.
    ///
    /// # Errors
    ///
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe), where the other side reads no more.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the address comes with the length of the bytes.
        check(unsafe { host::spark::write(self.id, bytes.as_ptr(), bytes.len()) })?;
        self.is_begun.set(true);
        Ok(bytes.len())
    }

    /// Sends a message: what was added to it by [`write`](Comm::write), and these bytes.
    ///
    /// # Errors
    ///
    /// As [`write`](Comm::write).
    pub fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes)?;
        self.flush()
    }

    /// Sends a formatted message, as `write!(comm, …)` does.
    ///
    /// # Errors
    ///
    /// As [`write`](Comm::write).
    pub fn write_fmt(&self, message: fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(message.to_string().as_bytes())
    }

    /// Ends the message that is being written. Where none is, nothing happens.
    ///
    /// # Errors
    ///
    /// As [`write`](Comm::write).
    pub fn flush(&self) -> io::Result<()> {
        if self.is_begun.replace(false) {
            // SAFETY: the call takes a number.
            check(unsafe { host::spark::end(self.id) })?;
        }
        Ok(())
    }

    /// Tells the other side that nothing more will be written. It can still be read from.
    pub fn finish(&self) {
        // SAFETY: the call takes a number.
        unsafe { host::spark::finish(self.id) };
    }

    /// Waits until one of several comms can be read from without waiting, and says which; `None`
    /// when that takes longer than the time. Where several can, they take turns.
    ///
    /// # Errors
    ///
    /// Where the list is empty and there is no time: that would be for ever.
    pub fn wait_any(comms: &[&Comm], timeout: Option<Duration>) -> io::Result<Option<usize>> {
        if comms.is_empty() && timeout.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "nothing is waited for, and no time is given",
            ));
        }
        let ids: Vec<u64> = comms.iter().map(|comm| comm.id).collect();
        let timeout = host::milliseconds_or_forever(timeout);
        // SAFETY: the address comes with the length of the list.
        match check(unsafe { host::spark::wait(ids.as_ptr(), ids.len(), timeout) }) {
            Ok(place) => Ok(Some(place as usize)),
            Err(error) if error.kind() == Errno::TimedOut => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Reads the result of a call: a number, or the negative number of an error.
fn check(result: i64) -> Result<u64, LunaticError> {
    u64::try_from(result).map_err(|_| {
        let number = u32::try_from(result.unsigned_abs()).ok();
        let kind = number.and_then(Errno::from_number).unwrap_or(Errno::Other);
        LunaticError::new(kind, why())
    })
}

/// Returns the sentence of the last failure.
fn why() -> String {
    let mut text = vec![0; 256];
    loop {
        // SAFETY: the address comes with the length of its buffer.
        let length = unsafe { host::spark::why(text.as_mut_ptr(), text.len()) } as usize;
        let is_whole = length <= text.len();
        text.resize(length, 0);
        if is_whole {
            return String::from_utf8_lossy(&text).into_owned();
        }
    }
}

impl Drop for Comm {
    /// Kills the function on the other side, unless that is the one that runs this one, which
    /// learns of it when this one ends.
    fn drop(&mut self) {
        if self.id != RUNNER {
            // SAFETY: the id was given by the machine, and nobody else has it.
            unsafe { host::spark::close(self.id) };
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

/// What a function can return: nothing, or a `Result` whose error says how it failed.
pub trait Outcome {
    /// Returns the text of the failure.
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

/// What `#[lunatic::spark]` calls: hands the function its comm.
#[doc(hidden)]
pub fn __spark<R: Outcome>(function: fn(Comm) -> R) -> ExitCode {
    let Some(failure) = function(Comm::new(RUNNER)).failure() else {
        return ExitCode::SUCCESS;
    };
    // SAFETY: the address comes with the length of the text.
    unsafe { host::spark::fail(failure.as_ptr(), failure.len()) };
    eprintln!("{failure}");
    ExitCode::FAILURE
}
