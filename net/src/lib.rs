//! Sockets for the VM: [`tcp`] and [`tls`] streams and listeners, [`udp`] sockets, [`dns`] lookups,
//! and [turns], which divide a limited number of places among owners. This crate does not depend on
//! wasm or processes, and has no notion of guest memory, rights or quotas.
//!
//! Reading and writing each consist of two operations: a *try* that never waits, and a *wait* that
//! holds no buffer. This lets a host function receive directly into guest memory, which it may
//! borrow between waits but not during them:
//!
//! ```
//! use lunatic_net::tcp::{Operation, TcpListener, TcpStream};
//! use std::io::{self, ErrorKind, IoSlice};
//!
//! async fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
//!     let mut wait = stream.wait(Operation::Read);
//!     loop {
//!         match stream.try_read(buffer) {
//!             Err(error) if error.kind() == ErrorKind::WouldBlock => wait.ready().await?,
//!             read => return read,
//!         }
//!     }
//! }
//!
//! smol::block_on(async {
//!     let listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
//!     let client = TcpStream::connect(listener.local_addr()?, None).await?;
//!     let (server, _peer) = listener.accept().await?;
//!
//!     client.try_write_vectored(&[IoSlice::new(b"hello "), IoSlice::new(b"world")])?;
//!     let mut buffer = [0; 32];
//!     let length = read(&server, &mut buffer).await?;
//!     assert_eq!(&buffer[..length], b"hello world");
//!     io::Result::Ok(())
//! })?;
//! # io::Result::Ok(())
//! ```
//!
//! Every future in this crate can be dropped at any `await` without losing a byte, a connection or
//! a descriptor. Nothing blocks the calling thread. All waiting is done by `async-io`'s single
//! reactor.

#![forbid(unsafe_code)]

mod deadline;
pub mod dns;
mod error;
pub mod reserved;
pub mod tcp;
pub mod tls;
pub mod turns;
pub mod udp;
mod wait;
