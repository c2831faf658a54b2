//! The command line: every command, every flag and the text of `--help`. The same definitions
//! generate the shell completions.

use crate::{quantity, status};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use lunatic_vm::VmBuilder;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Run WebAssembly programs made of many small processes
#[derive(Debug, Parser)]
#[command(
    name = "lunatic",
    version,
    // A command line that names no subcommand is parsed as if it began with `run`.
    args_conflicts_with_subcommands = true,
    subcommand_help_heading = "Commands",
    arg_required_else_help = true,
    disable_help_subcommand = true,
    override_usage = "lunatic [OPTIONS] PROGRAM [ARGUMENTS]...\n       lunatic COMMAND",
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{RIGHTS}\n\n{}\n\n{VARIABLES}", status::help()),
)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: Run,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Run),
    Test(Test),
    Call(Call),
    Bridge(Bridge),
    Build(Build),
    Serve(Serve),
    Dev(Dev),
    Functions(Functions),
    Logs(Logs),
    Invoke(Invoke),
    Init(Init),
    New(New),
    Completions(Completions),
    /// Compile a module on behalf of a VM that `lunatic` is running
    #[command(hide = true)]
    CompileForMachine,
}

/// Run a program; short form: `lunatic PROGRAM`
#[derive(Debug, Args)]
#[command(
    override_usage = "lunatic run [OPTIONS] PROGRAM [ARGUMENTS]...",
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{RIGHTS}\n\n{}\n\n{VARIABLES}", status::help()),
)]
pub(crate) struct Run {
    /// The program (wasm or wat) and its arguments
    ///
    /// Everything after the program is passed to it, even arguments that look like options. If a
    /// program has the same name as a command, put `--` before it.
    #[arg(value_name = "PROGRAM [ARGUMENTS]", required = true, trailing_var_arg = true, value_hint = ValueHint::FilePath)]
    pub(crate) program: Vec<OsString>,

    #[command(flatten)]
    pub(crate) rights: Rights,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

/// Run the tests of a program built by `cargo test`, each in its own process tree
///
/// `lunatic PROGRAM` does the same if the program exports tests that use `#[lunatic::test]`. If the
/// program has only `#[test]`s, this command runs them one by one, whereas `lunatic PROGRAM` runs
/// all of them in one process, which ends at the first failure. Each test is a separate program, so
/// tests cannot share a process or a server on a port.
#[derive(Debug, Args)]
#[command(
    override_usage = "lunatic test [OPTIONS] PROGRAM [FILTERS]... [FLAGS]",
    after_help = "`lunatic test PROGRAM --help` lists the flags of a test run. Limits and rights apply to each test."
)]
pub(crate) struct Test {
    #[command(flatten)]
    pub(crate) run: Run,
}

/// What the program may access.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rights")]
pub(crate) struct Rights {
    /// Grant read and write access to a directory, which the program sees as GUEST if given
    #[arg(long, value_name = "HOST[::GUEST]", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Vec<String>,

    /// Grant read-only access to a directory
    #[arg(long, value_name = "HOST[::GUEST]", value_hint = ValueHint::DirPath)]
    pub(crate) read_dir: Vec<String>,

    /// Do not grant access to the current directory; by default, access is granted unless another
    /// directory takes the name `.`
    #[arg(long)]
    pub(crate) no_dir: bool,

    /// Set an environment variable, or pass through its current value
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,

    /// Do not pass on environment variables
    #[arg(long)]
    pub(crate) no_env: bool,

    /// Do not allow sockets or DNS lookups; same as `--deny lunatic::networking::`
    #[arg(long)]
    pub(crate) no_net: bool,

    /// Deny host functions whose `namespace::name` starts with NAMESPACE, and others that do the
    /// same; `all` denies all
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) deny: Vec<String>,

    /// Allow host functions despite a shorter `--deny`; the longest match wins
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) allow: Vec<String>,
}

