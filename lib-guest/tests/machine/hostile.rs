//! Claims about hostile processes: a process survives whatever other processes send, and whatever
//! they refuse to receive.

use crate::{LONG, SHORT, double, machine, process_named, retype, wait};
use lunatic::server::{Handle, Reply};
use lunatic::{
    Config, Environment, ExitReason, Mailbox, Process, ReceiveError, RequestError, SendFailure,
    Server, Task, ThisModule, process,
};

/// A server that holds back replies until told to send them, and can send replies that are too
/// large for some clients.
struct Shared {
    held: Vec<Reply<u32>>,
}

#[lunatic::server]
impl Shared {
    #[init]
    fn init() -> Self {
        Shared { held: Vec::new() }
    }

    #[call]
    fn hold(&mut self, reply: Reply<u32>) {
        self.held.push(reply);
    }

    #[call]
    fn release(&mut self) -> usize {
        let held = std::mem::take(&mut self.held);
        let count = held.len();
        held.into_iter().for_each(|reply| reply.send(1));
        count
    }

    #[call]
    fn text(&mut self, length: usize) -> String {
        "x".repeat(length)
    }

    #[call]
    fn asks(&mut self, other: Handle<Shared>) -> String {
        match other.release() {
            Ok(count) => count.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

/// Returns this module in an environment whose mailboxes hold two messages of up to 1,000 bytes
/// each.
fn narrow() -> ThisModule {
    let mut config = Config::new(10_000_000, None);
    config
        .allow_namespace("")
        .max_mailbox_messages(2)
        .max_message_bytes(1_000);
    let mut environment = Environment::new(config).unwrap();
    environment.add_this_module().unwrap()
}

/// Fills the calling process's mailbox.
fn fill(mailbox: &Mailbox<String>) {
    let this = process::this(mailbox);
    while this.try_send("one more".to_string()).is_ok() {}
}

/// Sends raw bytes, which may not be a serialized value, with a tag.
fn send_raw<T>(process: Process<T>, tag: i64, bytes: &[u8]) {
    // SAFETY: the declarations match the machine's table, and the pointer and the length are those
    // of the slice.
    unsafe {
        machine::create_data(tag, 0);
        machine::write_data(bytes.as_ptr(), bytes.len());
        machine::send(process.id());
    }
}

/// The tags of messages that ask a process to exit and that request a task's result.
const SHUTDOWN: i64 = i64::MIN + 1;
const WANTED: i64 = i64::MIN + 3;

claims! {
    fn a_message_whose_values_do_not_fit_into_memory_is_an_error(mailbox: Mailbox<Vec<Option<[u64; 8]>>>) {
        /// Each takes up one byte in the message and 72 bytes in a `Vec`.
        const NILS: u32 = 10_000_000;
        let this = process::this(&mailbox);
        let mut bytes = vec![0xdd];
        bytes.extend(NILS.to_be_bytes());
        bytes.resize(bytes.len() + NILS as usize, 0xc0);
        send_raw(this, 0, &bytes);
        drop(bytes);
        match mailbox.receive() {
            Err(ReceiveError::DeserializationFailed(error)) => {
                assert!(error.to_string().contains("do not fit into this process's memory"), "{error}");
            }
            other => panic!("{:?}", other.map(|list| list.len())),
        }
        this.send(vec![None, Some([7; 8])]);
        assert_eq!(mailbox.receive().unwrap(), [None, Some([7; 8])]);
    }

    fn a_client_that_gives_up_with_a_full_mailbox_does_not_end_its_server(mailbox: Mailbox<bool>) {
        let server = Shared::start(()).unwrap();
        let this = process::this(&mailbox);
        narrow()
            .spawn_with((server, this), |(server, parent), mailbox: Mailbox<String>| {
                let reply = server.within(SHORT).hold();
                fill(&mailbox);
                parent.send(matches!(reply, Err(RequestError::Timeout)));
                let _ = mailbox.tag_receive(&[lunatic::Tag::new()]);
            })
            .unwrap();
        assert!(mailbox.receive().unwrap());
        assert_eq!(server.within(LONG).release().unwrap(), 1);
        assert_eq!(server.within(LONG).text(3).unwrap(), "xxx");
    }

    fn a_reply_that_a_client_does_not_accept_fails_only_that_call(mailbox: Mailbox<String>) {
        let server = Shared::start(()).unwrap();
        let this = process::this(&mailbox);
        narrow()
            .spawn_with((server, this), |(server, parent), _: Mailbox<()>| {
                let replies = [server.text(100), server.text(1_001), server.text(100)];
                let replies = replies.map(|reply| match reply {
                    Ok(text) => text.len().to_string(),
                    Err(error) => error.to_string(),
                });
                parent.send(replies.join("; "));
            })
            .unwrap();
        assert_eq!(mailbox.receive().unwrap(), "100; the reply cannot be sent to this process; 100");
        assert_eq!(server.text(2_000).unwrap().len(), 2_000);
    }

    fn a_reply_reaches_a_full_mailbox(mailbox: Mailbox<usize>) {
        let server = Shared::start(()).unwrap();
        narrow()
            .spawn_with((server, process::this(&mailbox)), |(server, parent), mailbox: Mailbox<String>| {
                fill(&mailbox);
                let counter = Shared::start(()).unwrap();
                let task = Task::spawn(500, |length| "x".repeat(length)).unwrap();
                let length = task.result().unwrap().len() + counter.text(7).unwrap().len();
                parent.send(length + server.text(100).unwrap().len());
            })
            .unwrap();
        assert_eq!(mailbox.receive().unwrap(), 607);
    }

    fn a_result_that_the_parent_does_not_accept_is_an_error(mailbox: Mailbox<String>) {
        narrow()
            .spawn_with(process::this(&mailbox), |parent, _: Mailbox<()>| {
                let task = Task::spawn(1_001, |length| "x".repeat(length)).unwrap();
                parent.send(task.result().unwrap_err().to_string());
            })
            .unwrap();
        let error = mailbox.receive().unwrap();
        assert!(error.contains("it cannot be sent to this process"), "{error}");
    }

    fn messages_that_a_receiver_does_not_accept_do_not_end_their_sender(_mailbox: Mailbox<()>) {
        let busy: Process<String> = narrow()
            .spawn(|mailbox: Mailbox<String>| {
                let _ = mailbox.tag_receive(&[lunatic::Tag::new()]);
            })
            .unwrap();
        for length in [1, 1_001, 1, 1, 1] {
            busy.send("x".repeat(length));
        }
        let error = busy.try_send(String::new()).unwrap_err();
        assert!(matches!(error.failure, SendFailure::MailboxFull), "{error}");
    }

    fn a_server_that_is_given_its_own_handle_gets_an_error(_mailbox: Mailbox<()>) {
        let server = Shared::start(()).unwrap();
        assert_eq!(server.asks(server).unwrap(), "a process cannot wait for a reply from itself");
        assert_eq!(server.asks(Shared::start(()).unwrap()).unwrap(), "0");
    }

    fn a_reply_can_only_have_the_tag_of_a_request(mailbox: Mailbox<()>) {
        // These requests name the server or this process as the sender, and ask for a reply with a
        // tag that isn't a reply tag, such as the one that asks a process to exit.
        let server = process::spawn(double).unwrap();
        let forged: Process<(u32, i64, u64)> = retype(server);
        for tag in [SHUTDOWN, 0, 7, i64::MIN, i64::MAX] {
            forged.send((21, tag, server.id()));
            forged.send((21, tag, process::this(&mailbox).id()));
        }
        assert_eq!(server.request(21).unwrap(), 42);
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }

    fn no_bytes_can_end_their_receiver(mailbox: Mailbox<Vec<Option<String>>>) {
        let this = process::this(&mailbox);
        // An array of 200 values, most of which are `nil`. One value is invalid or longer than the
        // rest of the message.
        let mut heads = vec![vec![0xc1], vec![0xdf, 0xff, 0xff, 0xff, 0xff], vec![0xdd, 0xff, 0xff, 0xff, 0xff]];
        for size in [0xc6u8, 0xc9, 0xdb] {
            heads.push(vec![size, 0xff, 0xff, 0xff, 0xff, 0xc0]);
            heads.push(vec![size, 0xff, 0xff, 0xff, 0xfa, 0xc0]);
        }
        for head in heads {
            let mut bytes = vec![0xdc, 0, 200];
            bytes.extend([0xc0; 199]);
            bytes.extend(&head);
            bytes.extend([0xc0; 199]);
            send_raw(this, 0, &bytes);
            let received = mailbox.receive();
            assert!(matches!(received, Err(ReceiveError::DeserializationFailed(_))), "{head:x?}: {received:?}");
            send_raw(this, 0, &head);
            assert!(matches!(mailbox.receive(), Err(ReceiveError::DeserializationFailed(_))), "{head:x?}");
        }
        send_raw(this, 0, &[]);
        assert!(matches!(mailbox.receive(), Err(ReceiveError::DeserializationFailed(_))));
    }

    fn a_task_is_not_confused_by_what_others_send(_mailbox: Mailbox<()>) {
        let task = Task::spawn(6, |number| number * 7).unwrap();
        // A task's debug output contains its process id.
        let named = format!("{task:?}");
        let number = named.trim_start_matches("Task<").trim_end_matches('>');
        let process: Process<()> = process_named(u64::from_str_radix(number, 16).unwrap());
        send_raw(process, WANTED, b"nonsense");
        send_raw(process, WANTED, &[]);
        send_raw(process, 0, b"nonsense");
        assert_eq!(task.result().unwrap(), 42);
    }

    fn a_process_has_ended_once_its_shutdown_returns(mailbox: Mailbox<()>) {
        let stubborn = process::spawn(|_: Mailbox<()>| process::sleep(u64::MAX)).unwrap();
        // These messages have the tags of the next replies to this process.
        for tag in -10..0 {
            send_raw(process::this(&mailbox), tag, &[0xc0]);
        }
        assert_eq!(stubborn.shutdown(Some(LONG)), ExitReason::Killed);
        assert!(!stubborn.is_alive());
    }

    fn a_request_that_cannot_be_read_does_not_end_its_server(_mailbox: Mailbox<()>) {
        let server = Shared::start(()).unwrap();
        for bytes in [&[][..], &[0xc1], &[0x93, 0xc0, 0xc0, 0xc0], &[0x81; 1_000]] {
            for tag in [0, 7, -7] {
                send_raw(server.process(), tag, bytes);
            }
        }
        assert_eq!(server.text(1).unwrap(), "x");
    }

    fn removing_a_monitor_also_removes_its_signal(mailbox: Mailbox<()>) {
        let process = process::spawn(wait).unwrap();
        process.monitor();
        process.kill();
        // Both monitors have reported the exit by the time the second one is removed.
        process.monitor();
        let Err(ReceiveError::Signal(_)) = mailbox.receive() else { panic!("no process sends a message") };
        process.stop_monitoring();
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
        process.stop_monitoring();
    }

    fn monitors_of_the_same_process_are_independent(mailbox: Mailbox<()>) {
        let process = process::spawn(wait).unwrap();
        for _ in 0..3 {
            process.monitor();
        }
        process.stop_monitoring();
        process.kill();
        for _ in 0..2 {
            let Err(ReceiveError::Signal(signal)) = mailbox.receive() else { panic!("no process sends a message") };
            assert_eq!((signal.pid, signal.tag), (process.id(), lunatic::Tag::NONE));
            assert_eq!(signal.reason, ExitReason::Killed);
        }
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }
}
