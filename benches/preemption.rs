//! Code that can be interrupted at any time costs little more than code that cannot.

use lunatic_benches::{Bar, Figures, Machine, Row, guest, promise};
use lunatic_vm::{Exit, Val};
use std::sync::mpsc;
use std::time::Instant;

/// The kernels, and how much each has to do to take some hundredths of a second.
const KERNELS: [(&str, i32); 10] = [
    ("fibonacci", 32),
    ("collatz", 200_000),
    ("sort", 400_000),
    ("tree", 100_000),
    ("matrix", 256),
    ("hash", 30_000_000),
    ("sieve", 5_000_000),
    ("mandelbrot", 500),
    ("text", 500_000),
    ("words", 200_000),
];

fn main() {
    let depth =
        promise("ten kernels in a process against plain wasmtime, best of the rounds: ≤ 1.05 × in the geometric mean");
    let bytes = guest("kernels");
    let machine = Machine::new();
    let module = machine.module(&bytes);
    let mut plain = Plain::new(&bytes);

    let mut product = 1.0f64;
    for (kernel, size) in KERNELS {
        let size = depth.choose(size, 10);
        let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..depth.choose(7, 1) {
            ours = ours.min(in_a_process(&machine, &module, kernel, size));
            theirs = theirs.min(plain.run(kernel, size));
        }
        product *= ours / theirs;
        let (ours, theirs) = (Figures::from_iter([ours]), Figures::from_iter([theirs]));
        Row::new(kernel, "ms", &ours).beside("plain", &theirs).print(Bar::None);
    }
    let mean = Figures::from_iter([product.powf(1.0 / KERNELS.len() as f64)]);
    Row::new("geometric mean", "×", &mean).print(Bar::AtMost(1.05));
}

/// Returns how many milliseconds a kernel takes in a process.
fn in_a_process(machine: &Machine, module: &lunatic_vm::Module, kernel: &'static str, size: i32) -> f64 {
    let (done, time) = mpsc::channel();
    let driven = machine.environment(&[]).drive(module, kernel, move |live| {
        Box::pin(async move {
            let start = Instant::now();
            let called = live.call(kernel, &[Val::I32(size)]).await;
            // Who asked is waiting for it.
            let _ = done.send(start.elapsed().as_secs_f64() * 1000.0);
            called.map_or_else(|error| error.into_exit(), |_| Exit::Normal)
        })
    });
    let process = driven.expect("the machine has room");
    let exit = machine.vm().block_on(process.exited());
    assert!(exit.is_normal(), "{kernel} did not end well: {exit}");
    time.recv().expect("it was sent before the end")
}

/// The same module in wasmtime as it comes.
struct Plain {
    store: wasmtime::Store<()>,
    pre: wasmtime::InstancePre<()>,
}

impl Plain {
    fn new(bytes: &[u8]) -> Plain {
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, bytes).expect("it compiles");
        let mut linker = wasmtime::Linker::new(&engine);
        // A kernel calls nothing of the host.
        linker.define_unknown_imports_as_traps(&module).expect("every import is a function");
        let pre = linker.instantiate_pre(&module).expect("everything is defined");
        Plain { store: wasmtime::Store::new(&engine, ()), pre }
    }

    fn run(&mut self, kernel: &str, size: i32) -> f64 {
        // A store of its own, as a process has one.
        self.store = wasmtime::Store::new(self.store.engine(), ());
        let instance = self.pre.instantiate(&mut self.store).expect("there is memory");
        let function = instance.get_typed_func::<i32, i64>(&mut self.store, kernel).expect("the guest exports it");
        let start = Instant::now();
        function.call(&mut self.store, size).expect("a kernel does not trap");
        start.elapsed().as_secs_f64() * 1000.0
    }
}
