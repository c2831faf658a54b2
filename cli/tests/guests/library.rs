//! Checks what the guest library offers beyond what its own tests cover. Prints a line for each
//! claim that holds.

use machine::net::{TcpListener, TcpStream, ToSocketAddrs, resolve};
use machine::server::Handle;
use machine::supervisor::{Child, Supervisor};
use machine::{
    Config, Environment, ExitReason, LinkMailbox, LunaticError, Mailbox, Message, Param, Process,
    ReceiveError, Request, SendFailure, Server, Tag, Task, TransformMailbox, process,
};
use std::cell::Cell;
use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

#[machine::main]
fn main(mailbox: Mailbox<String>) -> Result<(), Box<dyn Error>> {
    limits(&mailbox)?;
    let mailbox = limits_that_end(mailbox)?;
    messages(&mailbox)?;
    processes(&mailbox)?;
    servers()?;
    sockets()?;
    modules(&mailbox)?;
    Err("ok a main that returns an error exits with status 1".into())
}

fn ok(claim: &str) {
    println!("ok {claim}");
}

/// Runs a child that has all rights except for the given changes, and returns the message it sends.
fn ask(
    mailbox: &Mailbox<String>,
    change: fn(&mut Config),
    child: fn(Process<String>, Mailbox<()>),
) -> Result<String, LunaticError> {
    let mut config = Config::new(50_000_000, None);
    config.allow_namespace("").preopen_dir(".");
    change(&mut config);
    let module = Environment::new(config)?.add_this_module()?;
    module.spawn_with(process::this(mailbox), child)?;
    Ok(mailbox.receive().expect("the child sends something"))
}

/// Checks environment limits that make one of the child's calls return an error.
fn limits(mailbox: &Mailbox<String>) -> Result<(), Box<dyn Error>> {
    let said = ask(
        mailbox,
        |config| {
            config.max_timers(1);
        },
        |parent, mailbox: Mailbox<()>| {
            let this = process::this(&mailbox);
            let set = || {
                this.send_after((), LONG)
                    .map(drop)
                    .map_err(|error| error.kind())
            };
            parent.send(format!("{:?} {:?}", set(), set()));
        },
    )?;
    assert_eq!(said, "Ok(()) Err(LimitReached)");
    ok("timers are limited");

    let said = ask(
        mailbox,
        |config| {
            config.max_names(1);
        },
        |parent, mailbox: Mailbox<()>| {
            let register =
                |name| process::this_env().register(name, "1.0.0", process::this(&mailbox));
            parent.send(format!("{:?} {:?}", register("one"), register("two")));
        },
    )?;
    assert_eq!(said, "Ok(()) Err(Refused(LimitReached))");
    ok("names are limited");

    let said = ask(
        mailbox,
        |config| {
            config.max_sockets(1);
        },
        |parent, _: Mailbox<()>| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("the limit allows one socket");
            let second = TcpListener::bind("127.0.0.1:0")
                .map(drop)
                .map_err(|error| error.kind());
            drop(listener);
            let third = TcpListener::bind("127.0.0.1:0").map(drop);
            parent.send(format!("{second:?} {third:?}"));
        },
    )?;
    assert_eq!(said, "Err(QuotaExceeded) Ok(())");
    ok("sockets are limited");

    let said = ask(
        mailbox,
        |config| {
            config.max_files(3);
        },
        |parent, _: Mailbox<()>| {
            let files: Vec<_> = (0..10)
                .map_while(|_| File::open("plugin.wasm").ok())
                .collect();
            parent.send((!files.is_empty() && files.len() <= 3).to_string());
        },
    )?;
    assert_eq!(said, "true");
    ok("files are limited");

    let mut config = Config::new(2_000_000, None);
    config
        .allow_namespace("lunatic::message::")
        .max_total_memory(2_000_000);
    let module = Environment::new(config)?.add_this_module()?;
    let first = module.spawn(wait)?;
    let error = module
        .spawn(wait)
        .expect_err("two such processes exceed the limit");
    assert_eq!(error.kind(), machine::Errno::LimitReached, "{error}");
    first.kill();
    ok("the memory of all processes is limited");

    let mut config = Config::new(2_000_000, None);
    config.max_table_elements(1);
    let module = Environment::new(config)?.add_this_module()?;
    let error = module
        .spawn(wait)
        .expect_err("a program's table has more elements");
    assert_eq!(error.kind(), machine::Errno::LimitReached, "{error}");
    ok("tables are limited");

    let mut config = Config::new(2_000_000, None);
    config
        .allow_namespace("lunatic::message::")
        .max_mailbox_bytes(1_000);
    let module = Environment::new(config)?.add_this_module()?;
    let busy: Process<String> =
        module.spawn(|mailbox: Mailbox<String>| drop(mailbox.tag_receive(&[Tag::new()])))?;
    busy.send("x".repeat(600));
    let refused = busy
        .try_send("y".repeat(600))
        .expect_err("there is no room for both messages");
    assert!(
        matches!(refused.failure, SendFailure::MailboxFull),
        "{refused}"
    );
    assert_eq!(refused.message, "y".repeat(600));
    busy.kill();
    ok("the bytes in a mailbox are limited");
    Ok(())
}

