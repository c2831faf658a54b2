//! Measures function calls from outside, across the bridge, and compares them with a hand-written
//! embedding of plain wasmtime that runs the same guest.
//!
//! The guest does almost nothing, so this bench measures the cost of the call itself. Criterion
//! takes the measurements and writes its reports to `criterion/` in the target directory. There is
//! no promise about these figures.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "embeds wasmtime by hand"
)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use lunatic_benches::{Bar, Figures, Row, promise, target};
use lunatic_bridge::Bridge;
use lunatic_vm::{Exit, Val, Vm};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::num::NonZero;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};
use wasmtime::{Engine, Instance, Memory, Module, Store, TypedFunc};

const GUEST: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "echo") (param $index i32) (param $length i32) (result i32) (local.get $length))
    ;; Answers with 1, as JSON.
    (func (export "look") (param $index i32) (param i32 i32 i32) (result i32)
        (i32.store8 (local.get $index) (i32.const 49)) (i32.const 1)))"#;

/// The number of threads in the concurrent measurements.
const CALLERS: u64 = 16;

/// The element type of the lists passed to `echo`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    number: u32,
    name: String,
    score: f64,
}

fn records(count: u32) -> Vec<Record> {
    let record = |number| Record {
        number,
        name: format!("the record {number}"),
        score: f64::from(number) / 7.0,
    };
    (0..count).map(record).collect()
}

/// What an embedder would write for exactly this purpose. It serves one caller at a time, without
/// limits or timeouts, and a trap makes its store unusable.
struct Embedding {
    store: Store<()>,
    memory: Memory,
    echo: TypedFunc<(u32, u32), u32>,
    look: TypedFunc<(u32, u32, u32, u32), u32>,
}

/// Where the embedding writes arguments: directly after the guest's initial memory.
const INDEX: u32 = 65536;

impl Embedding {
    fn new() -> Embedding {
        let engine = Engine::default();
        let wasm = wat::parse_str(GUEST).expect("the guest is a module");
        let module = Module::new(&engine, wasm).expect("the guest is a module");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("the guest imports nothing");
        let memory = instance
            .get_memory(&mut store, "memory")
            .expect("the guest exports its memory");
        memory
            .grow(&mut store, 256)
            .expect("the memory has no maximum");
        let echo = instance
            .get_typed_func(&mut store, "echo")
            .expect("the guest exports the function");
        let look = instance
            .get_typed_func(&mut store, "look")
            .expect("the guest exports the function");
        Embedding {
            store,
            memory,
            echo,
            look,
        }
    }

    fn echo<T: Serialize + DeserializeOwned>(&mut self, value: &T) -> T {
        let json = serde_json::to_vec(value).expect("the value can be converted to JSON");
        self.memory
            .write(&mut self.store, INDEX as usize, &json)
            .expect("the memory was grown to fit the argument");
        let length = self
            .echo
            .call(&mut self.store, (INDEX, json.len() as u32))
            .expect("the guest does not trap");
        self.answer(length)
    }

    fn look(&mut self, image: &[u8], width: u32, height: u32) -> u32 {
        self.memory
            .write(&mut self.store, INDEX as usize, image)
            .expect("the memory was grown to fit the argument");
        let parameters = (INDEX, image.len() as u32, width, height);
        let length = self
            .look
            .call(&mut self.store, parameters)
            .expect("the guest does not trap");
        self.answer(length)
    }

    fn answer<T: DeserializeOwned>(&self, length: u32) -> T {
        let json = &self.memory.data(&self.store)[INDEX as usize..][..length as usize];
        serde_json::from_slice(json).expect("the guest answers with JSON")
    }
}

/// A pool with one embedding per core, shared by all callers.
struct Embeddings {
    idle: Mutex<Vec<Embedding>>,
    returned: Condvar,
}

