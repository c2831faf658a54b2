//! Puts a bounded load on all parts of the machine for a long time, and checks that the machine
//! holds no more resources at the end than after the first few minutes.
//!
//! `lunatic-soak [--for DURATION]`; `./x soak` builds and runs it. Each round runs programs that
//! spawn, communicate, trap, reach limits and get killed. It also compiles modules; deploys,
//! replaces, invokes and deletes functions over HTTP; and makes calls across the bridge, some of
//! which trap or take too long. Measurements are taken between rounds, when nothing is running. The
//! soak fails if any measured quantity has grown by more than 5%.

use lunatic_benches::meters::{self, descriptors, disk, mappings, threads};
use lunatic_benches::{Machine, guest, target};
use lunatic_bridge::{Argument, Bridge, CallError};
use lunatic_serve::quantity::duration;
use lunatic_serve::{Functions, Server, Service, ServiceConfig, StorageSettings, add_to_host};
use lunatic_vm::{Cache, Host, Limit, Module, Vm};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the soak takes without `--for`.
const TIME: Duration = Duration::from_secs(30 * 60);

/// The fraction of the run that is ignored at the start, while caches, pools and allocators fill
/// up.
const WARM_UP: f64 = 0.25;

/// The fraction of the run that each of the two compared measurements covers.
const WINDOW: f64 = 0.15;

/// The maximum growth allowed between the two measurements.
const GROWTH: f64 = 0.05;

/// The time limit for bridge calls that never return. Other calls have no limit, because the
/// computer may be busy.
const SHORT: Duration = Duration::from_millis(20);

/// The number of different modules. With an unlimited number, the cache of compiled code would keep
/// growing.
const VARIANTS: u64 = 16;

/// A function that writes a response. `NUMBER` makes its code unique.
const FUNCTION: &str = r#"
    (module
        (import "lunatic::spark" "write" (func $write (param i64 i32 i32) (result i64)))
        (memory (export "memory") 1)
        (data (i32.const 0) "HTTP/1.1 200 OK\0d\0aContent-Type: text/plain\0d\0aContent-Length: 13\0d\0a\0d\0aHello, world!")
        (func (export "unique") (result i64) (i64.const NUMBER))
        (func (export "_start") (drop (call $write (i64.const 0) (i32.const 0) (i32.const 78)))))"#;
const FAILING: &str =
    r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;

/// Functions that trap, exceed limits or never return.
const PROGRAMS: &str = r#"
    (module
        (import "lunatic::process" "spawn"
            (func $spawn (param i64 i64 i64 i32 i32 i32 i32 i32) (result i32)))
        (import "lunatic::message" "receive" (func $receive (param i32 i32 i64) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "waittrap")
        (func (export "trap") unreachable)
        (func (export "spin") (loop br 0))
        (func $overflow (export "overflow") (call $overflow))
        (func (export "grow") (loop (drop (memory.grow (i32.const 1))) (br 0)))
        (func (export "wait") (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))
        (func (export "linked")
            (call $linked (i32.const 0)) (call $linked (i32.const 0)) (call $linked (i32.const 4))
            (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))
        (func $linked (param $function i32)
            (drop (call $spawn (i64.const 1) (i64.const -1) (i64.const -1)
                (local.get $function) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 64)))))"#;

/// The module whose functions are called across the bridge.
const CALLED: &str = r#"
    (module
        (memory (export "memory") 1)
        (func (export "echo") (param i32) (param $length i32) (result i32) (local.get $length))
        (func (export "trap") (param i32 i32) (result i32) unreachable)
        (func (export "spin") (param i32 i32) (result i32) (loop br 0) unreachable))"#;

fn main() -> ExitCode {
    let time = match &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        [] => Ok(TIME),
        [flag, time] if flag == "--for" => duration(time),
        _ => Err("usage: lunatic-soak [--for DURATION]".to_string()),
    };
    match time {
        Ok(time) if soak(time) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::from(2)
        }
    }
}

