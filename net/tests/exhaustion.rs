//! Tests T114: an accept when the process has no descriptors left. The test uses up the descriptors
//! of the whole process, so it is the only test in its binary.
#![cfg(target_os = "linux")]

use lunatic_net::tcp::TcpListener;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use smol::Timer;
use smol::future::or;
use std::fs::File;
use std::future::poll_fn;
use std::net::TcpStream;
use std::pin::pin;
use std::time::{Duration, Instant};

/// The delay documented on `TcpListener::accept`.
const RETRY_DELAY: Duration = Duration::from_millis(100);

#[test]
fn an_accept_without_descriptors_pauses_and_fails_and_loses_no_connection() {
    let listener =
        TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("the system chooses a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    let limit = Rlimit {
        current: Some(64),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).expect("a limit may be lowered");

    smol::block_on(async {
        let client = TcpStream::connect(address).expect("the listener exists");
        let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();

        let begun = Instant::now();
        let mut polls = 0;
        let mut accept = pin!(listener.accept());
        let error = poll_fn(|cx| {
            polls += 1;
            accept.as_mut().poll(cx)
        })
        .await
        .expect_err("no descriptor is left");
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
        assert!(
            polls < 10,
            "the accept was polled {polls} times, so it spins"
        );
        assert!(begun.elapsed() >= RETRY_DELAY, "the accept did not pause");

        drop(hoard);
        let (server, peer) = listener
            .accept()
            .await
            .expect("the connection stayed in the queue");
        assert_eq!(
            peer,
            client.local_addr().expect("a bound socket has an address")
        );

        // On Linux, the call fails before it checks for a connection. Only an accept that wrongly
        // fails can win this race.
        let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        let accept = async { Some(listener.accept().await) };
        let quiet = async {
            Timer::after(RETRY_DELAY * 2).await;
            None
        };
        let accepted = or(accept, quiet).await;
        assert!(
            accepted.is_none(),
            "without a client, the accept must keep waiting: {accepted:?}"
        );
        drop((hoard, server));
    });
}
