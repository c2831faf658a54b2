//! Code that the tests share: a VM whose guests can report numbers to the test, and functions that
//! write guests as WAT.
//!
//! A guest is written with [`guest`], which imports host functions and takes their types from the
//! host function table. Guests report numbers with `$say`, and the test receives them in order with
//! [`Lab::hear`].

pub(crate) mod actor;
pub(crate) mod allocations;

use async_channel::{Receiver, Sender};
use lunatic_abi::{HOST_FUNCTIONS, HostFunction, ValueType};
use lunatic_vm::{
    Caller, Config, Environment, Exit, Guest, Host, Module, Process, Profile, Vm, VmBuilder,
};
use std::fmt::Write;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A VM under test. All its threads end when it is dropped.
pub(crate) struct Lab {
    pub(crate) vm: Vm,
    said: Receiver<i64>,
    /// Released after the VM is dropped.
    _room: Option<MutexGuard<'static, ()>>,
}

/// Set when the tests run in the `dense` profile; see `profiles.rs`.
pub(crate) const DENSE: &str = "LUNATIC_TEST_DENSE";

/// The maximum number of live processes in a test's VM, unless the test sets a different number.
const SLOTS: u32 = 3_000;

/// How long a test waits for an event. Because of this limit, a VM that hangs fails only one test,
/// not the whole run.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Set when a test runs in a separate operating system process.
const ALONE: &str = "LUNATIC_TEST_ALONE";

/// Returns everything that a process printed: its standard output, then its standard error.
pub(crate) fn printed(output: &Output) -> String {
    let text = String::from_utf8_lossy;
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// Runs a test in a separate operating system process, where nothing else affects what the test
/// measures. Returns true in that process.
pub(crate) fn is_alone(test: &str, through: &[&str]) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let own = std::env::current_exe().expect("the path of the test is known");
    let mut words = through
        .iter()
        .map(|word| word.to_string())
        .collect::<Vec<_>>();
    words.extend([
        own.display().to_string(),
        test.into(),
        "--exact".into(),
        "--nocapture".into(),
    ]);
    let output = Command::new(&words[0])
        .args(&words[1..])
        .env(ALONE, "1")
        .output()
        .expect("the test binary can be started");
    let text = printed(&output);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{test} alone: {}\n{text}",
        output.status
    );
    false
}

/// Returns how many bytes of memory this operating system process occupies.
pub(crate) fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has this file");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(0, |pages: u64| pages * 4096)
}

impl Lab {
    /// Creates a VM with room for as many processes as most tests need. Several tests run at the
    /// same time, and their VMs share one address space.
    pub(crate) fn new() -> Lab {
        Lab::with(Vm::builder())
    }

    /// Creates a VM with the default number of slots. Tests that need such a VM run one after
    /// another.
    pub(crate) fn roomy() -> Lab {
        static ROOM: Mutex<()> = Mutex::new(());
        let room = ROOM.lock().unwrap_or_else(PoisonError::into_inner);
        Lab {
            _room: Some(room),
            ..Lab::build(Vm::builder(), Host::default())
        }
    }

    /// Creates a VM whose slices end only when the test advances the clock.
    pub(crate) fn manual(workers: usize) -> Lab {
        Lab::with(Vm::builder().manual_ticks().workers(workers))
    }

    /// Creates a VM from a builder that the test has configured. Sets the number of slots and adds
    /// the host function `test::say`.
    pub(crate) fn with(builder: VmBuilder) -> Lab {
        Lab::with_host(builder, Host::default())
    }

    /// Like [`Lab::with`], but with additional host functions.
    pub(crate) fn with_host(builder: VmBuilder, host: Host) -> Lab {
        Lab::build(builder.slots(SLOTS), host)
    }