/// Limits for a program.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Bounds {
    /// Limit the memory of each process, e.g. 64MiB [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    pub(crate) max_memory: Option<u64>,

    /// Limit the computation of each process, in units of 100,000 instructions [default: unlimited]
    #[arg(long, value_name = "UNITS")]
    pub(crate) max_compute: Option<u64>,

    /// Limit the number of processes alive at the same time [default: 1000000]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_processes: Option<u64>,

    /// Limit the host memory used for each process, not counting its own memory, e.g. 16MiB
    /// [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    pub(crate) max_host_memory: Option<u64>,

    /// Limit the host memory used for all processes together, not counting their own memory
    /// [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    pub(crate) max_total_host_memory: Option<u64>,

    /// Limit the number of open files, directories, sockets and other descriptors [default: 10000]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_descriptors: Option<u64>,

    /// Limit the number of files and directories that each process can have open [default: 256]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_files: Option<u64>,

    /// End the program after this time, e.g. 500ms, 10s or 5m [default: unlimited]
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub(crate) timeout: Option<Duration>,

    /// How long processes may take to exit after a signal; a second signal kills them
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = quantity::duration)]
    pub(crate) grace: Duration,
}

/// How memories are laid out in the address space.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Profile {
    Fast,
    Dense,
}

/// Options for the machine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct Machine {
    /// Number of threads that run processes [default: one per core]
    #[arg(long, value_name = "COUNT")]
    pub(crate) workers: Option<NonZeroUsize>,

    /// Maximum memory of the whole machine, e.g. 2GiB [default: what the system and cgroup limits
    /// allow]
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    pub(crate) machine_memory: Option<u64>,

    /// Memory layout: `fast` reserves 4 GiB of address space per process and needs no bounds
    /// checks, `dense` checks bounds and fits many more processes [default: fast for the first 3072
    /// processes, then dense]
    #[arg(long)]
    pub(crate) profile: Option<Profile>,

    /// Time between ticks, from 100us to 1s; a kill takes up to one tick [default: 1ms]
    #[arg(long, value_name = "DURATION", value_parser = quantity::tick)]
    pub(crate) tick: Option<Duration>,

    /// Ticks that a process may run before others get their turn, from 1 to 1000 [default: 1]
    #[arg(long, value_name = "TICKS", value_parser = clap::value_parser!(u64).range(VmBuilder::SLICES))]
    pub(crate) slice: Option<u64>,

    /// Do not use the cache of compiled code
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// Size of the largest module that the program may compile [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    pub(crate) max_module: Option<u64>,

    /// Serve Prometheus metrics for the machine and the program [default address: 127.0.0.1]
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = metrics_address)]
    pub(crate) metrics: Option<SocketAddr>,

    /// Log when and how every process ends; -vv logs everything the machine does
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Call a function in a module with a value or an image, and print its result
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lunatic call hello.wasm hello '{\"arg\": \"World\"}'
  lunatic call hello.wasm hello --data @arguments.json
  lunatic call images.wasm image_size --image picture.rgb --width 256 --height 256
  lunatic call images.wasm shrink --image picture.rgb --width 256 --height 256 > small.rgb")]
pub(crate) struct Call {
    /// The module (wasm or wat)
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// The function
    pub(crate) function: String,

    /// The argument, as JSON [default: null]
    #[arg(value_name = "JSON", conflicts_with_all = ["data", "bytes", "image"])]
    pub(crate) json: Option<String>,

    /// The argument: JSON, @FILE to read it from a file, or @- to read it from standard input
    #[arg(long, value_name = "JSON|@FILE", conflicts_with_all = ["bytes", "image"])]
    pub(crate) data: Option<String>,

    /// Pass the bytes of a file, or of standard input if FILE is `-`
    #[arg(long, value_name = "FILE", conflicts_with = "image", value_hint = ValueHint::FilePath)]
    pub(crate) bytes: Option<PathBuf>,

    /// Pass the bytes of a file, or of standard input if FILE is `-`, as an image
    #[arg(long, value_name = "FILE", requires_all = ["width", "height"], value_hint = ValueHint::FilePath)]
    pub(crate) image: Option<PathBuf>,

