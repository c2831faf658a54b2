//! Claims about servers: typed calls and casts, and how servers start and stop.

use crate::{LONG, SHORT, signal};
use lunatic::server::{self, Handle, Reply};
use lunatic::{
    ExitReason, Mailbox, Process, ReceiveError, RegistryError, RequestError, Server, Signal,
    SignalKind, StartError, TransformMailbox, process,
};
use std::collections::HashMap;
use std::time::Duration;

/// A server with every kind of function.
pub(crate) struct Counter {
    count: u32,
    waiting: Vec<Reply<u32>>,
}

#[lunatic::server]
impl Counter {
    #[init]
    fn init(count: u32) -> Self {
        Self {
            count,
            waiting: Vec::new(),
        }
    }

    /// Adds to the count and returns the new count.
    #[call]
    pub(crate) fn increment(&mut self, by: u32) -> u32 {
        self.count += by;
        self.announce();
        self.count
    }

    #[call]
    fn count(&self) -> u32 {
        self.count
    }

    #[call]
    fn nothing(&self) {}

    /// Answers the next time the count changes.
    #[call]
    fn next(&mut self, reply: Reply<u32>) {
        self.waiting.push(reply);
    }

    #[call]
    fn divide(&mut self, reply: u32, delay: u32) -> Result<u32, String> {
        reply
            .checked_div(delay)
            .ok_or_else(|| "by zero".to_string())
    }

    #[call]
    fn fail(&mut self, status: i32) {
        std::process::exit(status);
    }

    #[call]
    fn last(&mut self, status: i32) -> u32 {
        server::stop(status);
        self.count
    }

    #[call]
    fn ask_itself(&self) -> u32 {
        match Handle::<Self>::this().count() {
            Err(RequestError::Itself) => 7,
            _ => 0,
        }
    }

    #[cast]
    fn set(&mut self, count: u32) {
        self.count = count;
        self.announce();
    }

    fn announce(&mut self) {
        for reply in self.waiting.drain(..) {
            reply.send(self.count);
        }
    }
}

/// A server that takes two arguments, may refuse to start, monitors other processes, and reports
/// events to a log.
struct Watcher {
    log: Process<String>,
    names: HashMap<u64, String>,
}

#[lunatic::server]
impl Watcher {
    #[init]
    fn init(log: Process<String>, name: String) -> Result<Self, std::num::ParseIntError> {
        name.parse::<u8>()?;
        Ok(Self {
            log,
            names: HashMap::new(),
        })
    }

    #[cast]
    fn watch(&mut self, name: String, process: Process<()>) {
        process.monitor();
        self.names.insert(process.id(), name);
    }

    #[cast]
    fn link(&mut self, process: Process<()>) {
        process.link();
    }

    #[call]
    fn names(&self) -> Vec<String> {
        self.names.values().cloned().collect()
    }

    #[signal]
    fn signal(&mut self, signal: Signal) {
        let name = self
            .names
            .remove(&signal.pid)
            .unwrap_or_else(|| "a link".to_string());
        self.log.send(format!("{name} {}", signal.reason));
    }

    #[terminate]
    fn terminate(self) {
        self.log.send("terminates".to_string());
    }
}

/// A server without calls. Its `#[init]` panics or waits.
struct Slow;

#[lunatic::server]
impl Slow {
    #[init]
    fn init(parent: Option<Process<Process<()>>>) -> Self {
        let Some(parent) = parent else {
            panic!("on purpose")
        };
        parent.send(Handle::<Self>::this().process());
        process::sleep(LONG.as_millis() as u64);
        Self
    }

    #[signal]
    fn signal(&mut self, _signal: Signal) {}
}

fn wait(mailbox: Mailbox<()>) {
    let _ = mailbox.receive_timeout(LONG);
}

