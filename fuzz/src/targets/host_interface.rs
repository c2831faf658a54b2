//! Host functions, called in any order with any arguments. A call can end only its own process, and
//! everything that an environment's processes used is released when they have ended.

use super::{VM, assert_no_fault};
use arbitrary::{Arbitrary, Result, Unstructured};
use futures_lite::future::yield_now;
use lunatic_abi::{HOST_FUNCTIONS, HostFunction, Kind, ValueType};
use lunatic_vm::{Environment, Limit};
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, Ieee64, ImportSection, InstructionSink, MemArg, MemorySection, MemoryType,
    Module, TypeSection, ValType,
};

/// The maximum number of calls that a guest makes.
const CALLS: usize = 24;

/// Functions that would look up names or connect to addresses outside this computer.
const LEFT_OUT: [&str; 5] = [
    "resolve",
    "tcp_connect",
    "tls_connect",
    "udp_connect",
    "udp_send_to",
];

/// Every guest's data: function names, a version, a loopback address, a module.
const DATA: &[u8] = b"main other 1.0.0 lunatic::message \x7f\x00\x00\x01\xff\xfe\
    \x00asm\x01\x00\x00\x00 select zeroblob(9) :memory:";

/// Numbers at the limits of types and ranges.
const NUMBERS: [u64; 12] = [
    0,
    1,
    2,
    4,
    5,
    8,
    17,
    34,
    65_528,
    65_536,
    0xffff_ffff,
    u64::MAX,
];

pub(crate) fn run(bytes: &[u8]) {
    // If the input is too short, the guest makes fewer calls, so any input yields a guest.
    let Ok(wasm) = guest(&mut Unstructured::new(bytes)) else {
        return;
    };
    let module = VM
        .module("fuzz", &wasm)
        .unwrap_or_else(|error| panic!("the generated guest is invalid: {error}"));
    let environment = environment();
    let process = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies to the first process");
    assert_no_fault(&VM.block_on(process.exited()));
    environment.end();
    VM.block_on(environment.ended());
    for limit in [
        Limit::Processes,
        Limit::Names,
        Limit::Sockets,
        Limit::Timers,
        Limit::TotalMemory,
    ] {
        // A dead process's resources are released just after its end is reported. A leak would make
        // this loop endless, which libFuzzer reports as a timeout.
        VM.block_on(async {
            while environment.used(limit) > 0 {
                yield_now().await;
            }
        });
    }
}

/// Returns an environment with limits that end any process that would otherwise wait forever.
fn environment() -> Environment {
    let mut config = VM.config();
    config
        .allow("")
        .limit(Limit::Time, 10)
        .limit(Limit::Compute, 10)
        .limit(Limit::Processes, 20)
        .limit(Limit::Handles, 50)
        .limit(Limit::Sockets, 10)
        .limit(Limit::Timers, 10)
        .limit(Limit::Memory, 1 << 20)
        .limit(Limit::MessageBytes, 1 << 16);
    VM.environment(config)
}

/// Returns a guest that makes the calls described by the input.
fn guest(input: &mut Unstructured) -> Result<Vec<u8>> {
    let rows: Vec<&HostFunction> = HOST_FUNCTIONS
        .iter()
        .filter(|row| !LEFT_OUT.contains(&row.name))
        .collect();
    // A guest imports only what it calls, since each import is compiled.
    let mut used: Vec<usize> = Vec::new();
    let mut main = Function::new([]);
    let mut calls = main.instructions();
    for _ in 0..CALLS {
        if input.is_empty() {
            break;
        }
        let index = input.choose_index(rows.len())?;
        for parameter in rows[index].parameters {
            argument(input, rows[index], parameter.kind, &mut calls)?;
        }
        let position = used.iter().position(|&other| other == index);
        let position = position.unwrap_or_else(|| {
            used.push(index);
            used.len() - 1
        });
        calls.call(position as u32);
        if rows[index].result_type().is_some() {
            calls.drop();
        }
    }
    calls.end();
    let used: Vec<&HostFunction> = used.iter().map(|&index| rows[index]).collect();
    Ok(module(&used, &main))
}

/// Returns a module that imports `functions`.
fn module(functions: &[&HostFunction], main: &Function) -> Vec<u8> {
    let mut types = TypeSection::new();
    let mut imports = ImportSection::new();
    for (index, row) in (0..).zip(functions) {
        types.ty().function(
            row.parameter_types().map(value_type).collect::<Vec<_>>(),
            row.result_type().map(value_type),
        );
        imports.import(row.namespace, row.name, EntityType::Function(index));
    }
    let count = functions.len() as u32;
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    functions.function(count);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: Some(3),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut exports = ExportSection::new();
    exports
        .export("main", ExportKind::Func, count)
        .export("other", ExportKind::Func, count)
        .export("memory", ExportKind::Memory, 0);
    let mut code = CodeSection::new();
    code.function(main);
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(0), DATA.iter().copied());
    let mut module = Module::new();
    module
        .section(&types)
        .section(&imports)
        .section(&functions)
        .section(&memories)
        .section(&exports)
        .section(&code)
        .section(&data);
    module.finish()
}

/// Pushes the arguments for one parameter.
fn argument(
    input: &mut Unstructured,
    row: &HostFunction,
    kind: Kind,
    calls: &mut InstructionSink,
) -> Result<()> {
    for (part, ty) in kind.value_types().iter().enumerate() {
        let number = match kind {
            // A timer with a long delay would outlive the run, and a long wait would slow it down.
            Kind::Millis | Kind::ShortMillis if row.namespace == "lunatic::timer" => {
                u64::from(bool::arbitrary(input)?)
            }
            Kind::Millis | Kind::ShortMillis => *input.choose(&[0, 1, 2, u64::MAX])?,
            // Only loopback addresses are used, with ports chosen by the system.
            Kind::SocketAddr => match part {
                0 => *input.choose(&[4, 4, 6, 5])?,
                1 => *input.choose(&[34, 65_535, 0xffff_ffff])?,
                _ => 0,
            },
            Kind::U32 if row.namespace == "lunatic::networking" => 0,
            _ => number(input)?,
        };
        push(calls, *ty, number, input.ratio(1, 3)?);
    }
    Ok(())
}

/// Returns a number at a limit, a small number (which may be an address in the data), or any
/// number.
fn number(input: &mut Unstructured) -> Result<u64> {
    Ok(match u8::arbitrary(input)? {
        0..=127 => *input.choose(&NUMBERS)?,
        128..=239 => u64::from(u8::arbitrary(input)?),
        _ => u64::arbitrary(input)?,
    })
}

/// Pushes a number or, if `is_loaded` is set, the number that an earlier call wrote to that
/// address, which may be an id.
fn push(calls: &mut InstructionSink, ty: ValueType, number: u64, is_loaded: bool) {
    match ty {
        ValueType::I32 => {
            calls.i32_const(number as u32 as i32);
        }
        ValueType::I64 if is_loaded => {
            calls.i32_const((number % 65_528) as i32);
            calls.i64_load(MemArg {
                offset: 0,
                align: 0,
                memory_index: 0,
            });
        }
        ValueType::I64 => {
            calls.i64_const(number as i64);
        }
        ValueType::F64 => {
            calls.f64_const(Ieee64::new(number));
        }
    }
}

fn value_type(ty: ValueType) -> ValType {
    match ty {
        ValueType::I32 => ValType::I32,
        ValueType::I64 => ValType::I64,
        ValueType::F64 => ValType::F64,
    }
}