    /// Width of the image
    #[arg(long, value_name = "PIXELS", requires = "image")]
    pub(crate) width: Option<u32>,

    /// Height of the image
    #[arg(long, value_name = "PIXELS", requires = "image")]
    pub(crate) height: Option<u32>,

    #[command(flatten)]
    pub(crate) bounds: CallBounds,
}

/// Call a module's functions on behalf of another program, over standard input and output
///
/// Requests and replies are frames: a four-byte big-endian length followed by JSON. When the file
/// changes, the new version takes over. `bridge/README.md` describes the requests and includes a
/// Python client.
#[derive(Debug, Args)]
pub(crate) struct Bridge {
    /// The module (wasm or wat)
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// Number of calls served at the same time, each by its own instance with its own memory
    #[arg(long, value_name = "COUNT", default_value = "1")]
    pub(crate) instances: NonZeroUsize,

    #[command(flatten)]
    pub(crate) bounds: CallBounds,
}

/// Limits on a called function.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct CallBounds {
    /// Limit the memory of each instance, e.g. 64MiB [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    pub(crate) max_memory: Option<u64>,

    /// Limit the computation of each call, in units of 100,000 instructions [default: unlimited]
    #[arg(long, value_name = "UNITS")]
    pub(crate) max_compute: Option<u64>,

    /// End a call after this time, e.g. 500ms or 10s [default: unlimited]
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub(crate) timeout: Option<Duration>,

    /// Allow host functions whose `namespace::name` starts with NAMESPACE [default: none]
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) allow: Vec<String>,
}

/// Build a project's functions
///
/// The results are checked and stored in `.lunatic/build` next to the project file.
#[derive(Debug, Args)]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) project: Project,

    /// Number of functions built at the same time [default: one per core, at most 4]
    #[arg(short, long, value_name = "COUNT")]
    pub(crate) jobs: Option<NonZeroUsize>,
}

/// Serve a project, deployed functions, or both, until a signal arrives
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lunatic serve                          serve the project in this directory
  lunatic serve --deploy
  curl --data-binary @my-http-server.wasm localhost:8002/deploy/my-http-server
  curl -i http://127.0.0.1:8000/my-http-server/secret")]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) project: Project,
    #[command(flatten)]
    pub(crate) service: ServiceFlags,

    /// How long to wait for in-flight requests after a signal; a second signal ends them
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = quantity::duration)]
    pub(crate) drain: Duration,

    /// Log when and how every process ends; -vv logs everything the machine does
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Serve a project during development: rebuild functions when they change, and switch to the new
/// versions if they work
#[derive(Debug, Args)]
pub(crate) struct Dev {
    #[command(flatten)]
    pub(crate) project: Project,

    /// Log when and how every process ends; -vv logs everything the machine does
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Selects a project.
#[derive(Debug, Args)]
#[command(next_help_heading = "Project")]
pub(crate) struct Project {
    /// The project file [default: `lunatic.toml` or `embly-project.yml` in this directory or the
    /// nearest parent that has one]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
}

/// List the functions of a service, with their versions and states
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lunatic functions
  lunatic functions my-http-server       list the versions too
  lunatic functions --json | jq .functions[].name")]
pub(crate) struct Functions {
    /// List only this function, with its versions
    pub(crate) name: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) deployer: Deployer,
}

/// Print the log of a function: its output and its failures
///
/// Each line shows the time, the version, the process, the request, and whether it comes from
/// standard output, from standard error or from a failure.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The function
    pub(crate) name: String,

    /// Keep printing new lines as they arrive
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Number of past lines to print first
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "100")]
    pub(crate) lines: usize,

    /// Print each line as a JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) deployer: Deployer,
}

/// Send a request to one of a service's functions, and print the response
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lunatic invoke my-http-server secret
  lunatic invoke my-http-server echo --data hello
  lunatic invoke my-http-server echo --data @picture.png --header 'content-type: image/png' > echoed.png")]
