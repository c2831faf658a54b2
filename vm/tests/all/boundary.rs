//! Tests for the boundary between guests and the VM. Every row of each generation's table is called
//! both correctly and incorrectly.
//!
//! The guests are generated from the tables, so a new row is attacked without any change to this
//! file.

mod attack;
mod c;
mod fuzz;
mod published;
mod walk;

use crate::support::{Lab, allocations, constant, guest, signature, wasm};
use attack::{Attack, Expected, attacks, huge_slices, prepared_guest};
use lunatic_abi::{Generation, HOST_FUNCTIONS, HostFunction, OWN};
use lunatic_vm::{CallError, Environment, Exit, Limit, Module, ModuleError, Vm};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Writes an import for every row. Each function is named `$row` followed by the row's index in the
/// table.
fn imports() -> String {
    imports_of(Generation::V0_13)
}

/// Like [`imports`], but for the given generation.
fn imports_of(generation: Generation) -> String {
    let mut text = String::new();
    for (number, row) in generation.host_functions().enumerate() {
        let _ = writeln!(
            text,
            "(import \"{}\" \"{}\" (func $row{number}{}))",
            row.namespace,
            row.name,
            signature(row)
        );
    }
    text
}

/// Writes a call to the row with the given full name. The arguments are WAT. If the row has a
/// result, it is dropped.
fn call(whole: &str, arguments: &str) -> String {
    call_of(Generation::V0_13, whole, arguments)
}

/// Like [`call`], but for the given generation.
fn call_of(generation: Generation, whole: &str, arguments: &str) -> String {
    let (number, row) = row_of(generation, whole);
    let call = format!("(call $row{number} {arguments})");
    if row.result.is_some() {
        format!("(drop {call})")
    } else {
        call
    }
}

/// Like [`call_of`], but does not drop the result.
fn call_with_result(generation: Generation, whole: &str, arguments: &str) -> String {
    let (number, _) = row_of(generation, whole);
    format!("(call $row{number} {arguments})")
}

fn row_of(generation: Generation, whole: &str) -> (usize, &'static HostFunction) {
    let is_meant =
        |(_, row): &(usize, &HostFunction)| format!("{}::{}", row.namespace, row.name) == whole;
    let found = generation.host_functions().enumerate().find(is_meant);
    found.unwrap_or_else(|| panic!("the table of {generation:?} has no row `{whole}`"))
}

#[test]
fn every_row_can_be_imported() {
    let lab = Lab::new();
    for generation in Generation::ALL {
        let exit = lab.run(&format!(
            "(module {} (func (export \"main\")))",
            imports_of(generation)
        ));
        assert!(exit.is_normal(), "{generation:?}: {exit}");
    }
}

#[test]
fn the_older_generations_have_exactly_the_published_functions() {
    for generation in [Generation::V0_7, Generation::V0_6] {
        let whole = |row: &HostFunction| (format!("{}::{}", row.namespace, row.name), type_of(row));
        let rows: BTreeMap<String, String> = generation.host_functions().map(whole).collect();
        assert_eq!(
            rows,
            published::functions_of_0_7(generation == Generation::V0_6),
            "{generation:?}"
        );
    }
}

#[test]
fn guests_of_0_10_to_0_12_find_what_they_import() {
    for generation in [Generation::V0_12, Generation::V0_10] {
        for (whole, ty) in published::functions_of_0_12(generation == Generation::V0_10) {
            let (_, row) = row_of(generation, &whole);
            assert_eq!(type_of(row), ty, "{generation:?}: {whole}");
        }
    }
}

/// Returns a row's type in the notation used by the list of published functions.
fn type_of(row: &HostFunction) -> String {
    let letter = |ty| match wasm(ty) {
        "i32" => 'i',
        "i64" => 'l',
        _ => 'f',
    };
    let parameters: String = row.parameter_types().map(letter).collect();
    let result = row.result_type().map(letter);
    format!(
        "({parameters}){}",
        result.map(String::from).unwrap_or_default()
    )
}

