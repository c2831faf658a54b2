//! Tests how workers handle crashes and new versions.

use lunatic_bridge::{
    Answer, Argument, Backoff, Bridge, CallError, Event, Intensity, Worker, WorkerError,
};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Returns a module whose `version` function returns a digit. The module also stores the digit
/// passed to `keep`.
fn module(version: u8, more: &str) -> String {
    format!(
        r#"(module
        (memory (export "memory") 1)
        (global $kept (mut i32) (i32.const 48))
        (func (export "version") (param $index i32) (param i32) (result i32)
            (i32.store8 (local.get $index) (i32.const {})) (i32.const 1))
        (func (export "keep") (param $index i32) (param i32) (result i32)
            (global.set $kept (i32.load8_u (local.get $index))) (i32.const 1))
        (func (export "kept") (param $index i32) (param i32) (result i32)
            (i32.store8 (local.get $index) (global.get $kept)) (i32.const 1))
        (func (export "trap") (param i32 i32) (result i32) unreachable)
        {more})"#,
        b'0' + version
    )
}

const MOVING: &str = r#"
    (func (export "lunatic_save") (param $index i32) (param i32) (result i32)
        (i32.store8 (local.get $index) (global.get $kept)) (i32.const 1))
    (func (export "lunatic_restore") (param $index i32) (param i32) (result i32)
        (global.set $kept (i32.load8_u (local.get $index))) (i32.const 0))"#;

struct Source {
    directory: TempDir,
}

