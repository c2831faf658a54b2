//! The `lunatic` command: runs programs, and sets up cargo projects so that `cargo run` runs them.
//!
//! The command parses flags, runs the machine and prints the results. `lunatic_vm` determines what
//! a program may do and how it ends; this crate contains only what a shell user sees: flags,
//! reports and exit statuses.

#![forbid(unsafe_code)]

mod background;
mod bridge;
mod build;
mod call;
mod client;
mod command_line;
mod completions;
mod dev;
mod failure;
mod functions;
mod init;
mod invoke;
mod log_lines;
mod logs;
mod new;
mod output;
mod project;
mod quantity;
mod run;
mod serve;
mod service;
mod signals;
mod status;
mod stdout;
mod test;

use clap::Parser;
use command_line::{Command, CommandLine};
use failure::{Failure, Outcome};
use std::io::Write;

fn main() -> ! {
    let command_line = CommandLine::try_parse().unwrap_or_else(|error| {
        std::process::exit(show(&error).unwrap_or_else(Failure::report));
    });
    lunatic_vm::raise_descriptor_limit();
    let done = match command_line.command {
        // `lunatic app.wasm` means `lunatic run app.wasm`.
        None => run::run(&command_line.run),
        Some(Command::Run(run)) => run::run(&run),
        Some(Command::Test(test)) => run::test(&test.run),
        Some(Command::Call(call)) => call::call(&call),
        Some(Command::Bridge(bridge)) => bridge::bridge(&bridge),
        Some(Command::Build(build)) => build::build(&build),
        Some(Command::Serve(serve)) => serve::serve(&serve),
        Some(Command::Dev(dev)) => dev::dev(&dev),
        Some(Command::Functions(functions)) => functions::functions(&functions),
        Some(Command::Logs(logs)) => logs::logs(&logs),
        Some(Command::Invoke(invoke)) => invoke::invoke(&invoke),
        Some(Command::Init(init)) => init::init(&init),
        Some(Command::New(new)) => new::new(&new),
        Some(Command::Completions(completions)) => completions::print(&completions),
        Some(Command::CompileForMachine) => {
            Ok(i32::from(lunatic_vm::compile_for_machine().is_err()))
        }
    };
    let status = done.unwrap_or_else(|failure| failure.report());
    // Returning would wait for threads that are blocked on a terminal or the network.
    std::process::exit(status)
}

/// Prints the help, the version, or an error in the command line.
fn show(error: &clap::Error) -> Outcome {
    let shown = error.print().and_then(|()| std::io::stdout().flush());
    stdout::check(shown)?;
    Ok(error.exit_code())
}
