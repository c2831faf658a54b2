use crate::pair::kind;
use lunatic_net::dns::{Limits, Resolver};
use smol::future::{poll_once, zip};
use smol::{block_on, spawn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Short, because the timeout itself is being tested. The test acts as a name server that does not
/// answer.
const SHORT: Option<Duration> = Some(Duration::from_millis(5));

fn limits(running: usize, waiting: usize, addresses: usize) -> Limits {
    let running = NonZero::new(running).expect("the tests allow at least one lookup");
    Limits {
        running,
        waiting,
        addresses,
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// Returns a resolver whose lookups report their host when they begin, and end when the test
/// releases them.
fn gated(limits: Limits) -> (Resolver, Receiver<String>, Sender<()>) {
    let (begin, begun) = channel();
    let (release, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    let resolver = Resolver::with_look_up(limits, move |host, port| {
        begin.send(host.to_owned()).expect("the test is receiving");
        gate.lock()
            .expect("no lookup panics")
            .recv()
            .expect("the test releases every lookup");
        Ok(vec![address(port)])
    });
    (resolver, begun, release)
}

#[test]
fn an_address_is_resolved_without_a_lookup() {
    let resolver = Resolver::with_look_up(limits(1, 0, 64), |host, _| panic!("asked for {host}"));
    for text in ["127.0.0.1:80", "[::1]:0"] {
        let answer =
            block_on(poll_once(resolver.resolve(text, None))).expect("an address needs no lookup");
        assert_eq!(
            answer.expect("the lookup succeeds"),
            [text.parse().expect("the text is an address")]
        );
    }
}

#[test]
fn a_malformed_name_is_refused_without_a_lookup() {
    let resolver = Resolver::with_look_up(limits(1, 0, 64), |host, _| panic!("asked for {host}"));
    let error = block_on(resolver.resolve("no port", None));
    assert_eq!(kind(error), ErrorKind::InvalidInput);
}

#[test]
fn localhost_is_resolved_by_the_system() {
    let found = block_on(Resolver::default().resolve("localhost:81", None))
        .expect("the system knows localhost");
    assert!(!found.is_empty());
    for (position, address) in found.iter().enumerate() {
        assert!(address.ip().is_loopback(), "{address}");
        assert_eq!(address.port(), 81);
        assert!(
            !found[..position].contains(address),
            "{address} is returned twice"
        );
    }
}

/// Whether or not a name server answers, the result must be neither an address nor the error for a
/// malformed name.
#[test]
fn a_host_that_cannot_exist_is_an_error() {
    // RFC 6761 guarantees that this name never exists.
    let error = block_on(Resolver::default().resolve("no-such-host.invalid:80", None))
        .expect_err("the name cannot exist");
    assert!(
        matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Other),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("`no-such-host.invalid`"),
        "{error}"
    );
}

#[test]
fn a_host_without_addresses_is_not_found() {
    let resolver = Resolver::with_look_up(Limits::default(), |_, _| Ok(vec![]));
    let error =
        block_on(resolver.resolve("nowhere:80", None)).expect_err("the host has no address");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "no address for host `nowhere`");
}

#[test]
fn a_lookup_error_is_returned_to_the_caller() {
    let resolver = Resolver::with_look_up(Limits::default(), |_, _| {
        Err(ErrorKind::PermissionDenied.into())
    });
    assert_eq!(
        kind(block_on(resolver.resolve("a:80", None))),
        ErrorKind::PermissionDenied
    );
}

/// Tests T119.
#[test]
fn a_list_of_ten_thousand_addresses_is_truncated_to_the_limit() {
    let resolver = Resolver::with_look_up(Limits::default(), |_, _| {
        Ok((0..10_000).map(address).collect())
    });
    let found = block_on(resolver.resolve("many:80", None)).expect("the lookup succeeds");
    assert_eq!(found, (0..64).map(address).collect::<Vec<_>>());
}

/// Tests T119.
#[test]
fn a_lookup_with_a_silent_name_server_times_out() {
    let (resolver, begun, release) = gated(limits(1, 0, 64));
    let error = block_on(resolver.resolve("slow:80", SHORT)).expect_err("no name server answers");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "no addresses for `slow` within 5ms");
    assert_eq!(begun.recv().expect("the lookup has begun"), "slow");
    release
        .send(())
        .expect("the thread is still waiting for its release");
}

#[test]
fn lookups_beyond_the_limit_on_waiting_lookups_are_refused() {
    let (resolver, begun, release) = gated(limits(2, 1, 64));
    block_on(async {
        let ask = |name: &'static str| {
            let resolver = resolver.clone();
            Box::pin(async move { resolver.resolve(name, None).await })
        };
        let (mut one, mut two, mut three) = (ask("one:1"), ask("two:2"), ask("three:3"));
        for asked in [&mut one, &mut two, &mut three] {
            assert!(poll_once(asked).await.is_none());
        }
        let error = ask("four:4")
            .await
            .expect_err("one lookup is already waiting");
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        assert_eq!(
            error.to_string(),
            "cannot look up `four`: too many lookups (2 running, 1 waiting); try again later"
        );

        let mut first = [
            begun.recv().expect("a lookup has begun"),
            begun.recv().expect("a lookup has begun"),
        ];
        first.sort();
        assert_eq!(first, ["one", "two"]);
        assert!(
            begun.try_recv().is_err(),
            "a third lookup must not begin before an earlier lookup ends"
        );
        for _ in 0..3 {
            release
                .send(())
                .expect("a lookup is waiting for its release");
        }
        let (one, (two, three)) = zip(one, zip(two, three)).await;
        for (answer, port) in [(one, 1), (two, 2), (three, 3)] {
            assert_eq!(answer.expect("the lookup succeeds"), [address(port)]);
        }
        assert_eq!(begun.recv().expect("a lookup has begun"), "three");
    });
}

