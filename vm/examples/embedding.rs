//! What a host program can build on the VM: its own namespace with a value for each process, its
//! own kinds of resources in messages, a thousand calls into a live instance with fresh limits for
//! each call, a component, a pid and a mailbox for the host itself, and a pipe that a program
//! writes to and the host reads.
//!
//! Note how little of the code deals with threads, memory or cleanup. Run this example with `cargo
//! run --release -p lunatic-vm --example embedding`.

use lunatic_vm::{Call, Caller, Exit, Foreign, Guest, Host, Letter, Limit, Pipe, Stdio, Val, Vm};
use std::error::Error;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let vm = Vm::builder().host(counters()).build()?;
    a_thousand_calls(&vm)?;
    a_guest_that_counts(&vm)?;
    a_component(&vm)?;
    a_pipe(&vm)?;
    Ok(())
}

/// What each process has counted so far: a value defined by the embedder, stored with the process
/// and dropped with it.
#[derive(Default)]
struct Counted(Vec<String>);

/// A namespace defined by the embedder.
fn counters() -> Host {
    let mut host = Host::default();
    host.function(
        "counter",
        "count",
        |caller: Caller<'_, Guest>, address: u32, length: u32| {
            let mut call = Call::new(caller);
            let name = call.text(address, length)?;
            let counted = call.guest().extension::<Counted>();
            counted.0.push(name);
            Ok(counted.0.len() as u32)
        },
    );
    // A resource defined by the embedder. The guest can pass it on, but cannot look inside.
    host.function(
        "counter",
        "attach_total",
        |mut caller: Caller<'_, Guest>| {
            let total = caller.data_mut().extension::<Counted>().0.join(" ");
            caller.data_mut().attach(Foreign::new("counter", total))?;
            Ok(())
        },
    );
    host
}

/// The host drives an instance: it writes to the instance's memory, calls it, and reads the answer.
/// Each call may use one unit of compute.
fn a_thousand_calls(vm: &Vm) -> Result<(), Box<dyn Error>> {
    let module = vm.module(
        "sum",
        br#"(module
            (memory (export "memory") 1)
            (func (export "sum") (param $end i32) (result i32) (local $at i32) (local $sum i32)
                (loop $next
                    (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
                    (local.set $at (i32.add (local.get $at) (i32.const 1)))
                    (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
                (local.get $sum))
            (func (export "spin") (loop br 0)))"#,
    )?;
    let mut config = vm.config();
    config.limit(Limit::Compute, 1);
    let environment = vm.environment(config);
    let process = environment.drive(&module, "summing", |live| {
        Box::pin(async move {
            for round in 1..=1000usize {
                live.write(0, &vec![1; round])
                    .expect("a page has room for a thousand bytes");
                match live.call("sum", &[Val::I32(round as i32)]).await {
                    Ok(results) => assert_eq!(results[0].i32(), Some(round as i32)),
                    Err(error) => return error.into_exit(),
                }
            }
            println!("a thousand calls, each with one unit of compute");
            match live.call("spin", &[]).await {
                Ok(_) => unreachable!("`spin` never returns"),
                Err(error) => error.into_exit(),
            }
        })
    })?;
    println!(
        "and one call that needed more: the process {}",
        vm.block_on(process.exited())
    );
    Ok(())
}

/// A guest uses the namespace and sends its counts to the host.
fn a_guest_that_counts(vm: &Vm) -> Result<(), Box<dyn Error>> {
    let module = vm.module(
        "counting",
        br#"(module
            (import "counter" "count" (func $count (param i32 i32) (result i32)))
            (import "counter" "attach_total" (func $attach_total))
            (import "lunatic::message" "create_data" (func $create_data (param i64 i64)))
            (import "lunatic::message" "send" (func $send (param i64) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "onetwothree")
            (func (export "main") (param $to i64)
                (drop (call $count (i32.const 0) (i32.const 3)))
                (drop (call $count (i32.const 3) (i32.const 3)))
                (drop (call $count (i32.const 6) (i32.const 5)))
                (call $create_data (i64.const 7) (i64.const 0))
                (call $attach_total)
                (drop (call $send (local.get $to)))))"#,
    )?;
    let mut config = vm.config();
    config.allow("counter").allow("lunatic::message");
    let environment = vm.environment(config);
    let mut endpoint = environment.endpoint("host")?;
    let process = environment.spawn(
        &module,
        "main",
        &[Val::I64(endpoint.pid().number().cast_signed())],
    )?;
    endpoint.monitor(process.pid());
    loop {
        match vm.block_on(endpoint.receive()) {
            Ok(Letter::Message { tag, resources, .. }) => {
                let total = resources[0]
                    .downcast::<String>()
                    .expect("the guest attached a string");
                println!("message {tag} from the guest carries: {total}");
            }
            Ok(Letter::ProcessDied { exit, .. }) => {
                println!("and then it {exit}");
                return Ok(());
            }
            other => return Err(format!("{other:?}").into()),
        }
    }
}

/// A component also runs as a process.
fn a_component(vm: &Vm) -> Result<(), Box<dyn Error>> {
    let component = vm.component(
        "double",
        br#"(component
            (core module $module (func (export "double") (param i32) (result i32)
                (i32.add (local.get 0) (local.get 0))))
            (core instance $instance (instantiate $module))
            (func (export "double") (param "number" u32) (result u32)
                (canon lift (core func $instance "double"))))"#,
    )?;
    let environment = vm.environment(vm.config());
    let process = environment.drive_component(&component, "doubling", |live| {
        Box::pin(async move {
            let instance = live.instance();
            let double = match instance.get_typed_func::<(u32,), (u32,)>(live.store(), "double") {
                Ok(double) => double,
                Err(error) => return live.exit(&error),
            };
            live.renew_compute();
            match double.call_async(live.store(), (21,)).await {
                Ok((answer,)) => println!("the component says {answer}"),
                Err(error) => return live.exit(&error),
            }
            Exit::Normal
        })
    })?;
    assert!(vm.block_on(process.exited()).is_normal());
    Ok(())
}

/// A program writes its output to a 16-byte pipe. Whenever the pipe is full, the program waits
/// until the host has read from it.
fn a_pipe(vm: &Vm) -> Result<(), Box<dyn Error>> {
    let module = vm.module(
        "writing",
        br#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\08\00\00\00\05\00\00\00line\n")
            (func (export "_start") (local $left i32)
                (local.set $left (i32.const 1000))
                (loop $next
                    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
                    (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#,
    )?;
    let (writer, reader) = Pipe::bounded(16);
    let mut config = vm.config();
    config
        .allow("wasi_snapshot_preview1")
        .stdout(Stdio::Pipe(writer.clone()));
    let process = vm.environment(config).spawn(&module, "_start", &[])?;
    let (mut buffer, mut bytes) = ([0; 16], 0);
    vm.block_on(async {
        while bytes < 5000 {
            bytes += reader.read(&mut buffer).await;
        }
    });
    assert!(vm.block_on(process.exited()).is_normal());
    writer.close();
    println!("{bytes} bytes went through a pipe of 16");
    Ok(())
}
