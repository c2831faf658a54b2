//! Claims about tasks, and about process-local values.

use crate::{LONG, SHORT};
use lunatic::net::{TcpListener, TcpStream};
use lunatic::{
    ExitReason, Mailbox, Process, ReceiveError, Task, TaskError, TransformMailbox, process,
    process_local,
};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::time::Duration;

process_local! {
    static COUNT: Cell<u32> = const { Cell::new(1) };
    static NAMES: RefCell<Vec<String>> = RefCell::new(vec!["first".into()]);
}

/// A task that sends its process handle to its parent and waits to be killed.
fn endless(parent: Process<Process<()>>) -> u32 {
    // SAFETY: the task has no other mailbox.
    let mailbox = unsafe { Mailbox::new() };
    parent.send(process::this(&mailbox));
    loop {
        process::sleep(LONG.as_millis() as u64);
    }
}

fn assert_killed<T: serde::de::DeserializeOwned>(mailbox: &Mailbox<T>, process: Process<()>) {
    process.monitor();
    let Err(ReceiveError::Signal(signal)) = mailbox.receive_timeout(LONG) else {
        panic!("the process is still alive")
    };
    assert_eq!(signal.pid, process.id());
    assert!(
        matches!(signal.reason, ExitReason::Killed | ExitReason::NoProcess),
        "{signal}"
    );
}