/// Puts the machine under load for `time`, and returns whether all measured quantities stayed
/// within the allowed growth.
fn soak(time: Duration) -> bool {
    let directory = target().join("soak");
    // An earlier run may have left files behind.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("the target directory can be written to");
    let load = Load::new(&directory);
    let start = Instant::now();
    let mut samples: Vec<(f64, Sample)> = Vec::new();
    let mut printed = 0.0;
    for round in 0.. {
        load.round(round);
        let passed = start.elapsed().as_secs_f64() / time.as_secs_f64();
        let sample = Sample::take(&directory);
        if round == 0 || passed >= printed + 0.05 {
            println!("{:>4.0}%, round {round}: {sample}", passed * 100.0);
            printed = passed;
        }
        samples.push((passed, sample));
        if passed >= 1.0 {
            break;
        }
    }
    drop(load);
    let is_flat = judge(&samples);
    // The directory is not needed after the soak.
    let _ = fs::remove_dir_all(&directory);
    is_flat
}

/// Compares the measurement after the warm-up with the last one, prints the result, and returns
/// true if nothing has grown too much.
fn judge(samples: &[(f64, Sample)]) -> bool {
    let window = |from: f64, to: f64| {
        let within = samples
            .iter()
            .filter(move |(passed, _)| (from..to).contains(passed));
        Sample::median(&within.map(|(_, sample)| *sample).collect::<Vec<_>>())
    };
    let (Some(first), Some(last)) = (
        window(WARM_UP, WARM_UP + WINDOW),
        window(1.0 - WINDOW, f64::INFINITY),
    ) else {
        println!("too few rounds to compare; run longer with `--for`");
        return false;
    };
    let mut is_flat = true;
    for (index, what) in Sample::WHAT.iter().enumerate() {
        let (first, last) = (first.0[index], last.0[index]);
        let growth = last as f64 / first.max(1) as f64 - 1.0;
        // One more thread does not count as growth, although it may be more than 5%.
        let has_grown = growth > GROWTH && last > first + 1;
        let verdict = if has_grown { "grew" } else { "flat" };
        is_flat &= !has_grown;
        println!(
            "{what}: {first}, then {last} ({:+.1}%): {verdict}",
            growth * 100.0
        );
    }
    is_flat
}

/// The resources that this process holds.
#[derive(Clone, Copy)]
struct Sample([u64; 5]);

impl Sample {
    const WHAT: [&str; 5] = [
        "descriptors",
        "mappings",
        "threads",
        "KiB of memory",
        "KiB on disk",
    ];

    fn take(directory: &Path) -> Sample {
        let (resident, tables) = meters::memory();
        Sample([
            descriptors(),
            mappings(),
            threads(),
            (resident + tables) >> 10,
            disk(directory) >> 10,
        ])
    }