/// Checks environment limits that end the child.
fn limits_that_end(mailbox: Mailbox<String>) -> Result<Mailbox<String>, Box<dyn Error>> {
    let mut mailbox = mailbox.catch_link_panic();
    let cases: [(&str, fn(&mut Config), fn(Mailbox<()>), machine::Limit); 2] = [
        (
            "time",
            |config| {
                config.max_time(20);
            },
            wait,
            machine::Limit::Time,
        ),
        (
            "the compute of all processes",
            |config| {
                config.max_total_compute(2);
            },
            spin,
            machine::Limit::TotalCompute,
        ),
    ];
    for (what, change, child, limit) in cases {
        let mut config = Config::new(2_000_000, None);
        config.allow_namespace("lunatic::message::");
        change(&mut config);
        let module = Environment::new(config)?.add_this_module()?;
        let (child, next) = module.spawn_link(mailbox, child)?;
        let message = next.receive();
        let signal = message.signal().expect("no process sends a message");
        assert_eq!(
            (signal.pid, signal.reason),
            (child.id(), ExitReason::Limit(Some(limit))),
            "{signal}"
        );
        ok(&format!("{what} is limited"));
        mailbox = next;
    }
    Ok(mailbox.panic_if_link_panics())
}

fn wait(mailbox: Mailbox<()>) {
    let _ = mailbox.receive();
}

fn spin(_: Mailbox<()>) {
    loop {
        black_box(());
    }
}

fn messages(mailbox: &Mailbox<String>) -> Result<(), Box<dyn Error>> {
    let this = process::this(mailbox);
    let tag = Tag::new();
    this.tag_send_after(tag, "later".to_owned(), SHORT)?;
    this.send("now".to_owned());
    assert_eq!(mailbox.tag_receive(&[tag])?, "later");
    assert_eq!(mailbox.receive()?, "now");
    ok("a timer's message has the given tag");

    let server = process::spawn(|mailbox: Mailbox<Request<String, String>>| {
        while let Ok(mut request) = mailbox.receive() {
            request.data_mut().push('!');
            assert!(request.sender().is_alive());
            let answer = request.data().clone();
            request.reply(answer);
        }
    })?;
    assert_eq!(server.request("heard".to_owned())?, "heard!");
    server.kill();
    ok("a request can be changed before it is answered");

    let receiver: Process<Vec<Option<TcpStream>>> =
        process::spawn(|mailbox: Mailbox<Vec<Option<TcpStream>>>| {
            drop(mailbox.receive());
        })?;
    receiver
        .try_send(vec![None])
        .expect("no part of the message needs a grant");
    ok("an optional stream in a message can be `None`");

    process::sleep(1);
    assert!(matches!(
        mailbox.receive_timeout(Duration::ZERO),
        Err(ReceiveError::Timeout)
    ));
    ok("a process can sleep");
    Ok(())
}

fn processes(mailbox: &Mailbox<String>) -> Result<(), Box<dyn Error>> {
    let this = process::this(mailbox);
    let chain = process::spawn_with(this, |parent, mailbox: Mailbox<()>| {
        let begin = |number: u32, mailbox: Mailbox<()>| {
            assert_eq!(number, 7);
            wait(mailbox);
        };
        let (child, mailbox) =
            process::spawn_link_unwrap_with(mailbox, 7, begin).expect("no limit is reached");
        parent.send("linked".to_owned());
        child.kill();
        wait(mailbox);
    })?;
    assert_eq!(mailbox.receive()?, "linked");
    chain.monitor();
    let Err(ReceiveError::Signal(signal)) = mailbox.receive() else {
        panic!("no process sends a message")
    };
    assert!(
        matches!(signal.reason, ExitReason::LinkDied | ExitReason::NoProcess),
        "{signal}"
    );
    ok("a parent dies with a process that was spawned with a value and a link");

    let environment = process::this_env();
    environment.register("main", "1.2.3", this)?;
    assert_eq!(environment.lookup("main", "=1.2.3")?, Some(this));
    environment.unregister("main", "1.2.3")?;
    ok("an environment finds the names that are registered in it");

    let told = process::spawn_with(this, |parent, mailbox: Mailbox<String>| {
        let mailbox: LinkMailbox<String> = mailbox.catch_link_panic();
        let child = process::spawn(wait).expect("no limit is reached");
        child.link();
        child.kill();
        assert!(mailbox.receive().is_signal());
        process::this(&mailbox).send("a message".to_owned());
        let message: Message<String> = mailbox.receive();
        parent.send(
            message
                .normal_or_unwrap()
                .expect("the message was sent above"),
        );
    })?;
    assert_eq!(mailbox.receive()?, "a message");
    told.kill();
    ok("signals and messages arrive in one mailbox");
    Ok(())
}

