//! The code that a function runs. Its kind is determined from its imports and exports.

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
    /// A program of the machine, which receives connections.
    Program(Module),
}

/// A module that reads and writes bytes.
#[derive(Clone, Debug)]
pub struct Spark {
    module: Module,
    entry_point: EntryPoint,
    /// Whether the module does not use comms and communicates over its standard streams instead.
    is_command: bool,
}

/// The entry point of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryPoint {
    function: &'static str,
    /// The number of parameters. Zero is passed for each of them.
    parameters: usize,
}

/// Why bytes cannot be run as a function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// The bytes are neither a module nor a component that can be run.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The bytes are native code for one processor, which is never run directly.
    #[error(
        "this is compiled code, which is never accepted: use the wasm that it was compiled from"
    )]
    Precompiled,
    /// The module exports nothing to run.
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
    /// A module that imports the comm functions is a spark, regardless of what else it imports: a
    /// spark written in Rust is linked with the entire guest library. Any other module that imports
    /// functions of the machine is a program.
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

    /// Checks and compiles the code of a function that a client provides, as [`Code::new`] does.
    /// The machine's limits on the code of clients apply, and the compiler is stopped after
    /// `within`.
    ///
    /// # Errors
    ///
    /// The same as for [`Code::new`].
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

    /// Removes compiled code from the machine's cache, since the function will not run again.
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

/// Returns whether the text starts like the text of a component.
fn wat_is_component(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    text.trim_start()
        .strip_prefix('(')
        .is_some_and(|text| text.trim_start().starts_with("component"))
}

/// Returns whether a module imports one of the functions with which a spark reads and writes.
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
                // The return value of `main` is the exit status.
                Some(Val::I32(status)) if *status != 0 => Exit::Status(*status),
                _ => Exit::Normal,
            },
            Err(error) => error.into_exit(),
        }
    }
}
