//! Spawns more and more concurrent processes, until the machine refuses to spawn another.

use crate::machine::{Machine, Profile};
use crate::meters;
use lunatic_vm::{Environment, Module};
use std::time::Duration;

/// The number of bytes of heap that each process in a crowd uses to handle its message.
pub const HEAP: &str = "10000";

/// The flag that permits a bench to raise `vm.max_map_count`.
pub const RAISE: &str = "--raise";

/// A machine full of processes, each of which has handled a message and is waiting for the next
/// one.
pub struct Crowd {
    machine: Machine,
    module: Module,
    environments: Vec<Environment>,
    alive: usize,
    before: Usage,
}

/// A crowd's resource use per process.
#[derive(Clone, Debug)]
pub struct Footprint {
    /// The number of live processes.
    pub alive: usize,
    /// The average time per spawn for the most recent spawns, in microseconds.
    pub microseconds: f64,
    /// The number of bytes per process, including page tables.
    pub bytes: f64,
    /// The number of bytes of page tables per process.
    pub table_bytes: f64,
    /// The number of kernel mappings per process.
    pub mappings: f64,
    /// If fewer processes were spawned than requested, the reason.
    pub ceiling: Option<String>,
}

/// The resource use of this operating system process.
#[derive(Clone, Copy)]
struct Usage {
    resident: f64,
    tables: f64,
    mappings: f64,
}

impl Usage {
    fn now() -> Usage {
        let (resident, tables) = meters::memory();
        Usage {
            resident: resident as f64,
            tables: tables as f64,
            mappings: meters::mappings() as f64,
        }
    }
}

impl Crowd {
    /// Creates a machine with the given profile. Resources shared by all of its processes are
    /// created up front and are not counted.
    pub fn new(profile: &Profile, module: &[u8]) -> Crowd {
        let machine = Machine::with_profile(profile);
        let module = machine.module(module);
        let mut crowd = Crowd {
            machine,
            module,
            environments: Vec::new(),
            alive: 0,
            before: Usage::now(),
        };
        crowd.spawn(1);
        crowd.alive = 0;
        crowd.before = Usage::now();
        crowd
    }

    /// Grows to the given number of processes, or to as many as fit. Prints and returns the
    /// resources used per process.
    pub fn grow(&mut self, goal: usize) -> Footprint {
        let wanted = goal.saturating_sub(self.alive);
        let (more, microseconds) = self.spawn(wanted);
        self.alive += more;
        let now = Usage::now();
        let each = |now: f64, before: f64| (now - before) / self.alive.max(1) as f64;
        let footprint = Footprint {
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
        let Footprint {
            alive,
            bytes,
            mappings,
            ..
        } = footprint;
        println!(
            "  {alive} alive: {bytes:.0} bytes and {mappings:.2} mappings each, {microseconds:.1} µs for each new process"
        );
        if let Some(ceiling) = &footprint.ceiling {
            println!("  no more processes: {ceiling}");
        }
        footprint
    }

    /// Returns the reason why the machine cannot spawn another process.
    fn refusal(&self) -> String {
        // The machine has just refused to spawn a process for a program, so it refuses this spawn
        // too.
        match self
            .machine
            .environment(&["1", "0"])
            .spawn(&self.module, "_start", &[])
        {
            Ok(_) => "a program could not spawn a process; the reason is printed above".to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Starts a program that spawns `count` processes. Returns the number spawned and the number of
    /// microseconds per spawn.
    fn spawn(&mut self, count: usize) -> (usize, f64) {
        let environment = self.machine.environment(&[&count.to_string(), HEAP]);
        let Ok(main) = environment.spawn(&self.module, "_start", &[]) else {
            return (0, f64::NAN);
        };
        self.environments.push(environment);
        let (_, alive) = self
            .machine
            .next_report_within(&main, Duration::from_secs(300));
        let (_, each) = self.machine.next_report(&main);
        (alive as usize, each)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.environments.iter().for_each(Environment::end);
    }
}
