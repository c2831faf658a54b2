//! Functions called from outside, across the bridge, beside a hand-written embedding of plain wasmtime with the same guest.
//!
//! The guest does next to nothing, so what is measured is what a call costs by itself. No bar was promised for it.

use lunatic_benches::{Bar, Figures, Row, promise};
use lunatic_bridge::Bridge;
use lunatic_vm::{Exit, Val, Vm};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::num::NonZero;
use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex};
use std::time::Instant;
use wasmtime::{Engine, Instance, Memory, Module, Store, TypedFunc};

const GUEST: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "echo") (param $index i32) (param $length i32) (result i32) (local.get $length))
    ;; Answers with 1.
    (func (export "look") (param $index i32) (param i32 i32 i32) (result i32)
        (i32.store8 (local.get $index) (i32.const 49)) (i32.const 1)))"#;

/// How many threads call where many do.
const CALLERS: usize = 16;

/// What a value of some size is made of.
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

/// What somebody would write who needs just this and has one caller at a time: no limits, no time, traps end the store.
struct Embedding {
    store: Store<()>,
    memory: Memory,
    echo: TypedFunc<(u32, u32), u32>,
    look: TypedFunc<(u32, u32, u32, u32), u32>,
}

/// Where the embedding writes arguments: behind what the guest has.
const INDEX: u32 = 65536;

impl Embedding {
    fn new() -> Embedding {
        let engine = Engine::default();
        let wasm = wat::parse_str(GUEST).expect("the guest is a module");
        let module = Module::new(&engine, wasm).expect("the guest is a module");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("it imports nothing");
        let memory = instance
            .get_memory(&mut store, "memory")
            .expect("it has one");
        memory.grow(&mut store, 256).expect("it may grow");
        let echo = instance
            .get_typed_func(&mut store, "echo")
            .expect("it has the function");
        let look = instance
            .get_typed_func(&mut store, "look")
            .expect("it has the function");
        Embedding {
            store,
            memory,
            echo,
            look,
        }
    }

    fn echo<T: Serialize + DeserializeOwned>(&mut self, value: &T) -> T {
        let json = serde_json::to_vec(value).expect("it can be JSON");
        self.memory
            .write(&mut self.store, INDEX as usize, &json)
            .expect("it fits");
        let length = self
            .echo
            .call(&mut self.store, (INDEX, json.len() as u32))
            .expect("it answers");
        self.answer(length)
    }

    fn look(&mut self, image: &[u8], width: u32, height: u32) -> u32 {
        self.memory
            .write(&mut self.store, INDEX as usize, image)
            .expect("it fits");
        let parameters = (INDEX, image.len() as u32, width, height);
        let length = self
            .look
            .call(&mut self.store, parameters)
            .expect("it answers");
        self.answer(length)
    }

    fn answer<T: DeserializeOwned>(&self, length: u32) -> T {
        let json = &self.memory.data(&self.store)[INDEX as usize..][..length as usize];
        serde_json::from_slice(json).expect("it is JSON")
    }
}

/// As many embeddings as there are cores, for callers who wait for one.
struct Embeddings {
    idle: Mutex<Vec<Embedding>>,
    returned: Condvar,
}

impl Embeddings {
    fn with<R>(&self, call: impl FnOnce(&mut Embedding) -> R) -> R {
        let idle = self.idle.lock().expect("nothing panics");
        let mut idle = self
            .returned
            .wait_while(idle, |idle| idle.is_empty())
            .expect("nothing panics");
        let mut embedding = idle.pop().expect("there is one");
        drop(idle);
        let result = call(&mut embedding);
        self.idle.lock().expect("nothing panics").push(embedding);
        self.returned.notify_one();
        result
    }
}

