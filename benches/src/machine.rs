//! A machine whose guests tell the bench numbers.

use crate::rows::Bar;
use lunatic_vm::{Caller, Environment, Guest, Host, Module, Process, Vm, VmBuilder};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// A machine, and what its guests say with [`say`](crate::say).
pub struct Machine {
    vm: Vm,
    said: Receiver<(Instant, f64)>,
}

/// A way of setting up a machine.
pub struct Profile {
    /// What it is called.
    pub name: &'static str,
    set_up: fn(VmBuilder) -> VmBuilder,
}

/// All ways of setting up a machine. The first is what one gets without asking: bars are about that one, and the figures
/// of the others are told beside it.
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
    /// Names what was measured with this profile; with the first there is nothing to add.
    pub fn of(&self, what: &str) -> String {
        if self.is_first() {
            what.to_string()
        } else {
            format!("{what}, profile {}", self.name)
        }
    }

    /// Returns the bar for this profile: the bar for the first, none for the others.
    pub fn bar(&self, bar: Bar) -> Bar {
        if self.is_first() { bar } else { Bar::None }
    }

    fn is_first(&self) -> bool {
        self.name == PROFILES[0].name
    }
}

/// A guest that is silent for so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

impl Machine {
    /// Makes a machine as it is by default.
    pub fn new() -> Machine {
        Machine::with(Vm::builder())
    }

    /// Makes a machine of a profile.
    pub fn with_profile(profile: &Profile) -> Machine {
        Machine::with((profile.set_up)(Vm::builder()))
    }

    /// Makes a machine that runs so many processes at the same time.
    pub fn with_workers(workers: usize) -> Machine {
        Machine::with(Vm::builder().workers(workers))
    }

    fn with(builder: VmBuilder) -> Machine {
        let (say, said) = mpsc::channel();
        let mut host = Host::default();
        host.function("bench", "say", move |_: Caller<'_, Guest>, number: f64| {
            // A bench that has heard enough is gone.
            let _ = say.send((Instant::now(), number));
        });
        Machine {
            vm: builder
                .host(host)
                .build()
                .expect("the machine can be set up"),
            said,
        }
    }

    /// Returns the machine.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Compiles a guest.
    pub fn module(&self, bytes: &[u8]) -> Module {
        self.vm
            .module("bench", bytes)
            .unwrap_or_else(|error| panic!("the guest is refused: {error}"))
    }

    /// Returns an environment that grants everything and has these arguments.
    pub fn environment(&self, arguments: &[&str]) -> Environment {
        let mut config = self.vm.config();
        config.allow("").argument("bench");
        for argument in arguments {
            config.argument(argument);
        }
        self.vm.environment(config)
    }

    /// Runs a program to its end and returns what it said.
    pub fn run(&self, module: &Module, arguments: &[&str]) -> Vec<f64> {
        let environment = self.environment(arguments);
        let main = environment
            .spawn(module, "_start", &[])
            .expect("the machine has room");
        let exit = self.vm.block_on(main.exited());
        environment.end();
        assert!(exit.is_normal(), "the guest did not end well: {exit}");
        self.said.try_iter().map(|(_, number)| number).collect()
    }

    /// Waits for what a program says next, and returns when it said so, and what.
    pub fn hear(&self, main: &Process) -> (Instant, f64) {
        self.hear_within(main, PATIENCE)
    }

    /// Waits as [`Machine::hear`] does, for so long.
    pub fn hear_within(&self, main: &Process, patience: Duration) -> (Instant, f64) {
        let asked = Instant::now();
        while asked.elapsed() < patience {
            match self.said.recv_timeout(Duration::from_millis(100)) {
                Ok(said) => return said,
                Err(RecvTimeoutError::Timeout) => {
                    assert!(
                        main.is_alive(),
                        "the guest ended before it said a word: {:?}",
                        main.exit()
                    );
                }
                Err(RecvTimeoutError::Disconnected) => {
                    unreachable!("the machine keeps the other end")
                }
            }
        }
        panic!("the guest was silent for {patience:?}")
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new()
    }
}