#[test]
fn published_functions_have_their_published_types() {
    let published = published::functions();
    assert_eq!(published.len(), 140, "Lunatic 0.13 has 140 functions");
    for row in HOST_FUNCTIONS {
        let whole = format!("{}::{}", row.namespace, row.name);
        let ty = type_of(row);
        let is_extension = row.doc[0].trim_start().starts_with("Extension.");
        match published.get(&whole) {
            Some(known) => {
                assert!(
                    !is_extension,
                    "{whole} is a published function; an extension must have a different name"
                );
                assert_eq!(&ty, known, "{whole}");
            }
            None => assert!(
                is_extension,
                "{whole} is not published; its first line must begin with `Extension.`"
            ),
        }
    }
}

#[test]
fn a_program_that_imports_all_published_functions_links_and_starts() {
    let lab = Lab::new();
    let value_type = |letter: char| match letter {
        'i' => " i32",
        'l' => " i64",
        'f' => " f64",
        other => panic!("`{other}` is not a type letter"),
    };
    let mut text = String::from("(module ");
    for (whole, ty) in published::functions() {
        let (namespace, name) = whole.rsplit_once("::").expect("every name has a namespace");
        let (parameters, result) = ty[1..]
            .split_once(')')
            .expect("the list of parameters is closed");
        let parameters: String = parameters.chars().map(value_type).collect();
        let result: String = result.chars().map(value_type).collect();
        let _ = writeln!(
            text,
            "(import \"{namespace}\" \"{name}\" (func (param{parameters}) (result{result})))"
        );
    }
    text.push_str("(memory (export \"memory\") 1) (func (export \"main\")))");
    let exit = lab.run(&text);
    assert!(exit.is_normal(), "{exit}");
}

#[test]
fn t080_a_bad_pointer_ends_the_call_before_the_call_does_anything() {
    check("pointers", |attack| attack.is_pointer());
}

#[test]
fn t081_counts_that_overflow_are_refused() {
    check("counts", |attack| attack.is_count());
}

#[test]
fn t082_forged_ids_are_refused() {
    check("ids", |attack| attack.is_id());
}

#[test]
fn t084_text_that_is_not_utf8_is_refused() {
    check("texts", |attack| attack.is_text());
}

#[test]
fn extreme_numbers_and_times_do_no_harm() {
    check("numbers", |attack| attack.is_number());
}

#[test]
fn t081_huge_slices_are_refused_before_they_are_copied() {
    const HUGE: u64 = 64 << 20;
    // This is more than any call copies without a pause.
    const ALLOWED: u64 = 2 << 20;
    let lab = Lab::with(Vm::builder().workers(1));
    for generation in Generation::ALL {
        let attacks = huge_slices(generation, HUGE);
        assert!(attacks.len() > 10, "{generation:?}");
        let guest = prepared_guest(generation, &attacks, 1);
        let small = "(memory (export \"memory\") 1)";
        assert!(guest.contains(small), "the guest's memory has one page");
        let huge = format!("(memory (export \"memory\") {})", HUGE >> 16);
        let module = lab.module(&guest.replace(small, &huge));
        for (number, attack) in attacks.iter().enumerate() {
            let environment = lab.environment_with(|config| {
                config.limit(Limit::Time, 5_000);
            });
            let function = format!("attack{number}");
            let outcome = make(&lab, &environment, &module, attack.prepare(), &function);
            environment.end();
            lab.wait_for("an attacking process's children", environment.ended());
            assert!(
                outcome.allocated <= ALLOWED,
                "{attack}: {} bytes were allocated",
                outcome.allocated
            );
        }
    }
}

/// Makes every attack of one kind in each generation. Each attack comes from its own process, which
/// holds one resource of every kind.
fn check(what: &str, is_meant: impl Fn(&Attack) -> bool) {
    for generation in Generation::ALL {
        check_generation(generation, what, &is_meant);
    }
}

