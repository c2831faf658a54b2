//! Tests of what the library promises, which run on the machine.
//!
//! This is a guest program. Each claim runs in its own process, and holds if that process doesn't
//! fail.
//!
//! ```text
//! CARGO_TARGET_WASM32_WASIP1_RUNNER=lunatic cargo test -p lunatic --test machine --target wasm32-wasip1
//! ```
//!
//! Arguments filter the claims: a claim is tested if its name contains one of the arguments.

#![allow(clippy::unwrap_used, reason = "a claim fails if it panics")]

use lunatic::net::{TcpListener, TcpStream};
use lunatic::{
    Config, Environment, Errno, ExitReason, Limit, LinkMailbox, Mailbox, Message, Param, Process,
    ReceiveError, RegistryError, Request, RequestError, Signal, SignalKind, Tag, TransformMailbox,
    lookup, process,
};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::process::ExitCode;
use std::time::Duration;

/// A timeout so long that no claim fails just because the computer is busy.
const LONG: Duration = Duration::from_secs(60);

/// A short timeout, for waits that must time out.
const SHORT: Duration = Duration::from_millis(5);

struct Claim {
    name: &'static str,
    /// Runs the claim in a process linked to this one. The claim sends this process a message when
    /// it is done.
    spawn: fn(LinkMailbox<()>) -> LinkMailbox<()>,
}

