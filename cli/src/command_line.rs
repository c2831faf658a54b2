//! The command line: every command, flag and sentence of `--help`. Shell completions come from here too.

use crate::quantity;
use crate::run::{metrics, status};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use lunatic_vm::VmBuilder;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Runs WebAssembly programs made of many small processes.
#[derive(Debug, Parser)]
#[command(
    name = "lunatic",
    version,
    // Clap parses twice, so to say: as a command, and where there is none as the flags and the program of `run`.
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
}

/// Run a program; `lunatic PROGRAM` is short for it
#[derive(Debug, Args)]
#[command(
    override_usage = "lunatic run [OPTIONS] PROGRAM [ARGUMENTS]...",
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{RIGHTS}\n\n{}\n\n{VARIABLES}", status::help()),
)]
pub(crate) struct Run {
    /// The program, as wasm or wat, and its arguments
    ///
    /// What follows the program's name is for the program, also what looks like an option. A program that is called like a
    /// command is given after `--`.
    #[arg(value_name = "PROGRAM [ARGUMENTS]", required = true, trailing_var_arg = true, value_hint = ValueHint::FilePath)]
    pub(crate) program: Vec<OsString>,

    #[command(flatten)]
    pub(crate) rights: Rights,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

/// Run the tests of a program that `cargo test` built, each as a process tree of its own
///
/// `lunatic PROGRAM` does so where the program exports tests of `#[lunatic::test]`. This does so in any case: `#[test]`s
/// that a program without these would run in one process, where the first failure is the last, are told apart too.
#[derive(Debug, Args)]
#[command(
    override_usage = "lunatic test [OPTIONS] PROGRAM [FILTERS]... [FLAGS]",
    after_help = "`lunatic test PROGRAM --help` lists the flags of a test run. Limits and rights are those of each test."
)]
pub(crate) struct Test {
    #[command(flatten)]
    pub(crate) run: Run,
}

/// What the program may use.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rights")]
pub(crate) struct Rights {
    /// Grant a directory for reading and writing, under the path GUEST or the same path
    #[arg(long, value_name = "HOST[::GUEST]", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Vec<String>,

    /// Grant a directory for reading only
    #[arg(long, value_name = "HOST[::GUEST]", value_hint = ValueHint::DirPath)]
    pub(crate) read_dir: Vec<String>,

    /// Do not grant the current directory
    #[arg(long)]
    pub(crate) no_dir: bool,

    /// Set an environment variable, or pass on the one that is set here
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,

    /// Do not pass environment variables on
    #[arg(long)]
    pub(crate) no_env: bool,

    /// Do not grant sockets and name look-ups: `--deny lunatic::networking::`
    #[arg(long)]
    pub(crate) no_net: bool,

    /// Take away the host functions whose `namespace::name` begins so; `all` takes all
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) deny: Vec<String>,

    /// Give back what a shorter `--deny` takes away: the longest beginning decides
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) allow: Vec<String>,
}

/// How much of it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Bounds {
    /// Memory of each process, for example 64MiB [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    pub(crate) max_memory: Option<u64>,

    /// Compute of each process, in units of 100,000 instructions [default: unlimited]
    #[arg(long, value_name = "UNITS")]
    pub(crate) max_compute: Option<u64>,

    /// Processes alive at the same time [default: 1000000]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_processes: Option<u64>,

    /// End the program after so long, for example 500ms, 10s, 5m [default: unlimited]
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub(crate) timeout: Option<Duration>,
}

/// How memories lie in the address space.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Profile {
    Fast,
    Dense,
}

/// What runs it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct Machine {
    /// Processes that run at the same moment [default: one on each core]
    #[arg(long, value_name = "COUNT")]
    pub(crate) workers: Option<NonZeroUsize>,

    /// How memories lie: `fast` without checks, 4 GiB of addresses for each, or `dense` with checks, for very many
    /// [default: the first 3072 processes fast, the others dense]
    #[arg(long)]
    pub(crate) profile: Option<Profile>,

    /// Time from one tick to the next, from 100us to 1s: a kill waits for one [default: 1ms]
    #[arg(long, value_name = "DURATION", value_parser = quantity::tick)]
    pub(crate) tick: Option<Duration>,

    /// Ticks that a process computes until others have their turn, from 1 to 1000 [default: 1]
    #[arg(long, value_name = "TICKS", value_parser = clap::value_parser!(u64).range(VmBuilder::SLICES))]
    pub(crate) slice: Option<u64>,

    /// Compile anew, and keep nothing for the next time
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// Serve what the machine and the program count to Prometheus; a port alone is one of this computer alone
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = metrics::address)]
    pub(crate) metrics: Option<SocketAddr>,

    /// Tell of every process's end; twice, of all that the machine does
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Call one function of a module with a value or an image, and print its result
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lunatic call hello.wasm hello '{\"arg\": \"World\"}'
  lunatic call hello.wasm hello --data @arguments.json
  lunatic call images.wasm image_size --image picture.rgb --width 256 --height 256
  lunatic call images.wasm shrink --image picture.rgb --width 256 --height 256 > small.rgb")]
