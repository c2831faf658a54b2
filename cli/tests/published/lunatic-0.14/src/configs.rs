//! Tests configurations: what a child may do, and its limits.

use crate::mailbox;
use lunatic::{spawn_link, LunaticError, Mailbox, MessageSignal, Process, ProcessConfig, WasmModule};

/// Runs a function in a child with the given configuration. Prints what the child sends, or that it
/// died.
fn run(config: &ProcessConfig, child: fn(Process<String>, Mailbox<()>)) {
    let mailbox = mailbox::<String>().catch_link_failure();
    Process::spawn_link_config(config, mailbox.this(), child);
    match mailbox.receive() {
        MessageSignal::Message(text) => println!("{text}"),
        MessageSignal::Signal(_) => println!("the child died"),
    }
}

fn config() -> ProcessConfig {
    ProcessConfig::new().expect("the main process may create configurations")
}

/// Returns what a child reports about an attempt.
fn outcome<T>(result: Result<T, LunaticError>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "done".to_owned())
}

/// An empty module.
const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

pub fn what_was_set_is_what_is_read() {
    let mut config = config();
    println!("{} {} {}", config.can_compile_modules(), config.can_create_configs(), config.can_spawn_processes());
    config.set_max_memory(5_000_000);
    config.set_max_fuel(7);
    config.set_can_compile_modules(true);
    config.set_can_create_configs(true);
    config.set_can_spawn_processes(true);
    println!("{config:?}");
    config.set_can_spawn_processes(false);
    println!("{}", config.can_spawn_processes());
}

fn spawns(parent: Process<String>, _: Mailbox<()>) {
    Process::spawn(parent, |parent, _: Mailbox<()>| parent.send("from the grandchild".to_owned()));
}

pub fn without_the_right_a_child_spawns_nothing() {
    run(&config(), spawns);
}

pub fn with_the_right_a_child_spawns() {
    let mut config = config();
    config.set_can_spawn_processes(true);
    run(&config, spawns);
}

pub fn without_the_right_there_are_no_configs() {
    let makes = |parent: Process<String>, _: Mailbox<()>| parent.send(outcome(ProcessConfig::new()));
    run(&config(), makes);
    let mut config = config();
    config.set_can_create_configs(true);
    run(&config, makes);
}

fn compiles(parent: Process<String>, _: Mailbox<()>) {
    parent.send(outcome(WasmModule::new(EMPTY)));
}

pub fn without_the_right_nothing_is_compiled() {
    run(&config(), compiles);
    let mut config = config();
    config.set_can_compile_modules(true);
    run(&config, compiles);
}

pub fn a_process_cannot_grant_a_right_that_it_lacks() {
    let mut config = config();
    config.set_can_create_configs(true);
    config.set_can_spawn_processes(true);
    run(&config, |parent, _| {
        let mut config = ProcessConfig::new().expect("this process may create configurations");
        config.set_can_compile_modules(true);
        Process::spawn_config(&config, parent, compiles);
    });
}

pub fn memory_is_limited() {
    let mut config = config();
    config.set_max_memory(3_000_000);
    run(&config, |parent, _| parent.send(format!("{} bytes", std::hint::black_box(vec![1u8; 100_000]).len())));
    run(&config, |parent, _| parent.send(format!("{} bytes", std::hint::black_box(vec![1u8; 3_000_000]).len())));
}

pub fn compute_is_limited() {
    let mut config = config();
    config.set_max_fuel(5);
    run(&config, |parent, _| parent.send("finished quickly".to_owned()));
    run(&config, |parent, _| {
        (0..u64::MAX).for_each(|number| assert_eq!(std::hint::black_box(number), number));
        parent.send("never".to_owned());
    });
}

pub fn arguments_and_variables_are_the_childs_own() {
    let mut config = config();
    config.add_command_line_argument("first");
    config.add_command_line_argument("second");
    config.add_environment_variable("COLOUR", "blue");
    run(&config, |parent, _| {
        let arguments: Vec<String> = std::env::args().collect();
        let variables: Vec<(String, String)> = std::env::vars().collect();
        parent.send(format!("{arguments:?} {variables:?}"));
    });
    println!("{:?}", std::env::var("COLOUR").is_err());
}

fn lists(parent: Process<String>, _: Mailbox<()>) {
    let names = std::fs::read_dir("inner").map(|entries| entries.flatten().map(|entry| entry.file_name()).collect());
    parent.send(names.map_or_else(|_| "no directory".to_owned(), |names: Vec<_>| format!("{names:?}")));
}

pub fn a_directory_is_granted() {
    std::fs::create_dir("inner").expect("the current directory exists");
    std::fs::write("inner/file", "").expect("the limits allow this");
    let config = config();
    // The library has a function for this only with Rust versions before 1.67.
    let directory = "inner";
    unsafe {
        let id = config.id() as u64;
        lunatic::host::api::wasi::config_preopen_dir(id, directory.as_ptr(), directory.len());
    }
    run(&config, lists);
}

pub fn a_config_grants_no_directory_by_itself() {
    std::fs::create_dir("inner").expect("the current directory exists");
    let config = config();
    run(&config, lists);
    // A process that does not have its own configuration has its parent's rights.
    let inherits = spawn_link!(@task || std::fs::read_dir("inner").is_ok());
    println!("{}", inherits.result());
}