claims! {
    fn a_task_returns_its_result_and_leaves_other_messages(mailbox: Mailbox<u8>) {
        process::this(&mailbox).send(1);
        let task = Task::spawn((6, "7".to_string()), |(number, text)| number * text.parse::<i32>().unwrap()).unwrap();
        assert_eq!(task.result().unwrap(), 42);
        assert_eq!(mailbox.receive().unwrap(), 1);
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }

    fn a_receive_does_not_affect_tasks_that_have_ended(mailbox: Mailbox<u8>) {
        let parent = process::this(&mailbox);
        let stream = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            TcpStream::connect_timeout(listener.local_addr().unwrap(), LONG).unwrap()
        };
        let succeeds = Task::spawn((parent, stream), |(parent, stream)| {
            parent.send(1);
            stream
        });
        let fails: Task<()> = Task::spawn(parent, |parent| {
            parent.send(2);
            std::process::exit(3);
        })
        .unwrap();
        let all = [mailbox.receive().unwrap(), mailbox.receive().unwrap()];
        assert_eq!(all.iter().sum::<u8>(), 3);
        // By the end of this wait, both tasks have finished.
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
        let mailbox = mailbox.catch_link_panic();
        assert!(!mailbox.receive_timeout(SHORT).is_signal());
        succeeds.unwrap().result().unwrap();
        let error = fails.result().unwrap_err();
        assert!(matches!(error, TaskError::Failed(ExitReason::Status(3))), "{error}");
        assert!(!mailbox.receive_timeout(SHORT).is_signal());
    }

    fn the_failure_of_a_task_is_an_error_with_its_reason(mailbox: Mailbox<()>) {
        let check = |function: fn(i32) -> u32, reason: ExitReason| {
            // The reason is known no matter how early the task exits.
            for _ in 0..20 {
                let error = Task::spawn(3, function).unwrap().result().unwrap_err();
                assert!(matches!(error, TaskError::Failed(told) if told == reason), "{error}");
            }
        };
        check(|_| std::process::abort(), ExitReason::Trapped);
        check(|status| std::process::exit(status), ExitReason::Status(3));
        check(|_| std::process::exit(0), ExitReason::Normal);
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }

    fn a_task_that_takes_too_long_is_killed(mailbox: Mailbox<Process<()>>) {
        let task = Task::spawn(process::this(&mailbox), endless).unwrap();
        let process = mailbox.receive().unwrap();
        assert!(matches!(task.result_timeout(SHORT), Err(TaskError::Timeout)));
        assert_killed(&mailbox, process);
    }

    fn a_task_that_is_dropped_is_killed(mailbox: Mailbox<Process<()>>) {
        let task = Task::spawn(process::this(&mailbox), endless).unwrap();
        let process = mailbox.receive().unwrap();
        drop(task);
        assert_killed(&mailbox, process);
    }

    fn a_detached_task_continues_and_its_result_is_dropped(mailbox: Mailbox<String>) {
        let this = process::this(&mailbox);
        let function: fn(Process<String>) -> Vec<u8> = |parent| {
            parent.send("it goes on".into());
            vec![0; 100]
        };
        Task::spawn(this, function).unwrap().detach();
        assert_eq!(mailbox.receive().unwrap(), "it goes on");
        // If the task's result arrived, it would fail to deserialize as a string.
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }

    fn the_results_of_several_tasks_are_in_the_order_of_the_tasks(_mailbox: Mailbox<()>) {
        let tasks = (0..50u64).map(|number| {
            let function: fn(u64) -> u64 = |number| {
                process::sleep(50 - number);
                number * number
            };
            Task::spawn(number, function).unwrap()
        });
        let results = Task::all(tasks.collect::<Vec<_>>()).unwrap();
        assert!(results.into_iter().eq((0..50).map(|number| number * number)));
        assert!(Task::<u32>::all([]).unwrap().is_empty());
    }

    fn the_first_task_that_fails_ends_the_other_tasks(mailbox: Mailbox<Process<()>>) {
        let parent = process::this(&mailbox);
        let endless = Task::spawn(parent, endless).unwrap();
        let process = mailbox.receive().unwrap();
        let fails: fn(()) -> u32 = |()| std::process::exit(4);
        let error = Task::all([endless, Task::spawn((), fails).unwrap()]).unwrap_err();
        assert!(matches!(error, TaskError::Failed(ExitReason::Status(4))), "{error}");
        assert_killed(&mailbox, process);
    }

    fn several_tasks_share_one_timeout(mailbox: Mailbox<Process<()>>) {
        let parent = process::this(&mailbox);
        let tasks = [Task::spawn(parent, endless).unwrap(), Task::spawn(parent, endless).unwrap()];
        let processes = [mailbox.receive().unwrap(), mailbox.receive().unwrap()];
        assert!(matches!(Task::all_timeout(tasks, SHORT), Err(TaskError::Timeout)));
        for process in processes {
            assert_killed(&mailbox, process);
        }
    }

    fn a_task_can_take_and_return_streams(_mailbox: Mailbox<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect_timeout(listener.local_addr().unwrap(), LONG).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let greet: fn(TcpStream) -> TcpStream = |mut stream| {
            stream.write_all(b"from the task, ").unwrap();
            stream
        };
        let mut near = Task::spawn(near, greet).unwrap().result_timeout(LONG).unwrap();
        near.write_all(b"from its parent").unwrap();
        drop(near);
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from the task, from its parent");
    }

    fn local_values_have_their_initial_value_in_each_process(_mailbox: Mailbox<()>) {
        COUNT.set(5);
        NAMES.with_borrow_mut(|names| names.push("second".into()));
        let look: fn(u32) -> (u32, usize) = |count| {
            let found = (COUNT.get(), NAMES.with_borrow(Vec::len));
            COUNT.set(count);
            found
        };
        for count in 0..3 {
            assert_eq!(Task::spawn(count, look).unwrap().result().unwrap(), (1, 1));
        }
        assert_eq!((COUNT.get(), NAMES.take()), (5, vec!["first".to_string(), "second".to_string()]));
    }

    fn a_process_is_asked_to_end_and_killed_if_it_does_not(mailbox: Mailbox<String>) {
        let listens = process::spawn_with(process::this(&mailbox), |parent, mailbox: Mailbox<u8>| {
            while let Ok(number) = mailbox.receive() {
                parent.send(number.to_string());
            }
            assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)), "the process is asked only once");
            parent.send("the end".into());
        })
        .unwrap();
        listens.send(1);
        assert_eq!(listens.shutdown(Some(LONG)), ExitReason::Normal);
        assert_eq!(mailbox.receive().unwrap(), "1");
        assert_eq!(mailbox.receive().unwrap(), "the end");
        assert_eq!(listens.shutdown(None), ExitReason::NoProcess);

        let deaf: Process<()> = process::spawn(|_: Mailbox<()>| process::sleep(LONG.as_millis() as u64)).unwrap();
        assert_eq!(deaf.shutdown(Some(Duration::ZERO)), ExitReason::Killed);
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }
}