fn check_generation(generation: Generation, what: &str, is_meant: impl Fn(&Attack) -> bool) {
    let attacks: Vec<Attack> = attacks(generation).into_iter().filter(is_meant).collect();
    assert!(
        attacks.len() > 10,
        "{} attacks on {what} are too few for a meaningful test",
        attacks.len()
    );
    let lab = Lab::new();
    let module = lab.module(&prepared_guest(generation, &attacks, 1));
    for (number, attack) in attacks.iter().enumerate() {
        // An attack that passes a duration can make the call wait forever. In that case, the
        // environment's time limit terminates the call.
        let environment = lab.environment_with(|config| {
            if attack.may_wait() {
                config.limit(Limit::Time, 50);
            }
        });
        let outcome = make(
            &lab,
            &environment,
            &module,
            attack.prepare(),
            &format!("attack{number}"),
        );
        environment.end();
        lab.wait_for(
            "the children of an attacking process to end",
            environment.ended(),
        );
        attack.judge(&outcome);
    }
}

/// The outcome of an attack.
struct Outcome {
    exit: Option<Exit>,
    /// The environment's counters before and after the call.
    before: Vec<(Limit, u64)>,
    after: Vec<(Limit, u64)>,
    /// The number of bytes that the worker allocated during the call.
    allocated: u64,
}

fn make(
    lab: &Lab,
    environment: &Environment,
    module: &Module,
    prepare: &'static str,
    function: &str,
) -> Outcome {
    let (tell, told) = async_channel::bounded(1);
    let function = function.to_string();
    let used = |environment: &Environment| -> Vec<(Limit, u64)> {
        let counted = [
            Limit::Processes,
            Limit::Timers,
            Limit::Names,
            Limit::Sockets,
            Limit::TotalMemory,
        ];
        counted
            .into_iter()
            .map(|limit| (limit, environment.used(limit)))
            .collect()
    };
    let inner = environment.clone();
    let process = environment
        .drive(module, "attacker", move |live| {
            Box::pin(async move {
                if let Err(error) = live.call(prepare, &[]).await {
                    return error.into_exit();
                }
                let before = used(&inner);
                let allocated = allocations::allocated();
                let exit = match live.call(&function, &[]).await {
                    Ok(_) => None,
                    Err(CallError::Ended(exit)) => Some(exit),
                    Err(error) => panic!("{error}"),
                };
                // The instance still exists, so everything that a failed call acquired still counts
                // here.
                let after = used(&inner);
                // This number is meaningful only with a single worker.
                let allocated = allocations::allocated().saturating_sub(allocated);
                let _ = tell
                    .send(Outcome {
                        exit,
                        before,
                        after,
                        allocated,
                    })
                    .await;
                Exit::Normal
            })
        })
        .expect("no limit applies");
    match lab.wait_for("an attack's outcome", told.recv()) {
        Ok(outcome) => outcome,
        // The attacking process was killed by its time limit.
        Err(_) => Outcome {
            exit: Some(lab.exit(&process)),
            before: Vec::new(),
            after: Vec::new(),
            allocated: 0,
        },
    }
}

#[test]
fn t082_ids_of_another_process_are_invalid() {
    for generation in Generation::ALL {
        check_ids_of_another_process(generation);
    }
}

fn check_ids_of_another_process(generation: Generation) {
    let lab = Lab::new();
    let is_forged = |attack: &Attack| attack.is_first_id() && attack.row().name != "cancel_timer";
    let forged: Vec<Attack> = attacks(generation).into_iter().filter(is_forged).collect();
    let module = lab.module(&prepared_guest(generation, &forged, 1));
    let environment = lab.environment();
    let (leave, left) = async_channel::bounded::<()>(1);
    let (hold, held) = async_channel::bounded(1);
    let holder = environment
        .drive(&module, "holder", |live| {
            Box::pin(async move {
                live.call("prepare_all", &[])
                    .await
                    .expect("the resources can be created");
                let _ = hold.send(()).await;
                let _ = left.recv().await;
                Exit::Normal
            })
        })
        .expect("no limit applies");
    lab.wait_for("the other process's resources", held.recv())
        .expect("the process has created its resources");
    for (number, attack) in forged.iter().enumerate() {
        // This process holds no resources. The id 0 is valid in the other process.
        let thief = environment
            .spawn(&module, &format!("attack{number}"), &[])
            .expect("no limit applies");
        attack.expect_trap(&lab.exit(&thief));
    }
    drop(leave);
    assert!(lab.exit(&holder).is_normal());
}

