//! Tests that everything the host holds for a guest is charged to that guest and is bounded.

use crate::support::{Lab, guest, is_alone, resident};
use lunatic_abi::Errno;
use lunatic_vm::{Access, Environment, Exit, Limit, LimitReached, Shortage, Vm};

const MIB: u64 = 1 << 20;

/// Creates an environment in which the host holds at most `bytes` bytes for each process.
fn holding(lab: &Lab, bytes: u64) -> Environment {
    lab.environment_with(|config| {
        config.limit(Limit::HostMemory, bytes);
    })
}

fn limit_of(exit: &Exit) -> Option<Limit> {
    match exit {
        Exit::Limit(LimitReached { limit, .. }) => Some(*limit),
        _ => None,
    }
}

/// Waits until an environment has ended, and checks that the host holds nothing for it.
fn wait_until_nothing_is_held(lab: &Lab, environment: &Environment) {
    lab.wait_for(
        "everything that is held to be released",
        environment.ended(),
    );
    for limit in [Limit::TotalHostMemory, Limit::Descriptors] {
        assert_eq!(environment.used(limit), 0, "{limit:?}");
    }
}

/// Kinds of things that a guest can create repeatedly. Each entry consists of a name, the host
/// functions to import, the code that runs once, and the code that runs until a call is refused.
const HOARDERS: &[(&str, &[&str], &str, &str)] = &[
    (
        "configurations with variables",
        &[
            "lunatic::environment::create_empty_config",
            "lunatic::wasi::config_add_environment_variable",
        ],
        "",
        "(br_if $refused (call $create_empty_config (i32.const 64)))
         (call $config_add_environment_variable (i64.load (i32.const 64))
            (i32.const 1024) (i32.const 9) (i32.const 1024) (i32.const 60000))",
    ),
    (
        "configurations with many short variables",
        &[
            "lunatic::environment::create_empty_config",
            "lunatic::wasi::config_add_environment_variable",
        ],
        "(local $name i32)",
        "(br_if $refused (call $create_empty_config (i32.const 64)))
         (local.set $name (i32.const 0))
         (loop $variable
            (i32.store (i32.const 1024) (i32.add (local.get $name) (i32.const 0x41414141)))
            (call $config_add_environment_variable (i64.load (i32.const 64))
                (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 1))
            (local.set $name (i32.add (local.get $name) (i32.const 1)))
            (br_if $variable (i32.lt_u (local.get $name) (i32.const 20))))",
    ),
    (
        "arguments",
        &[
            "lunatic::environment::create_empty_config",
            "lunatic::wasi::config_add_command_line_argument",
        ],
        "",
        "(br_if $refused (call $create_empty_config (i32.const 64)))
         (call $config_add_command_line_argument (i64.load (i32.const 64)) (i32.const 1024) (i32.const 60000))",
    ),
    (
        "environments",
        &[
            "lunatic::environment::create_empty_config",
            "lunatic::environment::create",
            "lunatic::wasi::config_add_environment_variable",
        ],
        "(drop (call $create_empty_config (i32.const 64)))
         (call $config_add_environment_variable (i64.const 0) (i32.const 1024) (i32.const 9) (i32.const 1024) (i32.const 60000))",
        "(br_if $refused (call $create (i64.const 0) (i32.const 64)))",
    ),
    (
        "modules",
        &["lunatic::process::compile_module"],
        "",
        "(br_if $refused (call $compile_module (i32.const 131072) (i32.const 60014) (i32.const 64)))",
    ),
    (
        "errors",
        &["lunatic::environment::config_set_limit", "lunatic::environment::create_empty_config"],
        "(drop (call $create_empty_config (i32.const 64)))",
        "(drop (call $config_set_limit (i64.const 0) (i32.const 99) (i64.const 0) (i32.const 64)))",
    ),
];

