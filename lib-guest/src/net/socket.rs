//! Macros shared by all socket types.

/// Turns a type that holds a socket's id into a handle to the socket. Cloning a handle or sending
/// it in a message creates another handle. Dropping the last handle closes the socket.
macro_rules! handle {
    ($socket:ident, $kind:expr, $clone:path, $drop:path) => {
        impl Clone for $socket {
            fn clone(&self) -> Self {
                Self {
                    id: $clone(self.id),
                }
            }
        }

        impl Drop for $socket {
            fn drop(&mut self) {
                $drop(self.id);
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

/// Implements reading and writing for a connection and for references to it.
macro_rules! read_and_write {
    ($stream:ident, $read:path, $write:path, $flush:path) => {
        impl Read for &$stream {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                Ok(LunaticError::or_value(|length| $read(self.id, buffer, length))? as usize)
            }
        }

        impl Write for &$stream {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.write_vectored(&[IoSlice::new(bytes)])
            }

            fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                let (vectors, count) = Vector::gather(slices);
                let write = |written: &mut u64| $write(self.id, &vectors[..count], written);
                Ok(LunaticError::or_value(write)? as usize)
            }

            fn flush(&mut self) -> io::Result<()> {
                LunaticError::or_value(|error| $flush(self.id, error))?;
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