#[test]
fn t083_a_dropped_resource_no_longer_exists() {
    check_drops(Generation::V0_13, 11);
    check_drops(Generation::V0_7, 8);
}

fn check_drops(generation: Generation, count: usize) {
    let lab = Lab::new();
    let mut text = prepared_guest(generation, &[], 1);
    let drops: Vec<(usize, &HostFunction)> = generation
        .host_functions()
        .enumerate()
        .filter(|(_, row)| row.name.starts_with("drop"))
        .inspect(|(_, row)| {
            assert_eq!(
                (row.parameters.len(), row.result),
                (1, None),
                "{}",
                row.name
            )
        })
        .collect();
    assert_eq!(drops.len(), count);
    text.truncate(text.trim_end().len() - 1);
    for (number, _) in &drops {
        let _ = write!(
            text,
            "(func (export \"once{number}\") (call $row{number} (i64.const 0)))
             (func (export \"twice{number}\") (call $prepare_all) (call $row{number} (i64.const 0))
                (call $say (i64.const {number})) (call $row{number} (i64.const 0)))"
        );
    }
    text.push(')');
    let module = lab.module(&text);
    for (number, row) in drops {
        let process = lab
            .environment()
            .spawn(&module, &format!("twice{number}"), &[])
            .expect("no limit applies");
        let exit = lab.exit(&process);
        assert!(
            exit.trap()
                .is_some_and(|trap| trap.reason.contains(row.name)),
            "{}: {exit}",
            row.name
        );
        assert_eq!(lab.hear(), number as i64, "the first drop succeeds");
    }
}

#[test]
fn t084_a_zero_byte_in_a_c_string_is_refused() {
    let lab = Lab::new();
    for (row, arguments) in [
        (
            "lunatic::wasi::config_add_environment_variable",
            "(i64.const 0) (i32.const 64) (i32.const 3) (i32.const 0) (i32.const 0)",
        ),
        (
            "lunatic::wasi::config_add_command_line_argument",
            "(i64.const 0) (i32.const 64) (i32.const 3)",
        ),
        (
            "lunatic::wasi::config_preopen_dir",
            "(i64.const 0) (i32.const 64) (i32.const 3)",
        ),
        (
            "lunatic::registry::put",
            "(i32.const 64) (i32.const 3) (i64.const 0) (i64.const 0)",
        ),
    ] {
        let text = format!(
            "(module {} (memory (export \"memory\") 1) (data (i32.const 64) \"a\\00b\")
                (func (export \"main\") {} {}))",
            imports(),
            call("lunatic::process::create_config", ""),
            call(row, arguments),
        );
        let exit = lab.run(&text);
        assert!(
            exit.trap().is_some_and(|trap| trap.reason.contains(row)),
            "{row}: {exit}"
        );
    }
}

/// Returns the source of a module with the given memory and a call that uses it.
fn with_memory(memory: &str) -> String {
    format!(
        "(module {} {memory} (func (export \"main\") {}))",
        imports(),
        call("lunatic::environment::create_empty_config", "(i32.const 0)")
    )
}

#[test]
fn t085_a_guest_without_a_usable_memory_traps_with_a_clear_message() {
    let lab = Lab::new();
    for memory in [
        "",
        "(memory 1)",
        "(memory (export \"other\") 1)",
        "(func (export \"memory\"))",
        "(global (export \"memory\") i32 (i32.const 0))",
        "(table (export \"memory\") 1 funcref)",
    ] {
        let exit = lab.run(&with_memory(memory));
        assert!(
            exit.trap()
                .is_some_and(|trap| trap.reason.contains("exports no memory named `memory`")),
            "{exit}"
        );
    }
    for memory in [
        "(memory (export \"memory\") 1)",
        "(memory (export \"memory\") (export \"twice\") 1)",
        "(memory 1) (memory (export \"memory\") 1)",
    ] {
        let exit = lab.run(&with_memory(memory));
        assert!(exit.is_normal(), "{memory}: {exit}");
    }
    let error = lab
        .vm
        .module("test", b"(module (import \"env\" \"memory\" (memory 1)))")
        .expect_err("nothing provides the imported memory");
    assert!(error.to_string().contains("`env::memory`"), "{error}");
}

#[test]
fn t085_the_exported_memory_is_used() {
    let lab = Lab::new();
    // The second memory, which is smaller than the first, is exported.
    let exit = lab.run(&format!(
        "(module {} (memory $large 3) (memory (export \"memory\") 1) (func (export \"main\") {}))",
        imports(),
        call(
            "lunatic::environment::create_empty_config",
            "(i32.const 70000)"
        )
    ));
    assert!(
        exit.trap()
            .is_some_and(|trap| trap.reason.contains("bad pointer")),
        "{exit}"
    );
}

#[test]
fn t086_host_functions_can_be_called_before_the_guest_is_complete() {
    let lab = Lab::new();
    // A start function runs during instantiation. It may use the guest's memory, spawn processes
    // and receive messages.
    let exit = lab.run(&format!(
        "(module {}
            (import \"test\" \"say\" (func $say (param i64)))
            (memory (export \"memory\") 1)
            (data (i32.const 64) \"main\")
            (func $start
                {}
                (call $say (i64.extend_i32_s (i32.load (i32.const 128)))))
            (func (export \"main\") (call $say (i64.const 7)))
            (start $start))",
        imports(),
        call(
            "lunatic::environment::create_empty_config",
            "(i32.const 128)"
        ),
    ));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear_all(), [0, 7]);
}

#[test]
fn t086_the_host_calls_no_export_unless_a_guest_requests_it() {
    let lab = Lab::new();
    // These exports are called by other hosts: allocators, functions that catch traps, and
    // constructors.
    let names = [
        "lunatic_alloc",
        "lunatic_free",
        "_lunatic_catch_trap",
        "_initialize",
        "_start",
        "cabi_realloc",
    ];
    let mut fields =
        String::from("(func (export \"main\") (drop (call $create_empty_config (i32.const 0))))");
    for name in names {
        let _ = write!(fields, "(func (export \"{name}\") unreachable)");
    }
    let exit = lab.run(&guest(
        &["lunatic::environment::create_empty_config"],
        &fields,
    ));
    assert!(exit.is_normal(), "{exit}");
}

#[test]
fn t087_the_error_names_an_import_that_nothing_provides() {
    let lab = Lab::new();
    for (text, words) in [
        (
            "(import \"lunatic::process\" \"levitate\" (func))",
            "`lunatic::process::levitate`",
        ),
        (
            "(import \"wasi_unstable\" \"fd_levitate\" (func))",
            "`wasi_unstable::fd_levitate`",
        ),
        ("(import \"env\" \"malloc\" (func))", "C function"),
        (
            "(import \"lunatic\" \"spawn\" (func (param i32) (result i32)))",
            "version 0.1, 0.2 or 0.3 of the guest crate",
        ),
        (
            "(import \"lunatic::plugin\" \"add_function_export\" (func (param i32 i32 i32)))",
            "no plugins",
        ),
        ("(import \"my\" \"function\" (func))", "VmBuilder::host"),
        (
            "(import \"env\" \"table\" (table 1 funcref))",
            "provides only functions",
        ),
        (
            "(import \"a\\1b[31m\" \"b\\00\" (func))",
            "`a\\u{1b}[31m::b\\0`",
        ),
    ] {
        let error = lab
            .vm
            .module("test", format!("(module {text})").as_bytes())
            .expect_err(text);
        assert!(
            matches!(error, ModuleError::UnknownImport { .. }),
            "{text}: {error:?}"
        );
        assert!(error.to_string().contains(words), "{text}: {error}");
    }
    let other_type = "(module (import \"lunatic::process\" \"process_id\" (func (result i32))))";
    let error = lab
        .vm
        .module("test", other_type.as_bytes())
        .expect_err("the row has a different type");
    assert!(matches!(error, ModuleError::ImportType(_)), "{error:?}");
    assert!(error.to_string().contains("process_id"), "{error}");
}

#[test]
fn t087_a_call_without_a_grant_traps_and_the_message_says_how_to_grant_it() {
    let vm = Vm::builder().build().expect("the VM can be built");
    for generation in Generation::ALL {
        check_denied(&vm, generation);
    }
}

fn check_denied(vm: &Vm, generation: Generation) {
    let mut text = imports_of(generation);
    for (number, row) in generation.host_functions().enumerate() {
        let arguments: Vec<String> = row.parameter_types().map(|ty| constant(ty, 0)).collect();
        let whole = format!("{}::{}", row.namespace, row.name);
        let _ = write!(
            text,
            "(func (export \"call{number}\") {})",
            call_of(generation, &whole, &arguments.join(" "))
        );
    }
    let module = vm
        .module("test", format!("(module {text})").as_bytes())
        .expect("the module imports only rows in the table");
    let environment = vm.environment(vm.config());
    for (number, row) in generation.host_functions().enumerate() {
        let whole = format!("{}::{}", row.namespace, row.name);
        let process = environment
            .spawn(&module, &format!("call{number}"), &[])
            .expect("importing a function does not require any rights");
        let exit = vm.block_on(process.exited());
        let reason = exit
            .trap()
            .map(|trap| trap.reason.as_str())
            .unwrap_or_default();
        assert!(
            reason.contains(&format!("does not grant `{whole}`")) && reason.contains("--allow"),
            "{whole}: {exit}"
        );
    }
}

#[test]
fn an_id_of_all_ones_means_the_callers_own() {
    // By convention, `u64::MAX` in place of an id is valid and refers to the caller's own resource.
    assert_eq!(OWN, u64::MAX);
    let lab = Lab::new();
    let exit = lab.run(&format!(
        "(module {} (memory (export \"memory\") 1) (func (export \"main\") {} {}))",
        imports(),
        call(
            "lunatic::message::create_data",
            "(i64.const 0) (i64.const 0)"
        ),
        call("lunatic::message::push_module", "(i64.const -1)"),
    ));
    assert!(exit.is_normal(), "{exit}");
}

impl Attack {
    /// Fails the test unless the outcome is as expected.
    fn judge(&self, outcome: &Outcome) {
        let exit = outcome.exit.as_ref();
        match self.expected {
            Expected::Trap(words) => {
                let exit = exit.unwrap_or_else(|| panic!("{self}: the process did not end"));
                self.expect_trap(exit);
                let reason = exit
                    .trap()
                    .map(|trap| trap.reason.as_str())
                    .unwrap_or_default();
                assert!(
                    reason.contains(words),
                    "{self}: the reason is `{reason}` and does not contain `{words}`"
                );
            }
            Expected::Answer => {
                assert!(
                    exit.is_none(),
                    "{self}: {}",
                    exit.map(ToString::to_string).unwrap_or_default()
                )
            }
            Expected::Either => match exit {
                Some(exit @ Exit::Trapped(_)) => self.expect_trap(exit),
                Some(Exit::Fault(what)) => panic!("{self}: {what}"),
                _ => {}
            },
        }
        if matches!(exit, Some(Exit::Trapped(_))) {
            assert_eq!(
                outcome.before, outcome.after,
                "{self}: the call trapped, but left resources in use"
            );
        }
    }

    /// Fails the test unless the process trapped with a message that names the function.
    fn expect_trap(&self, exit: &Exit) {
        let Exit::Trapped(trap) = exit else {
            panic!("{self}: {exit}")
        };
        let row = self.row();
        assert!(
            trap.reason
                .contains(&format!("in `{}::{}`", row.namespace, row.name)),
            "{self}: {exit}"
        );
    }
}
