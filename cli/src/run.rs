//! `lunatic run`: a program, from its file to its exit status.

mod interrupt;
pub(crate) mod metrics;
pub(crate) mod program;
pub(crate) mod report;
mod rights;
pub(crate) mod status;

use crate::command_line::{self, Run};
use crate::failure::{Failure, Outcome, tell};
use async_io::Timer;
use futures_lite::FutureExt;
use interrupt::Interrupt;
use lunatic_vm::{Cache, Environment, Exit, Module, Process, Profile, SpawnError, Vm};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs a program, and returns its exit status. A program that exports tests is a test run.
pub(crate) fn run(run: &Run) -> Outcome {
    begin(run, crate::test::has_tests)
}

/// Runs the tests of a program, and returns the exit status.
pub(crate) fn test(run: &Run) -> Outcome {
    begin(run, |_| true)
}

fn begin(run: &Run, is_test: impl Fn(&Module) -> bool) -> Outcome {
    crate::log_lines::start(run.machine.verbose);
    let [path, arguments @ ..] = &run.program[..] else {
        unreachable!("the command line has a program where it has no command")
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
    // Nobody else sends to its processes, so one that waits in vain can be told.
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
        // As below.
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
    let end = vm.block_on(async {
        let end = end(&environment, &main, run.bounds.timeout).await;
        // What the program wrote comes before what is said about it, and none of it is lost.
        vm.flush_output().await;
        end
    });
    let status = settle(end, &main, &name, &interrupt);
    // The command ends here, and with it all that the machine holds. To wind it down first would only take time.
    std::mem::forget(vm);
    Ok(status)
}

/// How a program ended.
enum End {
    /// Its main process did.
    Main(Exit),
    /// It was ended, as it took too long.
    TimeIsOver(Duration),
}

/// Waits for the end of the main process, but not longer than is allowed; then ends the others.
async fn end(environment: &Environment, main: &Process, allowed: Option<Duration>) -> End {
    let exited = async { End::Main(main.exited().await) };
    let end = match allowed {
        None => exited.await,
        Some(allowed) => {
            let time_is_over = async {
                Timer::after(allowed).await;
                End::TimeIsOver(allowed)
            };
            exited.or(time_is_over).await
        }
    };
    environment.end();
    environment.ended().await;
    end
}

/// Reports how a program ended, where that is due, and returns its status.
fn settle(end: End, main: &Process, name: &str, interrupt: &Interrupt) -> i32 {
    match (end, interrupt.signal()) {
        (End::Main(Exit::Killed), Some(signal)) => status::SIGNAL + signal,
        (End::Main(exit), _) => {
            if let Some(report) = report::report(main.name(), name, &exit) {
                tell(&report);
            }
            status::of(&exit)
        }
        (End::TimeIsOver(allowed), _) => {
            tell(&format!(
                "error: `{name}` did not end within {allowed:?}, which `--timeout` allows, and was ended\n"
            ));
            status::TIME_IS_OVER
        }
    }
}

pub(crate) fn not_started(error: impl std::fmt::Display) -> Failure {
    Failure::new(error).status(status::NOT_STARTED)
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

/// Opens the cache of compiled code. Without it a program is only slower to start.
pub(crate) fn cache() -> Cache {
    let Some(directory) = cache_directory() else {
        return Cache::none();
    };
    Cache::at(&directory).unwrap_or_else(|error| {
        log::debug!("compiled code is not kept: {error}");
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
    // The base directory specification ignores a path that is not absolute.
    let base = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    base.map(|base| base.join("lunatic"))
}
