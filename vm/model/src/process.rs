//! Cases about processes: a process sleeps in a receive while other processes send it messages,
//! link to it, are monitored by it, or die.

#[path = "../../process/src/cell.rs"]
mod cell;
#[path = "../../process/src/exit.rs"]
mod exit;
#[path = "../../process/src/links.rs"]
mod links;
#[path = "../../process/src/mailbox.rs"]
mod mailbox;
#[path = "../../process/src/pid.rs"]
mod pid;
#[path = "../../process/src/printable.rs"]
mod printable;
#[path = "../../process/src/purse.rs"]
mod purse;
#[path = "../../process/src/signal.rs"]
mod signal;
#[path = "../../process/src/state.rs"]
mod state;
#[path = "../../process/src/table.rs"]
mod table;

/// Replaces `sync.rs` of the `lunatic-process` crate.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
}

use super::check;
use cell::ProcessCell;
use exit::Exit;
use loom::future::block_on;
use loom::thread;
use mailbox::{Mail, MailboxLimits, Message, Wanted};
use pid::Pid;
use signal::Signal;
use std::future::poll_fn;
use std::task::Poll;
use sync::Arc;
use table::Table;

type Processes = Arc<Table<ProcessCell>>;

/// Returns a table with `COUNT` live processes, along with the processes.
fn machine<const COUNT: usize>() -> (Processes, [Arc<ProcessCell>; COUNT]) {
    let limits = MailboxLimits {
        message_bytes: 100,
        messages: 100,
        bytes: 100,
    };
    let table = Arc::new(Table::default());
    let processes = std::array::from_fn(|number| {
        let pid = Pid::from_number(number as u64 + 1);
        let process = Arc::new(ProcessCell::new(pid, limits));
        process.set_notified(true);
        table.insert(process.clone());
        process
    });
    (table, processes)
}

/// Receives mail, sleeping in between, until `most` pieces have been received or the process has
/// died. Returns the mail and, if the process died, its exit.
fn receive(process: &ProcessCell, most: usize) -> (Vec<Mail>, Option<Exit>) {
    let mut received = Vec::new();
    // All of this is a single task, as in a real process, because the waker is registered only
    // once.
    let ended = block_on(poll_fn(|context| {
        process.begin_turn(context);
        if let Some(exit) = process.ending() {
            return Poll::Ready(Some(exit));
        }
        while received.len() < most {
            let Some(mail) = process.receive(&Wanted::Any, 0, true) else {
                return Poll::Pending;
            };
            received.push(mail);
        }
        Poll::Ready(None)
    }));
    (received, ended)
}

fn is_empty(process: &ProcessCell) -> bool {
    process.mailbox_size().0 == 0
}

/// A message and then a kill arrive while a process is falling asleep: both wake the process.
pub fn a_sleeping_process_is_woken_by_a_message_and_by_a_kill() {
    check(3, || {
        let (table, [process]) = machine();
        let other = {
            let table = table.clone();
            thread::spawn(move || {
                let process = table
                    .get(Pid::from_number(1))
                    .expect("the process is live until the test kills it");
                let message = Message {
                    tag: 7,
                    ..Message::default()
                };
                process.deliver(message).expect("the mailbox has room");
                process.signal(Signal::Kill);
            })
        };
        let (received, ended) = receive(&process, 2);
        assert!(matches!(ended, Some(Exit::Killed)));
        assert!(matches!(
            received[..],
            [] | [Mail::Data(Message { tag: 7, .. })]
        ));
        other.join().expect("the other thread does not panic");
    });
}

/// A process links to a process that is dying. In either order, the first process is notified
/// exactly once, and a caller that waits for the other process's exit receives it.
pub fn a_link_to_a_dying_process_is_reported_once() {
    check(3, || {
        let (table, [process, dying]) = machine();
        let death = {
            let (table, dying) = (table.clone(), dying.clone());
            thread::spawn(move || table.finish(&dying, Exit::Status(3), |_, _| ()))
        };
        let linked = table.link(&process, dying.pid(), 5);
        linked.expect("this is the only link");
        let (received, _) = receive(&process, 1);
        let [
            Mail::LinkDied {
                tag: 5, pid, exit, ..
            },
        ] = &received[..]
        else {
            panic!("the process received {received:?} instead of exactly one death notice");
        };
        assert_eq!(*pid, dying.pid());
        assert!(matches!(exit, Exit::Status(3) | Exit::NoProcess));
        assert!(matches!(block_on(dying.exited()), Exit::Status(3)));
        death
            .join()
            .expect("the thread of the dying process does not panic");
        assert!(is_empty(&process));
    });
}

/// A process monitors a process that is dying, and then removes the monitor. Either the first
/// process is notified, or it removed the monitor in time.
pub fn a_monitor_of_a_dying_process_is_reported_or_removed() {
    check(3, || {
        let (table, [process, dying]) = machine();
        let death = {
            let (table, dying) = (table.clone(), dying.clone());
            thread::spawn(move || table.finish(&dying, Exit::Normal, |_, _| ()))
        };
        table.monitor(&process, dying.pid(), 5);
        let was_stopped = table.stop_monitoring(&process, dying.pid(), 5);
        death
            .join()
            .expect("the thread of the dying process does not panic");
        assert_eq!(is_empty(&process), was_stopped);
    });
}

/// Two linked processes die at the same time. Both finish, and neither waits for the other.
pub fn linked_processes_can_die_together() {
    check(3, || {
        let (table, [one, other]) = machine();
        let linked = table.link(&one, other.pid(), 0);
        linked.expect("this is the only link");
        let death = {
            let (table, other) = (table.clone(), other.clone());
            thread::spawn(move || table.finish(&other, Exit::Killed, |_, _| ()))
        };
        table.finish(&one, Exit::Killed, |_, _| ());
        death
            .join()
            .expect("the thread of the dying process does not panic");
        assert!(one.exit().is_some() && other.exit().is_some());
        assert!(table.all().is_empty());
    });
}
