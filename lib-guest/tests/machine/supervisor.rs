//! Claims about supervisors: which children are restarted, in which order and how often, and that
//! no process is left behind.
//!
//! The decisions themselves are tested next to the rules; these claims are about carrying them out.

use crate::{LONG, SHORT, lookup, signal};
use lunatic::server::{self, Handle};
use lunatic::supervisor::{Child, Plan, Restart, Shutdown, Strategy, Supervisor, Template};
use lunatic::{
    ExitReason, Mailbox, Process, ReceiveError, RequestError, SignalKind, StartError,
    TransformMailbox, process,
};
use std::time::Duration;

/// The name of the process that a claim's children report to. Only one claim runs at a time.
const LOG: &str = "log of a supervisor claim";

/// While a process has this name, servers refuse to start.
const FAULT: &str = "fault of a supervisor claim";

/// The name of the process that allows children to fail.
const PERMISSION: &str = "permission of a supervisor claim";

fn keep_log(mailbox: &Mailbox<String>) {
    process::this_env()
        .register(LOG, "1.0.0", process::this(mailbox))
        .expect("only one claim runs at a time");
}

fn log(line: String) {
    let log = lookup::<String>(LOG, "*")
        .expect("the query is well-formed")
        .expect("the claim is still running");
    log.send(line);
}

fn lines<const N: usize>(mailbox: &Mailbox<String>) -> [String; N] {
    std::array::from_fn(|_| mailbox.receive_timeout(LONG).expect("a child sends a line"))
}

/// A server that logs when it starts and stops, and fails on request.
struct Talker;

#[lunatic::server]
impl Talker {
    #[init]
    fn init(name: String) -> Result<Self, String> {
        let is_broken = lookup::<()>(FAULT, "*")
            .expect("the query is well-formed")
            .is_some();
        if name == "broken" || is_broken {
            return Err("it is broken".to_string());
        }
        log(format!("{name} begins"));
        NAME.set(name);
        Ok(Self)
    }

    #[call]
    fn name(&self) -> String {
        NAME.with_borrow(String::clone)
    }

    #[cast]
    fn end(&mut self, status: i32) {
        server::stop(status);
    }

    #[terminate]
    fn terminate(self) {
        log(format!("{} ends", NAME.take()));
    }
}