    fn build(mut builder: VmBuilder, mut host: Host) -> Lab {
        if std::env::var_os(DENSE).is_some() {
            builder = builder.profile(Profile::Dense);
        }
        let (say, said): (Sender<i64>, _) = async_channel::unbounded();
        host.function("test", "say", move |_: Caller<'_, Guest>, number: i64| {
            // The test may have finished without receiving all numbers.
            let _ = say.try_send(number);
        });
        Lab {
            vm: builder
                .host(host)
                .build()
                .expect("the configuration is valid"),
            said,
            _room: None,
        }
    }

    /// Compiles a guest.
    pub(crate) fn module(&self, text: &str) -> Module {
        self.vm
            .module("test", text.as_bytes())
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// Creates an environment that grants everything.
    pub(crate) fn environment(&self) -> Environment {
        self.environment_with(|_| {})
    }

    /// Creates an environment that grants everything, with the test's changes.
    pub(crate) fn environment_with(&self, change: impl FnOnce(&mut Config)) -> Environment {
        let mut config = self.vm.config();
        config.allow("");
        change(&mut config);
        self.vm.environment(config)
    }

    /// Runs a guest's `main` in an environment that grants everything, until it ends.
    pub(crate) fn run(&self, text: &str) -> Exit {
        let process = self.spawn(text);
        self.exit(&process)
    }

    /// Runs a module's `main` in an environment, until it ends.
    pub(crate) fn run_in(&self, environment: &Environment, module: &Module) -> Exit {
        self.exit(
            &environment
                .spawn(module, "main", &[])
                .expect("no limit applies"),
        )
    }

    /// Spawns a guest's `main` in an environment that grants everything.
    pub(crate) fn spawn(&self, text: &str) -> Process {
        self.environment()
            .spawn(&self.module(text), "main", &[])
            .expect("no limit applies")
    }

    /// Waits until a process ends.
    pub(crate) fn exit(&self, process: &Process) -> Exit {
        self.wait_for(&format!("{process:?} to end"), process.exited())
    }

    /// Waits for the next number that a guest reports.
    pub(crate) fn hear(&self) -> i64 {
        self.wait_for("a guest to report a number", self.said.recv())
            .expect("the VM holds a sender")
    }

    /// Waits for several numbers.
    pub(crate) fn hear_all<const COUNT: usize>(&self) -> [i64; COUNT] {
        std::array::from_fn(|_| self.hear())
    }

    /// Returns whether the test has received all numbers that were reported so far.
    pub(crate) fn heard_nothing_more(&self) -> bool {
        self.said.is_empty()
    }

    /// Waits until all processes are waiting.
    pub(crate) fn wait_until_idle(&self) {
        self.wait_for("the processes to wait", async {
            while !self.vm.is_idle() {
                futures_lite::future::yield_now().await;
            }
        });
    }

    /// Waits for a future on the test's thread, and fails the test if this takes too long.
    pub(crate) fn wait_for<F: Future>(&self, what: &str, future: F) -> F::Output {
        let limit = async {
            async_io::Timer::after(TIMEOUT).await;
            None
        };
        let done = async { Some(future.await) };
        let result = self.vm.block_on(futures_lite::future::or(done, limit));
        result.unwrap_or_else(|| panic!("waited {TIMEOUT:?} for {what}"))
    }
}

/// Returns the source of a module with the given fields. It imports `$say` and the given host
/// functions, each as `$name`, and exports a memory of one page.
pub(crate) fn guest(imports: &[&str], fields: &str) -> String {
    let mut text = String::from("(module\n");
    for name in imports {
        text.push_str(&import(name));
    }
    let _ = write!(
        text,
        "(import \"test\" \"say\" (func $say (param i64)))\n(memory (export \"memory\") 1)\n{fields})"
    );
    text
}

/// Writes an import for the row with the given full name.
pub(crate) fn import(whole: &str) -> String {
    let row = HOST_FUNCTIONS
        .iter()
        .find(|row| format!("{}::{}", row.namespace, row.name) == *whole);
    let row = row.unwrap_or_else(|| panic!("the table has no row `{whole}`"));
    let mut text = format!(
        "(import \"{}\" \"{}\" (func ${}",
        row.namespace, row.name, row.name
    );
    text.push_str(&signature(row));
    text.push_str("))\n");
    text
}

/// Writes a row's parameters and result.
pub(crate) fn signature(row: &HostFunction) -> String {
    let mut text = String::new();
    for ty in row.parameter_types() {
        let _ = write!(text, " (param {})", wasm(ty));
    }
    if let Some(ty) = row.result_type() {
        let _ = write!(text, " (result {})", wasm(ty));
    }
    text
}

/// Returns the name of a wasm type.
pub(crate) fn wasm(ty: ValueType) -> &'static str {
    match ty {
        ValueType::I32 => "i32",
        ValueType::I64 => "i64",
        ValueType::F64 => "f64",
    }
}

/// Writes a constant of a wasm type. The bits are those of an integer or a float.
pub(crate) fn constant(ty: ValueType, bits: u64) -> String {
    match ty {
        ValueType::F64 => format!("(f64.reinterpret_i64 (i64.const {bits:#x}))"),
        _ => format!("({}.const {bits:#x})", wasm(ty)),
    }
}

/// Encodes a module's binary as the text of a data segment. Returns the text and the number of
/// bytes.
pub(crate) fn binary(module: &str) -> (String, usize) {
    let bytes = wat::parse_str(module).expect("the module is well-formed");
    let mut text = String::new();
    for byte in &bytes {
        let _ = write!(text, "\\{byte:02x}");
    }
    (text, bytes.len())
}
