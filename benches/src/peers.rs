//! What some figures are measured beside: Erlang, Go, and programs of this system.

use crate::programs::target;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program of another system that does what a guest does, where that system is installed.
///
/// It prints what it measured, one number a line.
pub struct Peer {
    name: &'static str,
    /// The file to run, or Erlang's module and the directory it lies in; `None` where the system is missing.
    program: Option<Program>,
}

enum Program {
    Erlang {
        module: &'static str,
        directory: PathBuf,
    },
    File(PathBuf),
}

impl Peer {
    /// Compiles a module of `erlang/`; says which Erlang it is, or that there is none.
    ///
    /// # Panics
    ///
    /// Where the module does not compile.
    pub fn erlang(module: &'static str) -> Peer {
        let name = "Erlang";
        let directory = directory("erlang");
        let source = source("erlang", module, "erl");
        let Ok(status) = Command::new("erlc")
            .arg("-o")
            .arg(&directory)
            .arg(&source)
            .status()
        else {
            println!(
                "  Erlang is not installed (no `erlc`; Debian's erlang-base has it), so it does not run beside"
            );
            return Peer {
                name,
                program: None,
            };
        };
        assert!(
            status.success(),
            "erlc does not compile {}",
            source.display()
        );
        let version = "io:format(\"~s, ~s\", [erlang:system_info(otp_release), erlang:system_info(emu_flavor)]), halt().";
        let output = Command::new("erl")
            .args(["-noshell", "-eval", version])
            .output()
            .expect("erl is where erlc is");
        println!(
            "  beside Erlang/OTP {}",
            String::from_utf8_lossy(&output.stdout)
        );
        Peer {
            name,
            program: Some(Program::Erlang { module, directory }),
        }
    }

    /// Compiles a file of `go/`; says which Go it is, or that there is none.
    ///
    /// # Panics
    ///
    /// Where the file does not compile.
    pub fn go(file: &'static str) -> Peer {
        let name = "Go";
        let program = directory("go").join(file);
        let source = source("go", file, "go");
        let Ok(status) = Command::new("go")
            .arg("build")
            .arg("-o")
            .arg(&program)
            .arg(&source)
            .status()
        else {
            println!(
                "  Go is not installed (no `go`; Debian's golang-go has it), so it does not run beside"
            );
            return Peer {
                name,
                program: None,
            };
        };
        assert!(status.success(), "go does not compile {}", source.display());
        let output = Command::new("go")
            .arg("version")
            .output()
            .expect("go was there a moment ago");
        println!(
            "  beside {}",
            String::from_utf8_lossy(&output.stdout).trim()
        );
        Peer {
            name,
            program: Some(Program::File(program)),
        }
    }

    /// Compiles a file of `native/` as `cargo build --release` would.
    ///
    /// # Panics
    ///
    /// Where the file does not compile.
    pub fn native(file: &'static str) -> Peer {
        let program = directory("native").join(file);
        let source = source("native", file, "rs");
        let mut rustc = Command::new("rustc");
        rustc
            .args(["--edition", "2024", "-C", "opt-level=3", "-o"])
            .arg(&program)
            .arg(&source);
        let status = rustc.status().expect("rustc is where cargo is");
        assert!(
            status.success(),
            "rustc does not compile {}",
            source.display()
        );
        Peer {
            name: "native",
            program: Some(Program::File(program)),
        }
    }

    /// Returns the system's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the program and returns the numbers that it prints; none where its system is missing.
    ///
    /// # Panics
    ///
    /// Where the program fails or prints something else.
    pub fn run(&self, arguments: &[&str]) -> Vec<f64> {
        let Some(mut command) = self.command(arguments) else {
            return Vec::new();
        };
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .expect("it was just compiled");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{command:?} failed: {text}");
        let number = |line: &str| {
            line.parse()
                .unwrap_or_else(|_| panic!("{command:?} printed `{line}`"))
        };
        text.lines().map(number).collect()
    }

    /// Returns the command that runs the program; `None` where its system is missing.
    pub fn command(&self, arguments: &[&str]) -> Option<Command> {
        let command = match self.program.as_ref()? {
            Program::Erlang { module, directory } => {
                let mut command = Command::new("erl");
                // A failure is told on its output; nobody reads the dump.
                command.env("ERL_CRASH_DUMP_SECONDS", "0");
                command
                    .args(["+P", "2000000", "-noshell", "-pa"])
                    .arg(directory);
                command.args(["-run", module, "main"]).args(arguments);
                command
            }
            Program::File(program) => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
        };
        Some(command)
    }
}

/// Returns where what a system compiles is put.
fn directory(system: &str) -> PathBuf {
    let directory = target().join(system);
    fs::create_dir_all(&directory).expect("the target directory can be written to");
    directory
}

fn source(system: &str, name: &str, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(system)
        .join(name)
        .with_extension(extension)
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
        let mut child = command
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("the server can be started");
        let output = child.stdout.take().expect("it was asked for");
        let mut address = String::new();
        BufReader::new(output)
            .read_line(&mut address)
            .expect("the server's output can be read");
        assert!(
            !address.is_empty(),
            "the server ended before it said where it listens"
        );
        Server {
            child,
            address: address.trim().to_string(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is no failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
