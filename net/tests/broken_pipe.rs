//! A peer that is gone ends a write, not the process. It gives SIGPIPE back its deadly default, as a
//! program has it that is not Rust and embeds the machine, and so is the only test of its binary.
#![cfg(unix)]

use lunatic_net::tcp::{TcpListener, TcpStream};
use std::io::{ErrorKind, IoSlice};
use std::net::Shutdown;

#[test]
fn writing_to_a_closed_stream_raises_no_signal() {
    // SAFETY: the default action is no handler, so nothing can run in the wrong place.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    smol::block_on(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address, None)
            .await
            .expect("somebody listens");
        stream.shutdown(Shutdown::Write).expect("a connection");
        let error = stream
            .try_write_vectored(&[IoSlice::new(b"x")])
            .expect_err("it is closed");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}