/// Returns the source of a guest that creates as many things as it can and then reports how many it
/// created.
fn hoarder(rows: &[&str], once: &str, again: &str) -> String {
    // Local variables must be declared first.
    let (locals, once) = match once.strip_prefix("(local ") {
        Some(_) => (once, ""),
        None => ("", once),
    };
    guest(
        rows,
        &format!(
            "(func (export \"main\") (local $made i64) {locals}
                (drop (memory.grow (i32.const 4)))
                (memory.fill (i32.const 1024) (i32.const 120) (i32.const 60000))
                ;; A 60,014-byte module with one custom section.
                (i64.store (i32.const 131072) (i64.const 0x16d736100))
                (i64.store (i32.const 131080) (i64.const 0x780103d4e200))
                {once}
                (block $refused
                    (loop $again
                        {again}
                        (local.set $made (i64.add (local.get $made) (i64.const 1)))
                        (br_if $again (i64.lt_u (local.get $made) (i64.const 9000)))))
                (call $say (local.get $made)))"
        ),
    )
}

#[test]
fn hoarding_of_every_kind_ends_at_the_limit() {
    const TEST: &str = "held::hoarding_of_every_kind_ends_at_the_limit";
    if !is_alone(TEST, &[]) {
        return;
    }
    let lab = Lab::new();
    for (what, rows, once, again) in HOARDERS {
        let environment = holding(&lab, 8 * MIB);
        let module = lab.module(&hoarder(rows, once, again));
        let before = resident();
        let process = environment
            .spawn(&module, "main", &[])
            .expect("no limit applies");
        let exit = lab.exit(&process);
        let grown = resident().saturating_sub(before);
        match &exit {
            Exit::Normal => assert!((10..9_000).contains(&lab.hear()), "{what}"),
            Exit::Limit(_) => assert_eq!(limit_of(&exit), Some(Limit::HostMemory), "{what}"),
            Exit::Trapped(trap) => {
                assert!(trap.reason.contains("host memory of"), "{what}: {exit}")
            }
            _ => panic!("{what}: {exit}"),
        }
        // The allocator keeps some released memory.
        assert!(
            grown < 32 * MIB,
            "{what}: the host grew by {grown} bytes, even though the limit is 8 MiB"
        );
        wait_until_nothing_is_held(&lab, &environment);
    }
}

#[test]
fn a_module_counts_until_the_last_process_that_runs_it_is_gone() {
    let lab = Lab::new();
    let environment = lab.environment();
    let module = lab.module(&guest(
        &[
            "lunatic::process::compile_module",
            "lunatic::process::drop_module",
            "lunatic::message::receive_bytes",
        ],
        r#"(data (i32.const 1024) "\00asm\01\00\00\00\05\03\01\00\01\0b\07\01\00\41\00\0b\01x")
           (func (export "main")
            (call $say (i64.extend_i32_u (call $compile_module (i32.const 1024) (i32.const 22) (i32.const 64))))
            (drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) (i32.const 0) (i32.const 0) (i32.const 0)))
            (call $drop_module (i64.load (i32.const 64)))
            (call $say (i64.const 1))
            (drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) (i32.const 0) (i32.const 0) (i32.const 0))))"#,
    ));
    let process = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    assert_eq!(lab.hear(), 0, "the module compiles");
    assert_eq!(
        environment.used(Limit::Descriptors),
        1,
        "the module's image"
    );
    let held = process.host_memory().used();
    assert!(
        held > 64 << 10,
        "only {held} bytes are held for code, tables and the image"
    );
    process.send(0, b"").expect("no limit applies");
    assert_eq!(lab.hear(), 1, "the module is dropped");
    assert_eq!(environment.used(Limit::Descriptors), 0);
    assert!(process.host_memory().used() < held - (64 << 10));
    process.send(0, b"").expect("no limit applies");
    assert!(lab.exit(&process).is_normal());
    wait_until_nothing_is_held(&lab, &environment);
}