impl Embeddings {
    fn with<R>(&self, call: impl FnOnce(&mut Embedding) -> R) -> R {
        let idle = self
            .idle
            .lock()
            .expect("no code panics while it holds this lock");
        let mut idle = self
            .returned
            .wait_while(idle, |idle| idle.is_empty())
            .expect("no code panics while it holds this lock");
        let mut embedding = idle
            .pop()
            .expect("the wait ended because an embedding is idle");
        drop(idle);
        let result = call(&mut embedding);
        self.idle
            .lock()
            .expect("no code panics while it holds this lock")
            .push(embedding);
        self.returned.notify_one();
        result
    }
}

fn main() {
    let depth = promise(
        "calls across the bridge, compared with plain wasmtime embedded by hand; no bar was promised",
    );
    let reports = target().join("criterion");
    let (samples, warm_up, measurement) = depth.choose((100, 3_000, 3_000), (10, 1, 10));
    let mut criterion = Criterion::default()
        .output_directory(&reports)
        .sample_size(samples)
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(measurement));

    let instances = std::thread::available_parallelism().map_or(1, NonZero::get);
    let one = Bridge::from_bytes(GUEST.as_bytes()).expect("the guest is a module");
    let several = Bridge::builder()
        .instances(instances)
        .from_bytes(GUEST.as_bytes())
        .expect("the guest is a module");
    let embeddings = Embeddings {
        idle: Mutex::new((0..instances).map(|_| Embedding::new()).collect()),
        returned: Condvar::new(),
    };

    let (small, large) = (records(1), records(15_000));
    let length = serde_json::to_vec(&large)
        .expect("the value can be converted to JSON")
        .len();
    assert!((950_000..1_050_000).contains(&length), "{length} bytes");
    let image = vec![7; 1024 * 1024 * 3];

    let echo = |bridge: &Bridge, value: &Vec<Record>| {
        let answer: Vec<Record> = bridge.call("echo", value).expect("the guest answers");
        assert_eq!(answer.len(), value.len());
    };
    let look = |bridge: &Bridge| {
        let answer = bridge.call_image::<u32>("look", &image, 1024, 1024);
        assert_eq!(answer.expect("the guest answers"), 1);
    };
    let plain_echo = |embedding: &mut Embedding, value: &Vec<Record>| {
        assert_eq!(embedding.echo(value).len(), value.len());
    };
    let plain_look = |embedding: &mut Embedding| assert_eq!(embedding.look(&image, 1024, 1024), 1);

    type Ours<'a> = &'a (dyn Fn(&Bridge) + Sync);
    type Plain<'a> = &'a (dyn Fn(&mut Embedding) + Sync);
    let kinds: [(&str, u32, Ours, Plain); 3] = [
        (
            "small JSON",
            10_000,
            &|bridge| echo(bridge, &small),
            &|embedding| plain_echo(embedding, &small),
        ),
        (
            "1 MB of JSON",
            100,
            &|bridge| echo(bridge, &large),
            &|embedding| plain_echo(embedding, &large),
        ),
        ("1-megapixel image, RGB", 250, &look, &plain_look),
    ];
    for (what, calls, ours, plain) in kinds {
        let ours = (|| ours(&one), || ours(&several));
        let plain = || embeddings.with(plain);
        let mut group = criterion.benchmark_group(what);
        group.bench_function("bridge", |bencher| bencher.iter(ours.0));
        group.bench_function("wasmtime", |bencher| bencher.iter(plain));
        group.throughput(Throughput::Elements(CALLERS));
        sixteen(&mut group, "bridge, 16 callers", ours.1);
        sixteen(&mut group, "wasmtime, 16 callers", plain);
        group.finish();

        let report = |name: &str, convert: fn(f64) -> f64| {
            let ours = median(&reports.join(what).join(format!("bridge{name}")));
            let plain = median(&reports.join(what).join(format!("wasmtime{name}")));
            (ours.map(convert), plain.map(convert))
        };
        // Criterion times calls in batches, so it cannot see individual slow calls.
        let each = |call: &dyn Fn()| -> Figures {
            let calls = 0..depth.choose(calls, 2);
            calls.map(|_| time(call).as_secs_f64() * 1e6).collect()
        };
        let one = report("", |nanoseconds| nanoseconds / 1e3);
        let many = report(", 16 callers", |nanoseconds| {
            CALLERS as f64 * 1e9 / nanoseconds
        });
        let tail = (each(&ours.0), each(&plain));
        for (part, unit, (ours, plain), is_tail) in [
            ("one caller", "µs", one, false),
            ("16 callers", "calls/s", many, false),
            ("one caller, 99th percentile", "µs", tail, true),
        ] {
            let what = format!("{what}, {part}");
            let row = Row::new(&what, unit, &ours).beside("wasmtime", &plain);
            let row = if is_tail { row.ninety_ninth() } else { row };
            row.print(Bar::None);
        }
    }

    let mut group = criterion.benchmark_group("parts of a small call");
    group.bench_function("handover to another thread and back", |bencher| {
        bencher.iter_custom(hand_over)
    });
    group.bench_function("write, call and read inside the process", |bencher| {
        bencher.iter_custom(inside)
    });
    group.bench_function("JSON, written and read", |bencher| {
        bencher.iter(|| {
            let json = serde_json::to_vec(&small).expect("the value can be converted to JSON");
            serde_json::from_slice::<Vec<Record>>(&json).expect("the text was just written")
        })
    });
    group.finish();
    criterion.bench_function(
        "part of a call with an image: copying the image",
        |bencher| bencher.iter(|| black_box(image.clone())),
    );
}

