//! `lunatic run`: runs a program, from reading its file to returning its exit status.

mod ending;
mod failures;
pub(crate) mod metrics;
mod outline;
pub(crate) mod program;
pub(crate) mod report;
mod rights;

use crate::command_line::{self, Run};
use crate::failure::{Failure, Outcome, not_started, tell};
use crate::{status, stdout};
use ending::Ending;
use failures::Failures;
use lunatic_vm::{Cache, CompileLimits, Exit, Process, Profile, SpawnError, Vm, VmBuilder};
use outline::Outline;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs a program and returns its exit status. If the program exports tests, runs those instead.
pub(crate) fn run(run: &Run) -> Outcome {
    begin(run, crate::test::has_tests)
}

/// Runs a program's tests and returns the exit status.
pub(crate) fn test(run: &Run) -> Outcome {
    begin(run, |_| true)
}

fn begin(run: &Run, is_test: impl Fn(&[String]) -> bool) -> Outcome {
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

    let mut builder = builder();
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
    if let Some(size) = run.machine.max_module {
        builder = builder.compile_limits(CompileLimits {
            size,
            ..CompileLimits::default()
        });
    }
    let vm = builder.build().map_err(not_started)?;
    log::debug!(target: "lunatic::process", "{}", vm.capacity());
    let mut config = vm.config();
    rights::grant(&mut config, &run.rights)?;
    rights::bound(&mut config, &run.bounds);
    let arguments = texts(arguments)?;

    // Compiling may take minutes, so missing functions are reported first.
    let outline = Outline::read(&bytes);
    if let Some(outline) = &outline {
        outline.check_imports(path, &config)?;
        if !is_test(&outline.exports) {
            outline.check_entry(path)?;
        }
    }
    let module = vm
        .module(&name, &bytes)
        .map_err(|error| outline::unusable(path, &error, &config))?;
    if let Some(address) = run.machine.metrics {
        metrics::serve(address, &vm)?;
    }
    let exports = Outline {
        exports: module.functions().map(str::to_string).collect(),
        ..Outline::default()
    };
    if is_test(&exports.exports) {
        let status = crate::test::test(&vm, &module, &config, run.bounds.timeout, &arguments);
        // Not dropped, for the same reason as at the end of this function.
        std::mem::forget(vm);
        return status;
    }
    exports.check_entry(path)?;
    // Nothing outside the program sends messages to its processes, so the machine can detect a
    // process waiting for a message that can never arrive.
    config.closed();
    let flags = command_line::own_flags(&arguments);
    if !flags.is_empty() && !run.is_separated() {
        let verb = if flags.len() == 1 { "is" } else { "are" };
        tell(&format!(
            "note: {} after `{name}` {verb} passed to the program; lunatic's own flags must precede the program (`lunatic -- {name} …` hides this note)\n",
            rights::list(flags)
        ));
    }
    config.argument(&name);
    for argument in &arguments {
        config.argument(argument);
    }
    let failures = Failures::new(&vm, &name);
    config.journal(failures.journal());
    let environment = vm.environment(config);
    let bounds = ending::Bounds {
        timeout: run.bounds.timeout,
        grace: match ending::understands(&module) {
            true => run.bounds.grace,
            false => Duration::ZERO,
        },
        signal: ending::listen().map_err(not_started)?,
    };
    let main = environment
        .spawn_main(&module, program::ENTRY, &[])
        .map_err(|error| not_spawned(path, &error))?;
    failures.report(main.pid());
    let (ending, written) = vm.block_on(async {
        let ending = ending::wait(&environment, &main, bounds).await;
        failures.report_new(main.pid()).await;
        (ending, vm.flush_output().await)
    });
    let mut status = settle(ending, &main, &name, &failures);
    if let Err(failure) = stdout::check(written) {
        // Writing the output may have failed after the program ended.
        status = status.max(failure.report());
    }
    // The process is about to exit, which frees everything the machine holds faster than dropping
    // it would.
    std::mem::forget(vm);
    Ok(status)
}

/// Returns the failure to report when the main process could not be spawned.
fn not_spawned(path: &Path, error: &SpawnError) -> Failure {
    let failure = not_started(format!("`{}` cannot be run: {error}", path.display()));
    let hint = match error {
        SpawnError::Limit(reached) => report::flag_for(reached.limit),
        _ => None,
    };
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The hint for a program that failed because WASI does not support an operation.
const LACKING: &str = "\
hint: `std::thread` and `std::net` do not work in WASI; use the package `lunatic` instead: processes and tasks in place of threads, and `lunatic::net`
";

/// Reports how a program ended, if there is anything to report, and returns its exit status.
fn settle(ending: Ending, main: &Process, name: &str, failures: &Failures) -> i32 {
    let told = |exit: &Exit| {
        let is_reported = match exit {
            Exit::LinkDied { pid, .. } => failures.has_reported(*pid),
            _ => false,
        };
        tell(&report::main(main.name(), name, exit, is_reported));
        if !exit.is_normal() && failures.lacks_something() {
            tell(LACKING);
        }
    };
    match ending {
        Ending::Main(exit) => {
            told(&exit);
            status::of(&exit)
        }
        Ending::Signal(signal, exit) => {
            // If the process was ended by the signal, without a trap, there is nothing to report.
            if exit.trap().is_some() {
                told(&exit);
            }
            status::SIGNAL + signal
        }
        Ending::TimedOut(timeout) => {
            tell(&format!(
                "error: `{name}` did not end within the `--timeout` of {timeout:?} and was terminated\n"
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

/// Returns a builder for a machine that compiles code other than the user's own in a separate
/// process, which runs this command.
pub(crate) fn builder() -> VmBuilder {
    // This path refers to the running command even if its file has since been replaced.
    let this = Path::new("/proc/self/exe");
    let this = match this.exists() {
        true => Ok(this.to_owned()),
        false => std::env::current_exe(),
    };
    let Ok(this) = this else { return Vm::builder() };
    let mut command = std::process::Command::new(this);
    command.arg("compile-for-machine");
    Vm::builder().compiler(command)
}

/// Opens the cache of compiled code. Without a cache, programs still work but start more slowly.
pub(crate) fn cache() -> Cache {
    let Some(directory) = cache_directory() else {
        return Cache::none();
    };
    Cache::at(&directory).unwrap_or_else(|error| {
        log::debug!(target: "lunatic::process", "compiled code is not cached: {error}");
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