pub(crate) struct Invoke {
    /// The function
    pub(crate) name: String,

    /// The path to request [default: /]
    pub(crate) path: Option<String>,

    /// The request body: DATA, @FILE to read it from a file, or @- to read it from standard input
    #[arg(long, short, value_name = "DATA|@FILE")]
    pub(crate) data: Option<String>,

    /// The method [default: POST with `--data`, otherwise GET]
    #[arg(long, short = 'X', value_name = "METHOD")]
    pub(crate) request: Option<String>,

    /// Add a header to the request
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,

    /// The address where the service accepts invocations [default: $LUNATIC_INVOKE or
    /// 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) invoke: Option<SocketAddr>,
}

/// Options for serving deployed functions.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct ServiceFlags {
    /// Accept deployments over HTTP at this address [default: 127.0.0.1:8002], and serve functions
    /// by name
    ///
    /// `curl --data-binary @app.wasm 127.0.0.1:8002/deploy/NAME` deploys a function, and
    /// `curl 127.0.0.1:8000/NAME/path` invokes it.
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1)]
    pub(crate) deploy: Option<Option<SocketAddr>>,

    /// The address where deployed functions are invoked [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS:PORT", requires = "deploy")]
    pub(crate) invoke: Option<SocketAddr>,

    /// Where to store deployed functions: a directory, or `s3://BUCKET/ROOT` [default: ./module-store]
    #[arg(long, value_name = "DIRECTORY", requires = "deploy", value_hint = ValueHint::DirPath)]
    pub(crate) storage: Option<PathBuf>,

    /// A file of tokens that authorize deployments, one per line [default: $LUNATIC_TOKEN]
    ///
    /// Without a token, anyone who can reach the address can deploy, so the address must be a
    /// loopback address.
    #[arg(long, value_name = "FILE", requires = "deploy", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
}

/// Selects a service and how to authenticate to it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct Deployer {
    /// The address where the service accepts deployments [default: $LUNATIC_DEPLOY or
    /// 127.0.0.1:8002]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) deploy: Option<SocketAddr>,

    /// A file with the token [default: $LUNATIC_TOKEN]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
}

/// Set up a cargo project so that `cargo run` runs it with `lunatic`
///
/// Sets the target and the runner in `.cargo/config.toml` and adds the guest library to the
/// dependencies in `Cargo.toml`. Leaves everything else in these files unchanged.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The project's directory
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,

    /// Replace an existing target or runner
    #[arg(long)]
    pub(crate) force: bool,

    /// The directory of the guest library [default: `lib-guest` in the sources this command was
    /// built from]
    #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub(crate) guest_path: Option<PathBuf>,
}

/// Create a cargo project with a program that spawns a process
#[derive(Debug, Args)]
pub(crate) struct New {
    /// The directory to create; its last component is the name of the package
    #[arg(value_name = "NAME", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,

    /// The directory of the guest library [default: `lib-guest` in the sources this command was
    /// built from]
    #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub(crate) guest_path: Option<PathBuf>,
}

/// Generate shell completions
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lunatic completions bash > ~/.local/share/bash-completion/completions/lunatic
  lunatic completions zsh > \"${fpath[1]}/_lunatic\"
  lunatic completions fish > ~/.config/fish/completions/lunatic.fish")]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

const EXAMPLES: &str = "\
Examples:
  lunatic app.wasm --its-own-flag        run a program, with an argument
  lunatic --no-net --timeout 10s app.wasm
  lunatic --no-dir --dir data::/data app.wasm
  lunatic --deny all --allow wasi_snapshot_preview1::fd_write app.wasm
  lunatic init                           set up a project for `cargo run`";

const RIGHTS: &str = "\
Rights:
  Without flags, a program can read and write in the current directory (as `.`), read all environment
  variables, and use sockets and the standard streams. If a process calls a function that it was
  not granted, it traps, and the trap is reported; merely importing such a function has no effect.";

