//! Tests that a write to a peer that has closed the connection fails rather than killing the
//! process. The test restores SIGPIPE's default action, as in a program that embeds the VM and is
//! not written in Rust. The action applies to the whole process, so this is the only test in its
//! binary.
#![cfg(unix)]

use lunatic_net::tcp::{TcpListener, TcpStream};
use std::io::{ErrorKind, IoSlice};
use std::net::Shutdown;

#[test]
fn writing_to_a_closed_stream_raises_no_signal() {
    // SAFETY: the default action is not a handler, so nothing runs at the wrong time.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    smol::block_on(async {
        let listener =
            TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("the system chooses a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let stream = TcpStream::connect(address, None)
            .await
            .expect("the listener exists");
        stream
            .shutdown(Shutdown::Write)
            .expect("the stream is connected");
        let error = stream
            .try_write_vectored(&[IoSlice::new(b"x")])
            .expect_err("the writing direction is closed");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}