#[test]
fn descriptors_beyond_the_limit_are_refused_with_an_error() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Descriptors, 3);
    });
    let module = lab.module(&guest(
        &[
            "lunatic::process::compile_module",
            "lunatic::networking::tcp_bind",
            "lunatic::error::kind",
            "lunatic::error::string_size",
        ],
        r#"(data (i32.const 1024) "\00asm\01\00\00\00") (data (i32.const 32) "\7f\00\00\01")
           (func $compile (result i64)
            (i64.extend_i32_u (call $compile_module (i32.const 1024) (i32.const 8) (i32.const 64))))
           (func (export "main")
            (call $say (call $compile)) (call $say (call $compile)) (call $say (call $compile))
            (call $say (call $compile))
            (call $say (i64.extend_i32_u (call $kind (i64.load (i32.const 64)))))
            (call $say (i64.extend_i32_u (call $tcp_bind (i32.const 4) (i32.const 32) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64))))
            (call $say (i64.extend_i32_u (call $kind (i64.load (i32.const 64))))))"#,
    ));
    let exit = lab.run_in(&environment, &module);
    assert!(exit.is_normal(), "{exit}");
    let reached = Errno::LimitReached as i64;
    assert_eq!(lab.hear_all(), [0, 0, 0, 1, reached, 1, reached]);
}

#[test]
fn one_program_leaves_descriptors_for_the_others() {
    let lab = Lab::with(Vm::builder().descriptors(8));
    let module = lab.module(&guest(
        &["lunatic::networking::udp_bind"],
        r#"(data (i32.const 32) "\7f\00\00\01")
           (func (export "main") (local $open i64)
            (loop $again
                (if (i32.eqz (call $udp_bind (i32.const 4) (i32.const 32) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64))) (then
                    (local.set $open (i64.add (local.get $open) (i64.const 1)))
                    (br $again))))
            (call $say (local.get $open))
            (loop (br 0)))"#,
    ));
    let programs = [lab.environment(), lab.environment()];
    for (program, open) in programs.iter().zip([6, 2]) {
        program
            .spawn(&module, "main", &[])
            .expect("no limit applies");
        assert_eq!(lab.hear(), open);
    }
    for program in programs {
        program.end();
        wait_until_nothing_is_held(&lab, &program);
    }
}

/// Returns the source of a guest whose children die with reasons that quote 128 KiB. The guest
/// monitors its children, so it receives these reasons.
fn deaths(children: u32) -> String {
    guest(
        &[
            "lunatic::process::create_config",
            "lunatic::process::monitor",
            "lunatic::process::spawn",
            "lunatic::process::exists",
            "lunatic::process::sleep_ms",
            "lunatic::message::receive_bytes",
            "lunatic::wasi::config_preopen_dir",
        ],
        &format!(
            r#"(data (i32.const 16) "die")
            (func (export "die")
                (drop (memory.grow (i32.const 4)))
                (memory.fill (i32.const 65536) (i32.const 1) (i32.const 131072))
                (call $config_preopen_dir (call $create_config) (i32.const 65536) (i32.const 131072)))
            (func $child
                (if (call $spawn (i64.const 0) (i64.const -1) (i64.const -1) (i32.const 16) (i32.const 3)
                    (i32.const 0) (i32.const 0) (i32.const 64)) (then unreachable))
                (call $monitor (i64.load (i32.const 64)))
                (loop $alive
                    (call $sleep_ms (i64.const 0))
                    (br_if $alive (call $exists (i64.load (i32.const 64))))))
            (func (export "main") (local $count i32)
                (loop $next
                    (call $child)
                    (local.set $count (i32.add (local.get $count) (i32.const 1)))
                    (br_if $next (i32.lt_u (local.get $count) (i32.const {children}))))
                (loop $told
                    ;; The length of the reason.
                    (drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) (i32.const 4096) (i32.const 60000) (i32.const 1024)))
                    (call $say (i64.load32_u (i32.const 1028)))
                    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
                    (br_if $told (local.get $count))))"#
        ),
    )
}