#[test]
fn a_lookup_whose_caller_gives_up_leaves_the_queue() {
    let (resolver, begun, release) = gated(limits(1, 1, 64));
    block_on(async {
        let mut runs = Box::pin(resolver.resolve("runs:1", None));
        assert!(poll_once(&mut runs).await.is_none());
        for _ in 0..10 {
            assert_eq!(
                kind(resolver.resolve("waits:2", SHORT).await),
                ErrorKind::TimedOut
            );
        }
        let mut dropped = Box::pin(resolver.resolve("dropped:3", None));
        assert!(poll_once(&mut dropped).await.is_none());
        drop(dropped);
        let mut waits = Box::pin(resolver.resolve("last:4", None));
        assert!(poll_once(&mut waits).await.is_none());
        for _ in 0..2 {
            release
                .send(())
                .expect("a lookup is waiting for its release");
        }
        assert_eq!(runs.await.expect("the lookup succeeds"), [address(1)]);
        assert_eq!(waits.await.expect("the lookup succeeds"), [address(4)]);
        assert_eq!(begun.try_iter().collect::<Vec<_>>(), ["runs", "last"]);
    });
}

/// Otherwise, callers that give up could cause any number of threads to start.
#[test]
fn an_abandoned_lookup_occupies_its_thread_until_it_ends() {
    let (resolver, begun, release) = gated(limits(1, 0, 64));
    block_on(async {
        assert_eq!(
            kind(resolver.resolve("unheard:1", SHORT).await),
            ErrorKind::TimedOut
        );
        assert_eq!(begun.recv().expect("a lookup has begun"), "unheard");
        assert_eq!(
            kind(resolver.resolve("next:2", None).await),
            ErrorKind::ResourceBusy
        );
        release
            .send(())
            .expect("a lookup is waiting for its release");
        release
            .send(())
            .expect("a lookup is waiting for its release");
        let answer = loop {
            match resolver.resolve("next:2", None).await {
                // The thread may not be free yet.
                Err(error) if error.kind() == ErrorKind::ResourceBusy => std::thread::yield_now(),
                answer => break answer,
            }
        };
        assert_eq!(answer.expect("the lookup succeeds"), [address(2)]);
    });
}

#[test]
fn a_lookup_that_panics_is_an_error_and_frees_its_thread() {
    let resolver = Resolver::with_look_up(limits(1, 0, 64), |host, port| match host {
        "bad" => panic!("on purpose"),
        _ => Ok(vec![address(port)]),
    });
    block_on(async {
        let error = resolver
            .resolve("bad:1", None)
            .await
            .expect_err("the lookup panics");
        assert_eq!(error.to_string(), "the lookup of `bad` panicked");
        assert_eq!(
            resolver
                .resolve("good:2", None)
                .await
                .expect("the lookup succeeds"),
            [address(2)]
        );
    });
}

#[test]
fn a_thread_is_free_before_its_answer_is_returned() {
    let resolver = Resolver::with_look_up(limits(1, 0, 64), |_, port| Ok(vec![address(port)]));
    block_on(async {
        for port in 0..1000 {
            let answer = resolver.resolve(&format!("again:{port}"), None).await;
            assert_eq!(answer.expect("the lookup succeeds"), [address(port)]);
        }
    });
}

#[test]
fn many_callers_each_get_their_own_answer() {
    let resolver = Resolver::with_look_up(limits(4, 500, 64), |_, port| Ok(vec![address(port)]));
    block_on(async {
        let asked: Vec<_> = (0..500u16)
            .map(|port| {
                let resolver = resolver.clone();
                spawn(async move { resolver.resolve(&format!("host:{port}"), None).await })
            })
            .collect();
        for (port, answer) in (0..).zip(asked) {
            assert_eq!(answer.await.expect("the lookup succeeds"), [address(port)]);
        }
    });
}

#[test]
fn a_timeout_beyond_the_range_of_the_clock_means_no_timeout() {
    let resolver = Resolver::with_look_up(Limits::default(), |_, port| Ok(vec![address(port)]));
    for endless in [Duration::from_millis(u64::MAX), Duration::MAX] {
        let answer: io::Result<_> = block_on(resolver.resolve("a:1", Some(endless)));
        assert_eq!(answer.expect("the lookup succeeds"), [address(1)]);
    }
}