lunatic::process_local! {
    static NAME: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

fn child(name: &str) -> Child<Handle<Talker>> {
    Child::server::<Talker>(name, name.to_string()).register(format!("child {name}"), "1.0.0")
}

/// Waits until a child has registered its name, and returns the child.
fn find(name: &str) -> Handle<Talker> {
    let look = || Handle::lookup(&format!("child {name}"), "*").expect("the query is well-formed");
    std::iter::repeat_with(look)
        .flatten()
        .next()
        .expect("the iterator never ends")
}

fn three(plan: &mut Plan) -> &mut Plan {
    plan.child(child("a")).child(child("b")).child(child("c"))
}

fn pids(supervisor: Supervisor) -> Vec<Option<u64>> {
    let children = supervisor.children().expect("the supervisor answers");
    children
        .iter()
        .map(|child| child.process.map(|process| process.id()))
        .collect()
}

/// Logs its process id, and waits.
fn report(mailbox: Mailbox<()>) {
    log(process::this(&mailbox).id().to_string());
    let _ = mailbox.receive_timeout(LONG);
}

const REPORTING: Template<String, Process<()>> = Template::new("reporting", |line| {
    let say: fn(String, Mailbox<()>) = |line, mailbox| {
        log(line);
        let _ = mailbox.receive_timeout(LONG);
    };
    Child::process_with("reporting", line, say).restart(Restart::Transient)
});

const SERVER: Template<String, Handle<Talker>> = Template::new("server", |name| child(&name));

claims! {
    fn children_start_in_order_and_end_in_reverse(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let supervisor = Supervisor::start(|plan| { three(plan); }).unwrap();
        assert_eq!(lines(&mailbox), ["a begins", "b begins", "c begins"]);
        assert_eq!(find("b").name().unwrap(), "b");
        assert_eq!(supervisor.stop(), ExitReason::Normal);
        assert_eq!(lines(&mailbox), ["c ends", "b ends", "a ends"]);
    }

    fn one_for_one_restarts_the_child_under_its_name(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let supervisor = Supervisor::start(|plan| { three(plan); }).unwrap();
        assert_eq!(lines(&mailbox), ["a begins", "b begins", "c begins"]);
        let before = pids(supervisor);
        find("b").end(1).unwrap();
        assert_eq!(lines(&mailbox), ["b ends", "b begins"]);
        let after = pids(supervisor);
        assert_eq!((after[0], after[2]), (before[0], before[2]));
        assert_ne!(after[1], before[1]);
        assert_eq!(find("b").process().id(), after[1].unwrap());
        assert_eq!(supervisor.stop(), ExitReason::Normal);
    }

    fn one_for_all_restarts_all_children(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let supervisor = Supervisor::start(|plan| { three(plan).strategy(Strategy::OneForAll); }).unwrap();
        assert_eq!(lines(&mailbox), ["a begins", "b begins", "c begins"]);
        find("b").end(1).unwrap();
        assert_eq!(lines(&mailbox), ["b ends", "c ends", "a ends", "a begins", "b begins", "c begins"]);
        assert_eq!(supervisor.stop(), ExitReason::Normal);
    }

    fn rest_for_one_restarts_the_child_and_those_after_it(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let supervisor = Supervisor::start(|plan| { three(plan).strategy(Strategy::RestForOne); }).unwrap();
        assert_eq!(lines(&mailbox), ["a begins", "b begins", "c begins"]);
        find("b").end(1).unwrap();
        assert_eq!(lines(&mailbox), ["b ends", "c ends", "b begins", "c begins"]);
        assert_eq!(supervisor.stop(), ExitReason::Normal);
    }

    fn the_restart_setting_of_a_child_determines_whether_it_is_restarted(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let supervisor = Supervisor::start(|plan| {
            plan.child(child("a").restart(Restart::Transient)).child(child("b").restart(Restart::Temporary));
        })
        .unwrap();
        assert_eq!(lines(&mailbox), ["a begins", "b begins"]);
        find("a").end(1).unwrap();
        assert_eq!(lines(&mailbox), ["a ends", "a begins"]);
        find("a").end(0).unwrap();
        find("b").end(1).unwrap();
        let _: [String; 2] = lines(&mailbox);
        // The signals may not have reached the supervisor yet.
        let count = std::iter::repeat_with(|| supervisor.count().unwrap()).find(|count| count.active == 0);
        assert_eq!(count.unwrap().children, 1, "a temporary child is removed");
        assert_eq!(pids(supervisor), [None]);
        assert_eq!(supervisor.stop(), ExitReason::Normal);
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }

    fn a_supervisor_does_not_start_without_its_children(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let error = Supervisor::start(|plan| { plan.child(child("a")).child(child("broken")).child(child("c")); });
        let why = "child `broken` did not start: it is broken";
        assert_eq!(error.unwrap_err(), StartError::Refused(why.into()));
        assert_eq!(lines(&mailbox), ["a begins", "a ends"]);
        let error = Supervisor::start(|plan| { plan.child(child("a")).child(child("a")); }).unwrap_err();
        assert_eq!(error.to_string(), "two children have the id `a`");
        let error = Supervisor::start(|plan| {
            plan.child(Child::process("a", report).register(LOG, "1.0.0"));
        })
        .unwrap_err();
        assert!(error.to_string().starts_with("child `a` did not start: the process was not registered"), "{error}");
        let error = Supervisor::start(|_| panic!("on purpose")).unwrap_err();
        assert_eq!(error, StartError::Died(ExitReason::Trapped));
    }

    /// T057: the supervisor gives up on children that die immediately, and linked processes receive
    /// a signal.
    fn t057_a_storm_of_restarts_ends_the_supervisor(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let mailbox = mailbox.catch_link_panic();
        let supervisor = Supervisor::start_link(|plan| {
            let fail: fn(Mailbox<()>) = |_| {
                let permission = || lookup::<String>(PERMISSION, "*").expect("the query is well-formed");
                let _ = std::iter::repeat_with(permission).flatten().next();
                log("once more".into());
                std::process::exit(7);
            };
            plan.intensity(5, LONG).child(Child::process("others", report)).child(Child::process("fails", fail));
        })
        .unwrap();
        let mut begins = 0;
        let mut other = None;
        let signal = loop {
            match mailbox.receive_timeout(LONG) {
                lunatic::Message::Normal(Ok(line)) if line == "once more" => begins += 1,
                lunatic::Message::Normal(Ok(line)) => {
                    other = line.parse().ok();
                    // Before this, the storm could end the other child before its first turn.
                    process::this_env().register(PERMISSION, "1.0.0", process::this(&mailbox)).unwrap();
                }
                lunatic::Message::Normal(Err(error)) => panic!("{error}"),
                lunatic::Message::Signal(signal) => break signal,
            }
        };
        assert_eq!((signal.kind, signal.pid), (SignalKind::LinkDied, supervisor.process().id()));
        assert_eq!(signal.reason, ExitReason::Status(1));
        assert_eq!(begins, 6, "the child is started once and restarted five times");
        let other = crate::process_named::<()>(other.expect("the child reported its process"));
        assert!(!other.is_alive(), "the other children die with the supervisor");
    }

    fn a_storm_of_failed_starts_ends_the_supervisor(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let mailbox = mailbox.catch_link_panic();
        let supervisor = Supervisor::start_link(|plan| { three(plan).intensity(5, LONG); }).unwrap();
        for _ in 0..3 {
            mailbox.receive().normal_or_unwrap().unwrap();
        }
        process::this_env().register(FAULT, "1.0.0", process::this(&mailbox)).unwrap();
        find("b").end(1).unwrap();
        let signal = loop {
            if let lunatic::Message::Signal(signal) = mailbox.receive_timeout(LONG) {
                break signal;
            }
        };
        assert_eq!((signal.pid, signal.reason), (supervisor.process().id(), ExitReason::Status(1)));
    }

    fn restarts_are_delayed_for_longer_and_longer(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let supervisor = Supervisor::start(|plan| {
            plan.intensity(100, LONG).back_off(Duration::from_millis(10), Duration::from_millis(40));
            let fail: fn(Mailbox<()>) = |_| {
                log("once more".into());
                std::process::exit(7);
            };
            plan.child(Child::process("fails", fail));
        })
        .unwrap();
        let begin = std::time::Instant::now();
        let _: [String; 5] = lines(&mailbox);
        // The delays may be longer on a busy computer, but never shorter.
        assert!(begin.elapsed() >= Duration::from_millis(10 + 20 + 40 + 40), "{:?}", begin.elapsed());
        // The supervisor still answers while it is waiting.
        assert_eq!(supervisor.count().unwrap().children, 1);
        assert_eq!(supervisor.stop(), ExitReason::Normal);
    }

    fn a_supervisor_can_supervise_supervisors(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let supervisor = Supervisor::start(|plan| {
            let inner: fn(&mut Plan) = |plan| {
                plan.intensity(0, LONG).child(child("b")).child(child("c"));
            };
            plan.child(child("a")).child(Child::supervisor("inner", inner));
        })
        .unwrap();
        assert_eq!(lines(&mailbox), ["a begins", "b begins", "c begins"]);
        // The inner supervisor gives up immediately, and the outer one restarts it.
        find("b").end(1).unwrap();
        assert_eq!(lines(&mailbox), ["b ends", "c ends", "b begins", "c begins"]);
        assert_eq!(supervisor.stop(), ExitReason::Normal);
        assert_eq!(lines(&mailbox), ["c ends", "b ends", "a ends"]);
    }

    fn children_of_a_template_can_be_started_later(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let supervisor = Supervisor::start(|plan| {
            plan.child(child("a")).template(REPORTING).template(SERVER);
        })
        .unwrap();
        assert_eq!(lines(&mailbox), ["a begins"]);
        let first = supervisor.start_child(REPORTING, "first".into()).unwrap();
        let second = supervisor.start_child(SERVER, "second".into()).unwrap();
        let mut said = lines::<2>(&mailbox);
        said.sort();
        assert_eq!(said, ["first", "second begins"]);
        assert_eq!(second.name().unwrap(), "second");
        assert_eq!(pids(supervisor)[1..], [Some(first.id()), Some(second.process().id())]);

        // After a failure, the child is restarted with the same argument.
        first.kill();
        assert_eq!(lines(&mailbox), ["first"]);
        // After a normal exit, the child is removed.
        let children = supervisor.children().unwrap();
        children[1].process.unwrap().send(());
        let count = std::iter::repeat_with(|| supervisor.count().unwrap()).find(|count| count.active == 2);
        assert_eq!(count.unwrap().children, 2);

        assert!(supervisor.terminate_child(second.process()).unwrap());
        assert_eq!(lines(&mailbox), ["second ends"]);
        assert!(!supervisor.terminate_child(second.process()).unwrap());
        assert_eq!(supervisor.count().unwrap().children, 1);

        let error = supervisor.start_child(SERVER, "broken".into()).unwrap_err();
        assert_eq!(error, StartError::Refused("it is broken".into()));
        let unknown: Template<u8, Process<()>> = Template::new("unknown", |_| Child::process("unknown", report));
        let error = supervisor.start_child(unknown, 1).unwrap_err();
        assert_eq!(error, StartError::Refused("the plan has no template `unknown`".into()));
        let other: Template<u8, Process<()>> = Template::new("server", |_| Child::process("other", report));
        let error = supervisor.start_child(other, 1).unwrap_err();
        assert!(error.to_string().starts_with("the argument cannot be read"), "{error}");
        assert_eq!(supervisor.stop(), ExitReason::Normal);
        assert!(matches!(supervisor.count(), Err(RequestError::Died(ExitReason::NoProcess))));
    }

    fn a_terminated_child_of_the_plan_is_not_restarted(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let supervisor = Supervisor::start(|plan| { plan.child(child("a")); }).unwrap();
        assert_eq!(lines(&mailbox), ["a begins"]);
        assert!(supervisor.terminate_child(find("a").process()).unwrap());
        assert_eq!(lines(&mailbox), ["a ends"]);
        assert_eq!(pids(supervisor), [None]);
        assert_eq!(supervisor.stop(), ExitReason::Normal);
    }

    fn unexpected_messages_and_signals_do_not_harm_a_supervisor(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let supervisor = Supervisor::start(|plan| { plan.child(child("a")); }).unwrap();
        supervisor.process().send(());
        crate::retype::<_, Vec<u64>>(supervisor.process()).send(vec![1; 1_000]);
        // This process is linked to the supervisor but is not one of its children.
        let stranger = process::spawn_with(supervisor.process(), |supervisor, _: Mailbox<()>| {
            supervisor.link();
            std::process::exit(1);
        })
        .unwrap();
        stranger.shutdown(None);
        assert_eq!(supervisor.count().unwrap().active, 1);
        assert_eq!(supervisor.stop(), ExitReason::Normal);
    }

    /// T058: neither the starting child nor the supervisors in between are left running.
    fn t058_a_child_that_is_starting_ends_with_the_supervisor(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let starter = process::spawn(|_: Mailbox<()>| {
            let _ = Supervisor::start_link(|plan| {
                plan.child(Child::supervisor("inner", |plan| {
                    plan.child(child("a")).child(Child::server::<Starting>("starting", ()).shutdown(Shutdown::Within(SHORT)));
                }));
            });
        })
        .unwrap();
        let [begins, starting] = lines(&mailbox);
        assert_eq!(begins, "a begins");
        let a = find("a").process();
        let starting = crate::process_named::<()>(starting.parse().unwrap());
        starting.monitor();
        a.monitor();
        starter.kill();
        let mailbox = mailbox.catch_link_panic();
        let mut ended = Vec::new();
        while ended.len() < 2 {
            if let lunatic::Message::Signal(signal) = mailbox.receive_timeout(LONG) {
                ended.push(signal.pid);
            }
        }
        ended.sort_unstable();
        let mut expected = [a.id(), starting.id()];
        expected.sort_unstable();
        assert_eq!(ended, expected);
    }

    fn a_supervisor_that_is_starting_a_child_can_be_stopped(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        process::spawn(|_: Mailbox<()>| {
            let _ = Supervisor::start(|plan| {
                let this = lunatic::server::Handle::<Talker>::this().process();
                log(this.id().to_string());
                plan.child(child("a")).child(Child::server::<Starting>("starting", ()).shutdown(Shutdown::Within(SHORT)));
            });
        })
        .unwrap();
        let [supervisor, begins, starting] = lines(&mailbox);
        assert_eq!(begins, "a begins");
        let [supervisor, starting] = [supervisor, starting].map(|id| crate::process_named::<()>(id.parse().unwrap()));
        assert_eq!(supervisor.shutdown(None), ExitReason::Normal);
        assert!(!starting.is_alive());
        assert_eq!(lines(&mailbox), ["a ends"]);
    }

    fn the_tree_of_a_killed_supervisor_ends_with_it(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let supervisor = Supervisor::start(|plan| {
            plan.child(Child::supervisor("inner", |plan| {
                plan.child(Child::process("one", report)).child(child("a"));
            }));
        })
        .unwrap();
        let mut said = lines::<2>(&mailbox);
        said.sort();
        let one = crate::process_named::<()>(said[0].parse().unwrap());
        assert_eq!(said[1], "a begins");
        one.monitor();
        supervisor.process().kill();
        let mailbox = mailbox.catch_link_panic();
        let mut told = Vec::new();
        while told.len() < 2 {
            match mailbox.receive_timeout(LONG) {
                lunatic::Message::Signal(signal) => told.push(signal.pid.to_string()),
                message => told.push(message.normal_or_unwrap().unwrap()),
            }
        }
        told.sort();
        assert_eq!(told, [one.id().to_string(), "a ends".to_string()]);
    }

    fn a_child_that_does_not_end_on_request_is_killed(mailbox: Mailbox<String>) {
        keep_log(&mailbox);
        let supervisor = Supervisor::start(|plan| {
            let deaf: fn(Mailbox<()>) = |mailbox| {
                log(process::this(&mailbox).id().to_string());
                process::sleep(LONG.as_millis() as u64);
            };
            plan.child(Child::process("deaf", deaf).shutdown(Shutdown::Within(Duration::from_millis(1))));
        })
        .unwrap();
        let [deaf] = lines(&mailbox);
        let deaf = crate::process_named::<()>(deaf.parse().unwrap());
        deaf.monitor();
        assert_eq!(supervisor.stop(), ExitReason::Normal);
        let mailbox = mailbox.catch_link_panic();
        assert_eq!(signal(&mailbox).reason, ExitReason::Killed);
    }
}

/// A server that logs its process id and never finishes starting.
struct Starting;

#[lunatic::server]
impl Starting {
    #[init]
    fn init() -> Self {
        log(Handle::<Self>::this().process().id().to_string());
        process::sleep(LONG.as_millis() as u64);
        Self
    }

    #[terminate]
    fn terminate(self) {}
}