claims! {
    fn a_call_returns_the_servers_result_and_a_cast_does_not_wait(mailbox: Mailbox<u8>) {
        process::this(&mailbox).send(1);
        let counter = Counter::start(40).unwrap();
        assert_eq!(counter.increment(2).unwrap(), 42);
        counter.set(7).unwrap();
        assert_eq!(counter.count().unwrap(), 7);
        counter.nothing().unwrap();
        assert_eq!(counter.divide(6, 3).unwrap(), Ok(2));
        assert_eq!(counter.divide(6, 0).unwrap(), Err("by zero".to_string()));
        assert_eq!(mailbox.receive().unwrap(), 1);
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }

    fn a_call_can_be_answered_later_by_another_function(mailbox: Mailbox<u32>) {
        let counter = Counter::start(0).unwrap();
        process::spawn_with((counter, process::this(&mailbox)), |(counter, parent), _: Mailbox<()>| {
            parent.send(0);
            parent.send(counter.next().unwrap());
        })
        .unwrap();
        assert_eq!(mailbox.receive().unwrap(), 0);
        // The call may not have arrived yet, in which case a later change to the count answers it.
        let answer = (1..).find_map(|count| {
            counter.set(count).unwrap();
            mailbox.receive_timeout(SHORT).ok()
        });
        assert!(answer.is_some());
    }

    fn a_call_has_a_time_limit_and_a_late_answer_is_dropped(mailbox: Mailbox<u8>) {
        let counter = Counter::start(0).unwrap();
        assert!(matches!(counter.within(SHORT).next(), Err(RequestError::Timeout)));
        counter.set(5).unwrap();
        assert_eq!(counter.within(LONG).count().unwrap(), 5);
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }

    fn a_call_to_a_server_that_dies_returns_the_reason(mailbox: Mailbox<()>) {
        let counter = Counter::start(0).unwrap();
        assert!(matches!(counter.fail(3), Err(RequestError::Died(ExitReason::Status(3)))));
        assert!(matches!(counter.count(), Err(RequestError::Died(ExitReason::NoProcess))));
        counter.set(1).expect("a cast to a dead server is dropped");
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }

    fn a_server_that_calls_itself_gets_an_error(_mailbox: Mailbox<()>) {
        let counter = Counter::start(0).unwrap();
        assert_eq!(counter.ask_itself().unwrap(), 7);
    }

    fn a_cast_can_be_delayed(_mailbox: Mailbox<()>) {
        let counter = Counter::start(0).unwrap();
        let never = counter.set_after(LONG, 1).unwrap();
        counter.set_after(SHORT, 2).unwrap();
        assert_eq!(counter.next().unwrap(), 2);
        assert!(never.cancel());
    }

    fn a_server_does_not_start_if_its_init_fails(mailbox: Mailbox<String>) {
        let this = process::this(&mailbox);
        let error = Watcher::start((this, "no number".into())).unwrap_err();
        assert_eq!(error, StartError::Refused("invalid digit found in string".into()));
        assert_eq!(Slow::start(None).unwrap_err(), StartError::Died(ExitReason::Trapped));
        // A refusal is not a failure, so there is no signal.
        let error = Watcher::start_link((this, String::new())).unwrap_err();
        assert!(matches!(error, StartError::Refused(_)), "{error}");
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }

    fn a_server_ends_on_request(mailbox: Mailbox<String>) {
        let watcher = Watcher::start((process::this(&mailbox), "1".into())).unwrap();
        assert_eq!(watcher.stop(), ExitReason::Normal);
        assert_eq!(mailbox.receive().unwrap(), "terminates");
        assert_eq!(watcher.stop(), ExitReason::NoProcess);

        let counter = Counter::start(3).unwrap();
        assert_eq!(counter.last(0).unwrap(), 3, "the server answers before it exits");
        let counter = Counter::start(3).unwrap();
        counter.process().monitor();
        assert_eq!(counter.last(9).unwrap(), 3);
        let Err(ReceiveError::Signal(signal)) = mailbox.receive() else { panic!("no process sends a message") };
        assert_eq!(signal.reason, ExitReason::Status(9));
    }

    fn a_server_is_notified_of_exits(mailbox: Mailbox<String>) {
        let watcher = Watcher::start((process::this(&mailbox), "1".into())).unwrap();
        let [watched, linked] = [process::spawn(wait).unwrap(), process::spawn(wait).unwrap()];
        watcher.watch("the one".into(), watched).unwrap();
        watcher.link(linked).unwrap();
        assert_eq!(watcher.names().unwrap(), ["the one"]);
        watched.kill();
        assert_eq!(mailbox.receive().unwrap(), "the one was killed");
        linked.kill();
        assert_eq!(mailbox.receive().unwrap(), "a link was killed");
    }

    fn a_server_ends_with_its_parent(mailbox: Mailbox<String>) {
        let this = process::this(&mailbox);
        let start: fn(Process<String>, Mailbox<()>) = |log, mailbox| {
            let watcher = Watcher::start_link((log, "1".into())).unwrap();
            log.send(watcher.process().id().to_string());
            mailbox.receive().unwrap();
            std::process::exit(1);
        };
        let parent = process::spawn_with(this, start).unwrap();
        let watcher = mailbox.receive().unwrap();
        let mailbox = mailbox.catch_link_panic();
        let watcher = crate::process_named::<()>(watcher.parse().unwrap());
        watcher.monitor();
        parent.send(());
        assert_eq!(mailbox.receive().normal_or_unwrap().unwrap(), "terminates");
        let signal = signal(&mailbox);
        assert_eq!((signal.kind, signal.reason), (SignalKind::ProcessDied, ExitReason::LinkDied));
    }

    /// T058: a server that is still in its `#[init]` dies immediately, even if it has a
    /// `#[signal]`.
    fn t058_a_server_that_is_starting_ends_with_its_parent(mailbox: Mailbox<Process<()>>) {
        let this = process::this(&mailbox);
        let start: fn(Process<Process<()>>, Mailbox<()>) = |parent, _| {
            let _ = Slow::start_link(Some(parent));
        };
        let parent = process::spawn_with(this, start).unwrap();
        let slow = mailbox.receive().unwrap();
        slow.monitor();
        parent.kill();
        let Err(ReceiveError::Signal(signal)) = mailbox.receive_timeout(LONG) else { panic!("the server outlived its parent") };
        assert_eq!((signal.pid, signal.reason), (slow.id(), ExitReason::LinkDied));
    }

    fn a_server_can_be_registered_under_a_name(_mailbox: Mailbox<()>) {
        let counter = Counter::start(1).unwrap();
        counter.register("a server", "1.2.0").unwrap();
        assert_eq!(Counter::start(2).unwrap().register("a server", "1.2.0"), Err(RegistryError::NameTaken));
        let found = Handle::<Counter>::lookup("a server", "^1").unwrap().expect("the server is registered");
        assert_eq!(found, counter);
        assert_eq!(found.count().unwrap(), 1);
        counter.stop();
        assert_eq!(Handle::<Counter>::lookup("a server", "^1").unwrap(), None);
    }

    fn an_unexpected_message_does_not_harm_a_server(_mailbox: Mailbox<()>) {
        let counter = Counter::start(1).unwrap();
        crate::retype::<_, Vec<String>>(counter.process()).send(vec!["no message".into()]);
        assert_eq!(counter.count().unwrap(), 1);
    }

    fn a_server_that_does_not_end_on_request_is_killed(mailbox: Mailbox<Process<()>>) {
        let this = process::this(&mailbox);
        let start: fn(Process<Process<()>>, Mailbox<()>) = |parent, _| {
            let _ = Slow::start(Some(parent));
        };
        process::spawn_with(this, start).unwrap();
        let slow = mailbox.receive().unwrap();
        assert_eq!(slow.shutdown(Some(Duration::from_millis(1))), ExitReason::Killed);
    }
}
