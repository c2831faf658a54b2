//! Tests for metrics: what programs report, and what the VM counts about programs.

use crate::support::{Lab, guest};
use lunatic_vm::{Environment, Exit, Limit, Val, Vm};

/// A guest that calls functions of `lunatic::metrics` with the name `hits`, and with a value if the
/// function takes one.
fn counting(calls: &str) -> String {
    guest(
        &[
            "lunatic::metrics::counter",
            "lunatic::metrics::increment_counter",
            "lunatic::metrics::gauge",
            "lunatic::metrics::increment_gauge",
            "lunatic::metrics::decrement_gauge",
            "lunatic::metrics::histogram",
        ],
        &format!(
            r#"(data (i32.const 0) "hits") (data (i32.const 8) "lunatic_machine_processes") {calls}"#
        ),
    )
}

fn main(body: &str) -> String {
    counting(&format!(r#"(func (export "main") {body})"#))
}

const HITS: &str = "(i32.const 0) (i32.const 4)";

/// Returns the value on the first line that begins with `name`, which includes any labels.
fn value(vm: &Vm, name: &str) -> Option<String> {
    let text = vm.metrics();
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')
            .map(str::to_string)
    })
}

fn of(environment: &Environment, name: &str) -> String {
    format!("{name}{{environment=\"{}\"}}", environment.number())
}

fn run(lab: &Lab, environment: &Environment, text: &str) {
    let exit = lab.run_in(environment, &lab.module(text));
    assert!(exit.is_normal(), "{exit}");
}

#[test]
fn a_counter_can_be_incremented_and_set() {
    let lab = Lab::new();
    let environment = lab.environment();
    let hits = of(&environment, "hits");
    run(
        &lab,
        &environment,
        &main(&format!(
            "(call $increment_counter {HITS}) (call $increment_counter {HITS})"
        )),
    );
    assert_eq!(value(&lab.vm, &hits).as_deref(), Some("2"));
    run(
        &lab,
        &environment,
        &main(&format!(
            "(call $counter {HITS} (i64.const 40)) (call $increment_counter {HITS})"
        )),
    );
    assert_eq!(value(&lab.vm, &hits).as_deref(), Some("41"));
    assert!(lab.vm.metrics().contains("# TYPE hits counter\n"));
}

#[test]
fn a_gauge_goes_up_and_down() {
    let lab = Lab::new();
    let environment = lab.environment();
    let changes = format!(
        "(call $gauge {HITS} (f64.const 1.5)) (call $increment_gauge {HITS} (f64.const 2))
         (call $decrement_gauge {HITS} (f64.const 0.25))"
    );
    run(&lab, &environment, &main(&changes));
    assert_eq!(
        value(&lab.vm, &of(&environment, "hits")).as_deref(),
        Some("3.25")
    );
}

#[test]
fn a_histogram_shows_the_distribution_of_samples() {
    let lab = Lab::new();
    let environment = lab.environment();
    run(
        &lab,
        &environment,
        &main(&format!(
            "(call $histogram {HITS} (f64.const 3)) (call $histogram {HITS} (f64.const 7))"
        )),
    );
    assert_eq!(
        value(&lab.vm, &of(&environment, "hits_count")).as_deref(),
        Some("2")
    );
    assert_eq!(
        value(&lab.vm, &of(&environment, "hits_sum")).as_deref(),
        Some("10.0")
    );
    let number = environment.number();
    let below = |end: &str| {
        value(
            &lab.vm,
            &format!("hits_bucket{{le=\"{end}\",environment=\"{number}\"}}"),
        )
    };
    for (end, count) in [("2.5", "0"), ("5.0", "1"), ("10.0", "2"), ("+Inf", "2")] {
        assert_eq!(below(end).as_deref(), Some(count), "{end}");
    }
}

#[test]
fn each_vm_and_each_program_has_its_own_metrics() {
    let labs = [Lab::new(), Lab::new()];
    let count = main(&format!("(call $increment_counter {HITS})"));
    let [one, other] = [labs[0].environment(), labs[0].environment()];
    run(&labs[0], &one, &count);
    run(&labs[0], &one, &count);
    run(&labs[0], &other, &count);
    assert_eq!(value(&labs[0].vm, &of(&one, "hits")).as_deref(), Some("2"));
    assert_eq!(
        value(&labs[0].vm, &of(&other, "hits")).as_deref(),
        Some("1")
    );
    assert!(!labs[1].vm.metrics().contains("hits"));
    // A program's metrics disappear when it ends.
    drop(one);
    labs[0].wait_for("the program's metrics to disappear", async {
        while labs[0].vm.metrics().matches("hits{").count() > 1 {
            futures_lite::future::yield_now().await;
        }
    });
    assert_eq!(
        value(&labs[0].vm, &of(&other, "hits")).as_deref(),
        Some("1")
    );
}

