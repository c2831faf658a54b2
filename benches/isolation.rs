//! Code that shares nothing and can be interrupted at any time runs almost as fast as ordinary
//! code.

#[path = "guests/kernels.rs"]
#[expect(
    unreachable_pub,
    reason = "only names and sizes are used here; the exports matter in the guest"
)]
mod kernels;

use kernels::KERNELS;
use lunatic_benches::records::{Record, record};
use lunatic_benches::{Bar, Figures, Machine, PROFILES, Peer, Row, guest, promise};
use lunatic_vm::{Exit, Limit, Module, Val};
use std::sync::mpsc;
use std::time::Instant;

/// A compute limit that no kernel reaches.
const UNITS: u64 = 1 << 40;

fn main() {
    let depth =
        promise("kernels in a process vs. plain wasmtime without interruption, best of all rounds");
    let bytes = guest("kernels");
    let native = Peer::native("kernels");
    let plain = Plain::new(&bytes);
    let machines: Vec<_> = PROFILES
        .iter()
        .map(|profile| (profile, Machine::with_profile(profile)))
        .collect();

    // Every way to run a kernel. The first, plain wasmtime, is the baseline.
    type Way<'a> = Box<dyn Fn(&str, u32) -> Run + 'a>;
    let mut ways: Vec<(String, Way)> = vec![(
        "plain wasmtime".to_string(),
        Box::new(|kernel, size| plain.run(kernel, size)),
    )];
    for (profile, machine) in &machines {
        for (what, limit) in [("process", None), ("with a compute limit", Some(UNITS))] {
            let module = machine.module(&bytes);
            let run = move |kernel: &str, size| in_a_process(machine, &module, limit, kernel, size);
            ways.push((profile.of(what), Box::new(run)));
        }
    }
    ways.push((
        "native".to_string(),
        Box::new(|kernel, size| natively(&native, kernel, size)),
    ));

    let mut products = vec![1.0; ways.len()];
    let mut table = vec![
        format!(
            "| kernel | {} |",
            ways.iter()
                .map(|way| &*way.0)
                .collect::<Vec<_>>()
                .join(" | ")
        ),
        format!("|---|{}", "---|".repeat(ways.len())),
    ];
    for (kernel, _, size) in KERNELS {
        let size = depth.choose(size, 10);
        let mut best = vec![f64::INFINITY; ways.len()];
        let mut results = Vec::new();
        for _ in 0..depth.choose(7, 1) {
            for (best, (_, way)) in best.iter_mut().zip(&ways) {
                let run = way(kernel, size);
                *best = best.min(run.milliseconds);
                results.push(run.result);
            }
        }
        assert!(
            results.iter().all(|result| *result == results[0]),
            "{kernel} returned different results"
        );
        let times = best.iter().map(|time| time / best[0]);
        products
            .iter_mut()
            .zip(times.clone())
            .for_each(|(product, times)| *product *= times);
        let cells: Vec<_> = times.skip(1).map(|times| format!("{times:.2}")).collect();
        table.push(format!(
            "| `{kernel}` | {:.1} ms | {} |",
            best[0],
            cells.join(" | ")
        ));
        println!("  {}", table.last().expect("a row was just added"));
    }
    let mean = |product: &f64| product.powf(1.0 / KERNELS.len() as f64);
    let means: Vec<_> = products[1..]
        .iter()
        .map(|product| format!("{:.2}", mean(product)))
        .collect();
    table.push(format!("| geometric mean | 1 | {} |", means.join(" | ")));
    for ((what, _), product) in ways.iter().zip(&products).skip(1) {
        // The promise applies to the first figure. The others are shown for comparison.
        let bar = if what == "process" {
            Bar::AtMost(1.05)
        } else {
            Bar::None
        };
        Row::new(
            &format!("{what}, geometric mean"),
            "×",
            &Figures::from_iter([mean(product)]),
        )
        .print(bar);
    }
    record(&Record::Table(table));
}

/// How long a kernel took, and the low 32 bits of its result.
struct Run {
    milliseconds: f64,
    result: u32,
}

/// Runs a kernel in a process, with or without a compute limit.
fn in_a_process(
    machine: &Machine,
    module: &Module,
    limit: Option<u64>,
    kernel: &str,
    size: u32,
) -> Run {
    let mut config = machine.vm().config();
    config.allow("");
    if let Some(units) = limit {
        config.limit(Limit::Compute, units);
    }
    let (done, run) = mpsc::channel();
    let name = kernel.to_string();
    let driven = machine
        .vm()
        .environment(config)
        .drive(module, kernel, move |live| {
            Box::pin(async move {
                let start = Instant::now();
                let called = live.call(&name, &[Val::I32(size.cast_signed())]).await;
                let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
                match called.as_deref() {
                    Ok([Val::I64(result)]) => {
                        // The bench is waiting for this message.
                        let _ = done.send(Run {
                            milliseconds,
                            result: *result as u32,
                        });
                        Exit::Normal
                    }
                    Ok(_) => unreachable!("a kernel returns one number"),
                    Err(_) => called.map_or_else(|error| error.into_exit(), |_| Exit::Normal),
                }
            })
        });
    let process = driven.expect("there is enough memory for a process");
    let exit = machine.vm().block_on(process.exited());
    assert!(exit.is_normal(), "{kernel} failed: {exit}");
    run.recv()
        .expect("a process that exits normally has sent its result")
}

/// Runs a kernel as a native program.
fn natively(native: &Peer, kernel: &str, size: u32) -> Run {
    let [milliseconds, result] = native.run(&[kernel, &size.to_string()])[..] else {
        panic!("a native kernel prints two numbers");
    };
    Run {
        milliseconds,
        result: result as u32,
    }
}

/// The module of kernels in plain wasmtime with default settings.
struct Plain(wasmtime::InstancePre<()>);

impl Plain {
    fn new(bytes: &[u8]) -> Plain {
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, bytes).expect("the guest compiles");
        let mut linker = wasmtime::Linker::new(&engine);
        // Kernels don't call any host functions.
        linker
            .define_unknown_imports_as_traps(&module)
            .expect("all imports are functions");
        Plain(
            linker
                .instantiate_pre(&module)
                .expect("every import was defined above"),
        )
    }

    #[expect(clippy::disallowed_methods, reason = "embeds wasmtime by hand")]
    fn run(&self, kernel: &str, size: u32) -> Run {
        // Each run has its own store, just like each process.
        let mut store = wasmtime::Store::new(self.0.module().engine(), ());
        let instance = self
            .0
            .instantiate(&mut store)
            .expect("there is enough memory for an instance");
        let function = instance
            .get_typed_func::<u32, u64>(&mut store, kernel)
            .expect("the guest exports its kernels");
        let start = Instant::now();
        let result = function
            .call(&mut store, size)
            .expect("a kernel does not trap");
        Run {
            milliseconds: start.elapsed().as_secs_f64() * 1000.0,
            result: result as u32,
        }
    }
}
