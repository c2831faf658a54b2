//! `lunatic run`: runs a program, from its file to its exit status.

mod interrupt;
pub(crate) mod metrics;
pub(crate) mod program;
pub(crate) mod report;
mod rights;

use crate::command_line::{self, Run};
use crate::failure::{Failure, Outcome, not_started, tell};
use crate::status;
use async_io::Timer;
use futures_lite::FutureExt;
use interrupt::Interrupt;
use lunatic_vm::{Cache, Environment, Exit, Module, Process, Profile, SpawnError, Vm};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs a program and returns its exit status. If the program exports tests, runs the tests
/// instead.
pub(crate) fn run(run: &Run) -> Outcome {
    begin(run, crate::test::has_tests)
}

/// Runs the tests of a program and returns the exit status.
pub(crate) fn test(run: &Run) -> Outcome {
    begin(run, |_| true)
}

fn begin(run: &Run, is_test: impl Fn(&Module) -> bool) -> Outcome {
    crate::log_lines::start(run.machine.verbose);
    let [path, arguments @ ..] = &run.program[..] else {
        unreachable!("a command line without a command has a program")
    };
    let path = Path::new(path);
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();

    let bytes = program::read(path)?;

    let mut builder = Vm::builder();
    if let Some(workers) = run.machine.workers {
        builder = builder.workers(workers.get());
    }
    if let Some(bytes) = run.machine.machine_memory {
        builder = builder.memory(bytes);
    }
    if let Some(profile) = run.machine.profile {
        builder = builder.profile(match profile {
            command_line::Profile::Fast => Profile::Fast,
            command_line::Profile::Dense => Profile::Dense,
        });
    }
    if let Some(tick) = run.machine.tick {
        builder = builder.tick(tick);
    }
    if let Some(slice) = run.machine.slice {
        builder = builder.slice(slice);
    }
    if !run.machine.no_cache {
        builder = builder.cache(cache());
    }
    let vm = builder.build().map_err(not_started)?;
    log::debug!(target: "lunatic::process", "{}", vm.capacity());
    let mut config = vm.config();
    // Nothing outside the program sends messages to its processes, so a process that waits for a
    // message that can never arrive is detected.
    config.closed();
    rights::grant(&mut config, &run.rights)?;
    rights::bound(&mut config, &run.bounds);
    let arguments = texts(arguments)?;

    let module = program::compile(&vm, path, &name, &bytes)?;
    if let Some(address) = run.machine.metrics {
        metrics::serve(address, &vm)?;
    }
    if is_test(&module) {
        let status = crate::test::test(&vm, &module, &config, run.bounds.timeout, &arguments);
        // For the same reason as at the end of this function.
        std::mem::forget(vm);
        return status;
    }
    program::check_entry(path, &module)?;
    config.argument(&name);
    for argument in &arguments {
        config.argument(argument);
    }
    let environment = vm.environment(config);
    let interrupt = Interrupt::listen(&environment).map_err(not_started)?;
    let main = match environment.spawn_main(&module, program::ENTRY, &[]) {
        Ok(main) => main,
        Err(SpawnError::Ending) if let Some(signal) = interrupt.signal() => {
            return Ok(status::SIGNAL + signal);
        }
        Err(error) => return Err(not_started(error)),
    };
    let ending = vm.block_on(async {
        let ending = wait(&environment, &main, run.bounds.timeout).await;
        // The program's output is flushed before the report, so that none of it is lost.
        vm.flush_output().await;
        ending
    });
    let status = settle(ending, &main, &name, &interrupt);
    // This process is about to exit, which frees everything that the machine holds faster than
    // dropping the machine would.
    std::mem::forget(vm);
    Ok(status)
}

/// How a program ended.
enum Ending {
    /// The program's main process ended.
    Main(Exit),
    /// The program exceeded the timeout and was ended.
    TimedOut(Duration),
}

/// Waits for at most `timeout` until the main process has ended, then ends all other processes.
async fn wait(environment: &Environment, main: &Process, timeout: Option<Duration>) -> Ending {
    let exited = async { Ending::Main(main.exited().await) };
    let ending = match timeout {
        None => exited.await,
        Some(timeout) => {
            let timed_out = async {
                Timer::after(timeout).await;
                Ending::TimedOut(timeout)
            };
            exited.or(timed_out).await
        }
    };
    environment.end();
    environment.ended().await;
    ending
}

/// Reports how a program ended, if there is anything to report, and returns its status.
fn settle(ending: Ending, main: &Process, name: &str, interrupt: &Interrupt) -> i32 {
    match (ending, interrupt.signal()) {
        (Ending::Main(Exit::Killed), Some(signal)) => status::SIGNAL + signal,
        (Ending::Main(exit), _) => {
            if let Some(report) = report::report(main.name(), name, &exit) {
                tell(&report);
            }
            status::of(&exit)
        }
        (Ending::TimedOut(timeout), _) => {
            tell(&format!(
                "error: `{name}` did not end within the `--timeout` of {timeout:?} and was ended\n"
            ));
            status::TIMED_OUT
        }
    }
}

fn texts(arguments: &[OsString]) -> Result<Vec<String>, Failure> {
    let text = |(number, argument): (usize, &OsString)| match argument.to_str() {
        Some(argument) => Ok(argument.to_string()),
        None => Err(not_started(format!(
            "argument {number}, `{}`, is not UTF-8",
            argument.display()
        ))),
    };
    (1..).zip(arguments).map(text).collect()
}

/// Opens the cache of compiled code. Without the cache, programs work but start more slowly.
pub(crate) fn cache() -> Cache {
    let Some(directory) = cache_directory() else {
        return Cache::none();
    };
    Cache::at(&directory).unwrap_or_else(|error| {
        log::debug!("compiled code is not cached: {error}");
        Cache::none()
    })
}

fn cache_directory() -> Option<PathBuf> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(directory) = variable("LUNATIC_CACHE") {
        return Some(directory);
    }
    // The XDG base directory specification says to ignore paths that are not absolute.
    let base = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    base.map(|base| base.join("lunatic"))
}
