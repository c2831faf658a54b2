//! Loads another module at run time, and calls its functions in separate processes.
//!
//! ```text
//! lunatic module_loading.wasm
//! lunatic module_loading.wasm plugin.wasm FUNCTION [NUMBERS…]
//! ```
//!
//! Note the environment: the module is not trusted, so it gets little memory, little compute, and
//! only one host function, `proc_exit`. If it misbehaves, its process dies, and the reason is
//! reported. The bytes could come from a file, a socket or a message; here, they are a constant, so
//! that the example doesn't need a second compiler.

use lunatic::{
    Config, Environment, ExitReason, LunaticError, Mailbox, Module, Param, Process, ReceiveError,
};

/// ```wat
/// (module
///   (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
///   (memory (export "memory") 0)
///   (func (export "add") (param i32 i32)
///     (call $exit (i32.add (local.get 0) (local.get 1))))
///   (func (export "spin") (loop br 0)))
/// ```
const PLUGIN: &[u8] = &[
    0x00, b'a', b's', b'm', 1, 0, 0, 0, // the magic number, version 1
    1, 13, 3, 0x60, 1, 0x7f, 0, 0x60, 2, 0x7f, 0x7f, 0, 0x60, 0,
    0, // types: (i32), (i32 i32), ()
    2, 36, 1, 22, // one import, from a module whose name is 22 bytes long
    b'w', b'a', b's', b'i', b'_', b's', b'n', b'a', b'p', b's', b'h', b'o', b't', b'_', //
    b'p', b'r', b'e', b'v', b'i', b'e', b'w', b'1', //
    9, b'p', b'r', b'o', b'c', b'_', b'e', b'x', b'i', b't', 0,
    0, // a function of the first type
    3, 3, 2, 1, 2, // two functions, of the second and the third type
    5, 3, 1, 0, 0, // a memory of 0 pages, which WASI requires
    7, 23, 3, 6, b'm', b'e', b'm', b'o', b'r', b'y', 2, 0, // exports
    3, b'a', b'd', b'd', 0, 1, 4, b's', b'p', b'i', b'n', 0, 2, //
    10, 19, 2, // two bodies
    9, 0, 0x20, 0, 0x20, 1, 0x6a, 0x10, 0, 0x0b, // local.get 0, local.get 1, i32.add, call 0
    7, 0, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b, // loop, br 0, end
];

#[lunatic::main]
fn main(mailbox: Mailbox<()>) -> Result<(), LunaticError> {
    let mut config = Config::new(1_000_000, Some(100));
    config.allow_namespace("wasi_snapshot_preview1::proc_exit");
    let mut environment = Environment::new(config)?;

    let mut arguments = std::env::args().skip(1);
    if let Some(path) = arguments.next() {
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let plugin = environment.add_module(&bytes)?;
        let function = arguments
            .next()
            .expect("the function's name is the second argument");
        let numbers =
            arguments.map(|text| Param::I32(text.parse().expect("the parameters are numbers")));
        let ended = call(&mailbox, &plugin, &function, &numbers.collect::<Vec<_>>())?;
        println!("{function}: {ended}");
        return Ok(());
    }

    let plugin = environment.add_module(PLUGIN)?;
    println!(
        "add(40, 2): {}",
        call(&mailbox, &plugin, "add", &[Param::I32(40), Param::I32(2)])?
    );
    println!("spin(): {}", call(&mailbox, &plugin, "spin", &[])?);
    // Invalid parameters and names are detected before a process is spawned.
    for (function, params) in [("add", &[Param::F64(0.5)][..]), ("divide", &[])] {
        let Err(error) = call(&mailbox, &plugin, function, params) else {
            panic!("the call must fail")
        };
        println!("{function}: {:?}", error.kind());
    }
    let Err(error) = environment.add_module(&PLUGIN[..20]) else {
        panic!("half a module is not a module")
    };
    println!("half of the module: {:?}", error.kind());
    Ok(())
}

/// Calls an exported function in its own process, and returns the exit reason.
fn call(
    mailbox: &Mailbox<()>,
    module: &Module,
    function: &str,
    params: &[Param],
) -> Result<ExitReason, LunaticError> {
    let process: Process<()> = module.spawn(function, params)?;
    process.monitor();
    match mailbox.receive() {
        Err(ReceiveError::Signal(signal)) => Ok(signal.reason),
        other => panic!("no process sends to this process, but it received {other:?}"),
    }
}