/// A guest that uses as many names as its parameter says. Each name is `hits` followed by a few
/// letters.
fn many() -> String {
    counting(
        r#"(func (export "main") (param $left i32)
            (loop $again
                ;; Each group of four bits becomes one letter.
                (i32.store (i32.const 4) (i32.add (i32.const 0x61616161) (i32.or (i32.or
                    (i32.and (local.get $left) (i32.const 0xf))
                    (i32.shl (i32.and (local.get $left) (i32.const 0xf0)) (i32.const 4)))
                    (i32.shl (i32.and (local.get $left) (i32.const 0xf00)) (i32.const 8)))))
                (call $increment_counter (i32.const 0) (i32.const 8))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#,
    )
}

#[test]
fn t180_the_number_of_names_is_limited_and_skipped_updates_are_counted() {
    let lab = Lab::new();
    let module = lab.module(&many());
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Metrics, 10);
    });
    let left_out = of(&environment, "lunatic_machine_metrics_left_out_total");
    for round in 1..=2 {
        let process = environment
            .spawn(&module, "main", &[Val::I32(20)])
            .expect("no limit applies");
        assert!(lab.exit(&process).is_normal());
        assert_eq!(environment.used(Limit::Metrics), 10);
        assert_eq!(
            lab.vm
                .metrics()
                .lines()
                .filter(|line| line.starts_with("hits"))
                .count(),
            10
        );
        assert_eq!(
            value(&lab.vm, &left_out),
            Some((10 * round).to_string()),
            "metrics that already exist can still be updated"
        );
    }
}

#[test]
fn t180_the_total_number_of_names_of_all_programs_is_limited() {
    let lab = Lab::new();
    let module = lab.module(&many());
    let environments: Vec<Environment> = (0..3)
        .map(|_| {
            lab.environment_with(|config| {
                config.limit(Limit::Metrics, u64::MAX);
            })
        })
        .collect();
    for environment in &environments {
        let process = environment
            .spawn(&module, "main", &[Val::I32(4_000)])
            .expect("no limit applies");
        assert!(lab.exit(&process).is_normal());
    }
    let named = |environment: &Environment| environment.used(Limit::Metrics);
    assert_eq!(
        environments.iter().map(named).collect::<Vec<_>>(),
        [4_000, 4_000, 2_000]
    );
}

#[test]
fn an_update_of_a_different_kind_or_of_a_reserved_name_is_skipped() {
    let lab = Lab::new();
    let environment = lab.environment();
    let calls = format!(
        "(call $increment_counter {HITS}) (call $gauge {HITS} (f64.const 7)) (call $histogram {HITS} (f64.const 7))
         (call $gauge (i32.const 8) (i32.const 25) (f64.const 1000))"
    );
    run(&lab, &environment, &main(&calls));
    assert_eq!(
        value(&lab.vm, &of(&environment, "hits")).as_deref(),
        Some("1")
    );
    assert_eq!(
        value(
            &lab.vm,
            &of(&environment, "lunatic_machine_metrics_left_out_total")
        )
        .as_deref(),
        Some("3")
    );
    assert_eq!(
        value(&lab.vm, "lunatic_machine_processes").as_deref(),
        Some("0")
    );
}

#[test]
fn an_invalid_name_traps() {
    let lab = Lab::new();
    for (name, words) in [
        ("(i32.const 0) (i32.const 0)", "empty"),
        ("(i32.const 0) (i32.const 257)", "at most 256"),
    ] {
        let exit = lab.run(&main(&format!("(call $increment_counter {name})")));
        let reason = exit
            .trap()
            .map(|trap| trap.reason.as_str())
            .unwrap_or_default();
        assert!(
            reason.contains(words) && reason.contains("lunatic::metrics::increment_counter"),
            "{exit}"
        );
    }
}

#[test]
fn the_vm_counts_processes_and_how_they_ended() {
    let lab = Lab::new();
    let module = lab.module(&guest(
        &["lunatic::message::receive"],
        r#"(func (export "main") (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))
           (func (export "trap") unreachable)"#,
    ));
    let environment = lab.environment();
    let spawn = |function| {
        environment
            .spawn(&module, function, &[])
            .expect("no limit applies")
    };
    let ended = |reason: &str| {
        value(
            &lab.vm,
            &format!("lunatic_machine_processes_ended_total{{reason=\"{reason}\"}}"),
        )
    };

    let [normal, killed] = [spawn("main"), spawn("main")];
    assert_eq!(
        value(&lab.vm, "lunatic_machine_processes").as_deref(),
        Some("2")
    );
    normal.send(0, b"end").expect("the mailbox has room");
    assert!(lab.exit(&normal).is_normal());
    killed.kill();
    assert!(matches!(lab.exit(&killed), Exit::Killed));
    assert!(matches!(lab.exit(&spawn("trap")), Exit::Trapped(_)));

    for (reason, count) in [
        ("normal", "1"),
        ("killed", "1"),
        ("trapped", "1"),
        ("limit", "0"),
    ] {
        assert_eq!(ended(reason).as_deref(), Some(count), "{reason}");
    }
    assert_eq!(
        value(&lab.vm, "lunatic_machine_processes").as_deref(),
        Some("0")
    );
    assert_eq!(
        value(&lab.vm, "lunatic_machine_processes_spawned_total").as_deref(),
        Some("3")
    );
    assert_eq!(
        value(&lab.vm, "lunatic_machine_mail_total").as_deref(),
        Some("1")
    );
}