pub(crate) struct Call {
    /// The module, as wasm or wat
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// The function
    pub(crate) function: String,

    /// Its argument, as JSON [default: null]
    #[arg(value_name = "JSON", conflicts_with_all = ["data", "bytes", "image"])]
    pub(crate) json: Option<String>,

    /// Its argument: JSON, @FILE for what is in a file, @- for standard input
    #[arg(long, value_name = "JSON|@FILE", conflicts_with_all = ["bytes", "image"])]
    pub(crate) data: Option<String>,

    /// Pass the bytes of a file, `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "image", value_hint = ValueHint::FilePath)]
    pub(crate) bytes: Option<PathBuf>,

    /// Pass the bytes of a file, `-` for standard input, as an image of so many pixels
    #[arg(long, value_name = "FILE", requires_all = ["width", "height"], value_hint = ValueHint::FilePath)]
    pub(crate) image: Option<PathBuf>,

    /// How many pixels the image has in a row
    #[arg(long, value_name = "PIXELS", requires = "image")]
    pub(crate) width: Option<u32>,

    /// How many rows the image has
    #[arg(long, value_name = "PIXELS", requires = "image")]
    pub(crate) height: Option<u32>,

    #[command(flatten)]
    pub(crate) bounds: CallBounds,
}

/// Call functions of a module for another program, which sends requests to standard input and reads replies
///
/// Requests and replies are frames: four bytes that say how long the rest is, the most significant first, and then JSON.
/// When the file changes, its new version serves from then on. `bridge/README.md` has the requests, and a client in Python.
#[derive(Debug, Args)]
pub(crate) struct Bridge {
    /// The module, as wasm or wat
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// Serve so many calls at the same time, each by an instance with a memory of its own
    #[arg(long, value_name = "COUNT", default_value = "1")]
    pub(crate) instances: NonZeroUsize,

    #[command(flatten)]
    pub(crate) bounds: CallBounds,
}

/// What a called function may use.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct CallBounds {
    /// Memory of each instance, for example 64MiB [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    pub(crate) max_memory: Option<u64>,

    /// Compute of each call, in units of 100,000 instructions [default: unlimited]
    #[arg(long, value_name = "UNITS")]
    pub(crate) max_compute: Option<u64>,

    /// End a call after so long, for example 500ms, 10s [default: unlimited]
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub(crate) timeout: Option<Duration>,

    /// Grant the host functions whose `namespace::name` begins so; without it none are
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) allow: Vec<String>,
}

/// Build the functions of a project
///
/// What is built is checked, and kept in `.lunatic/build` beside the project file.
#[derive(Debug, Args)]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) project: Project,

    /// Build so many functions at the same time [default: one on each core, 4 at most]
    #[arg(short, long, value_name = "COUNT")]
    pub(crate) jobs: Option<NonZeroUsize>,
}

/// Serve a project, or functions that are deployed, or both, until a signal comes
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lunatic serve                          the project of this directory
  lunatic serve --deploy
  curl --data-binary @my-http-server.wasm localhost:8002/deploy/my-http-server
  curl -i http://127.0.0.1:8000/my-http-server/secret")]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) project: Project,
    #[command(flatten)]
    pub(crate) service: ServiceFlags,

    /// How long requests may go on that are being served when a signal comes; a second signal ends them
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = quantity::duration)]
    pub(crate) drain: Duration,

    /// Tell of every process's end; twice, of all that the machine does
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Serve a project while it is worked on: what changes is built, and serves when it is good
#[derive(Debug, Args)]
pub(crate) struct Dev {
    #[command(flatten)]
    pub(crate) project: Project,

    /// Tell of every process's end; twice, of all that the machine does
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Which project.
#[derive(Debug, Args)]
#[command(next_help_heading = "Project")]
pub(crate) struct Project {
    /// The project file [default: `lunatic.toml` or `embly-project.yml` here, or in the nearest directory above]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
}

/// List the functions of a service, with their versions and states
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lunatic functions
  lunatic functions my-http-server       its versions too
  lunatic functions --json | jq .functions[].name")]
pub(crate) struct Functions {
    /// One function, with its versions
    pub(crate) name: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) deployer: Deployer,
}

/// Print what a function wrote, and why it failed
///
/// A line says when, which version, which process, which request, and whether it was written to standard output or error or
/// tells of a failure.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The function
    pub(crate) name: String,

    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Begin with so many of the newest lines
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "100")]
    pub(crate) lines: usize,

    /// Print a JSON object for each line
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) deployer: Deployer,
}

