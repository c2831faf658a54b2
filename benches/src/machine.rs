//! A machine whose guests report numbers to the bench.

use crate::rows::Bar;
use lunatic_vm::{Caller, Environment, Guest, Host, Module, Process, Vm, VmBuilder};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// A machine and the numbers [reported](crate::report) by its guests.
pub struct Machine {
    vm: Vm,
    reports: Receiver<(Instant, f64)>,
}

/// A machine configuration.
pub struct Profile {
    /// The configuration's name.
    pub name: &'static str,
    set_up: fn(VmBuilder) -> VmBuilder,
}

/// All machine configurations. The first is the default. Bars apply only to the default; figures
/// for the other configurations are shown alongside for comparison.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "default",
        set_up: |builder| builder,
    },
    Profile {
        name: "dense",
        set_up: |builder| builder.profile(lunatic_vm::Profile::Dense),
    },
];

impl Profile {
    /// Labels a measurement with the profile's name, except for the default profile.
    pub fn of(&self, what: &str) -> String {
        if self.is_first() {
            what.to_string()
        } else {
            format!("{what}, {} profile", self.name)
        }
    }

    /// Returns the bar for the default profile and no bar for other profiles.
    pub fn bar(&self, bar: Bar) -> Bar {
        if self.is_first() { bar } else { Bar::None }
    }

    fn is_first(&self) -> bool {
        self.name == PROFILES[0].name
    }
}

/// How long to wait for a guest's report before considering the guest to have failed.
const REPORT_TIMEOUT: Duration = Duration::from_secs(120);

impl Machine {
    /// Creates a machine with the default settings.
    pub fn new() -> Machine {
        Machine::with(Vm::builder())
    }

    /// Creates a machine with the given profile.
    pub fn with_profile(profile: &Profile) -> Machine {
        Machine::with((profile.set_up)(Vm::builder()))
    }

    /// Creates a machine with the given number of workers.
    pub fn with_workers(workers: usize) -> Machine {
        Machine::with(Vm::builder().workers(workers))
    }

    fn with(builder: VmBuilder) -> Machine {
        let (sender, reports) = mpsc::channel();
        let mut host = Host::default();
        host.function(
            "bench",
            "report",
            move |_: Caller<'_, Guest>, number: f64| {
                // The bench may already have finished.
                let _ = sender.send((Instant::now(), number));
            },
        );
        Machine {
            vm: builder
                .host(host)
                .build()
                .expect("the machine can be created"),
            reports,
        }
    }

    /// Returns the underlying VM.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Compiles a guest.
    pub fn module(&self, bytes: &[u8]) -> Module {
        self.vm
            .module("bench", bytes)
            .unwrap_or_else(|error| panic!("the guest does not compile: {error}"))
    }

    /// Creates an environment that grants everything and has the given arguments.
    pub fn environment(&self, arguments: &[&str]) -> Environment {
        let mut config = self.vm.config();
        config.allow("").argument("bench");
        for argument in arguments {
            config.argument(argument);
        }
        self.vm.environment(config)
    }

    /// Runs a program to completion and returns the numbers it reported.
    pub fn run(&self, module: &Module, arguments: &[&str]) -> Vec<f64> {
        let environment = self.environment(arguments);
        let main = environment
            .spawn(module, "_start", &[])
            .expect("there is enough memory for a process");
        let exit = self.vm.block_on(main.exited());
        environment.end();
        assert!(exit.is_normal(), "the guest failed: {exit}");
        self.reports.try_iter().map(|(_, number)| number).collect()
    }

    /// Waits for the next report from a program and returns its time and value.
    pub fn next_report(&self, main: &Process) -> (Instant, f64) {
        self.next_report_within(main, REPORT_TIMEOUT)
    }

    /// Like [`Machine::next_report`], but with the given timeout.
    pub fn next_report_within(&self, main: &Process, timeout: Duration) -> (Instant, f64) {
        let start = Instant::now();
        while start.elapsed() < timeout {
            match self.reports.recv_timeout(Duration::from_millis(100)) {
                Ok(report) => return report,
                Err(RecvTimeoutError::Timeout) => {
                    assert!(
                        main.is_alive(),
                        "the guest ended without a report: {:?}",
                        main.exit()
                    );
                }
                Err(RecvTimeoutError::Disconnected) => {
                    unreachable!("the machine holds the sender")
                }
            }
        }
        panic!("the guest reported nothing for {timeout:?}")
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new()
    }
}
