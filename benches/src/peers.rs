//! Programs that guests are compared with, written in Erlang, in Go, or in native Rust.

use crate::programs::target;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program that does the same as a guest, but is written in another language, if that language is
/// installed.
///
/// It prints its measurements, one number per line.
pub struct Peer {
    name: &'static str,
    /// The program and its first arguments, or `None` if the language is not installed.
    line: Option<Vec<OsString>>,
}

impl Peer {
    /// Compiles a module in `erlang/`. Prints the version of Erlang, or that it is not installed.
    ///
    /// # Panics
    ///
    /// Panics if the module does not compile.
    pub fn erlang(module: &'static str) -> Peer {
        let directory = directory("erlang");
        let mut compiler = Command::new("erlc");
        compiler
            .arg("-o")
            .arg(&directory)
            .arg(source("erlang", module, "erl"));
        let version = "io:format(\"Erlang/OTP ~s, ~s\", \
                       [erlang:system_info(otp_release), erlang:system_info(emu_flavor)]), halt().";
        let mut line: Vec<OsString> = ["erl", "+P", "2000000", "-noshell", "-pa"]
            .map(Into::into)
            .into();
        line.push(directory.into());
        line.extend(["-run", module, "main"].map(Into::into));
        Peer {
            name: "Erlang",
            line: compile(&mut compiler, "erlang-base").then(|| {
                print_version(Command::new("erl").args(["-noshell", "-eval", version]));
                line
            }),
        }
    }

    /// Compiles a file in `go/`. Prints the version of Go, or that it is not installed.
    ///
    /// # Panics
    ///
    /// Panics if the file does not compile.
    pub fn go(file: &'static str) -> Peer {
        let program = directory("go").join(file);
        let mut compiler = Command::new("go");
        compiler
            .args(["build", "-o"])
            .arg(&program)
            .arg(source("go", file, "go"));
        Peer {
            name: "Go",
            line: compile(&mut compiler, "golang-go").then(|| {
                print_version(Command::new("go").arg("version"));
                vec![program.into()]
            }),
        }
    }

    /// Compiles a file in `native/` the way `cargo build --release` would.
    ///
    /// # Panics
    ///
    /// Panics if the file does not compile.
    pub fn native(file: &'static str) -> Peer {
        let program = directory("native").join(file);
        let mut compiler = Command::new("rustc");
        compiler
            .args(["--edition", "2024", "-C", "opt-level=3", "-o"])
            .arg(&program)
            .arg(source("native", file, "rs"));
        Peer {
            name: "native",
            line: compile(&mut compiler, "rustc").then(|| vec![program.into()]),
        }
    }

    /// Returns the language's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the program and returns the numbers it prints, or none if its language is not
    /// installed.
    ///
    /// # Panics
    ///
    /// Panics if the program fails or prints anything but numbers.
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

    /// Returns the command that runs the program, or `None` if its language is not installed.
    pub fn command(&self, arguments: &[&str]) -> Option<Command> {
        let (program, first) = self.line.as_ref()?.split_first()?;
        let mut command = Command::new(program);
        // A crash dump is not needed because Erlang also prints failures.
        command.env("ERL_CRASH_DUMP_SECONDS", "0");
        command.args(first).args(arguments);
        Some(command)
    }
}

/// Runs a compiler. If it is not installed, prints which Debian package contains it and returns
/// false.
fn compile(compiler: &mut Command, package: &str) -> bool {
    match compiler.status() {
        Ok(status) => {
            assert!(status.success(), "{compiler:?} failed");
            true
        }
        Err(_) => {
            let program = compiler.get_program().display();
            println!("  no comparison: `{program}` (Debian's {package}) is not installed");
            false
        }
    }
}

fn print_version(command: &mut Command) {
    let output = command
        .output()
        .expect("a language is installed with its compiler");
    let version = String::from_utf8_lossy(&output.stdout);
    println!("  compared with {}", version.trim());
}

/// Returns the directory for a language's compiled programs.
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

/// A server in its own operating system process, which is killed on drop.
pub struct Server {
    child: Child,
    /// The address the server listens on, which is the first line it prints.
    pub address: String,
}

impl Server {
    /// Starts a server and waits until it prints its address.
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
            "the server exited before printing its address"
        );
        Server {
            child,
            address: address.trim().to_string(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server may already have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