#[test]
fn the_reasons_for_deaths_are_short_and_counted() {
    let lab = Lab::new();
    let environment = lab.environment();
    let module = lab.module(&deaths(20));
    assert!(lab.run_in(&environment, &module).is_normal());
    for length in lab.hear_all::<20>() {
        assert!((1_000..2_100).contains(&length), "{length} bytes");
    }
    wait_until_nothing_is_held(&lab, &environment);
}

#[test]
fn waiting_mail_counts_toward_the_limit_of_its_receivers_environment() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::TotalHostMemory, MIB);
    });
    let module = lab.module(&guest(
        &["lunatic::message::receive_bytes"],
        "(func (export \"main\") (loop $next
            (drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) (i32.const 4096) (i32.const 60000) (i32.const 0)))
            (call $say (i64.load (i32.const 4096)))
            (br_if $next (i64.ne (i64.load (i32.const 4096)) (i64.const 0)))))",
    ));
    // The receivers are endpoints, so they receive only when the test makes them.
    let receivers =
        ["one", "other"].map(|name| environment.endpoint(name).expect("no limit applies"));
    let data = vec![1; 60_000];
    let sent: Vec<usize> = receivers
        .iter()
        .map(|receiver| {
            (0..100)
                .take_while(|_| receiver.process().send(0, &data).is_ok())
                .count()
        })
        .collect();
    assert_eq!(sent.iter().sum::<usize>(), 17, "{sent:?}");
    drop(receivers);
    assert_eq!(environment.used(Limit::TotalHostMemory), 0);
    let process = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    process.send(0, &data).expect("there is room again");
    process.send(0, &[0; 8]).expect("no limit applies");
    assert!(lab.exit(&process).is_normal());
    wait_until_nothing_is_held(&lab, &environment);
}

#[test]
fn an_instance_is_charged_for_its_globals_functions_and_tables() {
    let lab = Lab::new();
    let globals = "(global (mut i64) (i64.const 0)) ".repeat(200_000);
    let elements = "$f ".repeat(200_000);
    for text in [
        format!("(module {globals} (func (export \"main\")))"),
        format!(
            "(module (func $f) (table 200000 funcref) (elem (i32.const 0) func {elements}) (func (export \"main\")))"
        ),
    ] {
        let module = lab.module(&text);
        let refuse = |limit| {
            let environment = lab.environment_with(|config| {
                config
                    .limit(Limit::TableElements, u64::MAX)
                    .limit(limit, 4 * MIB);
            });
            let refused = environment.spawn(&module, "main", &[]);
            let refused = refused
                .expect_err("200,000 entries take 6.4 MB")
                .to_string();
            assert!(refused.contains("host memory of"), "{refused}");
        };
        refuse(Limit::HostMemory);
        refuse(Limit::TotalHostMemory);
        let environment = lab.environment_with(|config| {
            config.limit(Limit::TableElements, u64::MAX);
        });
        assert!(lab.run_in(&environment, &module).is_normal());
        wait_until_nothing_is_held(&lab, &environment);
    }
}

#[test]
fn the_growth_of_a_table_is_charged() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::TotalHostMemory, 64 << 10);
    });
    let module = lab.module(&guest(
        &[],
        "(table 1 funcref)
         (func (export \"main\") (loop $again
            (br_if $again (i32.ne (table.grow (ref.null func) (i32.const 1024)) (i32.const -1))))
            (call $say (i64.extend_i32_u (table.size))))",
    ));
    assert_eq!(
        limit_of(&lab.run_in(&environment, &module)).or(Some(Limit::TotalHostMemory)),
        Some(Limit::TotalHostMemory)
    );
    let elements = lab.hear();
    assert!((7_000..=8_193).contains(&elements), "{elements} elements");
    wait_until_nothing_is_held(&lab, &environment);
}