    fn median(samples: &[Sample]) -> Option<Sample> {
        let middle = |index: usize| {
            let mut values: Vec<u64> = samples.iter().map(|sample| sample.0[index]).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied()
        };
        let mut median = Sample([0; 5]);
        for (index, value) in median.0.iter_mut().enumerate() {
            *value = middle(index)?;
        }
        Some(median)
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = Sample::WHAT.iter().zip(self.0);
        let parts: Vec<String> = parts
            .map(|(what, value)| format!("{value} {what}"))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

/// The parts of the machine that are put under load.
struct Load {
    machine: Machine,
    work: Module,
    programs: Module,
    vm: Vm,
    /// The server, which runs until it is dropped.
    _server: Server,
    invoke: SocketAddr,
    deploy: SocketAddr,
    file: PathBuf,
}

impl Load {
    fn new(directory: &Path) -> Load {
        let machine = Machine::new();
        let work = machine.module(&guest("load"));
        let programs = machine.module(PROGRAMS.as_bytes());
        let mut host = Host::default();
        add_to_host(&mut host);
        let cache = Cache::at(&directory.join("cache")).expect("the directory can be used");
        let vm = Vm::builder()
            .host(host)
            .cache(cache)
            .build()
            .expect("the machine can be set up");
        let functions = Functions::new(&vm);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = ServiceConfig {
            invoke: any,
            deploy: any,
            storage: StorageSettings::Directory(directory.join("store")),
            ..ServiceConfig::default()
        };
        let service = Service::open(&functions, config).expect("the directory can be used");
        let server = service.add_to(Server::builder(&functions));
        let server = server.start().expect("the server can listen on free ports");
        let address = |name: &str| {
            let listening = server.listening();
            let found = listening.iter().find(|listening| listening.name == name);
            found.expect("a service listens on two addresses").address
        };
        Load {
            invoke: address("invoke"),
            deploy: address("deploy"),
            machine,
            work,
            programs,
            vm,
            _server: server,
            file: directory.join("called.wat"),
        }
    }

    fn round(&self, round: u64) {
        self.programs();
        self.modules(round);
        self.functions(round);
        self.bridge();
    }

    fn programs(&self) {
        for what in ["spawn", "ping"] {
            self.machine.run(&self.work, &[what, "4", "1000"]);
        }
        let vm = self.machine.vm();
        for function in ["trap", "spin", "overflow", "grow", "wait", "linked"] {
            for _ in 0..10 {
                let mut config = vm.config();
                config.allow("").limit(Limit::Memory, 1 << 20);
                let environment = vm.environment(config);
                let main = environment
                    .spawn_main(&self.programs, function, &[])
                    .expect("there is enough memory for a process");
                if matches!(function, "spin" | "grow" | "wait") {
                    main.kill();
                }
                vm.block_on(main.exited());
                vm.block_on(environment.ended());
            }
        }
    }

    /// Compiles modules, which reads and writes the cache of compiled code.
    fn modules(&self, round: u64) {
        for number in 0..4 {
            let text = FUNCTION.replace("NUMBER", &((round * 4 + number) % VARIANTS).to_string());
            self.vm
                .module("unique", text.as_bytes())
                .expect("the module is valid");
        }
    }

    fn functions(&self, round: u64) {
        let text = FUNCTION.replace("NUMBER", &(round % VARIANTS).to_string());
        for (name, text) in [("hello", &*text), ("failing", FAILING)] {
            let wasm = wat::parse_str(text).expect("the module is valid");
            let answer = http(self.deploy, "POST", &format!("/deploy/{name}"), &wasm);
            assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        }
        let invoke = self.invoke;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..25 {
                        let answer = http(invoke, "GET", "/hello/", b"");
                        assert!(answer.ends_with("Hello, world!"), "{answer}");
                        let answer = http(invoke, "GET", "/failing/", b"");
                        assert!(answer.starts_with("HTTP/1.1 5"), "{answer}");
                    }
                });
            }
        });
        if round % 8 == 7 {
            let answer = http(self.deploy, "DELETE", "/functions/failing", b"");
            assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        }
    }

    fn bridge(&self) {
        fs::write(&self.file, CALLED).expect("the directory can be used");
        let bridge = Bridge::builder()
            .instances(2)
            .from_file(&self.file)
            .expect("the module is valid");
        for number in 0..100 {
            let answer: u32 = bridge
                .call("echo", &number)
                .expect("the function returns its argument");
            assert_eq!(answer, number);
        }
        for _ in 0..5 {
            let failed: Result<u32, CallError> = bridge.call("trap", &1);
            failed.expect_err("the function never returns a result");
            let spin = bridge.invoke_within(SHORT, "spin", Argument::Bytes(Vec::new()));
            let failed = self.vm.block_on(spin);
            failed.expect_err("the function never returns a result");
        }
    }
}

/// Sends a request over a new connection and returns the response.
fn http(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("the server accepts connections");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut answer = String::new();
    stream
        .write_all(&[head.as_bytes(), body].concat())
        .and_then(|()| stream.read_to_string(&mut answer))
        .expect("the server answers");
    answer
}
