//! Makes random calls with random arguments until the time is up.

use super::{call_of, imports_of};
use crate::support::{Lab, constant};
use lunatic_abi::{Generation, HostFunction, Kind, ValueType};
use lunatic_vm::{Exit, Limit};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). The
/// whole state is a single number, so one number is enough to identify and reproduce a failure.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// The number of functions per guest, and the number of calls that each function makes.
const FUNCTIONS: usize = 8;
const CALLS: usize = 24;

#[test]
fn t088_random_calls_end_only_their_own_process() {
    let seconds = std::env::var("LUNATIC_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2);
    let first = std::env::var("LUNATIC_FUZZ_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds);
    let lab = Lab::new();
    let mut seeds = Random(RandomState::new().hash_one(0));
    let mut seed = first.unwrap_or_else(|| seeds.next());
    let mut rounds = 0;
    loop {
        // This line is shown if the test fails in any way.
        println!("seed {seed}: repeat with LUNATIC_FUZZ_SEED={seed}");
        round(&lab, seed);
        rounds += 1;
        if first.is_some() || Instant::now() >= end {
            break;
        }
        seed = seeds.next();
    }
    println!("{rounds} rounds");
}

/// Runs one random guest until all processes that it starts have ended.
fn round(lab: &Lab, seed: u64) {
    let mut random = Random(seed);
    let module = lab.module(&random_guest(&mut random));
    let environment = lab.environment_with(|config| {
        // The limits end processes that wait forever, and keep the number of processes low.
        config
            .limit(Limit::Time, 20)
            .limit(Limit::Processes, 40)
            .limit(Limit::Handles, 100);
        config
            .limit(Limit::MessageBytes, 1 << 16)
            .limit(Limit::Sockets, 30)
            .limit(Limit::Timers, 30);
        if random.below(2) == 0 {
            config.limit(Limit::Compute, 10);
        }
    });
    let spawn = |number: usize| environment.spawn(&module, &format!("f{number}"), &[]);
    let processes: Vec<_> = (0..FUNCTIONS)
        .map(|number| spawn(number).expect("the limits allow these processes"))
        .collect();
    for process in &processes {
        let exit = lab.exit(process);
        assert!(!has_fault(&exit), "seed {seed}: {exit}");
    }
    environment.end();
    lab.wait_for(
        "all processes that a guest spawned to end",
        environment.ended(),
    );
    lab.wait_for(
        "the guest's timers to end, and its databases to be closed",
        async {
            while environment.used(Limit::Timers) > 0 || environment.used(Limit::TotalMemory) > 0 {
                futures_lite::future::yield_now().await;
            }
        },
    );
    for limit in [
        Limit::Processes,
        Limit::Names,
        Limit::Sockets,
        Limit::TotalMemory,
    ] {
        assert_eq!(
            environment.used(limit),
            0,
            "seed {seed}: {limit:?} is in use even though no process is left"
        );
    }
}

fn has_fault(exit: &Exit) -> bool {
    match exit {
        Exit::Fault(_) => true,
        Exit::LinkDied { exit, .. } => has_fault(exit),
        _ => false,
    }
}

fn random_guest(random: &mut Random) -> String {
    // Most guests use the newest generation, which has the most rows.
    let generation = random.of(&[
        Generation::V0_13,
        Generation::V0_13,
        Generation::V0_13,
        Generation::V0_12,
        Generation::V0_10,
        Generation::V0_7,
        Generation::V0_6,
    ]);
    let rows: Vec<&HostFunction> = generation.host_functions().collect();
    // The data consists of a string, a network address, bytes that are not valid text, and a
    // module.
    let mut text = format!(
        "(module {}
            (memory (export \"memory\") 1 3)
            (data (i32.const 0) \"f0f1f2f3 1.0.0 lunatic::message \\7f\\00\\00\\01\\ff\\fe\")
            (data (i32.const 64) \"\\00asm\\01\\00\\00\\00\")\n",
        imports_of(generation)
    );
    for number in 0..FUNCTIONS {
        let _ = writeln!(text, "(func (export \"f{number}\")");
        for _ in 0..CALLS {
            let row = rows[random.below(rows.len())];
            // These functions would look up random names on the network.
            if matches!(row.name, "resolve" | "tls_connect") {
                continue;
            }
            let mut arguments = String::new();
            for parameter in row.parameters {
                let values = argument(random, row, parameter.kind);
                for (ty, value) in parameter.kind.value_types().iter().zip(values) {
                    let _ = write!(arguments, "{} ", constant(*ty, value));
                }
            }
            text.push_str(&call_of(
                generation,
                &format!("{}::{}", row.namespace, row.name),
                &arguments,
            ));
            text.push('\n');
        }
        text.push_str(")\n");
    }
    text.push(')');
    text
}

/// Returns the numbers to pass for a parameter of this kind.
fn argument(random: &mut Random, row: &HostFunction, kind: Kind) -> Vec<u64> {
    match kind {
        Kind::Bytes | Kind::Text | Kind::Buffer | Kind::Words | Kind::OutWords | Kind::Vectors => {
            let address = address(random);
            let length = match random.below(12) {
                0 => random.next() & 0xffff_ffff,
                _ => random.of(&[0, 1, 2, 2, 2, 5, 8, 17, 34, 65_536]),
            };
            vec![address, length]
        }
        // The guest connects only to this computer, and it does not choose a port to listen on.
        Kind::SocketAddr => {
            let family = random.of(&[4, 4, 4, 6, 5]);
            let ip = random.of(&[33, 65_535, 0xffff_ffff]);
            let mut number = || random.of(&[0, 0, 65_536, 0xffff_ffff]);
            vec![family, ip, number(), number(), number()]
        }
        Kind::U32 if row.namespace == "lunatic::networking" => {
            vec![random.of(&[0, 0, 65_536, 0xffff_ffff])]
        }
        // Timers that never fire would outlive the test.
        Kind::Millis if row.namespace == "lunatic::timer" => vec![random.of(&[0, 1])],
        Kind::Millis => vec![random.of(&[0, 1, 2, u64::MAX, u64::MAX - 1])],
        Kind::ShortMillis => vec![random.of(&[0, 1, 2, 0xffff_ffff])],
        kind if kind.value_types() == [ValueType::I32] => vec![address(random)],
        _ if random.below(12) == 0 => vec![random.next()],
        _ => vec![random.of(&[0, 0, 0, 1, 1, 2, 3, 5, u64::MAX])],
    }
}

/// Returns an address or another 32-bit number.
fn address(random: &mut Random) -> u64 {
    match random.below(12) {
        0 => random.next() & 0xffff_ffff,
        _ => random.of(&[
            0, 0, 2, 4, 9, 15, 33, 37, 64, 128, 1_024, 65_528, 65_535, 65_536,
        ]),
    }
}