#[test]
fn a_guest_cannot_take_the_descriptors_that_the_machine_needs() {
    const TEST: &str = "held::a_guest_cannot_take_the_descriptors_that_the_machine_needs";
    if !is_alone(TEST, &["sh", "-c", "ulimit -n 256; exec \"$0\" \"$@\""]) {
        return;
    }
    let lab = Lab::new();
    let module = lab.module(&guest(
        &["lunatic::process::compile_module", "lunatic::error::kind"],
        r#"(data (i32.const 1024) "\00asm\01\00\00\00\05\03\01\00\01\0b\07\01\00\41\00\0b\01x")
           (func (export "main")
            (loop $again
                (br_if $again (i32.eqz (call $compile_module (i32.const 1024) (i32.const 22) (i32.const 64)))))
            (call $say (i64.extend_i32_u (call $kind (i64.load (i32.const 64)))))
            (loop (br 0)))"#,
    ));
    let greedy = lab.environment();
    greedy
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    assert_eq!(lab.hear(), Errno::LimitReached as i64);
    let held = greedy.used(Limit::Descriptors);
    assert!((50..192).contains(&held), "{held} descriptors");
    let files: Vec<_> = (0..32).map(|_| std::fs::File::open("/dev/null")).collect();
    assert!(files.iter().all(Result::is_ok), "{files:?}");
    let exit = lab.run("(module (func (export \"main\")))");
    assert!(exit.is_normal(), "other programs continue to run: {exit}");
}

#[test]
fn a_machine_that_is_short_of_memory_refuses_in_order() {
    const TEST: &str = "held::a_machine_that_is_short_of_memory_refuses_in_order";
    if !is_alone(TEST, &[]) {
        return;
    }
    let small = "(module (func (export \"main\")))";
    // Everything that all machines share is created before memory is limited.
    let exit = Lab::new().run(small);
    assert!(exit.is_normal(), "{exit}");
    let allowed = resident() + 400 * MIB;
    let lab = Lab::with(Vm::builder().memory(allowed));
    let small = lab.module(small);
    let module = lab.module(&guest(
        &[
            "lunatic::process::compile_module",
            "lunatic::message::receive_bytes",
            "lunatic::error::kind",
        ],
        r#"(data (i32.const 1024) "\00asm\01\00\00\00")
           (func $wait
            (drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) (i32.const 0) (i32.const 0) (i32.const 0))))
           (func (export "main")
            (call $wait)
            (call $say (i64.extend_i32_u (call $compile_module (i32.const 1024) (i32.const 8) (i32.const 64))))
            (call $say (i64.extend_i32_u (call $kind (i64.load (i32.const 64)))))
            (call $wait)
            (call $say (i64.extend_i32_s (memory.grow (i32.const 1))))
            (call $wait)
            (call $say (i64.extend_i32_s (memory.grow (i32.const 1)))))"#,
    ));
    let (greedy, modest) = (lab.environment(), lab.environment());
    let process = greedy
        .spawn(&module, "main", &[])
        .expect("memory is not scarce yet");
    let go_on = || process.send(0, b"").expect("no limit applies");
    let spawn = |environment: &Environment| environment.spawn(&small, "main", &[]);
    let mut ballast: Vec<Vec<u8>> = Vec::new();
    // An eighth of the memory is the reserve, and each level is a quarter of the reserve. The
    // allocation stops in the middle of a level. The machine's readings may be old, so the test
    // itself measures when to stop.
    let mut leave = |eighths_of_reserve: u64, level| {
        while resident() < allowed - allowed / 64 * eighths_of_reserve {
            ballast.push(vec![1; MIB as usize]);
        }
        while lab.vm.shortage() < level {
            std::thread::yield_now();
        }
    };

    leave(7, Shortage::Compiles);
    go_on();
    assert_eq!(lab.hear_all(), [1, Errno::Exhausted as i64]);

    leave(5, Shortage::GreedySpawns);
    let refused = spawn(&greedy).expect_err("the program holds the most memory");
    assert!(
        refused.to_string().contains("more memory than any other"),
        "{refused}"
    );
    lab.exit(&spawn(&modest).expect("other programs may still spawn"));

    leave(1, Shortage::Requests);
    let refused = spawn(&modest).expect_err("no memory is left");
    assert!(
        refused.to_string().contains("MiB of memory is left"),
        "{refused}"
    );
    go_on();
    assert_eq!(lab.hear(), -1, "the memory does not grow");

    ballast.clear();
    while lab.vm.shortage() > Shortage::None {
        std::thread::yield_now();
    }
    go_on();
    assert_eq!(lab.hear(), 1, "the memory grows");
    assert!(lab.exit(&process).is_normal());
    lab.exit(&spawn(&greedy).expect("memory is no longer scarce"));
}