/// Declares the claims about a subject. A claim is a function that takes a mailbox.
macro_rules! claims {
    ($($(#[$doc:meta])* fn $name:ident($mailbox:ident: $type:ty) $body:block)*) => {
        $($(#[$doc])* fn $name($mailbox: $type) $body)*

        pub(crate) const CLAIMS: &[crate::Claim] = &[$(crate::Claim {
            name: stringify!($name),
            spawn: |mailbox| {
                let this = lunatic::process::this(&mailbox);
                let spawned = lunatic::process::spawn_link_with(mailbox, this, |runner: lunatic::Process<()>, mailbox: $type| {
                    $name(mailbox);
                    runner.send(());
                });
                spawned.expect("another process can be spawned").1
            },
        },)*];
    };
}

// These modules are declared after the macro because they use it.
mod hostile;
mod net;
mod server;
mod sqlite;
mod supervisor;
mod task;
mod trap;

/// The claims in this file, and the claims about subjects that have their own files.
const SUBJECTS: &[&[Claim]] = &[
    CLAIMS,
    hostile::CLAIMS,
    net::CLAIMS,
    server::CLAIMS,
    sqlite::CLAIMS,
    supervisor::CLAIMS,
    task::CLAIMS,
    trap::CLAIMS,
];

/// Returns a handle to the same process with a different message type.
fn retype<A, B>(process: Process<A>) -> Process<B> {
    process_named(process.id())
}

/// Returns a handle to the process with the given id.
fn process_named<T>(id: u64) -> Process<T> {
    let number = serde::de::value::U64Deserializer::<serde::de::value::Error>::new(id);
    Process::deserialize(number).expect("a handle is serialized as a number")
}

/// Host functions for programs in other languages, which the library doesn't call.
mod machine {
    #[cfg_attr(target_family = "wasm", link(wasm_import_module = "lunatic::message"))]
    unsafe extern "C" {
        pub(super) fn create_data(tag: i64, capacity: u64);
        pub(super) fn push_module(module: u64) -> u64;
        pub(super) fn write_data(data: *const u8, length: usize) -> u32;
        pub(super) fn send(process: u64) -> i32;
    }
}

#[lunatic::main]
fn main(mailbox: Mailbox<()>) -> ExitCode {
    let claims = || SUBJECTS.iter().copied().flatten();
    if cfg!(not(target_family = "wasm")) {
        println!(
            "{} claims have to run on the machine: pass `--target wasm32-wasip1`",
            claims().count()
        );
        return ExitCode::SUCCESS;
    }
    // This holds only while the program has no other process.
    assert!(matches!(mailbox.receive(), Err(ReceiveError::NobodyLeft)));

    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let is_chosen = |claim: &&Claim| {
        chosen.is_empty() || chosen.iter().any(|part| claim.name.contains(part.as_str()))
    };
    let mut failed = 0;
    let mut mailbox = mailbox.catch_link_panic();
    for claim in claims().filter(is_chosen) {
        mailbox = (claim.spawn)(mailbox);
        match mailbox.receive() {
            Message::Normal(Ok(())) => println!("test {} ... ok", claim.name),
            Message::Normal(Err(error)) => panic!("{}: {error}", claim.name),
            Message::Signal(signal) => {
                failed += 1;
                println!("test {} ... FAILED: {signal}", claim.name);
            }
        }
    }
    println!(
        "test result: {failed} of {} failed",
        claims().filter(is_chosen).count()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Parcel {
    Nothing,
    Number { value: i64, unit: Option<String> },
    Bytes(Vec<u8>),
}

/// A server that doubles numbers. It answers a 0 only when the next request arrives, and exits on
/// `u32::MAX`.
fn double(mailbox: Mailbox<Request<u32, u32>>) {
    let mut held = None;
    while let Ok(request) = mailbox.receive() {
        if let Some(earlier) = held.take() {
            Request::reply(earlier, 0);
        }
        match *request.data() {
            0 => held = Some(request),
            u32::MAX => std::process::exit(3),
            number => request.reply(number * 2),
        }
    }
}

fn wait(mailbox: Mailbox<()>) {
    let _ = mailbox.receive_timeout(LONG);
}

/// Receives a signal.
fn signal<T: serde::de::DeserializeOwned>(mailbox: &LinkMailbox<T>) -> Signal {
    match mailbox.receive_timeout(LONG) {
        Message::Signal(signal) => signal,
        Message::Normal(Ok(_)) => panic!("a message arrived instead of a signal"),
        Message::Normal(Err(error)) => panic!("no signal arrived: {error}"),
    }
}

/// Runs a function that fails in a new environment, and returns its process's exit signal.
fn end_in(config: Config, mailbox: Mailbox<()>, function: fn(Mailbox<()>)) -> Signal {
    let mut environment = Environment::new(config)
        .expect("this process has the rights that the configuration grants");
    let module = environment
        .add_this_module()
        .expect("the module is already compiled");
    let (process, mailbox) = module
        .spawn_link(mailbox, function)
        .expect("the environment allows the process");
    let signal = signal(&mailbox);
    assert_eq!(
        (signal.kind, signal.pid),
        (SignalKind::LinkDied, process.id())
    );
    signal
}

/// Returns both ends of a connection.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("the listener is bound");
    let near = TcpStream::connect_timeout(address, LONG).expect("the listener exists");
    let (far, peer) = listener.accept().expect("this process connected above");
    assert_eq!(near.local_addr().expect("the stream is connected"), peer);
    assert_eq!(near.peer_addr().expect("the stream is connected"), address);
    (near, far)
}

claims! {
    fn messages_arrive_in_order(mailbox: Mailbox<u32>) {
        let this = process::this(&mailbox);
        for number in 0..100 {
            this.send(number);
        }
        for number in 0..100 {
            assert_eq!(mailbox.receive().unwrap(), number);
        }
    }

    fn a_message_arrives_as_it_was_sent(mailbox: Mailbox<Vec<Parcel>>) {
        let parcels = vec![
            Parcel::Nothing,
            Parcel::Number { value: i64::MIN, unit: Some("µm".into()) },
            Parcel::Number { value: 0, unit: None },
            Parcel::Bytes((0..=255).collect()),
        ];
        process::this(&mailbox).send(parcels.clone());
        assert_eq!(mailbox.receive().unwrap(), parcels);
    }

    fn a_message_larger_than_the_buffer_arrives_complete(mailbox: Mailbox<Vec<u32>>) {
        let this = process::this(&mailbox);
        for length in [0u32, 100, 511, 512, 513, 100_000, 3] {
            this.send((0..length).collect());
            let received = mailbox.receive().unwrap();
            assert!(received.into_iter().eq(0..length), "{length} numbers");
        }
    }

    fn a_receive_by_tag_finds_the_message_and_leaves_the_others(mailbox: Mailbox<String>) {
        let this = process::this(&mailbox);
        let (one, other) = (Tag::new(), Tag::new());
        this.send("first".into());
        this.tag_send(one, "one".into());
        this.tag_send(other, "other".into());
        assert_eq!(mailbox.tag_receive(&[other]).unwrap(), "other");
        assert_eq!(mailbox.receive_with_tag().unwrap(), ("first".into(), Tag::NONE));
        assert_eq!(mailbox.receive_with_tag().unwrap(), ("one".into(), one));
    }

    fn a_receive_that_times_out_loses_no_message(mailbox: Mailbox<u8>) {
        let this = process::this(&mailbox);
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
        this.send(1);
        let absent = [Tag::new()];
        assert!(matches!(mailbox.tag_receive_timeout(&absent, SHORT), Err(ReceiveError::Timeout)));
        assert!(matches!(mailbox.tag_receive_timeout(&absent, Duration::ZERO), Err(ReceiveError::Timeout)));
        this.send(2);
        assert_eq!(mailbox.receive_timeout(Duration::ZERO).unwrap(), 1);
        assert_eq!(mailbox.receive().unwrap(), 2);
    }

    fn a_message_of_another_type_is_an_error_and_is_removed(mailbox: Mailbox<Parcel>) {
        let this = process::this(&mailbox);
        retype::<_, u64>(this).send(7);
        this.send(Parcel::Nothing);
        assert!(matches!(mailbox.receive(), Err(ReceiveError::DeserializationFailed(_))));
        assert_eq!(mailbox.receive().unwrap(), Parcel::Nothing);
    }

    fn a_process_begins_with_the_value_that_it_is_given(mailbox: Mailbox<String>) {
        let this = process::this(&mailbox);
        let words = vec!["a".to_string(), "b".to_string()];
        process::spawn_with((this, words), |(parent, words), own: Mailbox<u8>| {
            assert_ne!(process::this(&own).id(), parent.id());
            parent.send(words.concat());
        })
        .unwrap();
        assert_eq!(mailbox.receive().unwrap(), "ab");
    }

    fn a_context_that_cannot_be_delivered_spawns_nothing(mailbox: Mailbox<()>) {
        let mut config = Config::new(10_000_000, None);
        config.allow_namespace("").max_message_bytes(1_000).max_processes(1);
        let mut environment = Environment::new(config).unwrap();
        let module = environment.add_this_module().unwrap();
        let wait_with: fn(String, Mailbox<()>) = |_, mailbox| wait(mailbox);
        let error = module.spawn_with("x".repeat(1_001), wait_with).unwrap_err();
        assert_eq!(error.kind(), Errno::MessageTooLarge, "{error}");
        // This process is the only one that the environment allows.
        let process = module.spawn_with(String::new(), wait_with).unwrap();
        process.monitor();
        process.kill();
        let Err(ReceiveError::Signal(signal)) = mailbox.receive() else { panic!("no process sends a message") };
        assert_eq!((signal.pid, signal.reason), (process.id(), ExitReason::Killed));
    }

    fn a_monitor_reports_the_exit_with_its_reason(mailbox: Mailbox<()>) {
        let mailbox = mailbox.catch_link_panic();
        let check = |function: fn(Mailbox<()>), reason: ExitReason| {
            let process = process::spawn(function).unwrap();
            process.monitor();
            process.send(());
            let signal = signal(&mailbox);
            assert_eq!((signal.kind, signal.pid, signal.tag), (SignalKind::ProcessDied, process.id(), Tag::NONE));
            assert_eq!(signal.reason, reason, "{signal}");
            assert!(!process.is_alive());
            // Sending to a dead process is not a failure, and monitoring one reports its death.
            process.send(());
            process.monitor();
            assert_eq!(self::signal(&mailbox).reason, ExitReason::NoProcess);
        };
        check(|mailbox| mailbox.receive().unwrap(), ExitReason::Normal);
        check(|mailbox| { mailbox.receive().unwrap(); std::process::exit(0) }, ExitReason::Normal);
        check(|mailbox| { mailbox.receive().unwrap(); std::process::exit(3) }, ExitReason::Status(3));
        check(|mailbox| { mailbox.receive().unwrap(); panic!("on purpose") }, ExitReason::Trapped);
    }

    fn a_process_that_is_no_longer_monitored_is_not_reported(mailbox: Mailbox<()>) {
        let process = process::spawn(wait).unwrap();
        process.monitor();
        process.stop_monitoring();
        // Another process still monitors the process, and tells this one when the signal would have
        // arrived.
        let this = process::this(&mailbox);
        process::spawn_with((this, process), |(parent, process), mailbox: Mailbox<()>| {
            process.monitor();
            process.kill();
            assert!(matches!(mailbox.receive(), Err(ReceiveError::Signal(_))));
            parent.send(());
        })
        .unwrap();
        mailbox.receive().unwrap();
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }

    fn a_kill_is_reported_to_links_with_their_tag(mailbox: Mailbox<()>) {
        let mailbox = mailbox.catch_link_panic();
        let process = process::spawn(wait).unwrap();
        let tag = process.link();
        process.kill();
        let Message::Signal(signal) = mailbox.tag_receive(&[tag]) else { panic!("only the link's signal has this tag") };
        assert_eq!((signal.kind, signal.tag, signal.pid), (SignalKind::LinkDied, tag, process.id()));
        assert_eq!(signal.reason, ExitReason::Killed);

        process.link();
        assert_eq!(self::signal(&mailbox).reason, ExitReason::NoProcess);
    }

    fn a_normal_exit_is_not_reported_to_links(mailbox: Mailbox<()>) {
        let (process, mailbox) = process::spawn_link(mailbox, |_: Mailbox<()>| ()).unwrap();
        process.monitor();
        assert_eq!(signal(&mailbox).kind, SignalKind::ProcessDied);
        assert!(!mailbox.receive_timeout(SHORT).is_signal());
    }

    fn a_process_is_linked_from_the_start(mailbox: Mailbox<()>) {
        let mut mailbox = mailbox.catch_link_panic();
        for status in 1..20 {
            let (process, next) =
                process::spawn_link_with(mailbox, status, |status, _: Mailbox<()>| std::process::exit(status)).unwrap();
            let signal = signal(&next);
            assert_eq!((signal.kind, signal.pid), (SignalKind::LinkDied, process.id()));
            assert_eq!(signal.reason, ExitReason::Status(status));
            mailbox = next;
        }
    }

    fn a_builder_spawns_in_an_environment_with_a_tag_for_the_link(mailbox: Mailbox<String>) {
        let this = process::this(&mailbox);
        let mailbox = mailbox.catch_link_panic();
        let mut config = Config::new(10_000_000, None);
        config.allow_namespace("").environment_variable("COLOUR", "green");
        let environment = Environment::new(config).unwrap();
        let builder = process::Builder::new().environment(&environment);

        let colour: fn(Process<String>, Mailbox<()>) = |parent, _| parent.send(std::env::var("COLOUR").unwrap());
        builder.spawn_with(this, colour).unwrap();
        assert_eq!(mailbox.receive().normal_or_unwrap().unwrap(), "green");

        let tags = [Tag::new(), Tag::new()];
        let children = tags.map(|tag| builder.link(tag).spawn(wait).unwrap());
        let alone = builder.spawn(wait).unwrap();
        for process in [alone, children[0], children[1]] {
            process.kill();
        }
        for (tag, child) in tags.into_iter().zip(children).rev() {
            let Message::Signal(signal) = mailbox.tag_receive(&[tag]) else { panic!("only the link's signal has this tag") };
            assert_eq!((signal.kind, signal.tag, signal.pid), (SignalKind::LinkDied, tag, child.id()));
        }
        assert!(!mailbox.receive_timeout(SHORT).is_signal());
    }

    fn linked_processes_die_together(mailbox: Mailbox<()>) {
        let mailbox = mailbox.catch_link_panic();
        let parent = process::spawn(|mailbox: Mailbox<()>| {
            mailbox.receive().unwrap();
            let (child, mailbox) = process::spawn_link_unwrap(mailbox, wait).unwrap();
            child.kill();
            wait(mailbox);
        })
        .unwrap();
        parent.monitor();
        parent.send(());
        assert_eq!(signal(&mailbox).reason, ExitReason::LinkDied);
    }

    fn an_unlinked_process_dies_alone(mailbox: Mailbox<()>) {
        let process = process::spawn(wait).unwrap();
        process.link();
        process.unlink();
        process.monitor();
        process.kill();
        let Err(ReceiveError::Signal(signal)) = mailbox.receive() else { panic!("no process sends a message") };
        assert_eq!((signal.kind, signal.reason), (SignalKind::ProcessDied, ExitReason::Killed));
    }

    fn a_request_gets_its_reply_and_leaves_other_messages(mailbox: Mailbox<u8>) {
        process::this(&mailbox).send(1);
        let server = process::spawn(double).unwrap();
        for number in 1..100 {
            assert_eq!(server.request(number).unwrap(), 2 * number);
        }
        assert_eq!(mailbox.receive().unwrap(), 1);
    }

    fn a_late_reply_is_neither_a_reply_nor_a_message(mailbox: Mailbox<u8>) {
        let this = process::this(&mailbox);
        let server = process::spawn(double).unwrap();
        assert!(matches!(server.request_timeout(0, SHORT), Err(RequestError::Timeout)));
        assert_eq!(server.request(4).unwrap(), 8);

        assert!(matches!(server.request_timeout(0, SHORT), Err(RequestError::Timeout)));
        // The server answers in order, so the late reply arrives before the other process's
        // message.
        process::spawn_with((this, server), |(parent, server), _: Mailbox<()>| {
            assert_eq!(server.request(1).unwrap(), 2);
            parent.send(9);
        })
        .unwrap();
        assert_eq!(mailbox.receive().unwrap(), 9);
        assert!(matches!(mailbox.receive_timeout(Duration::ZERO), Err(ReceiveError::Timeout)));
    }

    fn a_request_to_a_process_that_dies_returns_the_reason(mailbox: Mailbox<()>) {
        let server = process::spawn(double).unwrap();
        assert!(matches!(server.request(u32::MAX), Err(RequestError::Died(ExitReason::Status(3)))));
        assert!(matches!(server.request(1), Err(RequestError::Died(ExitReason::NoProcess))));
        assert!(matches!(mailbox.receive_timeout(Duration::ZERO), Err(ReceiveError::Timeout)));
    }

    fn a_process_may_die_after_its_reply(mailbox: Mailbox<()>) {
        let mailbox = mailbox.catch_link_panic();
        for number in 0..100 {
            let once = process::spawn(|mailbox: Mailbox<Request<u32, u32>>| {
                let request = mailbox.receive().unwrap();
                let number = *request.data();
                request.reply(number);
            });
            assert_eq!(once.unwrap().request(number).unwrap(), number);
        }
        assert!(matches!(mailbox.receive_timeout(Duration::ZERO), Message::Normal(Err(ReceiveError::Timeout))));
    }

    fn a_request_does_not_affect_a_monitor_of_the_server(mailbox: Mailbox<()>) {
        let mailbox = mailbox.catch_link_panic();
        let server = process::spawn(double).unwrap();
        server.monitor();
        assert_eq!(server.request(1).unwrap(), 2);
        assert!(server.request(u32::MAX).is_err());
        let signal = signal(&mailbox);
        assert_eq!((signal.tag, signal.reason), (Tag::NONE, ExitReason::Status(3)));
    }

    fn a_timer_fires_unless_it_is_cancelled(mailbox: Mailbox<u8>) {
        let this = process::this(&mailbox);
        let never = this.send_after(3, Duration::MAX).unwrap();
        let cancelled = this.send_after(2, LONG).unwrap();
        let soon = this.send_after(1, SHORT).unwrap();
        assert!(cancelled.cancel());
        assert_eq!(mailbox.receive().unwrap(), 1);
        assert!(!soon.cancel() && never.cancel());
    }

    fn a_lookup_finds_the_newest_version_that_meets_the_requirement(mailbox: Mailbox<()>) {
        let this = process::this(&mailbox);
        let here = process::this_env();
        let other = process::spawn(wait).unwrap();
        here.register("names", "1.2.0", this).unwrap();
        here.register("names", "1.10.0", other).unwrap();
        assert_eq!(here.register("names", "1.2.0", other), Err(RegistryError::NameTaken));
        assert_eq!(here.register("names", "one", this), Err(RegistryError::IncorrectSemver));
        assert_eq!(lookup("names", "^1.1").unwrap(), Some(other));
        assert_eq!(lookup("names", "~1.2").unwrap(), Some(this));
        assert_eq!(here.lookup::<()>("names", "2").unwrap(), None);
        assert_eq!(lookup::<()>("names", "?"), Err(RegistryError::IncorrectQuery));
        here.unregister("names", "1.2.0").unwrap();
        assert_eq!(here.unregister("names", "1.2.0"), Err(RegistryError::NotFound));

        // A name is free again by the time its process's exit is reported.
        other.monitor();
        other.kill();
        assert!(matches!(mailbox.receive(), Err(ReceiveError::Signal(_))));
        assert_eq!(lookup::<()>("names", "^1.1").unwrap(), None);
    }

    fn a_call_that_is_not_granted_ends_the_process(mailbox: Mailbox<()>) {
        let mut config = Config::new(2_000_000, None);
        config.allow_namespace("wasi_snapshot_preview1::environ");
        let signal = end_in(config, mailbox, |_| println!("not granted"));
        assert_eq!(signal.reason, ExitReason::Trapped);
        assert!(signal.to_string().contains("fd_write"), "{signal}");
    }

    fn an_unfinished_line_is_written_when_the_process_ends(mailbox: Mailbox<()>) {
        // The environment does not allow writing, so the trap shows that there was an attempt to
        // write.
        let signal = end_in(Config::new(2_000_000, None), mailbox, |_| print!("no line"));
        assert_eq!(signal.reason, ExitReason::Trapped);
        assert!(signal.to_string().contains("fd_write"), "{signal}");
    }

    fn a_process_that_has_filled_its_memory_ends_normally(mailbox: Mailbox<()>) {
        let mut environment = Environment::new(Config::new(2_000_000, None)).unwrap();
        let module = environment.add_this_module().unwrap();
        let fill: fn(Mailbox<()>) = |_| {
            for size in [1 << 16, 1 << 10, 1 << 4] {
                let mut bytes = Vec::<u8>::new();
                while black_box(&mut bytes).try_reserve(size).is_ok() {
                    std::mem::forget(std::mem::take(&mut bytes));
                }
            }
        };
        let (process, mailbox) = module.spawn_link(mailbox, fill).unwrap();
        process.monitor();
        let signal = signal(&mailbox);
        assert_eq!(signal.kind, SignalKind::ProcessDied, "{signal}");
    }

    fn a_process_that_only_computes_needs_no_grant(mailbox: Mailbox<()>) {
        let mut environment = Environment::new(Config::new(2_000_000, None)).unwrap();
        let module = environment.add_this_module().unwrap();
        let compute: fn(Mailbox<()>) = |_| assert_eq!(black_box(6) * 7, 42);
        let (process, mailbox) = module.spawn_link(mailbox, compute).unwrap();
        process.monitor();
        // If the process had failed, the link's signal would arrive first.
        let signal = signal(&mailbox);
        assert_eq!(signal.kind, SignalKind::ProcessDied, "{signal}");
    }

    fn memory_is_limited(mailbox: Mailbox<()>) {
        let signal = end_in(Config::new(2_000_000, None), mailbox, |_| drop(black_box(vec![0u8; 2_000_000])));
        assert_eq!(signal.reason, ExitReason::Limit(Some(Limit::Memory)), "{signal}");
    }

    fn compute_is_limited(mailbox: Mailbox<()>) {
        let signal = end_in(Config::new(2_000_000, Some(1)), mailbox, |_| loop { black_box(()) });
        assert_eq!(signal.reason, ExitReason::Limit(Some(Limit::Compute)), "{signal}");
    }

    fn an_environment_provides_arguments_and_variables(mailbox: Mailbox<Vec<String>>) {
        let mut config = Config::new(10_000_000, None);
        config
            .allow_namespace("wasi_snapshot_preview1::")
            .allow_namespace("lunatic::message::")
            .argument("program")
            .argument("--flag")
            .environment_variable("COLOUR", "blue");
        let mut environment = Environment::new(config).unwrap();
        let module = environment.add_this_module().unwrap();
        // The module alone is enough to spawn a process in its environment.
        drop(environment);
        let this = process::this(&mailbox);
        module
            .spawn_with(this, |parent, _: Mailbox<()>| {
                let mut found: Vec<String> = std::env::args().collect();
                found.push(std::env::var("COLOUR").unwrap());
                parent.send(found);
            })
            .unwrap();
        assert_eq!(mailbox.receive().unwrap(), ["program", "--flag", "blue"]);
    }

    fn exceeding_the_process_limit_is_an_error_for_the_spawner(mailbox: Mailbox<Option<String>>) {
        let mut config = Config::new(10_000_000, None);
        config.allow_namespace("").max_processes(1);
        let mut environment = Environment::new(config).unwrap();
        let module = environment.add_this_module().unwrap();
        module
            .spawn_with(process::this(&mailbox), |parent, _: Mailbox<()>| {
                let error = process::spawn(wait).err();
                parent.send(error.map(|error| format!("{:?}", error.kind())));
            })
            .unwrap();
        assert_eq!(mailbox.receive().unwrap().as_deref(), Some("LimitReached"));
    }

    fn a_failed_spawn_with_a_link_returns_the_mailbox(mailbox: Mailbox<u8>) {
        let this = process::this(&mailbox);
        let mut environment = Environment::new(Config::new(65_536, None)).unwrap();
        let module = environment.add_this_module().unwrap();
        let Err(error) = module.spawn_link(mailbox, wait) else { panic!("a memory limit of one page is too small for this module") };
        assert_eq!(error.error.kind(), Errno::LimitReached, "{error}");
        this.send(1);
        assert_eq!(error.mailbox.receive().normal_or_unwrap().unwrap(), 1);
    }

    fn a_send_to_a_full_mailbox_returns_the_message(_mailbox: Mailbox<()>) {
        let mut config = Config::new(10_000_000, None);
        config.allow_namespace("").max_mailbox_messages(2).max_message_bytes(1_000);
        let mut environment = Environment::new(config).unwrap();
        let module = environment.add_this_module().unwrap();
        let busy: Process<String> = module
            .spawn(|mailbox: Mailbox<String>| {
                let _ = mailbox.tag_receive(&[Tag::new()]);
            })
            .unwrap();
        let error = busy.try_send("x".repeat(1_001)).unwrap_err();
        assert!(matches!(error.failure, lunatic::SendFailure::MessageTooLarge));
        busy.send("first".into());
        busy.send("second".into());
        let error = busy.try_send("third".into()).unwrap_err();
        assert!(matches!(error.failure, lunatic::SendFailure::MailboxFull));
        assert_eq!(error.message, "third");
    }

    fn functions_of_a_module_can_be_spawned_with_parameters(mailbox: Mailbox<()>) {
        /// `(module (func (export "f") (param i32 i64 f32 f64) unreachable))`
        const MODULE: &[u8] = b"\0asm\x01\0\0\0\x01\x08\x01\x60\x04\x7f\x7e\x7d\x7c\0\
            \x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a\x05\x01\x03\0\0\x0b";
        let mut environment = Environment::new(Config::new(1_000_000, None)).unwrap();
        let error = environment.add_module(b"not a module").unwrap_err();
        assert_eq!(error.kind(), Errno::BadModule);

        let module = environment.add_module(MODULE).unwrap();
        let error = module.spawn::<()>("g", &[]).unwrap_err();
        assert_eq!(error.kind(), Errno::NoFunction, "{error}");
        let error = module.spawn::<()>("f", &[Param::I32(1)]).unwrap_err();
        assert_eq!(error.kind(), Errno::BadParameters, "{error}");
        let params = [Param::I32(1), Param::I64(2), Param::F32(3.0), Param::F64(4.0)];
        let (process, mailbox) = module.spawn_link::<(), _, _>(mailbox, "f", &params).unwrap();
        let signal = signal(&mailbox);
        assert_eq!((signal.pid, signal.reason), (process.id(), ExitReason::Trapped));
    }

    fn a_connection_carries_bytes_in_both_directions(_mailbox: Mailbox<()>) {
        let (mut near, mut far) = connection();
        near.write_all(b"there").unwrap();
        far.write_all(b"and back").unwrap();
        let mut bytes = [0; 5];
        assert_eq!(far.peek(&mut bytes).unwrap(), 5);
        far.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"there");
        far.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        assert_eq!(text, "and back");

        near.set_nodelay(true).unwrap();
        let slices = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
        assert_eq!(near.write_vectored(&slices).unwrap(), 7);
        drop(near);
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two");
    }

    fn a_stream_that_is_sent_can_still_be_used_by_the_sender(mailbox: Mailbox<TcpStream>) {
        let (near, mut far) = connection();
        let this = process::this(&mailbox);
        process::spawn_with((this, near.clone(), near), |(parent, mut one, other), _: Mailbox<()>| {
            one.write_all(b"from the child, ").unwrap();
            parent.send(other);
        })
        .unwrap();
        let mut near = mailbox.receive().unwrap();
        near.write_all(b"from the parent").unwrap();
        // The sender's handle still works: the connection is closed only when the last handle is
        // dropped.
        this.send(near.clone());
        drop(mailbox.receive().unwrap());
        drop(near);
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from the child, from the parent");
    }

    fn a_stream_that_is_not_in_the_message_is_an_error(mailbox: Mailbox<(TcpStream, TcpStream)>) {
        let (near, far) = connection();
        let this = retype::<_, (TcpStream, u32)>(process::this(&mailbox));
        // The message contains only one stream, at index 0.
        for index in [0, 1, u32::MAX] {
            this.send((near.clone(), index));
            let error = mailbox.receive().unwrap_err();
            assert!(matches!(error, ReceiveError::DeserializationFailed(_)), "{index}: {error}");
        }
        retype::<_, (TcpStream, TcpStream)>(this).send((near, far));
        mailbox.receive().expect("the message contains both streams");
    }

    fn a_module_in_place_of_a_stream_is_an_error(mailbox: Mailbox<TcpStream>) {
        // SAFETY: the declarations match the machine's table, and the data is one byte long.
        unsafe {
            machine::create_data(0, 1);
            assert_eq!(machine::push_module(u64::MAX), 0);
            machine::write_data([0].as_ptr(), 1);
            machine::send(process::this(&mailbox).id());
        }
        assert!(matches!(mailbox.receive(), Err(ReceiveError::DeserializationFailed(_))));
    }

    fn a_read_that_times_out_loses_no_bytes(_mailbox: Mailbox<()>) {
        let (mut near, mut far) = connection();
        assert_eq!(near.read_timeout(), None);
        near.set_read_timeout(Some(SHORT));
        assert_eq!(near.clone().read_timeout(), Some(SHORT));
        let mut byte = [0];
        assert_eq!(near.read(&mut byte).unwrap_err().kind(), ErrorKind::TimedOut);
        near.set_read_timeout(None);
        far.write_all(b"x").unwrap();
        near.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    fn a_refused_connection_and_a_port_in_use_have_their_own_kinds_of_errors(_mailbox: Mailbox<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listener);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        drop(TcpListener::bind(address).expect("the port is free again"));
    }
}
