//! Tests for a program's journal, which records what each process wrote, and which processes failed
//! and how.

use crate::support::{Lab, guest};
use crate::wasi;
use lunatic_vm::{Event, Exit, Journal, Pipe, Stdio};
use std::pin::pin;

#[test]
fn the_journal_distinguishes_the_processes_of_a_program() {
    let lab = Lab::new();
    let journal = Journal::bounded(64 << 10);
    let environment = lab.environment_with(|config| {
        config
            .journal(&journal)
            .stdout(Stdio::Null)
            .stderr(Stdio::Null);
    });
    let text = wasi::program(
        r#"(data (i32.const 1024) "one two")
        (func (export "one") (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 3))))
        (func (export "two")
            (drop (call $write (i32.const 1) (i32.const 1028) (i32.const 1)))
            (drop (call $write (i32.const 1) (i32.const 1029) (i32.const 2)))
            (drop (call $write (i32.const 2) (i32.const 1028) (i32.const 3)))
            (call $proc_exit (i32.const 3)))"#,
    );
    let module = lab.module(&text);
    let spawn = |function| {
        environment
            .spawn(&module, function, &[])
            .expect("no limit applies")
    };
    let one = spawn("one");
    lab.exit(&one);
    let two = spawn("two");
    lab.exit(&two);

    let entries = journal.take();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let what = match &entry.event {
                Event::Output(bytes) => format!("out {}", String::from_utf8_lossy(bytes)),
                Event::Error(bytes) => format!("err {}", String::from_utf8_lossy(bytes)),
                Event::Failed(exit) => exit.to_string(),
            };
            (entry.pid, &*entry.process, what)
        })
        .collect();
    // There is no entry for a process that ends normally, because it has not failed. Consecutive
    // writes by the same process form one entry.
    let expected = [
        (one.pid(), "one", "out one".to_string()),
        (two.pid(), "two", "out two".to_string()),
        (two.pid(), "two", "err two".to_string()),
        (two.pid(), "two", "exited with status 3".to_string()),
    ];
    assert_eq!(told, expected);
}

#[test]
fn output_still_goes_to_the_configured_destination() {
    let lab = Lab::new();
    let journal = Journal::bounded(64 << 10);
    let (writer, reader) = Pipe::bounded(64);
    let text = wasi::program(
        r#"(data (i32.const 1024) "both")
        (func (export "main") (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 4))))"#,
    );
    wasi::run(&lab, &text, |config| {
        config.journal(&journal).stdout(Stdio::Pipe(writer.clone()));
    });
    writer.close();
    let mut piped = Vec::new();
    lab.wait_for("the pipe to be closed", reader.read_to_end(&mut piped));
    assert_eq!(piped, b"both");
    assert!(
        matches!(&journal.take()[..], [entry] if matches!(&entry.event, Event::Output(bytes) if bytes == b"both"))
    );
}

#[test]
fn the_journal_includes_environments_that_processes_create() {
    let lab = Lab::new();
    let journal = Journal::bounded(64 << 10);
    let environment = lab.environment_with(|config| {
        config.journal(&journal);
    });
    let text = guest(
        &["lunatic::process::create_config", "lunatic::process::spawn"],
        r#"(data (i32.const 0) "child")
        (func (export "child") unreachable)
        (func (export "main")
            (drop (call $spawn (i64.const 0) (call $create_config) (i64.const -1)
                (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 40))))"#,
    );
    let main = environment
        .spawn(&lab.module(&text), "main", &[])
        .expect("no limit applies");
    assert!(lab.exit(&main).is_normal());
    lab.wait_for("the child to end", environment.ended());
    let entries = journal.take();
    let [entry] = &entries[..] else {
        panic!("{entries:?}")
    };
    assert_eq!(&*entry.process, "child");
    assert!(
        matches!(&entry.event, Event::Failed(Exit::Trapped(_))),
        "{entry:?}"
    );
}

#[test]
fn the_host_can_end_the_processes_that_remain() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.closed().lingering();
    });
    let text = guest(
        &["lunatic::process::spawn", "lunatic::message::receive"],
        r#"(data (i32.const 0) "child")
        (func (export "child") (call $say (i64.extend_i32_u (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))))
        (func (export "main")
            (drop (call $spawn (i64.const 0) (i64.const -1) (i64.const -1)
                (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 40))))"#,
    );
    let main = environment
        .spawn_main(&lab.module(&text), "main", &[])
        .expect("no limit applies");
    assert!(lab.exit(&main).is_normal());
    let left = environment.processes();
    let [child] = &left[..] else {
        panic!("{left:?}")
    };
    assert_eq!(child.name(), "child");
    environment.end();
    assert!(matches!(lab.exit(child), Exit::Killed));
    assert!(
        lab.heard_nothing_more(),
        "no process is notified that it is the last one"
    );
}

#[test]
fn all_waiters_are_notified_of_the_first_entry() {
    let lab = Lab::new();
    let journal = Journal::bounded(64 << 10);
    let environment = lab.environment_with(|config| {
        config.journal(&journal);
    });
    let module = lab.module(&guest(&[], r#"(func (export "main") unreachable)"#));
    for _ in 0..100 {
        let (mut one, mut other) = (pin!(journal.filled()), pin!(journal.filled()));
        lab.vm.block_on(async {
            assert!(
                futures_lite::future::poll_once(one.as_mut())
                    .await
                    .is_none()
            );
            assert!(
                futures_lite::future::poll_once(other.as_mut())
                    .await
                    .is_none()
            );
            // Dropping one waiter does not affect the others.
            drop(Box::pin(journal.filled()));
        });
        let process = environment
            .spawn(&module, "main", &[])
            .expect("no limit applies");
        lab.wait_for("the first waiter to be notified", one);
        lab.wait_for("the second waiter to be notified", other);
        lab.wait_for("a late waiter to be notified", journal.filled());
        assert_eq!(journal.take().len(), 1);
        lab.exit(&process);
    }
}
