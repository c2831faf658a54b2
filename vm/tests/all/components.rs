//! Tests for components that run as processes: their imports and exports, output, requirements and
//! resource use.

use crate::support::Lab;
use lunatic_vm::{
    Cache, Config, Event, Exit, Journal, Limit, LimitReached, LiveComponent, Process, SpawnError,
    Stdio, Vm,
};

/// A component whose `wasi:cli/run` writes to both of its output streams.
const WRITER: &str = r#"(component
    (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
    (alias export $error "error" (type $error-of-io))
    (import "wasi:io/streams@0.2.0" (instance $streams
        (export "output-stream" (type $stream (sub resource)))
        (alias outer 1 $error-of-io (type $outer))
        (export "error" (type $error (eq $outer)))
        (type $failures (variant (case "last-operation-failed" (own $error)) (case "closed")))
        (export "stream-error" (type $failure (eq $failures)))
        (export "[method]output-stream.blocking-write-and-flush"
            (func (param "self" (borrow $stream)) (param "contents" (list u8)) (result (result (error $failure)))))))
    (alias export $streams "output-stream" (type $stream))
    (import "wasi:cli/stdout@0.2.0" (instance $stdout
        (alias outer 1 $stream (type $outer))
        (export "output-stream" (type $stream (eq $outer)))
        (export "get-stdout" (func (result (own $stream))))))
    (import "wasi:cli/stderr@0.2.0" (instance $stderr
        (alias outer 1 $stream (type $outer))
        (export "output-stream" (type $stream (eq $outer)))
        (export "get-stderr" (func (result (own $stream))))))
    (core module $memory-module (memory (export "memory") 1))
    (core instance $memory-instance (instantiate $memory-module))
    (alias core export $memory-instance "memory" (core memory $memory))
    (core func $stdout (canon lower (func $stdout "get-stdout")))
    (core func $stderr (canon lower (func $stderr "get-stderr")))
    (core func $write
        (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
    (core module $module
        (import "host" "memory" (memory 1))
        (import "host" "stdout" (func $stdout (result i32)))
        (import "host" "stderr" (func $stderr (result i32)))
        (import "host" "write" (func $write (param i32 i32 i32 i32)))
        (data (i32.const 64) "outerr")
        (func (export "run") (result i32)
            (call $write (call $stdout) (i32.const 64) (i32.const 3) (i32.const 0))
            (call $write (call $stderr) (i32.const 67) (i32.const 3) (i32.const 0))
            (i32.const 0)))
    (core instance $instance (instantiate $module (with "host" (instance
        (export "memory" (memory $memory))
        (export "stdout" (func $stdout))
        (export "stderr" (func $stderr))
        (export "write" (func $write))))))
    (func $run (result (result)) (canon lift (core func $instance "run")))
    (instance $command (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $command)))"#;

/// Returns the source of a component that consists of several modules, whose memories initially
/// have the given numbers of pages.
fn with_memories(pages: &[u32]) -> String {
    let module = |(number, pages): (usize, &u32)| {
        format!(
            "(core module $m{number} (memory {pages})) (core instance (instantiate $m{number}))"
        )
    };
    let modules: String = pages.iter().enumerate().map(module).collect();
    format!(
        r#"(component {modules}
            (core module $last (func (export "count") (param i32) (result i32)
                (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (local.get 0)))
            (core instance $instance (instantiate $last))
            (func (export "count") (param "number" u32) (result u32) (canon lift (core func $instance "count"))))"#
    )
}

/// Drives a component in an environment that grants everything, with the test's changes.
fn drive<F>(lab: &Lab, text: &str, change: impl FnOnce(&mut Config), drive: F) -> Process
where
    F: for<'a> FnOnce(
            &'a mut LiveComponent,
        ) -> std::pin::Pin<Box<dyn Future<Output = Exit> + Send + 'a>>
        + Send
        + 'static,
{
    let component = lab
        .vm
        .component("test", text.as_bytes())
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    lab.environment_with(change)
        .drive_component(&component, "test", drive)
        .expect("no limit applies")
}

#[test]
fn the_imports_and_exports_of_a_component_are_known() {
    let lab = Lab::new();
    let component = lab
        .vm
        .component("writer", WRITER.as_bytes())
        .expect("the component is valid");
    assert!(component.exports().eq(["wasi:cli/run@0.2.0"]));
    assert!(
        component
            .imports()
            .any(|name| name == "wasi:cli/stderr@0.2.0")
    );
}

#[test]
fn the_output_of_a_component_is_in_the_journal() {
    let lab = Lab::new();
    let journal = Journal::bounded(64 << 10);
    let environment = lab.environment_with(|config| {
        config
            .journal(&journal)
            .stdout(Stdio::Null)
            .stderr(Stdio::Null);
    });
    let component = lab
        .vm
        .component("writer", WRITER.as_bytes())
        .expect("the component is valid");
    let process = environment
        .spawn_component(&component)
        .expect("no limit applies");
    let exit = lab.exit(&process);
    assert!(exit.is_normal(), "{exit}");
    let [one, other] = &journal.take()[..] else {
        panic!("the journal does not have two entries")
    };
    assert_eq!((one.pid, other.pid), (process.pid(), process.pid()));
    assert!(
        matches!(&one.event, Event::Output(bytes) if bytes == b"out"),
        "{one:?}"
    );
    assert!(
        matches!(&other.event, Event::Error(bytes) if bytes == b"err"),
        "{other:?}"
    );
}

#[test]
fn a_component_whose_initial_memory_exceeds_its_limit_is_refused_and_the_error_gives_the_numbers() {
    let lab = Lab::new();
    let component = lab
        .vm
        .component("test", with_memories(&[2, 3, 0, 4]).as_bytes())
        .expect("the component is valid");
    let drive_within = |bytes: u64| {
        let environment = lab.environment_with(|config| {
            config.limit(Limit::Memory, bytes);
        });
        environment.drive_component(&component, "test", |_| Box::pin(async { Exit::Normal }))
    };
    let page = 64 << 10;
    for allowed in [0, page, 4 * page, 9 * page - 1] {
        let needs = LimitReached {
            limit: Limit::Memory,
            allowed,
            wanted: Some(9 * page),
        };
        match drive_within(allowed) {
            Err(SpawnError::Limit(reached)) => assert_eq!(reached, needs),
            other => panic!("{other:?}"),
        }
    }
    let exit = lab.exit(&drive_within(9 * page).expect("the limit suffices"));
    assert!(exit.is_normal(), "{exit}");
}

#[test]
fn the_initial_memory_of_a_component_counts_once_in_its_environment() {
    let lab = Lab::new();
    let component = lab
        .vm
        .component("test", with_memories(&[2, 3]).as_bytes())
        .expect("the component is valid");
    let environment = lab.environment();
    let (hold, held) = async_channel::bounded::<()>(1);
    let (begin, begun) = async_channel::bounded(1);
    let process = environment.drive_component(&component, "test", move |live| {
        Box::pin(async move {
            let _ = begin.send(live.store().data().memory_used()).await;
            let _ = held.recv().await;
            Exit::Normal
        })
    });
    let process = process.expect("no limit applies");
    assert_eq!(lab.wait_for("the instance", begun.recv()), Ok(5 << 16));
    assert_eq!(environment.used(Limit::TotalMemory), 5 << 16);
    drop(hold);
    assert!(lab.exit(&process).is_normal());
    assert_eq!(environment.used(Limit::TotalMemory), 0);
}

#[test]
fn a_component_reports_its_compute_if_compute_is_metered() {
    let lab = Lab::new();
    for (units, rounds) in [(None, 1), (Some(10), 2)] {
        let change = |config: &mut Config| {
            units.map(|units| config.limit(Limit::Compute, units));
        };
        let process = drive(&lab, &with_memories(&[1]), change, move |live| {
            Box::pin(async move {
                let instance = live.instance();
                for _ in 0..rounds {
                    live.renew_compute();
                    let called =
                        match instance.get_typed_func::<(u32,), (u32,)>(live.store(), "count") {
                            Ok(count) => count.call_async(live.store(), (1_000,)).await,
                            Err(error) => Err(error),
                        };
                    if let Err(error) = called {
                        return live.exit(&error);
                    }
                    let used = live.instructions_used();
                    let is_right = used.is_some_and(|used| (4_000..20_000).contains(&used));
                    assert!(is_right == units.is_some(), "{used:?}");
                    assert_eq!(live.store().data().memory_used(), 64 << 10);
                }
                Exit::Normal
            })
        });
        let exit = lab.exit(&process);
        assert!(exit.is_normal(), "{exit}");
    }
}

#[test]
fn t156_compiled_components_are_cached_and_a_cached_component_runs_the_same() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let kept = || {
        std::fs::read_dir(directory.path().join("cache"))
            .expect("the directory exists")
            .count()
    };
    for (limit, entries) in [(u64::MAX, 1), (1_000, 2), (u64::MAX, 2), (1_000, 2)] {
        let cache =
            Cache::at(&directory.path().join("cache")).expect("the directory belongs to this user");
        let lab = Lab::with(Vm::builder().cache(cache));
        let journal = Journal::bounded(64 << 10);
        let environment = lab.environment_with(|config| {
            config
                .journal(&journal)
                .stdout(Stdio::Null)
                .stderr(Stdio::Null)
                .limit(Limit::Compute, limit);
        });
        let component = lab
            .vm
            .component("writer", WRITER.as_bytes())
            .expect("the component is valid");
        let exit = lab.exit(
            &environment
                .spawn_component(&component)
                .expect("no limit applies"),
        );
        assert!(exit.is_normal(), "{exit}");
        assert_eq!((journal.take().len(), kept()), (2, entries));
    }
}