impl Source {
    fn new() -> Source {
        Source {
            directory: TempDir::new().expect("the temporary directory is writable"),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("module.wat")
    }

    /// Replaces the file atomically.
    fn rename(&self, content: &str) {
        let file = self.directory.path().join("new");
        fs::write(&file, content).expect("the file can be written");
        fs::rename(file, self.file()).expect("the file can be renamed");
    }

    fn write(&self, content: impl AsRef<[u8]>) {
        fs::write(self.file(), content).expect("the file can be written");
    }
}

fn worker(source: &Source) -> Worker {
    Worker::start(source.file()).expect("the module is valid")
}

fn next(events: &async_channel::Receiver<Event>) -> Event {
    events.recv_blocking().expect("the worker is alive")
}

fn version(worker: &Worker) -> u8 {
    worker.call("version", &()).expect("the call succeeds")
}

#[test]
fn a_new_version_takes_over_however_it_is_written() {
    let source = Source::new();
    source.write(module(1, ""));
    let worker = worker(&source);
    let events = worker.events();
    assert_eq!((worker.version(), version(&worker)), (0, 1));
    source.write(module(2, ""));
    assert!(matches!(next(&events), Event::Reloaded { version: 1 }));
    assert_eq!((worker.version(), version(&worker)), (1, 2));
    source.rename(&module(3, ""));
    assert!(matches!(next(&events), Event::Reloaded { version: 2 }));
    assert_eq!((worker.version(), version(&worker)), (2, 3));
}

#[cfg(unix)]
#[test]
fn t162_replacing_a_link_counts_as_a_new_version() {
    let source = Source::new();
    let (first, second) = (
        source.directory.path().join("first.wat"),
        source.directory.path().join("second.wat"),
    );
    fs::write(&first, module(1, "")).expect("the file can be written");
    fs::write(&second, module(2, "")).expect("the file can be written");
    std::os::unix::fs::symlink(&first, source.file()).expect("a link can be created");
    let worker = worker(&source);
    let events = worker.events();
    assert_eq!(version(&worker), 1);
    let link = source.directory.path().join("link");
    std::os::unix::fs::symlink(&second, &link).expect("a link can be created");
    fs::rename(link, source.file()).expect("the link can be renamed");
    assert!(matches!(next(&events), Event::Reloaded { version: 1 }));
    assert_eq!(version(&worker), 2);
}

#[cfg(unix)]
#[test]
fn t162_replacing_a_directory_or_a_link_to_it_counts_as_a_new_version() {
    use std::os::unix::fs::symlink;
    let source = Source::new();
    let path = |name: &str| source.directory.path().join(name);
    for (name, version) in [("first", 1), ("second", 2), ("third", 3)] {
        fs::create_dir(path(name)).expect("a directory can be created");
        fs::write(path(name).join("module.wat"), module(version, ""))
            .expect("the file can be written");
    }
    symlink(path("first"), path("current")).expect("a link can be created");
    let worker = Worker::start(path("current").join("module.wat")).expect("the module is valid");
    let events = worker.events();
    symlink(path("second"), path("link")).expect("a link can be created");
    fs::rename(path("link"), path("current")).expect("the link can be renamed");
    assert!(matches!(next(&events), Event::Reloaded { version: 1 }));
    assert_eq!(version(&worker), 2);
    // The link's current target was not watched at the start.
    fs::rename(path("second"), path("gone")).expect("the directory can be renamed");
    fs::rename(path("third"), path("second")).expect("the directory can be renamed");
    // The file may be missing for a moment.
    let reloaded = std::iter::repeat_with(|| next(&events))
        .find(|event| !matches!(event, Event::Refused { .. }));
    assert!(
        matches!(reloaded, Some(Event::Reloaded { version: 2 })),
        "{reloaded:?}"
    );
    assert_eq!(version(&worker), 3);
    fs::write(path("second").join("module.wat"), module(4, "")).expect("the file can be written");
    let reloaded = std::iter::repeat_with(|| next(&events))
        .find(|event| !matches!(event, Event::Refused { .. }));
    assert!(
        matches!(reloaded, Some(Event::Reloaded { version: 3 })),
        "{reloaded:?}"
    );
    assert_eq!(version(&worker), 4);
}

#[cfg(unix)]
#[test]
fn a_file_that_is_not_regular_is_refused_at_once() {
    let source = Source::new();
    let pipe = || {
        let made = std::process::Command::new("mkfifo")
            .arg(source.file())
            .status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo failed");
    };
    pipe();
    let error = Worker::start(source.file()).expect_err("a pipe cannot be watched");
    assert!(error.to_string().contains("not a regular file"), "{error}");
    fs::remove_file(source.file()).expect("the pipe can be removed");
    source.write(module(1, ""));
    let worker = worker(&source);
    let events = worker.events();
    fs::remove_file(source.file()).expect("the file can be removed");
    pipe();
    let is_told = |event: &Event| matches!(event, Event::Refused { reason } if reason.contains("not a regular file"));
    assert!(std::iter::repeat_with(|| next(&events)).any(|event| is_told(&event)));
    source.rename(&module(2, ""));
    assert!(matches!(next(&events), Event::Reloaded { version: 1 }));
    assert_eq!(version(&worker), 2);
}

#[test]
fn several_workers_watch_the_same_file() {
    let source = Source::new();
    source.write(module(1, ""));
    let workers = [worker(&source), worker(&source)];
    let events = workers.each_ref().map(Worker::events);
    source.rename(&module(2, ""));
    for (worker, events) in workers.iter().zip(&events) {
        assert!(matches!(next(events), Event::Reloaded { version: 1 }));
        assert_eq!(version(worker), 2);
    }
}

#[test]
fn t162_a_file_that_is_touched_or_rewritten_without_changes_is_not_a_new_version() {
    let source = Source::new();
    source.write(module(1, ""));
    let worker = worker(&source);
    let events = worker.events();
    for _ in 0..20 {
        source.write(module(1, ""));
    }
    source.write(module(2, ""));
    // A file that stays incomplete is refused. If an unchanged file were treated as a new version,
    // the version here would not be 1.
    let reloaded = std::iter::repeat_with(|| next(&events))
        .find(|event| !matches!(event, Event::Refused { .. }));
    assert!(
        matches!(reloaded, Some(Event::Reloaded { version: 1 })),
        "{reloaded:?}"
    );
}

#[test]
fn t162_after_a_thousand_saves_the_last_version_is_in_use() {
    let source = Source::new();
    source.write(module(1, ""));
    let worker = worker(&source);
    let events = worker.events();
    for save in 0..1000u32 {
        // Every other save writes only half of a module.
        let content = module((save % 10) as u8, "");
        source.write(if save % 2 == 0 {
            &content[..content.len() / 2]
        } else {
            &content
        });
    }
    // There is no event if the last contents are the same as the first.
    while version(&worker) != 9 {
        next(&events);
    }
    assert!(worker.version() < 1000);
}

#[test]
fn t162_an_invalid_or_missing_file_leaves_the_previous_version_in_use() {
    let source = Source::new();
    source.write(module(1, ""));
    let worker = worker(&source);
    let events = worker.events();
    source.write("(module");
    let Event::Refused { reason } = next(&events) else {
        panic!("a file that is not a module must be refused")
    };
    assert!(reason.contains("expected"), "{reason}");
    source.write("(module (func $start unreachable) (start $start))");
    let Event::Refused { reason } = next(&events) else {
        panic!("a module that cannot be instantiated must be refused")
    };
    assert!(reason.contains("cannot be instantiated"), "{reason}");
    fs::remove_file(source.file()).expect("the file can be removed");
    let Event::Refused { reason } = next(&events) else {
        panic!("a missing file must be reported")
    };
    assert!(reason.contains("cannot be read"), "{reason}");
    assert_eq!((worker.version(), version(&worker)), (0, 1));
    source.write(module(2, ""));
    assert!(matches!(next(&events), Event::Reloaded { version: 1 }));
    assert_eq!(version(&worker), 2);
}

#[test]
fn t163_a_version_that_lacks_a_function_is_refused_and_the_error_names_the_function() {
    let source = Source::new();
    source.write(module(
        1,
        "(func (export \"more\") (param i32 i32) (result i32) (i32.const 0))",
    ));
    let worker = worker(&source);
    let events = worker.events();
    source.write(module(2, ""));
    let Event::Refused { reason } = next(&events) else {
        panic!("a module without `more` must be refused")
    };
    assert!(
        reason.contains("exports no function `more`; it has `version`"),
        "{reason}"
    );
    source.write(module(
        2,
        "(func (export \"more\") (result i32) (i32.const 0))",
    ));
    let Event::Refused { reason } = next(&events) else {
        panic!("a module in which `more` has a different type must be refused")
    };
    assert!(reason.contains("the function `more` was"), "{reason}");
    assert_eq!(version(&worker), 1);

    let source = Source::new();
    source.write(module(
        1,
        "(func (export \"more\") (param i32 i32) (result i32) (i32.const 0))",
    ));
    let worker = Worker::builder()
        .requires(["version"])
        .start(source.file())
        .expect("the module is valid");
    let events = worker.events();
    source.write(module(2, ""));
    assert!(matches!(next(&events), Event::Reloaded { version: 1 }));
    assert_eq!(version(&worker), 2);
}

#[test]
fn t164_state_is_handed_over_or_the_previous_version_stays_in_use() {
    let source = Source::new();
    source.write(module(1, MOVING));
    let worker = worker(&source);
    let events = worker.events();
    worker.call::<_, u8>("keep", &7).expect("the call succeeds");
    source.write(module(2, MOVING));
    assert!(matches!(next(&events), Event::Reloaded { version: 1 }));
    assert_eq!(
        (
            version(&worker),
            worker
                .call::<_, u8>("kept", &())
                .expect("the call succeeds")
        ),
        (2, 7)
    );

    let failing = MOVING.replace("(i32.const 0))", "unreachable)");
    source.write(module(3, &failing));
    let Event::Refused { reason } = next(&events) else {
        panic!("a version that cannot take over the state must be refused")
    };
    assert!(
        reason.contains("the state cannot be handed over"),
        "{reason}"
    );
    assert_eq!(
        (
            version(&worker),
            worker
                .call::<_, u8>("kept", &())
                .expect("the call succeeds")
        ),
        (2, 7)
    );
}

#[test]
fn instances_that_crash_too_often_stop_the_worker_until_the_file_changes() {
    let source = Source::new();
    source.write(module(1, ""));
    let intensity = Intensity {
        restarts: 2,
        within: Duration::from_secs(60),
    };
    let worker = Worker::builder()
        .intensity(intensity)
        .backoff(Backoff::default())
        .start(source.file())
        .expect("the module is valid");
    let events = worker.events();
    for _ in 0..2 {
        assert!(matches!(
            worker.call::<_, ()>("trap", &()),
            Err(WorkerError::Call(_))
        ));
        assert!(matches!(next(&events), Event::Crashed { version: 0, .. }));
        assert_eq!(version(&worker), 1);
    }
    assert!(worker.call::<_, ()>("trap", &()).is_err());
    assert!(matches!(next(&events), Event::Crashed { version: 0, .. }));
    assert!(matches!(next(&events), Event::Stopped));
    let error = worker
        .call::<_, u8>("version", &())
        .expect_err("the worker has stopped");
    assert!(error.to_string().contains("crashed too often"), "{error}");
    source.write(module(2, ""));
    assert!(matches!(next(&events), Event::Reloaded { version: 1 }));
    assert_eq!(version(&worker), 2);
}

#[test]
fn a_calls_time_limit_replaces_the_bridges_even_if_it_is_longer() {
    let source = Source::new();
    source.write(
        r#"(module
        (memory (export "memory") 1)
        (func (export "busy") (param $index i32) (param i32) (result i32) (local $left i32)
            (local.set $left (i32.const 200000000))
            (loop $more
                (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (i32.store8 (local.get $index) (i32.const 49)) (i32.const 1)))"#,
    );
    let worker = Worker::builder()
        .bridge(Bridge::builder().time(Duration::from_millis(1)))
        .start(source.file())
        .expect("the module is valid");
    let error = worker
        .call::<_, u8>("busy", &())
        .expect_err("the time limit is too short");
    assert!(
        matches!(error, WorkerError::Call(CallError::TimedOut(_))),
        "{error}"
    );
    let argument = || Argument::Json(b"null".to_vec());
    let long = Duration::from_secs(600);
    let answer = smol::block_on(worker.invoke_within(long, "busy", argument()));
    assert_eq!(
        answer.expect("the time limit is long enough"),
        Answer::Json(b"1".to_vec())
    );
    let short = Duration::from_millis(1);
    let answer = smol::block_on(worker.invoke_within(short, "busy", argument()));
    answer.expect_err("the time limit is too short");
}