/// Returns an environment that grants a new directory as `/data`, which contains the directory
/// `inner`.
fn with_directories(lab: &Lab) -> (tempfile::TempDir, Environment) {
    let place = tempfile::tempdir().expect("a temporary directory can be created");
    std::fs::create_dir(place.path().join("inner")).expect("the directory is new");
    let environment = lab.environment_with(|config| {
        config
            .preopen(place.path(), "/data", Access::Write)
            .expect("the path is a directory");
    });
    (place, environment)
}

#[test]
fn granted_directories_and_open_databases_count_as_descriptors() {
    let lab = Lab::new();
    let (_place, environment) = with_directories(&lab);
    let module = lab.module(&guest(
        &[
            "lunatic::sqlite::open",
            "lunatic::process::create_config",
            "lunatic::process::drop_config",
            "lunatic::wasi::config_preopen_dir",
            "lunatic::message::receive_bytes",
        ],
        r#"(data (i32.const 1024) "/data/inner") (data (i32.const 1040) "/data/db")
           (func $wait
            (drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) (i32.const 0) (i32.const 0) (i32.const 0))))
           (func (export "main")
            (call $config_preopen_dir (call $create_config) (i32.const 1024) (i32.const 11))
            (call $say (i64.const 1)) (call $wait)
            (call $drop_config (i64.const 0))
            (call $say (i64.const 2)) (call $wait)
            (call $say (call $open (i32.const 1040) (i32.const 8) (i32.const 64))) (call $wait))"#,
    ));
    let process = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    for (said, open) in [(1, 2), (2, 0), (0, 3)] {
        assert_eq!(lab.hear(), said);
        assert_eq!(environment.used(Limit::Descriptors), open);
        process.send(0, b"").expect("no limit applies");
    }
    assert!(lab.exit(&process).is_normal());
    wait_until_nothing_is_held(&lab, &environment);
}

#[test]
fn a_replaced_directory_counts_until_no_environment_has_it() {
    let lab = Lab::new();
    let (_place, environment) = with_directories(&lab);
    let module = lab.module(&guest(
        &[
            "lunatic::environment::create",
            "lunatic::environment::drop",
            "lunatic::process::create_config",
            "lunatic::process::drop_config",
            "lunatic::wasi::config_preopen_dir",
            "lunatic::message::receive_bytes",
        ],
        r#"(data (i32.const 1024) "/data/inner")
           (func $wait
            (drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) (i32.const 0) (i32.const 0) (i32.const 0))))
           (func $add (param $config i64)
            (call $config_preopen_dir (local.get $config) (i32.const 1024) (i32.const 11)))
           (func (export "main") (local $config i64)
            (local.set $config (call $create_config))
            (call $add (local.get $config))
            (if (call $create (local.get $config) (i32.const 64)) (then unreachable))
            (call $add (local.get $config))
            (call $say (i64.const 1)) (call $wait)
            (call $add (local.get $config))
            (call $say (i64.const 2)) (call $wait)
            (call $drop (i64.load (i32.const 64)))
            (call $say (i64.const 3)) (call $wait)
            (call $drop_config (local.get $config))
            (call $say (i64.const 4)) (call $wait))"#,
    ));
    let process = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    for (said, open) in [(1, 4), (2, 4), (3, 2), (4, 0)] {
        assert_eq!(lab.hear(), said);
        assert_eq!(environment.used(Limit::Descriptors), open, "at {said}");
        process.send(0, b"").expect("no limit applies");
    }
    assert!(lab.exit(&process).is_normal());
    wait_until_nothing_is_held(&lab, &environment);
}