fn main() {
    let depth = promise(
        "calls across the bridge, beside plain wasmtime embedded by hand; no bar was promised",
    );
    let instances = std::thread::available_parallelism().map_or(1, NonZero::get);
    let one = Bridge::from_bytes(GUEST.as_bytes()).expect("the guest is a module");
    let several = Bridge::builder()
        .instances(instances)
        .from_bytes(GUEST.as_bytes())
        .expect("the guest is a module");
    let embeddings = (0..instances).map(|_| Embedding::new()).collect();
    let embeddings = Embeddings {
        idle: Mutex::new(embeddings),
        returned: Condvar::new(),
    };

    let (small, large) = (records(1), records(15_000));
    let length = serde_json::to_vec(&large).expect("it can be JSON").len();
    assert!((950_000..1_050_000).contains(&length), "{length} bytes");
    let image = vec![7; 1024 * 1024 * 3];

    let echo = |bridge: &Bridge, value: &Vec<Record>| {
        let answer: Vec<Record> = bridge.call("echo", value).expect("it answers");
        assert_eq!(answer.len(), value.len());
    };
    let look = |bridge: &Bridge| {
        assert_eq!(
            bridge
                .call_image::<u32>("look", &image, 1024, 1024)
                .expect("it answers"),
            1
        );
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
            2_000,
            &|bridge| echo(bridge, &small),
            &|embedding| plain_echo(embedding, &small),
        ),
        (
            "1 MB of JSON",
            20,
            &|bridge| echo(bridge, &large),
            &|embedding| plain_echo(embedding, &large),
        ),
        ("1-megapixel image, RGB", 50, &look, &plain_look),
    ];
    for (what, calls, ours, plain) in kinds {
        let calls = depth.choose(calls, 2);
        let (mut across, mut by_hand) = (Figures::default(), Figures::default());
        let (mut many_across, mut many_by_hand) = (Figures::default(), Figures::default());
        for _ in 0..depth.choose(5, 1) {
            across.extend((0..calls).map(|_| microseconds(|| ours(&one))));
            by_hand.extend((0..calls).map(|_| microseconds(|| embeddings.with(plain))));
            many_across.push(many(calls, || ours(&several)));
            many_by_hand.push(many(calls, || embeddings.with(plain)));
        }
        for (part, ours, plain, unit) in [
            ("one caller", &across, &by_hand, "µs"),
            ("16 callers", &many_across, &many_by_hand, "calls/s"),
        ] {
            Row::new(&format!("{what}, {part}"), unit, ours)
                .beside("wasmtime", plain)
                .print(Bar::None);
        }
        let what = format!("{what}, one caller, 99 of 100 within");
        Row::new(&what, "µs", &across)
            .beside("wasmtime", &by_hand)
            .ninety_ninth()
            .print(Bar::None);
    }

    // Where the time of a small call goes.
    let rounds = depth.choose(20, 1);
    let handed: Figures = (0..rounds)
        .map(|_| handed_over(depth.choose(1_000, 2)))
        .collect();
    Row::new(
        "of a small call: to another thread and back, with nothing to do there",
        "µs",
        &handed,
    )
    .print(Bar::None);
    let inside: Figures = (0..rounds)
        .map(|_| inside(depth.choose(1_000, 2)))
        .collect();
    Row::new(
        "of a small call: write, call and read, inside the process",
        "µs",
        &inside,
    )
    .print(Bar::None);
    let json: Figures = (0..rounds)
        .map(|_| as_json(depth.choose(1_000, 2), &small))
        .collect();
    Row::new("of a small call: its JSON, written and read", "µs", &json).print(Bar::None);
    let copied: Figures = (0..depth.choose(100, 1))
        .map(|_| microseconds(|| drop(black_box(image.clone()))))
        .collect();
    Row::new(
        "of an image: a copy, so that another thread can have it",
        "µs",
        &copied,
    )
    .print(Bar::None);
}

/// Returns how many microseconds something takes.
fn microseconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e6
}

/// Has many threads call, each so often, and returns how many calls a second were answered.
fn many(calls: u32, call: impl Fn() + Sync) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| (0..calls).for_each(|_| call()));
        }
    });
    f64::from(calls) * CALLERS as f64 / start.elapsed().as_secs_f64()
}

/// Returns how many microseconds it takes to have another thread answer: what any call costs that runs on one.
fn handed_over(times: u32) -> f64 {
    let (ask, asked) = sync_channel::<u32>(1);
    let (answer, answered) = sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            asked
                .iter()
                .for_each(|number| answer.send(number).expect("it is waited for"))
        });
        let time = microseconds(|| {
            for number in 0..times {
                ask.send(number).expect("it listens");
                assert_eq!(answered.recv(), Ok(number));
            }
        });
        drop(ask);
        time / f64::from(times)
    })
}

/// Returns how many microseconds a call takes where it is on its worker already.
fn inside(times: u32) -> f64 {
    let vm = Vm::builder()
        .workers(1)
        .build()
        .expect("the machine can be set up");
    let module = vm
        .module("guest", GUEST.as_bytes())
        .expect("the guest is a module");
    let (tell, told) = sync_channel(1);
    let process = vm
        .environment(vm.config())
        .drive(&module, "guest", move |live| {
            Box::pin(async move {
                let start = Instant::now();
                for _ in 0..times {
                    live.write(0, &[b' '; 60]).expect("it is inside");
                    let results = match live.call("echo", &[Val::I32(0), Val::I32(60)]).await {
                        Ok(results) => results,
                        Err(error) => return error.into_exit(),
                    };
                    let length = results[0].unwrap_i32();
                    assert_eq!(
                        live.read(0, length as usize).expect("it is inside").len(),
                        60
                    );
                }
                let time = start.elapsed().as_secs_f64() * 1e6 / f64::from(times);
                tell.send(time).expect("it is waited for");
                Exit::Normal
            })
        });
    assert!(
        vm.block_on(process.expect("there is room").exited())
            .is_normal()
    );
    told.recv().expect("the guest was called")
}

/// Returns how many microseconds it takes to write a value as JSON and to read it.
fn as_json(times: u32, value: &Vec<Record>) -> f64 {
    let time = microseconds(|| {
        for _ in 0..times {
            let json = serde_json::to_vec(value).expect("it can be JSON");
            let read: Vec<Record> = serde_json::from_slice(&json).expect("it is JSON");
            assert_eq!(read.len(), value.len());
        }
    });
    time / f64::from(times)
}