/// Send a request to a function of a service, and print the answer
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lunatic invoke my-http-server secret
  lunatic invoke my-http-server echo --data hello
  lunatic invoke my-http-server echo --data @picture.png --header 'content-type: image/png' > echoed.png")]
pub(crate) struct Invoke {
    /// The function
    pub(crate) name: String,

    /// The path, as the function sees it [default: /]
    pub(crate) path: Option<String>,

    /// Send this, the content of a file as @FILE, or of standard input as @-
    #[arg(long, short, value_name = "DATA|@FILE")]
    pub(crate) data: Option<String>,

    /// The method [default: GET, with data POST]
    #[arg(long, short = 'X', value_name = "METHOD")]
    pub(crate) request: Option<String>,

    /// Send a header field
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,

    /// Where the service invokes [default: 127.0.0.1:8000, or what the variable LUNATIC_INVOKE says]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) invoke: Option<SocketAddr>,
}

/// What `lunatic serve` does beside serving a project.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct ServiceFlags {
    /// Let functions be deployed over HTTP, at this address [default: 127.0.0.1:8002], and be invoked by name
    ///
    /// `curl --data-binary @app.wasm 127.0.0.1:8002/deploy/NAME` deploys, `curl 127.0.0.1:8000/NAME/path` invokes.
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1)]
    pub(crate) deploy: Option<Option<SocketAddr>>,

    /// Where deployed functions are invoked [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS:PORT", requires = "deploy")]
    pub(crate) invoke: Option<SocketAddr>,

    /// Where deployed functions are kept [default: ./module-store]
    #[arg(long, value_name = "DIRECTORY", requires = "deploy", value_hint = ValueHint::DirPath)]
    pub(crate) storage: Option<PathBuf>,

    /// A file of tokens, one on each line, of which whoever deploys has to know one
    ///
    /// Without it the token is what the variable LUNATIC_TOKEN says, and without that everybody who reaches the address may
    /// deploy: then it is one of this computer alone.
    #[arg(long, value_name = "FILE", requires = "deploy", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
}

/// Where a service deploys, and what it wants to know.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct Deployer {
    /// Where the service deploys [default: 127.0.0.1:8002, or what the variable LUNATIC_DEPLOY says]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) deploy: Option<SocketAddr>,

    /// The file that the token is in [default: what the variable LUNATIC_TOKEN says]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
}

/// Set a cargo project up so that `cargo run` runs it with `lunatic`
///
/// Writes the target and the runner to `.cargo/config.toml`, and leaves everything else in it as it is.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The project
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,

    /// Replace another target or runner
    #[arg(long)]
    pub(crate) force: bool,
}

/// Make a cargo project with a program that spawns a process
#[derive(Debug, Args)]
pub(crate) struct New {
    /// Where to make it; its last part is the package's name
    #[arg(value_name = "NAME", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,

    /// The directory of the guest library `lunatic`, called `lib-guest` in its repository
    ///
    /// Where it is not given, the one that this command was built beside is taken.
    #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub(crate) guest_path: Option<PathBuf>,
}

/// Print what a shell needs to complete command lines
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
  lunatic app.wasm --its-own-flag        run a program with an argument
  lunatic --no-net --timeout 10s app.wasm
  lunatic --no-dir --dir data::/data app.wasm
  lunatic --deny all --allow wasi_snapshot_preview1::fd_write app.wasm
  lunatic init                           let `cargo run` do it";

const RIGHTS: &str = "\
Rights:
  A program that is run without flags may do what a program of its user's may: read and write below the
  current directory (as `.`), read all environment variables, use sockets, standard input and output. A
  process that calls what is not granted traps and says so; one that only could call it is not harmed.";

const VARIABLES: &str = "\
Variables:
  RUST_LOG=lunatic=debug   shows the end of every process, as -v does
  LUNATIC_CACHE            where compiled code is kept [default: $XDG_CACHE_HOME/lunatic or ~/.cache/lunatic]";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &[&str]) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from([&["lunatic"], line].concat())
    }

    #[test]
    fn the_definitions_are_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_program_needs_no_command() {
        let check = |line: &[&str], command: bool, program: &[&str]| {
            let parsed = parse(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            let run = match parsed.command {
                Some(Command::Run(run)) if command => run,
                None if !command => parsed.run,
                other => panic!("{line:?} is taken for {other:?}"),
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
    fn a_program_or_a_command_is_needed() {
        assert!(parse(&["--no-net"]).is_err());
        assert!(parse(&["run"]).is_err());
        assert!(parse(&["--no-such-flag", "app.wasm"]).is_err());
    }
}