const VARIABLES: &str = "\
Environment variables:
  RUST_LOG=lunatic=debug   log how every process ends, like -v
  LUNATIC_CACHE            where to cache compiled code [default: $XDG_CACHE_HOME/lunatic or ~/.cache/lunatic]";

/// Returns the program arguments that look like flags of this command.
pub(crate) fn own_flags(arguments: &[String]) -> Vec<&str> {
    let run = Run::augment_args(clap::Command::new(""));
    let flags: Vec<&str> = run
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .collect();
    let flag = |argument: &&str| {
        argument
            .strip_prefix("--")
            .is_some_and(|flag| flags.contains(&flag) && flag != "verbose")
    };
    let names = arguments.iter().map(|argument| {
        let (name, _) = argument.split_once('=').unwrap_or((argument, ""));
        name
    });
    names.filter(flag).collect()
}

impl Run {
    /// Returns whether `--` precedes the program. If so, the user has already marked which flags
    /// are for the program.
    pub(crate) fn is_separated(&self) -> bool {
        let Some(program) = self.program.first() else {
            return false;
        };
        let mut before = std::env::args_os().take_while(|argument| argument != program);
        before.any(|argument| argument == "--")
    }
}

/// Parses the address to serve metrics at. A port alone means that port on the loopback address.
fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| {
        format!("`{text}` is not an address; use, for example, 9100, 127.0.0.1:9100 or [::1]:9100")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &[&str]) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from([&["lunatic"], line].concat())
    }

    #[test]
    fn the_definitions_are_valid() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_program_needs_no_command() {
        let check = |line: &[&str], command: bool, program: &[&str]| {
            let parsed = parse(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            let run = match parsed.command {
                Some(Command::Run(run)) if command => run,
                None if !command => parsed.run,
                other => panic!("{line:?} is parsed as {other:?}"),
            };
            assert_eq!(run.program, program, "{line:?}");
        };
        check(&["app.wasm"], false, &["app.wasm"]);
        check(
            &["app.wasm", "--help", "-v", "run"],
            false,
            &["app.wasm", "--help", "-v", "run"],
        );
        check(
            &["--no-net", "app.wasm", "--no-dir"],
            false,
            &["app.wasm", "--no-dir"],
        );
        check(&["--", "init", "x"], false, &["init", "x"]);
        check(
            &["run", "--no-net", "app.wasm", "-x"],
            true,
            &["app.wasm", "-x"],
        );
        check(&["run", "run"], true, &["run"]);
        check(&["run", "--", "--x"], true, &["--x"]);
    }

    #[test]
    fn flags_of_this_command_are_found_among_a_programs_arguments() {
        let check = |arguments: &[&str], found: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            assert_eq!(own_flags(&arguments), found, "{arguments:?}");
        };
        check(&["--timeout", "1s", "x"], &["--timeout"]);
        check(
            &["--max-memory=1MiB", "--no-net"],
            &["--max-memory", "--no-net"],
        );
        check(
            &[
                "--help",
                "--version",
                "-v",
                "--verbose",
                "--other",
                "timeout",
            ],
            &[],
        );
    }

    #[test]
    fn a_program_or_a_command_is_required() {
        assert!(parse(&["--no-net"]).is_err());
        assert!(parse(&["run"]).is_err());
        assert!(parse(&["--no-such-flag", "app.wasm"]).is_err());
    }

    #[test]
    fn a_port_alone_is_on_the_loopback_address() {
        let address = metrics_address;
        assert_eq!(address("9100"), Ok(([127, 0, 0, 1], 9100).into()));
        assert_eq!(address("0.0.0.0:80"), Ok(([0, 0, 0, 0], 80).into()));
        assert_eq!(
            address("[::1]:0").map(|address| address.is_ipv6()),
            Ok(true)
        );
        for bad in [
            "",
            "99999",
            "localhost:80",
            "127.0.0.1",
            ":80",
            "http://127.0.0.1:80",
        ] {
            assert!(
                address(bad)
                    .expect_err("the text is not an address")
                    .contains("9100"),
                "{bad}"
            );
        }
    }
}