/// Measures concurrent calls from many threads. An iteration is one call from each thread.
fn sixteen(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, call: impl Fn() + Sync) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            time(|| {
                std::thread::scope(|scope| {
                    for _ in 0..CALLERS {
                        scope.spawn(|| (0..iterations).for_each(|_| call()));
                    }
                });
            })
        })
    });
}

/// Returns the median, in nanoseconds, that Criterion has just written to a directory.
fn median(directory: &Path) -> Figures {
    let path = directory.join("new/estimates.json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let estimates: serde_json::Value =
        serde_json::from_slice(&text).expect("Criterion writes JSON");
    let median = estimates["median"]["point_estimate"].as_f64();
    Figures::from_iter([median.expect("Criterion estimates a median")])
}

/// Returns how long a closure takes to run.
fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Passes a number to another thread and back, `times` times, and returns how long that takes. A
/// call cannot be faster than this if its function runs on another thread.
fn hand_over(times: u64) -> Duration {
    let (ask, asked) = sync_channel::<u64>(1);
    let (answer, answered) = sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in asked {
                answer
                    .send(number)
                    .expect("the caller is waiting for the answer");
            }
        });
        let time = time(|| {
            for number in 0..times {
                ask.send(number).expect("the thread is receiving");
                assert_eq!(answered.recv(), Ok(number));
            }
        });
        drop(ask);
        time
    })
}

/// Makes `times` calls from inside the process, on its worker, and returns how long they take.
fn inside(times: u64) -> Duration {
    let vm = Vm::builder()
        .workers(1)
        .build()
        .expect("the machine can be created");
    let module = vm
        .module("guest", GUEST.as_bytes())
        .expect("the guest is a module");
    let (sender, receiver) = sync_channel(1);
    let process = vm
        .environment(vm.config())
        .drive(&module, "guest", move |live| {
            Box::pin(async move {
                let start = Instant::now();
                for _ in 0..times {
                    live.write(0, &[b' '; 60])
                        .expect("the guest has a page of memory");
                    let results = match live.call("echo", &[Val::I32(0), Val::I32(60)]).await {
                        Ok(results) => results,
                        Err(error) => return error.into_exit(),
                    };
                    let length = results[0].unwrap_i32();
                    let read = live
                        .read(0, length as usize)
                        .expect("the guest has a page of memory");
                    assert_eq!(read.len(), 60);
                }
                sender
                    .send(start.elapsed())
                    .expect("the bench is waiting for the result");
                Exit::Normal
            })
        });
    let exit = vm.block_on(
        process
            .expect("there is enough memory for a process")
            .exited(),
    );
    assert!(exit.is_normal(), "{exit}");
    receiver
        .recv()
        .expect("a process that exits normally has sent its result")
}
