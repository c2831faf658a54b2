//! What runs next to ours for comparison: Erlang, Go, and native programs.

use crate::programs::target;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program in another language that does what a guest does, if that language is installed.
///
/// It prints its measurements, one number per line.
pub struct Peer {
    name: &'static str,
    /// What to run; `None` if the language is not installed.
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
    /// Compiles a module of `erlang/`. Prints the version of Erlang, or that it is not installed.
    ///
    /// # Panics
    ///
    /// Panics if the module does not compile.
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
                "  Erlang is not installed (no `erlc`; Debian's erlang-base has it), so there is no comparison"
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
            .expect("erl is installed with erlc");
        println!(
            "  beside Erlang/OTP {}",
            String::from_utf8_lossy(&output.stdout)
        );
        Peer {
            name,
            program: Some(Program::Erlang { module, directory }),
        }
    }

    /// Compiles a file of `go/`. Prints the version of Go, or that it is not installed.
    ///
    /// # Panics
    ///
    /// Panics if the file does not compile.
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
                "  Go is not installed (no `go`; Debian's golang-go has it), so there is no comparison"
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
            .expect("go ran a moment ago");
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
    /// Panics if the file does not compile.
    pub fn native(file: &'static str) -> Peer {
        let program = directory("native").join(file);
        let source = source("native", file, "rs");
        let mut rustc = Command::new("rustc");
        rustc
            .args(["--edition", "2024", "-C", "opt-level=3", "-o"])
            .arg(&program)
            .arg(&source);
        let status = rustc.status().expect("rustc is installed with cargo");
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

    /// Returns the language's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the program and returns the numbers that it prints; none if its language is not
    /// installed.
    ///
    /// # Panics
    ///
    /// Panics if the program fails or prints anything else.
    pub fn run(&self, arguments: &[&str]) -> Vec<f64> {
        let Some(mut command) = self.command(arguments) else {
            return Vec::new();
        };
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .expect("the program was just compiled");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{command:?} failed: {text}");
        let number = |line: &str| {
            line.parse()
                .unwrap_or_else(|_| panic!("{command:?} printed `{line}`"))
        };
        text.lines().map(number).collect()
    }

    /// Returns the command that runs the program; `None` if its language is not installed.
    pub fn command(&self, arguments: &[&str]) -> Option<Command> {
        let command = match self.program.as_ref()? {
            Program::Erlang { module, directory } => {
                let mut command = Command::new("erl");
                // A failure is printed as well; nobody reads the dump.
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

/// Returns where compiled programs of a language go.
fn directory(language: &str) -> PathBuf {
    let directory = target().join(language);
    fs::create_dir_all(&directory).expect("the target directory can be written to");
    directory
}

fn source(language: &str, name: &str, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(language)
        .join(name)
        .with_extension(extension)
}

/// A server in an operating system process of its own, which is killed when this is dropped.
pub struct Server {
    child: Child,
    /// Where it listens: the first line that it prints.
    pub address: String,
}

impl Server {
    /// Starts a server and waits until it prints where it listens.
    pub fn start(mut command: Command) -> Server {
        let mut child = command
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("the server can be started");
        let output = child.stdout.take().expect("the output is piped");
        let mut address = String::new();
        BufReader::new(output)
            .read_line(&mut address)
            .expect("the server's output can be read");
        assert!(
            !address.is_empty(),
            "the server ended before it printed where it listens"
        );
        Server {
            child,
            address: address.trim().to_string(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
