//! What the tests share: a machine whose guests can talk to the test, and guests written as text.
//!
//! A guest imports what it needs with [`guest`], which takes the types from the table of host
//! functions. Guests say numbers with `$say`; the test hears them in order with [`Lab::hear`].

pub(crate) mod actor;

use async_channel::{Receiver, Sender};
use lunatic_abi::{HOST_FUNCTIONS, HostFunction, ValueType};
use lunatic_vm::{
    Caller, Config, Environment, Exit, Guest, Host, Module, Process, Profile, Vm, VmBuilder,
};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A machine under test. All its threads end when it is dropped.
pub(crate) struct Lab {
    pub(crate) vm: Vm,
    said: Receiver<i64>,
    /// Released after the machine is dropped.
    _room: Option<MutexGuard<'static, ()>>,
}

/// Set when the tests run in the profile `dense`; see `profiles.rs`.
pub(crate) const DENSE: &str = "LUNATIC_TEST_DENSE";

/// The maximum number of live processes in a test's machine, unless the test configures it.
const SLOTS: u32 = 3_000;

/// How long a test waits for anything, so that a machine that hangs fails one test rather than the
/// whole run.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Lab {
    /// A machine for as many processes as most tests need. Several tests run concurrently, and
    /// their machines share one address space.
    pub(crate) fn new() -> Lab {
        Lab::with(Vm::builder())
    }

    /// A machine with the default number of slots. Tests that need one run one after the other.
    pub(crate) fn roomy() -> Lab {
        static ROOM: Mutex<()> = Mutex::new(());
        let room = ROOM.lock().unwrap_or_else(PoisonError::into_inner);
        Lab {
            _room: Some(room),
            ..Lab::build(Vm::builder(), Host::default())
        }
    }

    /// A machine whose slices end only when the test says so.
    pub(crate) fn manual(workers: usize) -> Lab {
        Lab::with(Vm::builder().manual_ticks().workers(workers))
    }

    /// A machine configured by the test, except for its slots, with the additional host function
    /// `test::say`.
    pub(crate) fn with(builder: VmBuilder) -> Lab {
        Lab::with_host(builder, Host::default())
    }

    /// The same, with additional host functions.
    pub(crate) fn with_host(builder: VmBuilder, host: Host) -> Lab {
        Lab::build(builder.slots(SLOTS), host)
    }

    fn build(mut builder: VmBuilder, mut host: Host) -> Lab {
        if std::env::var_os(DENSE).is_some() {
            builder = builder.profile(Profile::Dense);
        }
        let (say, said): (Sender<i64>, _) = async_channel::unbounded();
        host.function("test", "say", move |_: Caller<'_, Guest>, number: i64| {
            // The test may have heard enough and finished.
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

    /// An environment that grants everything.
    pub(crate) fn environment(&self) -> Environment {
        self.environment_with(|_| {})
    }

    /// An environment that grants everything, apart from what the test changes.
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
        self.wait_for(&format!("the end of {process:?}"), process.exited())
    }

    /// Waits for the next number that a guest says.
    pub(crate) fn hear(&self) -> i64 {
        self.wait_for("a guest to say something", self.said.recv())
            .expect("the machine holds a sender")
    }

    /// Hears several numbers.
    pub(crate) fn hear_all<const COUNT: usize>(&self) -> [i64; COUNT] {
        std::array::from_fn(|_| self.hear())
    }

    /// Returns whether everything said has been heard.
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

    /// Waits for something on the test's thread, and fails the test if it takes too long.
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

/// Writes a module that imports host functions, each as `$name`, and `$say`, exports a memory of
/// one page, and has the given fields.
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

/// Writes the import of a row of the table, given by its full name.
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

/// Writes the parameters and the result of a row.
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

/// The name of a wasm type.
pub(crate) fn wasm(ty: ValueType) -> &'static str {
    match ty {
        ValueType::I32 => "i32",
        ValueType::I64 => "i64",
        ValueType::F64 => "f64",
    }
}

/// Writes a constant of a wasm type: a number, or the bits of a float.
pub(crate) fn constant(ty: ValueType, bits: u64) -> String {
    match ty {
        ValueType::F64 => format!("(f64.reinterpret_i64 (i64.const {bits:#x}))"),
        _ => format!("({}.const {bits:#x})", wasm(ty)),
    }
}

/// Writes a module's binary as the text of a data segment; returns the text and the number of
/// bytes.
pub(crate) fn binary(module: &str) -> (String, usize) {
    let bytes = wat::parse_str(module).expect("the module is well-formed");
    let mut text = String::new();
    for byte in &bytes {
        let _ = write!(text, "\\{byte:02x}");
    }
    (text, bytes.len())
}
