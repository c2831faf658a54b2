//! Many processes at the same time, more and more of them until the machine refuses.

use crate::machine::{Machine, Profile};
use crate::meters;
use lunatic_vm::{Environment, Module};
use std::time::Duration;

/// How many bytes of its heap each process of a crowd uses for the message that it handles.
pub const HEAP: &str = "10000";

/// The flag that lets a bench raise `vm.max_map_count`.
pub const RAISE: &str = "--raise";

/// A machine full of processes that each have handled a message, and wait for the next.
pub struct Crowd {
    machine: Machine,
    module: Module,
    environments: Vec<Environment>,
    alive: usize,
    before: Taken,
}

/// What a crowd took, for each of its processes.
#[derive(Clone, Debug)]
pub struct Each {
    /// How many are alive.
    pub alive: usize,
    /// How long it took to spawn one of those that came last, in microseconds.
    pub microseconds: f64,
    /// Bytes, page tables too.
    pub bytes: f64,
    /// Of these, bytes of page tables.
    pub table_bytes: f64,
    /// Mappings of the kernel's.
    pub mappings: f64,
    /// Why no more are alive, where more were wanted.
    pub ceiling: Option<String>,
}

/// What this process takes.
#[derive(Clone, Copy)]
struct Taken {
    resident: f64,
    tables: f64,
    mappings: f64,
}

impl Taken {
    fn now() -> Taken {
        let (resident, tables) = meters::memory();
        Taken {
            resident: resident as f64,
            tables: tables as f64,
            mappings: meters::mappings() as f64,
        }
    }
}

impl Crowd {
    /// Makes a machine of a profile. What its processes share is there from the beginning and does not count.
    pub fn new(profile: &Profile, module: &[u8]) -> Crowd {
        let machine = Machine::with_profile(profile);
        let module = machine.module(module);
        let mut crowd = Crowd {
            machine,
            module,
            environments: Vec::new(),
            alive: 0,
            before: Taken::now(),
        };
        crowd.spawn(1);
        crowd.alive = 0;
        crowd.before = Taken::now();
        crowd
    }

    /// Has so many processes be alive, or as many as fit, and prints and returns what each takes.
    pub fn grow(&mut self, goal: usize) -> Each {
        let wanted = goal.saturating_sub(self.alive);
        let (more, microseconds) = self.spawn(wanted);
        self.alive += more;
        let now = Taken::now();
        let each = |now: f64, before: f64| (now - before) / self.alive.max(1) as f64;
        let each = Each {
            alive: self.alive,
            microseconds,
            bytes: each(
                now.resident + now.tables,
                self.before.resident + self.before.tables,
            ),
            table_bytes: each(now.tables, self.before.tables),
            mappings: each(now.mappings, self.before.mappings),
            ceiling: (more < wanted).then(|| self.refusal()),
        };
        let Each {
            alive,
            bytes,
            mappings,
            ..
        } = each;
        println!(
            "  {alive} alive: {bytes:.0} bytes and {mappings:.2} mappings each, {microseconds:.1} µs for each new one"
        );
        each.ceiling
            .iter()
            .for_each(|ceiling| println!("  no more: {ceiling}"));
        each
    }

    /// Returns what a crowd says that the machine has no room for one more.
    fn refusal(&self) -> String {
        // What the last program could not do, this cannot do either.
        match self
            .machine
            .environment(&["1", "0"])
            .spawn(&self.module, "_start", &[])
        {
            Ok(_) => "a program was refused a process, and has said why above".to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Starts a program that spawns so many; returns how many it did, and how long each took in microseconds.
    fn spawn(&mut self, count: usize) -> (usize, f64) {
        let environment = self.machine.environment(&[&count.to_string(), HEAP]);
        let Ok(main) = environment.spawn(&self.module, "_start", &[]) else {
            return (0, f64::NAN);
        };
        self.environments.push(environment);
        let (_, alive) = self.machine.hear_within(&main, Duration::from_secs(300));
        let (_, each) = self.machine.hear(&main);
        (alive as usize, each)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.environments.iter().for_each(Environment::end);
    }
}
