//! What the tests share: a machine whose guests can tell the test something, and guests written as text.
//!
//! A guest imports what it needs with [`guest`], which takes the types from the table of host functions. Guests say numbers
//! with `$say`; the test hears them in order with [`Lab::hear`].

pub(crate) mod actor;

use async_channel::{Receiver, Sender};
use lunatic_abi::{HOST_FUNCTIONS, Kind, ValueType};
use lunatic_vm::{Caller, Config, Environment, Exit, Guest, Host, Module, Process, Vm, VmBuilder};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A machine under test. All its threads end when it is dropped.
pub struct Lab {
    pub vm: Vm,
    said: Receiver<i64>,
    _turn: MutexGuard<'static, ()>,
}

/// A machine reserves up to half of the address space, so that tests in one program take turns. A test that made a second
/// lab beside its first would wait for itself.
static TURN: Mutex<()> = Mutex::new(());

/// No test waits longer for anything: a machine that hangs fails the test instead of the whole run.
const PATIENCE: Duration = Duration::from_secs(60);

impl Lab {
    /// A machine as it is by default.
    pub fn new() -> Lab {
        Lab::with(Vm::builder())
    }

    /// A machine whose slices end only when the test says so, with so many workers.
    pub fn manual(workers: usize) -> Lab {
        Lab::with(Vm::builder().manual_ticks().workers(workers))
    }

    /// A machine set up by the test; what it adds to the host functions is `test::say`.
    pub fn with(builder: VmBuilder) -> Lab {
        Lab::with_host(builder, Host::default())
    }

    /// The same with further host functions.
    pub fn with_host(builder: VmBuilder, mut host: Host) -> Lab {
        // A test that failed leaves nothing behind that the next would mind.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (say, said): (Sender<i64>, _) = async_channel::unbounded();
        host.function("test", "say", move |_: Caller<'_, Guest>, number: i64| {
            // A test that has heard enough may be gone already.
            let _ = say.try_send(number);
        });
        Lab { vm: builder.host(host).build().expect("the machine can be set up"), said, _turn: turn }
    }

    /// Compiles a guest.
    pub fn module(&self, text: &str) -> Module {
        self.vm.module("test", text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// An environment that grants everything.
    pub fn environment(&self) -> Environment {
        self.environment_with(|_| {})
    }

    /// An environment that grants everything but what the test changes.
    pub fn environment_with(&self, change: impl FnOnce(&mut Config)) -> Environment {
        let mut config = self.vm.config();
        config.allow("");
        change(&mut config);
        self.vm.environment(config)
    }

    /// Runs a guest's `main` in an environment that grants everything, to its end.
    pub fn run(&self, text: &str) -> Exit {
        let process = self.spawn(text);
        self.exit(&process)
    }

    /// Spawns a guest's `main` in an environment that grants everything.
    pub fn spawn(&self, text: &str) -> Process {
        self.environment().spawn(&self.module(text), "main", &[]).expect("nothing limits it")
    }

    /// Waits for a process's end.
    pub fn exit(&self, process: &Process) -> Exit {
        self.wait_for(&format!("the end of {process:?}"), process.exited())
    }

    /// Waits for the next number that a guest says.
    pub fn hear(&self) -> i64 {
        self.wait_for("a guest to say something", self.said.recv()).expect("the machine keeps the other end")
    }

    /// Hears several numbers.
    pub fn hear_all<const COUNT: usize>(&self) -> [i64; COUNT] {
        std::array::from_fn(|_| self.hear())
    }

    /// Returns what was said and not heard yet.
    pub fn heard_nothing_more(&self) -> bool {
        self.said.is_empty()
    }

    /// Waits for something outside the machine's threads; fails the test where it takes too long.
    pub fn wait_for<F: Future>(&self, what: &str, future: F) -> F::Output {
        let limit = async {
            async_io::Timer::after(PATIENCE).await;
            None
        };
        let done = async { Some(future.await) };
        let result = self.vm.block_on(futures_lite::future::or(done, limit));
        result.unwrap_or_else(|| panic!("waited {PATIENCE:?} for {what}"))
    }
}

/// Writes a module that imports host functions, each as `$name`, and `$say`; has a memory of one page, exported; and holds
/// the given fields.
pub fn guest(imports: &[&str], fields: &str) -> String {
    let mut text = String::from("(module\n");
    for name in imports {
        text.push_str(&import(name));
    }
    let _ =
        write!(text, "(import \"test\" \"say\" (func $say (param i64)))\n(memory (export \"memory\") 1)\n{fields})");
    text
}

/// Writes the import of a row of the table, by its whole name.
pub fn import(whole: &str) -> String {
    let row = HOST_FUNCTIONS.iter().find(|row| format!("{}::{}", row.namespace, row.name) == *whole);
    let row = row.unwrap_or_else(|| panic!("the table has no row `{whole}`"));
    let mut text = format!("(import \"{}\" \"{}\" (func ${}", row.namespace, row.name, row.name);
    for parameter in row.parameters {
        let _ = write!(text, " (param {})", wasm(parameter.kind));
    }
    if let Some(result) = row.result {
        let _ = write!(text, " (result {})", wasm(result));
    }
    text.push_str("))\n");
    text
}

/// The name of a kind's wasm type.
pub fn wasm(kind: Kind) -> &'static str {
    match kind.value_type() {
        ValueType::I32 => "i32",
        ValueType::I64 => "i64",
        ValueType::F64 => "f64",
    }
}

/// Writes a module's binary as the text of a data segment; returns that and how many bytes they are.
pub fn binary(module: &str) -> (String, usize) {
    let bytes = wat::parse_str(module).expect("the tests write good modules");
    let mut text = String::new();
    for byte in &bytes {
        let _ = write!(text, "\\{byte:02x}");
    }
    (text, bytes.len())
}
