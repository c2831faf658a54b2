//! What the types of sockets have in common.

/// Makes a type that holds the id of a socket a handle to it: another handle is made by `Clone` and
/// by sending it in a message, and with the last one the socket is closed.
macro_rules! handle {
    ($socket:ident, $kind:expr, $clone:path, $drop:path) => {
        impl Clone for $socket {
            fn clone(&self) -> Self {
                // SAFETY: the call takes a number and returns one.
                let id = unsafe { $clone(self.id) };
                Self { id }
            }
        }

        impl Drop for $socket {
            fn drop(&mut self) {
                // SAFETY: the id was given by the machine, and nobody else has it.
                unsafe { $drop(self.id) };
            }
        }

        impl serde::Serialize for $socket {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                crate::envelope::write_socket($kind, self.id, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $socket {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::envelope::read_socket($kind, deserializer).map(|id| Self { id })
            }
        }
    };
}

/// Lets a handle to a connection be read and written, alone or where it is shared.
macro_rules! read_and_write {
    ($stream:ident, $read:path, $write:path, $flush:path) => {
        impl Read for &$stream {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let mut length = 0;
                // SAFETY: the address comes with the length of its buffer, and the last is that of
                // a variable.
                let result =
                    unsafe { $read(self.id, buffer.as_mut_ptr(), buffer.len(), &mut length) };
                Ok(LunaticError::check(result, length)? as usize)
            }
        }

        impl Write for &$stream {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.write_vectored(&[IoSlice::new(bytes)])
            }

            fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                let (vectors, count) = Vector::gather(slices);
                let mut written = 0;
                // SAFETY: there are `count` vectors, each the address and length of a slice; the
                // last address is that of a variable.
                let result = unsafe { $write(self.id, vectors.as_ptr(), count, &mut written) };
                Ok(LunaticError::check(result, written)? as usize)
            }

            fn flush(&mut self) -> io::Result<()> {
                let mut error = 0;
                // SAFETY: the address is that of a variable.
                let result = unsafe { $flush(self.id, &mut error) };
                LunaticError::check(result, error)?;
                Ok(())
            }
        }

        impl Read for $stream {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                (&*self).read(buffer)
            }
        }

        impl Write for $stream {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                (&*self).write(bytes)
            }

            fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                (&*self).write_vectored(slices)
            }

            fn flush(&mut self) -> io::Result<()> {
                (&*self).flush()
            }
        }
    };
}

pub(super) use {handle, read_and_write};
