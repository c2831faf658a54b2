//! Erlang, beside which some figures are measured.

use crate::programs::target;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A compiled module of `erlang/`, where Erlang is installed.
///
/// A program prints what it measured, one number a line.
pub struct Erlang(Option<Program>);

struct Program {
    name: &'static str,
    directory: PathBuf,
}

impl Erlang {
    /// Compiles a module; says which Erlang it is, or that there is none.
    pub fn compile(name: &'static str) -> Erlang {
        let directory = target().join("erlang");
        std::fs::create_dir_all(&directory).expect("the target directory can be written to");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("erlang").join(name).with_extension("erl");
        let Ok(status) = Command::new("erlc").arg("-o").arg(&directory).arg(&source).status() else {
            println!("  Erlang is not installed (no `erlc`; Debian's erlang-base has it), so nothing runs beside");
            return Erlang(None);
        };
        assert!(status.success(), "erlc does not compile {}", source.display());
        let version =
            "io:format(\"~s, ~s\", [erlang:system_info(otp_release), erlang:system_info(emu_flavor)]), halt().";
        let output = Command::new("erl").args(["-noshell", "-eval", version]).output().expect("erl is where erlc is");
        println!("  beside Erlang/OTP {}", String::from_utf8_lossy(&output.stdout));
        Erlang(Some(Program { name, directory }))
    }

    /// Runs the module's `main` and returns the numbers that it prints; none where there is no Erlang.
    pub fn run(&self, arguments: &[&str]) -> Vec<f64> {
        let Some(program) = &self.0 else { return Vec::new() };
        let output = program.command(arguments).stderr(Stdio::inherit()).output().expect("erl is where erlc is");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}.erl failed: {text}", program.name);
        let number = |line: &str| line.parse().unwrap_or_else(|_| panic!("{}.erl printed `{line}`", program.name));
        text.lines().map(number).collect()
    }

    /// Returns the command that runs the module's `main`; `None` where there is no Erlang.
    pub fn command(&self, arguments: &[&str]) -> Option<Command> {
        self.0.as_ref().map(|program| program.command(arguments))
    }
}

impl Program {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("erl");
        // A failure is told on its output; nobody reads the dump.
        command.env("ERL_CRASH_DUMP_SECONDS", "0");
        command.args(["+P", "2000000", "-noshell", "-pa"]).arg(&self.directory);
        command.args(["-run", self.name, "main"]).args(arguments);
        command
    }
}

/// A server in a process of its own, which ends with this.
pub struct Server {
    child: Child,
    /// What it printed first: where it listens.
    pub address: String,
}

impl Server {
    /// Starts a server, and waits until it prints where it listens.
    pub fn start(mut command: Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("the server can be started");
        let output = child.stdout.take().expect("it was asked for");
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address).expect("the server's output can be read");
        assert!(!address.is_empty(), "the server ended before it said where it listens");
        Server { child, address: address.trim().to_string() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is no failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
