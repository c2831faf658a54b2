//! The errors of WASI preview 1 and 0. Both versions use the same numbers.

use std::io;

macro_rules! errnos {
    ($($name:ident = $number:literal $(from $($system:ident)|+)?,)*) => {
        /// A WASI error, represented by the number that guests see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub(crate) enum Errno {
            $($name = $number,)*
        }

        impl From<rustix::io::Errno> for Errno {
            fn from(error: rustix::io::Errno) -> Errno {
                use rustix::io::Errno as System;
                match error {
                    $($($(System::$system)|+ => Errno::$name,)?)*
                    _ => Errno::Io,
                }
            }
        }
    };
}

errnos! {
    Acces = 2 from ACCESS,
    Again = 6 from AGAIN,
    Badf = 8 from BADF,
    Busy = 10 from BUSY,
    Deadlk = 16 from DEADLK,
    Dquot = 19 from DQUOT,
    Exist = 20 from EXIST,
    Fault = 21 from FAULT,
    Fbig = 22 from FBIG,
    Ilseq = 25 from ILSEQ,
    Intr = 27 from INTR,
    Inval = 28 from INVAL,
    Io = 29,
    Isdir = 31 from ISDIR,
    Loop = 32 from LOOP,
    Mfile = 33 from MFILE,
    Mlink = 34 from MLINK,
    Nametoolong = 37 from NAMETOOLONG,
    Nfile = 41 from NFILE,
    Nodev = 43 from NODEV,
    Noent = 44 from NOENT,
    Nolck = 46 from NOLCK,
    Nomem = 48 from NOMEM,
    Nospc = 51 from NOSPC,
    Notdir = 54 from NOTDIR,
    Notempty = 55 from NOTEMPTY,
    Notsock = 57,
    Notsup = 58 from NOTSUP,
    Notty = 59 from NOTTY,
    Nxio = 60 from NXIO,
    Overflow = 61 from OVERFLOW,
    Perm = 63 from PERM,
    Pipe = 64 from PIPE,
    Rofs = 69 from ROFS,
    Spipe = 70 from SPIPE,
    Stale = 72 from STALE,
    Timedout = 73 from TIMEDOUT,
    Txtbsy = 74 from TXTBSY,
    Xdev = 75 from XDEV,
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Errno {
        match rustix::io::Errno::from_io_error(&error) {
            Some(system) => system.into(),
            None => match error.kind() {
                io::ErrorKind::BrokenPipe => Errno::Pipe,
                io::ErrorKind::StorageFull => Errno::Nospc,
                _ => Errno::Io,
            },
        }
    }
}
