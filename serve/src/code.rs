//! The code that a function runs. Its imports and exports determine what kind of code it is.

use crate::SettingsError;
use lunatic_vm::{Component, Exit, Live, Module, ModuleError, Val, ValType, Vm};
use std::time::Duration;

/// The code that a function runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Code {
    /// A module that reads and writes bytes.
    Spark(Spark),
    /// A component that handles HTTP requests.
    Component(Component),
    /// A program that uses the machine's functions and receives connections.
    Program(Module),
}

/// A module that reads and writes bytes.
#[derive(Clone, Debug)]
pub struct Spark {
    module: Module,
    entry_point: EntryPoint,
    /// Whether the module does not use comms but communicates over its standard streams.
    is_command: bool,
}

/// A module's entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryPoint {
    function: &'static str,
    /// The number of parameters. Each is passed as zero.
    parameters: usize,
}

/// The reason why bytes cannot be run as a function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// The bytes are not a module or component that can be run.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The bytes are native code for one processor, which is never run directly.
    #[error("this is compiled code, which is never accepted: use the wasm it was compiled from")]
    Precompiled,
    /// The module does not export anything to run.
    #[error("the module exports neither `_start` nor `main`: a function needs one of them")]
    NoEntry,
    /// The component does not handle requests.
    #[error(
        "the component does not export `wasi:http/incoming-handler@0.2`, which it needs to receive requests"
    )]
    NoHandler,
    /// The function's settings cannot be granted.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl Code {
    /// Checks and compiles a function's code from wasm or wat. Blocks until compilation is
    /// complete.
    ///
    /// A module that imports the comm functions is a spark, no matter what else it imports: sparks
    /// written in Rust are linked to the entire guest library. Any other module that imports the
    /// machine's functions is a program.
    ///
    /// # Errors
    ///
    /// [`CodeError`] if the bytes cannot be run as a function.
    pub fn new(vm: &Vm, name: &str, bytes: &[u8]) -> Result<Code, CodeError> {
        Code::load(
            bytes,
            || vm.module(name, bytes),
            || vm.component(name, bytes),
        )
    }

    /// Like [`Code::new`], but for a function provided by a client: the machine's limits on code
    /// from clients apply, and compilation is aborted after `within`.
    ///
    /// # Errors
    ///
    /// The same as [`Code::new`].
    pub fn of_client(
        vm: &Vm,
        name: &str,
        bytes: &[u8],
        within: Duration,
    ) -> Result<Code, CodeError> {
        Code::load(
            bytes,
            || vm.client_module(name, bytes, within),
            || vm.client_component(name, bytes, within),
        )
    }

    /// Removes compiled code from the machine's cache because the function will not run again.
    pub fn forget(&self) {
        match self {
            Code::Spark(spark) => spark.module.forget(),
            Code::Component(component) => component.forget(),
            Code::Program(module) => module.forget(),
        }
    }

    fn load(
        bytes: &[u8],
        module: impl FnOnce() -> Result<Module, ModuleError>,
        component: impl FnOnce() -> Result<Component, ModuleError>,
    ) -> Result<Code, CodeError> {
        if bytes.starts_with(b"\x7fELF") {
            return Err(CodeError::Precompiled);
        }
        if wasmparser::Parser::is_component(bytes) || wat_is_component(bytes) {
            let component = component()?;
            let handles_requests =
                |export: &str| export.starts_with("wasi:http/incoming-handler@0.2.");
            if !component.exports().any(handles_requests) {
                component.forget();
                return Err(CodeError::NoHandler);
            }
            return Ok(Code::Component(component));
        }
        let module = module()?;
        let Some(entry_point) = EntryPoint::of(&module) else {
            module.forget();
            return Err(CodeError::NoEntry);
        };
        let is_command = !has_comms(&module);
        let is_program = is_command
            && module
                .imports()
                .any(|(namespace, _)| namespace.starts_with("lunatic::"));
        Ok(if is_program {
            Code::Program(module)
        } else {
            Code::Spark(Spark {
                module,
                entry_point,
                is_command,
            })
        })
    }
}

/// Returns whether text begins like a component's.
fn wat_is_component(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    text.trim_start()
        .strip_prefix('(')
        .is_some_and(|text| text.trim_start().starts_with("component"))
}

/// Returns whether a module imports one of the functions that sparks read and write with.
fn has_comms(module: &Module) -> bool {
    module.imports().any(|(namespace, name)| match namespace {
        "lunatic::spark" | "embly" => true,
        "env" => ["_read", "_write", "_spawn"].contains(&name),
        _ => false,
    })
}

impl Spark {
    /// Returns the module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    pub(crate) fn entry_point(&self) -> EntryPoint {
        self.entry_point
    }

    pub(crate) fn is_command(&self) -> bool {
        self.is_command
    }
}

impl EntryPoint {
    /// Finds `_start`, or a `main` that takes either no parameters or a count and a pointer, as in
    /// C.
    fn of(module: &Module) -> Option<EntryPoint> {
        ["_start", "main"].into_iter().find_map(|function| {
            let ty = module.function(function)?;
            let parameters = ty.params().len();
            let fits =
                [0, 2].contains(&parameters) && ty.params().all(|ty| matches!(ty, ValType::I32));
            fits.then_some(EntryPoint {
                function,
                parameters,
            })
        })
    }

    /// Runs a process to completion.
    pub(crate) async fn run(self, live: &mut Live) -> Exit {
        let parameters = vec![Val::I32(0); self.parameters];
        match live.call(self.function, &parameters).await {
            Ok(results) => match results.first() {
                // The value returned by `main` is the exit status.
                Some(Val::I32(status)) if *status != 0 => Exit::Status(*status),
                _ => Exit::Normal,
            },
            Err(error) => error.into_exit(),
        }
    }
}