fn sockets() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut near = TcpStream::connect_timeout(address, LONG)?;
    let mut far = listener
        .incoming()
        .next()
        .expect("the iterator never ends")?;
    assert_eq!(
        (near.peer_addr()?, near.local_addr()?),
        (address, far.peer_addr()?)
    );
    near.set_write_timeout(Some(SHORT));
    near.set_peek_timeout(Some(SHORT));
    assert_eq!(
        (
            near.write_timeout(),
            near.peek_timeout(),
            near.read_timeout()
        ),
        (Some(SHORT), Some(SHORT), None)
    );
    assert_eq!(
        near.peek(&mut [0]).map_err(|error| error.kind()),
        Err(std::io::ErrorKind::TimedOut)
    );
    let full = loop {
        if let Err(error) = near.write(&[0; 60_000]) {
            break error;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::TimedOut);
    ok("a write to a peer that does not read times out");

    let mut config = Config::new(2_000_000, None);
    config.allow_namespace("lunatic::message::");
    let module = Environment::new(config)?.add_this_module()?;
    let receiver: Process<TcpStream> =
        module.spawn(|mailbox: Mailbox<TcpStream>| drop(mailbox.receive()))?;
    let refused = receiver
        .try_send(near)
        .expect_err("the receiver's environment grants no sockets");
    assert!(
        matches!(refused.failure, SendFailure::NotGranted),
        "{refused}"
    );
    let near = refused.message;
    receiver.kill();
    assert!(near.peer_addr().is_ok());
    ok("a message is returned if its receiver may not have the stream in it");

    drop(near);
    assert!(far.read_to_end(&mut Vec::new())? > 0);
    ok("written bytes arrive after the writer has been dropped");

    let addresses: Vec<_> = resolve(&address.to_string())?.collect();
    assert_eq!(addresses, [address]);
    assert_eq!(address.to_socket_addrs()?.next(), Some(address));
    ok("an address resolves to itself");
    Ok(())
}

/// A server in a crate that depends on the library under a different name and does not depend on
/// serde.
struct Counter(u32);

#[machine::server]
impl Counter {
    #[init]
    fn init(count: u32) -> Self {
        Counter(count)
    }

    #[call]
    fn add(&mut self, reply: u32, message: u32) -> Result<u32, String> {
        self.0 += reply + message;
        Ok(self.0)
    }

    #[cast]
    fn set(&mut self, delay: u32) {
        self.0 = delay;
    }
}

machine::process_local! {
    static STARTS: Cell<u32> = const { Cell::new(0) };
}

/// Checks servers, supervisors and tasks.
fn servers() -> Result<(), Box<dyn Error>> {
    let counter = Counter::start(1)?;
    assert_eq!(counter.add(2, 3)?, Ok(6));
    counter.set(1)?;
    counter.set_after(LONG, 2)?;
    assert_eq!(counter.within(LONG).add(1, 1)?, Ok(3));
    ok("a server can be called by functions, no matter what their parameters are named");

    let supervisor = Supervisor::start_link(|plan| {
        STARTS.set(STARTS.get() + 1);
        plan.child(Child::server::<Counter>("counter", STARTS.get()).register("counter", "1.0.0"));
    })?;
    let counter = Handle::<Counter>::lookup("counter", "^1")?.expect("the server has started");
    assert_eq!(counter.add(0, 0)?, Ok(1));
    assert_eq!((STARTS.get(), supervisor.count()?.active), (0, 1));
    supervisor.stop();
    assert_eq!(
        Task::spawn(counter, |counter| counter.process().is_alive())?.result()?,
        false
    );
    ok("the children of a supervisor end with the supervisor");
    Ok(())
}

fn modules(mailbox: &Mailbox<String>) -> Result<(), Box<dyn Error>> {
    let mut config = Config::new(2_000_000, None);
    config.allow_namespace("wasi_snapshot_preview1::proc_exit");
    let module = Environment::new(config)?.add_module(&std::fs::read("plugin.wasm")?)?;
    let parameters = [
        Param::I32(-1),
        Param::I64(i64::MIN),
        Param::F32(0.5),
        Param::F64(-0.25),
        Param::V128(u128::MAX - 1),
    ];
    let process: Process<()> = module.spawn("check", &parameters)?;
    process.monitor();
    let Err(ReceiveError::Signal(signal)) = mailbox.receive() else {
        panic!("no process sends a message")
    };
    // The module exits with this status if all parameters are as expected.
    assert_eq!(signal.reason, ExitReason::Status(42), "{signal}");
    ok("parameters of every type arrive");
    Ok(())
}
