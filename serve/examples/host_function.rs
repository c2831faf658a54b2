//! A host function for components: an interface in `clock.wit`, and an implementation of the trait
//! generated from it.
//!
//! Functions can call it if their settings list its namespace: `my:app/clock`, or `my:app` for the
//! whole package.

use lunatic_vm::{Exit, Guest, Host, Vm};
use std::time::{SystemTime, UNIX_EPOCH};
use wasmtime::component::HasData;

mod bindings {
    wasmtime::component::bindgen!({ path: "examples/clock.wit", world: "guest", exports: { default: async } });
}

use bindings::my::app::clock;

/// The interface's state for each process.
#[derive(Default)]
struct Clock {
    asked: u32,
}

impl clock::Host for Clock {
    fn now(&mut self) -> u64 {
        self.asked += 1;
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }
}

impl HasData for Clock {
    type Data<'a> = &'a mut Clock;
}

/// A component that asks for the time. Tools for any language can generate such a component from
/// `clock.wit`.
const GUEST: &str = r#"(component
    (import "my:app/clock@1.0.0" (instance $clock (export "now" (func (result u64)))))
    (core func $now (canon lower (func $clock "now")))
    (core module $program
        (import "clock" "now" (func $now (result i64)))
        (func (export "ask") (result i64) call $now))
    (core instance $instance (instantiate $program (with "clock" (instance (export "now" (func $now))))))
    (func (export "ask") (result u64) (canon lift (core func $instance "ask"))))"#;

/// Runs a component that asks for the time.
pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut host = Host::default();
    lunatic_serve::add_to_host(&mut host);
    host.component("my:app/clock", |linker| {
        clock::add_to_linker::<Guest, Clock>(linker, |guest| guest.extension::<Clock>())
    });
    let vm = Vm::builder().host(host).build()?;
    let component = vm.component("guest", GUEST.as_bytes())?;
    let mut config = vm.config();
    config.allow("my:app");
    let process = vm
        .environment(config)
        .drive_component(&component, "guest", |live| {
            Box::pin(async move {
                let instance = live.instance();
                let asked = async {
                    let guest = bindings::Guest::new(live.store(), &instance)?;
                    guest.call_ask(live.store()).await
                };
                match asked.await {
                    Ok(now) => println!("{now} seconds have passed since 1970"),
                    Err(error) => return live.exit(&error),
                }
                assert_eq!(live.store().data_mut().extension::<Clock>().asked, 1);
                Exit::Normal
            })
        })?;
    let exit = vm.block_on(process.exited());
    if exit.is_normal() {
        Ok(())
    } else {
        Err(exit.to_string().into())
    }
}
