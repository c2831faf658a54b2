//! What all kinds of sockets have in common.

/// Turns a type that holds the id of a socket into a handle to it. `Clone` creates another handle,
/// as does sending it in a message; dropping the last handle closes the socket.
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
                // SAFETY: the machine returned the id, and nothing else holds it.
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

/// Implements reading and writing for a connection, and for a reference to it.
macro_rules! read_and_write {
    ($stream:ident, $read:path, $write:path, $flush:path) => {
        impl Read for &$stream {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let (address, mut length) = (buffer.as_mut_ptr(), 0);
                // SAFETY: the first pointer is passed with the length of its buffer, and the last
                // one refers to a local variable.
                let result = unsafe { $read(self.id, address, buffer.len(), &mut length) };
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
                // SAFETY: there are `count` vectors, each with the address and length of a slice,
                // and the last pointer refers to a local variable.
                let result = unsafe { $write(self.id, vectors.as_ptr(), count, &mut written) };
                Ok(LunaticError::check(result, written)? as usize)
            }

            fn flush(&mut self) -> io::Result<()> {
                let mut error = 0;
                // SAFETY: the pointer refers to a local variable.
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
